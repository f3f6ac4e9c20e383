"""The simulator and machines whose `prepare` changes commands: right ones pass, and a double application is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

import msgspec
import pytest

from raft_core.ids import Index
from raft_core.node.limits import SECOND
from raft_core.sessions import Sequence, SessionId, Sessions, encode_command
from raft_testing.__main__ import open_file_store
from raft_testing.checkers import state_machine as witnesses
from raft_testing.checkers.state_machine import CheckedStateMachine, CountingStateMachine
from raft_testing.faults.catalogue import Profile
from raft_testing.linearizability.history import Datum
from raft_testing.rng import Rng
from raft_testing.sim.runner import run_seed, simulate
from raft_testing.workloads.registers import Asked, RegisterMachine, RegisterWorkload

SHORT = Profile(chaos=40 * SECOND, operations=200)
STAMP = 8


class StampingRegisters(RegisterMachine):
    """Registers whose commands carry the time at their end."""

    def prepare(self, command: bytes, now: int) -> bytes:
        return command + now.to_bytes(STAMP, "big")

    def apply(self, index: Index, command: bytes) -> bytes:
        return super().apply(index, command[:-STAMP])


def test_machine_that_stamps_time_passes() -> None:
    report = simulate(
        range(2), open_store=open_file_store, machine=StampingRegisters, workload=RegisterWorkload, profile=SHORT
    )

    assert not report.failures, report.table()
    assert report.seen["command changed by its machine's prepare"] > 100


def test_stamped_command_applied_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(StampingRegisters):
        def apply(self, index: Index, command: bytes) -> bytes:
            self._numbers.clear()
            return super().apply(index, command)

    def apply_again(sessions: Sessions, index: Index, command: bytes) -> bytes:
        return b"\0" + sessions.machine.apply(index, command[33:])

    monkeypatch.setattr(Sessions, "_apply_once", apply_again)
    report = simulate(range(4), open_store=open_file_store, machine=Forgetful, workload=RegisterWorkload)

    assert any("sent to be applied once is applied at" in seed.violation for seed in report.failures)


def test_forms_of_one_command_are_one_command() -> None:
    said: list[str] = []
    replicas = witnesses.ReplicaChecker(said.append)
    witness = CheckedStateMachine(Sessions(CountingStateMachine(StampingRegisters(), replicas)), replicas)
    command = encode_command(SessionId(1), Sequence(1), Sequence(1), b"x")
    first, second = witness.prepare(command, 5), witness.prepare(command, 6)

    replicas.applied(2, b"", first, b"\0one", carried_out=True)
    replicas.told(command, b"\0one")

    assert said == []
    assert replicas.place_of(command) == replicas.place_of(second) == 2
    assert replicas.logged(command) == b"x" + (5).to_bytes(STAMP, "big")


def test_contradiction_names_nodes_index_and_command() -> None:
    said: list[str] = []
    replicas = witnesses.ReplicaChecker(said.append)
    replicas.applied(7, b"", b"\0" + bytes(8) + b"add", b"one", carried_out=True, node="node 4")
    replicas.applied(7, b"", b"\0" + bytes(8) + b"add", b"two", carried_out=True, node="node 5")

    assert len(said) == 1
    assert all(part in said[0] for part in ("node 4", "node 5", "index 7", "add", "one", "two"))


def test_contradiction_of_a_restored_machine_names_its_snapshot_and_the_users_bytes() -> None:
    said: list[str] = []
    replicas = witnesses.ReplicaChecker(said.append)
    ran, restored = (
        CheckedStateMachine(Sessions(CountingStateMachine(StampingRegisters(), replicas)), replicas, node="node 2")
        for _ in range(2)
    )
    restored.restore(ran.snapshot())
    command = ran.prepare(encode_command(SessionId(1), Sequence(1), Sequence(1), b"x"), 5)
    replicas.applied(7, b"", command, b"\0one", carried_out=True, node=ran._life)
    replicas.applied(7, b"", command, b"\0two", carried_out=True, node=restored._life)

    assert len(said) == 1
    assert "node 2 gave b'one' and node 2 (restored from a snapshot at 0) b'two'" in said[0]
    assert "the command b'x" in said[0]


@final
class Clocked:
    """A machine that answers each command with the time that was stamped into it."""

    def __init__(self) -> None:
        self.time = 0

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command + now.to_bytes(STAMP, "big")

    def apply(self, index: Index, command: bytes) -> bytes:
        self.time = int.from_bytes(command[-STAMP:], "big")
        return msgspec.msgpack.encode(self.time)

    def query(self, request: bytes) -> bytes:
        return msgspec.msgpack.encode(self.time)

    def snapshot(self) -> Iterator[bytes]:
        return iter([msgspec.msgpack.encode(self.time)])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.time = msgspec.msgpack.decode(b"".join(chunks), type=int)


@final
class Model:
    """What `Clocked` does, once it is known what was stamped."""

    def initial(self, key: Datum) -> Datum:
        return 0

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        return (state, state) if kind == "read" else (argument, argument)

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return kind == "read"


class Asking:
    """Reads the clock and sets it; `as_logged` tells the model what was stamped."""

    model = Model()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        if rng.chance(0.3):
            return Asked("read", None, None, b"", reads=True)
        return Asked("touch", None, None, b"%d " % number)

    def result(self, asked: Asked, answer: bytes) -> Datum:
        return msgspec.msgpack.decode(answer, type=int)

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        return int.from_bytes(command[-STAMP:], "big")


def test_model_sees_command_as_it_was_logged() -> None:
    right = run_seed(1, open_store=open_file_store, machine=Clocked, workload=Asking, profile=SHORT)

    class Blind(Asking):
        def as_logged(self, asked: Asked, command: bytes) -> Datum:
            return 0

    wrong = run_seed(1, open_store=open_file_store, machine=Clocked, workload=Blind, profile=SHORT)

    assert not right.failed, right.violation
    assert wrong.failed
