"""The threads below a node: order, batches, reports, and an end that no hung disk can put off."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import cast

import pytest

from raft_core.effects import Persist
from raft_core.errors import CallerError
from raft_core.host.jobs import (
    DropReceived,
    Job,
    Lane,
    Write,
)
from raft_core.host.values import HostEvent, JobFailed, Wrote
from raft_core.host.work import Work
from raft_core.ids import WriteId
from raft_core.storage import Store
from raft_storage.lanes import Lanes


class Bench:
    """Store and work at once: writes wait while it is shut; batches are written down."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.busy = threading.Event()
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.closed = False
        self.reports: SimpleQueue[list[HostEvent]] = SimpleQueue()
        self.lanes = Lanes(cast(Store, self), cast(Work, self), "test")
        self.lanes.start(self.reports.put)

    def inline(self, lane: Lane) -> bool:
        return lane is Lane.APPLY

    def run(self, lane: Lane, jobs: Sequence[Job]) -> list[HostEvent]:
        self.threads.add(threading.current_thread().name)
        if lane is Lane.TRANSFER:
            raise CallerError("a defect")
        self.busy.set()
        self.open.wait()
        numbers = [job.persist.write for job in jobs if isinstance(job, Write)]
        self.batches.append(list(numbers))
        return [Wrote(numbers[-1])]

    def close(self) -> None:
        self.closed = True


def write(number: int) -> Write:
    return Write(Persist(WriteId(number)))


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
    assert bench.reports.get(timeout=10) == [Wrote(WriteId(1))]
    assert bench.reports.get(timeout=10) == [Wrote(WriteId(4))]
    assert bench.batches == [[1], [2, 3, 4]]
    bench.lanes.close(10)


def test_a_lane_has_a_thread_of_its_own_and_an_inline_lane_has_none(bench: Bench) -> None:
    bench.lanes.put(Lane.APPLY, write(1))
    assert bench.batches == []
    assert bench.lanes.run_inline() == [Wrote(WriteId(1))]
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
        bench.lanes.put(Lane.TRANSFER, DropReceived())
        (report,) = bench.reports.get(timeout=10)
        assert isinstance(report, JobFailed)
        assert report.lane is Lane.TRANSFER
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
    assert bench.reports.get(timeout=10) == [Wrote(WriteId(1))]


def test_lanes_that_were_never_used_close_the_store_at_once(bench: Bench) -> None:
    bench.lanes.close(10)
    assert bench.closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test ")]
