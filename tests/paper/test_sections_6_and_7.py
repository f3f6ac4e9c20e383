"""The Raft paper's sections 6 (members) and 7 (snapshots), sentence by sentence. The words are ours."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist, ReceiveSnapshot, Restore, Send, TakeSnapshot
from raft_core.entries import MEMBERS, HardState, LogPosition, SnapshotMeta
from raft_core.events import Requested, Restored, SnapshotReceived, SnapshotTaken
from raft_core.ids import Incarnation, Index, MessageId, NodeId, RequestId, Term, WriteId
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, Members, RemoveNode
from raft_core.messages import InstallSnapshot, SnapshotReply
from raft_core.requests import ChangeMembership
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import append, asks, bare, core, entries, machine_done, only, persist, sent, step

THREE = Members.initial([1, 2, 3])


def change(cluster: Cluster, *changes: Change, mode: ChangeMode = ChangeMode.AUTO, request: int = 9) -> None:
    cluster.leader.step(Requested(RequestId(request), ChangeMembership(changes, mode)))


def grown(count: int = 3, new: int = 2) -> Cluster:
    """A settled cluster led by 1, and so many nodes that wait to be told of it."""
    cluster = Cluster(count)
    cluster.elect(1)
    for node in range(count + 1, count + 1 + new):
        cluster.joiner(node)
    return cluster


# §6 Cluster membership changes


def test_a_configuration_is_in_force_as_soon_as_it_is_in_the_log() -> None:
    """§6: a server uses the latest configuration in its log, whether or not the entry is committed."""
    cluster = grown()

    change(cluster, AddVoter(NodeId(4)))

    assert cluster[1].raft.members.voters == (1, 2, 3, 4)
    assert cluster[1].raft.status.members_index > cluster[1].raft.status.commit
    cluster.deliver()
    assert {node.raft.members.voters for node in cluster.nodes.values() if node.id <= 4} == {(1, 2, 3, 4)}


def test_entries_go_to_all_servers_of_both_configurations() -> None:
    """§6, joint consensus."""
    cluster = grown()

    change(cluster, AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(3)))

    assert {to for _, to, _ in cluster.network} == {2, 3, 4, 5}


def test_agreement_needs_majorities_of_the_old_and_of_the_new_configuration() -> None:
    """§6, joint consensus: neither half decides alone."""
    for dead in ((4, 5), (2, 3)):
        cluster = grown()
        change(cluster, AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3)))
        cluster.isolate(*dead)
        cluster.deliver()

        assert cluster[1].raft.members.joint
        assert cluster[1].raft.status.members_index > cluster[1].raft.status.commit


def test_an_election_in_the_joint_phase_needs_both_majorities() -> None:
    """§6."""
    cluster = grown()
    change(cluster, AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3)))
    cluster.deliver(lambda sender, to, message: to != 1)  # all hold the joint configuration, the leader does not know
    cluster[1].crash()
    cluster.network.clear()
    cluster.isolate(2, 3)

    cluster.tick(60)

    assert not any(node.raft.status.leads for node in cluster.nodes.values() if node.alive)


def test_once_the_joint_configuration_is_committed_the_leader_appends_the_new_one() -> None:
    """§6: and when that is committed, the old one does not matter any more."""
    cluster = grown()

    change(cluster, AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3)))
    cluster.deliver()

    held = [Members.decode(e.data) for e in cluster[1].raft.log.entries() if e.kind is MEMBERS]
    assert [members.joint for members in held] == [False, True, False]
    assert cluster[1].raft.members.voters == (1, 4, 5)
    cluster.isolate(2, 3)
    cluster.propose(1, b"x")
    cluster.deliver()
    assert cluster[4].data == [b"x"]


def test_a_new_server_first_catches_up_without_a_vote() -> None:
    """§6: a learner receives entries and is counted for no majority."""
    cluster = grown(new=1)
    change(cluster, AddLearner(NodeId(4)))
    cluster.deliver()
    cluster.isolate(2, 3)

    cluster.propose(1, b"x")
    cluster.deliver()

    assert cluster[4].raft.log.last_index == cluster[1].raft.log.last_index
    assert cluster[1].data == []


def test_a_leader_outside_the_new_configuration_steps_down_once_that_is_committed() -> None:
    """§6: until then it manages a cluster without counting itself."""
    cluster = grown(new=0)

    change(cluster, RemoveNode(NodeId(1)))
    assert cluster[1].raft.status.leads
    cluster.deliver()
    cluster.tick(30)

    assert not cluster[1].raft.status.leads
    assert cluster.leader.id in (2, 3)
    assert cluster.leader.raft.members.voters == (2, 3)


def test_removed_servers_cannot_disrupt_the_cluster() -> None:
    """§6: a vote request that comes while a leader is heard is not even answered."""
    cluster = grown(new=0)
    step(cluster[2].raft, append(2, 1, (2, 2)))

    assert cluster[2].raft.step(asks(9, 3, (9, 9))) == []
    assert cluster[2].raft.server.term == 2


# §7 Log compaction


def snapshotting(count: int = 3, **settings: int) -> Cluster:
    chosen: dict[str, object] = {"snapshot_entries": 4, "keep_entries": 0, **settings}
    cluster = Cluster(count, settings=with_settings(**chosen))
    cluster.elect(1)
    return cluster


def test_every_server_takes_snapshots_by_itself_of_what_is_committed() -> None:
    """§7."""
    cluster = snapshotting()

    for number in range(10):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()

    for node in cluster.nodes.values():
        snapshot = node.raft.server.snapshots.newest
        assert snapshot is not None
        assert 0 < snapshot.index <= node.raft.server.pipeline.applied
        assert node.raft.log.base.index == snapshot.index


def test_a_snapshot_tells_the_last_index_and_term_it_replaces_and_the_configuration_there() -> None:
    """§7, figure 12."""
    settings = with_settings(snapshot_entries=3)
    raft = core(log=[1, 2], commit=3, settings=settings)

    effects = machine_done(raft)

    assert effects == [TakeSnapshot(SnapshotMeta(Index(3), Term(2), THREE, Index(1)))]


def test_once_a_snapshot_is_written_the_log_before_it_may_go() -> None:
    """§7: and any earlier snapshot."""
    raft = core(log=[1, 1, 1], commit=4, settings=with_settings(keep_entries=0, snapshot_entries=4))
    machine_done(raft)
    meta = SnapshotMeta(Index(4), Term(1), THREE, Index(1))

    effects = step(raft, SnapshotTaken(meta))

    assert effects == [Persist(WriteId(1), None, Index(0), (), meta, Index(5))]
    assert raft.log.base == LogPosition(Index(4), Term(1))


def offered(term: int, sender: int, meta: SnapshotMeta) -> InstallSnapshot:
    return InstallSnapshot(Term(term), NodeId(sender), MessageId(7), meta)


def installed(term: int, to: int, index: int, match: int) -> Send:
    reply = SnapshotReply(Term(term), NodeId(1), Incarnation(0), MessageId(0), Index(index), Index(match), True)
    return Send(NodeId(to), reply)


def test_a_leader_sends_a_snapshot_to_a_follower_that_needs_what_it_has_discarded() -> None:
    """§7."""
    cluster = snapshotting()
    cluster[3].crash()
    for number in range(10):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()

    cluster[3].restart()
    cluster.tick(4)

    assert cluster[3].data == [b"%d" % n for n in range(10)]
    assert cluster[3].raft.server.snapshots.newest is not None


def test_a_follower_whose_log_does_not_reach_the_snapshot_discards_all_of_it() -> None:
    """§7, figure 13 rule 7: and the machine is set to the snapshot once the switch is durable."""
    raft = core(log=[1, 1, 1])
    machine_done(raft)
    meta = SnapshotMeta(Index(9), Term(2), Members.initial([1, 2, 3, 4]), Index(6))

    assert step(raft, offered(2, 2, meta))[1:-1] == [ReceiveSnapshot(NodeId(2), meta)]
    persist(raft)
    assert bare(step(raft, SnapshotReceived(meta))) == [
        Persist(WriteId(2), HardState(Term(2), NodeId(0), meta.index), Index(0), (), meta)
    ]

    assert bare(persist(raft)) == [installed(2, 2, 9, 9), Restore(meta)]
    assert (raft.log.entries(), raft.log.last) == ((), meta.position)
    assert raft.members.voters == (1, 2, 3, 4)
    assert step(raft, Restored(Index(9))) == []
    assert raft.server.pipeline.applied == 9


def test_entries_behind_the_snapshot_are_kept_where_the_log_holds_its_last_entry() -> None:
    """§7, figure 13 rule 6: only what the snapshot covers is replaced, and here nothing has to be sent at all."""
    raft = core(log=[1, 1, 1])
    meta = SnapshotMeta(Index(3), Term(1), THREE, Index(1))

    effects = step(raft, offered(1, 2, meta))

    answer = SnapshotReply(Term(1), NodeId(1), Incarnation(0), MessageId(7), Index(3), Index(3), True)
    assert only(Send, effects) == [Send(NodeId(2), answer)]
    assert only(ReceiveSnapshot, effects) == []
    assert raft.log.entries()[1:] == entries((2, 1), (3, 1), (4, 1))
    assert raft.server.commit == 3


@pytest.mark.parametrize("index", [1, 3])
def test_an_old_snapshot_is_answered_and_changes_nothing(index: int) -> None:
    """§7, figure 13."""
    raft = core(log=[1, 1, 1], commit=3)
    before = raft.log.entries()

    effects = step(raft, offered(1, 2, SnapshotMeta(Index(index), Term(1), THREE)))

    assert [type(m) for m in sent(effects)] == [SnapshotReply]
    assert raft.log.entries() == before
