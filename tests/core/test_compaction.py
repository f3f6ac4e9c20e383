"""When to take a snapshot, and what of the log may go."""

from __future__ import annotations

from raft_core.compaction import base_after_snapshot, crowded, snapshot_due
from raft_core.ids import NO_INDEX, Index
from raft_core.log import Log
from raft_core.settings import Settings
from tests.core.helpers import entries

LOG = Log(entries=entries(*[(n, 1) for n in range(1, 21)]))  # each of 35 or 36 bytes


def test_a_snapshot_is_due_after_enough_entries_or_enough_bytes() -> None:
    settings = Settings(snapshot_entries=10, snapshot_bytes=1000)

    assert not snapshot_due(settings, 9, 999)
    assert snapshot_due(settings, 10, 0)
    assert snapshot_due(settings, 0, 1000)


def test_a_tail_is_kept_behind_a_snapshot() -> None:
    assert base_after_snapshot(Settings(keep_entries=5), LOG, Index(15), NO_INDEX) == 10
    assert base_after_snapshot(Settings(keep_bytes=80), LOG, Index(15), NO_INDEX) == 13
    assert base_after_snapshot(Settings(), LOG, Index(15), NO_INDEX) == 0


def test_what_follows_a_snapshot_on_its_way_is_kept_for_its_receiver() -> None:
    settings = Settings(keep_entries=0)

    assert base_after_snapshot(settings, LOG, Index(15), Index(4)) == 4
    assert base_after_snapshot(settings, LOG, Index(15), Index(18)) == 15


def test_a_crowded_log_keeps_nothing_that_a_snapshot_covers() -> None:
    settings = Settings(log_max_bytes=LOG.size + 40)

    assert crowded(settings, LOG)
    assert not crowded(Settings(log_max_bytes=2 * LOG.size), LOG)
    assert base_after_snapshot(settings, LOG, Index(15), Index(4)) == 15


def test_the_base_never_moves_back() -> None:
    log = Log(entries=entries(*[(n, 1) for n in range(1, 21)]))
    log.compact(Index(12))

    assert base_after_snapshot(Settings(), log, Index(15), Index(3)) == 12
