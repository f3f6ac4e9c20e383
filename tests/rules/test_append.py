"""Rules of appending, truncating and of the hints in rejections, each with the mistake that taught it."""

from __future__ import annotations

import random

import pytest

from raft_core.effects import Alarm, AlarmKind, Respond, Send, Stop
from raft_core.entries import SnapshotMeta
from raft_core.events import Proposed, StorageFailed
from raft_core.ids import Index, NodeId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import InstallSnapshot
from raft_core.progress import ProgressState
from raft_core.raft import Raft
from raft_core.roles.leader import Leader
from tests.core.helpers import (
    accepted,
    append,
    candidate,
    core,
    leader,
    only,
    persist,
    persists,
    rejected,
    replicated,
    sent,
    step,
)


def peer(raft: Raft, node: int) -> tuple[ProgressState, int, int]:
    """State, match and next of a follower, as its leader sees it."""
    assert isinstance(raft.role, Leader)
    progress = raft.role.replication.progress[node]  # type: ignore[index]
    return progress.state, progress.match, progress.next


def test_an_append_that_ends_below_the_commit_index_is_acknowledged_up_to_it() -> None:
    """Without looking at the log, which may be compacted there: what is committed equals every leader's log."""
    raft = core(log=[1, 1, 1], commit=4)

    effects = step(raft, append(1, 2, (1, 1), (2, 1)))

    assert only(Send, effects) == [Send(NodeId(2), accepted(1, 1, 4))]


def test_an_append_that_begins_below_the_commit_index_brings_what_lies_behind_it() -> None:
    raft = core(log=[1, 1], commit=3)

    step(raft, append(2, 2, (1, 1), (2, 1), (3, 1), (4, 2), commit=4))

    assert (raft.log.last_index, raft.server.commit) == (4, 4)


def test_only_an_entry_of_another_term_is_truncated() -> None:
    """Deleting everything behind the named place lost entries that a majority had."""
    raft = core(log=[1, 1, 1])

    effects = step(raft, append(1, 2, (1, 1), (2, 1)))

    assert persists(effects) == []
    assert raft.log.last_index == 4


def test_an_older_append_that_comes_late_takes_nothing_away() -> None:
    raft = core()
    late = append(1, 2, (1, 1), (2, 1), ident=5)
    step(raft, append(1, 2, (1, 1), (2, 1), (3, 1), (4, 1), ident=6))
    persist(raft)

    assert step(raft, late) == [Send(NodeId(2), accepted(1, 1, 2, ident=5))]
    assert raft.log.last_index == 4


def test_a_conflict_with_what_is_committed_is_dropped_with_an_alarm() -> None:
    """One of the two nodes is broken; neither may be believed, and nothing committed may go."""
    raft = core(log=[1, 1, 1], commit=4)
    before = raft.log.entries()

    for contradiction in (
        append(2, 2, (2, 1), (3, 2), (4, 2), (5, 2)),  # beyond what is committed
        append(2, 2, (3, 1), (4, 2)),  # up to it
        append(2, 2, (2, 1), (3, 2)),  # below it
        append(2, 2, (3, 2)),  # with nothing but its own place
    ):
        effects = step(raft, contradiction)
        kinds = [alarm.kind for alarm in only(Alarm, effects)]  # type: ignore[union-attr]
        assert kinds == [AlarmKind.COMMITTED_CONFLICT], contradiction
        assert only(Send, effects) == [], "nothing is acknowledged"
    assert raft.log.entries() == before
    assert not raft.stopped


def test_a_rejection_tells_the_last_place_at_which_the_logs_can_be_equal() -> None:
    raft = core(log=[1, 1, 4, 4, 5], term=6)

    effects = step(raft, append(6, 2, (9, 4)))

    assert only(Send, effects) == [Send(NodeId(2), rejected(6, 1, at=9, hint=(5, 4)))]


def test_a_leader_skips_to_its_own_last_place_of_the_hinted_term() -> None:
    """One round trip per term, not one per entry."""
    raft = leader(core(log=[1, 1, 2, 2, 2, 5, 5]))

    step(raft, rejected(6, 2, at=8, hint=(7, 3)))

    assert peer(raft, 2)[2] in (7, 10)
    (message,) = sent(step(raft, rejected(6, 3, at=8, hint=(7, 1))), to=3)
    assert (message.prev_index, message.prev_term) == (3, 1)  # type: ignore[union-attr]


def test_random_logs_meet_with_one_probe_at_most_for_each_of_their_terms() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        common = sorted(rng.choice([1, 1, 2]) for _ in range(rng.randint(0, 4)))
        ours = [*common, *sorted(rng.choice([3, 5, 7]) for _ in range(rng.randint(0, 8)))]
        theirs = [*common, *sorted(rng.choice([2, 4, 6]) for _ in range(rng.randint(0, 8)) if common[-1:] != [2])]
        boss, other = candidate(core(1, log=ours, term=7)), core(2, log=theirs, term=7)
        refusals = replicated(boss, other)

        assert [(e.index, e.term) for e in other.log.entries()] == [(e.index, e.term) for e in boss.log.entries()]
        assert refusals <= len({1, *ours, *theirs}), f"seed {seed}"


@pytest.mark.parametrize("at", [2, 1, 0])
def test_a_stray_rejection_does_not_move_next_down_to_match(at: int) -> None:
    """Delayed or doubled answers must not make the leader forget what it was promised."""
    raft = leader(core(log=[1, 1, 1]), settled=True)
    before = peer(raft, 2)

    step(raft, rejected(2, 2, at=at, hint=(0, 0)))

    assert peer(raft, 2) == before == (ProgressState.REPLICATE, 5, 6)


def test_a_rejection_of_another_probe_than_the_last_is_stray() -> None:
    raft = leader(core(log=[1, 1, 1]))
    step(raft, rejected(2, 2, at=4, hint=(2, 1)))
    before = peer(raft, 2)

    step(raft, rejected(2, 2, at=4, hint=(1, 1)))

    assert peer(raft, 2) == before == (ProgressState.PROBE, 0, 3)


def test_entries_that_do_not_follow_the_place_they_name_are_dropped() -> None:
    """A failed read at a leader once sent entries without the right place before them, and corrupted followers."""
    raft = core(log=[1])
    before = raft.log.entries()

    for request in (
        append(1, 2, (2, 1), (4, 1)),
        append(1, 2, (2, 1), (3, 1), (5, 1)),
        append(2, 2, (2, 1), (3, 2), (4, 1)),
    ):
        (alarm,) = only(Alarm, step(raft, request))
        assert alarm.kind is AlarmKind.MALFORMED  # type: ignore[union-attr]
    assert raft.log.entries() == before


def test_a_leader_whose_disk_failed_never_uses_an_index_and_term_again() -> None:
    """Other bytes under the same index and term would be taken for the same entry; so it stops for good."""
    raft = leader(core(), settled=True)
    step(raft, Proposed(RequestId(1), (b"x",)))

    effects = step(raft, StorageFailed("disk full"))

    assert [type(e) for e in effects if isinstance(e, Respond | Stop)] == [Respond, Stop]
    assert raft.stopped


def test_a_follower_whose_end_lies_below_the_compacted_log_is_offered_the_snapshot() -> None:
    """The term of its last place is not known any more; feeling further would find nothing."""
    meta = SnapshotMeta(Index(10), Term(2), Members.initial([1, 2, 3]), Index(1))
    raft = leader(core(snapshot=meta, log=[2, 3], commit=10))

    effects = step(raft, rejected(4, 2, at=12, hint=(5, 1)))

    assert [m.meta for m in sent(effects, to=2) if isinstance(m, InstallSnapshot)] == [meta]
    assert peer(raft, 2) == (ProgressState.SNAPSHOT, 0, 11)
