"""Pure decisions on snapshots and compaction: when to take one, and how much log to keep. The server acts on them."""

from __future__ import annotations

from raft_core.ids import NO_INDEX, Index
from raft_core.log import Log
from raft_core.settings import Settings

__all__ = ["base_after_snapshot", "crowded", "snapshot_due"]


def snapshot_due(settings: Settings, entries_since: int, bytes_since: int) -> bool:
    """Return whether enough was applied since the last snapshot to take another."""
    return entries_since >= settings.snapshot_entries or bytes_since >= settings.snapshot_bytes


def crowded(settings: Settings, log: Log) -> bool:
    """Return whether the log is near its limit, so that no entries covered by a snapshot are kept."""
    return log.size > settings.log_max_bytes - settings.log_max_bytes // 8


def base_after_snapshot(settings: Settings, log: Log, snapshot: Index, transfers_from: Index) -> Index:
    """Return the index up to which the log may be dropped after a snapshot at `snapshot`.

    A tail is kept for slow followers. Entries after `transfers_from` (0: none), the oldest snapshot being transferred,
    are kept too, so its receiver can continue from there. Neither is kept if the log is crowded."""
    if crowded(settings, log):
        return max(snapshot, log.base.index)
    base = log.place_to_keep(snapshot, settings.keep_entries, settings.keep_bytes)
    if transfers_from != NO_INDEX and transfers_from < base:
        base = transfers_from
    return base if base > log.base.index else log.base.index
