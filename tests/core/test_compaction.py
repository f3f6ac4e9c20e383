"""When to take a snapshot, and what of the log may go."""

from __future__ import annotations

import pytest

from raft_core.effects import Effect, TakeSnapshot
from raft_core.entries import ENTRY_OVERHEAD, Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.events import Applied
from raft_core.ids import NO_INDEX, Index, NodeId, Term
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered
from raft_core.settings import Settings
from raft_core.snapshots import base_after_snapshot, crowded, log_at_start
from tests.core.helpers import core, entries

APPLIED = Applied(Index(5))
LOG = Log(entries=entries(*[(n, 1) for n in range(1, 21)]))  # each of 35 or 36 bytes


def test_a_snapshot_is_due_after_enough_entries_or_enough_bytes() -> None:
    def order(settings: Settings) -> list[Effect]:
        return [
            effect
            for effect in core(log=[1] * 4, commit=5, settings=settings).step(APPLIED)
            if type(effect) is TakeSnapshot
        ]

    taken = [TakeSnapshot(SnapshotMeta(Index(5), Term(1), Members.initial([1, 2, 3]), Index(1)))]
    size = LOG.size_between(Index(1), Index(5)) + len(Members.initial([1, 2, 3]).encode()) + ENTRY_OVERHEAD

    assert order(Settings(snapshot_entries=5)) == taken
    assert order(Settings(snapshot_entries=6)) == []
    assert order(Settings(snapshot_bytes=size)) == taken
    assert order(Settings(snapshot_bytes=size + 1)) == []


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

    assert crowded(settings.log_max_bytes, LOG)
    assert not crowded(2 * LOG.size, LOG)
    assert base_after_snapshot(settings, LOG, Index(15), Index(4)) == 15


def test_the_base_never_moves_back() -> None:
    log = Log(entries=entries(*[(n, 1) for n in range(1, 21)]))
    log.compact(Index(12))

    assert base_after_snapshot(Settings(), log, Index(15), Index(3)) == 12


# The log at a start.


def found(covered: tuple[Entry, ...], *, snapshot: int = 15) -> Recovered:
    """A disk with a snapshot of term 1, and entries behind it up to 20."""
    meta = SnapshotMeta(Index(snapshot), Term(1), Members.initial([1, 2, 3]))
    behind = entries(*[(n, 1) for n in range(snapshot + 1, 21)])
    return Recovered(Identity(NodeId(1)), HardState(Term(1)), meta, behind, covered=covered)


def places(*indexes: int, term: int = 1) -> tuple[Entry, ...]:
    return entries(*[(index, term) for index in indexes])


def held(log: Log) -> list[int]:
    return [entry.index for entry in log.entries()]


def test_a_log_begins_at_the_first_covered_entry_whose_term_is_known() -> None:
    log = log_at_start(Settings(), found(places(12, 13, 14, 15)))

    assert (log.base.index, log.base.term) == (12, 1)
    assert held(log) == list(range(13, 21))


def test_a_log_whose_first_entry_is_covered_begins_at_the_very_start() -> None:
    log = log_at_start(Settings(), found(places(*range(1, 16))))

    assert (log.base.index, log.base.term) == (0, 0)
    assert held(log) == list(range(1, 21))


def test_a_single_covered_entry_is_the_snapshots_position() -> None:
    log = log_at_start(Settings(), found(places(15)))

    assert (log.base.index, log.base.term, held(log)) == (15, 1, list(range(16, 21)))


def test_no_more_of_the_covered_entries_is_held_than_a_running_node_keeps() -> None:
    covered = found(places(*range(1, 16)))

    assert log_at_start(Settings(keep_entries=5), covered).base.index == 10
    assert log_at_start(Settings(keep_entries=0), covered).base.index == 15
    assert log_at_start(Settings(log_max_bytes=LOG.size + 40), covered).base.index == 15


def test_without_covered_entries_a_log_begins_at_the_snapshot() -> None:
    log = log_at_start(Settings(), found(()))

    assert (log.base.index, log.base.term, held(log)) == (15, 1, list(range(16, 21)))


@pytest.mark.parametrize(
    "covered",
    [places(12, 13, 14), places(12, 14, 15), places(13, 14, 15, 16), places(14, 15, term=2)],
    ids=["too short", "a gap", "too long", "another term"],
)
def test_covered_entries_that_do_not_end_at_the_snapshot_are_refused(covered: tuple[Entry, ...]) -> None:
    with pytest.raises(CallerError):
        log_at_start(Settings(), found(covered))
