"""`OutputBuffer`: one connection of a client as the server sees it, a session and the bytes to be written.

Plain code without I/O, awaiting or a clock. It decides how much may wait before nothing more is taken from the client,
the pieces in which it is written, and when a client is disconnected.

A client that reads is never disconnected, however long its replies are: while more than `MAX_UNSENT_BYTES` wait, no
further command is begun and nothing more is read. A client that reads nothing for `WRITE_STALL_TIMEOUT` is
disconnected.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from raft_kv.client_session import Session
from raft_kv.client_session_values import Close, Send, SessionEffect

__all__ = ["CHECK_INTERVAL", "MAX_UNSENT_BYTES", "PIECE_BYTES", "WRITE_STALL_TIMEOUT", "OutputBuffer"]

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""While more than this waits for a client, its next commands wait too."""
PIECE_BYTES: Final = 64 * 1024
"""Bytes written at once. A client that reads a piece within `WRITE_STALL_TIMEOUT` is slow; otherwise it has stalled."""
WRITE_STALL_TIMEOUT: Final = 60
"""Seconds."""
CHECK_INTERVAL: Final = 5
"""Seconds between two calls of `stalled`."""


@final
class OutputBuffer:
    """The session of a client and its unsent output. The connection takes orders from it, a transport takes pieces."""

    __slots__ = ("_checks", "_chunks", "_offset", "_written", "closed", "open", "problem", "session", "unsent")

    def __init__(self, session: Session) -> None:
        self.session: Final = session
        self._chunks: Final[deque[bytes | memoryview]] = deque()
        self._offset = 0  # bytes of the first chunk written or being written
        self.unsent = 0  # bytes, including the piece being written
        self.problem = ""  # why the session has closed, if the client sent no request
        self.open = False  # a command is being carried out
        self.closed = False  # the session has closed: nothing more is read from the client
        self._written = False
        self._checks = 0

    # For the connection.

    def take(self, effects: list[SessionEffect]) -> SessionEffect | None:
        """Queue what the session sends; return the effect that the server has to carry out, if any."""
        order: SessionEffect | None = None
        for effect in effects:
            if type(effect) is Send:
                self.put(memoryview(effect.data)[effect.skip :] if effect.skip else effect.data)
            elif type(effect) is Close:
                self.closed = True
                self.problem = effect.problem
            else:
                order = effect
        self.open = order is not None
        return order

    def put(self, data: bytes | memoryview) -> None:
        """Queue these bytes."""
        if len(data):
            self._chunks.append(data)
            self.unsent += len(data)

    @property
    def over_limit(self) -> bool:
        """Return whether so much waits to be written that the client's next command has to wait as well."""
        return self.unsent > MAX_UNSENT_BYTES

    # For the transport.

    def next_piece(self) -> bytes:
        """Return the next bytes to write; empty if nothing waits."""
        chunks = self._chunks
        if not chunks:
            return b""
        if len(chunks[0]) > PIECE_BYTES:
            piece = bytes(chunks[0][self._offset : self._offset + PIECE_BYTES])
            self._offset += len(piece)
            if self._offset == len(chunks[0]):
                chunks.popleft()
                self._offset = 0
            return piece
        if len(chunks) == 1:
            return bytes(chunks.popleft())
        small = [chunks.popleft()]
        size = len(small[0])
        while chunks and (size := size + len(chunks[0])) <= PIECE_BYTES:
            small.append(chunks.popleft())
        return b"".join(small)

    def wrote(self, piece: bytes) -> None:
        """Note that the system has taken this piece."""
        self.unsent -= len(piece)
        self._written = True

    # For the server.

    @property
    def busy(self) -> bool:
        """Return whether a command is being carried out, or a reply is not written yet."""
        return self.open or self.unsent > 0

    def stalled(self) -> bool:
        """Return whether the client has to be disconnected. Call it every `CHECK_INTERVAL`."""
        self._checks = 0 if self._written or not self.unsent else self._checks + 1
        self._written = False
        return self._checks * CHECK_INTERVAL >= WRITE_STALL_TIMEOUT
