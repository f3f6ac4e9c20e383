"""Every wait of a core has a structured reason, and the reason is the true one."""

from __future__ import annotations

from raft_core.events import CampaignRequested, PeerUnreachable, Proposed, Requested, StopRequested
from raft_core.explain import Explanation, Reason
from raft_core.ids import Index, NodeId, RequestId
from raft_core.membership import Members
from raft_core.messages import AppendReply
from raft_core.requests import Read
from tests.core.cluster import Cluster, Node, with_settings


def reasons(explanations: tuple[Explanation, ...]) -> list[Reason]:
    return [each.reason for each in explanations]


def only(explanations: tuple[Explanation, ...]) -> Explanation:
    assert len(explanations) == 1, explanations
    return explanations[0]


def settled() -> tuple[Cluster, Node]:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(2)
    return cluster, leader


def test_a_settled_leader_has_nothing_to_explain() -> None:
    _, leader = settled()

    assert leader.raft.explain() == ()


def test_a_follower_names_the_leader_that_it_follows() -> None:
    cluster, _ = settled()

    found = only(cluster[2].raft.explain())

    assert (found.reason, found.nodes) == (Reason.FOLLOWS_LEADER, (1,))


def test_a_learner_and_a_stranger_say_why_they_never_lead() -> None:
    cluster = Cluster(members=Members.initial([1], learners=[2]))
    joiner = cluster.joiner(3)
    cluster.deliver()

    assert only(cluster[2].raft.explain()).reason is Reason.LEARNER
    assert only(joiner.raft.explain()).reason is Reason.NOT_A_MEMBER


def test_a_follower_without_a_leader_says_when_it_stands() -> None:
    cluster = Cluster(3)
    cluster.deliver()

    found = only(cluster[1].raft.explain())

    assert found.reason is Reason.WAITS_FOR_TIMEOUT


def test_a_candidate_names_the_voters_that_are_silent() -> None:
    cluster = Cluster(3)
    cluster.isolate(1)

    cluster.tick(40, nodes=[1])

    found = only(cluster[1].raft.explain())
    assert (found.reason, found.nodes) == (Reason.VOTES_MISSING, (2, 3))


def test_a_candidate_with_a_slow_disk_waits_for_its_own_vote() -> None:
    cluster = Cluster(3, settings=with_settings(pre_vote=False))
    cluster[1].auto_persist = False

    cluster.tick(25, nodes=[1])

    assert only(cluster[1].raft.explain()).reason is Reason.OWN_VOTE_NOT_DURABLE


def test_an_entry_without_a_quorum_names_those_who_have_not_acknowledged_it() -> None:
    cluster, leader = settled()
    cluster.isolate(1)
    cluster.propose(1, b"x")
    cluster.deliver()

    commit, applied = leader.raft.explain(index=Index(3))

    assert (commit.reason, commit.nodes, commit.index) == (Reason.QUORUM_MISSING, (2, 3), 3)
    assert applied.reason is Reason.NOT_COMMITTED
    assert Reason.QUORUM_MISSING in reasons(leader.raft.explain())


def test_a_slow_disk_of_the_leader_is_named_among_those_missing() -> None:
    cluster, leader = settled()
    leader.auto_persist = False
    cluster.cut.add((1, 2))
    cluster.propose(1, b"x")
    cluster.deliver()

    found = leader.raft.explain(index=Index(3))[0]

    assert (found.reason, found.nodes) == (Reason.QUORUM_MISSING, (1, 2))


def test_an_entry_of_an_older_term_waits_for_one_of_ours() -> None:
    cluster = Cluster(3, settings=with_settings(max_message_bytes=1))
    leader = cluster.elect(1)
    cluster.isolate(1)
    cluster.propose(1, b"old")
    cluster.deliver()
    leader.crash()
    leader.restart()
    cluster.heal()
    cluster[2].step(PeerUnreachable(NodeId(1)))

    leader.step(CampaignRequested())
    cluster.deliver(lambda _, __, message: not (isinstance(message, AppendReply) and message.match >= 4))

    assert leader.raft.status.leads
    assert leader.raft.explain(index=Index(3))[0].reason is Reason.OLD_TERM
    assert leader.raft.explain(index=Index(4))[0].reason is Reason.QUORUM_MISSING


def test_an_index_beyond_the_log_is_said_to_be_so() -> None:
    _, leader = settled()

    assert reasons(leader.raft.explain(index=Index(99))) == [Reason.NOT_IN_LOG, Reason.NOT_COMMITTED]


def test_a_follower_refers_questions_of_commit_to_the_leader() -> None:
    cluster, _ = settled()
    cluster.propose(1, b"x")
    sender, to, message = cluster.network.pop(0)
    cluster[2].step(message)

    found = cluster[2].raft.explain(index=Index(3))[0]

    assert (sender, to) == (1, 2)
    assert (found.reason, found.nodes) == (Reason.ONLY_LEADER_COUNTS, (1,))


def test_a_committed_entry_waits_for_the_machine_or_for_this_disk() -> None:
    cluster, leader = settled()
    cluster[2].auto_persist = False
    cluster.propose(1, b"x")
    while cluster.network:
        _, to, message = cluster.network.pop(0)
        cluster[to].step(message)

    assert leader.raft.explain(index=Index(3))[0].reason is Reason.MACHINE_BUSY
    assert cluster[2].raft.explain(index=Index(3))[0].reason is Reason.NOT_DURABLE


def test_a_silent_follower_is_said_to_owe_an_answer_and_a_full_window_is_counted() -> None:
    cluster = Cluster(3, settings=with_settings(max_inflight_messages=1))
    leader = cluster.elect(1)
    cluster.isolate(2)
    cluster.propose(1, b"x")
    cluster.deliver()

    full = only(leader.raft.explain(peer=NodeId(2)))

    assert full.reason is Reason.WINDOW_FULL
    assert "1" in full.text
    assert leader.raft.explain(peer=NodeId(3)) == ()


def test_reads_wait_for_a_round_and_on_a_follower_for_the_leader() -> None:
    cluster, leader = settled()
    cluster[2].step(Requested(RequestId(5), Read()))
    cluster.isolate(1)
    leader.step(Requested(RequestId(6), Read()))
    cluster.deliver()

    assert leader.raft.explain()[-1].reason is Reason.ROUND_UNANSWERED
    assert cluster[2].raft.explain()[-1].reason is Reason.LEADER_UNANSWERED


def test_reads_of_a_new_leader_wait_for_an_entry_of_its_term() -> None:
    cluster = Cluster(1)
    node = cluster[1]
    node.auto_persist = False
    cluster.tick(40)
    node.persist(1)
    assert node.raft.status.leads

    node.step(Requested(RequestId(5), Read()))

    assert node.raft.explain()[-1].reason is Reason.NO_COMMIT_IN_TERM


def test_a_stopped_core_says_that_it_was_stopped() -> None:
    cluster = Cluster(3)

    cluster[3].step(StopRequested())

    assert cluster[3].raft.explain()[0].reason is Reason.STOPPED


def test_explaining_changes_nothing() -> None:
    cluster, leader = settled()
    cluster.isolate(1)
    leader.step(Proposed(RequestId(1), (b"x",)))
    before = leader.raft.fingerprint()

    leader.raft.explain()
    leader.raft.explain(index=Index(3), peer=NodeId(2))

    assert leader.raft.fingerprint() == before
