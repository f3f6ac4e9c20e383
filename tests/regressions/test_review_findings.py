"""Defects that a second pair of eyes found after all tests were green, each as the story that showed it."""

from __future__ import annotations

import sys

import msgspec
import pytest

from raft_core.effects import Effect, Indeterminate, ReceiveSnapshot, Respond, RoleName, TakeSnapshot
from raft_core.entries import Entry, SnapshotMeta
from raft_core.errors import InvariantBroken, LogDamaged
from raft_core.events import PeerUnreachable, Requested, SnapshotReceived
from raft_core.ids import Index, MessageId, NodeId, ReadId, RequestId, Term
from raft_core.membership import AddLearner, Members
from raft_core.messages import HEARTBEAT, AppendEntries, AppendReply, InstallSnapshot, VoteReply
from raft_core.node.events import Call, ChunkRead, JobFailed, NodeEvent, QueryFailed
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane, Query, ReadChunk
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.recovered import Recovered
from raft_core.requests import ChangeMembership, TransferLeadership
from raft_core.settings import Settings
from raft_core.store import SnapshotReader
from raft_storage import MemoryStore
from raft_storage.workers import Workers
from tests.core.cluster import Cluster, Node, with_settings
from tests.core.helpers import (
    append,
    apply_of,
    asks,
    core,
    entries,
    everybody_has_all,
    heartbeat,
    leader,
    only,
    sent,
    step,
)
from tests.node.cluster import Cluster as Hosts


class Stuck(Node):
    """Its machine's snapshots are never finished."""

    def _do(self, effect: Effect) -> None:
        if not isinstance(effect, TakeSnapshot):
            super()._do(effect)


def test_a_full_log_keeps_no_leader_from_taking_office(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing committed is known after a power loss of all, and what makes room waits for the new leader's no-op."""
    settings = with_settings(
        log_max_bytes=20_000,
        max_uncommitted_bytes=5_000,
        max_entry_bytes=900,
        max_message_bytes=900,
        snapshot_entries=5,
        keep_entries=0,
    )
    monkeypatch.setattr("tests.core.cluster.Node", Stuck)
    cluster = Cluster(3, settings=settings)
    cluster.elect(1)
    for size in (900, 500, 100, 20, 5, 1, 0):
        for request in range(60):
            cluster.propose(1, b"y" * size, request=request)
            cluster.deliver()
    assert all(node.raft.log.size > 20_000 - 33 for node in cluster.nodes.values())

    for node in cluster.nodes.values():
        node.crash()
    cluster.network.clear()
    for node in cluster.nodes.values():
        node.restart()
    cluster.tick(60)

    assert cluster.leader.raft.status.commit == cluster.leader.raft.status.last_index


def test_a_snapshot_is_offered_only_once_its_switch_is_durable() -> None:
    """After a crash before that, the machine may write other bytes under the same place, and a receiver would mix."""
    cluster = Cluster(3, settings=with_settings(snapshot_entries=3, keep_entries=0))
    boss = cluster.elect(1)
    cluster.isolate(3)
    boss.auto_persist = False
    cluster.propose(1, b"a", b"b", b"c")
    boss.persist()
    cluster.deliver()
    assert boss.raft.status.snapshot_index > 0
    assert boss.writes, "the switch is still on its way to the disk"

    cluster.heal()
    cluster.tick(3)
    assert boss.writes
    assert cluster[3].raft.status.snapshot_index == 0

    boss.auto_persist = True
    boss.persist()
    cluster.tick(3)
    assert cluster[3].raft.status.snapshot_index == boss.raft.status.snapshot_index > 0
    assert cluster[3].data == [b"a", b"b", b"c"]


def test_while_the_machine_is_set_to_one_snapshot_no_other_is_fetched() -> None:
    """The switch to the second deletes the file that the machine is being set to."""
    raft = core()
    step(raft, heartbeat(3, 2))
    first, second = snapshot_offer(10), snapshot_offer(20)
    step(raft, first)
    step(raft, SnapshotReceived(first.meta))
    assert raft.server.snapshots.restoring

    assert only(ReceiveSnapshot, step(raft, second)) == []
    assert raft.server.snapshots.receiving is None


def snapshot_offer(index: int) -> InstallSnapshot:
    meta = SnapshotMeta(Index(index), Term(3), Members.initial([1, 2]))
    return InstallSnapshot(Term(3), NodeId(2), MessageId(7), meta)


def test_a_transfer_that_was_ordered_and_not_answered_is_not_called_refused() -> None:
    """The order may still arrive, and would be obeyed."""
    raft = leader(core(), settled=True)
    everybody_has_all(raft)
    step(raft, Requested(RequestId(5), TransferLeadership(NodeId(2))))

    (answer,) = only(Respond, step(raft, PeerUnreachable(NodeId(2))))

    assert isinstance(answer.outcome, Indeterminate)  # type: ignore[union-attr]


def test_where_leases_are_in_force_no_setting_frees_a_voter_from_its_leader() -> None:
    """A node with CheckQuorum off joined a cluster with leases, and gave votes inside them."""
    cluster = Cluster(members=Members.initial([1, 2, 3], leases=True))
    joiner = cluster.add(Recovered.fresh(4), with_settings(check_quorum=False))
    joiner.step(AppendEntries(Term(2), NodeId(1), MessageId(7), HEARTBEAT, Index(0), Term(0), Index(0), ReadId(0)))
    assert joiner.raft.server.bound, "it does not know yet whether leases are allowed"

    vote = asks(9, 2, last=(50, 8))
    joiner.step(vote)
    assert [m for sender, _, m in cluster.network if sender == 4 and isinstance(m, VoteReply)] == []


class Rude:
    """A machine that gives what it likes."""

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        return None  # type: ignore[return-value]

    def query(self, request: bytes) -> bytes:
        if request == b"exit":
            sys.exit(1)
        return 7  # type: ignore[return-value]

    def snapshot(self) -> object:
        raise ValueError

    def restore(self, chunks: object) -> None:
        raise ValueError


def test_a_machine_that_gives_no_bytes_ends_its_node_or_fails_its_caller_with_a_clear_word() -> None:
    work = JobRunner(MemoryStore(node=1), Rude())  # type: ignore[arg-type]

    (failed,) = work.run(Lane.APPLY, [apply_of(entries((1, 1)))])
    (query,) = JobRunner(MemoryStore(node=1), Rude()).run(Lane.APPLY, [Query(1, b"x")])  # type: ignore[arg-type]

    assert isinstance(failed, JobFailed)
    assert "gives bytes, not NoneType" in str(failed.error)
    assert isinstance(query, QueryFailed)
    assert "gives bytes, not int" in query.text


def test_a_lane_whose_job_raises_anything_at_all_says_so() -> None:
    told: list[NodeEvent] = []
    lanes = Workers(MemoryStore(node=1), JobRunner(MemoryStore(node=2), Rude(), machine_blocks=True), "test")  # type: ignore[arg-type]
    lanes.start(told.extend)

    lanes.run(Lane.APPLY, [Query(1, b"exit")])
    lanes.close(5.0)

    assert isinstance(told[0], JobFailed)
    assert isinstance(told[0].error, InvariantBroken)


def test_a_leader_that_slept_answers_no_read_by_the_clock_from_before_its_sleep() -> None:
    """What a follower had asked was handled before the time that had passed, and so by a lease that was over."""
    cluster = Hosts(5, seed=1, settings=Settings(lease_reads=True), leases=True)
    cluster.start()
    sleeper = cluster.elect()
    cluster.wait(sleeper, sleeper.propose(b"old"))
    cluster.run(200 * MILLISECOND)
    asker = cluster.followers()[1]
    others = [host for host in cluster.nodes.values() if host not in (sleeper, asker)]
    awake, sleeper._handle = sleeper._handle, lambda: setattr(sleeper, "scheduled", False)  # type: ignore[method-assign]
    for other in others:
        cluster.partition(int(sleeper.id), int(other.id))
        cluster.partition(int(asker.id), int(other.id))
    cluster.run_until(lambda: any(other.role is RoleName.LEADER for other in others))
    successor = next(other for other in others if other.role is RoleName.LEADER)
    cluster.run_until(lambda: all(other.leader == successor.id for other in others))
    cluster.wait(successor, successor.propose(b"new"))

    question = asker.ask(b"all")
    cluster.run(2 * MILLISECOND)
    assert asker.leader == sleeper.id, "otherwise this shows nothing"
    sleeper._handle = awake  # type: ignore[method-assign]
    sleeper.tell()
    cluster.run(5 * MILLISECOND)

    assert not isinstance(asker.answers.get(question), bytes)


def test_a_full_follower_says_what_it_holds_so_that_it_learns_what_is_committed() -> None:
    """Restarted with a log full of entries not known to be committed, it was silent; none could tell it more."""
    settings = with_settings(log_max_bytes=200)
    raft = core(log=[1], settings=settings)
    full = append(1, 2, (2, 1), (3, 1), commit=2)

    effects = step(raft, msgspec.structs.replace(full, entries=(Entry.make(3, 1, b"x" * 200),)))

    assert raft.status.commit == 2
    assert [reply.match for reply in sent(effects, 2) if isinstance(reply, AppendReply)] == [2]
    assert sent(step(raft, msgspec.structs.replace(full, entries=(Entry.make(3, 1, b"x" * 200),)))) == []


def test_a_node_that_finds_its_snapshot_damaged_when_others_ask_for_it_ends_and_says_what_to_do() -> None:
    """It said that the snapshot was gone, was asked again twenty times a second, and no alarm told of the damage."""
    cluster = Hosts(3, joiners=(3,), settings=Settings(snapshot_entries=20, keep_entries=2))
    cluster.start(1, 2)
    boss = cluster.elect()
    cluster.wait(boss, *(boss.propose(b"%d" % number) for number in range(50)))
    cluster.run(SECOND)

    def damaged(meta: SnapshotMeta) -> SnapshotReader:
        raise LogDamaged("snapshot-7", 512, "the checksum of a chunk is wrong", "join anew")

    boss.store.open_snapshot = damaged  # type: ignore[method-assign]
    cluster.start(3)
    cluster.run(SECOND)
    boss.tell(Call(cluster.next_ticket(), ChangeMembership((AddLearner(NodeId(3)),))))
    cluster.run_until(lambda: boss.finished is not None)

    assert boss.finished is not None
    assert isinstance(boss.finished.error, LogDamaged)
    assert "join anew" in str(boss.finished.error)


def test_a_store_that_cannot_read_a_snapshot_for_a_reason_of_its_own_says_which() -> None:
    store = MemoryStore(node=1)
    store.open_snapshot = lambda meta: (_ for _ in ()).throw(KeyError(0))  # type: ignore[method-assign]
    meta = snapshot_offer(10).meta

    (read,) = JobRunner(store, Rude()).run(Lane.CHUNKS, [ReadChunk(NodeId(2), meta, 0, 10)])  # type: ignore[arg-type]

    assert isinstance(read, ChunkRead)
    assert read.gone
    assert "KeyError: 0" in read.text
