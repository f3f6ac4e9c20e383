"""Mistakes that the simulator or a mutant found in the core, each told once more in the smallest way."""

from __future__ import annotations

import random

from raft_core.effects import Apply, Persist, Refusal, RefusalReason, Respond, TakeSnapshot
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.events import Applied, CampaignRequested, Persisted, Proposed, Requested, SnapshotReceived
from raft_core.ids import Index, MessageId, NodeId, ReadId, RequestId, Term, WriteId
from raft_core.membership import AddLearner, Members
from raft_core.messages import DATA, AppendEntries
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered, formation
from raft_core.requests import ChangeMembership
from raft_core.roles.candidate import Candidate
from raft_core.roles.leader import Leader
from tests.core.cluster import SMALL, with_settings
from tests.core.helpers import apply_of, core, leader, only, step

ME = Identity(NodeId(1))
THREE = Members.initial([1, 2, 3])


def append(term: int, prev: tuple[int, int], entry: Entry, commit: int) -> AppendEntries:
    index, prev_term = prev
    return AppendEntries(
        Term(term), NodeId(2), MessageId(1), DATA, Index(index), Term(prev_term), Index(commit), ReadId(0), (entry,)
    )


def test_an_entry_that_replaces_a_durable_one_is_applied_only_once_it_is_durable_itself() -> None:
    # given a node whose disk holds an uncommitted entry at index 2
    _, founding = formation(THREE)
    entries = (founding, Entry.make(2, 2, b"old"))
    raft = Raft(SMALL, Recovered(ME, HardState(Term(2), commit=Index(1)), entries=entries), random.Random(1))
    raft.step()

    # when a new leader replaces it by one that is committed already
    new = Entry.make(2, 3, b"new")
    effects = raft.step(append(3, (1, 1), new, commit=2))

    # then it is applied after the write, not with it
    assert [effect.write for effect in effects if isinstance(effect, Persist)] == [1]
    assert not [effect for effect in effects if isinstance(effect, Apply) and effect.upto >= new.index]
    assert apply_of((new,)) in raft.step(Persisted(WriteId(1)))


def test_a_candidates_own_vote_does_not_count_when_an_earlier_write_becomes_durable() -> None:
    # given a follower with a write under way, that stands for election and so orders another one
    _, founding = formation(THREE)
    recovered = Recovered(ME, HardState(Term(1), commit=Index(1)), entries=(founding,))
    raft = Raft(with_settings(pre_vote=False, check_quorum=False), recovered, random.Random(1))
    raft.step()
    raft.step(append(1, (1, 1), Entry.make(2, 1, b"entry"), commit=1))
    raft.step(CampaignRequested())
    assert isinstance(raft.role, Candidate)

    # when only the first write is durable, its own vote is not given yet
    raft.step(Persisted(WriteId(1)))
    assert raft.role.campaign.votes == {}

    # and when the second one is, it is
    raft.step(Persisted(WriteId(2)))
    assert raft.role.campaign.votes == {1: True}


def test_a_snapshot_that_arrives_when_it_is_behind_the_commit_index_is_not_installed() -> None:
    meta = SnapshotMeta(Index(5), Term(1), THREE, Index(1))
    raft = Raft(SMALL, Recovered(ME, HardState(Term(1), commit=Index(5)), snapshot=meta), random.Random(1))
    raft.step()

    effects = raft.step(SnapshotReceived(SnapshotMeta(Index(3), Term(1), THREE, Index(1))))

    assert not [effect for effect in effects if isinstance(effect, Persist)]
    assert raft.status.commit == 5


def test_a_snapshot_carries_the_members_at_its_index_and_not_those_appended_since() -> None:
    # given a lone leader whose machine is applying index 3
    alone = Members.initial([1])
    raft = Raft(with_settings(snapshot_entries=3), Recovered.fresh(1, alone), random.Random(1))
    raft.step()
    raft.step(Applied(Index(1)))
    raft.step(CampaignRequested())
    raft.step(Persisted(WriteId(1)))
    raft.step(Persisted(WriteId(2)))
    assert isinstance(raft.role, Leader)
    raft.step(Applied(Index(2)))
    raft.step(Proposed(RequestId(1), (b"command",)))
    raft.step(Persisted(WriteId(3)))

    # when a learner is added before that is applied
    raft.step(Requested(RequestId(2), ChangeMembership((AddLearner(NodeId(2)),))))
    effects = raft.step(Applied(Index(3), (b"",)))

    # then the snapshot at 3 does not know the learner
    assert TakeSnapshot(SnapshotMeta(Index(3), Term(2), alone, Index(1))) in effects


def test_of_many_large_commands_only_one_is_taken_where_nothing_else_waits() -> None:
    # given a settled leader that may have 100 bytes uncommitted
    raft = leader(core(settings=with_settings(max_uncommitted_bytes=100)), settled=True)
    assert raft.server.commit == raft.log.last_index

    # when it is asked to append five commands in one batch, each of which is larger than that
    effects = step(raft, Proposed(RequestId(1), (bytes(200),) * 5))

    # then it takes one, as it must, and refuses the other four; not every second one
    full = Refusal(RefusalReason.UNCOMMITTED_FULL)
    assert only(Respond, effects) == [Respond(RequestId(1), full, place) for place in (1, 2, 3, 4)]
    assert raft.log.last_index == raft.server.commit + 1
