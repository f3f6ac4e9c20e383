"""The loop writes itself where the node allows it: in order with the thread, and held up at most once by a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import cast

import pytest

from raft_core.effects import Persist
from raft_core.events import Persisted
from raft_core.ids import WriteId
from raft_core.node.events import JobFailed, NodeEvent
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane
from raft_core.node.sync_patience import SyncPatience
from raft_core.store import Store
from raft_storage.workers import Workers

from ..node.cluster import LogMachine

LOOP = threading.get_ident()


class TimedStore:
    """A store whose writes take `seconds` of its own clock; it notes who did them."""

    def __init__(self) -> None:
        self.seconds = 0.0001
        self.clock = 0.0
        self.broken = False
        self.gate = threading.Event()  # shut, it holds up the thread
        self.gate.set()
        self.written: list[int] = []
        self.in_loop: list[int] = []

    def write(self, batch: Sequence[Persist]) -> None:
        if self.broken:
            raise OSError("no disk")
        if threading.get_ident() != LOOP:
            self.gate.wait()
        self.clock += self.seconds
        self.written += [job.write for job in batch]
        if threading.get_ident() == LOOP:
            self.in_loop += [job.write for job in batch]

    def perf_counter_ns(self) -> int:
        return int(self.clock * 1e9)

    def monotonic(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TimedStore:
    store = TimedStore()
    monkeypatch.setattr("raft_storage.workers.time", store)
    return store


def fast() -> SyncPatience:
    patience = SyncPatience()
    for _ in range(100):
        patience.took(100_000)
    return patience


def open_lanes(store: TimedStore) -> Workers:
    lanes = Workers(cast(Store, store), JobRunner(cast(Store, store), LogMachine()), "inline", fast())
    lanes.start(lambda _events: None)
    return lanes


def turn(lanes: Workers, number: int, *, here: bool) -> list[NodeEvent]:
    """One turn with one write; its reports, which may be of earlier writes."""
    found = lanes.late()
    lanes.put(Lane.WRITE, Persist(WriteId(number)), here=here)
    return found + lanes.run_inline()


def test_fast_disk_is_written_by_the_loop_and_reports_at_once(store: TimedStore) -> None:
    lanes = open_lanes(store)
    assert [turn(lanes, number, here=True) for number in (1, 2)] == [[Persisted(WriteId(1))], [Persisted(WriteId(2))]]
    lanes.close(5.0)
    assert store.in_loop == [1, 2]


def test_writes_of_one_turn_are_one_batch(store: TimedStore) -> None:
    lanes = open_lanes(store)
    lanes.put(Lane.WRITE, Persist(WriteId(1)), here=True)
    assert lanes.inline_waiting
    lanes.put(Lane.WRITE, Persist(WriteId(2)))  # the node has begun to lead meanwhile: the order counts
    assert lanes.run_inline() == [Persisted(WriteId(2))]
    assert not lanes.inline_waiting
    lanes.close(5.0)
    assert store.in_loop == [1, 2]


def test_thread_writes_where_the_node_does_not_allow_the_loop_to(store: TimedStore) -> None:
    lanes = open_lanes(store)
    for number in range(1, 20):
        turn(lanes, number, here=False)
    lanes.close(5.0)
    assert store.in_loop == []


@pytest.mark.parametrize("hang", [0.1, 1.0, 60.0])
def test_loop_is_held_up_once_by_a_disk_that_hangs_and_every_write_is_reported_once_in_order(
    store: TimedStore, hang: float
) -> None:
    lanes = open_lanes(store)
    seen: list[int] = []
    for number in range(1, 61):
        store.seconds = hang if 20 <= number < 25 else 0.0001
        seen.extend(event.upto for event in turn(lanes, number, here=True) if isinstance(event, Persisted))
    deadline = time.monotonic() + 10
    while not seen or seen[-1] < 60:
        assert time.monotonic() < deadline
        time.sleep(0.001)
        seen.extend(event.upto for event in lanes.late() if isinstance(event, Persisted))
    lanes.close(5.0)

    assert store.in_loop == list(range(1, 21)), "the first write that hangs is the last one of the loop"
    assert store.written == list(range(1, 61))
    assert seen == sorted(set(seen))


def test_failure_of_the_disk_in_the_loop_is_a_report(store: TimedStore) -> None:
    lanes = open_lanes(store)
    store.broken = True
    (failed,) = turn(lanes, 1, here=True)
    lanes.close(5.0)
    assert isinstance(failed, JobFailed)
    assert failed.lane is Lane.WRITE


def test_loop_does_not_overtake_a_write_that_is_with_the_thread(store: TimedStore) -> None:
    lanes = open_lanes(store)
    store.gate.clear()
    lanes.put(Lane.WRITE, Persist(WriteId(1)))  # the node led until now
    lanes.put(Lane.WRITE, Persist(WriteId(2)), here=True)
    found = lanes.run_inline()
    store.gate.set()
    deadline = time.monotonic() + 10
    while Persisted(WriteId(2)) not in found:
        assert time.monotonic() < deadline
        time.sleep(0.001)
        found += lanes.late()
    lanes.close(10.0)
    assert store.written == [1, 2]
    assert store.in_loop == []
