"""Mistakes that were really made in implementations whose own tests passed; each of them once more, here in vain."""

from __future__ import annotations

from raft_core.effects import Apply, Persist, ReadReady, Refusal, RoleName, Send
from raft_core.entries import HardState, SnapshotMeta
from raft_core.events import CampaignRequested, Proposed, Requested, Tick
from raft_core.ids import Index, NodeId, RequestId, Term, WriteId
from raft_core.membership import Members, RemoveNode
from raft_core.messages import AppendEntries, AppendReply, InstallSnapshot, VoteReply
from raft_core.progress import ProgressState
from raft_core.requests import ChangeMembership, Read, ReadConsistency
from raft_core.roles.leader import Leader
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
    asks,
    campaign_id,
    candidate,
    core,
    entries,
    heartbeat,
    leader,
    machine_done,
    only,
    persist,
    persists,
    rejected,
    role_of,
    sent,
    step,
    tick,
    votes,
)

PLAIN = with_settings(pre_vote=False, check_quorum=False)


def test_a_vote_is_recorded_when_it_is_given() -> None:
    """It was not, and two leaders were elected in one term."""
    raft = core(settings=PLAIN)

    step(raft, asks(2, 2, (1, 1)))
    step(raft, asks(2, 3, (1, 1)))

    assert [m.granted for m in sent(persist(raft)) if isinstance(m, VoteReply)] == [True, False]


def test_the_leader_that_was_heard_is_recorded() -> None:
    """It was not, so the rule that no vote is given while a leader is known never applied."""
    raft = core(term=2, settings=PLAIN)

    step(raft, append(2, 2, (1, 1)))

    assert raft.status.leader == 2
    assert step(raft, asks(2, 3, (9, 2))) == [Send(NodeId(3), votes(2, 1, granted=False))]


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """The rule of the current term was missing, and a committed entry was lost (figure 8)."""
    raft = leader(core(log=[1, 2]))

    step(raft, accepted(3, 2, 3))
    step(raft, accepted(3, 3, 3))

    assert raft.server.commit == 1


def test_after_a_rejection_nothing_is_appended_and_nothing_accepted() -> None:
    """The handler went on after the mismatch: it appended, and answered a second time."""
    raft = core(log=[1])

    effects = step(raft, append(1, 2, (5, 1), (6, 1), commit=6))

    assert only(Send, effects) == [Send(NodeId(2), rejected(1, 1, at=5, hint=(2, 1)))]
    assert (persists(effects), raft.log.last_index, raft.server.commit) == ([], 2, 1)


def test_an_append_that_is_delivered_again_truncates_nothing() -> None:
    """Every one did, although all terms agreed."""
    raft = core(log=[1, 1, 1])

    effects = step(raft, append(1, 2, (1, 1), (2, 1), (3, 1)))

    assert persists(effects) == []
    assert raft.log.last_index == 4


def test_messages_of_a_lower_term_are_not_processed() -> None:
    """They were, after a warning."""
    raft = core(term=5, log=[1])
    before = raft.log.entries()

    step(raft, append(4, 2, (1, 1), (2, 4), commit=2))
    step(raft, votes(4, 2))

    assert (raft.log.entries(), raft.server.commit, raft.status.leader) == (before, 1, 0)


def test_what_is_acknowledged_is_what_the_message_verified() -> None:
    """The last index was, diverging tail included, and the leader committed what was not there."""
    raft = core(log=[1, 1, 1])

    (reply,) = sent(step(raft, append(3, 2, (2, 1))) + persist(raft))

    assert isinstance(reply, AppendReply)
    assert reply.match == 2


def test_no_more_is_committed_than_the_message_verified() -> None:
    """The lesser of the leader's commit index and the last index was, diverging tail included."""
    raft = core(log=[1, 1, 1])

    step(raft, append(3, 2, (2, 1), commit=4))

    assert raft.server.commit == 2


def test_a_leader_without_a_quorum_steps_down() -> None:
    """The comparison was the wrong way round, and the code never ran."""
    raft = leader(core(), settled=True)

    tick(raft, 20)

    assert not raft.status.leads


def test_a_candidate_that_lost_stands_again_with_a_new_timeout() -> None:
    """It never did; and the timeout was drawn once for life."""
    raft = candidate(core(settings=PLAIN))
    ident = campaign_id(raft)
    for voter in (2, 3):
        step(raft, votes(2, voter, granted=False, ident=ident))
    assert role_of(raft) is RoleName.FOLLOWER

    drawn = set()
    for _ in range(10):
        term = raft.server.term
        tick(raft, 40, until=lambda: raft.server.term > term)  # noqa: B023
        persist(raft)
        drawn.add(raft.role.timeout)  # type: ignore[union-attr]

    assert raft.server.term > 5
    assert len(drawn) > 2


def test_the_output_tells_what_must_be_durable_before_what_is_sent() -> None:
    """It did not; and the leader's own match was counted before the write."""
    raft = leader(core(count=1), settled=True)
    machine_done(raft)
    step(raft, Proposed(RequestId(1), (b"x",)))

    assert raft.server.commit == 2
    assert only(Apply, persist(raft))

    other = core()
    assert [type(e) for e in step(other, append(2, 2, (1, 1), (2, 2)))][:1] == [Persist]
    assert sent(persist(other)) == [accepted(2, 1, 2)]


def test_a_stray_rejection_does_not_move_next_to_match_or_below() -> None:
    """It did, and the leader began to send what was acknowledged."""
    raft = leader(core(log=[1, 1]), settled=True)
    assert isinstance(raft.role, Leader)
    peer = raft.role.replication.progress[NodeId(2)]

    for at in range(6):
        step(raft, rejected(2, 2, at=at, hint=(0, 0)))
        assert peer.next > peer.match == 4


def test_one_snapshot_is_under_way_and_not_one_per_message() -> None:
    """It was sent again for every message while the first one travelled."""
    meta = SnapshotMeta(Index(10), Term(2), Members.initial([1, 2, 3]), Index(1))
    raft = leader(core(snapshot=meta, log=[3], commit=10))
    offers = sent(step(raft, rejected(4, 2, at=11, hint=(1, 1))), to=2)
    for number in range(10):
        offers += sent(step(raft, Proposed(RequestId(number), (b"x",))), to=2)
        offers += sent(step(raft, accepted(4, 2, 0, purpose=heartbeat(1, 1).purpose)), to=2)

    assert [type(m) for m in offers] == [InstallSnapshot]
    assert isinstance(raft.role, Leader)
    assert raft.role.replication.progress[NodeId(2)].state is ProgressState.SNAPSHOT


def test_a_leader_outside_its_configuration_still_sends() -> None:
    """Its output was thrown away, so its removal was never committed."""
    raft = leader(core(), settled=True)

    effects = step(raft, Requested(RequestId(1), ChangeMembership((RemoveNode(NodeId(1)),))))

    assert {e.to for e in effects if isinstance(e, Send) and isinstance(e.message, AppendEntries)} == {2, 3}


def test_term_and_vote_are_written_before_they_are_used() -> None:
    """They were kept in memory only, the journal was never synced, and committed data was lost in production."""
    raft = core(settings=PLAIN)

    effects = step(raft, CampaignRequested())

    assert effects[0] == Persist(WriteId(1), HardState(Term(2), NodeId(1), Index(1)))
    assert sent(effects) == []
    assert len(sent(persist(raft))) == 2


# What was found in this library itself.


def test_a_monotone_read_of_a_distant_index_delays_no_other_read() -> None:
    """It stood in front of all that came after it, or held a place for ever, and stopped every read of a node."""
    cluster = Cluster(1)
    cluster.elect(1)
    cluster[1].step(Requested(RequestId(1), Read(ReadConsistency.MONOTONE, 10**9)))
    cluster[1].step(Requested(RequestId(2), Read()))
    cluster.deliver()

    assert [(a.request, type(a.outcome)) for a in cluster[1].answers] == [(1, Refusal), (2, ReadReady)]
    assert cluster[1].raft.status.waiting_reads == 0


def test_entries_that_agree_are_not_taken_for_new_ones_after_a_restart() -> None:
    """A restarted follower holds more than its commit index tells; nothing of it is written again."""
    raft = core(log=[1, 1, 1])

    effects = step(raft, append(1, 2, (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)))

    assert persists(effects)[0].entries == entries((5, 1))


def test_a_leader_whose_loop_turns_slowly_beats_as_often_as_it_can() -> None:
    """Beats are counted in time and not in turns, or a leader that is busy for a while each turn is deposed."""
    raft = leader(core(settings=with_settings(heartbeat_ticks=3)), settled=True)
    beats = raft.server.settings.heartbeat_ticks

    for _ in range(3):
        messages = sent(step(raft, Tick(beats)))
        assert [type(message) for message in messages] == [AppendEntries, AppendEntries]
