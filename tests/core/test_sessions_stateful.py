"""Sessions beside a plain table, on two replicas: each sequence is applied once, and both answer alike.

The follower sometimes starts again from the leader's snapshot, taken a while ago, and applies the entries since.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raft_core import sessions as sessions_module
from raft_core.ids import Index
from raft_core.sessions import (
    Expired,
    Full,
    Registered,
    Reply,
    Result,
    Sequence,
    SessionId,
    SessionLimits,
    Sessions,
    Stale,
    decode_reply,
    encode_command,
    encode_plain,
    encode_register,
)
from tests.core.test_sessions import Journal
from tests.profiles import stateful

LIMITS = st.sampled_from(
    [
        SessionLimits(max_sessions=2, max_results=2, lifetime=50),
        SessionLimits(max_sessions=3, max_results=3, lifetime=100),
        SessionLimits(max_sessions=9, lifetime=50),
    ]
)
PASSED = st.sampled_from([0, 0, 1, 20, 60, 60, -30])  # a new leader's clock may be behind
COMMAND = st.tuples(
    st.integers(0, 9),  # which session, modulo the number of those ever opened
    st.integers(1, 6),  # the sequence
    st.integers(0, 3),  # how far below it the lowest unanswered one is
    PASSED,
)


@attrs.define
class Open:
    """One open session as its client knows it."""

    used: int
    lowest: int = 1
    results: dict[int, Reply] = attrs.field(factory=dict)


class SessionsBesideTable(RuleBasedStateMachine):
    """`open` are the open sessions, least recently used first."""

    @initialize(limits=LIMITS)
    def begin(self, limits: SessionLimits) -> None:
        self._portion = sessions_module._PORTION
        self.stamping = limits
        self.limits = SessionLimits()
        self.leader, self.follower = Sessions(Journal(), limits), Sessions(Journal())
        self.open: dict[int, Open] = {}
        self.ever: list[int] = []
        self.journal: list[bytes] = []
        self.clock, self.time, self.index = 1000, 0, 0
        self.chunks = b"".join(self.leader.snapshot())
        self.since: list[bytes] = []
        self.running: Iterator[bytes] = iter(())
        self.moment = b""
        self.register(0)

    def teardown(self) -> None:
        if hasattr(self, "_portion"):
            sessions_module._PORTION = self._portion  # type: ignore[misc]
            self.end_snapshot()

    def _enter(self, command: bytes, passed: int) -> Reply:
        """Return the reply of both replicas; the model's time is that of the log."""
        self.clock += passed
        self.index += 1
        # Ended sessions are removed late, one with every third entry. Those not removed yet must have no effect.
        sessions_module._PORTION = int(self.index % 3 == 0)  # type: ignore[misc]
        entry = self.leader.prepare(command, self.clock)
        self.time = max(self.time, self.clock)
        self.since.append(entry)
        reply = self.leader.apply(Index(self.index), entry)
        assert self.follower.apply(Index(self.index), entry) == reply
        self._expire()
        return decode_reply(reply)

    def _expire(self) -> None:
        kept = {n: session for n, session in self.open.items() if session.used >= self.time - self.limits.lifetime}
        self.open = kept

    @rule(passed=PASSED)
    def register(self, passed: int) -> None:
        reply = self._enter(encode_register(), passed)
        self.limits = self.stamping
        self._expire()
        while len(self.open) >= self.limits.max_sessions:
            del self.open[next(iter(self.open))]
        assert reply == Registered(SessionId(self.index))
        self.open[self.index] = Open(self.time)
        self.ever.append(self.index)

    @rule(passed=PASSED)
    def plain(self, passed: int) -> None:
        self.journal.append(b"plain")
        assert self._enter(encode_plain(b"plain"), passed) == self._result(b"plain")

    @rule(commands=st.lists(COMMAND, min_size=1, max_size=4))
    def commands(self, commands: list[tuple[int, int, int, int]]) -> None:
        for which, sequence, below, passed in commands:
            number = self.ever[which % len(self.ever)]
            lowest, data = max(1, sequence - below), b"%d/%d" % (number, sequence)
            command = encode_command(SessionId(number), Sequence(sequence), Sequence(lowest), data)
            reply = self._enter(command, passed)
            assert reply == self._expected(number, sequence, lowest, data)

    def _expected(self, number: int, sequence: int, lowest: int, data: bytes) -> Reply:
        session = self.open.pop(number, None)
        if session is None:
            return Expired()
        self.open[number] = session
        session.used, session.lowest = self.time, max(session.lowest, lowest)
        session.results = {known: reply for known, reply in session.results.items() if known >= session.lowest}
        if sequence < session.lowest:
            return Stale()
        if sequence in session.results:
            return session.results[sequence]
        if len(session.results) >= self.limits.max_results:
            return Full()
        self.journal.append(data)
        session.results[sequence] = self._result(data)
        return session.results[sequence]

    def _result(self, data: bytes) -> Result:
        return Result(b"%d: %s" % (len(self.journal), data))

    @rule(limits=LIMITS)
    def leader_has_other_limits(self, limits: SessionLimits) -> None:
        """A node with other settings leads: it goes on with a snapshot of the same state."""
        state = self.leader.snapshot()
        self.leader, self.stamping = Sessions(Journal(), limits), limits
        self.leader.restore(state)

    @rule()
    def begin_snapshot(self) -> None:
        self.running, self.moment = self.leader.snapshot(), b"".join(self.leader.snapshot())
        self.chunks, self.since = self.moment, []

    @rule()
    def end_snapshot(self) -> None:
        """Read the snapshot that was begun a while ago: it shows the moment of its beginning."""
        shown, expected, self.moment = b"".join(self.running), self.moment, b""
        assert shown == expected

    @rule(size=st.integers(1, 40))
    def follower_restarts(self, size: int) -> None:
        self.follower = Sessions(Journal())
        self.follower.restore(self.chunks[at : at + size] for at in range(0, len(self.chunks), size))
        for index, entry in enumerate(self.since, self.index - len(self.since) + 1):
            self.follower.apply(Index(index), entry)

    @invariant()
    def both_replicas_hold_the_same(self) -> None:
        if not hasattr(self, "open"):
            return
        for machine in (self.leader, self.follower):
            assert machine.open_sessions == len(self.open) <= self.limits.max_sessions
            assert isinstance(machine.machine, Journal)
            assert machine.machine.applied == self.journal
            assert machine.latest_time() == self.time
        assert b"".join(self.leader.snapshot()) == b"".join(self.follower.snapshot())


TestSessionsBesideTable = stateful(SessionsBesideTable, runs=60, steps=20)
