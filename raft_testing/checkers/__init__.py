"""Checkers of the properties that hold after every step of a simulated cluster."""
