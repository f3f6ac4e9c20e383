"""Leases in simulated clusters whose wall clocks step: none ends early or late, and what is gone stays gone."""

from __future__ import annotations

import pytest

from raft_core.node.cluster_time import ClusterTime
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_testing.__main__ import open_file_store
from raft_testing.checkers.cluster_time import ClusterTimeChecker
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.sim.simulation import Simulation
from raft_testing.workloads.leases import LEASE, LeaseMachine, LeaseWorkload

FAULTS = frozenset({Fault.WALL_CLOCK, Fault.TRANSFER, Fault.ISOLATE_LEADER, Fault.PARTITION})


def ran(seed: int) -> tuple[str, tuple[Operation, ...]]:
    profile = Profile(chaos=60 * SECOND, operations=300, fault_chance=1.0, mean_interval=8 * SECOND)
    simulation = Simulation(
        seed, machine=LeaseMachine, workload=LeaseWorkload(), open_store=open_file_store, profile=profile, only=FAULTS
    )
    violation = simulation.run()
    return "" if violation is None else violation.text, simulation.traffic.history()


def wrong_leases(history: tuple[Operation, ...], late: int) -> list[str]:
    """Leases that true time contradicts: taken by another too early, seen too late, or seen again."""
    seen: dict[tuple[Datum, Datum], list[Operation]] = {}
    for one in history:
        if one.fate is Fate.ANSWERED and one.kind == "take":
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
        assert len({one.result for one in history if one.kind == "take"}) > 15
        assert wrong_leases(history, late=2 * SECOND) == []


def test_leases_by_wall_clocks_are_found_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def wall_clock(time: ClusterTime, leading: Raft | None, now: int, wall: int) -> int:
        return wall if leading is not None else 0

    monkeypatch.setattr(ClusterTime, "to_stamp", wall_clock)
    monkeypatch.setattr(ClusterTimeChecker, "applied", lambda checker, index, command, node: None)
    assert any(wrong_leases(ran(seed)[1], late=2 * SECOND) for seed in range(4))
