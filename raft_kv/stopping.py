"""What ends a server: signals, and the end of standard input where a parent holds the other end of that pipe."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Final

__all__ = ["GO_ON", "stop_signals", "stop_when_input_ends"]

GO_ON: Final = b"go on\n"
"""What a parent writes before it closes the pipe, if the server is to outlive it."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a server in good order.

    SIGHUP, which tells of a terminal that is closed, is one of them unless it was ignored from the start (`nohup`)."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not on every operating system
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, hangup


def stop_when_input_ends() -> None:
    """Watch standard input from a thread: its end, without `GO_ON` before it, is as good as SIGTERM."""
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="parent", daemon=True).start()


def _watch(descriptor: int) -> None:
    said = b""
    while data := _read(descriptor):
        said = (said + data)[-len(GO_ON) :]
        if said == GO_ON:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # a terminal that is gone
        return b""
