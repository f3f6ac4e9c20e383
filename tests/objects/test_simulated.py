"""Recipes under the simulator's fire: the promise holds in every history, and a planted bug in each is found."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from raft_core.node.limits import SECOND
from raft_objects import Objects
from raft_objects.lock_table import LockTable
from raft_objects.map_table import MapTable
from raft_objects.queue_table import QueueTable, StoredMessage
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.simulation import Simulation

from .simulated import (
    LockWorkload,
    MapWorkload,
    QueueWorkload,
    SimulatedQueue,
    lock_machine,
    map_machine,
    queue_machine,
    wrong_keys,
    wrong_locks,
    wrong_messages,
)

PROFILE = Profile(chaos=40 * SECOND, operations=200)
FAULTS = frozenset(Fault) - {Fault.CLOCK_RATE, Fault.CLOCK_JUMP}
"""No promise in true time survives a leader whose monotonic clock is wrong. Wall clocks may do what they like."""


def locks_ran(seed: int) -> tuple[str, list[str], int]:
    """Return the simulator's verdict, broken promises, and how often a lock was asked for."""
    workload = LockWorkload()
    simulation = Simulation(
        seed, machine=lock_machine, workload=workload, open_store=open_file_store, profile=PROFILE, only=FAULTS
    )
    violation = simulation.run()
    history = simulation.traffic.history()
    asked = sum(one.kind in ("acquire", "confirm") for one in history)
    return "" if violation is None else violation.text, wrong_locks(workload, history), asked


def queue_ran(seed: int) -> tuple[str, list[str], int]:
    """Return the simulator's verdict, broken promises, and how many messages were put."""
    workload = QueueWorkload()
    machines: list[Objects] = []

    def machine() -> Objects:
        machines.append(queue_machine())
        return machines[-1]

    simulation = Simulation(
        seed, machine=machine, workload=workload, open_store=open_file_store, profile=PROFILE, only=FAULTS
    )
    violation = simulation.run()
    history = simulation.traffic.history()
    last = max(machines, key=lambda one: one.latest_time()).entry("it").instance
    assert isinstance(last, SimulatedQueue)
    put = sum(one.kind == "put" for one in history)
    return "" if violation is None else violation.text, wrong_messages(workload, history, last), put


def map_ran(seed: int) -> tuple[str, list[str], int]:
    """Return the simulator's verdict, broken promises, and how many keys were read."""
    workload = MapWorkload()
    simulation = Simulation(
        seed, machine=map_machine, workload=workload, open_store=open_file_store, profile=PROFILE, only=FAULTS
    )
    violation = simulation.run()
    history = simulation.traffic.history()
    read = sum(one.kind == "get" for one in history)
    return "" if violation is None else violation.text, wrong_keys(workload, history), read


@pytest.mark.parametrize("seed", range(2))
def test_locks_keep_their_promise(seed: int) -> None:
    violation, wrong, asked = locks_ran(seed)

    assert (violation, wrong) == ("", [])
    assert asked > 50


@pytest.mark.parametrize("seed", range(2))
def test_queues_keep_their_promise(seed: int) -> None:
    violation, wrong, put = queue_ran(seed)

    assert (violation, wrong) == ("", [])
    assert put > 50


@pytest.mark.parametrize("seed", range(2))
def test_maps_keep_their_promise(seed: int) -> None:
    violation, wrong, read = map_ran(seed)

    assert (violation, wrong) == ("", [])
    assert read > 50


# Planted bugs: each is found by the promise alone, for the model runs the same code.


def test_lock_that_passes_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    end_leases = LockTable._end_leases

    def early(self: LockTable) -> None:
        for client, lease in list(self.clients.items()):
            if lease.ends - self.now_ns < lease.length // 2:
                self.ends.discard((lease.ends, client))
                self.ends.add((self.now_ns, client))
        end_leases(self)

    monkeypatch.setattr(LockTable, "_end_leases", early)
    assert any(locks_ran(seed)[1] for seed in range(3))


def test_lock_that_is_stolen_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    acquire = LockTable._acquire

    def stolen(self: LockTable, name: str, client: str, owner: str, **given: Any) -> int:
        if name in self.locks:
            self.locks[name] = attrs.evolve(self.locks[name], free=1, waiting={})
        return acquire(self, name, client, owner, **given)

    monkeypatch.setattr(LockTable, "_acquire", stolen)
    assert any(locks_ran(seed)[1] for seed in range(3))


def test_lock_whose_tokens_do_not_rise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockTable, "_next_token", lambda self: 1)
    assert any(locks_ran(seed)[1] for seed in range(3))


def test_queue_that_forgets_what_was_given_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: QueueTable[str], number: int, stored: StoredMessage, delay: float) -> None:
        del self.messages[number]

    monkeypatch.setattr(QueueTable, "_end", forget)
    assert any(queue_ran(seed)[1] for seed in range(3))


def test_queue_that_hides_too_briefly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    take = QueueTable._take
    monkeypatch.setattr(QueueTable, "_take", lambda self, visibility: take(self, visibility / 4))
    assert any(queue_ran(seed)[1] for seed in range(3))


def test_queue_that_delivers_what_was_acknowledged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge = QueueTable.acknowledge

    def keep(self: QueueTable[str], number: int, receipt: int) -> bool:
        return self._out(number, receipt) is not None

    monkeypatch.setattr(acknowledge, "function", keep)
    assert any(queue_ran(seed)[1] for seed in range(3))


def test_map_whose_keys_end_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    set_key = MapTable._set
    monkeypatch.setattr(MapTable, "_set", lambda self, key, value, ttl: set_key(self, key, value, ttl / 4))
    assert any(map_ran(seed)[1] for seed in range(3))


def test_map_that_gives_a_version_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: MapTable[str], key: str, value: str, *, expected: int, ttl: float = 0.0) -> int:
        return expected + 1

    monkeypatch.setattr(MapTable.compare_and_set, "function", careless)
    assert any(map_ran(seed)[1] for seed in range(3))
