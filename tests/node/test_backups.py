"""Backups of a node: of what they are, when a snapshot is taken for one, and how they end early."""

from __future__ import annotations

import pytest

from raft_core.backup_format import BackupHeader, BackupReader
from raft_core.entries import SnapshotMeta
from raft_core.errors import Refused, RequestError
from raft_core.ids import Index, Term
from raft_core.membership import Members
from raft_core.node import SECOND, JobRunner
from raft_core.node.events import Call, CallCancelled, QueryAnswered, QueryFailed
from raft_core.node.jobs import CloseBackups, Lane, ReadPiece
from raft_core.requests import BackupRequest, OpenBackup, ReadBackup
from raft_core.settings import Settings
from tests.node.cluster import Cluster, LogMachine, Node
from tests.node.test_job_runner import META, a_work, stored


def formed(settings: Settings | None = None) -> Cluster:
    cluster = Cluster(3, settings=settings)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None)
    return cluster


def asked(cluster: Cluster, node: Node, request: BackupRequest, *, timeout: int = 0) -> int:
    ticket = cluster.next_ticket()
    node.tell(Call(ticket, request, cluster.now + timeout if timeout else 0))
    return ticket


def answer(cluster: Cluster, node: Node, request: BackupRequest, *, timeout: int = 0) -> bytes | RequestError:
    ticket = asked(cluster, node, request, timeout=timeout)
    cluster.run_until(lambda: ticket in node.answers)
    return node.answers[ticket]


def piece(cluster: Cluster, node: Node, request: BackupRequest) -> bytes:
    found = answer(cluster, node, request)
    assert isinstance(found, bytes), found
    return found


def backup(cluster: Cluster, node: Node) -> tuple[BackupHeader, LogMachine]:
    """Read a whole backup, and restore it into a machine."""
    reader, machine, states = BackupReader(), LogMachine(), []
    reader.feed(piece(cluster, node, OpenBackup("test")))
    assert reader.header is not None
    meta = reader.header.meta
    while not reader.done:
        states += reader.feed(piece(cluster, node, ReadBackup(meta.index, meta.term, reader.number)))
    machine.restore(states)
    return reader.close(), machine


def propose(cluster: Cluster, command: bytes) -> None:
    leader = cluster.leader()
    assert leader is not None
    ticket = leader.propose(command)
    cluster.run_until(lambda: ticket in leader.answers)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_backup_of_any_node_has_every_write_answered_before(number: int) -> None:
    cluster = formed()
    for command in (b"a", b"b", b"c"):
        propose(cluster, command)

    header, machine = backup(cluster, cluster[number])

    assert machine.commands == [b"a", b"b", b"c"]
    assert (header.cluster, header.node, header.label) == ("test", number, "test")
    assert header.meta.members.voters == (1, 2, 3)

    propose(cluster, b"d")
    again, machine = backup(cluster, cluster[number])
    assert machine.commands == [b"a", b"b", b"c", b"d"]
    assert again.meta.index > header.meta.index


def test_snapshot_that_is_there_is_used_again() -> None:
    cluster = formed()
    propose(cluster, b"a")
    one, _ = backup(cluster, cluster[1])

    other, _ = backup(cluster, cluster[1])

    assert one == other


def test_backup_continues_although_a_newer_snapshot_replaces_its_own() -> None:
    cluster = formed(Settings(snapshot_entries=4, keep_entries=0))
    propose(cluster, b"a")
    node = cluster[2]
    reader = BackupReader()
    reader.feed(piece(cluster, node, OpenBackup()))
    assert reader.header is not None
    old = reader.header.meta

    for number in range(12):
        propose(cluster, b"%d" % number)
    cluster.run(SECOND)
    status = node.host.status.core
    assert status is not None
    assert status.snapshot_index > old.index

    states = reader.feed(piece(cluster, node, ReadBackup(old.index, old.term, 1)))
    assert states == [b"1:a"]
    reader.feed(piece(cluster, node, ReadBackup(old.index, old.term, 2)))
    assert reader.done
    refused = answer(cluster, node, OpenBackup(index=old.index, term=old.term))  # closed with its last piece
    assert isinstance(refused, Refused)


def test_snapshot_is_given_away_only_once_the_disk_is_switched_to_it() -> None:
    """After a crash before the switch, other bytes could be stored under the same index and term."""
    cluster = formed()
    propose(cluster, b"a")
    leader = cluster.leader()
    assert leader is not None
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.run(SECOND)
    follower.stall_disk(True)
    ticket = asked(cluster, follower, OpenBackup())
    cluster.run(SECOND // 4)
    assert ticket not in follower.answers

    follower.stall_disk(False)
    cluster.run_until(lambda: ticket in follower.answers)
    assert isinstance(follower.answers[ticket], bytes)


def test_caller_is_told_when_the_snapshot_cannot_be_taken() -> None:
    class Unwilling(LogMachine):
        def snapshot(self) -> object:  # type: ignore[override]
            raise OSError("no")

    cluster = Cluster(1, new_machine=Unwilling)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None)
    propose(cluster, b"a")

    refused = answer(cluster, cluster[1], OpenBackup())

    assert isinstance(refused, Refused)
    assert "no" in str(refused)


def test_backup_needs_a_quorum_and_keeps_its_deadline() -> None:
    cluster = formed()
    leader = cluster.leader()
    assert leader is not None
    for node in list(cluster.nodes.values()):
        if node is not leader:
            cluster.crash(node.id)

    refused = answer(cluster, leader, OpenBackup(), timeout=SECOND)

    assert isinstance(refused, Refused)


def test_cancelled_backup_orders_no_more_snapshots() -> None:
    cluster = formed()
    propose(cluster, b"a")
    node = cluster[1]
    ticket = asked(cluster, node, OpenBackup())
    node.tell(CallCancelled(ticket))
    cluster.run(SECOND)

    assert ticket not in node.answers
    assert not node.host._clients.backups.waiting


def test_snapshots_are_closed_when_nothing_is_read_for_a_minute() -> None:
    cluster = formed()
    propose(cluster, b"a")
    node = cluster[1]
    piece(cluster, node, OpenBackup())
    assert len(node.work._backups._open) == 1

    cluster.run(59 * SECOND)
    assert len(node.work._backups._open) == 1
    cluster.run(2 * SECOND)
    assert len(node.work._backups._open) == 0


# The job.


def test_pieces_are_read_from_the_store_and_what_is_gone_is_refused() -> None:
    work, _, store = a_work()
    stored(store, b"0123456789")
    gone = SnapshotMeta(Index(4), Term(1), Members())

    reports = work.run(Lane.CHUNKS, [ReadPiece("t", META, number, "label") for number in range(4)])

    reader = BackupReader()
    states = []
    for report in reports[:3]:
        assert isinstance(report, QueryAnswered)
        states += reader.feed(report.data)
    assert b"".join(states) == b"0123456789"
    assert reader.close().label == "label"
    assert reports[3] == QueryAnswered("t", b"")
    (refusal,) = work.run(Lane.CHUNKS, [ReadPiece("t", gone, 0)])
    assert isinstance(refusal, QueryFailed)


def test_two_snapshots_at_most_are_open_and_closing_is_harmless() -> None:
    work, _, store = a_work()
    metas = [SnapshotMeta(Index(index), Term(1), META.members, Index(1)) for index in (7, 8, 9)]
    for meta in metas:
        stored(store, b"state", meta)

    work.run(Lane.CHUNKS, [ReadPiece("t", meta, 0) for meta in metas])
    assert [position.index for position in work._backups._open] == [8, 9]

    assert work.run(Lane.CHUNKS, [CloseBackups()]) == []
    assert isinstance(work, JobRunner)
    assert not work._backups._open
    (report,) = work.run(Lane.CHUNKS, [ReadPiece("t", metas[0], 1)])
    assert isinstance(report, QueryAnswered)
