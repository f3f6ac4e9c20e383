"""Rules of pre-vote, CheckQuorum and loyalty, and of what they do to each other; each with what taught it."""

from __future__ import annotations

import random

import pytest

from raft_core.effects import RefusalReason, Respond, RoleName, Send
from raft_core.events import CampaignRequested, ForgetLeaderRequested, PeerUnreachable, Proposed, Requested, Tick
from raft_core.ids import Index, MessageId, NodeId, RequestId, Term
from raft_core.membership import AddVoter, ChangeMode, Members, RemoveNode
from raft_core.messages import AppendReply, Message, TimeoutNow, VoteKind, VoteReply
from raft_core.requests import ChangeMembership, Read, ReadConsistency
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
    asks,
    campaign_id,
    core,
    heartbeat,
    leader,
    only,
    persist,
    rejected,
    role_of,
    sent,
    step,
    tick,
    votes,
)

PRE = VoteKind.PRE


def elected(count: int = 3, **settings: object) -> Cluster:
    cluster = Cluster(count, settings=with_settings(**settings))
    cluster.elect(1)
    cluster.tick(2)
    return cluster


def test_a_pre_candidate_keeps_term_and_vote_and_forgets_its_leader() -> None:
    """Two pre-candidates that remember a dead leader refuse each other for ever."""
    raft = core(term=3)
    step(raft, heartbeat(3, 2))

    step(raft, CampaignRequested())

    assert (role_of(raft), raft.server.term, raft.server.vote) == (RoleName.PRE_CANDIDATE, 3, 0)
    assert raft.status.leader == 0
    effects = step(raft, asks(4, 3, (1, 1), kind=PRE))
    assert effects == [Send(NodeId(3), votes(4, 1, kind=PRE))]


def test_a_granted_pre_vote_echoes_the_term_asked_for_and_a_refused_one_tells_the_voters() -> None:
    """Only so does the one that asks learn that it is behind."""
    behind, ahead = core(), core(log=[5], term=5)

    assert step(behind, asks(3, 2, (1, 1), kind=PRE)) == [Send(NodeId(2), votes(3, 1, kind=PRE))]
    assert step(ahead, asks(6, 2, (1, 1), kind=PRE)) == [Send(NodeId(2), votes(5, 1, granted=False, kind=PRE))]


def test_a_refused_pre_vote_of_a_higher_term_makes_a_follower_of_that_term() -> None:
    raft = core()
    step(raft, CampaignRequested())

    step(raft, votes(9, 2, granted=False, kind=PRE, ident=campaign_id(raft)))

    assert (role_of(raft), raft.server.term) == (RoleName.FOLLOWER, 9)


def test_nobody_raises_its_term_for_a_pre_vote_or_for_a_granted_one() -> None:
    """No node has entered the term that a pre-vote names."""
    raft = core(count=5)
    step(raft, asks(9, 2, (1, 1), kind=PRE))
    assert raft.server.term == 1

    step(raft, CampaignRequested())
    step(raft, votes(2, 2, kind=PRE, ident=campaign_id(raft)))
    assert raft.server.term == 1


@pytest.mark.parametrize("kind", [VoteKind.REAL, VoteKind.PRE])
def test_who_hears_a_leader_does_not_even_answer_other_candidates(kind: VoteKind) -> None:
    """A removed or cut-off node would otherwise depose healthy leaders."""
    raft = core()
    step(raft, heartbeat(1, 2))
    tick(raft, 9)

    assert step(raft, asks(5, 3, (9, 1), kind=kind)) == []
    assert raft.server.term == 1


def test_loyalty_ends_an_election_timeout_after_the_leader_was_heard() -> None:
    raft = core(seed=3)
    step(raft, heartbeat(1, 2))
    tick(raft, 10, until=lambda: role_of(raft) is not RoleName.FOLLOWER)

    effects = step(raft, asks(2, 3, (9, 1), kind=PRE))

    assert effects == [Send(NodeId(3), votes(2, 1, kind=PRE))]


def test_without_check_quorum_a_quorum_of_pre_candidates_can_replace_a_live_leader() -> None:
    """Loyalty needs CheckQuorum: a leader that never steps down must not be protected."""
    raft = core(settings=with_settings(check_quorum=False))
    step(raft, heartbeat(1, 2))

    assert step(raft, asks(2, 3, (9, 1), kind=PRE)) == [Send(NodeId(3), votes(2, 1, kind=PRE))]


def test_on_the_leaders_own_order_loyalty_does_not_apply() -> None:
    """Otherwise no leadership could ever be handed over."""
    raft = core()
    step(raft, heartbeat(1, 2))

    step(raft, asks(2, 3, (1, 1), kind=VoteKind.TRANSFER))

    assert persist(raft) == [Send(NodeId(3), votes(2, 1, kind=VoteKind.TRANSFER))]


def test_a_stale_leader_is_answered_so_that_it_steps_down() -> None:
    """A node stuck in a higher term, silent, would never be reached by appends again."""
    stuck, old = core(term=7), leader(core(2), settled=True)

    (answer,) = only(Send, step(stuck, heartbeat(2, 2, (1, 1))))
    assert isinstance(answer, Send)
    assert answer.message.term == 7

    step(old, answer.message)
    assert (old.role.name, old.server.term) == (RoleName.FOLLOWER, 7)


def test_a_pre_vote_of_a_lower_term_is_refused_aloud_with_our_term() -> None:
    """Silence deadlocked clusters in which only some nodes asked for pre-votes."""
    raft = core(term=7)

    effects = step(raft, asks(3, 2, (9, 2), kind=PRE))

    assert effects == [Send(NodeId(2), votes(7, 1, granted=False, kind=PRE))]


def test_a_long_log_of_a_low_term_and_a_short_one_of_a_high_term_find_a_leader() -> None:
    """Pre-votes spread no terms; an implementation in which they do not travel otherwise stays without a leader."""
    for seed in range(10):
        cluster = Cluster(4, seed=seed)
        cluster.elect(1)
        cluster.isolate(3, 4)
        cluster.propose(1, b"long")
        cluster.deliver()
        for node in (3, 4):
            cluster[node].raft.server.enter_term(Term(9))
            cluster[node].step(Tick())
        for node in (1, 2):
            cluster[node].crash()
            cluster[node].restart()
        cluster.heal()

        for _ in range(120):
            cluster.tick()
            if any(n.raft.status.leads for n in cluster.nodes.values()):
                break

        assert cluster.leader.id in (1, 2), f"seed {seed}"


def test_a_leader_steps_down_in_its_term_when_it_heard_no_quorum_for_a_timeout() -> None:
    """Its clients would wait for a leader that commits nothing."""
    raft = leader(core(count=5), settled=True)
    term = raft.server.term
    tick(raft, 9)
    step(raft, accepted(term, 2, 2, purpose=append(1, 1, (0, 0)).purpose))
    tick(raft, 1)
    assert raft.status.leads, "all were heard in the first period"

    for _ in range(9):
        step(raft, accepted(term, 2, 2))
        tick(raft)
    tick(raft)

    assert (role_of(raft), raft.server.term) == (RoleName.FOLLOWER, term)


def test_check_quorum_asks_both_halves_of_a_joint_configuration() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for node in (4, 5):
        cluster.joiner(node)
    changes = (AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(2)))
    cluster[1].step(Requested(RequestId(1), ChangeMembership(changes, ChangeMode.EXPLICIT)))
    cluster.deliver()
    assert cluster[1].raft.members.joint

    cluster.isolate(4, 5)
    cluster.tick(25)

    assert not cluster[1].raft.status.leads


def test_learners_do_not_keep_a_leader_in_office() -> None:
    raft = leader(core(members=Members.initial([1, 2, 3], learners=[4])), settled=True)
    tick(raft, 10)

    for _ in range(10):
        step(raft, accepted(2, 4, 2))
        tick(raft)

    assert not raft.status.leads


def test_a_node_that_was_cut_off_deposes_nobody_when_it_returns() -> None:
    """Without pre-vote its term rises all the while, and its return costs an election."""
    cluster = elected()
    cluster.isolate(3)
    cluster.tick(100)
    assert cluster[3].raft.server.term == cluster[1].raft.server.term

    cluster.heal()
    cluster.tick(20)

    assert cluster.leader.id == 1
    assert cluster[1].raft.server.term == 2


def test_an_order_to_stand_skips_the_pre_vote_even_in_a_pre_candidate() -> None:
    """The one who is told to take over was told by the leader; asking first would only find loyal voters."""
    raft = core()
    step(raft, CampaignRequested())
    assert role_of(raft) is RoleName.PRE_CANDIDATE

    step(raft, TimeoutNow(Term(1), NodeId(2), MessageId(9)))

    requests = sent(persist(raft))
    assert role_of(raft) is RoleName.CANDIDATE
    assert {m.kind for m in requests} == {VoteKind.TRANSFER}  # type: ignore[union-attr]


def test_the_death_of_the_leaders_process_is_answered_within_a_few_ticks() -> None:
    """A closed connection tells at once what a timeout would tell later."""
    for seed in range(20):
        cluster = Cluster(3, settings=with_settings(election_ticks=50, short_ticks=4), seed=seed)
        cluster.elect(1)
        cluster[1].crash()
        for node in (2, 3):
            cluster[node].step(PeerUnreachable(NodeId(1)))

        waited = 0
        while not any(cluster[n].raft.status.leads for n in (2, 3)):
            cluster.tick()
            waited += 1

        assert waited < 45, f"seed {seed}"


def test_a_single_broken_link_to_the_leader_disturbs_nobody() -> None:
    """The others are loyal, so the one that lost its link asks in vain."""
    cluster = elected()
    cluster.cut |= {(1, 3), (3, 1)}
    cluster[3].step(PeerUnreachable(NodeId(1)))
    cluster[1].step(PeerUnreachable(NodeId(3)))

    cluster.tick(100)

    assert cluster.leader.id == 1
    assert {n.raft.server.term for n in cluster.nodes.values()} == {2}
    cluster.heal()
    cluster.tick(5)
    assert cluster[3].raft.status.leader == 1


def test_a_lost_link_hurries_a_follower_once_until_it_hears_the_leader_again() -> None:
    """A flapping link must not make a campaign of each flap."""
    raft = core(seed=2)
    step(raft, heartbeat(1, 2))
    step(raft, PeerUnreachable(NodeId(2)))
    first = raft.role.timeout  # type: ignore[union-attr]
    step(raft, PeerUnreachable(NodeId(2)))
    assert raft.role.timeout == first <= 2  # type: ignore[union-attr]

    step(raft, heartbeat(1, 2))
    assert raft.role.timeout >= 10  # type: ignore[union-attr]


def test_losing_the_link_to_somebody_else_means_nothing() -> None:
    raft = core()
    step(raft, heartbeat(1, 2))
    before = raft.role.timeout  # type: ignore[union-attr]

    assert step(raft, PeerUnreachable(NodeId(3))) == []
    assert raft.role.timeout == before  # type: ignore[union-attr]


def test_a_process_that_was_paused_deposes_nobody_on_waking() -> None:
    """Election timers move by one per event, however much time passed."""
    raft = core()
    step(raft, heartbeat(1, 2))

    step(raft, Tick(1000))

    assert role_of(raft) is RoleName.FOLLOWER


def test_a_leader_that_was_paused_is_not_deposed_by_its_own_clock() -> None:
    raft = leader(core(), settled=True)

    step(raft, Tick(1000))

    assert raft.status.leads


def test_forgetting_the_leader_frees_the_vote_at_once() -> None:
    """For operators who know that it is dead."""
    raft = core()
    step(raft, heartbeat(1, 2))

    step(raft, ForgetLeaderRequested())

    assert raft.status.leader == 0
    step(raft, asks(2, 3, (1, 1)))
    assert persist(raft) == [Send(NodeId(3), votes(2, 1))]


def test_a_leader_forgets_nobody() -> None:
    raft = leader(core(), settled=True)

    assert step(raft, ForgetLeaderRequested()) == []
    assert raft.status.leads


def test_reads_that_wait_at_a_forgotten_leader_are_refused() -> None:
    raft = core()
    step(raft, heartbeat(1, 2))
    step(raft, Requested(RequestId(4), Read()))

    (answer,) = only(Respond, step(raft, ForgetLeaderRequested()))

    assert isinstance(answer, Respond)
    assert answer.outcome.reason is RefusalReason.LEADERSHIP_LOST  # type: ignore[union-attr]


def test_a_node_of_low_priority_waits_longer_and_less_with_every_try() -> None:
    """So that it lets others go first, and never blocks an election by itself."""
    raft = core(settings=with_settings(priority=3, pre_vote=False))
    assert 40 <= raft.role.timeout < 50  # type: ignore[union-attr]

    seen = []
    for _ in range(4):
        term = raft.server.term
        tick(raft, 60, until=lambda: raft.server.term > term)  # noqa: B023
        persist(raft)
        seen.append(raft.role.timeout)  # type: ignore[union-attr]

    assert max(seen[2:]) < 30
    assert raft.server.term == 5


def test_the_highest_priority_wins_the_elections() -> None:
    wins = 0
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        for node in (1, 2):
            cluster[node].settings = with_settings(priority=2)
            cluster[node].crash()
            cluster[node].restart()
        cluster.tick(80)
        wins += cluster.leader.id == 3

    assert wins == 10


def test_from_any_mixture_of_faults_a_leader_is_found_once_they_stop() -> None:
    """With a connected quorum and no more faults there is a leader within a few timeouts."""
    for seed in range(15):
        rng = random.Random(seed)
        cluster = Cluster(5, seed=seed)
        for _ in range(60):
            cluster.isolate(*rng.sample(range(1, 6), rng.randint(0, 3))) if rng.random() < 0.2 else cluster.heal()
            node = cluster[rng.randint(1, 5)]
            if rng.random() < 0.1 and node.alive:
                node.crash()
                node.restart()
            cluster.tick(rng.randint(1, 8), nodes=rng.sample(range(1, 6), 3))
            if node.raft.status.leads:
                node.step(Proposed(RequestId(1), (b"x",)))
        cluster.heal()

        cluster.tick(100)

        assert cluster.leader.raft.server.settings.election_ticks == 10
        assert len({n.raft.status.leader for n in cluster.nodes.values()}) == 1, f"seed {seed}"


def test_bounded_stale_reads_need_a_leader_that_was_heard_lately() -> None:
    """They say how old an answer may be, and refuse to be older."""
    raft = core(applied=1)
    stale = Requested(RequestId(3), Read(ReadConsistency.STALE_BOUNDED, 4))
    (refused,) = only(Respond, step(raft, stale))
    assert refused.outcome.reason is RefusalReason.STALE  # type: ignore[union-attr]

    step(raft, heartbeat(1, 2, (1, 1), commit=1, tip=1))
    tick(raft, 4)
    (ready,) = only(Respond, step(raft, stale))
    assert ready.outcome.index == 1  # type: ignore[union-attr]

    tick(raft, 1)
    (late,) = only(Respond, step(raft, stale))
    assert late.outcome.reason is RefusalReason.STALE  # type: ignore[union-attr]


def test_a_follower_that_lacks_committed_entries_is_not_fresh() -> None:
    """Hearing the leader is not enough: its commit index tells what is missing here."""
    raft = core(applied=1)
    step(raft, heartbeat(1, 2, (1, 1), commit=1, tip=5))

    (refused,) = only(Respond, step(raft, Requested(RequestId(3), Read(ReadConsistency.STALE_BOUNDED, 4))))

    assert refused.outcome.reason is RefusalReason.STALE  # type: ignore[union-attr]


def test_a_monotone_read_of_what_is_not_known_to_be_committed_is_refused_and_delays_no_other_read() -> None:
    raft = core(log=[1], applied=1)

    (refused,) = only(Respond, step(raft, Requested(RequestId(3), Read(ReadConsistency.MONOTONE, 1000))))
    (ready,) = only(Respond, step(raft, Requested(RequestId(4), Read(ReadConsistency.MONOTONE, 1))))

    assert refused.outcome.reason is RefusalReason.STALE  # type: ignore[union-attr]
    assert (ready.request, ready.outcome.index) == (4, 1)  # type: ignore[union-attr]


def test_answers_of_another_term_do_not_reach_a_role() -> None:
    """The term rule comes first, for every message alike."""
    raft = leader(core(term=4), settled=True)
    old: list[Message] = [accepted(3, 2, 9), votes(3, 2), rejected(3, 2, at=1, hint=(0, 0))]

    assert [step(raft, message) for message in old] == [[], [], []]
    assert isinstance(old[0], AppendReply)
    assert isinstance(old[1], VoteReply)
    assert raft.log.last_index == Index(2)
