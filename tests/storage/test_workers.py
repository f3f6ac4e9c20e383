"""The threads below a node: order, batches, reports, and an end that no hung disk can put off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import cast

import pytest

from raft_core.effects import Apply, Persist, Restore
from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError, InvariantBroken
from raft_core.events import Applied, Persisted, Restored
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.node.events import JobFailed, NodeEvent, TimerFired
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import DropReceived, Job, Lane
from raft_core.store import Store
from raft_storage import MemoryStore
from raft_storage.workers import Workers


class Bench:
    """Store and work at once: writes wait while it is shut; batches are written down."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.busy = threading.Event()
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.closed = False
        self.reports: SimpleQueue[list[NodeEvent]] = SimpleQueue()
        self.lanes = Workers(cast(Store, self), cast(JobRunner, self), "test")
        self.lanes.start(self.reports.put)

    def inline(self, lane: Lane) -> bool:
        return lane is Lane.APPLY

    def take_blocking(self, jobs: deque[Job]) -> Job | None:
        return None

    def run_machine(self, jobs: deque[Job], enough: Callable[[], bool], *, in_loop: bool) -> list[NodeEvent]:
        batch = list(jobs)
        jobs.clear()
        return self.run(Lane.APPLY, batch)

    def run(self, lane: Lane, jobs: Sequence[Job]) -> list[NodeEvent]:
        self.threads.add(threading.current_thread().name)
        if lane is Lane.CHUNKS:
            raise CallerError("a defect")
        self.busy.set()
        self.open.wait()
        numbers = [job.write for job in jobs if isinstance(job, Persist)]
        self.batches.append(list(numbers))
        return [Persisted(numbers[-1])]

    def close(self) -> None:
        self.closed = True


def write(number: int) -> Persist:
    return Persist(WriteId(number))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_writes_that_wait_together_are_one_batch_in_order(bench: Bench) -> None:
    bench.open.clear()
    bench.lanes.put(Lane.WRITE, write(1))
    bench.busy.wait(10)
    for number in (2, 3, 4):
        bench.lanes.put(Lane.WRITE, write(number))
    bench.open.set()
    assert bench.reports.get(timeout=10) == [Persisted(WriteId(1))]
    assert bench.reports.get(timeout=10) == [Persisted(WriteId(4))]
    assert bench.batches == [[1], [2, 3, 4]]
    bench.lanes.close(10)


def test_a_lane_has_a_thread_of_its_own_and_an_inline_lane_has_none(bench: Bench) -> None:
    bench.lanes.put(Lane.APPLY, write(1))
    assert bench.batches == []
    assert bench.lanes.run_inline() == [Persisted(WriteId(1))]
    assert bench.lanes.run_inline() == []
    assert bench.threads == {threading.current_thread().name}
    bench.lanes.put(Lane.WRITE, write(2))
    bench.lanes.put(Lane.SNAPSHOT, write(3))
    bench.reports.get(timeout=10)
    bench.reports.get(timeout=10)
    assert bench.threads == {threading.current_thread().name, "test write", "test snapshot"}
    bench.lanes.close(10)


def test_a_defect_in_a_lane_is_reported_and_the_lane_lives_on(bench: Bench) -> None:
    for _ in range(2):
        bench.lanes.put(Lane.CHUNKS, DropReceived())
        (report,) = bench.reports.get(timeout=10)
        assert isinstance(report, JobFailed)
        assert report.lane is Lane.CHUNKS
    bench.lanes.close(10)


def test_closing_finishes_the_job_under_way_and_closes_the_store(bench: Bench) -> None:
    bench.open.clear()
    bench.lanes.put(Lane.WRITE, write(1))
    bench.busy.wait(10)
    closing = threading.Thread(target=bench.lanes.close, args=(10,))
    closing.start()
    assert not bench.closed
    bench.open.set()
    closing.join(10)
    assert bench.batches == [[1]]
    assert bench.closed


def test_jobs_that_were_not_begun_when_the_lanes_closed_are_dropped(bench: Bench) -> None:
    bench.open.clear()
    bench.lanes.put(Lane.WRITE, write(1))
    bench.busy.wait(10)
    bench.lanes.put(Lane.WRITE, write(2))
    bench.lanes.close(0.01)
    bench.open.set()
    for thread in threading.enumerate():
        if thread.name == "test write":
            thread.join(10)
    assert bench.batches == [[1]]


def test_a_thread_that_hangs_is_left_behind_after_a_while_with_the_store_that_it_uses(bench: Bench) -> None:
    bench.open.clear()
    bench.lanes.put(Lane.WRITE, write(1))
    bench.busy.wait(10)
    began = time.monotonic()
    bench.lanes.close(0.05)
    assert time.monotonic() - began < 5
    assert not bench.closed
    bench.open.set()
    assert bench.reports.get(timeout=10) == [Persisted(WriteId(1))]


def test_lanes_that_were_never_used_close_the_store_at_once(bench: Bench) -> None:
    bench.lanes.close(10)
    assert bench.closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test ")]


# A lane without a thread, and the one job in it that has one.

META = SnapshotMeta(Index(5), Term(1), Members.initial([1]))


class SlowMachine:
    """Restoring waits while it is shut; all that is done to it is written down, with the thread that did it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.restoring = threading.Event()
        self.done: list[tuple[str, bool]] = []

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        self.note(f"applied {index}")
        return command

    def query(self, request: bytes) -> bytes:
        self.note("asked")
        return request

    def snapshot(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.restoring.set()
        self.open.wait(10)
        state = b"".join(chunks).decode()
        if state == "bad":
            raise SystemExit(state)
        self.note(f"restored {state}")

    def note(self, what: str) -> None:
        self.done.append((what, threading.current_thread() is threading.main_thread()))


def restoring_lanes(machine: SlowMachine, state: bytes) -> tuple[Workers, SimpleQueue[list[NodeEvent]]]:
    store = MemoryStore(1)
    writer = store.create_snapshot(META)
    writer.write(state)
    writer.finish()
    lanes, reports = Workers(store, JobRunner(store, machine), "restoring"), SimpleQueue[list[NodeEvent]]()
    lanes.start(reports.put)
    return lanes, reports


def applying(index: int) -> Apply:
    return Apply(Index(index), ((Index(index), b"x"),), ((Index(index), Index(index)),))


def test_a_machine_is_restored_in_a_thread_and_what_comes_behind_it_waits_its_turn() -> None:
    machine = SlowMachine()
    lanes, reports = restoring_lanes(machine, b"state")
    for job in (applying(1), Restore(META), applying(6)):
        lanes.put(Lane.APPLY, job)

    before = lanes.run_inline()
    machine.restoring.wait(10)
    lanes.put(Lane.APPLY, applying(7))
    meanwhile = lanes.run_inline()
    machine.open.set()
    woken = reports.get(timeout=10)
    after = lanes.run_inline()
    lanes.put(Lane.APPLY, applying(8))

    assert before == [Applied(Index(1), (b"x",))]
    assert meanwhile == []
    assert woken == [TimerFired()]
    assert after == [Restored(Index(5)), Applied(Index(7), (b"x", b"x"))]
    assert lanes.run_inline() == [Applied(Index(8), (b"x",))]
    assert machine.done == [
        ("applied 1", True),
        ("restored state", False),
        ("applied 6", True),
        ("applied 7", True),
        ("applied 8", True),
    ]
    lanes.close(10)


def test_the_machine_has_a_slice_of_each_turn_and_the_rest_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of tens of thousands of small entries would hold up the loop for longer than an election takes."""
    machine = SlowMachine()
    lanes, _ = restoring_lanes(machine, b"state")
    clock = 0.0

    def passing() -> float:
        nonlocal clock
        clock += 0.001
        return clock

    monkeypatch.setattr(time, "monotonic", passing)
    commands = tuple((Index(index), b"x") for index in range(1, 11))
    lanes.put(Lane.APPLY, Apply(Index(10), commands))
    turns = []
    while events := lanes.run_inline():
        turns.append(events)
    monkeypatch.undo()

    assert [report.upto for events in turns for report in events if isinstance(report, Applied)] == [4, 8, 10]
    lanes.close(10)


def test_two_restorings_behind_one_another_are_done_in_order() -> None:
    machine = SlowMachine()
    machine.open.set()
    lanes, reports = restoring_lanes(machine, b"state")
    for job in (Restore(META), Restore(META), applying(6)):
        lanes.put(Lane.APPLY, job)

    events: list[NodeEvent] = lanes.run_inline()
    for _ in range(2):
        reports.get(timeout=10)
        events += lanes.run_inline()

    assert events == [Restored(Index(5)), Restored(Index(5)), Applied(Index(6), (b"x",))]
    assert reports.empty()
    lanes.close(10)


def test_a_restoring_that_fails_in_its_thread_is_told_by_the_loop() -> None:
    machine = SlowMachine()
    machine.open.set()
    lanes, reports = restoring_lanes(machine, b"bad")
    lanes.put(Lane.APPLY, Restore(META))

    assert lanes.run_inline() == []
    assert reports.get(timeout=10) == [TimerFired()]
    (failed,) = lanes.run_inline()

    assert isinstance(failed, JobFailed)
    assert failed.lane is Lane.APPLY
    assert isinstance(failed.error, InvariantBroken)
    lanes.close(10)


def test_a_disk_that_hangs_while_a_machine_is_restored_does_not_hold_up_the_end() -> None:
    machine = SlowMachine()
    lanes, _ = restoring_lanes(machine, b"state")
    lanes.put(Lane.APPLY, Restore(META))
    assert lanes.run_inline() == []
    machine.restoring.wait(10)

    began = time.monotonic()
    lanes.close(0.05)

    assert time.monotonic() - began < 5
    machine.open.set()
    for thread in threading.enumerate():
        if thread.name == "restoring apply":
            thread.join(10)


def test_store_is_closed_where_no_thread_can_be_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    bench.lanes.close(10)

    assert bench.closed
