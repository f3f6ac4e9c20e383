"""`Workers`: the threads for a node's blocking work, so that a slow or hung disk never stops its loop.

Plain threads and queues, shared by all adapters, without an event loop: a lane passes its reports to the callable
`report`, which the adapter makes thread-safe.

Each lane that may block has its own thread. Measured on a machine of two cores, write and `fdatasync` of 4 KiB, from
the loop and back to it, in µs (median of 600; without the sync in brackets): done in the loop 110 (0), a thread of its
own and a trio token 193 (37), `trio.to_thread` 258 (56); on asyncio `call_soon_threadsafe` 176 (31),
`anyio.from_thread` 225 (40), `anyio.to_thread` 220 (56); on uvloop 156 (22), 176 (29) and 192 (44). A pool costs as
much as the thread switch itself once more.

The lane of a machine that does not block has no thread: the loop does its jobs. There are two exceptions, during which
the jobs behind them wait: restoring the machine, which reads the disk and takes seconds for a large state, and a single
command that the machine calls long. The other jobs run in slices of time, with turns of the loop between.

The threads are daemons. A thread that hangs in a system call of a dead disk can neither be cancelled nor joined;
`close` waits for it for a bounded time and then abandons it, and with it the store, which it may still use.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

from raft_core.errors import DiskError, InvariantBroken, RaftError
from raft_core.events import SnapshotTaken
from raft_core.node.events import JobFailed, NodeEvent, TimerFired
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Job, Lane
from raft_core.node.meter import WorkTimes
from raft_core.node.sync_patience import SyncPatience
from raft_core.store import Store
from raft_storage.short_wait import ShortWait

__all__ = ["Report", "Workers"]

_SLICE_SECONDS: Final = 0.005
"""Time of the machine in one turn of the loop, plus one more command or query."""

Report: TypeAlias = Callable[[list[NodeEvent]], object]
"""Called on a lane's thread with the reports of its jobs."""


class Workers:
    """Every lane of one node, and the store below them."""

    def __init__(self, store: Store, work: JobRunner, name: str, patience: SyncPatience | None = None) -> None:
        self._wait: Final = None if patience is None else ShortWait(patience)
        self._here: list[Job] = []  # writes that the loop is about to do itself, before it queues others
        self._store: Final = store
        self._work: Final = work
        self._report: Report = _nobody
        self._times = WorkTimes()
        self._workers: Final[dict[Lane, _Worker]] = {lane: _Worker(self, lane, f"{name} {lane.value}") for lane in Lane}
        self._inline: Final[dict[Lane, _InlineLane]] = {
            lane: _InlineLane(self, work, lane, self._workers[lane]) for lane in Lane if work.inline(lane)
        }

    def start(self, report: Report) -> None:
        """Accept jobs from now on; give their reports to `report`, on the lane's thread."""
        self._report = report

    def measure(self, times: WorkTimes) -> None:
        """Put the durations of jobs into `times` from now on; to be called before `start`."""
        self._times = times

    def took(self, lane: Lane, began: int, events: list[NodeEvent]) -> None:
        """Measure a run of the lane's jobs that began at this time of `time.perf_counter_ns` and had these reports."""
        duration = time.perf_counter_ns() - began
        if lane is not Lane.SNAPSHOT:
            self._times.took(lane, duration)
        elif any(type(event) is SnapshotTaken for event in events):
            self._times.stored_snapshot(duration, self._work.stored_bytes)

    def put(self, lane: Lane, job: Job, *, here: bool = False) -> None:
        """Queue the job behind its lane's others. `here`: a write that the loop may do itself. For the loop."""
        if lane is Lane.WRITE:
            if self._here or (here and self._wait is not None and self._wait.inline()):
                self._here.append(job)
                return
            if self._wait is not None:
                self._wait.begin()
            self._workers[lane].put(job)
            return
        inline = self._inline.get(lane)
        if inline is None:
            self._workers[lane].put(job)
        else:
            inline.jobs.append(job)

    def late(self) -> list[NodeEvent]:
        """Return the reports that were not passed to `report`, which only woke the loop. For the loop."""
        return [] if self._wait is None else self._wait.late()

    def run_inline(self) -> list[NodeEvent]:
        """Run the queued jobs of lanes without a thread, as many as fit into a slice of time; return their reports.

        If the disk is fast (`SyncPatience`), also write where the loop may, or wait a moment for the writes of this
        turn. For the loop.
        """
        events: list[NodeEvent] = self._write_here() if self._here else []
        for lane in self._inline.values():
            if lane.jobs or lane.away:
                events += lane.run()
        return events if self._wait is None else events + self._wait.take()

    def _write_here(self) -> list[NodeEvent]:
        assert self._wait is not None
        jobs, self._here = self._here, []
        began = time.perf_counter_ns()
        events = self._reports_of(Lane.WRITE, lambda: self._work.run(Lane.WRITE, jobs))
        self.took(Lane.WRITE, began, events)
        self._wait.took_inline(time.perf_counter_ns() - began)
        return events

    @property
    def inline_waiting(self) -> bool:
        """True if `run_inline` has something to do in the loop's next turn. For the loop."""
        if self._here:
            return True
        if self._wait is not None and self._wait.waiting:  # for a write queued after the last `run_inline`
            return True
        return any(lane.jobs and not lane.away for lane in self._inline.values())

    def run(self, lane: Lane, jobs: list[Job]) -> None:
        """Run and report the jobs. For the lane's thread, which must not die unnoticed."""
        if lane is Lane.APPLY:
            self._run_machine(jobs)
            return
        self._hand_over(lane, partial(self._work.run, lane, jobs), len(jobs))

    def _run_machine(self, jobs: list[Job]) -> None:
        """Report the machine's jobs in parts of bounded size."""
        queue = deque(jobs)
        if Lane.APPLY in self._inline:  # one job, which the loop waits for
            self._hand_over(Lane.APPLY, lambda: self._work.run(Lane.APPLY, jobs))
            return
        while queue:
            self._hand_over(Lane.APPLY, lambda: self._work.run_machine(queue, _Slice()))

    def _hand_over(self, lane: Lane, work: Callable[[], list[NodeEvent]], jobs: int = 1) -> None:
        began = time.perf_counter_ns()
        events = self._reports_of(lane, work)
        self.took(lane, began, events)
        if lane is Lane.WRITE and self._wait is not None:
            if not self._wait.give(events, jobs, time.perf_counter_ns() - began):
                self._report([TimerFired()])
            return
        inline = self._inline.get(lane)
        if inline is None:
            self._report(events)
            return
        inline.back.put(events)  # the loop handles it in order with its own jobs and only has to be woken
        self._report([TimerFired()])

    def _reports_of(self, lane: Lane, work: Callable[[], list[NodeEvent]]) -> list[NodeEvent]:
        try:
            return work()
        except RaftError as failure:
            return [JobFailed(lane, failure)]
        except BaseException as failure:  # a machine may raise SystemExit: the lane must not end silently
            return [_failed(lane, failure)]

    def died(self, lane: Lane, failure: BaseException) -> None:
        """Report that the lane's thread ends: a node that waits for it would hang. For the lane's thread."""
        self._report([_failed(lane, failure)])

    def close(self, seconds: float) -> None:
        """End every thread and close the store, within `seconds`. Blocks; queued jobs are dropped."""
        give_up = time.monotonic() + seconds
        for worker in self._workers.values():
            worker.stop()
        if all(worker.join(give_up) for worker in self._workers.values()):
            closing = threading.Thread(target=self._close_store, daemon=True)
            try:
                closing.start()
            except RuntimeError:  # Python >= 3.12 starts no thread once the interpreter ends: close here, however long
                self._close_store()
                return
            _join(closing, give_up)

    def _close_store(self) -> None:
        self._work.close()
        with suppress(DiskError):  # everything acknowledged is synced; a failing close loses nothing
            self._store.close()


def _nobody(_events: list[NodeEvent]) -> None:
    """Ignore events: before `start` there are no jobs."""


def _failed(lane: Lane, failure: BaseException) -> JobFailed:
    error = InvariantBroken(f"a job of the {lane.value} lane raised {type(failure).__name__}: {failure}")
    error.__cause__ = failure
    return JobFailed(lane, error)


def _join(thread: threading.Thread, give_up: float) -> bool:
    thread.join(max(0.0, give_up - time.monotonic()))
    return not thread.is_alive()


class _InlineLane:
    """A lane run by the loop, in order; while a thread runs a blocking job of it, those behind it wait."""

    def __init__(self, lanes: Workers, work: JobRunner, lane: Lane, worker: _Worker) -> None:
        self._lanes: Final = lanes
        self._work: Final = work
        self._lane: Final = lane
        self._worker: Final = worker
        self.jobs: Final[deque[Job]] = deque()
        self.back: Final[SimpleQueue[list[NodeEvent]]] = SimpleQueue()
        self.away = False

    def run(self) -> list[NodeEvent]:
        """Run the jobs that fit into one slice of time; return their reports. For the loop."""
        events: list[NodeEvent] = []
        if self.away:
            try:
                events += self.back.get_nowait()
            except Empty:
                return events
            self.away = False
        enough = _Slice()
        while self.jobs and not enough():
            job = self._work.take_blocking(self.jobs)
            if job is not None:
                self.away = True
                self._worker.put(job)
                break
            began = time.perf_counter_ns()
            reports = self._work.run_machine(self.jobs, enough, in_loop=True)
            self._lanes.took(self._lane, began, reports)
            events += reports
        return events


class _Slice:
    """Callable that returns True once a slice of time is used up."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end: Final = time.monotonic() + _SLICE_SECONDS

    def __call__(self) -> bool:
        return time.monotonic() >= self._end


class _Worker:
    """One lane's thread, started with its first job."""

    def __init__(self, lanes: Workers, lane: Lane, name: str) -> None:
        self._lanes: Final = lanes
        self._lane: Final = lane
        self._queue: Final[SimpleQueue[Job | None]] = SimpleQueue()
        self._thread: Final = threading.Thread(target=self._main, name=name, daemon=True)
        self._stopping = False

    def put(self, job: Job) -> None:
        self._queue.put(job)
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._queue.put(None)

    def join(self, give_up: float) -> bool:
        return self._thread.ident is None or _join(self._thread, give_up)

    def _main(self) -> None:
        while (first := self._queue.get()) is not None and not self._stopping:
            try:
                self._lanes.run(self._lane, self._batch(first))
            except BaseException as failure:  # a mistake in this module
                self._lanes.died(self._lane, failure)
                raise

    def _batch(self, first: Job) -> list[Job]:
        """Return everything queued: writes that wait together share one sync."""
        jobs, queue = [first], self._queue
        while not queue.empty():  # only this thread takes
            job = queue.get_nowait()
            if job is None:  # the end marker: put it back for the next round
                queue.put(None)
                break
            jobs.append(job)
        return jobs
