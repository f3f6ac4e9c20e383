"""The model checker: every order of events within small bounds."""
