"""Rules of removal, of handing over, and of disks that are slow, late or broken; each with what taught it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Apply,
    Indeterminate,
    Persist,
    ReadReady,
    Refusal,
    RefusalReason,
    Respond,
    RoleName,
    Send,
    Stop,
    StopReason,
    Success,
    UnknownReason,
)
from raft_core.events import (
    CampaignRequested,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.ids import Index, MessageId, NodeId, RequestId, Term, WriteId
from raft_core.membership import AddLearner, AddVoter, Members, RemoveNode
from raft_core.messages import HEARTBEAT, RequestVote, TimeoutNow, TransferRefused, VoteKind
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, Read, TransferLeadership
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
    apply_of,
    asks,
    core,
    entries,
    everybody_has_all,
    heartbeat,
    leader,
    machine_done,
    only,
    persist,
    persists,
    role_of,
    sent,
    step,
    tick,
    votes,
)


def transfer(to: int = 0, request: int = 8) -> Requested:
    return Requested(RequestId(request), TransferLeadership(NodeId(to)))


def ordered(effects: Sequence[object]) -> list[TimeoutNow]:
    """Orders to stand, with their ids."""
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, TimeoutNow)]


def change(cluster: Cluster, *changes: AddVoter | AddLearner | RemoveNode) -> None:
    cluster.leader.step(Requested(RequestId(9), ChangeMembership(changes)))
    cluster.deliver()


def orders(effects: Sequence[object]) -> list[int]:
    """Who was told to stand."""
    return [e.to for e in effects if isinstance(e, Send) and isinstance(e.message, TimeoutNow)]


def settled(count: int = 3, **settings: object) -> Raft:
    return leader(core(count=count, settings=with_settings(**settings)), settled=True)


# Removing the leader, and other nodes.


def test_a_removed_leader_finishes_the_change_without_counting_itself() -> None:
    raft = settled()
    step(raft, Requested(RequestId(9), ChangeMembership((RemoveNode(NodeId(1)),))))
    persist(raft)

    step(raft, accepted(2, 2, 3))
    assert raft.server.commit == 2, "one of the two that are left is no majority, whatever the leader holds"
    step(raft, accepted(2, 3, 3))
    assert raft.server.commit == 3


def test_a_removed_leader_hands_over_to_the_best_matched_voter_and_steps_down() -> None:
    """One that heartbeats on for ever blocks the cluster."""
    raft = settled()
    step(raft, Requested(RequestId(9), ChangeMembership((RemoveNode(NodeId(1)),))))
    persist(raft)
    step(raft, accepted(2, 3, 3))

    effects = step(raft, accepted(2, 2, 3))

    assert set(orders(effects)) == {2}
    tick(raft, 11)
    assert not raft.status.leads


def test_a_removed_leader_takes_nothing_new() -> None:
    raft = settled()
    step(raft, Requested(RequestId(9), ChangeMembership((RemoveNode(NodeId(1)),))))

    (answer,) = only(Respond, step(raft, Proposed(RequestId(1), (b"x",))))

    assert answer == Respond(RequestId(1), Refusal(RefusalReason.REMOVED))


def test_a_leader_that_becomes_a_learner_steps_down_when_that_is_committed() -> None:
    """Not in the joint phase: then no leader would be left to finish the change."""
    cluster = Cluster(3)
    cluster.elect(1)

    change(cluster, AddLearner(NodeId(1)))
    cluster.tick(20)

    assert not cluster[1].raft.status.leads
    assert cluster.leader.raft.members.learners == (1,)


def test_a_removed_leader_without_a_successor_steps_down_all_the_same() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].step(Requested(RequestId(9), ChangeMembership((RemoveNode(NodeId(1)),))))
    cluster.deliver(lambda sender, to, message: not isinstance(message, TimeoutNow))
    for _ in range(15):
        cluster[1].step(Tick())
        cluster.deliver(lambda sender, to, message: not isinstance(message, TimeoutNow))

    assert not cluster[1].raft.status.leads


def test_a_removed_node_learns_of_it_and_does_not_stand() -> None:
    """It is sent to until it knows, or until patience ends."""
    cluster = Cluster(3)
    cluster.elect(1)

    change(cluster, RemoveNode(NodeId(3)))
    cluster.tick(5)

    assert cluster[3].raft.members.voters == (1, 2)
    assert cluster[3].raft.server.commit == cluster[1].raft.server.commit
    cluster.tick(100)
    assert role_of(cluster[3].raft) is RoleName.FOLLOWER
    assert [peer.node for peer in cluster[1].raft.status.peers] == [2]


def test_a_removed_node_that_never_learns_of_it_deposes_nobody() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    change(cluster, RemoveNode(NodeId(3)))
    cluster.tick(60)
    assert [peer.node for peer in cluster[1].raft.status.peers] == [2], "it is given up"

    cluster.heal()
    cluster.tick(100)

    assert cluster.leader.id == 1
    assert cluster[1].raft.server.term == 2


def test_a_removed_nodes_answers_count_for_nothing() -> None:
    raft = settled()
    step(raft, Requested(RequestId(9), ChangeMembership((RemoveNode(NodeId(3)),))))
    persist(raft)

    step(raft, accepted(2, 3, 3))

    assert raft.server.commit == 2


# Handing over.


def test_a_successor_that_holds_the_whole_log_is_told_to_stand_at_once() -> None:
    raft = settled()

    effects = step(raft, transfer(2))

    assert sent(effects) == [TimeoutNow(Term(2), NodeId(1), MessageId(0))]
    assert raft.status.transfer_to == 2


def test_a_successor_that_lags_is_brought_up_first() -> None:
    raft = settled()
    step(raft, Proposed(RequestId(1), (b"x",)))

    assert orders(step(raft, transfer(2))) == []
    assert orders(step(raft, accepted(2, 2, 3))) == [2]


def test_the_order_is_repeated_because_it_may_be_lost_and_makes_one_election_only() -> None:
    raft = settled()
    step(raft, transfer(2))

    assert orders(tick(raft)) == [2]

    other = core()
    step(other, heartbeat(1, 2))
    order = TimeoutNow(Term(1), NodeId(2), MessageId(7))
    step(other, order)
    assert step(other, order) == []
    assert other.server.term == 2


@pytest.mark.parametrize(("ticks", "repeated"), [([3, 3, 3], [0, 1, 1]), ([1, 2, 5, 4], [0, 0, 1, 1]), ([9], [1])])
def test_the_order_is_repeated_once_a_heartbeat_also_where_the_loop_turns_slowly(
    ticks: list[int], repeated: list[int]
) -> None:
    """Ticks that come together may step over the very tick at which it is due."""
    raft = settled(election_ticks=20, heartbeat_ticks=4)
    step(raft, transfer(2))

    assert [len(ordered(step(raft, Tick(elapsed)))) for elapsed in ticks] == repeated


def test_a_transfer_is_over_when_its_target_leads() -> None:
    cluster = Cluster(3)
    cluster.elect(1)

    cluster[1].step(transfer(3))
    cluster.deliver()

    assert cluster.leader.id == 3
    assert cluster[1].answers == [Respond(RequestId(8), Success(Index(2)))]
    assert {node.raft.server.term for node in cluster.nodes.values()} == {3}


def test_meanwhile_nothing_new_is_taken_and_the_refusal_has_a_type_of_its_own() -> None:
    raft = settled()
    step(raft, transfer(2))

    effects = step(raft, Proposed(RequestId(1), (b"x", b"y")))

    assert effects == [Respond(RequestId(1), Refusal(RefusalReason.TRANSFERRING, NodeId(2)), 0, 2)]


def test_a_transfer_that_takes_longer_than_an_election_timeout_is_given_up() -> None:
    raft = settled()
    step(raft, transfer(2))
    everybody_has_all(raft)

    effects = tick(raft, 10)

    (answer,) = only(Respond, effects)
    assert answer.outcome.reason is UnknownReason.TRANSFER_UNANSWERED  # type: ignore[union-attr]
    assert only(Respond, step(raft, Proposed(RequestId(1), (b"x",)))) == []


def test_a_transfer_takes_no_longer_where_the_loop_turns_slowly() -> None:
    raft = settled()
    step(raft, Proposed(RequestId(1), (b"x",)))
    step(raft, transfer(2))

    effects = step(raft, Tick(raft.server.settings.election_ticks))

    assert raft.role.succession.handover is None  # type: ignore[union-attr]
    assert [a.request for a in only(Respond, effects)] == [8]  # type: ignore[union-attr]


def test_a_target_that_cannot_stand_says_no_and_work_goes_on_at_once() -> None:
    raft = settled()
    (order,) = ordered(step(raft, transfer(2)))

    (answer,) = step(raft, TransferRefused(Term(2), NodeId(2), order.id))

    assert answer.outcome.reason is RefusalReason.TRANSFER_FAILED  # type: ignore[union-attr]
    assert raft.status.transfer_to == 0


def test_a_no_to_an_earlier_transfer_does_not_end_this_one() -> None:
    """The answer was late: this transfer's order is on its way, and may well be obeyed."""
    raft = settled()
    (first,) = ordered(step(raft, transfer(2)))
    step(raft, PeerUnreachable(NodeId(2)))
    step(raft, transfer(2))

    effects = step(raft, TransferRefused(Term(2), NodeId(2), first.id))

    assert effects == []
    assert raft.status.transfer_to == 2


def test_a_target_that_was_told_twice_and_says_no_once_may_still_stand() -> None:
    raft = settled()
    (first,) = ordered(step(raft, transfer(2)))
    everybody_has_all(raft)
    assert ordered(tick(raft, raft.server.settings.heartbeat_ticks))

    (answer,) = only(Respond, step(raft, TransferRefused(Term(2), NodeId(2), first.id)))

    assert answer == Respond(RequestId(8), Indeterminate(UnknownReason.TRANSFER_UNANSWERED))


def test_a_learner_that_is_told_to_stand_says_no() -> None:
    raft = core(4, members=Members.initial([1, 2, 3], learners=[4]))

    effects = step(raft, TimeoutNow(Term(1), NodeId(2), MessageId(7)))

    assert effects == [Send(NodeId(2), TransferRefused(Term(1), NodeId(4), MessageId(7)))]


def test_a_broken_connection_to_the_target_ends_the_transfer_at_once() -> None:
    """Waiting for the timeout cost seconds without a leader that takes anything."""
    raft = settled()
    step(raft, transfer(2))

    (answer,) = only(Respond, step(raft, PeerUnreachable(NodeId(2))))

    assert answer.outcome.reason is UnknownReason.TRANSFER_UNANSWERED  # type: ignore[union-attr]


def test_a_target_that_is_removed_ends_the_transfer() -> None:
    raft = settled(count=4)
    step(raft, transfer(2))
    raft.server.configurations.append(Index(2), Members.initial([1, 3, 4], learners=[2]))
    raft.role.replication.follow_members()  # type: ignore[union-attr]

    effects = raft.role._members_moved()  # type: ignore[union-attr]

    assert effects is None
    assert raft.status.transfer_to == 0


def test_the_same_target_twice_is_one_transfer_and_another_one_replaces_it() -> None:
    raft = settled()
    step(raft, transfer(2, request=1))
    assert only(Respond, step(raft, transfer(2, request=2))) == []

    answers = only(Respond, step(raft, transfer(3, request=3)))

    assert [a.request for a in answers] == [1, 2]  # type: ignore[union-attr]
    assert raft.status.transfer_to == 3


@pytest.mark.parametrize(("to", "outcome"), [(9, RefusalReason.NOT_A_VOTER), (4, RefusalReason.NOT_A_VOTER), (1, None)])
def test_only_another_voter_can_take_over(to: int, outcome: RefusalReason | None) -> None:
    raft = leader(core(members=Members.initial([1, 2, 3], learners=[4])), settled=True)

    (answer,) = step(raft, transfer(to))

    if outcome is None:
        assert answer == Respond(RequestId(8), Success(Index(2))), "it leads already"
    else:
        assert answer.outcome.reason is outcome  # type: ignore[union-attr]


def test_without_a_name_the_best_matched_voter_takes_over() -> None:
    raft = settled(count=5)
    step(raft, Proposed(RequestId(1), (b"x",)))
    step(raft, accepted(2, 4, 3))

    step(raft, transfer())

    assert raft.status.transfer_to == 4


def test_where_nobody_was_heard_lately_nobody_can_take_over() -> None:
    raft = core(count=1)
    leader(raft, settled=True)

    (answer,) = step(raft, transfer())

    assert answer.outcome.reason is RefusalReason.TARGET_UNREACHABLE  # type: ignore[union-attr]


def test_nothing_of_a_transfer_survives_the_leadership() -> None:
    """A flag that did made a leader elected again refuse all writes for ever."""
    raft = settled()
    step(raft, transfer(2))
    step(raft, heartbeat(5, 3))

    leader(raft, settled=True)

    assert raft.status.transfer_to == 0
    assert only(Respond, step(raft, Proposed(RequestId(1), (b"x",)))) == []


def test_a_leadership_lost_in_another_way_is_no_successful_transfer() -> None:
    raft = settled(stall_ticks=0)
    step(raft, Proposed(RequestId(1), (b"x",)))
    step(raft, transfer(2))

    effects = tick(raft, 20, until=lambda: not raft.status.leads)

    answers = [a for a in only(Respond, effects) if a.request == 8]  # type: ignore[union-attr]
    assert [type(a.outcome) for a in answers] == [Refusal]  # type: ignore[union-attr]

    raft = settled(check_quorum=False)
    step(raft, Proposed(RequestId(1), (b"x",)))
    step(raft, transfer(2))
    (answer,) = [a for a in only(Respond, step(raft, heartbeat(9, 3))) if a.request == 8]  # type: ignore[union-attr]
    assert answer.outcome == Indeterminate(UnknownReason.LEADERSHIP_LOST)  # type: ignore[union-attr]


def test_an_operator_who_keeps_asking_in_vain_does_not_keep_a_leader_without_a_quorum_in_office() -> None:
    raft = settled()

    for _ in range(25):
        tick(raft)
        if not raft.status.leads:
            break
        step(raft, transfer(9))

    assert not raft.status.leads


def test_a_stopping_leader_hands_over_first() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    term = cluster[1].raft.server.term

    cluster[1].step(StopRequested())
    assert cluster[1].alive
    cluster.deliver()

    assert not cluster[1].alive
    assert cluster.leader.id in (2, 3)
    assert cluster.leader.raft.server.term == term + 1


def test_a_stopping_leader_without_a_successor_stops_all_the_same() -> None:
    raft = leader(core(count=1), settled=True)

    effects = step(raft, StopRequested())

    assert only(Stop, effects) == [Stop(StopReason.REQUESTED)]


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_candidate_that_is_told_to_stop_does_not_win_an_election_first(pre_vote: bool) -> None:
    """Its leadership would be one without an end: it takes nothing and has no node to hand over to."""
    cluster = Cluster(3, settings=with_settings(pre_vote=pre_vote, answer_ticks=200))
    cluster.elect(1)
    cluster.isolate(1)
    cluster.propose(1, b"x")
    cluster.tick(60, nodes=[1])
    cluster[1].step(CampaignRequested())
    assert role_of(cluster[1].raft) in (RoleName.CANDIDATE, RoleName.PRE_CANDIDATE)

    cluster[1].step(StopRequested())
    assert role_of(cluster[1].raft) is RoleName.FOLLOWER
    cluster.heal()
    cluster.tick(220)

    assert not cluster[1].alive
    assert cluster[1].answers


def test_reads_go_on_during_a_transfer_by_rounds() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].step(transfer(2))
    cluster.network.clear()

    cluster[1].step(Requested(RequestId(3), Read()))
    cluster.deliver(lambda sender, to, message: not isinstance(message, TimeoutNow))

    assert isinstance(cluster[1].answers[-1].outcome, ReadReady)


# Disks.


def test_entries_leave_for_the_followers_before_they_are_on_the_leaders_disk() -> None:
    """Thesis 10.2.1: the disks write at the same time."""
    raft = settled()

    effects = step(raft, Proposed(RequestId(1), (b"x",)))

    assert [type(e) for e in effects] == [Persist, Send, Send]


def test_an_acknowledgement_waits_for_the_entries_that_it_names() -> None:
    raft = core()

    effects = step(raft, append(1, 2, (1, 1), (2, 1)))
    assert sent(effects) == []

    assert persist(raft) == [Send(NodeId(2), accepted(1, 1, 2))]


def test_an_acknowledgement_of_what_was_durable_before_waits_for_nothing() -> None:
    raft = core(log=[1])
    step(raft, append(1, 2, (2, 1), (3, 1)))

    assert sent(step(raft, append(1, 2, (1, 1), (2, 1)))) == [accepted(1, 1, 2)]


def test_a_vote_request_waits_for_the_log_that_it_tells_of() -> None:
    """A candidate that claimed a tail, lost it in a crash, and stood again in the same term could use both answers."""
    raft = core(settings=with_settings(pre_vote=False))
    step(raft, append(1, 2, (1, 1), (2, 1)))
    step(raft, CampaignRequested())

    assert sent(step(raft, Persisted(WriteId(1)))) == [accepted(1, 1, 2)]
    requests = sent(step(raft, Persisted(WriteId(2))))

    assert {type(m) for m in requests} == {RequestVote}


def test_a_pre_vote_request_waits_for_the_log_that_it_tells_of_too() -> None:
    """It claims the same log end, and its answer leads to the real election."""
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1)))

    assert sent(step(raft, CampaignRequested())) == []
    assert RequestVote in {type(m) for m in sent(persist(raft))}


def test_a_candidate_that_crashed_with_an_unwritten_tail_does_not_use_the_votes_of_its_former_life() -> None:
    """The message numbers of a new life are new, and the term was durable before anybody was asked."""
    cluster = Cluster(3, settings=with_settings(pre_vote=False))
    cluster[1].step(CampaignRequested())
    late = [m for _, to, m in cluster.network if to == 2]
    assert isinstance(late[0], RequestVote)
    cluster[1].crash()
    cluster.network.clear()
    cluster[1].restart()
    cluster[1].step(CampaignRequested())
    cluster.network.clear()

    cluster[1].step(votes(late[0].term, 2, ident=late[0].id))

    assert role_of(cluster[1].raft) is RoleName.CANDIDATE


def test_a_promise_is_final_when_it_is_held() -> None:
    """Term included: it leaves as it was made, although its node has moved on meanwhile."""
    raft = core()
    step(raft, asks(2, 2, (1, 1)))
    step(raft, append(5, 3, (1, 1)))

    assert [m.term for m in sent(step(raft, Persisted(WriteId(1))))] == [2]


def test_nothing_is_applied_before_it_is_durable_here() -> None:
    """Otherwise a machine could know what its own log has lost."""
    raft = core()
    machine_done(raft)
    step(raft, append(1, 2, (1, 1), (2, 1), commit=2))
    assert raft.server.commit == 2
    assert raft.server.pipeline.applying == 1

    assert only(Apply, persist(raft)) == [apply_of(entries((2, 1)))]


def test_writes_are_acknowledged_by_number_and_in_order() -> None:
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1), ident=11))
    step(raft, append(1, 2, (2, 1), (3, 1), ident=12))
    step(raft, append(1, 2, (3, 1), (4, 1), ident=13))

    replies = sent(step(raft, Persisted(WriteId(2))))

    assert replies == [accepted(1, 1, 2, ident=11), accepted(1, 1, 3, ident=12)]


def test_a_change_of_term_voids_no_acknowledgement() -> None:
    """Writes have numbers; a promise about durable entries stays true in every later term."""
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1), ident=11))
    step(raft, asks(3, 3, (9, 2), kind=VoteKind.TRANSFER))

    assert [(m.term, type(m).__name__) for m in sent(persist(raft))] == [(1, "AppendReply"), (3, "VoteReply")]


def test_a_failed_disk_is_final() -> None:
    """A sync that failed may have lost what it should have written, and a second one would say yes to it."""
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1)))

    effects = step(raft, StorageFailed("I/O error"))

    assert effects == [Stop(StopReason.STORAGE_FAILED, "I/O error")]
    assert raft.stopped


def test_all_writes_of_a_step_are_one_and_in_front() -> None:
    for effects in (
        step(core(log=[1, 1]), append(4, 2, (1, 1), (2, 4))),
        step(core(), asks(3, 2, (9, 2))),
        step(leader(core(), settled=True), Proposed(RequestId(1), (b"x", b"y"))),
    ):
        assert len(persists(effects)) == 1
        assert isinstance(effects[0], Persist)


def test_entries_handed_to_the_disk_are_not_changed_by_a_later_truncation() -> None:
    raft = core()
    (write,) = persists(step(raft, append(1, 2, (1, 1), (2, 1), (3, 1))))
    before = write.entries

    step(raft, append(2, 3, (1, 1), (2, 2)))

    assert write.entries == before == entries((2, 1), (3, 1))


def test_bytes_under_way_to_the_disk_are_bounded() -> None:
    settings = with_settings(max_persist_bytes=100)
    raft = leader(core(settings=settings), settled=True)

    writes = [persists(step(raft, Proposed(RequestId(n), (b"x" * 60,)))) for n in range(5)]
    assert [len(w) for w in writes] == [1, 1, 0, 0, 0]

    (later,) = persists(persist(raft))
    assert len(later.entries) == 3


def stalled() -> Raft:
    """A leader whose disk has just been given a write that it will not answer for long."""
    raft = settled(stall_ticks=20)
    step(raft, Proposed(RequestId(1), (b"x",)))
    return raft


def beats(raft: Raft, count: int, *, match: int = 2) -> list[object]:
    effects: list[object] = []
    for _ in range(count):
        effects += tick(raft)
        for node in (2, 3):
            if raft.status.leads:
                effects += step(raft, accepted(2, node, match, purpose=HEARTBEAT))
    return effects


def test_a_leader_whose_disk_stalls_hands_over_to_a_voter_whose_disk_answers() -> None:
    raft = stalled()
    beats(raft, 5)
    step(raft, accepted(2, 3, 3))

    effects = beats(raft, 15)

    assert [a.kind for a in effects if isinstance(a, Alarm)] == [AlarmKind.DISK_STALL]
    assert set(orders(effects)) == {3}


def test_a_disk_that_answers_within_the_tick_of_the_write_has_answered_since() -> None:
    """On a fast network followers acknowledge in the very tick in which the leader's disk began to hang."""
    raft = stalled()
    step(raft, accepted(2, 3, 3))

    effects = beats(raft, 20)

    assert set(orders(effects)) == {3}


def test_a_leader_stays_where_no_other_disk_has_answered_since() -> None:
    """A stall of all disks at once is not mended by an election."""
    raft = stalled()

    effects = beats(raft, 60)

    assert orders(effects) == []
    assert raft.status.leads


def test_a_single_slow_write_is_no_stall() -> None:
    raft = stalled()
    beats(raft, 19)
    step(raft, accepted(2, 3, 3))
    persist(raft)

    assert not [e for e in beats(raft, 40, match=3) if isinstance(e, Alarm)]


def test_heartbeats_of_a_follower_with_a_slow_disk_keep_its_leader_in_office() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for node in (2, 3):
        cluster[node].auto_persist = False
    cluster.propose(1, b"x")
    cluster.tick(60)

    assert cluster[1].raft.status.leads
    assert cluster[1].data == []


def test_a_term_that_is_not_durable_is_not_spoken_of_by_a_heartbeats_answer() -> None:
    raft = core()

    effects = step(raft, heartbeat(7, 2))
    assert sent(effects) == []

    assert sent(persist(raft)) == [accepted(7, 1, 1, purpose=HEARTBEAT)]


def test_a_cluster_survives_the_loss_of_all_that_was_not_durable_anywhere() -> None:
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        cluster.elect(1)
        cluster.propose(1, b"safe")
        cluster.deliver()
        for node in cluster.nodes.values():
            node.auto_persist = False
        cluster.propose(1, b"unsafe")
        cluster.tick(3)

        for node in cluster.nodes.values():
            node.crash()
            node.restart()
            node.auto_persist = True
            node.persist()
        cluster.tick(60)

        assert cluster.leader.data == [b"safe"]
