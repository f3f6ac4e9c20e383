"""Remove a temporary directory once every process that holds the other end of standard input is gone.

This file is run as a program of its own: `python guard.py DIRECTORY`. The demo and all its servers hold the pipe, so
its end tells that none of them lives, however they died. `keep` as the first line ends the guard and leaves the
directory. It imports nothing of this package, so that it is there at once.
"""

from __future__ import annotations

import shutil
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Wait, then remove."""
    for name in ("SIGHUP", "SIGINT", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.stdin.readline() != "keep\n":
        sys.stdin.read()
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
