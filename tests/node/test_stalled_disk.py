"""A node whose disk hangs refuses the reads that would wait for it, and says why (item 22)."""

from __future__ import annotations

from raft_core.effects import RefusalReason
from raft_core.errors import Refused
from raft_core.node import MILLISECOND, SECOND
from tests.node.cluster import Cluster, Node, error_of


def stalled() -> tuple[Cluster, Node]:
    """A follower whose disk has hung for a second, while the others went on."""
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.run(SECOND)
    node = cluster.followers()[0]
    node.stall_disk(True)
    cluster.wait(leader, leader.propose(b"a"))
    return cluster, node


def test_read_is_refused_once_disk_has_hung_for_election_timeout() -> None:
    cluster, node = stalled()
    asked = cluster.now
    ticket = node.ask(b"len", timeout=30 * SECOND)
    cluster.wait(node, ticket)

    error = error_of(node, ticket)
    assert isinstance(error, Refused)
    assert error.reason == RefusalReason.DISK_STALLED
    assert cluster.now - asked <= 600 * MILLISECOND


def test_read_at_hung_disk_is_refused_at_once_and_write_is_passed_on() -> None:
    cluster, node = stalled()
    cluster.run(SECOND)
    asked = cluster.now
    read, write = node.ask(b"len"), node.propose(b"b")
    cluster.wait(node, read, write)

    assert error_of(node, read).reason == RefusalReason.DISK_STALLED  # type: ignore[attr-defined]
    assert node.answers[write] == b"ok:b"
    assert cluster.now - asked <= 30 * MILLISECOND


def test_read_is_answered_again_once_disk_answers() -> None:
    cluster, node = stalled()
    cluster.run(SECOND)
    node.stall_disk(False)
    cluster.run(100 * MILLISECOND)

    assert cluster.wait(node, node.ask(b"len")) == [b"1"]


def test_read_that_needs_nothing_of_hung_disk_is_answered() -> None:
    cluster, node = stalled()
    node.stall_disk(False)
    cluster.run(SECOND)
    node.stall_disk(True)
    cluster.run(2 * SECOND)

    assert cluster.wait(node, node.ask(b"len")) == [b"1"]
