"""`SecureConnections` between a node and an adapter, both played by the test: what each of them sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raft_core.node.events import (
    BytesReceived,
    CertificateRead,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    ConnectionSecured,
    DialFailed,
    NodeEvent,
    SecuringFailed,
    Transmitted,
)
from raft_core.node.security import TLS
from raft_core.node.status import Drop
from raft_tls import Credentials, SecureConnections, TlsSession
from tests.certificates import CLUSTER, tls

DIALLED, ACCEPTED = ConnectionId(2), ConnectionId(1)


class End:
    """One node and its sockets. `wire` holds the bytes on their way to the other end."""

    def __init__(self, own: TLS) -> None:
        self.heard: list[NodeEvent] = []
        self.wire: list[bytes] = []
        self.dialled: list[tuple[ConnectionId, str]] = []
        self.closed: list[ConnectionId] = []
        self.under_way = 0
        self.fast = False  # the system takes everything at once
        self.later: list[Callable[[], None]] = []  # to be called in the event loop's next pass
        self.layer = SecureConnections(self.heard.append, Credentials(own), self.later.append)
        self.layer.use(self)

    def dial(self, number: ConnectionId, address: str) -> None:
        self.dialled.append((number, address))

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        assert number not in self.closed
        assert self.under_way == 0, "one transmission at a time"
        self.wire.append(data)
        self.under_way += not self.fast
        return self.fast

    def disconnect(self, number: ConnectionId) -> None:
        self.closed.append(number)

    def sent(self, number: ConnectionId) -> bytes:
        """The bytes that left, reported to the layer as sent."""
        data = b""
        while self.wire:
            data += self.wire.pop(0)
            if self.under_way:
                self.under_way -= 1
                self.layer.on_event(Transmitted(number))
        return data

    def pass_ends(self) -> None:
        """The event loop's next pass begins."""
        due = self.later.copy()
        self.later.clear()
        for work in due:
            work()

    def news(self) -> list[NodeEvent]:
        news = self.heard.copy()
        self.heard.clear()
        return [event for event in news if type(event) is not CertificateRead]


def connect(one: End, two: End, address: str = "n2") -> None:
    one.layer.dial(DIALLED, address)
    two.layer.on_event(ConnectionOpened(ACCEPTED, accepted=True))
    one.layer.on_event(ConnectionOpened(DIALLED, accepted=False))
    carry(one, two)


def carry(one: End, two: End) -> None:
    while True:
        there, back = one.sent(DIALLED), two.sent(ACCEPTED)
        if there:
            two.layer.on_event(BytesReceived(ACCEPTED, there))
        if back:
            one.layer.on_event(BytesReceived(DIALLED, back))
        if not (there or back):
            return


def plain_end(other: End) -> Callable[[bytes], None]:
    """A node without TLS that dials `other`."""
    other.layer.on_event(ConnectionOpened(ACCEPTED, accepted=True))
    return lambda data: other.layer.on_event(BytesReceived(ACCEPTED, data))


def test_nodes_see_certificates_and_then_plain_bytes() -> None:
    one, two = End(tls("node-1")), End(tls("node-2"))
    connect(one, two)

    assert one.news() == [ConnectionSecured(DIALLED, ("raft://test/2",)), ConnectionOpened(DIALLED, accepted=False)]
    assert two.news() == [ConnectionOpened(ACCEPTED, accepted=True), ConnectionSecured(ACCEPTED, ("raft://test/1",))]
    one.layer.transmit(DIALLED, b"hello" * 1000)
    carry(one, two)
    assert one.news() == [Transmitted(DIALLED)]
    assert two.news() == [BytesReceived(ACCEPTED, b"hello" * 1000)]
    two.layer.transmit(ACCEPTED, b"welcome")
    carry(one, two)
    assert one.news() == [BytesReceived(DIALLED, b"welcome")]
    one.layer.on_event(ConnectionClosed(DIALLED))
    assert one.news() == [ConnectionClosed(DIALLED)]
    two.layer.disconnect(ACCEPTED)
    assert two.closed == [ACCEPTED]


def test_bytes_that_the_system_takes_at_once_are_not_reported_again() -> None:
    one, two = End(tls("node-1")), End(tls("node-2"))
    one.fast = two.fast = True
    connect(one, two)
    one.news()
    assert one.layer.transmit(DIALLED, b"hello") is True
    carry(one, two)
    assert one.news() == []
    assert two.news()[-1] == BytesReceived(ACCEPTED, b"hello")


def test_refused_certificate_is_reported_on_both_sides_after_the_alert_is_sent() -> None:
    one, two = End(tls("node-1", place="other", authorities="both.crt")), End(tls("node-2"))
    one.layer.dial(DIALLED, "n2")
    two.layer.on_event(ConnectionOpened(ACCEPTED, accepted=True))
    one.layer.on_event(ConnectionOpened(DIALLED, accepted=False))
    two.layer.on_event(BytesReceived(ACCEPTED, one.sent(DIALLED)))
    one.layer.on_event(BytesReceived(DIALLED, two.sent(ACCEPTED)))
    two.layer.on_event(BytesReceived(ACCEPTED, one.sent(DIALLED)))

    opened, failed = two.news()
    assert opened == ConnectionOpened(ACCEPTED, accepted=True)
    assert isinstance(failed, SecuringFailed)
    assert failed.reason is Drop.BAD_CERTIFICATE
    two.layer.disconnect(ACCEPTED)
    assert two.closed == [], "the alert is on its way"
    one.layer.on_event(BytesReceived(DIALLED, two.sent(ACCEPTED)))
    assert two.closed == [ACCEPTED]
    assert [type(event) for event in one.news()] == [ConnectionSecured, ConnectionOpened, SecuringFailed]


@pytest.mark.parametrize("mode", ["require", "accept"])
def test_peer_without_tls_is_answered_or_taken(mode: str) -> None:
    two = End(tls("node-2", mode=mode))
    say = plain_end(two)
    say(b"a frame")
    two.layer.transmit(ACCEPTED, b"an answer") if mode == "accept" else None
    answer = two.sent(ACCEPTED)
    if mode == "accept":
        assert answer == b"an answer"
        expected = [ConnectionOpened(ACCEPTED, accepted=True), BytesReceived(ACCEPTED, b"a frame")]
        assert two.news() == [*expected, Transmitted(ACCEPTED)]
        return
    assert b"TLS" in answer
    assert [type(event) for event in two.news()] == [ConnectionOpened, SecuringFailed]
    say(b"more")
    assert two.news() == []


def test_while_moving_a_peer_without_tls_is_dialled_again_without_and_later_with() -> None:
    one = End(tls("node-1", mode="accept"))
    one.layer.dial(DIALLED, "n2")
    one.layer.on_event(ConnectionOpened(DIALLED, accepted=False))
    one.layer.on_event(BytesReceived(DIALLED, b"no such frame"))
    assert [type(event) for event in one.news()] == [DialFailed]
    assert one.closed == [DIALLED]
    one.under_way = 0
    one.wire.clear()

    again = ConnectionId(4)
    one.layer.dial(again, "n2")
    one.layer.on_event(ConnectionOpened(again, accepted=False))
    assert one.news() == [ConnectionOpened(again, accepted=False)], "nothing of TLS"
    one.layer.transmit(again, b"hello")
    assert one.wire[-1] == b"hello"
    one.layer.on_event(ConnectionClosed(again))

    one.news()
    one.under_way = 0
    one.wire.clear()
    one.closed.clear()
    two = End(tls("node-2"))
    connect(one, two)
    assert [type(event) for event in one.news()] == [ConnectionSecured, ConnectionOpened]


def test_dialler_that_requires_tls_never_speaks_without() -> None:
    one = End(tls("node-1"))
    one.layer.dial(DIALLED, "n2")
    one.layer.on_event(ConnectionOpened(DIALLED, accepted=False))
    one.layer.on_event(BytesReceived(DIALLED, b"+PONG\r\n"))
    (failed,) = one.news()
    assert isinstance(failed, SecuringFailed)
    assert failed.reason is Drop.NOT_TLS


def test_connection_lost_during_the_handshake() -> None:
    one = End(tls("node-1"))
    one.layer.dial(DIALLED, "n2")
    one.layer.on_event(ConnectionOpened(DIALLED, accepted=False))
    one.layer.on_event(ConnectionClosed(DIALLED))
    assert [type(event) for event in one.news()] == [DialFailed]


def test_certificate_in_use_is_told_at_the_start() -> None:
    one = End(tls("node-1"))
    assert one.heard == [Credentials(tls("node-1"), (CLUSTER, 1)).state]


def crowd(one: End, count: int) -> list[TlsSession]:
    """So many peers begin a handshake in one pass of the event loop, each with a session of its own."""
    context = Credentials(tls("node-2")).client
    peers = [TlsSession(context, server=False) for _ in range(count)]
    for number, peer in enumerate(peers):
        one.layer.on_event(ConnectionOpened(ConnectionId(number), accepted=True))
        one.layer.on_event(BytesReceived(ConnectionId(number), peer.start()))
    one.fast = True
    return peers


def test_handshakes_of_a_crowd_take_turns() -> None:
    one = End(tls("node-1"))
    one.fast = True
    crowd(one, 30)
    steps = [len(one.wire)]
    while one.later:
        one.pass_ends()
        steps.append(len(one.wire))
    assert steps == [8, 16, 24, 30, 30], "at most 8 in a pass; the last finds nothing to do"
    crowd(one, 1)
    assert len(one.wire) == 31, "a peer that is alone does not wait"


def test_what_follows_a_waiting_step_waits_too() -> None:
    one = End(tls("node-1"))
    one.fast = True
    last = crowd(one, 9)[-1]
    number = ConnectionId(8)
    one.news()
    one.pass_ends()
    finished = last.receive(one.wire[-1]).send
    greeting = last.encrypt(b"hello")
    for other in range(20, 28):  # others use up the next pass
        one.layer.on_event(ConnectionOpened(ConnectionId(other), accepted=True))
        one.layer.on_event(BytesReceived(ConnectionId(other), b"\x16\x03"))
    one.news()
    one.layer.on_event(BytesReceived(number, finished))
    one.layer.on_event(BytesReceived(number, greeting))
    one.layer.on_event(ConnectionClosed(number))
    assert one.news() == []
    one.pass_ends()
    assert one.news() == [
        ConnectionSecured(number, ("raft://test/2",)),
        BytesReceived(number, b"hello"),
        ConnectionClosed(number),
    ]


def test_connection_that_the_node_closed_is_not_heard_from_its_waiting_bytes() -> None:
    one = End(tls("node-1"))
    one.fast = True
    crowd(one, 9)
    one.news()
    one.layer.disconnect(ConnectionId(8))
    one.pass_ends()
    assert one.news() == []
    assert len(one.wire) == 8


def test_peer_that_floods_while_it_waits_is_closed() -> None:
    one = End(tls("node-1"))
    one.fast = True
    crowd(one, 9)
    one.news()
    for _ in range(5):
        if not one.closed:
            one.layer.on_event(BytesReceived(ConnectionId(8), bytes(1 << 16)))
    assert one.closed == [ConnectionId(8)]
    assert one.news() == [ConnectionClosed(ConnectionId(8))]
    while one.later:
        one.pass_ends()
    assert one.news() == []


def test_stranger_that_sends_byte_by_byte_has_no_more_turns_than_others() -> None:
    one = End(tls("node-1"))
    one.fast = True
    crowd(one, 8)  # they use up the first pass
    stranger, honest = ConnectionId(50), ConnectionId(60)
    one.layer.on_event(ConnectionOpened(stranger, accepted=True))
    peer = TlsSession(Credentials(tls("node-2")).client, server=False)
    for byte in peer.start():
        one.layer.on_event(BytesReceived(stranger, bytes([byte])))
    one.layer.on_event(ConnectionOpened(honest, accepted=True))
    one.layer.on_event(BytesReceived(honest, TlsSession(Credentials(tls("node-2")).client, server=False).start()))
    before = len(one.wire)
    one.pass_ends()
    assert len(one.wire) == before + 2, "both are answered, each by one step"
