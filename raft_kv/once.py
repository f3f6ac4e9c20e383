"""Commands applied once however often a client sends them (thesis 6.3): sessions and their remembered replies.

A client opens a session with `RAFT SESSION`; its number is the index of the entry that opened it. Each command then
carries the session and a sequence number of the client's choice, rising and never given to two commands. The replies to
the last `WINDOW` numbers of a session are kept, so several commands may be under way at once, in any order.

`raft_core.sessions` does the same for any machine. It is not used here for two reasons: it puts its own bytes before
every command and its own table before every snapshot, which would make old logs and snapshots unreadable; and its
clients must say which answers they have received, which a client library that repeats a command cannot know.

All of this is replicated state. The limits are constants, because every replica must forget the same at the same entry.
An ended session stays ended: its applied commands are forgotten, so its commands are refused.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, final

import attrs
import msgspec

from raft_kv.keyspace import Millis
from raft_kv.resp import encode_failure

__all__ = ["KEPT_BYTES", "LIFETIME", "MAX_SESSIONS", "WINDOW", "AppliedOnce", "ClientSession"]

MAX_SESSIONS: Final = 10_000
"""Open sessions; one more ends the least recently used."""
LIFETIME: Final[Millis] = 3_600_000
"""A session ends if it is unused for this time by the log's clock."""
WINDOW: Final = 128
"""Numbers this far below the highest one of their session are refused."""
KEPT_BYTES: Final = 8192
"""Bytes of replies kept per session. A repeated command without a kept reply is answered by `APPLIED`."""

_PORTION: Final = 32
"""Ended sessions removed by one entry; freeing them takes time."""

_ENDED: Final = encode_failure(
    "NOSESSION this session has ended or never was: the command was not applied now, and whether it was applied "
    "earlier is not known; open another session with RAFT SESSION"
)
_STALE: Final = encode_failure(
    f"STALE the command was not applied now: its number is {WINDOW} or more below the highest one of its session; "
    "numbers must rise"
)
_NOT_KEPT: Final = encode_failure("APPLIED the command was applied when it was sent first; its reply is not kept")


@final
class ClientSession(msgspec.Struct, frozen=True, array_like=True):
    """One open session. Never changed in place, because a snapshot may be reading it.

    `applied` has the applied numbers, all above `highest` - `WINDOW`, in the order of applying, each with its reply, or
    None if it is not kept.
    """

    last_used: Millis
    highest: int
    applied: tuple[tuple[int, bytes | None], ...] = ()
    owner: bytes = b""
    """The user who opened it; empty: no user, so anyone may use it. Trailing, and absent from earlier snapshots."""


@final
@attrs.define(eq=False)
class AppliedOnce:
    """All open sessions."""

    sessions: dict[int, ClientSession] = attrs.field(factory=dict)
    """The least recently used first."""

    def advance(self, time: Millis) -> None:
        """Remove some of the sessions unused for `LIFETIME`, which have ended already."""
        sessions = self.sessions
        for _ in range(_PORTION):
            number = next(iter(sessions), 0)
            if not number or sessions[number].last_used > time - LIFETIME:
                return
            del sessions[number]

    def open(self, number: int, time: Millis, owner: bytes = b"") -> None:
        """Open session `number` for the user `owner`."""
        sessions = self.sessions
        while len(sessions) >= MAX_SESSIONS:
            del sessions[next(iter(sessions))]
        sessions[number] = ClientSession(time, 0, (), owner)

    def end_all_of(self, owners: Container[bytes]) -> None:
        """End the sessions of these users: a later user of the same name is another one."""
        for number in [number for number, session in self.sessions.items() if session.owner in owners]:
            del self.sessions[number]

    def recall(self, number: int, sequence: int, time: Millis, user: bytes = b"") -> bytes | None:
        """Return the reply to a command that must not be applied; None if it has to be applied, and its reply kept.

        The session counts as used. To any `user` but its owner it does not exist: its replies may be secret, and a
        number spent by someone else would keep the owner's write from being applied.
        """
        session = self.sessions.get(number)
        if session is not None and session.owner not in (b"", user):
            return _ENDED
        self.sessions.pop(number, None)
        if session is None or session.last_used <= time - LIFETIME:
            return _ENDED
        self.sessions[number] = msgspec.structs.replace(session, last_used=time)
        if sequence <= session.highest - WINDOW:
            return _STALE
        for known, reply in session.applied:
            if known == sequence:
                return _NOT_KEPT if reply is None else reply
        return None

    def keep(self, number: int, sequence: int, reply: bytes) -> None:
        """Remember the reply to a command for which `recall` returned None."""
        session = self.sessions[number]
        highest = max(session.highest, sequence)
        applied: list[tuple[int, bytes | None]] = [(sequence, reply if len(reply) <= KEPT_BYTES else None)]
        room = KEPT_BYTES - len(applied[0][1] or b"")
        for known, earlier in reversed(session.applied):  # the newest replies are kept
            if known <= highest - WINDOW:
                continue
            room -= len(earlier or b"")
            applied.append((known, earlier if room >= 0 else None))
        applied.reverse()
        self.sessions[number] = msgspec.structs.replace(session, highest=highest, applied=tuple(applied))
