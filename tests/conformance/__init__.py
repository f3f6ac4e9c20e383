"""Judging this library by conformance data that lies elsewhere: `python -m tests.conformance DIR`."""
