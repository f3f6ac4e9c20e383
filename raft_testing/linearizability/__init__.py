"""Histories of client operations and the linearizability checker."""
