"""`SessionNumbers`: which sequence numbers of a session are in use. Pure; `running` does the waiting."""

from __future__ import annotations

from typing import Final, final

from raft_core.sessions import Sequence, SessionId, encode_command

__all__ = ["SessionNumbers"]


@final
class SessionNumbers:
    """The numbers of one open session: each command takes the next, and keeps it through all its repetitions."""

    __slots__ = ("_last", "_pending", "session")

    def __init__(self, session: SessionId) -> None:
        self.session: Final = session
        self._last = 0
        self._pending: dict[int, None] = {}  # in ascending order

    @property
    def span(self) -> int:
        """How many numbers there are from the lowest in use to the last one."""
        return self._last + 1 - next(iter(self._pending), self._last + 1)

    def begin(self) -> Sequence:
        """Return the number of a new command."""
        self._last += 1
        self._pending[self._last] = None
        return Sequence(self._last)

    def done(self, sequence: Sequence) -> None:
        """Note that nothing waits for this command any more: its result may be forgotten."""
        self._pending.pop(sequence, None)

    def encode(self, sequence: Sequence, body: bytes) -> bytes:
        """Return the bytes to send now."""
        lowest = next(iter(self._pending), sequence)
        return encode_command(self.session, sequence, Sequence(lowest), body)
