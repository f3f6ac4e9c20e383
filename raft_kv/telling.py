"""Lines for people, on standard output and standard error.

What lives here: two functions; every line of a running server goes through one of them. Whoever collected the lines
may be gone, and a node must not end because nobody listens.
"""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["announce", "tell"]


def tell(line: str) -> None:
    """The line is on standard error, if that can still be written to."""
    with suppress(OSError, ValueError):  # a pipe without a reader, a full disk; a stream that was closed
        print(line, file=sys.stderr, flush=True)


def announce(line: str) -> None:
    """The line is on standard output, if that can still be written to."""
    with suppress(OSError, ValueError):
        print(line, flush=True)
