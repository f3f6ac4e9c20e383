"""When to take a snapshot, and what of the log may go. Pure decisions over numbers; the server carries them out."""

from __future__ import annotations

from raft_core.ids import NO_INDEX, Index
from raft_core.log import Log
from raft_core.settings import Settings

__all__ = ["base_after_snapshot", "crowded", "snapshot_due"]


def snapshot_due(settings: Settings, entries_since: int, bytes_since: int) -> bool:
    """So much was applied since the last snapshot that another one is worth its cost."""
    return entries_since >= settings.snapshot_entries or bytes_since >= settings.snapshot_bytes


def crowded(settings: Settings, log: Log) -> bool:
    """The log nears its limit: only what no snapshot covers is kept."""
    return log.size > settings.log_max_bytes - settings.log_max_bytes // 8


def base_after_snapshot(settings: Settings, log: Log, snapshot: Index, transfers_from: Index) -> Index:
    """Up to where the log may go once a snapshot at `snapshot` exists.

    A tail is kept for slow followers. `transfers_from` (0: none) is the oldest snapshot on its way to a follower: what
    follows it is kept too, so that the follower finds its connection. Neither where the log is crowded already."""
    if crowded(settings, log):
        return max(snapshot, log.base.index)
    base = log.place_to_keep(snapshot, settings.keep_entries, settings.keep_bytes)
    if transfers_from != NO_INDEX and transfers_from < base:
        base = transfers_from
    return base if base > log.base.index else log.base.index
