"""The health port over one connection, on a virtual clock: slow and idle clients, reads that hang, foreign pages."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
import trio
import trio.testing
from anyio.abc import ByteStream

from raft_core.errors import Refused
from raft_core.node.security import TLS
from raft_core.node.status import Drop, Phase
from raft_kv.health.http_session import HttpAnswer, HttpRequest
from raft_kv.health.port import MOST_CONNECTIONS, PATIENCE, HealthPort
from raft_tls import Credentials, TlsSession
from tests.certificates import tls
from tests.kv.test_client_tls import trusting


class Line(ByteStream):
    """One end of a connection: bytes put into `coming` are received, sent bytes are in `sent`."""

    def __init__(self, data: bytes = b"") -> None:
        self.put, self.coming = trio.open_memory_channel[bytes](1000)
        self.sent = b""
        self.closed = False
        self.takes = True
        if data:
            self.put.send_nowait(data)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await self.coming.receive()
        except trio.EndOfChannel:
            raise anyio.EndOfStream from None

    async def send(self, item: bytes) -> None:
        if not self.takes:
            await trio.sleep_forever()
        self.sent += item

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class SimulatedNode:
    """A node as far as the health port looks at it."""

    def __init__(self, leader: int = 1, phase: Phase = Phase.RUNNING) -> None:
        self.status = SimpleNamespace(leader=leader, phase=phase)
        self.read_takes = 0.0
        self.reading = 0
        self.most_reading = 0

    async def ready(self, *, timeout: float) -> None:
        self.reading += 1
        self.most_reading = max(self.reading, self.most_reading)
        try:
            await trio.sleep(min(self.read_takes, timeout))
        finally:
            self.reading -= 1
        if self.read_takes > timeout:
            raise Refused("deadline", "no majority")


def opened(node: SimulatedNode | None = None, *, leaving: bool = False, others: tuple[str, ...] = ()) -> HealthPort:
    port = HealthPort("127.0.0.1:8379", others)
    if node is not None:
        port.attach(cast(Any, SimpleNamespace(leaving=leaving)), cast(Any, node))
    return port


def get(path: str, host: str = "127.0.0.1:8379", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


async def answer(port: HealthPort, path: str, **headers: str) -> tuple[int, str]:
    """Status and body of the answer to one request."""
    line = Line(get(path, **headers))
    line.put.close()
    await port._client(line)
    assert line.closed
    head, _, body = line.sent.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.mark.trio
async def test_loop_lives_before_node_is_open_and_is_not_ready() -> None:
    port = opened()
    assert await answer(port, "/livez") == (200, "ok\n")
    status, text = await answer(port, "/readyz")
    assert status == 503
    assert "[-]node failed" in text
    assert (await answer(port, "/metrics"))[0] == 503
    assert (await answer(port, "/"))[0] == 200


@pytest.mark.trio
async def test_node_that_has_ended_is_not_alive() -> None:
    port = opened(SimulatedNode())
    port.detach("the disk failed")
    status, text = await answer(port, "/livez")
    assert status == 503
    assert "the disk failed" in text


@pytest.mark.trio
async def test_life_does_not_depend_on_quorum(autojump_clock: trio.testing.MockClock) -> None:
    node = SimulatedNode(leader=0)
    node.read_takes = 1000.0
    assert await answer(opened(node), "/livez") == (200, "ok\n")
    assert trio.current_time() < PATIENCE


@pytest.mark.trio
async def test_readiness_names_each_check(autojump_clock: trio.testing.MockClock) -> None:
    node = SimulatedNode()
    assert await answer(opened(node), "/readyz") == (200, "ok\n")
    status, text = await answer(opened(node), "/readyz?verbose")
    assert status == 200
    assert [line.split()[0] for line in text.splitlines()] == [
        "[+]node", "[+]leader", "[+]stopping", "[+]read", "readyz",
    ]  # fmt: skip


@pytest.mark.parametrize(("node", "leaving", "failed"), [
    (SimulatedNode(leader=0), False, "leader"),
    (SimulatedNode(phase=Phase.FORMING), False, "node"),
    (SimulatedNode(), True, "stopping"),
])  # fmt: skip
@pytest.mark.trio
async def test_failed_check_is_named(node: SimulatedNode, leaving: bool, failed: str) -> None:
    status, text = await answer(opened(node, leaving=leaving), "/readyz")
    assert status == 503
    assert f"[-]{failed} failed" in text
    assert "[-]read failed: not tried" in text
    assert node.most_reading == 0


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 1.0), ("?timeout=0.2", 0.2), ("?timeout=x", 1.0), ("?timeout=nan", 1.0)]
)
@pytest.mark.trio
async def test_read_has_deadline(query: str, seconds: float, autojump_clock: trio.testing.MockClock) -> None:
    node = SimulatedNode()
    node.read_takes = 1000.0
    began = trio.current_time()
    status, text = await answer(opened(node), f"/readyz{query}")
    assert status == 503
    assert "[-]read failed" in text
    assert abs(trio.current_time() - began - seconds) < 0.01


@pytest.mark.trio
async def test_many_who_ask_make_one_read_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    node = SimulatedNode()
    node.read_takes = 0.01
    port = opened(node)
    found = []

    async def ask() -> None:
        found.append((await answer(port, "/readyz"))[0])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert found == [200] * 20
    assert node.most_reading == 1


@pytest.mark.trio
async def test_slow_request_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    line, began = Line(), trio.current_time()

    async def dribble() -> None:
        for byte in get("/livez")[:-2] + b"X-Long: " + b"x" * 100:
            await line.put.send(bytes([byte]))
            await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        await opened()._client(line)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(PATIENCE)
    assert line.closed
    assert not line.sent


@pytest.mark.trio
async def test_client_that_takes_no_answer_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    line, began = Line(get("/livez")), trio.current_time()
    line.takes = False
    await opened()._client(line)
    assert line.closed
    assert trio.current_time() - began == pytest.approx(PATIENCE)


@pytest.mark.trio
async def test_supervisor_gets_in_although_slow_clients_hold_all_places(autojump_clock: trio.testing.MockClock) -> None:
    port = opened()
    lines = [Line(b"GET /") for _ in range(MOST_CONNECTIONS)]
    async with trio.open_nursery() as nursery:
        for line in lines:
            nursery.start_soon(port._client, line)
        await trio.testing.wait_all_tasks_blocked()
        assert await answer(port, "/livez") == (200, "ok\n")
        await trio.testing.wait_all_tasks_blocked()
        assert sum(line.closed for line in lines) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_defect_ends_one_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: HealthPort, request: object) -> None:
        raise ZeroDivisionError

    port = opened()
    with monkeypatch.context() as patched:
        patched.setattr(HealthPort, "answer", broken)
        line = Line(get("/livez"))
        await port._client(line)
        assert line.closed
    assert await answer(port, "/livez") == (200, "ok\n")


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:8379", 200), ("localhost", 200), ("localhost:8379", 200), ("[::1]:8379", 200), ("10.0.0.7", 200),
    ("evil.example", 421), ("evil.example:8379", 421), ("localhost.evil.example", 421),
])  # fmt: skip
@pytest.mark.trio
async def test_page_of_another_site_cannot_name_loopback_port(host: str, status: int) -> None:
    assert (await answer(opened(), "/livez", host=host))[0] == status


@pytest.mark.trio
async def test_port_of_a_network_answers_under_any_name() -> None:
    port = HealthPort("0.0.0.0:8379")
    assert (await answer(port, "/livez", host="raft-1.internal"))[0] == 200


@pytest.mark.parametrize(("origin", "shared"), [("http://10.0.0.2:8379", True), ("http://evil.example", False)])
def test_only_pages_of_named_nodes_may_read(origin: str, shared: bool) -> None:
    port = opened(others=("http://10.0.0.2:8379",))
    request = HttpRequest("GET", "/status.json", {}, {"origin": origin})
    given = dict(port._shared(request, HttpAnswer(200)).headers)
    assert (given.get("Access-Control-Allow-Origin") == origin) is shared


@pytest.mark.trio
async def test_unknown_path_is_told_which_there_are() -> None:
    status, text = await answer(opened(), "/admin")
    assert status == 404
    assert "/readyz" in text


@pytest.mark.trio
async def test_page_may_load_nothing_from_elsewhere() -> None:
    line = Line(get("/"))
    line.put.close()
    await opened(others=("http://10.0.0.2:8379",))._client(line)
    head, _, body = line.sent.partition(b"\r\n\r\n")
    policy = next(field for field in head.decode().split("\r\n") if field.lower().startswith("content-security-policy"))
    assert "default-src 'none'" in policy
    assert "connect-src 'self' http://10.0.0.2:8379;" in policy
    assert "unsafe" not in policy
    assert b"http" not in body.replace(b"http://www.w3.org/2000/svg", b"")


# TLS.


class Browser:
    """A client with TLS at a port; it sends one request and reads until the end."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.session = TlsSession(context, server=False)
        self.plain = b""
        self.ended = False
        self.failure = ""

    async def get(self, port: HealthPort, path: str) -> bytes:
        line = Line(self.session.start())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port._client, line)
            asked = False
            while not (line.closed or self.ended or self.failure):
                await trio.testing.wait_all_tasks_blocked()
                data, line.sent = line.sent, b""
                step = self.session.receive(data)
                self.plain += step.plain
                self.ended, self.failure = step.ended, step.failure.text if step.failure else ""
                more = step.send
                if self.session.settled and not asked:
                    asked = True
                    more += self.session.encrypt(get(path, more="Connection: close\r\n"))
                if more:
                    line.put.send_nowait(more)
            line.put.close()
        return self.plain


def secure_port(own: TLS) -> tuple[HealthPort, list[tuple[str, str]]]:
    """A port with TLS, and the failures that its server is told of."""
    refused: list[tuple[str, str]] = []
    service = SimpleNamespace(
        leaving=False, refusals=SimpleNamespace(add=lambda port, host, reason, text: refused.append((host, reason)))
    )
    port = HealthPort("0.0.0.0:8379", credentials=Credentials(own))
    port.attach(cast(Any, service), cast(Any, SimulatedNode()))
    return port, refused


@pytest.mark.trio
async def test_client_with_tls_is_answered_and_told_of_the_end() -> None:
    port, refused = secure_port(tls(authorities=""))
    browser = Browser(trusting())
    answered = await browser.get(port, "/livez")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert answered.endswith(b"\r\n\r\nok\n")
    assert browser.ended
    assert refused == []


@pytest.mark.trio
async def test_client_without_tls_is_told_and_counted() -> None:
    port, refused = secure_port(tls(authorities=""))
    status, text = await answer(port, "/livez")
    assert status == 400
    assert "https://" in text
    assert refused == [("", Drop.NOT_TLS.value)]


@pytest.mark.trio
async def test_client_that_leaves_in_the_handshake_is_counted() -> None:
    port, refused = secure_port(tls(authorities=""))
    line = Line(TlsSession(trusting(), server=False).start())
    line.put.close()
    await port._client(line)
    assert refused == [("", Drop.TLS_FAILED.value)]
    assert line.closed


@pytest.mark.trio
async def test_while_moving_clients_without_tls_are_answered_too() -> None:
    port, refused = secure_port(tls(authorities="", mode="accept"))
    assert await answer(port, "/livez") == (200, "ok\n")
    assert (await Browser(trusting()).get(port, "/livez")).endswith(b"ok\n")
    assert refused == []


@pytest.mark.trio
async def test_client_needs_a_certificate_where_clients_of_the_server_do() -> None:
    port, refused = secure_port(tls())
    assert (await Browser(trusting()).get(port, "/livez")) == b""
    assert (await Browser(trusting("client-alice")).get(port, "/livez")).endswith(b"ok\n")
    assert refused == [("", Drop.BAD_CERTIFICATE.value)]


@pytest.mark.trio
async def test_handshake_that_dawdles_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    port, refused = secure_port(tls(authorities=""))
    line = Line(TlsSession(trusting(), server=False).start()[:20])
    began = trio.current_time()
    await port._client(line)
    assert trio.current_time() - began == pytest.approx(PATIENCE)
    assert line.closed
    assert refused == [("", Drop.TLS_FAILED.value)]


# Attacks.


@pytest.mark.parametrize("path", [
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%2fetc/passwd", "/metrics/../status.json",
    "/metrics/", "/METRICS", "/livez%00", "/livez;x", "/.", "\\livez", "/page.html",
])  # fmt: skip
@pytest.mark.trio
async def test_no_path_leads_to_a_file_or_around_a_name(path: str) -> None:
    status, text = await answer(opened(SimulatedNode()), path)
    assert status in {400, 404}
    assert "root:" not in text


@pytest.mark.trio
async def test_pipelined_requests_are_answered_one_by_one_in_order() -> None:
    count = 300
    line = Line(b"".join(get(("/livez", "/nothing")[number % 2]) for number in range(count)))
    line.put.close()
    await opened()._client(line)
    codes = [part[:3] for part in line.sent.split(b"HTTP/1.1 ")[1:]]
    assert codes == [(b"200", b"404")[number % 2] for number in range(count)]


@pytest.mark.trio
async def test_request_that_is_never_completed_is_counted_as_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    port, refused = secure_port(tls(authorities="", mode="accept"))
    await port._client(Line(b"GET /livez HTTP/1.1\r\nHost: h\r\nX: "))
    assert refused == [("", "too_slow")]
    plain = HealthPort("127.0.0.1:8379")
    plain.attach(cast(Any, port._service), cast(Any, SimulatedNode()))
    await plain._client(Line())  # nothing was begun: browsers open connections in advance
    assert len(refused) == 1
