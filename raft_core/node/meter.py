"""`Meter`: takes the measurements of a node. `WorkTimes`: the part that its workers take.

Always on, so it is cheap: a measurement is a search in 21 bounds and two additions, some 0.3 µs. There is no clock
here: the node passes its present time, and the workers the durations of their jobs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final, final

from raft_core.effects import Indeterminate, Persist, RoleChanged, Success
from raft_core.ids import NO_NODE, Index, NodeId, Term, WriteId
from raft_core.node.events import Answered
from raft_core.node.jobs import Lane
from raft_core.node.measured import BOUNDS, HistogramValue, Measured
from raft_core.raft import Raft
from raft_core.requests import NodeRequest, OpenBackup, Propose, Read, ReadBackup, TransferLeadership

__all__ = ["Histogram", "Meter", "WorkTimes"]

_KINDS: Final[dict[type, str]] = {TransferLeadership: "transfer", OpenBackup: "backup", ReadBackup: "backup"}
_MOST_OPEN: Final = 4096
"""Batches measured until they are committed. Without a majority they pile up; those beyond are not measured."""


@final
class Histogram:
    """Counts durations by bucket. One thread adds; others may read meanwhile, and then miss the newest at most."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts: Final = [0] * (len(BOUNDS) + 1)
        self._total = 0

    def add(self, duration: int) -> None:
        """Count a duration in nanoseconds."""
        self._counts[bisect_left(BOUNDS, duration)] += 1
        self._total += duration

    @property
    def value(self) -> HistogramValue:
        """Return the present counts."""
        return HistogramValue(tuple(self._counts), self._total)


@final
class WorkTimes:
    """Durations of jobs. Each lane has one worker, which alone changes the lane's numbers."""

    __slots__ = ("apply", "snapshot_bytes", "snapshot_duration", "snapshots", "sync")

    def __init__(self) -> None:
        self.sync: Final = Histogram()
        self.apply: Final = Histogram()
        self.snapshots = 0
        self.snapshot_duration = 0
        self.snapshot_bytes = 0

    def took(self, lane: Lane, duration: int) -> None:
        """Note that one run of the lane's jobs took this many nanoseconds."""
        if lane is Lane.WRITE:
            self.sync.add(duration)
        elif lane is Lane.APPLY:
            self.apply.add(duration)

    def stored_snapshot(self, duration: int, size: int) -> None:
        """Note that a snapshot of `size` bytes was stored in this many nanoseconds."""
        self.snapshots += 1
        self.snapshot_duration, self.snapshot_bytes = duration, size


@final
class Meter:
    """Takes the measurements of one node. `work` is filled by its workers; `has_proposed` is set with each batch."""

    __slots__ = ("_append", "_commit", "_leader", "_leader_changes", "_reads", "_requests", "_writes",
                 "_written", "has_proposed", "uncommitted", "work")  # fmt: skip

    def __init__(self) -> None:
        self.work: Final = WorkTimes()
        self._append: Final = Histogram()
        self._commit: Final = Histogram()
        self._writes: Final = Histogram()
        self._reads: Final = Histogram()
        self._written: Final[deque[tuple[WriteId, int]]] = deque()
        self.uncommitted: Final[deque[tuple[Index, int]]] = deque()
        self.has_proposed = False
        self._leader: tuple[NodeId, Term] = (NO_NODE, Term(0))
        self._leader_changes = 0
        self._requests: Final[dict[tuple[str, str, str], int]] = {}

    # The log.

    def ordered(self, persist: Persist, now: int) -> None:
        """Note that the write is ordered."""
        self._written.append((persist.write, now))

    def persisted(self, write: WriteId, now: int) -> None:
        """Measure all writes up to `write`: they are durable."""
        written = self._written
        while written and written[0][0] <= write:
            self._append.add(now - written.popleft()[1])

    def look(self, raft: Raft | None, now: int, *, leads: bool) -> None:
        """Note a batch proposed in this turn, and measure the batches that are committed now."""
        waiting = self.uncommitted
        if self.has_proposed:
            self.has_proposed = False
            if leads and raft is not None and len(waiting) < _MOST_OPEN:
                waiting.append((raft.log.last_index, now))
        if not waiting or raft is None:
            return
        commit = raft.commit
        while waiting and waiting[0][0] <= commit:
            self._commit.add(now - waiting.popleft()[1])

    def role_changed(self, change: RoleChanged) -> None:
        """Count a leader that is not the one before. Forget proposals: this node may not learn when they commit."""
        self.uncommitted.clear()
        if change.leader != NO_NODE and (change.leader, change.term) != self._leader:
            self._leader = (change.leader, change.term)
            self._leader_changes += 1

    # Requests.

    def answered(self, request: NodeRequest, outcome: Answered, duration: int) -> None:
        """Count and measure the answer to a local caller's request."""
        kind = "write"
        if type(request) is Propose:
            self._writes.add(duration)
        elif type(request) is Read:
            kind = "read"
            self._reads.add(duration)
        else:
            kind = _KINDS.get(type(request), "members")
        if type(outcome) is Success:
            key = (kind, "done", "")
        else:
            name = "indeterminate" if type(outcome) is Indeterminate else "refused"
            key = (kind, name, outcome.reason.value)
        self._requests[key] = self._requests.get(key, 0) + 1

    @property
    def value(self) -> Measured:
        """Return all measurements."""
        work = self.work
        return Measured(
            append=self._append.value,
            sync=work.sync.value,
            commit=self._commit.value,
            apply=work.apply.value,
            writes=self._writes.value,
            reads=self._reads.value,
            leader_changes=self._leader_changes,
            requests=tuple(sorted((*key, count) for key, count in self._requests.items())),
            snapshots=work.snapshots,
            snapshot_duration=work.snapshot_duration,
            snapshot_bytes=work.snapshot_bytes,
        )
