"""Clients with TLS, on real sockets and without a loop: served, refused with a line on both sides, bounded in time."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from time import monotonic, sleep

import pytest

from raft_core.effects import Success
from raft_core.ids import Index
from raft_core.node.status import Drop
from raft_kv import client_connection, client_sockets
from raft_kv.client_connection import ClientConnection
from raft_kv.client_sockets import ClientSockets
from raft_tls import Credentials, TlsSession
from tests.certificates import files, tls
from tests.kv.test_client_connection import DONE, World, world

__all__ = ["world"]  # a fixture


class Served:
    """A server's sockets, and clients that use them."""

    def __init__(self, world: World, credentials: Credentials) -> None:
        self.world = world
        self.sockets = ClientSockets(
            world.table.turns,
            world.service.admit,
            lambda output, transport: ClientConnection(world.table, output, transport),
            lambda _seconds, _work: None,
            refused=world.service.refuse,
            credentials=credentials,
        )
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.sockets.listen([self.listener])

    def close(self) -> None:
        self.world.table.close()
        self.sockets.close()
        self.listener.close()

    def client(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), 5.0)
        self.sockets.serve()
        return client

    def refusals(self) -> dict[str, int]:
        return dict(self.world.service.refusals.by_reason)


class Client:
    """A client with TLS, whose bytes go to and fro when the test says so."""

    def __init__(self, served: Served, context: ssl.SSLContext) -> None:
        self.served = served
        self.plain = served.client()
        self.session = TlsSession(context, server=False)
        self.failed = ""
        self.ended = False
        self.say(self.session.start())

    def say(self, data: bytes) -> bytes:
        """Send these bytes and take what the server has to say; return what it says in plain."""
        heard = b""
        while data and not self.ended:
            self.plain.sendall(data)
            self.served.sockets.serve()
            self.served.sockets.serve()
            data = b""
            self.plain.settimeout(0.05)
            with suppress(TimeoutError):
                while piece := self.plain.recv(1 << 20):
                    step = self.session.receive(piece)
                    heard += step.plain
                    data += step.send
                    self.failed = step.failure.text if step.failure else self.failed
                self.ended = True
        return heard

    def ask(self, request: bytes) -> bytes:
        return self.say(self.session.encrypt(request))


def trusting(own: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(files() / "ca.crt")
    if own:
        context.load_cert_chain(files() / f"{own}.crt", files() / f"{own}.key")
    return context


@pytest.fixture
def serve(world: World) -> Iterator[Callable[[Credentials], Served]]:
    opened: list[Served] = []

    def start(credentials: Credentials) -> Served:
        opened.append(Served(world, credentials))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_client_with_tls_is_served(serve: Callable[[Credentials], Served]) -> None:
    served = serve(Credentials(tls(authorities="")))
    client = Client(served, trusting())
    with closing(client.plain):
        assert client.ask(b"PING\r\n") == b"+PONG\r\n"
        assert client.ask(b"SET a 1\r\n") == b""
        served.world.node.answer(DONE)
        assert client.ask(b"PING\r\n") == b"+OK\r\n+PONG\r\n"
        assert served.sockets.handshakes == {}
        assert served.refusals() == {}


def test_long_replies_arrive_whole(serve: Callable[[Credentials], Served]) -> None:
    served = serve(Credentials(tls(authorities="")))
    client = Client(served, trusting())
    reply = b"$3000000\r\n" + bytes(range(256)) * 11718 + bytes(192) + b"\r\n"
    with closing(client.plain):
        client.ask(b"MGET a\r\n")  # a query of its own
        served.world.node.answer(Success(Index(1), (b"\0\0\0\0\1" + reply,)))
        heard = b""
        while len(heard) < len(reply):
            served.sockets.serve()
            heard += client.session.receive(client.plain.recv(1 << 20)).plain
        assert heard == reply


def test_client_without_tls_is_told_and_counted(serve: Callable[[Credentials], Served]) -> None:
    served = serve(Credentials(tls(authorities="")))
    with served.client() as client:
        client.sendall(b"PING\r\n")
        served.sockets.serve()
        assert client.recv(1000).startswith(b"-ERR this port takes nothing but TLS")
        assert client.recv(1000) == b""
    assert served.refusals() == {Drop.NOT_TLS.value: 1}
    assert served.world.table.connections == {}


def test_while_moving_both_kinds_of_client_are_served(serve: Callable[[Credentials], Served]) -> None:
    served = serve(Credentials(tls(authorities="", mode="accept")))
    with served.client() as client:
        client.sendall(b"PING\r\n")
        served.sockets.serve()
        assert client.recv(1000) == b"+PONG\r\n"
    secure = Client(served, trusting())
    with closing(secure.plain):
        assert secure.ask(b"PING\r\n") == b"+PONG\r\n"


def test_client_needs_a_certificate_where_authorities_of_clients_are_named(
    serve: Callable[[Credentials], Served],
) -> None:
    served = serve(Credentials(tls()))
    known = Client(served, trusting("client-alice"))
    unknown = Client(served, trusting())
    with closing(known.plain), closing(unknown.plain):
        assert known.ask(b"PING\r\n") == b"+PONG\r\n"
        unknown.ask(b"PING\r\n")
        assert "without a certificate" in unknown.failed
    assert served.refusals() == {Drop.BAD_CERTIFICATE.value: 1}


def test_handshakes_that_come_at_once_take_turns(
    serve: Callable[[Credentials], Served], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients come back together after a failover: 200 of their handshakes in one pass held the loop for 100 ms."""
    served = serve(Credentials(tls(authorities="")))
    clients = [served.client() for _ in range(5)]
    sessions = [TlsSession(trusting(), server=False) for _ in clients]
    for client, session in zip(clients, sessions, strict=True):
        client.sendall(session.start())
        client.setblocking(False)
    monkeypatch.setattr(client_connection, "PASS_SECONDS", -1.0)  # each pass does one piece of work

    def serve_ready(count: int) -> None:
        """Serve so many sockets in one pass, once they are ready."""
        end = monotonic() + 10.0
        while len(served.sockets.selector.select(0)) < count and monotonic() < end:
            sleep(0.001)
        served.sockets.serve()

    def pass_and_answer() -> int:
        patience = 5.0 if world.due else 0.05
        world.next_pass()
        ready, _, _ = select.select(clients, [], [], patience)
        for client in ready:
            step = sessions[clients.index(client)].receive(client.recv(1 << 16))
            client.sendall(step.send)
        return len(ready)

    serve_ready(5)
    assert [pass_and_answer() for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    serve_ready(5)
    for _ in clients:
        world.next_pass()
    assert served.sockets.handshakes == {}
    clients[0].sendall(sessions[0].encrypt(b"PING\r\n"))
    serve_ready(1)
    world.next_pass()
    clients[0].settimeout(10.0)
    assert sessions[0].receive(clients[0].recv(1 << 16)).plain == b"+PONG\r\n"
    for client in clients:
        client.close()


def test_slow_handshakes_are_bounded_in_time_and_number(
    serve: Callable[[Credentials], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(Credentials(tls(authorities="")))
    monkeypatch.setattr(client_sockets, "_MOST_HANDSHAKES", 2)
    slow = [served.client() for _ in range(3)]
    assert slow[0].recv(100) == b"", "the oldest makes room"
    assert len(served.sockets.handshakes) == 2
    served.sockets.look_after_handshakes()
    assert len(served.sockets.handshakes) == 2
    monkeypatch.setattr(client_sockets, "_HANDSHAKE_SECONDS", -1.0)
    served.sockets.look_after_handshakes()
    assert [client.recv(100) for client in slow[1:]] == [b"", b""]
    assert served.world.table.connections == {}
    for client in slow:
        client.close()
