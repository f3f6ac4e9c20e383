"""The clean stop of a server: by signals, or by the end of standard input if a parent process holds that pipe.

The server transfers the leadership first, while its clients are served. Then it accepts no new client and reads no
further command, answers the commands it has read, closes each connection cleanly, and stops its node.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Final

from raft_core.effects import RoleName
from raft_core.errors import OutcomeUnknown, Refused
from raft_core.node.api import NodeApi

__all__ = ["GO_ON", "stop_signals", "stop_when_input_ends", "transfer_leadership"]

GO_ON: Final = b"go on\n"
"""Written by a parent before it closes the pipe, if the server is to outlive it."""

_HAND_OVER_SECONDS: Final = 2.0


async def transfer_leadership(node: NodeApi) -> None:
    """Transfer leadership if `node` is the leader and another voter takes over. A stopping node tries again."""
    if node.status.role is RoleName.LEADER:
        with suppress(Refused, OutcomeUnknown):
            await node.transfer(timeout=_HAND_OVER_SECONDS)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals for a clean stop.

    SIGHUP, sent when a terminal is closed, is one of them unless it was ignored from the start (`nohup`).
    """
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
    except OSError:  # the terminal is gone
        return b""
