"""Kill what is left of a benchmark whose process was killed: stopped servers (SIGSTOP) notice nothing by themselves.

`watch` has a process of its own remember a server. When the benchmark ends, however it ends, their pipe closes, and
that process kills every server that still runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["end_by_signals", "watch"]


def _began(process: int) -> str:
    """Return the process's start time, which tells it from a later one with the same number; "" if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


@cache
def _watchdog() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.load.watchdog"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)


def watch(processes: Iterable[int]) -> None:
    """Have these processes killed once this one has ended."""
    pipe = _watchdog().stdin
    assert pipe is not None
    for process in processes:
        print(process, _began(process), file=pipe, flush=True)


def end_by_signals() -> None:
    """Let SIGTERM and SIGHUP end this process as an exception does, so that clusters are closed; a second one kills."""

    def end(number: int, _frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        raise SystemExit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, end)


def main() -> None:
    """Read processes from standard input until it ends; then kill those that still run."""
    known = [line.split() for line in sys.stdin]
    for process, began in (each for each in known if len(each) == 2):
        if _began(int(process)) == began:
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)


if __name__ == "__main__":
    main()
