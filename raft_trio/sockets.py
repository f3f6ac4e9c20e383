"""`PlainSocket`: a connected TCP socket whose bytes are sent at once, and read as soon as they come.

A connection needs `send`, `drain`, `receive`, `close` and `descriptor` of its socket (`PeerSocket`). A stream of trio's
switches tasks at every call, even if the operating system takes the bytes.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

import trio

__all__ = ["PeerSocket", "PlainSocket"]

_READ_BYTES: Final = 256 * 1024
"""Largest result of `receive`, in bytes; bounds one peer's input to the inbox between two turns of the loop."""


class PeerSocket(Protocol):
    """What a connection needs of its socket. `drain` raises `trio.ClosedResourceError` if it is closed."""

    @property
    def descriptor(self) -> int:
        """The number of the socket's file descriptor."""
        ...

    def send(self, data: bytes) -> bool:
        """Send without waiting. Return whether the operating system has taken everything; if not, `drain` next.

        Raise `OSError` if the connection is broken.
        """
        ...

    async def drain(self) -> None:
        """Wait until the operating system has taken everything. Raise `OSError` if the connection is broken."""
        ...

    def receive(self) -> bytes:
        """Return what has come; b"" at the end.

        Raise `BlockingIOError` if nothing has, another `OSError` if the connection is broken.
        """
        ...

    def close(self) -> None:
        """Close the socket at once. Harmless if repeated."""
        ...


class PlainSocket:
    """TCP without encryption. It takes over the socket of `stream`, which is of no more use."""

    __slots__ = ("_open", "_rest", "_socket", "descriptor")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket: Final = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._open = True
        self._rest = memoryview(b"")
        self.descriptor: Final = self._socket.fileno()

    def send(self, data: bytes) -> bool:
        """Send without waiting. Return whether the operating system has taken everything."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._rest = memoryview(data)[sent:]
        return False

    async def drain(self) -> None:
        """Wait until the operating system has taken everything."""
        while self._rest:
            self._check_open()
            await trio.lowlevel.wait_writable(self._socket)
            try:
                self._rest = self._rest[self._socket.send(self._rest) :]
            except BlockingIOError:  # reported writable without need
                continue

    def receive(self) -> bytes:
        """Return what has come; b"" at the end."""
        return self._socket.recv(_READ_BYTES)

    def _check_open(self) -> None:
        """Raise `trio.ClosedResourceError` if what the task itself has just reported led to closing the socket."""
        if not self._open:
            raise trio.ClosedResourceError

    def close(self) -> None:
        """Close the socket at once."""
        if self._open:
            self._open = False
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
