"""Rules of flow control: probe, replicate, windows, and every way back; each with the mistake that taught it."""

from __future__ import annotations

from raft_core.effects import Effect, Send
from raft_core.entries import SnapshotMeta
from raft_core.events import PeerConnected, PeerUnreachable, Proposed
from raft_core.ids import Index, NodeId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import COMMIT_UPDATE, DATA, HEARTBEAT, AppendEntries, InstallSnapshot, is_urgent
from raft_core.progress import Progress, ProgressState
from raft_core.raft import Raft
from raft_core.roles.leader import Leader
from raft_core.settings import Settings
from tests.core.cluster import SMALL, Cluster, Node, with_settings
from tests.core.helpers import accepted, append, core, heartbeat, leader, persist, rejected, sent, step, tick


def peer(raft: Raft, node: int = 2) -> Progress:
    assert isinstance(raft.role, Leader)
    return raft.role.replication.progress[NodeId(node)]


def propose(raft: Raft, *data: bytes) -> list[AppendEntries]:
    """What goes to node 2 when these are proposed."""
    effects = step(raft, Proposed(RequestId(1), data))
    return [m for m in sent(effects, to=2) if isinstance(m, AppendEntries)]


def settled(settings: Settings = SMALL) -> Raft:
    return leader(core(settings=settings), settled=True)


def beat_answered(raft: Raft, match: int) -> list[AppendEntries]:
    tick(raft)
    effects = step(raft, accepted(2, 2, match, purpose=HEARTBEAT))
    return [m for m in sent(effects, to=2) if isinstance(m, AppendEntries)]


def test_a_probed_follower_has_one_append_under_way_until_it_answers() -> None:
    raft = leader(core())

    assert propose(raft, b"a") == []
    assert propose(raft, b"b") == []

    (more,) = [m for m in sent(step(raft, accepted(2, 2, 2)), to=2) if isinstance(m, AppendEntries)]
    assert [e.data for e in more.entries] == [b"a", b"b"]


def test_a_heartbeats_answer_lets_another_probe_go() -> None:
    """The probe may be lost; without this it is the last one."""
    raft = leader(core())
    propose(raft, b"a")

    (again,) = beat_answered(raft, 0)

    assert (again.purpose, again.prev_index, len(again.entries)) == (DATA, 1, 2)


def test_a_follower_that_has_everything_comes_back_from_probing_by_an_empty_append() -> None:
    raft = settled()
    step(raft, PeerUnreachable(NodeId(2)))
    assert peer(raft).state is ProgressState.PROBE

    (probe,) = beat_answered(raft, 2)
    assert (probe.purpose, probe.prev_index, probe.entries) == (DATA, 2, ())

    step(raft, accepted(2, 2, 2))
    assert peer(raft).state is ProgressState.REPLICATE


def test_appends_to_a_replicating_follower_do_not_wait_for_answers() -> None:
    raft = settled()

    first, second = propose(raft, b"a"), propose(raft, b"b")

    assert [(m.prev_index, [e.data for e in m.entries]) for m in (*first, *second)] == [(2, [b"a"]), (3, [b"b"])]


def test_an_unreachable_follower_is_probed_again_from_what_it_acknowledged() -> None:
    raft = settled()
    propose(raft, b"a")

    step(raft, PeerUnreachable(NodeId(2)))

    assert (peer(raft).state, peer(raft).match, peer(raft).next) == (ProgressState.PROBE, 2, 3)
    step(raft, PeerUnreachable(NodeId(2)))
    assert peer(raft).state is ProgressState.PROBE


def test_a_new_connection_lets_a_probe_go_at_once() -> None:
    raft = settled()
    propose(raft, b"a")
    step(raft, PeerUnreachable(NodeId(2)))
    beat_answered(raft, 2)

    (probe,) = sent(step(raft, PeerConnected(NodeId(2))), to=2)

    assert isinstance(probe, AppendEntries)
    assert [e.data for e in probe.entries] == [b"a"]


def test_a_window_is_full_by_messages() -> None:
    raft = settled(with_settings(max_inflight_messages=2))

    assert [len(propose(raft, b"%d" % n)) for n in range(4)] == [1, 1, 0, 0]

    (more,) = [m for m in sent(step(raft, accepted(2, 2, 3)), to=2) if isinstance(m, AppendEntries)]
    assert [e.data for e in more.entries] == [b"2", b"3"]


def test_a_window_is_full_by_bytes_and_one_large_entry_may_exceed_it_once() -> None:
    """Counting messages alone let windows of large entries fill the memory."""
    raft = settled(with_settings(max_inflight_bytes=100))

    assert len(propose(raft, b"x" * 1000)) == 1
    assert len(propose(raft, b"y")) == 0


def test_a_message_holds_no_more_than_its_bytes_but_at_least_one_entry() -> None:
    raft = settled(with_settings(max_message_bytes=100))

    messages = propose(raft, b"a" * 10, b"b" * 10, b"c" * 500, b"d")

    assert [[e.data[:1] for e in m.entries] for m in messages] == [[b"a", b"b"], [b"c"], [b"d"]]


def test_a_window_that_was_lost_entirely_does_not_stall() -> None:
    """An empty append behind everything sent: its answer tells that the window is lost."""
    raft = settled(with_settings(max_inflight_messages=1))
    propose(raft, b"a")
    assert propose(raft, b"b") == []

    beat_answered(raft, 2)
    (probe,) = beat_answered(raft, 2)
    assert (probe.prev_index, probe.entries, probe.purpose) == (3, (), DATA)

    (again,) = sent(step(raft, rejected(2, 2, at=3, hint=(2, 2))), to=2)
    assert isinstance(again, AppendEntries)
    assert [e.data for e in again.entries] == [b"a", b"b"]


def test_a_follower_recovers_by_itself_from_every_loss() -> None:
    """Lost windows, lost answers, lost probes: heartbeats alone bring it back."""
    for seed in range(10):
        cluster = Cluster(3, settings=with_settings(max_inflight_messages=2), seed=seed)
        cluster.elect(1)
        for number in range(6):
            cluster.propose(1, b"%d" % number)
            cluster.deliver(lambda sender, to, message: is_urgent(message) or 3 not in (sender, to))

        cluster.tick(6)

        assert cluster[3].data == [b"%d" % n for n in range(6)]


def test_a_slow_follower_behind_the_compacted_log_ends_with_a_snapshot() -> None:
    """Not with appends from a place that is gone."""
    cluster = Cluster(3, settings=with_settings(max_inflight_messages=1, snapshot_entries=3, keep_entries=0))
    cluster.elect(1)
    seen: list[type] = []
    for number in range(12):
        cluster.propose(1, b"%d" % number)
        cluster.deliver(lambda sender, to, message: is_urgent(message) or to != 3)

    def record(sender: int, to: int, message: object) -> bool:
        seen.append(type(message)) if to == 3 else None
        return True

    cluster.deliver(record)
    for _ in range(5):
        cluster[1].step(Proposed(RequestId(99), (b"more",)))
        cluster.tick()
        cluster.deliver(record)

    assert cluster[3].data == cluster[1].data
    assert cluster[3].raft.server.snapshots.newest is not None


def test_a_follower_whose_state_is_unknown_and_a_leader_whose_log_is_all_compacted_find_each_other() -> None:
    cluster = Cluster(3, settings=with_settings(snapshot_entries=1, keep_entries=0))
    cluster.elect(1)
    cluster[3].crash()
    for number in range(5):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()
    assert len(cluster[1].raft.log) == 0

    cluster[3].restart()
    cluster.elect(2)
    cluster.tick(5)

    assert cluster[3].data == cluster[2].data


def test_the_commit_index_is_told_at_once_to_those_whom_it_can_move() -> None:
    """Otherwise a write is seen elsewhere a heartbeat later."""
    raft = settled()
    propose(raft, b"a")
    persist(raft)

    effects = step(raft, accepted(2, 2, 3))

    announcement = append(2, 1, (3, 2), commit=3, purpose=COMMIT_UPDATE, ident=0)
    assert [m for m in sent(effects) if isinstance(m, AppendEntries)] == [announcement, announcement]


def test_a_commit_index_that_moves_nobody_is_not_told_again() -> None:
    raft = settled()
    propose(raft, b"a")
    persist(raft)
    step(raft, accepted(2, 2, 3))

    assert sent(step(raft, accepted(2, 3, 3))) == []


def test_heartbeats_never_queue_behind_entries() -> None:
    """Bulk data in front of heartbeats deposed leaders that were only busy."""
    assert is_urgent(heartbeat(1, 2))
    assert is_urgent(accepted(1, 2, 3, purpose=HEARTBEAT))
    assert not is_urgent(append(1, 2, (1, 1), (2, 1)))
    assert not is_urgent(append(1, 2, (1, 1), purpose=COMMIT_UPDATE))
    assert not is_urgent(accepted(1, 2, 3))


def test_a_heartbeat_that_overtakes_entries_does_no_harm() -> None:
    """It names the place that the follower has acknowledged, which it therefore holds."""
    raft = core(log=[1])

    effects = step(raft, heartbeat(1, 2, (2, 1), commit=2))

    assert sent(effects) == [accepted(1, 1, 2, purpose=HEARTBEAT)]
    step(raft, append(1, 2, (2, 1), (3, 1)))
    assert sent(persist(raft)) == [accepted(1, 1, 3)]


def test_a_heartbeats_answer_claims_what_is_verified_and_durable_and_waits_for_no_entry() -> None:
    """A slow sync must not silence a follower: the leader would step down for want of a quorum."""
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1), (3, 1)))
    assert raft.server.outbox.durable_index == 1

    (reply,) = sent(step(raft, heartbeat(1, 2, (1, 1))))

    assert reply == accepted(1, 1, 1, purpose=HEARTBEAT)


def test_a_slow_disk_everywhere_deposes_nobody() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for node in cluster.nodes.values():
        node.auto_persist = False
    cluster.propose(1, b"x")

    cluster.tick(100)
    assert cluster.leader.id == 1
    assert cluster[1].raft.server.term == 2

    for node in cluster.nodes.values():
        node.persist()
    cluster.deliver()
    assert cluster[1].data == [b"x"]


def test_a_follower_that_is_full_waits_in_silence_and_goes_on_when_there_is_room() -> None:
    """An answer would bring the same entries at once, and so on, as fast as the network carries them."""
    cluster = Cluster(3, settings=with_settings(max_message_bytes=1))
    small = with_settings(
        log_max_bytes=300, snapshot_entries=500, keep_entries=0, max_entry_bytes=10, max_message_bytes=1
    )
    cluster[3].settings = small
    cluster[3].crash()
    cluster[3].restart()
    cluster.elect(1)

    cluster.propose(1, *[b"%d" % n for n in range(30)])
    cluster.deliver()
    cluster.tick(60)

    assert cluster[3].data == [b"%d" % n for n in range(30)]


def test_followers_in_the_same_place_share_one_message() -> None:
    """It is encoded once, however many there are."""
    raft = leader(core(count=5), settled=True)

    effects = step(raft, Proposed(RequestId(1), (b"x",)))

    messages = [e.message for e in effects if isinstance(e, Send)]
    assert len(messages) == 4
    assert len({id(message) for message in messages}) == 1


def test_a_snapshot_is_offered_only_to_those_who_are_there() -> None:
    """The offer waits for a sign of life, so that no transfer hangs on a dead node."""
    meta = SnapshotMeta(Index(10), Term(2), Members.initial([1, 2, 3]), Index(1))
    raft = leader(core(snapshot=meta, log=[3], commit=10))
    step(raft, rejected(4, 3, at=11, hint=(1, 1)))
    assert peer(raft, 3).state is ProgressState.SNAPSHOT

    offers: list[Effect] = []

    def watch(node: Node) -> None:
        offers.extend(e for e in node.effects if isinstance(e, Send) and isinstance(e.message, InstallSnapshot))

    cluster = Cluster(3, settings=with_settings(snapshot_entries=2, keep_entries=0), on_step=watch)
    cluster.elect(1)
    cluster[3].crash()
    cluster[1].step(PeerUnreachable(NodeId(3)))
    cluster.tick(15)
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.tick()
    cluster[1].step(PeerConnected(NodeId(3)))
    assert offers == [], "a connection alone is no sign of life"

    cluster[3].restart()
    cluster.tick(3)
    assert [offer.to for offer in offers if isinstance(offer, Send)] == [3]
    assert cluster[3].data == cluster[1].data
