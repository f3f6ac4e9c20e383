"""Fuzzers of everything that reads bytes from a network, a client or a disk: `python -m tests.fuzz --seconds 60`."""
