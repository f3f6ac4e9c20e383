"""`Supervisor`: tells the service manager that started this process how it stands (systemd's notify protocol).

A message is a datagram of lines `NAME=value` to the socket in `NOTIFY_SOCKET`. Without that variable nothing is sent.
The manager restarts a process that does not say `WATCHDOG=1` in time, so this is said by the event loop itself: a loop
that hangs is noticed, and a node without a quorum, whose loop turns, is left alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, final

__all__ = ["Supervisor"]

_MICROSECONDS: Final = 1_000_000


@final
class Supervisor:
    """The service manager above this process, or none. No method raises or waits."""

    def __init__(self, environ: Mapping[str, str] = os.environ, process: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address: Final = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "\0") and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_seconds: Final = self._interval(environ, os.getpid() if process is None else process)
        """Time between two calls of `alive`: half of the manager's patience; 0 if it does not watch."""

    def _interval(self, environ: Mapping[str, str], process: int) -> float:
        patience, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if self._socket is None or not patience.isdecimal() or watched not in ("", str(process)):
            return 0.0
        return int(patience) / _MICROSECONDS / 2

    def ready(self, text: str) -> None:
        """Say that the server accepts clients, with a line for `systemctl status`."""
        self._send(f"READY=1\nSTATUS={text}")

    def status(self, text: str) -> None:
        """Replace the line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Say that the event loop turns."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that a clean stop has begun."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the manager is gone, or its queue is full
                self._socket.sendto(message.encode("utf-8", "replace"), self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
