"""One connection as both servers see it: a session, and what waits to be written to its client.

What lives here: plain code without I/O, without awaiting and without a clock; a server brings its loop's kind of
event. What is decided here: how much may wait before nothing more is taken from the client, in what pieces it is
written, when a client has stopped reading for good, and when a connection has nothing left to do.

A client that reads is never cut off, however long its replies are: while more than `MAX_UNSENT_BYTES` wait, no
further command is begun and nothing more is read. One that takes nothing for `PATIENCE_SECONDS` is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, final

from raft_kv.client_session import Session
from raft_kv.client_session_values import Close, Send, SessionEffect

__all__ = ["LOOK_SECONDS", "MAX_UNSENT_BYTES", "PATIENCE_SECONDS", "PIECE_BYTES", "Conversation", "Signal"]

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""While more than this waits for a client, its next commands wait too."""
PIECE_BYTES: Final = 64 * 1024
"""What is written at once. A client that takes so much in `PATIENCE_SECONDS` is slow; one that takes less is gone."""
PATIENCE_SECONDS: Final = 60
LOOK_SECONDS: Final = 5
"""How often a server calls `stalled`."""


class Signal(Protocol):
    """An event of the loop that carries the server."""

    def set(self) -> None:
        """Whoever waits goes on."""

    async def wait(self) -> object:
        """Return once it was set."""


SignalT = TypeVar("SignalT", bound=Signal)


@final
class Conversation(Generic[SignalT]):
    """A reader takes orders from it, a writer pieces."""

    __slots__ = (
        "_chunks", "_closed", "_ended", "_looks", "_make", "_more", "_offset", "_open", "_room", "_unsent", "_written",
        "session",
    )  # fmt: skip

    def __init__(self, session: Session, make: Callable[[], SignalT]) -> None:
        self.session: Final = session
        self._make: Final = make
        self._chunks: Final[deque[bytes | memoryview]] = deque()
        self._offset = 0  # how much of the first chunk is written or being written
        self._unsent = 0  # with the piece that is being written
        self._open = False
        self._closed = False
        self._ended = False
        self._written = False
        self._looks = 0
        self._more = make()
        self._room = make()

    # For the reader.

    def take(self, effects: list[SessionEffect]) -> SessionEffect | None:
        """Queue the session's output. Return the order for the server to carry out, if there is one."""
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
            self._more.set()

    @property
    def closed(self) -> bool:
        """Nothing more is read from this client."""
        return self._closed

    @property
    def crowded(self) -> bool:
        """So much waits to be written that the client's next command has to wait as well."""
        return self._unsent > MAX_UNSENT_BYTES

    def room(self) -> SignalT:
        """Set once it is no longer crowded."""
        self._room = self._make()
        return self._room

    def end(self) -> None:
        """Note that the reader has stopped: the connection ends once everything is written."""
        self._ended = True
        self._more.set()

    # For the writer.

    def next_piece(self) -> bytes:
        """Return the next piece to write; empty if there is none."""
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
        """Note that the client's end, or the system on its behalf, has taken this piece."""
        self._unsent -= len(piece)
        self._written = True
        if not self.crowded:
            self._room.set()

    @property
    def ended(self) -> bool:
        """The reader has stopped; where no piece is left, the writer stops too."""
        return self._ended

    def more(self) -> SignalT:
        """Set once there may be another piece, or the end."""
        self._more = self._make()
        return self._more

    # For whoever looks after all of them.

    @property
    def busy(self) -> bool:
        """A command is being carried out, or a reply is not written yet."""
        return self._open or self._unsent > 0

    def stalled(self) -> bool:
        """Return whether the client has taken nothing for so long that it is cut off. Each call counts as one look."""
        self._looks = 0 if self._written or not self._unsent else self._looks + 1
        self._written = False
        return self._looks * LOOK_SECONDS >= PATIENCE_SECONDS
