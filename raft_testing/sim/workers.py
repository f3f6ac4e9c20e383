"""The workers of one simulated node: jobs of its disk and its state machine, in order, each taking virtual time.

`SimulatedWorkers` holds the queues of one life, and tells the model of the disk what a write may leave and must leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final

from raft_core.effects import Persist
from raft_core.events import Applied, Persisted
from raft_core.ids import NodeId, WriteId
from raft_core.node.events import Formed, JobFailed, NodeEvent
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import FormCluster, Job, Lane
from raft_core.node.limits import MILLISECOND
from raft_core.recovered import formation
from raft_testing.checkers.safety import Watched
from raft_testing.disk.crash_disk import CrashDisk, FaultKind
from raft_testing.disk.crash_disk import Fault as DiskFault
from raft_testing.rng import Rng
from raft_testing.sim.environment import Environment

__all__ = ["MOST_HELD", "SimulatedWorkers", "WorkingNode"]

MOST_HELD: Final = 1024 * 1024
"""Most bytes of results in the reports of one turn, not counting the largest result."""


class WorkingNode(Protocol):
    """A simulated node, as its workers see it."""

    wiped: bool

    @property
    def id(self) -> NodeId:
        """The node's id."""
        ...

    @property
    def world(self) -> Environment:
        """The node's surroundings."""
        ...

    @property
    def rng(self) -> Rng:
        """The node's random generator."""
        ...

    @property
    def disk(self) -> CrashDisk:
        """The node's disk."""
        ...

    @property
    def work(self) -> JobRunner | None:
        """The runner of the node's jobs; None while the node is down."""
        ...

    @property
    def watched(self) -> Watched:
        """The checkers' view of the node."""
        ...

    @property
    def slow_disk(self) -> int:
        """Nanoseconds added to every write."""
        ...

    @property
    def write_time(self) -> int:
        """Mean nanoseconds of a write."""
        ...

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Take the action after this delay, unless the node has died by then."""
        ...

    def tell(self, *events: NodeEvent) -> None:
        """Give the node these events."""
        ...

    def power_lost(self) -> None:
        """Let the node die of a power loss in the middle of a disk call."""
        ...


@final
class SimulatedWorkers:
    """The workers of one life. Each takes all jobs waiting in its lane, and completes them some time later."""

    def __init__(self, node: WorkingNode) -> None:
        self._node = node
        self._waiting: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._running: dict[Lane, list[Job]] = {}

    def queue_job(self, lane: Lane, job: Job) -> None:
        """Let the lane's worker do the job, in order."""
        self._waiting[lane].append(job)
        self._work_on(lane)

    def busy(self, lane: Lane) -> bool:
        """Something is under way in the lane's worker, or waits for it."""
        return lane in self._running or bool(self._waiting[lane])

    def done_in_loop(self, jobs: deque[Job]) -> list[NodeEvent]:
        """Return the reports of the loop's own jobs, of as many as fit into a slice of time."""
        node = self._node
        assert node.work is not None
        left = iter(range(1 + node.rng.below(8)))
        reports = node.work.run_machine(jobs, lambda: next(left, None) is None, in_loop=True)
        sizes = [len(result) for report in reports if type(report) is Applied for result in report.results]
        if sum(sizes) - max(sizes, default=0) > MOST_HELD:
            node.world.fail(f"node {node.id}: reports of the machine hold {sum(sizes)} bytes at once")
        if jobs:
            node.world.seen["machine: a page in several slices"] += 1
        return reports

    def finish_writes(self) -> None:
        """Finish the write lane's work up to some point before the process ends."""
        node = self._node
        assert node.work is not None
        jobs = self._running.pop(Lane.WRITE, []) or list(self._waiting[Lane.WRITE])
        if not jobs or not node.rng.chance(0.6):
            return
        self._hand_over(jobs)
        if node.rng.chance(0.5):
            at = node.disk.calls + 1 + node.rng.below(6)
            node.disk.faults[at] = DiskFault(FaultKind.POWER, node.rng.below(3000))
            node.world.seen["power lost in the middle of a write"] += 1
        node.work.run(Lane.WRITE, jobs)
        node.world.seen["crash between persist and report"] += 1

    def _work_on(self, lane: Lane) -> None:
        if lane in self._running or not self._waiting[lane]:
            return
        jobs = list(self._waiting[lane])
        self._waiting[lane].clear()
        self._running[lane] = jobs
        self._node.at(self._duration(lane), lambda: self._work_done(lane))

    def _duration(self, lane: Lane) -> int:
        """Return the nanoseconds of a worker's next batch."""
        node = self._node
        if lane is Lane.WRITE:
            return node.slow_disk + node.rng.around(node.write_time)
        if lane is Lane.APPLY:
            return node.rng.below(3) * MILLISECOND
        return node.rng.around(5 * node.write_time)

    def _work_done(self, lane: Lane) -> None:
        node = self._node
        jobs = self._running.pop(lane)
        assert node.work is not None
        if lane is Lane.WRITE:
            self._hand_over(jobs)
        reports = node.work.run(lane, jobs)
        if node.disk.off:
            node.power_lost()
            return
        for report in reports:
            self._note(lane, report)
        if reports:
            node.tell(*reports)
        self._work_on(lane)

    def _hand_over(self, jobs: list[Job]) -> None:
        """Tell the disk model which writes may be found from now on."""
        stable = self._node.watched.stable
        for job in jobs:
            if type(job) is Persist:
                stable.pending.append(job)
            elif type(job) is FormCluster:
                hard, entry = formation(job.members)
                stable.pending.append(Persist(WriteId(0), hard=hard, entries=(entry,)))

    def _note(self, lane: Lane, report: NodeEvent) -> None:
        """Tell the disk model which writes must be found from now on."""
        node = self._node
        if type(report) is Persisted:
            node.watched.stable.done(report.upto)
        elif type(report) is Formed:
            node.watched.stable.done(WriteId(0))
            node.watched.told.load(report.recovered)
            node.world.safety.founded(node.watched, report.recovered)
            node.wiped = False  # its new disk is the one that the cluster was founded with, or this is a violation
        elif type(report) is JobFailed and lane is Lane.SNAPSHOT:
            node.world.seen["snapshot not stored"] += 1
