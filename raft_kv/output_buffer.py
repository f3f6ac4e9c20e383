"""`OutputBuffer`: one connection of a client as the server sees it, a session and the bytes to be written.

Plain code without I/O, awaiting or a clock; the server brings its loop's kind of event. It decides how much may wait
before nothing more is taken from the client, the pieces in which it is written, and when a client is disconnected.

A client that reads is never disconnected, however long its replies are: while more than `MAX_UNSENT_BYTES` wait, no
further command is begun and nothing more is read. A client that reads nothing for `WRITE_STALL_TIMEOUT` is
disconnected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final

from raft_kv.client_session import Session
from raft_kv.client_session_values import Close, Send, SessionEffect

__all__ = ["CHECK_INTERVAL", "MAX_UNSENT_BYTES", "PIECE_BYTES", "WRITE_STALL_TIMEOUT", "OutputBuffer", "Signal"]

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""While more than this waits for a client, its next commands wait too."""
PIECE_BYTES: Final = 64 * 1024
"""Bytes written at once. A client that reads a piece within `WRITE_STALL_TIMEOUT` is slow; otherwise it has stalled."""
WRITE_STALL_TIMEOUT: Final = 60
"""Seconds."""
CHECK_INTERVAL: Final = 5
"""Seconds between two calls of `stalled`."""


class Signal(Protocol):
    """An event of the server's loop."""

    def set(self) -> object:
        """Wake all waiting tasks."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


@final
class OutputBuffer:
    """The session of a client and its unsent output. A reader takes orders from it, a writer takes pieces."""

    __slots__ = (
        "_checks", "_chunks", "_closed", "_drained", "_ended", "_filled", "_make", "_offset", "_open", "_unsent",
        "_written", "session",
    )  # fmt: skip

    def __init__(self, session: Session, make: Callable[[], Signal]) -> None:
        self.session: Final = session
        self._make: Final = make
        self._chunks: Final[deque[bytes | memoryview]] = deque()
        self._offset = 0  # bytes of the first chunk written or being written
        self._unsent = 0  # including the piece being written
        self._open = False
        self._closed = False
        self._ended = False
        self._written = False
        self._checks = 0
        self._filled = make()
        self._drained = make()

    # For the reader.

    def take(self, effects: list[SessionEffect]) -> SessionEffect | None:
        """Queue what the session sends; return the effect that the server has to carry out, if any."""
        order: SessionEffect | None = None
        for effect in effects:
            if type(effect) is Send:
                self._put(memoryview(effect.data)[effect.skip :] if effect.skip else effect.data)
            elif type(effect) is Close:
                self._closed = True
            else:
                order = effect
        self._open = order is not None
        return order

    def _put(self, data: bytes | memoryview) -> None:
        if len(data):
            self._chunks.append(data)
            self._unsent += len(data)
            self._filled.set()

    @property
    def closed(self) -> bool:
        """Return whether the session has closed: nothing more is read from the client."""
        return self._closed

    @property
    def over_limit(self) -> bool:
        """Return whether so much waits to be written that the client's next command has to wait as well."""
        return self._unsent > MAX_UNSENT_BYTES

    def drained(self) -> Signal:
        """Return a signal that is set once it is no longer over the limit."""
        self._drained = self._make()
        return self._drained

    def end(self) -> None:
        """Note that the reader has stopped. The connection ends once everything is written."""
        self._ended = True
        self._filled.set()

    # For the writer.

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
        self._unsent -= len(piece)
        self._written = True
        if not self.over_limit:
            self._drained.set()

    @property
    def ended(self) -> bool:
        """Return whether the reader has stopped; then the writer stops once no piece is left."""
        return self._ended

    def filled(self) -> Signal:
        """Return a signal that is set once there may be another piece, or the end."""
        self._filled = self._make()
        return self._filled

    # For the server.

    @property
    def busy(self) -> bool:
        """Return whether a command is being carried out, or a reply is not written yet."""
        return self._open or self._unsent > 0

    def stalled(self) -> bool:
        """Return whether the client has to be disconnected. Call it every `CHECK_INTERVAL`."""
        self._checks = 0 if self._written or not self._unsent else self._checks + 1
        self._written = False
        return self._checks * CHECK_INTERVAL >= WRITE_STALL_TIMEOUT
