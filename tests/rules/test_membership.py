"""Rules of changing the members, each with the mistake that taught it."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.effects import Effect, Indeterminate, Refusal, RefusalReason, Respond, Send, Success, UnknownReason
from raft_core.entries import MEMBERS, Entry
from raft_core.events import CampaignRequested, Proposed, Requested, Tick
from raft_core.ids import Incarnation, Index, NodeId, RequestId
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, Members, RemoveNode
from raft_core.messages import AppendEntries, Message, RequestVote
from raft_core.requests import ChangeMembership, LeaveJoint, TransferLeadership
from tests.core.cluster import Cluster, Node, with_settings
from tests.core.helpers import accepted, append, asks, core, leader, only, persist, sent, step

ADD_4 = AddVoter(NodeId(4))


def ask(*changes: Change, mode: ChangeMode = ChangeMode.AUTO, request: int = 9, expected: int = 0) -> Requested:
    return Requested(RequestId(request), ChangeMembership(changes, mode, Index(expected)))


def reason(effects: list[Effect]) -> RefusalReason:
    """Why the one request was refused."""
    (answer,) = [e for e in effects if isinstance(e, Respond)]
    assert isinstance(answer.outcome, Refusal), answer
    assert answer.outcome.text
    return answer.outcome.reason


def cluster_of(count: int, *joiners: int) -> Cluster:
    cluster = Cluster(count)
    cluster.elect(1)
    for node in joiners:
        cluster.joiner(node)
    return cluster


def change(cluster: Cluster, *changes: Change, mode: ChangeMode = ChangeMode.AUTO) -> None:
    cluster.leader.step(ask(*changes, mode=mode))
    cluster.deliver()
    cluster.tick(2)


# Refusals, each typed, each before anything is appended.


def test_no_change_is_taken_before_the_leader_committed_an_entry_of_its_term() -> None:
    """Two leaders, each with one change of its own, could otherwise commit in disjoint majorities."""
    raft = leader(core())
    before = raft.log.last_index

    effects = step(raft, ask(ADD_4))

    assert reason(effects) is RefusalReason.NO_COMMIT_IN_TERM
    assert raft.log.last_index == before


def test_one_change_at_a_time() -> None:
    raft = leader(core(), settled=True)
    step(raft, ask(ADD_4))

    effects = step(raft, ask(AddVoter(NodeId(5))))

    assert reason(effects) is RefusalReason.CHANGE_PENDING


def test_no_change_while_joint_but_to_leave() -> None:
    cluster = cluster_of(3, 4)
    change(cluster, ADD_4, mode=ChangeMode.EXPLICIT)

    effects = cluster[1].step(ask(AddVoter(NodeId(5))))

    assert reason(effects) is RefusalReason.CHANGE_WHILE_JOINT


REFUSED: list[tuple[RefusalReason, tuple[Change, ...]]] = [
    (RefusalReason.UNKNOWN_NODE, (RemoveNode(NodeId(9)),)),
    (RefusalReason.ID_REUSED, (ADD_4,)),
    (RefusalReason.NO_VOTERS, (RemoveNode(NodeId(1)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3)))),
    (RefusalReason.CONTRADICTORY_CHANGE, (ADD_4, RemoveNode(NodeId(4)))),
    (RefusalReason.CONTRADICTORY_CHANGE, ()),
    (RefusalReason.NO_CHANGE, (AddVoter(NodeId(2)),)),
    (RefusalReason.BAD_ID, (AddVoter(NodeId(0)),)),
    (RefusalReason.WRONG_INCARNATION, (AddVoter(NodeId(2), Incarnation(5)),)),
]


@pytest.mark.parametrize(("why", "changes"), REFUSED)
def test_a_change_that_makes_no_sense_is_refused_and_not_appended(
    why: RefusalReason, changes: tuple[Change, ...]
) -> None:
    """An invalid change in the log is applied on every replay, and crashes every node every time."""
    used = 4 if why is RefusalReason.ID_REUSED else 3
    members = Members(voters=(NodeId(1), NodeId(2), NodeId(3)), highest_id=NodeId(used))
    raft = leader(core(members=members), settled=True)
    before = raft.log.last_index

    effects = step(raft, ask(*changes))

    assert reason(effects) is why
    assert raft.log.last_index == before


def test_a_change_may_demand_the_configuration_that_it_was_made_for() -> None:
    """Two operators who look at the same picture must not both change it."""
    raft = leader(core(), settled=True)
    assert raft.status.members_index == 1

    assert reason(step(raft, ask(ADD_4, expected=2))) is RefusalReason.CONFIGURATION_DIFFERS
    assert only(Respond, step(raft, ask(ADD_4, expected=1))) == []
    assert raft.members.voters == (1, 2, 3, 4)


def test_only_a_joint_configuration_can_be_left() -> None:
    raft = leader(core(), settled=True)

    assert reason(step(raft, Requested(RequestId(9), LeaveJoint()))) is RefusalReason.NOT_JOINT


def test_during_a_transfer_no_change_is_taken() -> None:
    raft = leader(core(), settled=True)
    step(raft, Requested(RequestId(8), TransferLeadership(NodeId(2))))

    (answer,) = only(Respond, step(raft, ask(ADD_4)))

    assert answer == Respond(RequestId(9), Refusal(RefusalReason.TRANSFERRING, NodeId(2)))


def test_a_change_is_answered_when_it_has_been_applied() -> None:
    cluster = cluster_of(3, 4)

    change(cluster, ADD_4)

    (answer,) = cluster[1].answers
    assert (answer.request, type(answer.outcome)) == (9, Success)


def test_a_joint_change_is_answered_when_the_joint_phase_is_over() -> None:
    cluster = cluster_of(3, 4, 5)
    cluster[1].step(ask(ADD_4, AddVoter(NodeId(5))))
    cluster.deliver(lambda sender, to, message: sender == 1)
    assert cluster[1].answers == []

    cluster.tick(3)

    (answer,) = cluster[1].answers
    assert isinstance(answer.outcome, Success)
    assert not cluster[1].raft.members.joint


def test_a_change_whose_leader_was_deposed_has_an_unknown_outcome() -> None:
    raft = leader(core(), settled=True)
    step(raft, ask(ADD_4, AddVoter(NodeId(5))))

    effects = step(raft, append(9, 2, (1, 1)))

    assert only(Respond, effects) == [Respond(RequestId(9), Indeterminate(UnknownReason.LEADERSHIP_LOST))]


# In force once appended.


def test_a_configuration_that_is_truncated_never_was() -> None:
    """Two in a row can be: the one before is remembered until a later one is committed."""
    raft = leader(core(), settled=True)
    step(raft, ask(ADD_4))
    assert raft.status.members_index == 3
    persist(raft)

    step(raft, append(9, 2, (2, 2), (3, 9)))

    assert raft.members == Members.initial([1, 2, 3])
    assert raft.status.members_index == 1


def test_a_restart_finds_the_configuration_in_its_log() -> None:
    cluster = cluster_of(3, 4)
    change(cluster, ADD_4)

    cluster[2].crash()
    cluster[2].restart()

    assert cluster[2].raft.members.voters == (1, 2, 3, 4)


def test_a_voter_that_does_not_know_of_its_promotion_votes() -> None:
    """It may be the one that the majority needs."""
    raft = core(4, members=Members.initial([1, 2, 3], learners=[4]))

    step(raft, asks(5, 2, (9, 4)))

    assert raft.server.vote == 2


def test_nobody_refuses_a_vote_because_it_does_not_know_the_candidate() -> None:
    """The candidate may be a member of a configuration that has not come here yet."""
    raft = core()

    step(raft, asks(5, 99, (9, 4)))

    assert raft.server.vote == 99


def test_a_voter_of_the_committed_configuration_may_stand_while_the_next_is_uncommitted() -> None:
    """A removed leader may be the only one with the longest log; once its removal is committed it may not."""
    without = Members.initial([1, 2, 3]).changed((RemoveNode(NodeId(1)),))
    assert isinstance(without, Members)
    raft = core()
    entry = Entry.make(2, 1, without.encode(), MEMBERS)
    grown = msgspec.structs.replace(append(1, 2, (1, 1)), entries=(entry,))
    step(raft, grown)
    persist(raft)
    assert raft.server.may_campaign

    step(raft, append(1, 2, (2, 1), commit=2))
    assert not raft.server.may_campaign


# The joint phase.


def left_entries(node: Node) -> list[bool]:
    return [Members.decode(e.data).joint for e in node.raft.log.entries() if e.kind is MEMBERS]


def test_the_joint_phase_is_left_by_the_next_leader_if_the_first_one_dies() -> None:
    """The wish to leave is part of the configuration; kept in the leader's memory, it died with it."""
    for seed in range(5):
        cluster = cluster_of(3, 4, 5)
        cluster.seed = seed
        cluster[1].step(ask(ADD_4, AddVoter(NodeId(5)), RemoveNode(NodeId(1))))
        cluster.deliver(lambda sender, to, message: sender == 1)
        cluster[1].crash()
        cluster.network.clear()

        cluster.tick(60)

        assert cluster.leader.raft.members.voters == (2, 3, 4, 5)
        assert not cluster.leader.raft.members.joint


def test_the_joint_phase_is_left_once() -> None:
    """Proposed twice, the second leave found nothing to leave, and crashed the nodes."""
    cluster = cluster_of(3, 4, 5)

    change(cluster, ADD_4, AddVoter(NodeId(5)))
    for number in range(5):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()

    assert left_entries(cluster[1]) == [False, True, False]


def test_a_recovered_joint_configuration_is_left_only_after_it_is_committed_under_both_halves() -> None:
    """Left at once, a member was removed without the consent of the old majority."""
    cluster = cluster_of(3, 4, 5)
    cluster[1].step(ask(ADD_4, AddVoter(NodeId(5)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3))))

    def to_the_new_ones(sender: int, to: int, message: Message) -> bool:
        return to in (1, 4, 5) and sender in (1, 4, 5)

    cluster.deliver(to_the_new_ones)
    assert cluster[4].raft.members.joint
    for node in (2, 3):
        cluster[node].crash()
    cluster.tick(40)
    assert all(cluster[n].raft.members.joint for n in (1, 4, 5))

    for node in (2, 3):
        cluster[node].restart()
    cluster.elect(1)
    cluster.tick(5)
    assert cluster[1].raft.members.voters == (1, 4, 5)


def test_a_joint_configuration_is_not_left_before_it_is_committed_itself() -> None:
    """The commit of an entry before it says nothing about it."""
    raft = leader(core(), settled=True)
    step(raft, Proposed(RequestId(1), (b"x",)))
    step(raft, ask(ADD_4, AddVoter(NodeId(5)), RemoveNode(NodeId(3))))
    persist(raft)

    for node in (2, 3, 4):
        step(raft, accepted(2, node, 3))

    assert raft.server.commit == 3
    assert raft.log.last_index == 4
    assert raft.members.joint


def test_an_explicit_joint_phase_is_left_on_request_only() -> None:
    cluster = cluster_of(3, 4)
    change(cluster, ADD_4, mode=ChangeMode.EXPLICIT)
    cluster.tick(30)
    assert cluster[1].raft.members.joint

    cluster[1].step(Requested(RequestId(10), LeaveJoint()))
    cluster.deliver()

    assert cluster[1].raft.members == Members.initial([1, 2, 3, 4])
    assert [(a.request, type(a.outcome)) for a in cluster[1].answers] == [(9, Success), (10, Success)]


def test_new_members_are_sent_to_at_once() -> None:
    """Not with the next heartbeat: their acknowledgement may be what a majority waits for."""
    raft = leader(core(), settled=True)

    effects = step(raft, ask(ADD_4))

    assert {type(m) for m in sent(effects, to=4)} == {AppendEntries}
    assert len(sent(effects, to=4)) == 2, "a heartbeat, and a probe"


# Learners that become voters.


def test_a_learner_is_promoted_when_it_has_caught_up_and_is_active() -> None:
    cluster = cluster_of(3, 4)

    change(cluster, AddLearner(NodeId(4), promote_when_ready=True))
    cluster.tick(5)

    assert cluster[1].raft.members == Members.initial([1, 2, 3, 4])


def test_a_learner_that_is_away_is_not_promoted_and_blocks_nothing() -> None:
    """A voter that is not there weakens the majority from the first moment."""
    cluster = cluster_of(3)
    change(cluster, AddLearner(NodeId(4), promote_when_ready=True))
    cluster.tick(50)
    cluster.propose(1, b"x")
    cluster.deliver()

    assert cluster[1].raft.members.learners == (4,)
    assert cluster[1].data == [b"x"]


def test_a_learner_that_lags_is_not_promoted_yet() -> None:
    cluster = Cluster(3, settings=with_settings(promote_lag=3))
    cluster.elect(1)
    for number in range(10):
        cluster.propose(1, b"%d" % number)
    cluster.deliver()
    cluster.joiner(4)
    cluster[1].step(ask(AddLearner(NodeId(4), promote_when_ready=True)))

    def no_entries(sender: int, to: int, message: Message) -> bool:
        return not (to == 4 and isinstance(message, AppendEntries) and message.entries)

    for _ in range(20):
        cluster.deliver(no_entries)
        for node in cluster.nodes.values():
            node.step(Tick())
    assert cluster[1].raft.members.learners == (4,)

    cluster.tick(10)
    assert cluster[1].raft.members.voters == (1, 2, 3, 4)


def test_the_wish_to_be_promoted_survives_the_leader() -> None:
    cluster = cluster_of(3)
    change(cluster, AddLearner(NodeId(4), promote_when_ready=True))
    cluster[1].crash()
    cluster.tick(60)

    cluster.joiner(4)
    cluster.tick(10)

    assert cluster.leader.id != 1
    assert cluster.leader.raft.members.voters == (1, 2, 3, 4)


def test_a_learner_never_stands() -> None:
    raft = core(4, members=Members.initial([1, 2, 3], learners=[4]))

    assert step(raft, CampaignRequested()) == []


# Stories.


def test_three_shrink_to_one_and_grow_to_three_again() -> None:
    """Two servers are where implementations that change at apply time hang."""
    cluster = cluster_of(3)
    change(cluster, RemoveNode(NodeId(3)))
    change(cluster, RemoveNode(NodeId(2)))
    assert cluster[1].raft.members.voters == (1,)
    cluster[2].crash()
    cluster[3].crash()
    cluster.propose(1, b"alone")
    cluster.deliver()
    for node in (4, 5):
        cluster.joiner(node)
        change(cluster, AddVoter(NodeId(node)))
    cluster.propose(1, b"together")
    cluster.deliver()

    assert cluster[5].data == [b"alone", b"together"]
    assert cluster[5].raft.members.voters == (1, 4, 5)


def test_everybody_is_replaced_at_once_and_nothing_is_lost() -> None:
    cluster = cluster_of(3, 4, 5, 6)
    cluster.propose(1, b"before")
    cluster.deliver()

    change(cluster, *[AddVoter(NodeId(n)) for n in (4, 5, 6)], *[RemoveNode(NodeId(n)) for n in (1, 2, 3)])
    cluster.tick(40)
    for node in (1, 2, 3):
        cluster[node].crash()
    cluster.tick(40)
    cluster.propose(cluster.leader.id, b"after")
    cluster.deliver()

    assert cluster.leader.id in (4, 5, 6)
    assert cluster[6].data == [b"before", b"after"]


def test_a_dead_member_is_removed() -> None:
    cluster = cluster_of(3)
    cluster[3].crash()

    change(cluster, RemoveNode(NodeId(3)))

    assert cluster[1].raft.members.voters == (1, 2)


def test_a_removed_id_never_comes_back() -> None:
    """With an empty disk it would replay old configurations, and elect itself in one of them."""
    cluster = cluster_of(3)
    change(cluster, RemoveNode(NodeId(3)))

    effects = cluster[1].step(ask(AddVoter(NodeId(3))))

    assert reason(effects) is RefusalReason.ID_REUSED


def test_changes_go_on_during_elections_and_no_two_leaders_share_a_term() -> None:
    cluster = cluster_of(3, 4, 5)
    leaders: dict[int, int] = {}

    def watch(node: Node) -> None:
        if node.raft.status.leads:
            assert leaders.setdefault(node.raft.server.term, node.id) == node.id

    cluster.on_step = watch
    changes: list[Change] = [ADD_4, AddVoter(NodeId(5)), RemoveNode(NodeId(1))]
    for number, each in enumerate(changes):
        cluster.leader.step(ask(each, request=number))
        cluster[2 + number % 2].step(CampaignRequested())
        cluster.deliver()
        cluster.tick(40)

    assert len(leaders) > 1


def test_vote_requests_go_to_the_voters_of_both_halves() -> None:
    raft = leader(core(), settled=True)
    step(raft, ask(ADD_4, AddVoter(NodeId(5)), RemoveNode(NodeId(2))))
    step(raft, append(9, 2, (3, 2)))
    persist(raft)

    requests = step(raft, CampaignRequested())

    asked = {e.to for e in requests if isinstance(e, Send) and isinstance(e.message, RequestVote)}
    assert asked == {2, 3, 4, 5}
