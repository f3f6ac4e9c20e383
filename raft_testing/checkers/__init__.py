"""Checkers: what must hold after every step of a simulated cluster."""
