"""`TlsSocket`: a connected socket with TLS, in the manner of a non-blocking socket of the standard library.

For servers that watch many sockets themselves. A call that cannot be completed raises `BlockingIOError`, as without
TLS; a failure of TLS raises `TlsFailed` once the other side has been told why.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, final

from raft_tls.failures import Failure
from raft_tls.session import TlsSession

__all__ = ["LEAST_BUFFER", "TlsFailed", "TlsSocket"]

_PIECE: Final = 64 * 1024
"""Bytes encrypted at once."""
_HELD: Final = 32 * 1024
"""More than a session holds back between two reads: one record that is not complete."""
LEAST_BUFFER: Final = 2 * _HELD
"""Size of the smallest buffer for `recv_into`."""


class TlsFailed(OSError):
    """The connection's TLS failed; `failure` holds the reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure: Final = failure


@final
class TlsSocket:
    """An accepted connection. It takes over `plain`, which is non-blocking."""

    __slots__ = ("_out", "_session", "_socket", "_taken")

    def __init__(self, plain: socket.socket, session: TlsSession) -> None:
        self._socket: Final = plain
        self._session: Final = session
        self._out = memoryview(b"")  # encrypted, not sent
        self._taken = 0  # plain bytes in it, from the `send` that is to be repeated

    @property
    def settled(self) -> bool:
        """True once the handshake is done, or the other side goes on without TLS."""
        return self._session.settled

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def recv_into(self, buffer: memoryview) -> int:
        """Read plain bytes into the buffer; return their number, 0 at the end of input."""
        taken = self._socket.recv_into(
            buffer, len(buffer) - _HELD
        )  # `recv` would make room for so many bytes each time
        if not taken:
            if (failure := self._session.lost()) is not None:
                raise TlsFailed(failure)
            return 0
        step = self._session.receive(bytes(buffer[:taken]))
        if step.send:
            self._say(step.send)
        if step.failure is not None:
            raise TlsFailed(step.failure)
        size = len(step.plain)
        buffer[:size] = step.plain
        if not size and not step.ended:
            raise BlockingIOError
        return size

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send the beginning of `data`; return its length.

        After a `BlockingIOError`, the next call must have the same data.
        """
        if not self._out and not self._taken:
            piece = data[:_PIECE]
            self._out = memoryview(self._session.encrypt(bytes(piece)))
            self._taken = len(piece)
        self._flush()
        taken, self._taken = self._taken, 0
        return taken

    def shutdown(self, how: int) -> None:
        """Send the end of TLS, and the end of output."""
        with suppress(OSError):
            self._say(self._session.close())
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _say(self, data: bytes) -> None:
        """Send bytes of TLS itself. They are few, so they wait only behind output that waits already."""
        self._out = memoryview(bytes(self._out) + data)
        with suppress(BlockingIOError):
            self._flush()

    def _flush(self) -> None:
        while self._out:
            self._out = self._out[self._socket.send(self._out) :]
