"""The simulator: whole clusters in one process and in virtual time."""
