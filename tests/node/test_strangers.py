"""Strangers have a small allowance of their own in every table, and leave nothing behind (item 27)."""

from __future__ import annotations

import random

import msgspec

from raft_core.effects import Alarm
from raft_core.ids import ClusterId, Incarnation, NodeId
from raft_core.membership import AddLearner, Members
from raft_core.node import MILLISECOND, SECOND, NodeLimits
from raft_core.node.events import Call, ConnectionClosed, ConnectionId, ConnectionOpened, Disconnect
from raft_core.node.outputs import Outputs
from raft_core.node.peers import PING, Peers
from raft_core.node.strangers import MOST
from raft_core.recovered import Identity
from raft_core.requests import ChangeMembership, Propose
from raft_core.settings import Settings
from raft_core.wire import encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Forward, Hello, Pull
from tests.node.cluster import Cluster, greet

ME, MEMBER = NodeId(1), NodeId(2)


def hello(node: int, **fields: object) -> Hello:
    hello = Hello(WIRE_VERSION, ClusterId("c"), NodeId(node), Incarnation(1000 + node), address=f"n{node}")
    return msgspec.structs.replace(hello, **fields)


class Door:
    """The peers of node 1, which is a member beside node 2."""

    def __init__(self, **config: int) -> None:
        self.config = NodeLimits(address="n1", **config)  # type: ignore[arg-type]
        self.orders = Outputs()
        identity = Identity(ME, ClusterId("c"), Incarnation(1001))
        self.peers = Peers(self.config, Settings(), identity, self.orders, random.Random(1))
        self.peers.now = SECOND
        self.peers.on_members(Members.initial([1, 2]))
        self.last = 1

    def accept(self, said: Hello | None = None) -> ConnectionId:
        self.last += 2
        connection = ConnectionId(self.last)
        self.peers.on_opened(ConnectionOpened(connection, accepted=True))
        if said is not None:
            greet(self.peers, connection, said)
        return connection

    def sizes(self) -> dict[str, int]:
        peers, book = self.peers, self.peers.addresses
        return {
            "connections": len(peers._connections),
            "accepted": len(peers._accepted),
            "dialled": len(peers._dialled),
            "errors": len(peers._errors),
            "strangers": len(peers._strangers),
            "redial": len(peers._redial._failures) + len(peers._redial._not_before),
            "disks": len(book.disks),
            "addresses": len(book._from_itself),
            "hearsay": len(book._hearsay),
            "failures": len(book._failures),
            "warnings": len(peers._warnings._last),
        }


def test_thousand_strangers_leave_nothing_behind() -> None:
    door = Door()
    before = door.sizes()
    for number in range(100, 1100):
        known = ((NodeId(5000 + number), "nowhere"),)
        connection = door.accept(hello(number, known=known))
        door.peers.dial_due()
        dialled = door.peers._dialled.get(NodeId(number))
        if dialled is not None:
            door.peers.on_closed(ConnectionClosed(dialled.id))
        door.peers.on_closed(ConnectionClosed(connection))
        assert max(door.sizes().values()) <= 2 * MOST
    door.orders.taken()
    for _ in range(2):
        door.peers.now += 61 * SECOND
        door.peers.on_tick()
    for left in [c for c in door.peers._connections.values() if c.peer != MEMBER]:
        door.peers.on_closed(ConnectionClosed(left.id))

    after = door.sizes()
    assert {name: size for name, size in after.items() if size > before[name] + 1} == {}


def test_new_node_is_heard_beside_thousand_strangers() -> None:
    """Both one that was there before them, because it stays, and one that comes after them."""
    door = Door()
    first = door.accept(hello(7))
    for number in range(100, 1100):
        door.peers.on_closed(ConnectionClosed(door.accept(hello(number))))
    door.accept(hello(8))

    assert (door.peers.addresses.disks.get(NodeId(7)), door.peers.addresses.disks.get(NodeId(8))) == (1007, 1008)
    assert first in door.peers._connections


def test_connected_strangers_are_bounded_and_newest_stay() -> None:
    door = Door()
    connections = [door.accept(hello(number)) for number in range(100, 100 + 3 * MOST)]

    gone = [effect.connection for effect in door.orders.taken() if isinstance(effect, Disconnect)]
    assert gone == connections[: 2 * MOST]
    assert dict(door.peers.drops) == {"stranger": 2 * MOST}


def test_connections_without_a_greeting_have_an_allowance_of_their_own() -> None:
    """75 of them take nothing from those who have greeted, member or not, and a member is heard among them."""
    door = Door(max_ungreeted=8)
    greeted = [door.accept(hello(MEMBER)), door.accept(hello(9))]
    silent = [door.accept() for _ in range(75)]

    gone = [effect.connection for effect in door.orders.taken() if isinstance(effect, Disconnect)]
    assert gone == silent[:-8]
    assert set(door.peers._connections) == {*greeted, *silent[-8:]}
    newest = door.accept(hello(MEMBER))
    assert door.peers._accepted[MEMBER].id == newest


def test_connection_that_greeted_is_no_longer_counted_among_the_silent() -> None:
    door = Door(max_ungreeted=1)
    connections = [door.accept(hello(number)) for number in (MEMBER, 7, 8, 9)]

    assert [effect for effect in door.orders.taken() if isinstance(effect, Disconnect)] == []
    assert set(door.peers._connections) == set(connections)


def test_member_finds_room_where_strangers_took_all_connections() -> None:
    door = Door(max_connections=3)
    strangers = [door.accept(), door.accept(hello(9)), door.accept()]
    door.accept(hello(MEMBER))
    door.accept(hello(10))

    gone = [effect.connection for effect in door.orders.taken() if isinstance(effect, Disconnect)]
    assert gone == strangers[:2]
    assert set(door.peers._accepted) == {MEMBER, 10}


def test_connections_of_members_are_never_given_up_for_strangers() -> None:
    door = Door(max_connections=1)
    door.accept(hello(MEMBER))
    refused = door.accept()

    assert [e.connection for e in door.orders.taken() if isinstance(e, Disconnect)] == [refused]


def test_alarms_about_strangers_count_as_one() -> None:
    door = Door()
    for number in range(100, 1300):
        door.accept(hello(number, address=""))

    alarms = [effect for effect in door.orders.taken() if isinstance(effect, Alarm)]
    assert len(alarms) == 1
    assert len(door.peers._warnings._last) == 1


def test_strangers_are_not_told_to_others() -> None:
    door = Door()
    door.accept(hello(MEMBER))
    door.accept(hello(9, known=((NodeId(3), "elsewhere"),)))
    told = door.peers._link(dialer=True, peer=MEMBER)._mine.known

    assert told == ((MEMBER, "n2"),)
    assert door.peers.addresses.of(NodeId(3)) == ""


def test_member_that_leaves_is_forgotten_in_time() -> None:
    door = Door()
    connection = door.accept(hello(MEMBER))
    door.peers.on_members(Members.initial([1]))
    door.peers.on_closed(ConnectionClosed(connection))
    door.peers.now += 61 * SECOND
    door.peers.on_tick()

    assert door.peers.addresses.disks == {}
    assert door.peers.addresses.of(MEMBER) == ""


def test_stranger_gets_no_snapshot_and_takes_no_room_of_clients() -> None:
    cluster = Cluster(1)
    cluster.start()
    node = cluster.elect()
    said = encode_payload(Hello(WIRE_VERSION, ClusterId("test"), NodeId(99), Incarnation(1)))
    requests = [Forward(number, 0, Propose(b"x")) for number in range(1, 6)]
    data = said + b"".join(encode_payload(value) for value in (Pull(node.host.status.core.commit, 1, 0, 9), *requests))  # type: ignore[union-attr, arg-type]
    cluster.connect_stranger(1, data)
    cluster.run(100 * MILLISECOND)

    assert node.drops["pull_refused"] == 1
    assert node.machine.commands == []
    assert node.host._serving._reading == {}
    assert node.host._serving._furthest == {}


def test_node_can_be_added_after_thousand_strangers() -> None:
    """The issue's own case."""
    cluster = Cluster(2, joiners=(2,))
    cluster.start(1)
    node = cluster.elect()
    for number in range(100, 1100):
        said = Hello(WIRE_VERSION, ClusterId("test"), NodeId(number), Incarnation(number))
        connection = cluster.connect_stranger(1, encode_payload(said))
        node.tell(ConnectionClosed(connection))
        node.pipes.pop(connection).closed = True
    cluster.start(2)
    cluster.run(SECOND)
    ticket = cluster.next_ticket()
    node.tell(Call(ticket, ChangeMembership((AddLearner(NodeId(2)),))))

    assert cluster.wait(node, ticket) == [b""]


def test_stranger_that_takes_no_answers_takes_little_room() -> None:
    """Each of 256 connections could have 32 MiB of pongs wait for it, at twice that much memory."""
    door = Door()
    stranger, member = door.accept(hello(99)), door.accept(hello(MEMBER))
    for connection in (stranger, member):
        for _ in range(1000):
            door.peers.on_bytes(connection, 10 * encode_payload(PING))
        door.peers.flush()

    assert stranger not in door.peers._connections
    assert member in door.peers._connections
