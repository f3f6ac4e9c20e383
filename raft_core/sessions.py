"""Sessions: a command sent several times is applied once and returns the same result each time (thesis 6.3).

`Sessions` wraps any `StateMachine`; the other functions encode and decode for clients.

A client registers a session; its id is the index of the registering entry. Each command then carries the session, a
sequence number rising by one per command, and the lowest sequence number still unanswered. Results are kept from this
number on and returned for a repeated command; those below it are dropped. So many commands may be in flight at once,
in any order.

All decisions depend on the log only. Time is stamped into entries by leaders and never runs back; limits are stamped
by the leader into the last registration, so replicas with different settings agree. A session ends when it is unused
for its lifetime, or when too many are open, the least recently used first. An ended session never returns: its
commands are refused, because their earlier outcome is no longer known.

    plain      0 | stamp u64 | command
    register   1 | stamp u64 | max_sessions u64 | max_results u64 | lifetime u64
    command    2 | stamp u64 | session u64 | sequence u64 | lowest unanswered u64 | command

Numbers are little-endian; clients write 0 where the leader stamps.
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator
from itertools import takewhile
from struct import Struct
from typing import Final, NewType, TypeAlias, final

import attrs

from raft_core.errors import CallerError, SettingsError
from raft_core.ids import MAX_INT63, Index
from raft_core.session_table import Session, SnapshotMalformed, TablePieces, table_chunks
from raft_core.state_machine import ApplyUnanswered, StateMachine, preparer, unanswered
from raft_core.structs import Value

__all__ = [
    "Expired",
    "Full",
    "Malformed",
    "Registered",
    "Reply",
    "Result",
    "Sequence",
    "SessionId",
    "SessionLimits",
    "Sessions",
    "SnapshotMalformed",
    "Stale",
    "decode_reply",
    "encode_command",
    "encode_plain",
    "encode_register",
]

SessionId = NewType("SessionId", int)
"""The index of the entry which registered the session."""
Sequence = NewType("Sequence", int)
"""The number of a command within its session, from 1."""

_PLAIN: Final = 0
_REGISTER: Final = 1
_COMMAND: Final = 2
_HEAD: Final = Struct("<BQ")
_LIMITS: Final = Struct("<QQQ")
_NAMES: Final = Struct("<QQQ")
_PORTION: Final = 64
"""Ended sessions to remove with each entry."""


# Replies to clients.


@final
class Registered(Value, frozen=True):
    """The session is open."""

    session: SessionId


@final
class Result(Value, frozen=True):
    """The machine's result of the command, applied now or earlier."""

    data: bytes


@final
class Expired(Value, frozen=True):
    """The session has ended or never existed; not applied now, the outcome of earlier attempts is unknown."""


@final
class Stale(Value, frozen=True):
    """The client has confirmed the answer to this command; its result is dropped, and it is not applied again."""


@final
class Full(Value, frozen=True):
    """Too many results of this session are unconfirmed by the client.

    Not applied; send it again with a higher lowest unanswered sequence.
    """


@final
class Malformed(Value, frozen=True):
    """The command was not encoded by this module; nothing was applied."""


Reply: TypeAlias = Result | Registered | Expired | Stale | Full | Malformed

_RESULT: Final = b"\x00"
_REGISTERED: Final = b"\x01"
_EXPIRED: Final = b"\x02"
_STALE: Final = b"\x03"
_FULL: Final = b"\x04"
_MALFORMED: Final = b"\x05"
_BARE: Final[dict[bytes, Reply]] = {
    _EXPIRED: Expired(),
    _STALE: Stale(),
    _FULL: Full(),
    _MALFORMED: Malformed(),
}


def encode_register() -> bytes:
    """Return a command to open a session; its reply is `Registered`."""
    return _HEAD.pack(_REGISTER, 0) + _LIMITS.pack(0, 0, 0)


def encode_command(session: SessionId, sequence: Sequence, lowest_unanswered: Sequence, command: bytes) -> bytes:
    """Return `command` in a session. `lowest_unanswered`: all answers below it have arrived; at most `sequence`.

    Raise `CallerError` for invalid numbers.
    """
    if not 0 < session <= MAX_INT63:
        raise CallerError(f"a session is the number that Registered named, not {session}")
    if not 0 < lowest_unanswered <= sequence <= MAX_INT63:
        raise CallerError(f"sequence {sequence} must be positive and not below the lowest one ({lowest_unanswered})")
    return _HEAD.pack(_COMMAND, 0) + _NAMES.pack(session, sequence, lowest_unanswered) + command


def encode_plain(command: bytes) -> bytes:
    """Return `command` without a session: it is applied as often as it enters the log."""
    return _HEAD.pack(_PLAIN, 0) + command


def decode_reply(data: bytes) -> Reply:
    """Return the reply in `data`. Raise `ValueError` for bytes not written by `Sessions`."""
    kind = data[:1]
    if kind == _RESULT:
        return Result(data[1:])
    if kind == _REGISTERED and len(data) == 9:
        return Registered(SessionId(int.from_bytes(data[1:], "little")))
    if (bare := _BARE.get(data)) is not None:
        return bare
    raise ValueError("not a reply of a machine under sessions; is the machine wrapped in Sessions?")


# The machine.


@final
@attrs.frozen
class SessionLimits:
    """Limits of the session table. Raise `SettingsError` if a number is out of range."""

    max_sessions: int = 10_000
    """Open sessions; one more ends the least recently used."""
    max_results: int = 1_000
    """Results kept per session; more commands are refused until the client has confirmed answers."""
    lifetime: int = 3_600_000_000_000
    """Nanoseconds of log time without a command after which a session ends."""

    def __attrs_post_init__(self) -> None:
        for name in ("max_sessions", "max_results", "lifetime"):
            if not 0 < getattr(self, name) <= MAX_INT63:
                raise SettingsError(f"{name} must be positive and fit 63 bits, not {getattr(self, name)}")


@final
class Sessions:
    """A machine which applies each command of a session once, wrapped around any other machine.

    `limits` are stamped by this node into registrations while it leads. The inner machine must be in memory: a durable
    one would return after a restart without its session table.
    """

    __slots__ = (
        "_limits",
        "_machine",
        "_moment",
        "_now",
        "_prepare",
        "_rubbish",
        "_sessions",
        "_stamped",
        "_unanswered",
    )

    def __init__(self, machine: StateMachine, limits: SessionLimits | None = None) -> None:
        self._machine = machine
        self._prepare = preparer(machine)
        self._unanswered = unanswered(machine)
        self._stamped = limits or SessionLimits()
        # State from here on; equal on all replicas. Never taken from this node's own limits.
        self._limits = SessionLimits()
        self._now = 0
        # Least recently used first, hence sorted by `last_used`. Expired sessions are removed in portions.
        self._sessions: dict[int, Session] = {}
        self._rubbish: deque[Session] = deque()  # ended, to be freed in portions
        self._moment = 0  # snapshots begun so far

    @property
    def machine(self) -> StateMachine:
        """The inner machine."""
        return self._machine

    @property
    def open_sessions(self) -> int:
        """The number of open sessions."""
        return len(self._sessions) - self._ended()

    def _ended(self) -> int:
        """Return the number of expired sessions still in the table; they are the first ones."""
        oldest_kept = self._now - self._limits.lifetime
        return sum(1 for _ in takewhile(lambda session: session.last_used < oldest_kept, self._sessions.values()))

    def init(self) -> Index:
        """Return 0: the table is rebuilt from snapshot and log. Raise `CallerError` for a durable inner machine."""
        if self._machine.init() != 0:
            raise CallerError("Sessions needs a machine that lives in memory; a durable one must keep sessions itself")
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        """Stamp cluster time into the command, and limits into a registration; pass the rest to the inner machine.

        It gets `now` as wall time too: see `prepare_with_wall`.
        """
        return self.prepare_with_wall(command, now, now)

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Stamp the command as `prepare` does, with wall time for an inner machine which needs it."""
        kind = _kind_of(command)
        stamp = _HEAD.pack(kind, min(max(now, 0), MAX_INT63)) if kind >= 0 else b""
        if kind == _PLAIN:
            return stamp + self._prepare(command[_HEAD.size :], now, wall)
        if kind == _REGISTER:
            limits = self._stamped
            return stamp + _LIMITS.pack(limits.max_sessions, limits.max_results, limits.lifetime)
        if kind == _COMMAND:
            body = _HEAD.size + _NAMES.size
            return stamp + command[_HEAD.size : body] + self._prepare(command[body:], now, wall)
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        """Apply the command unless it is a repetition. Return the reply, for `decode_reply`."""
        kind = _kind_of(command)
        if kind < 0:
            return _MALFORMED
        _, stamp = _HEAD.unpack_from(command)
        self._now = max(self._now, stamp)
        self._end_the_unused()
        if kind == _PLAIN:
            return _RESULT + self._machine.apply(index, command[_HEAD.size :])
        if kind == _REGISTER:
            return self._register(index, command)
        return self._apply_once(index, command)

    @property
    def apply_unanswered(self) -> ApplyUnanswered | None:
        """The inner machine's shorter way, for commands without a session; None if it has none.

        The result of a command in a session is kept, so it is always wanted.
        """
        return None if self._unanswered is None else self._apply_unanswered

    def latest_time(self) -> int:
        """Return the latest time stamped by a leader, in nanoseconds; 0 if there is none."""
        return self._now

    def is_long(self, request: bytes) -> bool:
        """Return whether the inner machine takes long for this query or the contained command."""
        is_long = getattr(self._machine, "is_long", None)
        if is_long is None:
            return False
        body = _HEAD.size + (_NAMES.size if request[:1] == bytes([_COMMAND]) else 0)
        return bool(is_long(request) or is_long(request[body:]))

    def snapshot_is_long(self) -> bool:
        """Return whether the inner machine's copy for a snapshot takes long."""
        snapshot_is_long = getattr(self._machine, "snapshot_is_long", None)
        return snapshot_is_long is not None and bool(snapshot_is_long())

    def query(self, request: bytes) -> bytes:
        """Return the inner machine's answer."""
        return self._machine.query(request)

    def snapshot(self) -> Iterator[bytes]:
        """Return the table's records, then the inner machine's chunks, both of this moment.

        Sessions used later are copied first.
        """
        limits = (self._limits.max_sessions, self._limits.max_results, self._limits.lifetime)
        held = list(self._sessions.items())[self._ended() :]
        self._moment += 1
        return table_chunks(self._now, limits, held, iter(self._machine.snapshot()))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace table and inner state. Raise `SnapshotMalformed` before the inner machine is changed."""
        pieces = TablePieces(chunks)
        head = pieces.head()
        try:
            limits = SessionLimits(*head.limits)
        except SettingsError as failure:
            raise SnapshotMalformed(f"the snapshot does not begin with a session table: {failure}") from failure
        sessions: dict[int, Session] = {}
        for _ in range(head.sessions):
            row = pieces.row()
            sessions[row.session] = Session(row.last_used, row.lowest, dict(row.results), self._moment)
        self._machine.restore(pieces.rest())
        self._limits, self._now, self._sessions = limits, head.now, sessions

    # Steps of `apply`.

    def _apply_unanswered(self, commands: abc.Sequence[tuple[Index, bytes]]) -> int:
        assert self._unanswered is not None
        plain = list(takewhile(lambda command: _kind_of(command[1]) == _PLAIN, commands))
        if not plain:
            return 0
        count = self._unanswered([(index, command[_HEAD.size :]) for index, command in plain])
        for _, command in plain[:count]:
            _, stamp = _HEAD.unpack_from(command)
            self._now = max(self._now, stamp)
            self._end_the_unused()
        return count

    def _end_the_unused(self) -> None:
        """Remove some expired sessions; all at once could take seconds.

        The remaining ones have no effect: `_apply_once` checks the time too.
        """
        oldest_kept = self._now - self._limits.lifetime
        if self._rubbish:
            self._rubbish.popleft()
        for _ in range(_PORTION):
            number = next(iter(self._sessions), None)
            if number is None or self._sessions[number].last_used >= oldest_kept:
                return
            del self._sessions[number]

    def _register(self, index: Index, command: bytes) -> bytes:
        numbers = _LIMITS.unpack_from(command, _HEAD.size)
        if all(0 < number <= MAX_INT63 for number in numbers):
            for _ in range(self._ended()):  # another lifetime must not bring them back
                self._evict()
            self._limits = SessionLimits(*numbers)
        while len(self._sessions) >= self._limits.max_sessions:
            self._evict()
        self._sessions[index] = Session(self._now, 1, {}, self._moment)
        return _REGISTERED + index.to_bytes(8, "little")

    def _evict(self) -> None:
        """End the least recently used session; its results are freed later."""
        self._rubbish.append(self._sessions.pop(next(iter(self._sessions))))

    def _apply_once(self, index: Index, command: bytes) -> bytes:
        number, sequence, lowest = _NAMES.unpack_from(command, _HEAD.size)
        session = self._sessions.pop(number, None)
        if session is None or session.last_used < self._now - self._limits.lifetime:
            return _EXPIRED
        if session.moment != self._moment:
            session = session.copy(self._moment)
        self._sessions[number] = session  # now the most recently used
        session.last_used = self._now
        session.forget_below(lowest)
        if sequence < session.lowest:
            return _STALE
        known = session.results.get(sequence)
        if known is not None:
            return known
        if len(session.results) >= self._limits.max_results:
            return _FULL
        reply = _RESULT + self._machine.apply(index, command[_HEAD.size + _NAMES.size :])
        session.results[sequence] = reply
        return reply


def _kind_of(command: bytes) -> int:
    """Return the kind of a well-formed command, -1 for any other. Used both before and after the log."""
    if len(command) < _HEAD.size:
        return -1
    kind = command[0]
    if kind == _COMMAND and len(command) >= _HEAD.size + _NAMES.size:
        return kind
    if kind == _REGISTER and len(command) == _HEAD.size + _LIMITS.size:
        return kind
    return kind if kind == _PLAIN else -1
