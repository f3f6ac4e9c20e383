"""Commit announcements wait a moment for company, and cost nothing if an append follows."""

from __future__ import annotations

from raft_core.ids import Incarnation, Index, MessageId, ReadId, Term
from raft_core.messages import COMMIT_UPDATE, DATA, AppendEntries, AppendReply
from raft_core.node.events import ConnectionId, Transmit, Transmitted
from raft_core.node.limits import MILLISECOND
from raft_core.node.riders import RIDE
from raft_core.wire.codec import encode_message

from .cluster import Cluster
from .test_peers import ME, OTHER, Net, append, heartbeat


def announcement(commit: int) -> AppendEntries:
    return AppendEntries(Term(1), ME, MessageId(9), COMMIT_UPDATE, Index(3), Term(1), Index(commit), ReadId(0))


def greeted() -> tuple[Net, ConnectionId]:
    net = Net()
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    return net, connection


def test_append_takes_the_place_of_a_waiting_announcement() -> None:
    net, connection = greeted()
    net.peers.send(OTHER, announcement(3))
    assert net.effects() == []
    net.peers.send(OTHER, append(10))
    assert net.effects() == [Transmit(connection, encode_message(append(10)))]
    assert net.peers.table.most_queued == 0


def test_newer_announcement_replaces_an_older_one_and_waits_no_longer() -> None:
    net, connection = greeted()
    net.peers.send(OTHER, announcement(3))
    until = net.peers.riders.until
    net.peers.now += RIDE // 2
    net.peers.send(OTHER, announcement(4))
    assert net.effects() == []
    assert net.peers.riders.until == until
    net.peers.now = until
    assert net.effects() == [Transmit(connection, encode_message(announcement(4)))]
    assert net.peers.riders.until == 0


def test_anything_else_for_the_peer_takes_the_announcement_along() -> None:
    net, connection = greeted()
    net.peers.send(OTHER, announcement(3))
    assert net.effects() == []
    net.peers.send(OTHER, heartbeat())
    assert net.effects() == [Transmit(connection, encode_message(heartbeat()) + encode_message(announcement(3)))]
    net.peers.on_transmitted(Transmitted(connection))
    net.peers.now += 2 * RIDE
    assert net.effects() == []


def test_append_takes_the_place_of_nothing_but_an_announcement() -> None:
    """A reply of this node, which led and now follows, shares the lane and must not be lost."""
    net, connection = greeted()
    reply = AppendReply(Term(2), ME, Incarnation(1), MessageId(3), DATA, ReadId(0), Index(3))
    net.peers.send(OTHER, announcement(3))
    net.peers.send(OTHER, reply)
    net.peers.send(OTHER, append(10))
    frames = encode_message(announcement(3)) + encode_message(reply) + encode_message(append(10))
    assert net.effects() == [Transmit(connection, frames)]


def test_announcement_behind_data_is_sent_with_it() -> None:
    net, connection = greeted()
    net.peers.send(OTHER, append(10))
    net.peers.send(OTHER, announcement(3))
    both = encode_message(append(10)) + encode_message(announcement(3))
    assert net.effects() == [Transmit(connection, both)]


def test_node_that_stops_lets_nothing_wait() -> None:
    net, connection = greeted()
    net.peers.send(OTHER, announcement(3))
    net.peers.flush(hurry=True)
    assert net.orders.taken() == [Transmit(connection, encode_message(announcement(3)), hurry=True)]


def test_followers_apply_soon_after_the_last_write_and_hear_little_in_between() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"first"))
    cluster.run(20 * MILLISECOND)
    for node in cluster.nodes.values():
        node.effects.clear()
    for number in range(20):
        cluster.wait(leader, leader.propose(b"%d" % number))
    sent = [effect for effect in leader.effects if isinstance(effect, Transmit)]
    assert len(sent) < 2 * 2 * 20, "an append and an announcement to each follower for each write would be 80"

    followers = [node for node in cluster.nodes.values() if node is not leader]
    begun = cluster.now
    cluster.run_until(lambda: all(len(node.machine.commands) == 21 for node in followers))
    assert cluster.now - begun < 5 * MILLISECOND
