"""Rules of snapshots: who gets one, how a transfer ends, what is installed; each with the mistake that taught it."""

from __future__ import annotations

import random

import msgspec

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Effect,
    Indeterminate,
    Persist,
    ReceiveSnapshot,
    Respond,
    Restore,
    Send,
    Stop,
    TakeSnapshot,
    UnknownReason,
)
from raft_core.entries import HardState, LogPosition, SnapshotMeta
from raft_core.events import (
    CampaignRequested,
    PeerUnreachable,
    Proposed,
    Requested,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotRequested,
    SnapshotTaken,
    Tick,
)
from raft_core.ids import BootNumber, Incarnation, Index, MessageId, NodeId, RequestId, Term, WriteId
from raft_core.membership import AddLearner, AddVoter, Members
from raft_core.messages import HEARTBEAT, InstallSnapshot, Message, SnapshotReply, VoteKind
from raft_core.progress import Progress, ProgressState
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.settings import Settings
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
    bare,
    campaign_id,
    core,
    entries,
    heartbeat,
    leader,
    machine_done,
    noop,
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

THREE = Members.initial([1, 2, 3])
META = SnapshotMeta(Index(10), Term(2), THREE, Index(1))


def peer(raft: Raft, node: int = 3) -> Progress:
    assert isinstance(raft.role, Leader)
    return raft.role.replication.progress[NodeId(node)]


def offering(settings: Settings = SMALL) -> Raft:
    """A leader of term 4 whose snapshot at 10 is on its way to node 3; its log holds 11 and 12."""
    raft = leader(core(snapshot=META, log=[3], commit=10, settings=settings))
    step(raft, rejected(4, 3, at=11, hint=(1, 1)))
    assert (peer(raft).state, peer(raft).pending, peer(raft).next) == (ProgressState.SNAPSHOT, 10, 11)
    return raft


def reply(match: int, *, ok: bool = True, index: int = 10) -> SnapshotReply:
    return SnapshotReply(Term(4), NodeId(3), Incarnation(0), MessageId(7), Index(index), Index(match), ok)


def offered(meta: SnapshotMeta, sender: int = 2, term: int = 2) -> InstallSnapshot:
    return InstallSnapshot(Term(term), NodeId(sender), MessageId(7), meta)


# At the leader.


def test_while_a_snapshot_is_under_way_neither_appends_nor_another_snapshot_are_sent() -> None:
    """A snapshot per message once filled the line with copies of the same bytes."""
    raft = offering()

    effects = step(raft, Proposed(RequestId(1), (b"x",)))
    effects += step(raft, accepted(4, 3, 0, purpose=HEARTBEAT))
    effects += step(raft, rejected(4, 3, at=11, hint=(1, 1)))

    assert sent(effects, to=3) == []


def test_a_snapshot_that_arrived_is_followed_by_what_lies_behind_it() -> None:
    raft = offering()

    (message,) = sent(step(raft, reply(10)), to=3)

    assert [e.index for e in message.entries] == [11, 12]  # type: ignore[union-attr]
    assert peer(raft).match == 10


def test_a_follower_that_reconnects_in_any_way_needs_no_snapshot_any_more() -> None:
    """Whatever index its acknowledgement names, if the log holds it: waiting for the very snapshot wedged transfers."""
    for purpose in (HEARTBEAT, append(1, 2, (0, 0)).purpose):
        raft = offering()

        step(raft, accepted(4, 3, 11, purpose=purpose))

        assert (peer(raft).state, peer(raft).match) == (ProgressState.REPLICATE, 11)


def test_a_transfer_that_failed_begins_anew_after_the_next_heartbeats_answer() -> None:
    raft = offering()

    assert sent(step(raft, reply(0, ok=False)), to=3) == []
    assert (peer(raft).state, peer(raft).next, peer(raft).paused) == (ProgressState.PROBE, 1, True)

    (again,) = sent(step(raft, accepted(4, 3, 0, purpose=HEARTBEAT)), to=3)
    assert isinstance(again, InstallSnapshot)
    assert again.meta == META


def test_a_failure_of_an_earlier_snapshot_does_not_end_this_one() -> None:
    raft = offering()

    step(raft, reply(0, ok=False, index=5))

    assert peer(raft).state is ProgressState.SNAPSHOT


def test_a_transfer_without_progress_is_given_up_and_begins_anew() -> None:
    """A follower that dies in the middle stays in limbo for ever where the application must report it."""
    raft = offering(with_settings(snapshot_ticks=15, check_quorum=False))

    effects = tick(raft, 15)

    alarms = [(a.kind, a.peer) for a in only(Alarm, effects)]  # type: ignore[union-attr]
    assert alarms == [(AlarmKind.SNAPSHOT_STUCK, 3)]
    assert peer(raft).state is ProgressState.PROBE


def test_progress_counts_and_not_the_whole_time() -> None:
    """A total limit that is shorter than a large snapshot needs is a loop."""
    raft = offering(with_settings(snapshot_ticks=15, check_quorum=False))

    for _ in range(10):
        tick(raft, 14)
        step(raft, SnapshotProgress(NodeId(3)))

    assert peer(raft).state is ProgressState.SNAPSHOT


def test_a_follower_that_installed_what_is_behind_the_log_by_now_is_offered_a_newer_one_at_once() -> None:
    raft = offering()
    newer = SnapshotMeta(Index(12), Term(4), THREE, Index(1))
    step(raft, accepted(4, 2, 12))
    persist(raft)
    machine_done(raft)
    raft.server.snapshots.newest = newer
    raft.log.compact(Index(12))

    offers = sent(step(raft, reply(10)), to=3)

    assert [m.meta for m in offers if isinstance(m, InstallSnapshot)] == [newer]


def test_the_log_behind_a_snapshot_on_its_way_is_kept_for_its_receiver() -> None:
    """Compaction during a transfer made the next snapshot necessary as soon as this one had arrived."""
    raft = offering(with_settings(keep_entries=0, snapshot_entries=2))
    step(raft, accepted(4, 2, 12))
    persist(raft)
    machine_done(raft)
    assert raft.server.snapshots.pending == 12

    step(raft, SnapshotTaken(SnapshotMeta(Index(12), Term(4), THREE, Index(1))))

    assert raft.log.base.index == 10
    step(raft, reply(10))
    assert peer(raft).state is not ProgressState.SNAPSHOT


def test_a_restarted_leader_sends_entries_to_a_follower_that_lags_a_little() -> None:
    """After a restart the log began behind the snapshot, so that the least lag cost a whole snapshot."""
    covered = entries((7, 1), (8, 1), (9, 2), (10, 2))
    recovered = Recovered(
        Identity(NodeId(1)), HardState(Term(3)), META, entries((11, 3)), boot=BootNumber(2), covered=covered
    )
    raft = Raft(SMALL, recovered, random.Random(1))
    assert step(raft) == [Restore(META)]
    machine_done(raft)
    leader(raft)
    step(raft, accepted(4, 2, 12))

    effects = step(raft, rejected(4, 3, at=11, hint=(8, 1)))

    message = append(4, 1, (8, 1), commit=12, ident=0)
    everything = (*covered[2:], *entries((11, 3)), noop(12, 4))
    assert bare(effects) == [Send(NodeId(3), msgspec.structs.replace(message, entries=everything))]
    step(raft, accepted(4, 3, 12))
    assert (peer(raft).state, peer(raft).match) == (ProgressState.REPLICATE, 12)


def test_a_restarted_leader_offers_its_snapshot_to_a_follower_behind_the_tail() -> None:
    """The base is the first covered entry: its own content is not held."""
    recovered = Recovered(
        Identity(NodeId(1)), HardState(Term(3)), META, covered=entries((8, 1), (9, 2), (10, 2)), boot=BootNumber(2)
    )
    raft = Raft(SMALL, recovered, random.Random(1))
    step(raft)
    machine_done(raft)
    leader(raft)

    effects = step(raft, rejected(4, 3, at=10, hint=(7, 1)))

    (offer,) = sent(effects, to=3)
    assert isinstance(offer, InstallSnapshot)
    assert offer.meta == META


def test_a_cluster_that_restarts_needs_no_snapshot_for_a_small_lag() -> None:
    cluster = Cluster(3, settings=with_settings(snapshot_entries=4, keep_entries=4))
    cluster.elect(1)
    for number in range(8):
        if number == 4:
            cluster[3].crash()
        cluster.propose(1, b"%d" % number)
        cluster.deliver()
    for node in (1, 2):
        cluster[node].crash()
        cluster[node].restart()
    cluster.deliver()
    cluster.elect(1)
    cluster.deliver_snapshots = False
    snapshot = cluster[1].raft.server.snapshots.newest
    assert snapshot is not None
    assert cluster[3].raft.log.last_index < snapshot.index

    cluster[3].restart()
    cluster.tick(5)

    assert cluster[3].data == cluster[1].data == [b"%d" % number for number in range(8)]


# At the follower.


def test_a_snapshot_below_the_commit_index_is_answered_and_not_fetched() -> None:
    raft = core(log=[1, 1], commit=3)

    effects = step(raft, offered(SnapshotMeta(Index(2), Term(1), THREE), term=1))

    assert only(ReceiveSnapshot, effects) == []
    (answer,) = sent(effects)
    assert (answer.ok, answer.match) == (True, 3)  # type: ignore[union-attr]


def test_where_the_log_holds_the_snapshots_end_the_commit_index_moves_and_the_tail_stays() -> None:
    raft = core(log=[1, 1, 1])

    step(raft, offered(SnapshotMeta(Index(3), Term(1), THREE), term=1))

    assert (raft.server.commit, raft.log.last_index) == (3, 4)


def test_otherwise_the_whole_log_goes() -> None:
    """A kept tail that does not connect made a node send and receive snapshots for ever."""
    raft = core(log=[1, 1, 1])
    machine_done(raft)
    meta = SnapshotMeta(Index(3), Term(2), THREE, Index(1))
    step(raft, offered(meta))
    persist(raft)

    step(raft, SnapshotReceived(meta))

    assert (raft.log.entries(), raft.log.base) == ((), LogPosition(Index(3), Term(2)))


def test_the_same_offer_twice_is_fetched_once() -> None:
    raft = core()

    first, second = step(raft, offered(META)), step(raft, offered(META))

    assert only(ReceiveSnapshot, first) == [ReceiveSnapshot(NodeId(2), META)]
    assert only(ReceiveSnapshot, second) == []


def test_a_newer_offer_replaces_the_one_under_way() -> None:
    raft = core()
    newer = SnapshotMeta(Index(20), Term(2), THREE)
    step(raft, offered(META))

    assert only(ReceiveSnapshot, step(raft, offered(newer))) == [ReceiveSnapshot(NodeId(2), newer)]


def test_bytes_that_will_not_come_are_told_to_the_leader() -> None:
    raft = core()
    step(raft, offered(META))
    persist(raft)

    (answer,) = sent(step(raft, SnapshotRejected(Index(10))))

    assert (answer.ok, answer.index) == (False, 10)  # type: ignore[union-attr]
    assert only(ReceiveSnapshot, step(raft, offered(META))) == [ReceiveSnapshot(NodeId(2), META)]


def test_a_log_that_caught_up_during_the_transfer_is_not_thrown_away() -> None:
    raft = core(log=[1])
    step(raft, offered(SnapshotMeta(Index(4), Term(1), THREE), term=1))
    step(raft, append(1, 2, (2, 1), (3, 1), (4, 1), (5, 1), commit=2))
    persist(raft)

    effects = step(raft, SnapshotReceived(SnapshotMeta(Index(4), Term(1), THREE)))

    assert persists(effects) == []
    assert (raft.log.last_index, raft.server.commit) == (5, 4)


def test_an_installed_snapshot_is_acknowledged_only_when_its_switch_is_durable() -> None:
    raft = core()
    machine_done(raft)
    step(raft, offered(META))
    persist(raft)

    effects = step(raft, SnapshotReceived(META))
    assert effects == [Persist(WriteId(2), HardState(Term(2), NodeId(0), META.index), Index(0), (), META)]

    done = persist(raft)
    assert [type(e) for e in done] == [Send, Restore]


def test_the_machine_gets_nothing_of_the_old_log_after_a_snapshot_was_installed() -> None:
    """A configuration or an entry of before, applied after, makes the memory differ from the disk."""
    raft = core(log=[1, 1, 1])
    machine_done(raft)
    step(raft, append(1, 2, (4, 1), commit=3))
    step(raft, offered(META))
    persist(raft)
    step(raft, SnapshotReceived(META))

    effects = persist(raft)
    assert only(Restore, effects) == [Restore(META)]

    effects = machine_done(raft)
    assert (raft.server.pipeline.applied, raft.server.pipeline.applying) == (10, 10)


def test_a_machine_that_hangs_is_ordered_one_restore_at_a_time_and_then_the_newest() -> None:
    """However many snapshots come meanwhile, little is on its way to it."""
    raft = core(log=[1, 1, 1], settings=with_settings(max_apply_bytes=1))
    step(raft, append(1, 2, (4, 1), commit=4))
    orders: list[Effect] = []
    for index in (10, 20, 30):
        meta = SnapshotMeta(Index(index), Term(1), THREE, Index(1))
        step(raft, offered(meta, term=1))
        raft.server.snapshots.receiving = ReceiveSnapshot(NodeId(2), meta)  # as if it had not been asked to wait
        step(raft, SnapshotReceived(meta))
        orders += only(Restore, persist(raft))
    assert [order.meta.index for order in orders if isinstance(order, Restore)] == [10]
    assert len(raft.server.pipeline.pages) == 3

    effects = machine_done(raft)

    assert [e.meta.index for e in effects if isinstance(e, Restore)] == [30]
    assert raft.server.pipeline.applied == raft.server.commit == 30


def test_a_candidate_becomes_a_follower_before_it_installs() -> None:
    raft = core()
    step(raft, CampaignRequested())

    effects = step(raft, offered(msgspec.structs.replace(META, term=Term(1)), term=1))

    assert isinstance(raft.role, Follower)
    assert only(ReceiveSnapshot, effects)


def test_a_snapshot_that_does_not_name_this_node_is_accepted() -> None:
    """Later entries may add it; a new learner gets just such a one."""
    raft = core(4, members=THREE)
    machine_done(raft)
    step(raft, offered(META))
    persist(raft)
    step(raft, SnapshotReceived(META))
    persist(raft)

    assert raft.log.base.index == 10


def test_requests_whose_entries_a_snapshot_replaced_are_answered_as_unknown() -> None:
    """They would wait for ever: no later event tells what became of them."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].auto_persist = False
    cluster.isolate(1)
    cluster.propose(1, b"x", b"y", request=6)
    raft = cluster[1].raft
    meta = SnapshotMeta(Index(50), Term(9), THREE)
    cluster[1].step(offered(meta, term=9))

    effects = raft.step(SnapshotReceived(meta))

    assert only(Respond, effects) == [Respond(RequestId(6), Indeterminate(UnknownReason.SNAPSHOT), 0, 2)]


# Of one's own.


def test_a_snapshot_holds_the_configuration_at_its_own_index_and_not_the_latest() -> None:
    """A later configuration in an earlier snapshot gives votes to nodes that have none."""
    cluster = Cluster(3, settings=with_settings(snapshot_entries=4, keep_entries=0))
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.deliver()
    raft = cluster[1].raft
    later = raft.members.changed((AddLearner(NodeId(4)),))
    assert isinstance(later, Members)
    raft.server.configurations.append(Index(99), later)

    place, members = raft.server.configurations.at(raft.server.pipeline.applied)

    assert (place, members) == (1, THREE)


def test_a_snapshot_is_ordered_at_the_index_that_the_machine_will_stand_at() -> None:
    """Between two pages of entries: a snapshot of a state that is not applied yet, or more, is a wrong one."""
    raft = core(log=[1, 1, 1], commit=4, settings=with_settings(snapshot_entries=2))

    (order,) = machine_done(raft)

    assert order == TakeSnapshot(SnapshotMeta(Index(4), Term(1), THREE, Index(1)))


def test_a_snapshot_that_could_not_be_taken_is_ordered_again() -> None:
    raft = core(log=[1, 1], commit=3, settings=with_settings(snapshot_entries=2))
    (order,) = machine_done(raft)
    assert isinstance(order, TakeSnapshot)

    step(raft, SnapshotFailed(order.meta.index))
    tick(raft, raft.server.settings.election_ticks)
    step(raft, append(1, 2, (3, 1), (4, 1), commit=4))
    persist(raft)
    effects = machine_done(raft)

    assert [e.meta.index for e in effects if isinstance(e, TakeSnapshot)] == [4]


def test_snapshots_that_fail_one_after_the_other_are_tried_ever_more_rarely_and_without_end() -> None:
    """On a disk that is full for them each attempt takes the room of the log for a moment."""
    raft = core(log=[1, 1], commit=3, settings=with_settings(snapshot_entries=2))
    timeout = raft.server.settings.election_ticks
    waits: list[int] = []
    (order,) = machine_done(raft)
    for index in range(4, 14):
        assert isinstance(order, TakeSnapshot)
        step(raft, SnapshotFailed(order.meta.index))
        waits.append(raft.server.snapshots.retry_at - raft.server.now)
        raft.server.now += waits[-1]
        step(raft, append(1, 2, (index - 1, 1), (index, 1), commit=index))
        persist(raft)
        [order] = [effect for effect in machine_done(raft) if isinstance(effect, TakeSnapshot)]

    assert waits == [timeout << min(failures, 7) for failures in range(10)]
    assert isinstance(order, TakeSnapshot)
    step(raft, SnapshotTaken(order.meta))
    assert raft.server.snapshots.failures == 0


def test_bytes_count_and_not_only_entries() -> None:
    """A few large entries fill a disk as well as many small ones."""
    settings = with_settings(snapshot_bytes=1000, snapshot_entries=10**6)
    cluster = Cluster(1, settings=settings)
    cluster.elect(1)

    cluster.propose(1, b"x" * 1000)
    cluster.deliver()

    assert cluster[1].raft.server.snapshots.newest is not None


def test_a_log_at_its_limit_makes_room_instead_of_refusing_for_ever() -> None:
    """Where neither entries nor bytes make a snapshot due, and nothing more can be applied to make one due."""
    settings = with_settings(log_max_bytes=400, snapshot_entries=10**6, snapshot_bytes=10**9)
    cluster = Cluster(3, settings=settings)
    cluster.elect(1)

    for number in range(100):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()

    assert len(cluster[1].data) > 80
    assert {tuple(node.data) for node in cluster.nodes.values()} == {tuple(cluster[1].data)}
    assert all(node.raft.log.size <= 400 for node in cluster.nodes.values())


def test_a_node_restarts_from_snapshot_and_log() -> None:
    cluster = Cluster(3, settings=with_settings(snapshot_entries=4, keep_entries=2))
    cluster.elect(1)
    for number in range(11):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()
    before = cluster[2].raft.server.snapshots.newest
    assert before is not None

    cluster[2].crash()
    cluster[2].restart()

    cluster.tick(3)
    assert cluster[2].data == [b"%d" % n for n in range(11)]
    assert cluster[2].raft.log.base.index >= before.index - 2


def test_a_crash_at_any_moment_of_an_installation_leaves_a_node_that_starts() -> None:
    """Snapshot, log and commit index are switched in one atomic write; in pieces they made crash loops."""
    for durable in range(4):
        cluster = Cluster(3, settings=with_settings(snapshot_entries=3, keep_entries=0))
        cluster.elect(1)
        cluster[3].crash()
        for number in range(9):
            cluster.propose(1, b"%d" % number)
            cluster.deliver()
        cluster[3].restart()
        cluster[3].auto_persist = False
        cluster.tick(3)
        cluster[3].persist(durable)

        cluster[3].crash()
        cluster[1].step(PeerUnreachable(NodeId(3)))
        cluster[3].restart()
        assert not only(Stop, cluster[3].effects)
        cluster[3].auto_persist = True
        cluster[3].persist()
        cluster.tick(5)

        assert cluster[3].data == [b"%d" % n for n in range(9)]


def test_a_new_voter_that_begins_with_a_snapshot_takes_part_at_once() -> None:
    cluster = Cluster(3, settings=with_settings(snapshot_entries=3, keep_entries=0))
    cluster.elect(1)
    for number in range(9):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()
    cluster.joiner(4)
    cluster[1].step(Requested(RequestId(5), ChangeMembership((AddVoter(NodeId(4)),))))
    cluster.tick(5)

    assert cluster[4].data == cluster[1].data
    assert cluster[4].raft.members.voters == (1, 2, 3, 4)


def test_a_receiver_that_restarted_is_offered_the_snapshot_again_as_soon_as_it_is_back() -> None:
    """It has forgotten the offer; the sender must not wait for its patience to end."""
    raft = offering()

    step(raft, PeerUnreachable(NodeId(3)))
    offers = sent(step(raft, accepted(4, 3, 0, purpose=HEARTBEAT)), to=3)

    assert [m.meta for m in offers if isinstance(m, InstallSnapshot)] == [META]


def test_answers_about_snapshots_count_only_from_the_members_disk() -> None:
    disks = {NodeId(n): Incarnation(n) for n in (1, 2, 3)}
    members = Members.initial([1, 2, 3], incarnations=disks)
    raft = leader_of(members)

    (alarm,) = step(raft, reply(10))

    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.WRONG_INCARNATION


def leader_of(members: Members) -> Raft:
    meta = SnapshotMeta(Index(10), Term(2), members, Index(1))
    raft = core(members=members, snapshot=meta, log=[3], commit=10)
    step(raft, CampaignRequested())
    step(raft, votes(4, 2, kind=VoteKind.PRE, ident=campaign_id(raft), disk=2))
    persist(raft)
    step(raft, votes(4, 2, ident=campaign_id(raft), disk=2))
    assert raft.status.leads
    return raft


def test_a_heartbeat_before_the_compacted_log_is_answered_as_well() -> None:
    """Its place may be gone here; what it says about the commit index is still right."""
    raft = core(snapshot=META, log=[2], commit=11)

    (answer,) = sent(step(raft, heartbeat(2, 2, (5, 1), commit=5)))
    assert (answer.ok, answer.match) == (True, 11)  # type: ignore[union-attr]

    messages: list[Message] = [append(2, 2, (5, 1), (6, 1))]
    assert [m.match for m in sent(step(raft, messages[0]))] == [11]  # type: ignore[union-attr]
    step(raft, Tick())
    assert role_of(raft).value == "follower"
    assert raft.log.entries() == entries((11, 2))


def test_requested_snapshot_is_taken_at_once_where_the_newest_is_older() -> None:
    raft = core(log=[1, 1, 1], commit=4, settings=with_settings(snapshot_entries=1000))
    machine_done(raft)

    (order,) = step(raft, SnapshotRequested(Index(4)))
    assert order == TakeSnapshot(SnapshotMeta(Index(4), Term(1), THREE, Index(1)))
    assert step(raft, SnapshotRequested(Index(4))) == []  # one is being taken

    step(raft, SnapshotTaken(order.meta))
    persist(raft)
    assert step(raft, SnapshotRequested(Index(4))) == []  # there is one
    assert step(raft, SnapshotRequested(Index(9))) == []  # there is nothing newer to take one of


def test_requested_snapshot_waits_where_the_last_one_has_failed() -> None:
    raft = core(log=[1, 1], commit=3, settings=with_settings(snapshot_entries=1000))
    machine_done(raft)
    (order,) = step(raft, SnapshotRequested(Index(3)))
    assert isinstance(order, TakeSnapshot)
    step(raft, SnapshotFailed(order.meta.index))

    assert step(raft, SnapshotRequested(Index(3))) == []

    tick(raft, raft.server.settings.election_ticks)
    assert [type(effect) for effect in step(raft, SnapshotRequested(Index(3)))] == [TakeSnapshot]
