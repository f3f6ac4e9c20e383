"""Sessions: applied once, answered alike, the same on every replica."""

from __future__ import annotations

import tracemalloc
from collections import abc
from collections.abc import Iterable, Iterator
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.errors import CallerError, SettingsError
from raft_core.ids import Index
from raft_core.sessions import (
    Expired,
    Full,
    Malformed,
    Registered,
    Reply,
    Result,
    Sequence,
    SessionId,
    SessionLimits,
    Sessions,
    SnapshotMalformed,
    Stale,
    decode_reply,
    encode_command,
    encode_plain,
    encode_register,
)
from raft_core.state_machine import StateMachine


class Journal:
    """A machine that writes down everything it applies; its result is the place in the journal."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command.replace(b"<now>", str(now).encode())

    def apply(self, index: Index, command: bytes) -> bytes:
        self.applied.append(command)
        return b"%d: %s" % (len(self.applied), command)

    def query(self, request: bytes) -> bytes:
        return b"%d" % len(self.applied)

    def snapshot(self) -> Iterator[bytes]:
        return iter([line + b"\n" for line in self.applied])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.applied = b"".join(chunks).split(b"\n")[:-1]


class Replica:
    """A journal under sessions, fed with a log; it leads itself, so it also prepares."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self.journal = Journal()
        self.machine = Sessions(self.journal, limits)
        self.index = 0

    def do(self, command: bytes, now: int = 0) -> Reply:
        return self.apply(self.machine.prepare(command, now))

    def apply(self, entry: bytes) -> Reply:
        self.index += 1
        return decode_reply(self.machine.apply(Index(self.index), entry))

    def register(self, now: int = 0) -> SessionId:
        reply = self.do(encode_register(), now)
        assert isinstance(reply, Registered)
        return reply.session

    def state(self) -> bytes:
        return b"".join(self.machine.snapshot())


def numbered(session: int, sequence: int, lowest: int, command: bytes = b"x") -> bytes:
    return encode_command(SessionId(session), Sequence(sequence), Sequence(lowest), command)


# One at a time.


def test_a_session_is_named_by_the_index_of_its_registration() -> None:
    replica = Replica()
    replica.do(encode_plain(b"first"))
    assert replica.do(encode_register()) == Registered(SessionId(2))
    assert replica.do(encode_register()) == Registered(SessionId(3))
    assert replica.machine.open_sessions == 2


def test_a_repeated_command_is_applied_once_and_answered_alike() -> None:
    replica = Replica()
    session = replica.register()
    assert replica.do(numbered(session, 1, 1, b"a")) == Result(b"1: a")
    assert replica.do(numbered(session, 1, 1, b"a")) == Result(b"1: a")
    assert replica.do(numbered(session, 2, 1, b"b")) == Result(b"2: b")
    assert replica.do(numbered(session, 1, 1, b"a")) == Result(b"1: a")
    assert replica.journal.applied == [b"a", b"b"]


def test_pipelined_commands_may_come_in_any_order() -> None:
    replica = Replica()
    session = replica.register()
    replies = [replica.do(numbered(session, sequence, 1, b"%d" % sequence)) for sequence in (3, 1, 2, 3, 1)]
    assert replies == [Result(b"1: 3"), Result(b"2: 1"), Result(b"3: 2"), Result(b"1: 3"), Result(b"2: 1")]


def test_a_command_whose_answer_has_arrived_is_stale_and_not_applied_again() -> None:
    replica = Replica()
    session = replica.register()
    replica.do(numbered(session, 1, 1, b"a"))
    replica.do(numbered(session, 3, 3, b"c"))
    assert replica.do(numbered(session, 1, 1, b"a")) == Stale()
    assert replica.do(numbered(session, 2, 1, b"b")) == Stale()
    assert replica.journal.applied == [b"a", b"c"]


def test_equal_numbers_of_different_sessions_are_different_commands() -> None:
    replica = Replica()
    one, two = replica.register(), replica.register()
    assert replica.do(numbered(one, 1, 1, b"a")) == Result(b"1: a")
    assert replica.do(numbered(two, 1, 1, b"a")) == Result(b"2: a")


def test_a_command_without_a_session_is_applied_each_time() -> None:
    replica = Replica()
    assert replica.do(encode_plain(b"a")) == Result(b"1: a")
    assert replica.do(encode_plain(b"a")) == Result(b"2: a")


def test_a_query_goes_to_the_inner_machine() -> None:
    replica = Replica()
    replica.do(encode_plain(b"a"))
    assert replica.machine.query(b"?") == b"1"


def test_the_inner_machine_prepares_its_own_commands() -> None:
    replica = Replica()
    session = replica.register()
    assert replica.do(numbered(session, 1, 1, b"at <now>"), 7) == Result(b"1: at 7")
    assert replica.do(encode_plain(b"at <now>"), 8) == Result(b"2: at 8")


# The end of a session.


def test_an_unknown_session_is_refused_and_not_made() -> None:
    replica = Replica()
    assert replica.do(numbered(5, 1, 1)) == Expired()
    assert replica.do(numbered(5, 1, 1)) == Expired()
    assert replica.machine.open_sessions == 0
    assert replica.journal.applied == []


def test_a_session_ends_when_log_time_has_passed_its_lifetime() -> None:
    replica = Replica(SessionLimits(lifetime=100))
    idle, busy = replica.register(1000), replica.register(1000)
    assert replica.do(numbered(busy, 1, 1), 1090) == Result(b"1: x")
    assert replica.do(numbered(idle, 1, 1), 1100) == Result(b"2: x")  # to the last moment
    assert replica.do(numbered(busy, 2, 1), 1191) == Expired()
    assert replica.do(numbered(idle, 2, 1), 1191) == Result(b"3: x")
    assert replica.do(numbered(busy, 1, 1), 1191) == Expired()


def test_plain_commands_move_time_too() -> None:
    replica = Replica(SessionLimits(lifetime=100))
    replica.register(1000)
    replica.do(encode_plain(b"a"), 1101)
    assert replica.machine.open_sessions == 0


def test_time_never_runs_back_when_a_leader_with_a_slower_clock_takes_over() -> None:
    replica = Replica(SessionLimits(lifetime=100))
    session = replica.register(1000)
    assert replica.do(numbered(session, 1, 1), 10) == Result(b"1: x")
    assert replica.do(numbered(session, 2, 1), 1100) == Result(b"2: x")
    assert replica.do(encode_plain(b"a"), 1201) == Result(b"3: a")
    assert replica.do(numbered(session, 3, 1), 10) == Expired()


def test_time_stamped_by_a_client_is_overwritten_by_the_leader() -> None:
    replica = Replica(SessionLimits(lifetime=100))
    session = replica.register(1000)
    forged = bytearray(encode_plain(b"a"))
    forged[1:9] = b"\xff" * 8
    replica.do(bytes(forged), 1001)
    assert replica.do(numbered(session, 1, 1), 1002) == Result(b"2: x")


def test_one_session_too_many_ends_the_least_recently_used() -> None:
    replica = Replica(SessionLimits(max_sessions=2))
    first, second = replica.register(), replica.register()
    replica.do(numbered(first, 1, 1))
    third = replica.register()
    assert replica.do(numbered(second, 1, 1)) == Expired()
    assert replica.do(numbered(first, 1, 1)) == Result(b"1: x")
    assert replica.do(numbered(third, 1, 1)) == Result(b"2: x")


def test_results_of_one_session_are_bounded_without_losing_any() -> None:
    replica = Replica(SessionLimits(max_results=2))
    session = replica.register()
    assert replica.do(numbered(session, 1, 1, b"a")) == Result(b"1: a")
    assert replica.do(numbered(session, 2, 1, b"b")) == Result(b"2: b")
    assert replica.do(numbered(session, 3, 1, b"c")) == Full()
    assert replica.do(numbered(session, 1, 1, b"a")) == Result(b"1: a")
    assert replica.do(numbered(session, 3, 2, b"c")) == Result(b"3: c")
    assert replica.journal.applied == [b"a", b"b", b"c"]


# Replicas.


def test_replicas_with_different_settings_agree_because_limits_are_in_the_log() -> None:
    leader, follower = Replica(SessionLimits(max_sessions=1, lifetime=50)), Replica(SessionLimits(max_results=1))
    for now, command in enumerate(
        (encode_register(), encode_register(), numbered(2, 1, 1), numbered(2, 2, 1), numbered(1, 1, 1))
    ):
        entry = leader.machine.prepare(command, now * 20)
        assert leader.apply(entry) == follower.apply(entry)
    assert leader.state() == follower.state()
    assert leader.machine.open_sessions == 1


def test_a_registration_without_limits_keeps_those_in_force() -> None:
    replica = Replica(SessionLimits(max_sessions=1))
    replica.register()
    assert replica.apply(encode_register()) == Registered(SessionId(2))
    assert replica.machine.open_sessions == 1


def test_limits_before_the_first_registration_are_everybodys() -> None:
    strict, lavish = Replica(SessionLimits(max_sessions=1)), Replica()
    assert strict.apply(encode_register()) == lavish.apply(encode_register())
    assert strict.apply(encode_register()) == lavish.apply(encode_register())
    assert strict.state() == lavish.state()
    assert strict.machine.open_sessions == 2


def test_every_kept_result_survives_a_snapshot() -> None:
    first, second = Replica(), Replica()
    session = first.register()
    answers = [first.do(numbered(session, sequence, 1)) for sequence in (1, 2, 3)]
    second.machine.restore(first.machine.snapshot())
    assert [second.do(numbered(session, sequence, 1)) for sequence in (1, 2, 3)] == answers


def test_a_restored_replica_goes_on_like_the_original() -> None:
    first, second = Replica(SessionLimits(max_results=3, lifetime=100)), Replica()
    session = first.register(1000)
    first.do(numbered(session, 1, 1, b"a"), 1010)
    first.do(numbered(session, 2, 2, b"b"), 1020)
    second.machine.restore(first.machine.snapshot())
    second.index = first.index
    second.do(encode_plain(b"before"), 0)
    first.do(encode_plain(b"before"), 0)

    for sequence, lowest, now in ((1, 1, 0), (2, 2, 0), (3, 2, 1120), (4, 2, 1120), (5, 2, 1120), (6, 2, 1221)):
        entry = first.machine.prepare(numbered(session, sequence, lowest), now)
        assert first.apply(entry) == second.apply(entry)
    assert first.state() == second.state()
    assert first.journal.applied == second.journal.applied


def test_a_snapshot_shows_the_moment_at_which_it_was_begun() -> None:
    replica = Replica()
    session = replica.register()
    replica.do(numbered(session, 1, 1, b"a"))
    expected = replica.state()
    chunks = replica.machine.snapshot()
    replica.do(numbered(session, 2, 2, b"b"))
    replica.journal.applied.pop()  # the journal's own snapshot is a list made at once
    assert b"".join(chunks) == expected


def test_the_inner_snapshot_is_streamed_in_both_directions() -> None:
    class Large(Journal):
        def snapshot(self) -> Iterator[bytes]:
            return (bytes(1 << 20) for _ in range(40))

        def restore(self, chunks: Iterable[bytes]) -> None:
            self.applied = [b"%d" % sum(len(chunk) for chunk in chunks)]

    source, target = Sessions(Large()), Sessions(Large())
    source.apply(Index(1), encode_register())

    tracemalloc.start()
    target.restore(source.snapshot())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(target.machine, Large)
    assert target.machine.applied == [b"%d" % (40 << 20)]
    assert target.open_sessions == 1
    assert peak < 8 << 20


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_chunks_of_a_snapshot_may_be_cut_anywhere(size: int) -> None:
    first, second = Replica(), Replica()
    for _ in range(3):
        session = first.register()
        first.do(numbered(session, 1, 1, b"a"))
    data = first.state()
    second.machine.restore([b"", *(data[at : at + size] for at in range(0, len(data), size)), b""])
    assert second.state() == data
    assert second.journal.applied == first.journal.applied


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x01",
        b"\x02\0\0\0ab",
        b"\x05\0\0\0\x94\x01\0\x93\0",
        b"\x07\0\0\0\x94\x02\0\x93\x01\x01\x01\0",
        b"\x08\0\0\0\x94\x02\0\x93\x01\x01\x01\0",
        b"\x08\0\0\0\x94\x01\0\x93\0\x01\x01\0",
        b"\x08\0\0\0\x94\x01\0\x93\x01\x01\x01\x01",
    ],
)
def test_a_snapshot_without_a_table_is_refused_and_changes_nothing(damaged: bytes) -> None:
    replica = Replica()
    replica.do(numbered(replica.register(), 1, 1, b"a"))
    before = replica.state()
    with pytest.raises(SnapshotMalformed):
        replica.machine.restore([damaged])
    assert replica.state() == before


def test_a_durable_inner_machine_is_refused() -> None:
    class Durable(Journal):
        def init(self) -> Index:
            return Index(5)

    with pytest.raises(CallerError):
        Sessions(Durable()).init()
    assert Sessions(Journal()).init() == 0
    assert isinstance(Sessions(Journal()), StateMachine)


# Nonsense.


@pytest.mark.parametrize(
    "command", [b"", b"\0", b"raw command", numbered(1, 1, 1, b"")[:-1], encode_register() + b"x", b"\x03" + bytes(40)]
)
def test_what_is_no_command_of_ours_is_answered_and_not_applied(command: bytes) -> None:
    replica = Replica()
    assert replica.machine.prepare(command, 5) == command
    assert replica.apply(command) == Malformed()
    assert replica.journal.applied == []


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=60) | st.binary(min_size=32, max_size=40).map(lambda data: b"\x02" + data)))
def test_no_entry_raises(entries: list[bytes]) -> None:
    replica = Replica()
    session = replica.register()
    for entry in entries:
        replica.apply(entry)
        replica.do(entry)
    replica.apply(encode_command(session, Sequence(2**63 - 1), Sequence(2**63 - 1), b""))
    other = Replica()
    other.machine.restore(replica.machine.snapshot())
    assert other.machine.open_sessions == replica.machine.open_sessions


def test_the_largest_numbers_that_fit_an_entry_do_no_harm() -> None:
    replica, other = Replica(), Replica()
    session = replica.register()
    largest = b"\xff" * 8
    name = session.to_bytes(8, "little")
    assert replica.apply(b"\x02" + bytes(8) + name + largest + bytes(8) + b"x") == Result(b"1: x")
    assert replica.apply(b"\x02" + bytes(8) + name + largest + largest + b"x") == Result(b"1: x")
    assert replica.apply(numbered(session, 1, 1)) == Stale()
    other.machine.restore(replica.machine.snapshot())
    assert other.state() == replica.state()
    assert replica.apply(b"\x00" + largest + b"y") == Result(b"2: y")
    assert replica.apply(numbered(session, 1, 1)) == Expired()


def test_an_exception_of_the_inner_machine_is_not_hidden() -> None:
    class Broken(Journal):
        def apply(self, index: Index, command: bytes) -> bytes:
            raise ZeroDivisionError

    machine = Sessions(Broken())
    machine.apply(Index(1), encode_register())
    with pytest.raises(ZeroDivisionError):
        machine.apply(Index(2), numbered(1, 1, 1))


@pytest.mark.parametrize(("session", "sequence", "lowest"), [(0, 1, 1), (1, 0, 0), (1, 1, 0), (1, 1, 2), (2**63, 1, 1)])
def test_a_client_with_wrong_numbers_is_told(session: int, sequence: int, lowest: int) -> None:
    with pytest.raises(CallerError):
        numbered(session, sequence, lowest)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02x", b"\x09"])
def test_a_reply_of_something_else_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a reply"):
        decode_reply(data)


@pytest.mark.parametrize("field", ["max_sessions", "max_results", "lifetime"])
def test_limits_check_themselves(field: str) -> None:
    for wrong in (0, -1, 2**63):
        with pytest.raises(SettingsError, match=field):
            SessionLimits(**{field: wrong})


# Without an answer.


class Hasty(Journal):
    """A journal with a shorter way for commands that begin with `x`."""

    def apply_unanswered(self, commands: abc.Sequence[tuple[Index, bytes]]) -> int:
        run = list(takewhile(lambda command: command[1][:1] == b"x", commands))
        self.applied += [command for _, command in run]
        return len(run)


def test_shorter_way_takes_commands_without_a_session_until_one_that_is_not_for_it() -> None:
    machine = Sessions(Hasty())
    assert machine.apply_unanswered is not None

    plain = [(Index(n), machine.prepare(encode_plain(b"x%d" % n), n)) for n in (1, 2)]
    for other in (numbered(1, 1, 1), encode_register(), encode_plain(b"slow"), b""):
        assert machine.apply_unanswered([*plain, (Index(3), other), (Index(4), plain[0][1])]) == 2
        assert machine.apply_unanswered([(Index(3), other)]) == 0

    assert machine.machine.query(b"") == b"8"
    assert machine.latest_time() == 2
    assert Sessions(Journal()).apply_unanswered is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"plain", b"slow", b"register", b"session"]), st.integers(0, 9)), max_size=30)
)
def test_shorter_way_leaves_the_same_state(log: list[tuple[bytes, int]]) -> None:
    leader = Replica(SessionLimits(max_sessions=2, max_results=3, lifetime=8))
    entries, now = [], 0
    for number, (kind, passed) in enumerate(log, 1):
        now += passed
        command = encode_register() if kind == b"register" else encode_plain(b"x" if kind == b"plain" else b"slow")
        entries.append(leader.machine.prepare(numbered(1, number, number) if kind == b"session" else command, now))
    one_by_one, together = Sessions(Journal()), Sessions(Hasty())

    commands = [(Index(place), entry) for place, entry in enumerate(entries, 1)]
    for index, entry in commands:
        one_by_one.apply(index, entry)
    place = 0
    while place < len(commands):
        assert together.apply_unanswered is not None
        count = together.apply_unanswered(commands[place:])
        if not count:
            together.apply(*commands[place])
        place += max(count, 1)

    assert b"".join(together.snapshot()) == b"".join(one_by_one.snapshot())
    assert together.open_sessions == one_by_one.open_sessions
