"""Mistakes of state machines and of what gives them commands, and what the witnesses say of them.

Plants for the checks on results, snapshots and commands that are applied twice.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import attrs
import msgspec
import pytest

from raft_core.effects import Effect, TakeSnapshot
from raft_core.ids import Index, Term
from raft_core.membership import Members
from raft_core.node.cluster_time import ClusterTime
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.sessions import Sequence, SessionId, Sessions, encode_command, encode_plain
from raft_testing.__main__ import open_file_store
from raft_testing.checkers import state_machine as witnesses
from raft_testing.checkers.cluster_time import ClusterTimeChecker
from raft_testing.checkers.state_machine import CheckedStateMachine, CountingStateMachine
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.runner import simulate
from raft_testing.workloads.registers import RegisterMachine
from tests.testing.planted import shows
from tests.testing.test_simulator import DirtyMachine, RandomMachine
from tests.testing.watched_cores import PLAIN, Stage

# Machines.


def under_sessions(replicas: witnesses.ReplicaChecker, machine: RegisterMachine) -> CheckedStateMachine:
    return CheckedStateMachine(Sessions(CountingStateMachine(machine, replicas)), replicas)


def register(number: int, value: str) -> bytes:
    return msgspec.msgpack.encode((number, "write", "r", [value]))


class Lenient(RegisterMachine):
    """It does not notice a command that comes twice: what most machines are like."""

    def apply(self, index: Index, command: bytes) -> bytes:
        self._numbers.clear()
        return super().apply(index, command)


TWICE: Final = "no command is applied twice"


def applied_at_two_places(command: bytes, *, sent: int, sessions: bool) -> str:
    """What is said where the same command comes through to a machine at two places of the log."""
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    for _ in range(sent):
        replicas.offered(command)
    machine = CountingStateMachine(Lenient(), replicas)
    body = command[9:] if command[0] == 0 else command[33:]
    for index in (2, 3):
        before = replicas.carried_out
        result = machine.apply(Index(index), body) if sessions else b""
        replicas.applied(index, b"%d" % index, command, result, carried_out=replicas.carried_out > before)
    return said[-1]


@shows(TWICE, "applied once is applied at [2, 3]")
def a_session_that_forgets(patch: pytest.MonkeyPatch) -> str:
    command = encode_command(SessionId(1), Sequence(1), Sequence(1), register(1, "a"))
    return applied_at_two_places(command, sent=0, sessions=True)


@shows(TWICE, "applied once is applied at [2, 3]")
def a_command_without_a_session_that_is_sent_again(patch: pytest.MonkeyPatch) -> str:
    return applied_at_two_places(encode_plain(register(1, "a")), sent=1, sessions=True)


@shows(TWICE, "the machine raised ValueError at index 3: command 1 is applied a second time")
def a_machine_notices_by_itself(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    witness = under_sessions(witnesses.ReplicaChecker(said.append), RegisterMachine())
    witness.apply(Index(2), encode_plain(register(1, "a")))
    with pytest.raises(ValueError, match="second time"):
        witness.apply(Index(3), encode_plain(register(1, "a")))
    return said[-1]


SAME: Final = "equal entries have equal results on all machines"


@shows(SAME, "two machines gave different results at index 2")
def machines_that_differ(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    for _ in range(3):
        under_sessions(replicas, RandomMachine()).apply(Index(2), encode_plain(register(1, "a")))
    return said[-1]


@shows(SAME, "two machines applied different commands up to index 2")
def machines_that_are_given_different_commands(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    for value in ("a", "b"):
        under_sessions(replicas, RegisterMachine()).apply(Index(2), encode_plain(register(1, value)))
    return said[-1]


@shows(SAME, "a machine was given index 2 after 2")
def a_machine_is_given_an_entry_again(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    witness = under_sessions(witnesses.ReplicaChecker(said.append), RegisterMachine())
    witness.apply(Index(2), encode_plain(register(1, "a")))
    witness.apply(Index(2), encode_plain(register(2, "a")))
    return said[1]


TIME: Final = "the time in the log never runs back, gains nothing on true time, and loses a second per election at most"


def stamped(*stamps: tuple[int, int], elections: int = 1) -> str:
    """What is said of commands that were stamped so, each at this true time, and applied in this order."""
    said, now = [""], [0]
    stamps_of = ClusterTimeChecker(lambda: now[0], said.append, lambda: elections)
    stamps_of.alike = stamps_of.steady = True
    for index, (moment, stamp) in enumerate(stamps, 1):
        now[0] = moment
        stamps_of.told(stamp)
        stamps_of.applied(index, b"\0" + stamp.to_bytes(8, "little"), "node 1")
        stamps_of.applied(index, b"\0" + stamp.to_bytes(8, "little"), "node 2")
    return said[-1]


@shows(TIME, "the time in the log runs back by 60 ns at index 2")
def a_leader_with_a_clock_of_its_own(patch: pytest.MonkeyPatch) -> str:
    assert stamped((0, 100), (10, 110), (SECOND, SECOND)) == ""
    return stamped((0, 100), (10, 40))


@shows(TIME, "gains 1999999990 ns on true time at index 2")
def a_leader_whose_time_jumps_ahead(patch: pytest.MonkeyPatch) -> str:
    return stamped((0, 100), (10, 100 + 2 * SECOND))


@shows(TIME, "has lost 1500000000 ns at index 2")
def a_leader_that_begins_where_the_last_one_wrote_something(patch: pytest.MonkeyPatch) -> str:
    assert stamped((0, 100), (3 * SECOND // 2 + 1, 101), elections=2) == ""
    return stamped((0, 100), (3 * SECOND // 2 + 1, 101))


@shows(TIME, "the time in the log")
def leaders_that_stamp_their_wall_clocks(patch: pytest.MonkeyPatch) -> str:
    def wall_clock(time: ClusterTime, leading: Raft | None, now: int, wall: int) -> int:
        return wall if leading is not None else 0

    patch.setattr(ClusterTime, "to_stamp", wall_clock)
    profile = Profile(chaos=30 * SECOND, operations=100, fault_chance=1.0, mean_interval=4 * SECOND)
    report = simulate(
        range(3), open_store=open_file_store, profile=profile, faults=frozenset({Fault.WALL_CLOCK, Fault.TRANSFER})
    )
    return next((seed.violation for seed in report.failures), "")


@shows(TIME, "the time in the log")
def followers_that_do_not_listen_to_the_time(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(ClusterTime, "leader_says", lambda time, term, told, now, **known: None)
    profile = Profile(chaos=60 * SECOND, operations=20, fault_chance=1.0, mean_interval=15 * SECOND)
    report = simulate(
        range(6), open_store=open_file_store, profile=profile, faults=frozenset({Fault.TRANSFER, Fault.ISOLATE_LEADER})
    )
    return next((seed.violation for seed in report.failures), "")


ANSWERS: Final = "a machine answers what clients ask of it: it raises nothing, and gives bytes"


def asked(answer: object, *, by_a_client: bool) -> list[str]:
    """What is said of a machine that answers so; it raises, if that is an error."""

    class Odd(RegisterMachine):
        def query(self, request: bytes) -> bytes:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

    said: list[str] = []
    replicas = witnesses.ReplicaChecker(said.append)
    if by_a_client:
        replicas.asked(b"r")
    with suppress(KeyError):
        under_sessions(replicas, Odd()).query(b"r")
    return said


@shows(ANSWERS, "the machine raised KeyError at the query b'r': 'planted'")
def a_machine_raises_at_a_query(patch: pytest.MonkeyPatch) -> str:
    assert asked(KeyError("planted"), by_a_client=False) == []
    return asked(KeyError("planted"), by_a_client=True)[-1]


@shows(ANSWERS, "the machine answered the query b'r' with NoneType, not bytes")
def a_machine_answers_a_query_with_nothing(patch: pytest.MonkeyPatch) -> str:
    assert asked(b"", by_a_client=True) == []
    return asked(None, by_a_client=False)[-1]


SNAPSHOT: Final = "a snapshot equals the applied prefix"


@shows(SNAPSHOT, "two machines have different states after index 3")
def a_snapshot_lacks_something(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    for machine in (RegisterMachine(), DirtyMachine()):
        witness = under_sessions(replicas, machine)
        witness.apply(Index(2), encode_plain(register(1, "a")))
        witness.apply(Index(3), encode_plain(msgspec.msgpack.encode((2, "write", "s", ["b"]))))
        for _ in witness.snapshot():
            pass
    return said[-1]


@shows(SNAPSHOT, "a snapshot does not equal the applied prefix up to index 2")
def a_snapshot_of_another_past(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    other = under_sessions(witnesses.ReplicaChecker(said.append), RegisterMachine())
    other.apply(Index(2), encode_plain(register(1, "b")))
    under_sessions(replicas, RegisterMachine()).apply(Index(2), encode_plain(register(1, "a")))
    under_sessions(replicas, RegisterMachine()).restore(other.snapshot())
    return said[-1]


@shows(SNAPSHOT, "node 1: a snapshot of index 3 holds commands up to 2, not 3")
def a_snapshot_is_taken_before_its_place(patch: pytest.MonkeyPatch) -> str:
    stage = Stage(settings=attrs.evolve(PLAIN, snapshot_entries=3))
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver()
    stage.safety.machine_stands(stage.watched[1], 3, taken=True)
    assert stage.text == ""
    stage.safety.machine_stands(stage.watched[1], 2, taken=True)
    return stage.text


def ordered_snapshot(**changes: object) -> str:
    """What is said where the core orders a snapshot with another meta than it should."""

    def broken(effect: Effect) -> Effect:
        if not isinstance(effect, TakeSnapshot):
            return effect
        return TakeSnapshot(msgspec.structs.replace(effect.meta, **changes))

    stage = Stage(settings=attrs.evolve(PLAIN, snapshot_entries=3))
    stage.elect(1)
    stage.doctor(1, lambda effects: [broken(effect) for effect in effects])
    stage.propose(1, b"x")
    stage.deliver()
    return stage.text


@shows(SNAPSHOT, "node 1: a snapshot of index 2 where 3 is applied")
def a_snapshot_is_ordered_of_another_place(patch: pytest.MonkeyPatch) -> str:
    return ordered_snapshot(index=Index(2))


@shows(SNAPSHOT, "node 1: a snapshot of index 3, wrong term")
def a_snapshot_is_ordered_of_another_term(patch: pytest.MonkeyPatch) -> str:
    return ordered_snapshot(term=Term(1))


@shows(SNAPSHOT, "node 1: a snapshot at 3 with members of another index")
def a_snapshot_is_ordered_with_other_members(patch: pytest.MonkeyPatch) -> str:
    return ordered_snapshot(members=Members.initial([1, 2]))


ANSWER: Final = "an answer belongs to its request"


@shows(ANSWER, "a client was answered b'two', which is not the result of its command")
def an_answer_of_another_command(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    one, two = encode_plain(register(1, "a")), encode_plain(register(2, "a"))
    replicas.applied(2, b"", one, b"one", carried_out=True)
    replicas.applied(3, b"", two, b"two", carried_out=True)
    replicas.told(one, b"one")
    assert said == [""]
    replicas.told(one, b"two")
    return said[-1]


@shows(ANSWER, "was repeated at 3 and had another result")
def a_repeated_command_has_another_result(patch: pytest.MonkeyPatch) -> str:
    said = [""]
    replicas = witnesses.ReplicaChecker(said.append)
    command = encode_command(SessionId(1), Sequence(1), Sequence(1), b"add")
    replicas.applied(2, b"", command, b"\0one", carried_out=True)
    replicas.applied(3, b"", command, b"\0two", carried_out=False)
    return said[-1]
