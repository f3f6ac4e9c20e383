"""Pure decisions on snapshots and compaction: when to take one, and how much log to keep. The server acts on them."""

from __future__ import annotations

from raft_core.entries import START, LogPosition
from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, Index
from raft_core.log import Log
from raft_core.recovered import Recovered
from raft_core.settings import Settings

__all__ = ["base_after_snapshot", "crowded", "log_at_start", "snapshot_due"]


def snapshot_due(settings: Settings, entries_since: int, bytes_since: int) -> bool:
    """Return whether enough was applied since the last snapshot to take another."""
    return entries_since >= settings.snapshot_entries or bytes_since >= settings.snapshot_bytes


def crowded(settings: Settings, log: Log) -> bool:
    """Return whether the log is near its limit, so that no entries covered by a snapshot are kept."""
    return log.size > settings.log_max_bytes - settings.log_max_bytes // 8


def base_after_snapshot(settings: Settings, log: Log, snapshot: Index, transfers_from: Index) -> Index:
    """Return the index up to which the log may be dropped after a snapshot at `snapshot`.

    A tail is kept for slow followers. Entries after `transfers_from` (0: none), the oldest snapshot being transferred,
    are kept too, so its receiver can continue from there. Neither is kept if the log is crowded.
    """
    if crowded(settings, log):
        return max(snapshot, log.base.index)
    base = log.place_to_keep(snapshot, settings.keep_entries, settings.keep_bytes)
    if transfers_from != NO_INDEX and transfers_from < base:
        base = transfers_from
    return base if base > log.base.index else log.base.index


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
