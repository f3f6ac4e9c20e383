"""Leases in simulated clusters whose wall clocks step: none ends early or late, and what is gone stays gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import pytest

from raft_core.ids import Index
from raft_core.node.cluster_time import ClusterTime
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.rng import Rng
from raft_testing.sim.simulation import Simulation
from raft_testing.workloads.registers import Asked

LEASE = 2 * SECOND
FAULTS = frozenset({Fault.WALL_CLOCK, Fault.TRANSFER, Fault.ISOLATE_LEADER, Fault.PARTITION})


class Leases:
    """Each command takes a lease for its number, if it is free, and is answered with the holder's number."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, int]] = {}

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return msgspec.msgpack.encode((now, *msgspec.msgpack.decode(command)))

    def apply(self, index: Index, command: bytes) -> bytes:
        now, name, number = msgspec.msgpack.decode(command, type=tuple[int, str, int])
        holder, end = self.held.get(name, (0, 0))
        if now >= end:
            holder = number
            self.held[name] = (number, now + LEASE)
        return b"%d" % holder

    def query(self, request: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterator[bytes]:
        return iter([msgspec.msgpack.encode(self.held)])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.held = msgspec.msgpack.decode(b"".join(chunks), type=dict[str, tuple[int, int]])


class Model:
    """What `Leases` does to one lease, once it is known what was stamped."""

    def initial(self, key: Datum) -> Datum:
        return (0, 0)

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        assert isinstance(state, tuple)
        assert isinstance(argument, tuple)
        (holder, end), (now, number) = state, argument
        assert isinstance(now, int)
        assert isinstance(end, int)
        return (state, holder) if now < end else ((number, now + LEASE), number)

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return False


class Taking:
    """Clients that try to take one of three leases."""

    model = Model()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        name = rng.choice("abc")
        return Asked("take", name, (0, number), msgspec.msgpack.encode((name, number)))

    def result(self, asked: Asked, answer: bytes) -> Datum:
        return int(answer)

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        now, _, number = msgspec.msgpack.decode(command, type=tuple[int, str, int])
        return (now, number)


def ran(seed: int) -> tuple[str, tuple[Operation, ...]]:
    profile = Profile(chaos=60 * SECOND, operations=300, fault_chance=1.0, mean_interval=8 * SECOND)
    simulation = Simulation(
        seed, machine=Leases, workload=Taking(), open_store=open_file_store, profile=profile, only=FAULTS
    )
    violation = simulation.run()
    return "" if violation is None else violation.text, simulation.history.history()


def wrong_leases(history: tuple[Operation, ...], late: int) -> list[str]:
    """Leases that true time contradicts: taken by another too early, seen too late, or seen again."""
    seen: dict[tuple[Datum, Datum], list[Operation]] = {}
    for one in history:
        if one.fate is Fate.ANSWERED:
            seen.setdefault((one.key, one.result), []).append(one)
    wrong: list[str] = []
    for (key, holder), times in seen.items():
        taken = next((one for one in times if isinstance(one.argument, tuple) and one.argument[1] == holder), None)
        if taken is None:
            continue
        assert taken.returned_at is not None
        wrong += [f"{key!r} late: {one}" for one in times if one.invoked_at > taken.returned_at + LEASE + late]
        for (other_key, other), others in seen.items():
            after = [one for one in others if one.invoked_at > taken.returned_at]
            if other_key != key or other == holder or not after:
                continue
            first = min(one.returned_at for one in after if one.returned_at is not None)
            if first < taken.invoked_at + LEASE:
                wrong.append(f"{key!r} early: {other!r} holds it at {first}")
            wrong += [f"{key!r} again: {one}" for one in times if one.invoked_at > first]
    return wrong


def test_leases_last_as_long_as_they_should_whatever_wall_clocks_do() -> None:
    for seed in range(4):
        violation, history = ran(seed)
        assert not violation
        assert len({one.result for one in history}) > 20
        assert wrong_leases(history, late=2 * SECOND) == []


def test_leases_by_wall_clocks_are_found_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def wall_clock(time: ClusterTime, leading: Raft | None, now: int, wall: int) -> int:
        return wall if leading is not None else 0

    monkeypatch.setattr(ClusterTime, "to_stamp", wall_clock)
    monkeypatch.setattr("raft_testing.stamps.Stamps.applied", lambda stamps, index, command, node: None)
    assert any(wrong_leases(ran(seed)[1], late=2 * SECOND) for seed in range(4))
