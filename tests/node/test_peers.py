"""Connections: who is dialled, greeted, given up, and which bytes leave first."""

from __future__ import annotations

import random

import pytest

from raft_core.effects import Alarm, AlarmKind
from raft_core.entries import Entry
from raft_core.errors import SettingsError
from raft_core.events import PeerConnected, PeerUnreachable
from raft_core.ids import MAX_INT63, ClusterId, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import Members
from raft_core.messages import DATA, HEARTBEAT, AppendEntries
from raft_core.node import MILLISECOND, SECOND, Drop, NodeLimits
from raft_core.node.events import (
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    Dial,
    DialFailed,
    Disconnect,
    NodeEffect,
    Transmit,
    Transmitted,
)
from raft_core.node.outputs import Outputs
from raft_core.node.peers import PING, Peers
from raft_core.recovered import Identity
from raft_core.settings import Settings
from raft_core.wire import Link, LinkFault, PayloadReceived, encode_message, encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Chunk, ForwardReply, Hello
from tests.node.cluster import greet

ME, OTHER, THIRD = NodeId(1), NodeId(2), NodeId(3)
CLUSTER = ClusterId("c")
HELLO = Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, address="n2")
PONG = encode_payload(Chunk(Index(0), Term(0), 0, 0, b"", gone=True))
SETTINGS = Settings(max_message_bytes=1000, max_inflight_bytes=2000, max_entry_bytes=1000)


class Net:
    """`Peers` of node 1, who knows where nodes 2 and 3 are."""

    def __init__(self, **config: int) -> None:
        self.config = NodeLimits(address="n1", peers={OTHER: "n2", THIRD: "n3"}, **config)  # type: ignore[arg-type]
        self.orders = Outputs()
        self.peers = Peers(self.config, SETTINGS, Identity(ME, CLUSTER, Incarnation(11)), self.orders, random.Random(3))
        self.peers.now = SECOND

    def effects(self) -> list[NodeEffect]:
        self.peers.flush()
        return self.orders.taken()

    def events(self) -> list[object]:
        events: list[object] = list(self.orders.events)
        self.orders.events.clear()
        return events

    def later(self, duration: int) -> None:
        self.peers.now += duration
        self.peers.on_tick()

    def greet(self, *, number: int = 2, hello: Hello = HELLO) -> ConnectionId:
        """The dialled connection `number` is greeted."""
        connection = ConnectionId(number)
        self.peers.on_opened(ConnectionOpened(connection, accepted=False))
        self.effects()
        self.peers.on_transmitted(Transmitted(connection))
        greet(self.peers, connection, hello)
        return connection

    def accept(self, number: int, hello: Hello = HELLO) -> ConnectionId:
        connection = ConnectionId(number)
        self.peers.on_opened(ConnectionOpened(connection, accepted=True))
        greet(self.peers, connection, hello)
        return connection


def append(*sizes: int, number: int = 1) -> AppendEntries:
    entries = tuple(Entry.make(n + 1, 1, b"x" * size) for n, size in enumerate(sizes))
    return AppendEntries(Term(1), ME, MessageId(number), DATA, Index(0), Term(0), Index(0), ReadId(0), entries)


def heartbeat(number: int = 1) -> AppendEntries:
    return AppendEntries(Term(1), ME, MessageId(number), HEARTBEAT, Index(0), Term(0), Index(0), ReadId(0))


def test_every_known_address_is_dialled_once() -> None:
    net = Net()
    net.peers.dial_due()
    net.peers.dial_due()

    assert net.effects() == [Dial(ConnectionId(2), "n2"), Dial(ConnectionId(4), "n3")]


def test_who_dialled_says_hello_first_and_the_core_hears_when_it_is_greeted() -> None:
    net = Net()
    net.peers.dial_due()
    net.effects()
    net.peers.on_opened(ConnectionOpened(ConnectionId(2), accepted=False))

    (transmit,) = net.effects()
    assert isinstance(transmit, Transmit)
    theirs = Link(Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22)), dialer=False)
    assert theirs.receive(transmit.data)[0].hello.address == "n1"  # type: ignore[union-attr]
    assert net.events() == []
    greet(net.peers, ConnectionId(2), HELLO)
    assert net.events() == [PeerConnected(OTHER)]


def test_who_accepted_says_hello_only_to_whom_it_greeted() -> None:
    net = Net()
    connection = ConnectionId(1)
    net.peers.on_opened(ConnectionOpened(connection, accepted=True))
    assert net.effects() == []
    greet(net.peers, connection, HELLO)

    (transmit,) = net.effects()
    assert isinstance(transmit, Transmit)
    theirs = Link(Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22)), dialer=True, peer=ME)
    assert len(theirs.receive(transmit.data)) == 1
    assert net.events() == [], "messages cannot be sent on it"


def test_one_transmission_at_a_time_and_the_urgent_lane_first() -> None:
    net = Net(transmit_bytes=700)
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    first, second, third = append(500), append(500, number=2), append(500, number=3)
    net.peers.send(OTHER, first)
    assert net.effects() == [Transmit(connection, encode_message(first))]
    net.peers.send(OTHER, second)
    net.peers.send(OTHER, third)
    net.peers.send(OTHER, heartbeat())
    assert net.effects() == []

    net.peers.on_transmitted(Transmitted(connection))
    both = encode_message(heartbeat()) + encode_message(second)
    assert net.effects() == [Transmit(connection, both, hurry=True)]  # the third waits for the report
    net.peers.on_transmitted(Transmitted(connection))
    assert net.effects() == [Transmit(connection, encode_message(third))]
    net.peers.on_transmitted(Transmitted(connection))
    assert net.effects() == []


def test_a_large_frame_goes_out_in_pieces_with_nothing_in_between() -> None:
    net = Net(transmit_bytes=400)
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    large, small = encode_message(append(900)), encode_message(append(100, number=2))
    for message in (heartbeat(1), append(900), append(100, number=2)):
        net.peers.send(OTHER, message)
    first = encode_message(heartbeat(1)) + large[:400]
    sent = [*net.effects()]
    net.peers.send(OTHER, heartbeat(2))
    while net.peers.table.most_queued:
        net.peers.on_transmitted(Transmitted(connection))
        sent += net.effects()

    data = [first, large[400:800], large[800:], encode_message(heartbeat(2)) + small]
    *waited_for, last = data
    assert sent == [*(Transmit(connection, piece, hurry=True) for piece in waited_for), Transmit(connection, last)]


def silences(net: Net, ticks: int, *, heard: ConnectionId | None = None) -> list[ConnectionId]:
    """The connections that are closed for silence meanwhile; on `heard` the peer says something at each tick."""
    closed: list[ConnectionId] = []
    for _ in range(ticks):
        if heard is not None:
            net.peers.on_bytes(heard, encode_payload(PING))
        net.later(10 * MILLISECOND)
        silent = "nothing was heard for too long"
        closed += [e.connection for e in net.effects() if isinstance(e, Disconnect) and e.text == silent]
    return closed


def test_a_line_that_takes_a_large_frame_piece_by_piece_is_not_silent_until_it_takes_no_more() -> None:
    net = Net(transmit_bytes=100)
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    net.peers.send(OTHER, append(900))
    net.effects()
    for _ in range(5):
        assert silences(net, 400) == []
        net.peers.on_transmitted(Transmitted(connection))

    assert silences(net, 500) == []
    assert silences(net, 1) == [connection]


def test_frames_that_are_taken_whole_are_no_sign_of_life() -> None:
    net = Net()
    net.peers.dial_due()
    connection = net.greet()
    closed = []
    for number in range(51):
        net.peers.send(OTHER, append(900, number=number))
        net.effects()
        net.peers.on_transmitted(Transmitted(connection))
        closed += silences(net, 10)

    assert closed == [connection]


def test_what_is_under_way_excuses_silence_as_long_as_the_peer_is_heard() -> None:
    net = Net(lowest_rate=100)
    net.peers.dial_due()
    ours, theirs = net.greet(), net.accept(1)
    net.effects()
    net.peers.on_transmitted(Transmitted(ours))
    assert silences(net, 100, heard=theirs) == []
    net.peers.on_transmitted(Transmitted(ours))  # the ping
    net.peers.on_bytes(ours, PONG)  # what was said until then has arrived
    net.peers.send(OTHER, append(900))
    ((_, data),) = [(e.connection, e.data) for e in net.effects() if isinstance(e, Transmit) and e.connection == ours]

    excused = len(encode_payload(PING) + data)
    assert silences(net, 500 + excused, heard=theirs) == []
    assert silences(net, 1, heard=theirs) == [ours]


def test_what_is_under_way_to_a_peer_that_is_not_heard_excuses_nothing() -> None:
    net = Net(lowest_rate=1)
    net.peers.dial_due()
    ours, theirs = net.greet(), net.accept(1)
    net.peers.send(OTHER, append(900))
    net.effects()

    assert silences(net, 500) == []
    assert silences(net, 2) == [theirs, ours]


def test_so_much_cannot_be_under_way_that_a_dead_line_is_never_noticed() -> None:
    net = Net(lowest_rate=4 * 1024 * 1024)
    net.peers.dial_due()
    ours, theirs = net.greet(), net.accept(1)
    net.effects()
    net.peers._connections[ours].handed += 1 << 40

    assert silences(net, 600, heard=theirs) == []
    assert silences(net, 1, heard=theirs) == [ours]


@pytest.mark.interpreted
def test_an_append_to_several_followers_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    net.peers.dial_due()
    net.greet()
    net.greet(number=4, hello=Hello(WIRE_VERSION, CLUSTER, THIRD, Incarnation(33), to=ME))
    net.effects()
    encoded = []

    def counted(message: AppendEntries) -> bytes:
        encoded.append(message)
        return encode_message(message)

    monkeypatch.setattr("raft_core.node.peer_connection.encode_message", counted)
    message = append(10)
    net.peers.send(OTHER, message)
    net.peers.send(THIRD, message)

    assert len(encoded) == 1
    assert [type(effect) for effect in net.effects()] == [Transmit, Transmit]
    net.peers.send(OTHER, message)
    assert len(encoded) == 2, "nothing is kept beyond one call"


def test_a_full_bulk_lane_is_thrown_away_whole_and_the_core_told() -> None:
    net = Net(bulk_bytes=3000)
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    net.events()
    for number in range(5):
        net.peers.send(OTHER, append(900, number=number))
    net.peers.send(OTHER, heartbeat())

    assert net.events() == [PeerUnreachable(OTHER)]
    assert net.peers.drops == {Drop.BULK_OVERFLOW: 4}
    sent = [e.data for e in net.effects() if isinstance(e, Transmit)]
    assert sent == [encode_message(heartbeat()) + encode_message(append(900, number=4))]
    assert connection == 2


def test_a_bulk_lane_that_was_emptied_has_room_again() -> None:
    net = Net(bulk_bytes=3000)
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    net.events()
    for number in range(20):
        net.peers.send(OTHER, append(900, number=number))
        net.peers.send(OTHER, append(900, number=number))
        net.effects()
        net.peers.on_transmitted(Transmitted(connection))

    assert net.events() == []
    assert net.peers.drops == {}


def test_a_frame_larger_than_the_lane_still_gets_through() -> None:
    net = Net(bulk_bytes=100)
    net.peers.dial_due()
    net.greet()
    net.effects()
    net.peers.send(OTHER, append(900))

    assert net.peers.drops == {}
    assert len(net.effects()) == 1


def test_a_full_urgent_lane_drops_the_oldest() -> None:
    net = Net(urgent_frames=2)
    net.peers.dial_due()
    net.greet()
    net.effects()
    for number in range(3):
        net.peers.send(OTHER, heartbeat(number))

    (transmit,) = net.effects()
    assert transmit.data == encode_message(heartbeat(1)) + encode_message(heartbeat(2))  # type: ignore[union-attr]
    assert net.peers.drops == {Drop.URGENT_OVERFLOW: 1}


def test_the_default_bulk_lane_holds_a_full_window() -> None:
    for settings in (Settings(), Settings(max_inflight_bytes=1 << 30), Settings(max_entry_bytes=1 << 26)):
        assert NodeLimits().bulk_limit(settings) >= settings.max_inflight_bytes + settings.max_entry_bytes


def test_a_message_to_nobody_is_counted() -> None:
    net = Net()
    net.peers.send(OTHER, heartbeat())

    assert net.peers.drops == {Drop.NOT_CONNECTED: 1}


def test_dialling_again_waits_longer_each_time_up_to_a_limit_and_by_chance() -> None:
    waits: set[tuple[int, ...]] = set()
    for seed in range(5):
        net = Net()
        net.peers._redial._rng.seed(seed)
        waited: list[int] = []
        net.peers.dial_due()
        for _ in range(9):
            (dial,) = (e for e in net.effects() if isinstance(e, Dial) and e.address == "n2")
            net.peers.on_dial_failed(DialFailed(dial.connection))
            failed_at = net.peers.now
            while not any(isinstance(e, Dial) and e.address == "n2" for e in net.orders.effects):
                net.later(MILLISECOND)
            waited.append((net.peers.now - failed_at) // MILLISECOND)
        assert all(25 * 2**n <= wait <= 50 * 2**n + 1 for n, wait in enumerate(waited[:6]))
        assert all(1000 <= wait <= 2001 for wait in waited[6:])
        waits.add(tuple(waited))
    assert len(waits) == 5


def test_a_connection_that_lasted_is_dialled_again_soon() -> None:
    net = Net()
    net.peers.dial_due()
    for _ in range(5):
        number = net.peers._dialled[OTHER].id
        net.peers.on_dial_failed(DialFailed(number))
        net.later(3 * SECOND)
    connection = net.greet(number=net.peers._dialled[OTHER].id)
    net.peers.now += 10 * SECOND
    net.peers.on_closed(ConnectionClosed(connection))
    net.effects()
    net.later(50 * MILLISECOND)

    assert any(isinstance(e, Dial) and e.address == "n2" for e in net.effects())


@pytest.mark.parametrize("dialled", [True, False])
def test_the_core_hears_when_a_greeted_connection_of_either_direction_breaks(dialled: bool) -> None:
    net = Net()
    net.peers.dial_due()
    connection = net.greet() if dialled else net.accept(1)
    net.events()
    net.peers.on_closed(ConnectionClosed(connection))

    assert net.events() == [PeerUnreachable(OTHER)]
    assert net.peers.lost == [(connection, 0)]


def test_the_newest_connection_that_a_peer_dialled_wins() -> None:
    net = Net()
    old = net.accept(1)
    net.effects()
    new = net.accept(3)

    assert Disconnect(old, "the peer dialled again") in net.effects()
    assert net.peers.table.accepted_from(OTHER) == new
    assert net.peers.on_bytes(old, encode_message(heartbeat())) == []


def test_only_what_was_said_on_connections_that_we_opened_stands() -> None:
    """On others it may have been said long before it arrived."""
    net = Net()
    net.accept(1)
    assert net.peers.table.standing_greetings() == []
    net.peers.dial_due()
    net.greet()
    assert net.peers.table.standing_greetings() == [HELLO]
    net.peers.greet_anew("tests")
    assert net.peers.table.standing_greetings() == []


def test_our_connection_to_a_peer_that_came_back_is_made_anew_if_it_is_old() -> None:
    net = Net()
    net.peers.dial_due()
    ours = net.greet()
    net.accept(1)
    net.effects()
    net.peers.now += 3 * SECOND
    net.accept(3)
    net.peers.dial_due()

    effects = net.effects()
    assert any(isinstance(e, Disconnect) and e.connection == ours for e in effects)
    assert any(isinstance(e, Dial) and e.address == "n2" for e in effects)


def test_a_peer_that_dials_is_dialled_without_waiting() -> None:
    net = Net()
    net.peers.dial_due()
    for _ in range(3):
        net.peers.on_dial_failed(DialFailed(net.peers._dialled[OTHER].id))
        net.later(2 * SECOND)
    net.peers.on_dial_failed(DialFailed(net.peers._dialled[OTHER].id))
    net.effects()
    net.accept(1)
    net.peers.dial_due()

    assert any(isinstance(e, Dial) and e.address == "n2" for e in net.effects())


def test_a_silent_dialled_connection_is_pinged_and_then_given_up() -> None:
    net = Net()
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    net.events()
    for _ in range(100):
        net.later(10 * MILLISECOND)
    assert Transmit(connection, encode_payload(PING)) in net.effects()
    assert net.peers.on_bytes(connection, PONG) == []
    for _ in range(500):
        net.later(10 * MILLISECOND)
    assert not [e for e in net.effects() if isinstance(e, Disconnect) and e.connection == connection]
    net.later(10 * MILLISECOND)

    assert [e.connection for e in net.effects() if isinstance(e, Disconnect)] == [connection]
    assert net.events() == [PeerUnreachable(OTHER)]


def test_a_ping_is_answered_on_the_connection_it_came_on() -> None:
    net = Net()
    connection = net.accept(1)
    net.effects()
    net.peers.on_transmitted(Transmitted(connection))
    assert net.peers.on_bytes(connection, encode_payload(PING)) == []

    assert net.effects() == [Transmit(connection, PONG)]


def test_a_long_pause_of_our_own_blames_nobody() -> None:
    net = Net()
    net.peers.dial_due()
    net.greet()
    net.effects()
    net.later(60 * SECOND)

    assert not [e for e in net.effects() if isinstance(e, Disconnect) and e.connection == 2]


def test_a_dial_that_is_neither_greeted_nor_refused_is_given_up() -> None:
    net = Net()
    net.peers.dial_due()
    net.peers.on_opened(ConnectionOpened(ConnectionId(2), accepted=False))
    net.effects()
    net.peers.on_transmitted(Transmitted(ConnectionId(2)))
    net.later(2 * SECOND)
    given_up, last_word = net.effects()
    assert isinstance(given_up, Disconnect)
    assert given_up.connection == 4, "no connection came about"
    assert isinstance(last_word, Transmit)
    (refused,) = Link(Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22)), dialer=False).receive(last_word.data)
    assert refused.fault is LinkFault.REFUSED  # type: ignore[union-attr]
    assert last_word.data.endswith(b"\r\n\r\n"), "servers that read lines answer to it"
    net.later(SECOND)

    assert [e.connection for e in net.effects() if isinstance(e, Disconnect)] == [2]
    assert net.peers.drops[Drop.NO_GREETING] == 2
    net.peers.on_opened(ConnectionOpened(ConnectionId(4), accepted=False))
    assert Disconnect(ConnectionId(4), "no longer wanted") in net.effects()


def test_garbage_is_answered_with_the_reason_and_closed_when_that_is_out() -> None:
    net = Net()
    net.peers.dial_due()
    connection = net.greet()
    net.effects()
    news = net.peers.on_bytes(connection, encode_message(heartbeat())[:-1] + b"\xff" * 60)

    assert [type(said).__name__ for _, said in news] == ["LinkBroken"]
    (alarm, transmit) = net.effects()
    assert isinstance(transmit, Transmit)
    assert not net.effects()
    net.peers.on_transmitted(Transmitted(connection))
    assert net.effects() == [Disconnect(connection, "refused")]
    assert net.peers.on_bytes(connection, encode_message(heartbeat())) == []
    assert alarm.peer == OTHER  # type: ignore[union-attr]


def test_good_frames_before_a_bad_one_are_not_lost() -> None:
    net = Net()
    connection = net.accept(1)
    message = AppendEntries(Term(1), OTHER, MessageId(1), HEARTBEAT, Index(0), Term(0), Index(0), ReadId(0))
    net.peers.on_bytes(connection, encode_message(message) + b"garbage")

    assert net.events() == [message, PeerUnreachable(OTHER)]


def test_a_person_is_warned_of_a_fault_once_a_minute() -> None:
    net = Net()
    warned = []
    for number in range(1, 21, 2):
        net.accept(number, Hello(WIRE_VERSION, ClusterId("other"), OTHER, Incarnation(22)))
        warned.append(sum(isinstance(effect, Alarm) for effect in net.effects()))
        net.peers.now += 10 * SECOND

    assert warned == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert net.peers.drops[Drop.WRONG_CLUSTER] == 10


def test_an_answer_to_a_connection_that_is_gone_is_counted() -> None:
    net = Net()
    net.peers.answer(ConnectionId(99), ForwardReply(1, result=b""))

    assert net.peers.drops == {Drop.ANSWER_LOST: 1}


def test_a_peer_that_asks_and_takes_no_answers_is_closed() -> None:
    net = Net(request_bytes=1000)
    connection = net.accept(1)
    net.effects()
    for number in range(4):
        net.peers.answer(connection, ForwardReply(number, result=b"x" * 400))

    assert [e.connection for e in net.effects() if isinstance(e, Disconnect)] == [connection]


def test_addresses_come_from_greetings_and_what_a_node_says_of_itself_wins() -> None:
    net = Net()
    hearsay = ((ME, "wrong"), (THIRD, "rumour"), (NodeId(4), "n4"))
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="moved", known=hearsay))

    assert net.peers.addresses.known() == ((OTHER, "moved"), (THIRD, "n3"), (NodeId(4), "n4"))
    assert net.peers.addresses.of(ME) == ""


def test_every_interface_is_no_address_of_a_peer() -> None:
    net = Net()
    hearsay = ((NodeId(4), "[::]:7400"), (NodeId(5), "n5:7400"))
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="0.0.0.0:7400", known=hearsay))

    assert net.peers.addresses.known() == ((OTHER, "n2"), (THIRD, "n3"), (NodeId(5), "n5:7400"))


def test_a_peer_that_is_not_found_where_it_says_is_dialled_where_it_was_configured_and_the_other_way_round() -> None:
    net = Net(max_connections=10)
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="said"))
    net.effects()
    dialled = []
    for _ in range(4):
        net.later(2 * SECOND)
        ours = net.peers._dialled[OTHER]
        dialled += [e.address for e in net.effects() if isinstance(e, Dial) and e.connection == ours.id]
        net.peers.on_dial_failed(DialFailed(ours.id))
    assert dialled == ["said", "n2", "said", "n2"]

    net.peers.addresses.failed(OTHER, "said", "why")
    net.accept(3, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="moved"))
    assert net.peers.addresses.of(OTHER) == "moved", "what is new has not failed yet"


def test_what_others_say_of_an_address_has_its_turn_too() -> None:
    """Two nodes had moved, and only a third knew where: each dialled the other's old address for ever."""
    net = Net()
    told = Hello(WIRE_VERSION, CLUSTER, THIRD, Incarnation(33), address="n3", known=((OTHER, "moved"),))
    net.accept(1, told)
    net.effects()
    dialled = []
    for _ in range(4):
        net.later(2 * SECOND)
        ours = net.peers._dialled[OTHER]
        dialled += [e.address for e in net.effects() if isinstance(e, Dial) and e.connection == ours.id]
        net.peers.on_dial_failed(DialFailed(ours.id, "no"))

    assert dialled == ["n2", "moved", "n2", "moved"]


def test_address_that_is_new_is_tried_at_once_and_each_in_its_turn_before_the_wait_grows() -> None:
    net = Net()
    net.peers.dial_due()
    for _ in range(8):
        net.peers.on_dial_failed(DialFailed(net.peers._dialled[OTHER].id, "no"))
        net.later(2 * SECOND)
    net.peers.on_dial_failed(DialFailed(net.peers._dialled[OTHER].id, "no"))
    net.effects()
    told = Hello(WIRE_VERSION, CLUSTER, THIRD, Incarnation(33), address="n3", known=((OTHER, "moved"),))
    net.accept(1, told)
    net.later(MILLISECOND)
    first = net.peers._dialled[OTHER]
    net.peers.on_dial_failed(DialFailed(first.id, "no"))
    net.later(50 * MILLISECOND)

    assert {first.address, net.peers._dialled[OTHER].address} == {"n2", "moved"}


def test_greetings_of_many_leave_few_addresses_of_one_node() -> None:
    net = Net()
    for number in range(100):
        teller = Hello(WIRE_VERSION, CLUSTER, NodeId(10 + number), Incarnation(1), known=((OTHER, f"lie{number}"),))
        net.peers.addresses.learn(teller)

    assert len(net.peers.addresses._sources(OTHER)) == 9
    assert net.peers.addresses.of(OTHER) == "n2"


def test_peer_that_is_not_reached_for_a_while_raises_an_alarm_with_each_address_and_reason() -> None:
    net = Net()
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, THIRD, Incarnation(33), address="n3", known=((OTHER, "moved"),)))
    net.peers.on_members(Members.initial([1, 2, 3]))
    alarms: list[tuple[int, Alarm]] = []
    net.effects()
    reasons = {"n2": "Name or service not known", "moved": "Connection refused"}
    for _ in range(70):
        net.later(SECOND)
        ours = net.peers._dialled.get(OTHER)
        if ours is not None:
            net.peers.on_dial_failed(DialFailed(ours.id, reasons[ours.address]))
        alarms += [(net.peers.now, e) for e in net.effects() if isinstance(e, Alarm) and e.peer == OTHER]

    assert [(alarm.kind, alarm.peer) for _, alarm in alarms] == [(AlarmKind.UNREACHABLE, OTHER)] * 2
    assert alarms[0][0] >= 5 * SECOND
    assert alarms[1][0] - alarms[0][0] >= 60 * SECOND
    assert all(f"{address} " in alarms[0][1].text and why in alarms[0][1].text for address, why in reasons.items())


def test_node_that_is_neither_member_nor_configured_is_not_missed() -> None:
    net = Net()
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, NodeId(9), Incarnation(33), address="n9"))
    net.peers.on_members(Members.initial([1, 2, 3]))
    for _ in range(20):
        net.later(SECOND)
        if (ours := net.peers._dialled.get(NodeId(9))) is not None:
            net.peers.on_dial_failed(DialFailed(ours.id, "no"))

    assert not [e for e in net.effects() if isinstance(e, Alarm) and e.peer == 9]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (b"-ERR unknown command", "Redis"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "TLS"),
        (b"220 mail", "220 mail"),
    ],
)
def test_what_answers_in_place_of_a_node_is_named_with_the_address(answer: bytes, named: str) -> None:
    net = Net()
    net.peers.dial_due()
    net.peers.on_opened(ConnectionOpened(ConnectionId(2), accepted=False))
    net.peers.on_bytes(ConnectionId(2), answer)

    (alarm,) = [effect for effect in net.effects() if isinstance(effect, Alarm)]
    assert alarm.peer == OTHER
    assert "at n2" in alarm.text
    assert named in alarm.text


def test_where_a_peer_was_found_it_is_looked_for_again() -> None:
    net = Net()
    net.peers.addresses.learn(Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="said"))
    net.peers.addresses.failed(OTHER, "said", "why")
    net.peers.dial_due()
    connection = net.greet(hello=Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), to=ME, address="said"))
    net.peers.on_closed(ConnectionClosed(connection))

    assert net.peers.addresses.of(OTHER) == "n2"


def test_a_peer_that_nobody_can_dial_raises_an_alarm_that_says_what_to_do() -> None:
    net = Net()
    for number in (1, 3):
        net.accept(number, Hello(WIRE_VERSION, CLUSTER, NodeId(4), Incarnation(44)))
    net.accept(5, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22)))

    (alarm,) = [effect for effect in net.effects() if isinstance(effect, Alarm)]
    assert alarm.peer == 4
    assert "an address to advertise" in alarm.text
    assert net.peers.drops == {Drop.NO_ADDRESS: 2}


def test_members_in_force_are_dialled_where_their_address_is_known() -> None:
    net = Net()
    net.accept(1, Hello(WIRE_VERSION, CLUSTER, OTHER, Incarnation(22), address="n2", known=((NodeId(4), "n4"),)))
    net.peers.on_members(Members.initial([1, 2, 3, 4, 5]))
    net.peers.dial_due()

    assert [e.address for e in net.effects() if isinstance(e, Dial)] == ["n2", "n3", "n4"]


def test_a_configuration_that_names_another_disk_closes_the_connection() -> None:
    net = Net()
    good, bad = net.accept(1), net.accept(3, Hello(WIRE_VERSION, CLUSTER, THIRD, Incarnation(33)))
    net.events()
    disks = {ME: Incarnation(11), OTHER: Incarnation(22), THIRD: Incarnation(99)}
    net.peers.on_members(Members.initial([1, 2, 3], incarnations=disks))

    assert [e.connection for e in net.effects() if isinstance(e, Disconnect)] == [bad]
    assert net.peers.table.accepted_from(OTHER) == good
    assert net.events() == [PeerUnreachable(THIRD)]


def test_strangers_cannot_fill_the_address_book() -> None:
    net = Net()
    for number in range(1500):
        net.accept(2 * number + 1, Hello(WIRE_VERSION, CLUSTER, NodeId(number + 10), Incarnation(1), address="a"))
        net.peers.on_closed(ConnectionClosed(ConnectionId(2 * number + 1)))

    assert len(net.peers.addresses.disks) <= 1000


def test_messages_and_answers_come_through_in_order() -> None:
    net = Net()
    connection = net.accept(1)
    message = AppendEntries(Term(1), OTHER, MessageId(1), HEARTBEAT, Index(0), Term(0), Index(0), ReadId(0))
    reply = ForwardReply(7, result=b"r")
    news = net.peers.on_bytes(connection, encode_message(message) + encode_payload(reply))

    assert net.events() == [message]
    assert [said for _, said in news] == [PayloadReceived(reply)]


@pytest.mark.parametrize(
    "wrong",
    [{"tick": 0}, {"dial_delay_max": 1}, {"silence": SECOND}, {"bulk_bytes": -1}, {"max_clients": 0}],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        NodeLimits(**wrong)  # type: ignore[arg-type]


def test_a_founder_named_twice_or_impossible_is_refused() -> None:
    with pytest.raises(SettingsError):
        NodeLimits(founders=(NodeId(1), NodeId(1)))
    with pytest.raises(SettingsError):
        NodeLimits(peers={NodeId(0): "x"})
    with pytest.raises(SettingsError):
        NodeLimits(founders=(NodeId(1), NodeId(1 << 63)))
    assert NodeLimits(founders=(NodeId(2), NodeId(1))).founders == (1, 2)
    assert NodeLimits(founders=(NodeId(MAX_INT63),)).founders == (MAX_INT63,)
