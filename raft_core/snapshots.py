"""Snapshots (§7): when to take one, the switch of the disk to it, how much log to keep, and those from a leader."""

from __future__ import annotations

from typing import Final, final

from raft_core.apply import ApplyPipeline
from raft_core.compiled import mypyc_attr
from raft_core.effects import ReceiveSnapshot, TakeSnapshot
from raft_core.entries import START, LogPosition, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, NO_WRITE, Index, WriteId
from raft_core.log import Log
from raft_core.membership_history import MembershipHistory
from raft_core.outbox import Outbox
from raft_core.recovered import Recovered
from raft_core.settings import Settings

__all__ = ["Snapshots", "base_after_snapshot", "crowded", "log_at_start"]

_MOST_DOUBLINGS: Final = 7
"""Upper limit of the exponent by which a failed snapshot's retry delay grows: about a minute by default."""


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Snapshots:
    """The newest snapshot, one being taken, one being received, and one being installed."""

    __slots__ = (
        "bytes_since_snapshot",
        "configurations",
        "due_at",
        "failures",
        "installing",
        "log",
        "newest",
        "outbox",
        "pending",
        "pipeline",
        "receiving",
        "retry_at",
        "settings",
        "write",
    )

    def __init__(
        self,
        settings: Settings,
        log: Log,
        outbox: Outbox,
        pipeline: ApplyPipeline,
        configurations: MembershipHistory,
        newest: SnapshotMeta | None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.outbox = outbox
        self.pipeline = pipeline
        self.configurations = configurations
        self.newest: SnapshotMeta | None = None  # the one that the disk was switched to last
        self.due_at: Index = Index(settings.snapshot_entries)  # take one when this index is applied
        self.write = NO_WRITE  # the write that switches to `newest`
        self.bytes_since_snapshot = 0  # applied since `newest`
        self.pending: Index = NO_INDEX  # a TakeSnapshot not yet reported
        self.failures = 0  # in a row, since the last success
        self.retry_at = 0  # tick of the next attempt after a failure
        self.receiving: ReceiveSnapshot | None = None  # an incoming transfer under way
        self.installing: tuple[WriteId, SnapshotMeta] | None = None  # restore when this write is durable
        if newest is not None:
            self._switched_to(newest)

    def _switched_to(self, newest: SnapshotMeta) -> None:
        self.newest = newest
        self.due_at = Index(newest.index + self.settings.snapshot_entries)

    @property
    def index(self) -> Index:
        """The index of the newest snapshot, or 0."""
        return self.newest.index if self.newest is not None else NO_INDEX

    @property
    def to_offer(self) -> SnapshotMeta | None:
        """The newest snapshot, or None while the switch to it is not durable.

        Example: A offers snapshot 100 too early, sends half of it to B and crashes. After the restart A's machine
        writes other bytes under the same index and term, and B would join halves of two files.
        """
        return self.newest if self.write <= self.outbox.durable else None

    # Our own.

    def take_if_free(self, now: int) -> None:
        """Order a snapshot unless one is being taken: enough was applied since the last one."""
        if self.pending == NO_INDEX:
            self._take(now)

    def on_requested(self, index: Index, now: int) -> None:
        """Take a snapshot now, unless the newest one is at `index` or later; see `SnapshotRequested`."""
        covered = self.index
        if self.pending == NO_INDEX and covered < index and self.pipeline.applying > covered:
            self._take(now)

    def _take(self, now: int) -> None:
        applying = self.pipeline.applying
        if self.installing is not None or applying <= self.log.base_index or self.outbox.failed:
            return
        if now < self.retry_at:
            return
        term = self.log.term_at(applying)  # the apply lane is in order, so the machine will be at `applying` (§7)
        assert term is not None
        place, members = self.configurations.at(applying)
        self.pending = applying
        self.outbox.effects.append(TakeSnapshot(SnapshotMeta(applying, term, members, place)))

    def on_failed(self, index: Index, now: int) -> None:
        """Schedule the next attempt; each failure in a row doubles the delay.

        On a full disk every attempt briefly takes space from the log, so attempts must become rare.
        """
        if index == self.pending:
            self.pending = NO_INDEX
            self.retry_at = now + (self.settings.election_ticks << self.failures)
            self.failures = min(self.failures + 1, _MOST_DOUBLINGS)

    def on_taken(self, meta: SnapshotMeta, transfers_from: Index) -> None:
        """Switch the disk to the snapshot and drop the entries before it, except for a tail (§7)."""
        if meta.index != self.pending:
            return  # superseded by one from the leader
        self.pending = NO_INDEX
        if self.outbox.failed or not self.log.matches(meta.index, meta.term):
            return
        self._switched_to(meta)
        self.failures = 0
        self.outbox.switch(meta, discard=False, cap=NO_INDEX)
        self.write = self.outbox.everything(self.log)
        self.bytes_since_snapshot = sum(
            [page.size for page in self.pipeline.pages if not page.restore and page.last > meta.index]
        )
        self._compact(base_after_snapshot(self.settings, self.log, meta.index, transfers_from))

    def make_room(self, now: int) -> None:
        """Shrink a log at its limit: drop all entries the snapshot covers, also the kept tail and those of transfers.

        If none are left to drop, take a snapshot early.
        """
        covered = self.index
        if covered > self.log.base_index:
            self._compact(covered)
        elif self.pending == NO_INDEX and self.pipeline.applying > covered:
            self._take(now)

    def _compact(self, base: Index) -> None:
        if base > self.log.base_index:
            self.log.compact(base)
            self.outbox.drop_before(Index(base + 1))

    # The leader's.

    @property
    def restoring(self) -> bool:
        """True while the switch to a received snapshot, or a restore of the machine, is under way."""
        return self.installing is not None or self.pipeline.restoring

    def install(self, meta: SnapshotMeta, cap: Index) -> None:
        """Switch the disk to a received snapshot, in place of the whole log. `cap`: see `Outbox.switch`."""
        self._switched_to(meta)
        self.pending = NO_INDEX
        self.bytes_since_snapshot = 0
        self.outbox.switch(meta, discard=True, cap=cap)
        self.write = self.outbox.everything(self.log)
        self.installing = (self.write, meta)

    def restore_if_durable(self) -> None:
        """Order the restore once the switch is durable and no earlier restore is under way."""
        if self.installing is not None and self.installing[0] <= self.outbox.durable and not self.pipeline.restoring:
            meta = self.installing[1]
            self.installing = None
            self.pipeline.restore(meta)


def crowded(log_max_bytes: int, log: Log) -> bool:
    """Return whether the log is near its limit, so that no entries covered by a snapshot are kept."""
    return log.size > log_max_bytes - log_max_bytes // 8


def base_after_snapshot(settings: Settings, log: Log, snapshot: Index, transfers_from: Index) -> Index:
    """Return the index up to which the log may be dropped after a snapshot at `snapshot`.

    A tail is kept for slow followers. Entries after `transfers_from` (0: none), the oldest snapshot being transferred,
    are kept too, so its receiver can continue from there. Neither is kept if the log is crowded.
    """
    if crowded(settings.log_max_bytes, log):
        return max(snapshot, log.base_index)
    base = log.place_to_keep(snapshot, settings.keep_entries, settings.keep_bytes)
    if transfers_from != NO_INDEX and transfers_from < base:
        base = transfers_from
    return base if base > log.base_index else log.base_index


def log_at_start(settings: Settings, recovered: Recovered) -> Log:
    """Return the log after a restart, with the tail of covered entries before the snapshot, if the disk has one.

    The base needs a known term: it is the start of the log, or the first covered entry, which is then not held itself.
    Raise `CallerError` if `covered` does not end at the snapshot.
    """
    snapshot, covered = recovered.snapshot, recovered.covered
    base = snapshot.position if snapshot is not None else START
    if not covered:
        return Log(base, recovered.entries)
    first, last = covered[0], covered[-1]
    ends_there = snapshot is not None and LogPosition(last.index, last.term) == base
    if not ends_there or last.index - first.index + 1 != len(covered):
        raise CallerError(f"Recovered.covered must be consecutive and end at the snapshot's position {base}")
    if first.index == 1:
        log = Log(START, covered + recovered.entries)
    else:
        log = Log(LogPosition(first.index, first.term), covered[1:] + recovered.entries)
    log.compact(base_after_snapshot(settings, log, base.index, NO_INDEX))
    return log
