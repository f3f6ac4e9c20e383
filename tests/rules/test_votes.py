"""Rules of voting and of durable terms, each with the mistake that taught it."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist, RoleName, Send
from raft_core.entries import HardState, SnapshotMeta
from raft_core.events import CampaignRequested, PeerUnreachable, Persisted, SnapshotReceived, Tick
from raft_core.ids import Incarnation, Index, MessageId, NodeId, Term, WriteId
from raft_core.membership import AddVoter, Members, RemoveNode
from raft_core.messages import InstallSnapshot, RequestVote, VoteKind, VoteReply
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import (
    append,
    asks,
    campaign_id,
    candidate,
    core,
    heartbeat,
    leader,
    only,
    persist,
    persists,
    role_of,
    sent,
    step,
    tick,
    votes,
)

PLAIN = with_settings(pre_vote=False, check_quorum=False)


def test_no_vote_leaves_before_it_is_durable() -> None:
    """A vote kept in memory is forgotten by a crash, and given twice."""
    raft = core()

    effects = step(raft, asks(2, 2, (1, 1)))

    assert persists(effects) == [Persist(WriteId(1), HardState(Term(2), NodeId(2), Index(1)))]
    assert only(Send, effects) == []
    assert persist(raft) == [Send(NodeId(2), votes(2, 1))]


def test_a_vote_in_a_term_that_is_durable_already_is_written_too() -> None:
    """The vote is a promise of its own, not a passenger of the term."""
    raft = core(term=3)

    effects = step(raft, asks(3, 2, (1, 1)))

    assert effects == [Persist(WriteId(1), HardState(Term(3), NodeId(2), Index(1)))]
    assert persist(raft) == [Send(NodeId(2), votes(3, 1))]


def test_a_crash_between_deciding_and_syncing_leaves_no_vote_behind() -> None:
    """Whatever was not durable was never said, so another candidate may have the vote."""
    cluster = Cluster(3, settings=PLAIN)
    cluster[1].auto_persist = False
    cluster[1].step(asks(2, 2, (1, 1)))
    assert cluster.network == []

    cluster[1].crash()
    cluster[1].restart()
    cluster[1].auto_persist = True
    effects = cluster[1].step(asks(2, 3, (1, 1)))

    assert effects[0] == Persist(WriteId(1), HardState(Term(2), NodeId(3), Index(1)))
    assert cluster.network == [(1, 3, votes(2, 1))]


def test_a_candidate_counts_its_own_vote_only_once_it_is_durable() -> None:
    """Otherwise it could win, crash, and vote for another in the same term."""
    raft = core(count=1, settings=PLAIN)

    step(raft, CampaignRequested())
    assert role_of(raft) is RoleName.CANDIDATE

    persist(raft)
    assert role_of(raft) is RoleName.LEADER


def test_a_vote_is_given_only_where_no_leader_is_known() -> None:
    """A second way to a vote, in a term that has its leader already, must stay closed."""
    raft = core(term=2, settings=PLAIN)
    step(raft, heartbeat(2, 2))

    effects = step(raft, asks(2, 3, (9, 2)))

    assert effects == [Send(NodeId(3), votes(2, 1, granted=False))]


def test_a_pre_vote_changes_nothing_at_the_voter() -> None:
    """Neither vote nor term nor timer: a node that only asks must not delay one that will stand."""
    raft = core()
    tick(raft, 5)

    effects = step(raft, asks(2, 2, (1, 1), kind=VoteKind.PRE))

    assert effects == [Send(NodeId(2), votes(2, 1, kind=VoteKind.PRE))]
    assert (raft.server.term, raft.server.vote, raft.role.elapsed) == (1, 0, 5)  # type: ignore[union-attr]


def test_a_vote_given_begins_the_timer_anew_and_a_refusal_does_not() -> None:
    """A candidate that cannot win must not keep a better one from standing."""
    granting, refusing = core(settings=PLAIN), core(log=[1, 1], settings=PLAIN)
    for raft in (granting, refusing):
        tick(raft, 5)
        step(raft, asks(2, 2, (1, 1)))

    assert granting.role.elapsed == 0  # type: ignore[union-attr]
    assert refusing.role.elapsed == 5  # type: ignore[union-attr]


def test_a_vote_that_is_repeated_counts_once() -> None:
    """Votes are a set of voters; a counter of answers elects on echoes."""
    raft = candidate(core(count=5, settings=PLAIN))

    for _ in range(3):
        step(raft, votes(2, 2, ident=campaign_id(raft)))
    assert role_of(raft) is RoleName.CANDIDATE

    step(raft, votes(2, 3, ident=campaign_id(raft)))
    assert role_of(raft) is RoleName.LEADER


def test_an_election_is_lost_as_soon_as_it_cannot_be_won() -> None:
    """Then the node waits as a follower, instead of blocking others until its timeout."""
    raft = candidate(core(count=5, settings=PLAIN))

    for voter in (2, 3):
        step(raft, votes(2, voter, granted=False, ident=campaign_id(raft)))
    assert role_of(raft) is RoleName.CANDIDATE
    step(raft, votes(2, 4, granted=False, ident=campaign_id(raft)))

    assert (role_of(raft), raft.server.vote) == (RoleName.FOLLOWER, 1)


def test_a_first_answer_stands_whatever_comes_after() -> None:
    """A late or repeated answer must not turn a vote around."""
    raft = candidate(core(count=5, settings=PLAIN))
    ident = campaign_id(raft)

    step(raft, votes(2, 2, granted=False, ident=ident))
    step(raft, votes(2, 2, ident=ident))
    step(raft, votes(2, 3, ident=ident))

    assert role_of(raft) is RoleName.CANDIDATE


def test_an_answer_to_an_earlier_campaign_does_not_count() -> None:
    """A delayed vote of a former life must not elect this one."""
    raft = candidate(core(settings=PLAIN))

    step(raft, votes(2, 2, ident=campaign_id(raft) - 1))

    assert role_of(raft) is RoleName.CANDIDATE


def test_stepping_down_within_a_term_keeps_the_vote() -> None:
    """An erased vote is a second vote."""
    raft = candidate(core(settings=PLAIN))
    step(raft, append(2, 3, (1, 1)))

    assert (role_of(raft), raft.server.term, raft.server.vote) == (RoleName.FOLLOWER, 2, 1)
    effects = step(raft, asks(2, 2, (9, 2)))
    assert effects == [Send(NodeId(2), votes(2, 1, granted=False))]


def test_terms_go_on_after_all_nodes_have_restarted() -> None:
    """Terms that begin at 0 again let a stale log of a high term beat fresher ones, and committed data is lost."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver()
    term = cluster[1].raft.server.term

    for node in cluster.nodes.values():
        node.crash()
        node.restart()
    cluster.tick(60)

    assert cluster.leader.raft.server.term > term
    assert cluster.leader.data == [b"x"]


def test_two_nodes_with_the_same_first_draw_come_apart() -> None:
    """The timeout is drawn anew every time; drawn once for life, a tie lasts for ever."""
    cluster = Cluster(2, settings=PLAIN, seed=0)
    for node in cluster.nodes.values():
        node.raft.role.timeout = 10  # type: ignore[union-attr]

    for _ in range(200):
        cluster.tick()
        if any(node.raft.status.leads for node in cluster.nodes.values()):
            break

    assert cluster.leader.raft.server.term >= 2


def test_a_node_that_installs_a_snapshot_does_not_stand() -> None:
    """Its log is between two lives; it could win with neither."""
    raft = core(settings=PLAIN)
    meta = SnapshotMeta(Index(9), Term(1), Members.initial([1, 2, 3]))
    step(raft, InstallSnapshot(Term(1), NodeId(2), MessageId(7), meta))
    step(raft, SnapshotReceived(meta))

    tick(raft, 50)
    assert role_of(raft) is RoleName.FOLLOWER

    persist(raft)
    tick(raft, 50, until=lambda: role_of(raft) is RoleName.CANDIDATE)
    assert role_of(raft) is RoleName.CANDIDATE


@pytest.mark.parametrize("node", [4, 5])
def test_a_learner_and_a_stranger_do_not_stand(node: int) -> None:
    """Who is not in the configuration cannot lead it."""
    raft = core(node, members=Members.initial([1, 2, 3], learners=[4]), settings=PLAIN)

    tick(raft, 50)
    step(raft, CampaignRequested())

    assert (role_of(raft), raft.server.term) == (RoleName.FOLLOWER, 1)


def test_a_vote_counts_only_from_the_disk_that_the_configuration_names() -> None:
    """A wiped disk under an old id has forgotten its votes, and must not vote twice."""
    disks = {NodeId(n): Incarnation(n * 10) for n in (1, 2, 3)}
    raft = candidate(core(members=Members.initial([1, 2, 3], incarnations=disks), settings=PLAIN))
    ident = campaign_id(raft)

    step(raft, votes(2, 2, ident=ident, disk=99))
    assert role_of(raft) is RoleName.CANDIDATE

    step(raft, votes(2, 3, ident=ident, disk=30))
    assert role_of(raft) is RoleName.LEADER


def test_a_vote_of_a_removed_or_unknown_node_does_not_count() -> None:
    """Only voters in force are counted; a node that knows less or more may still answer."""
    raft = candidate(core(settings=PLAIN))

    step(raft, votes(2, 9, ident=campaign_id(raft)))

    assert role_of(raft) is RoleName.CANDIDATE


def test_a_refused_vote_of_a_higher_term_ends_the_candidacy() -> None:
    """Its term is what the candidate has to learn."""
    raft = candidate(core(settings=PLAIN))

    step(raft, votes(7, 2, granted=False, ident=campaign_id(raft)))

    assert (role_of(raft), raft.server.term) == (RoleName.FOLLOWER, 7)


def test_a_vote_request_is_repeated_to_those_who_are_silent() -> None:
    """The request or its answer may be lost; without repetition a whole timeout is."""
    raft = candidate(core(settings=PLAIN))
    step(raft, votes(2, 2, granted=False, ident=campaign_id(raft)))

    effects = tick(raft, 1)

    assert [(e.to, type(e.message)) for e in effects if isinstance(e, Send)] == [(3, RequestVote)]


def test_every_reply_waits_for_the_term_it_speaks_of() -> None:
    """A refusal too is a promise: it tells of a term that a crash could undo."""
    raft = core(log=[1, 1])

    effects = step(raft, asks(5, 2, (1, 1)))
    assert only(Send, effects) == []

    assert [type(m) for m in sent(step(raft, Persisted(WriteId(1))))] == [VoteReply]


def test_the_configuration_of_a_change_does_not_alter_a_vote_given() -> None:
    """Votes belong to terms, not to configurations."""
    raft = leader(core(), settled=True)
    members = raft.members.changed((AddVoter(NodeId(4)), RemoveNode(NodeId(3))))

    assert isinstance(members, Members)
    step(raft, asks(2, 4, (9, 9), kind=VoteKind.TRANSFER))
    assert raft.server.vote == 1


def test_a_broken_connection_alone_gives_nobody_a_vote_in_a_term_with_a_leader() -> None:
    """Suspecting the leader is no reason to vote twice in its term."""
    raft = core(term=2)
    step(raft, heartbeat(2, 2))
    step(raft, PeerUnreachable(NodeId(2)))

    effects = step(raft, asks(2, 3, (9, 2)))

    assert effects == [Send(NodeId(3), votes(2, 1, granted=False))]
    step(raft, Tick())
