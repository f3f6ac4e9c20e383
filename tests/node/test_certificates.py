"""Certificates of peers and of this node: what a greeting may claim, what is counted and told."""

from __future__ import annotations

import random

import attrs
import pytest

from raft_core.effects import Alarm, AlarmKind
from raft_core.errors import SettingsError
from raft_core.events import PeerConnected
from raft_core.ids import NO_NODE, ClusterId, NodeId
from raft_core.node import SECOND, Drop
from raft_core.node.config import NodeConfig
from raft_core.node.events import (
    CertificateRead,
    ConnectionId,
    ConnectionOpened,
    ConnectionSecured,
    Disconnect,
    NodeEffect,
    SecuringFailed,
    Transmit,
)
from raft_core.node.outputs import Outputs
from raft_core.node.own_certificate import OwnCertificate
from raft_core.node.peers import Peers
from raft_core.node.security import TLS, is_loopback, node_uri
from raft_core.wire import Link, LinkBroken, LinkFault
from raft_core.wire.certificates import stranger_in
from tests.node.cluster import greet
from tests.node.test_peers import HELLO, OTHER, SETTINGS, THIRD, Net
from tests.wire.test_handshake import accepted, dialled

DAY = 24 * 3600
ACCEPTED, DIALLED = ConnectionId(1), ConnectionId(2)


def names(*nodes: int, cluster: str = "c") -> tuple[str, ...]:
    return tuple(node_uri(cluster, node) for node in nodes)


def secure_net() -> Net:
    net = Net()
    net.config = attrs.evolve(net.config, certificates=True)
    net.peers = Peers(net.config, SETTINGS, net.peers._identity, net.orders, random.Random(3))
    net.peers.now = SECOND
    return net


def alarms(effects: list[NodeEffect]) -> list[Alarm]:
    return [effect for effect in effects if isinstance(effect, Alarm)]


def test_names_of_nodes_are_uris_with_the_cluster_percent_encoded() -> None:
    assert node_uri("orders", 3) == "raft://orders/3"
    assert node_uri("a b/ü%", 12) == "raft://a%20b%2F%C3%BC%25/12"


@pytest.mark.parametrize(
    ("given", "node", "fits"),
    [
        (names(2), 2, True),
        (names(3, 2), 2, True),
        (("https://elsewhere/2", *names(2)), 2, True),
        (names(2), 0, True),
        (names(3), 2, False),
        (names(22), 2, False),
        (names(2, cluster="cc"), 2, False),
        (names(2, cluster="cc"), 0, False),
        (("https://c/2",), 2, False),
        ((), 2, False),
        ((), 0, False),
    ],
)
def test_certificate_belongs_to_the_nodes_that_it_names(given: tuple[str, ...], node: int, fits: bool) -> None:
    assert (stranger_in(given, ClusterId("c"), NodeId(node)) == "") is fits


def test_link_refuses_another_nodes_certificate_at_the_latest_with_the_greeting() -> None:
    link = accepted()
    assert link.certified((node_uri("blue", 3),)) is None, "node 3 of this cluster may dial"
    (broken,) = link.receive(dialled().hello())
    assert isinstance(broken, LinkBroken)
    assert broken.fault is LinkFault.WRONG_CERTIFICATE

    link = accepted()
    assert link.certified((node_uri("blue", 1),)) is None
    assert len(link.receive(dialled().hello())) == 1
    assert link.greeting is not None

    link = dialled()
    problem = link.certified((node_uri("blue", 3),))
    assert problem is not None
    assert problem.fault is LinkFault.WRONG_CERTIFICATE
    assert link.broken


def test_link_that_needs_a_certificate_greets_no_peer_without() -> None:
    net = secure_net()
    net.peers.on_opened(ConnectionOpened(ACCEPTED, accepted=True))
    greet(net.peers, ACCEPTED, HELLO)
    assert net.peers.drops == {Drop.WRONG_CERTIFICATE: 1}
    assert [alarm.kind for alarm in alarms(net.effects())] == [AlarmKind.INSECURE]


def test_peers_with_their_own_certificates_are_greeted_and_secure() -> None:
    net = secure_net()
    net.peers.dial_due()
    net.effects()
    net.peers.on_secured(ConnectionSecured(DIALLED, names(OTHER)))
    net.peers.on_opened(ConnectionOpened(DIALLED, accepted=False))
    greet(net.peers, DIALLED, HELLO)
    assert net.events() == [PeerConnected(OTHER)]
    net.peers.on_opened(ConnectionOpened(ACCEPTED, accepted=True))
    net.peers.on_secured(ConnectionSecured(ACCEPTED, names(OTHER)))
    greet(net.peers, ACCEPTED, HELLO)

    two, three = net.peers.status()
    assert (two.node, two.connected, two.heard, two.secure) == (OTHER, True, True, True)
    assert (three.node, three.secure) == (THIRD, False)


def test_dialled_node_with_another_nodes_certificate_is_told_and_never_greeted() -> None:
    net = secure_net()
    net.peers.dial_due()
    net.effects()
    net.peers.on_secured(ConnectionSecured(DIALLED, names(THIRD)))
    net.peers.on_opened(ConnectionOpened(DIALLED, accepted=False))

    effects = net.effects()
    sent = [effect for effect in effects if isinstance(effect, Transmit)]
    assert len(sent) == 1, "the refusal, and no hello"
    (broken,) = Link(HELLO, dialer=False).receive(sent[0].data)
    assert isinstance(broken, LinkBroken)
    assert broken.fault is LinkFault.REFUSED
    assert "raft://c/3" in broken.text
    assert net.peers.drops == {Drop.WRONG_CERTIFICATE: 1}
    assert [alarm.peer for alarm in alarms(effects)] == [OTHER]


def test_failed_handshakes_are_counted_told_once_and_closed() -> None:
    net = secure_net()
    for number in (1, 3, 5):
        connection = ConnectionId(number)
        net.peers.on_opened(ConnectionOpened(connection, accepted=True))
        net.peers.on_secured(SecuringFailed(connection, Drop.BAD_CERTIFICATE, "expired"))

    assert net.peers.drops == {Drop.BAD_CERTIFICATE: 3}
    effects = net.effects()
    assert alarms(effects) == [Alarm(AlarmKind.INSECURE, NO_NODE, "expired")]
    closed = [effect.connection for effect in effects if isinstance(effect, Disconnect)]
    assert closed == [1, 3, 5]


def test_slow_handshakes_count_as_connections_without_greeting() -> None:
    net = Net(max_ungreeted=2)
    for number in (1, 3, 5):
        net.peers.on_opened(ConnectionOpened(ConnectionId(number), accepted=True))
    assert [effect.connection for effect in net.effects() if isinstance(effect, Disconnect)] == [1]


# The own certificate.


def read(*, lives: int, problem: str = "") -> CertificateRead:
    return CertificateRead(0, lives, problem)


def kinds_of_alarms(orders: Outputs) -> list[AlarmKind]:
    return [alarm.kind for alarm in alarms(orders.taken())]


def test_alarm_comes_two_weeks_before_the_end_and_once_a_day() -> None:
    orders = Outputs()
    own = OwnCertificate(orders)
    own.look(SECOND, 400 * DAY * SECOND)
    own.on_read(read(lives=365 * DAY))
    own.look(SECOND, 350 * DAY * SECOND)
    assert kinds_of_alarms(orders) == []
    for hours in range(72):
        own.look((1 + hours * 3600) * SECOND, (352 * DAY + hours * 3600) * SECOND)
    assert kinds_of_alarms(orders) == [AlarmKind.CERTIFICATE] * 3

    own.on_read(read(lives=730 * DAY))
    own.look(400 * DAY * SECOND, 360 * DAY * SECOND)
    assert kinds_of_alarms(orders) == []
    assert own.expires == 730 * DAY


def test_short_lived_certificate_alarms_in_its_last_quarter() -> None:
    orders = Outputs()
    own = OwnCertificate(orders)
    own.on_read(read(lives=DAY))
    own.look(SECOND, DAY * SECOND // 2)
    assert kinds_of_alarms(orders) == []
    own.look(2 * SECOND, DAY * SECOND * 4 // 5)
    assert kinds_of_alarms(orders) == [AlarmKind.CERTIFICATE]


def test_problem_with_the_files_is_told_once() -> None:
    orders = Outputs()
    own = OwnCertificate(orders)
    for _ in range(3):
        own.on_read(read(lives=365 * DAY, problem="no such file"))
    assert kinds_of_alarms(orders) == [AlarmKind.CERTIFICATE]


# Where a node may listen without TLS.


@pytest.mark.parametrize("name", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST."])
def test_loopback(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "10.0.0.1", "node1", "localhost.example", "fe80::1%eth0", ""])
def test_not_loopback(name: str) -> None:
    assert not is_loopback(name)


OPEN = TLS(certificate="c", key="k", authorities="a")


def test_node_listens_on_loopback_only_unless_it_has_tls_or_is_insecure() -> None:
    members = {1: "10.0.0.1:7", 2: "10.0.0.2:7"}
    plain = NodeConfig(1, members, data="d")
    with pytest.raises(SettingsError, match="insecure=True"):
        plain.exposed("10.0.0.1:7")
    assert attrs.evolve(plain, insecure=True).exposed("10.0.0.1:7") == "10.0.0.1:7"
    assert attrs.evolve(plain, tls=OPEN).exposed("10.0.0.1:7") == ""
    assert attrs.evolve(plain, tls=attrs.evolve(OPEN, mode="accept")).exposed("10.0.0.1:7") == "10.0.0.1:7"
    assert NodeConfig(1, {1: "127.0.0.1:7"}, data="d").exposed("127.0.0.1:7") == ""
    assert attrs.evolve(plain, tls=OPEN).node_limits("10.0.0.1:7").certificates
    assert not plain.node_limits("10.0.0.1:7").certificates


def test_tls_between_nodes_needs_authorities() -> None:
    with pytest.raises(SettingsError, match="authorities"):
        NodeConfig(1, {1: "h:7"}, data="d", tls=attrs.evolve(OPEN, authorities=""))
