"""Everything that is to be refused, tried on every port of real processes with TLS; and clients that are to be served.

Each refusal must be told to the other side, be one line in the log that says who and why, and be counted; the cluster
serves on. `docs/security.md` has the table.
"""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import attrs
import pytest
import redis

from raft_core.ids import ClusterId, Incarnation, NodeId
from raft_core.node.security import TLS
from raft_core.wire import WIRE_VERSION, FrameKind, Hello, Link
from raft_core.wire.frames import MAGIC
from raft_kv.client_tls import TLS_VARIABLES, use_tls
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import wait_until
from tests.certificates import CLUSTER, files, tls

PASSWORD = "correct-horse"
PING = b"PING\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEALTH_PATIENCE, CLIENT_PATIENCE, PEER_PATIENCE = 5.0, 15.0, 2.5


@attrs.define(eq=False)
class Place:
    """A cluster of three with TLS on all ports, one node without TLS, and connections that dawdle since the start."""

    secure: Cluster
    plain: Cluster
    health: dict[int, int]
    plain_health: int
    dawdling: dict[str, socket.socket]
    began: float

    def address(self, port: str, node: int) -> tuple[str, int]:
        """Of this port of a node; node 0 is the one without TLS."""
        member = self.secure.members[node] if node else self.plain.members[1]
        if port == "peers":
            return "127.0.0.1", member.peer_port
        if port == "clients":
            return member.address
        return "127.0.0.1", self.health[node] if node else self.plain_health

    def count(self, port: str, node: int, reason: str) -> int:
        """How many connections the node has refused at the port, by its metrics."""
        text = self.metrics(node)
        labels = rf'reason="{reason}"' if port == "peers" else rf'port="{port}",reason="{reason}"'
        name = "raft_drops_total" if port == "peers" else "raft_kv_refused_total"
        found = re.search(rf"^{name}{{{labels}}} (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def metrics(self, node: int) -> str:
        scheme, port = ("https", self.health[node]) if node else ("http", self.plain_health)
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context_of(tls("client-alice"), checks=True)))
        with opener.open(f"{scheme}://127.0.0.1:{port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def log(self, node: int) -> list[str]:
        member = self.secure.members[node] if node else self.plain.members[1]
        return member.log.read_text("utf-8", "replace").splitlines()


def context_of(own: TLS | None, *, checks: bool = False, latest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client of TLS with this certificate; one that attacks takes whatever certificate it sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if checks:
        context.load_verify_locations(files() / "ca.crt")
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if latest is not None:
        context.minimum_version = context.maximum_version = latest
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def say(address: tuple[str, int], data: bytes, context: ssl.SSLContext | None) -> str:
    """Dial, say `data`, with TLS if there is a context; return what the other side says: words, or the alert."""
    try:
        with socket.create_connection(address, 10) as raw:
            if context is None:
                return _heard(raw, data)
            with context.wrap_socket(raw) as stream:
                return _heard(stream, data)
    except ssl.SSLError as error:
        return str(error.reason)
    except OSError as error:
        return type(error).__name__


def _heard(stream: socket.socket, data: bytes) -> str:
    """Return what the other side says, also where it refuses before it reads: our words then reset the connection."""
    heard = b""
    with suppress(TimeoutError, ConnectionError):
        stream.sendall(data)
    stream.settimeout(10.0)
    with suppress(TimeoutError, ConnectionError):
        while piece := stream.recv(65536):
            heard += piece
            if heard == b"+PONG\r\n":  # a client that is served is not disconnected
                break
    return heard.decode("latin-1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("refusals")
    alice = tls("client-alice")
    use_tls(dict(zip(TLS_VARIABLES, map(str, (alice.authorities, alice.certificate, alice.key)), strict=True)))
    health = dict(zip((1, 2, 3), free_ports(3), strict=True))
    (plain_health,) = free_ports(1)
    try:
        with Cluster(directory / "plain", "asyncio") as plain, Cluster(directory / "secure", name=CLUSTER) as secure:
            plain.flags = {1: ("--health", str(plain_health))}
            secure.flags = {node: (*flags_of(node), "--health", f"0.0.0.0:{health[node]}") for node in (1, 2, 3)}
            secure.found(3)
            plain.found(1)
            secure.wait_ready([1, 2, 3])
            place = Place(secure, plain, health, plain_health, {}, time.monotonic())
            for port in ("peers", "clients", "health"):
                dawdler = place.dawdling[port] = socket.create_connection(place.address(port, 3), 20)
                dawdler.sendall(b"\x16\x03\x01")  # the beginning of a handshake, and nothing more
            yield place
            for dawdler in place.dawdling.values():
                dawdler.close()
    finally:
        use_tls({})


def flags_of(node: int) -> tuple[str, ...]:
    own = tls(f"node-{node}")
    return (
        "--tls-certificate", str(own.certificate), "--tls-key", str(own.key), "--tls-authorities", str(own.authorities),
        "--tls-client-authorities", str(own.authorities),
    )  # fmt: skip


def hello(cluster: str = CLUSTER, node: int = 2, version: int = WIRE_VERSION) -> bytes:
    greeting = Hello(version, ClusterId(cluster), NodeId(node), Incarnation(9), highest=version)
    return Link(greeting, dialer=True).hello()


def too_long() -> bytes:
    """The head of a frame that promises four gigabytes, with the right checksum."""
    checked = struct.pack("<HBBIII", int.from_bytes(MAGIC, "little"), FrameKind.MESSAGE, 0, 0, 0xFFFFFFFF, 0)
    return checked + struct.pack("<I", zlib.crc32(checked))


def elsewhere() -> TLS:
    """A certificate of our authority for a node of another cluster."""
    return tls("node-2", place="elsewhere")


OLD = ssl.TLSVersion.TLSv1_2
GARBAGE = bytes(range(200, 256)) * 3
HUGE = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 9000 + b"\r\n\r\n"


# Port, node, what is tried, its certificate, its bytes; what the other side is told, the reason, words of the log.
REFUSALS = [
    ("peers", 1, "bytes without TLS", "plain", hello(), "takes nothing but TLS", "not_tls", "takes nothing but TLS"),
    ("peers", 0, "TLS where there is none", "alice", hello(), "", "bad_frame", "looks like TLS"),
    ("peers", 1, "no certificate", "none", hello(), "CERTIFICATE_REQUIRED", "bad_certificate", "shows no certificate"),
    ("peers", 1, "wrong authority", "other", hello(), "UNKNOWN_CA", "bad_certificate", "no authority"),
    ("peers", 1, "expired", "expired", hello(node=1), "EXPIRED", "bad_certificate", "expired"),
    ("peers", 1, "another node's", "node-3", hello(), "raft://test/3", "wrong_certificate", "raft://test/3"),
    ("peers", 2, "a client's", "alice", hello(), "names no node", "wrong_certificate", "names no node"),
    ("peers", 3, "of another cluster", "elsewhere", hello(), "raft://elsewhere/2", "wrong_certificate", "elsewhere"),
    ("peers", 1, "wrong cluster", "node-2", hello("elsewhere"), "belongs to cluster", "wrong_cluster", "elsewhere"),
    ("peers", 1, "wrong version", "node-2", hello(version=99), "wire version 99", "wrong_version", "wire version 99"),
    ("peers", 1, "old TLS", "old", hello(), "PROTOCOL_VERSION", "tls_failed", "no version of TLS in common"),
    ("peers", 1, "oversize", "node-2", too_long(), "", "bad_frame", "4294967295"),
    ("peers", 2, "garbage in TLS", "node-2", GARBAGE, "", "bad_frame", "not c8 c9"),
    ("peers", 1, "garbage like TLS", "plain", b"\x16\x03\x01\x00\x05" + GARBAGE, "", "tls_failed", "TLS failed"),
    ("clients", 1, "bytes without TLS", "plain", PING, "takes nothing but TLS", "not_tls", "takes nothing but TLS"),
    ("clients", 0, "TLS where there is none", "alice", PING, "", "bad_request", "looks like TLS"),
    ("clients", 1, "no certificate", "none", PING, "CERTIFICATE_REQUIRED", "bad_certificate", "shows no certificate"),
    ("clients", 1, "wrong authority", "other", PING, "UNKNOWN_CA", "bad_certificate", "no authority"),
    ("clients", 1, "expired", "expired", PING, "EXPIRED", "bad_certificate", "expired"),
    ("clients", 1, "old TLS", "old", PING, "PROTOCOL_VERSION", "tls_failed", "no version of TLS in common"),
    ("clients", 1, "oversize", "alice", b"*1\r\n$999999999999\r\n", "bulk length", "bad_request", "bulk length"),
    ("clients", 1, "garbage in TLS", "alice", b"*x\r\n", "multibulk", "bad_request", "multibulk"),
    ("clients", 1, "garbage like TLS", "plain", b"\x16\x03\x01\x00\x05" + GARBAGE, "", "tls_failed", "TLS failed"),
    ("health", 1, "bytes without TLS", "plain", GET, "https://", "not_tls", "takes nothing but TLS"),
    ("health", 0, "TLS where there is none", "alice", GET, "", "bad_request", "no HTTP request"),
    ("health", 1, "no certificate", "none", GET, "CERTIFICATE_REQUIRED", "bad_certificate", "shows no certificate"),
    ("health", 1, "wrong authority", "other", GET, "UNKNOWN_CA", "bad_certificate", "no authority"),
    ("health", 1, "expired", "expired", GET, "EXPIRED", "bad_certificate", "expired"),
    ("health", 1, "old TLS", "old", GET, "PROTOCOL_VERSION", "tls_failed", "no version of TLS in common"),
    ("health", 1, "oversize", "alice", HUGE, "431", "bad_request", "more than 8192 bytes"),
    ("health", 1, "garbage in TLS", "alice", GARBAGE + b"\r\n\r\n", "400", "bad_request", "no HTTP request"),
    ("health", 1, "garbage like TLS", "plain", b"\x16\x03\x01\x00\x05" + GARBAGE, "", "tls_failed", "TLS failed"),
]  # fmt: skip
SERVED = [(port, own) for port in ("clients", "health") for own in ("alice", "node-3", "elsewhere")]


def context_named(name: str) -> ssl.SSLContext | None:
    """The client's end for a row of the table."""
    match name:
        case "plain":
            return None
        case "none":
            return context_of(None)
        case "other":
            return context_of(tls("node-2", place="other"))
        case "expired":
            return context_of(tls("node-1", place="expired"))
        case "old":
            return context_of(tls("node-2"), latest=OLD)
        case "alice":
            return context_of(tls("client-alice"))
        case "elsewhere":
            return context_of(elsewhere())
    return context_of(tls(name))


def client(place: Place, node: int, user: str = "") -> redis.Redis:
    """redis-py with TLS, a client's certificate and a user."""
    alice, (host, port) = tls("client-alice"), place.secure.members[node].address
    return redis.Redis(
        host, port, username=user or None, password=PASSWORD if user else None, decode_responses=True, ssl=True,
        ssl_ca_certs=str(alice.authorities), ssl_certfile=str(alice.certificate), ssl_keyfile=str(alice.key),
    )  # fmt: skip


def try_refusal(
    place: Place, port: str, node: int, name: str, own: str, data: bytes, told: str, reason: str, logged: str
) -> None:
    row = (port, name)
    lines, before = len(place.log(node)), place.count(port, node, reason)
    answer = say(place.address(port, node), data, context_named(own))
    assert told in answer, (row, answer)
    assert "+PONG" not in answer, row
    assert "HTTP/1.1 200" not in answer, row
    assert wait_until(lambda: place.count(port, node, reason) == before + 1, 10.0), (row, before)
    about = "ALARM" if port == "peers" else "refused a client"

    def found() -> list[str]:
        new = place.log(node)[lines:]
        return [line for line in new if about in line and logged in line and "127.0.0.1" in line]

    assert wait_until(lambda: len(found()) == 1, 10.0), (row, place.log(node)[lines:])


def test_every_refusal_on_every_port_is_told_logged_and_counted(place: Place) -> None:
    with client(place, 1) as held:
        assert held.set("a", "0") is True
        number = held.client_id()
        for row in REFUSALS:
            try_refusal(place, *row)
        for port, own in SERVED:
            answer = say(place.address(port, 2), PING if port == "clients" else GET, context_named(own))
            assert "+PONG" in answer or "HTTP/1.1 200" in answer, (port, own, answer)
        assert held.get("a") == "0"
        assert held.client_id() == number, "another connection was disturbed"
    for node in (1, 2, 3):
        with client(place, node) as opened:
            assert opened.incr("a") == node
    place.secure.check_alive([1, 2, 3])
    place.plain.check_alive([1])


# Clients.


def test_redis_py_works_with_tls_and_user(place: Place) -> None:
    with client(place, 1) as first:
        rules = {"enabled": True, "passwords": f"+{PASSWORD}", "keys": ["*"]}
        assert first.acl_setuser("root", categories=["+@all"], **rules)
    with client(place, 2, "root") as root:
        assert wait_until(partial(_works, root), 10.0)
        assert root.acl_whoami() == "root"
        assert root.acl_setuser("app", categories=["+@read", "+@write", "+@connection", "-@dangerous"], **rules)
    with client(place, 3, "app") as app:
        assert wait_until(partial(_works, app), 10.0)
        assert app.set("python", "x") is True
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.flushall()
    with client(place, 3) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("python")


def _works(opened: redis.Redis) -> bool:
    try:
        return bool(opened.ping())
    except redis.RedisError:
        return False


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_redis_cli_works_with_tls_and_user(place: Place) -> None:
    alice, (host, port) = tls("client-alice"), place.secure.members[2].address
    command = [
        "redis-cli", "-h", host, "-p", str(port), "--tls", "--cacert", str(alice.authorities), "--cert",
        str(alice.certificate), "--key", str(alice.key), "--user", "app", "--pass", PASSWORD, "--no-auth-warning",
    ]  # fmt: skip
    if "--tls" not in subprocess.run(["redis-cli", "--help"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this redis-cli was built without TLS")
    for words, expected in ((["set", "cli", "y"], "OK"), (["get", "cli"], "y"), (["flushall"], "NOPERM")):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=30, check=False)
        assert expected in done.stdout + done.stderr, done


NODE_REDIS = """
const { createClient } = require('redis'), { readFileSync } = require('fs');
const [host, port, ca, cert, key, password] = process.argv.slice(1);
const files = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
(async () => {
  const client = createClient({ username: 'app', password, socket: { host, port: +port, tls: true, ...files } });
  client.on('error', error => { console.log('error', error.message); process.exit(1); });
  await client.connect();
  console.log(await client.set('node', 'z'), await client.get('node'));
  await client.flushAll().catch(error => console.log(error.message));
  client.destroy();
})();
"""


def _node_redis() -> bool:
    node = shutil.which("node")
    return node is not None and not subprocess.run([node, "-e", "require('redis')"], capture_output=True).returncode


@pytest.mark.skipif(not _node_redis(), reason="node, or its package redis (npm install redis, NODE_PATH), is missing")
def test_node_redis_works_with_tls_and_user(place: Place) -> None:
    alice, (host, port) = tls("client-alice"), place.secure.members[1].address
    words = [host, str(port), str(alice.authorities), str(alice.certificate), str(alice.key), PASSWORD]
    done = subprocess.run(["node", "-e", NODE_REDIS, *words], capture_output=True, text=True, timeout=30, check=False)
    said = done.stdout.splitlines()
    assert said[0] == "OK z", done
    assert said[1].startswith("NOPERM"), done


# At the end, because it takes longest.


@pytest.mark.parametrize(("port", "seconds", "reason", "logged"), [
    ("peers", PEER_PATIENCE, "no_greeting", "no greeting"),
    ("health", HEALTH_PATIENCE, "tls_failed", "not done after 5 s"),
    ("clients", CLIENT_PATIENCE, "tls_failed", "not done after 10 s"),
])  # fmt: skip
def test_handshake_that_dawdles_is_closed_logged_and_counted(
    place: Place, port: str, seconds: float, reason: str, logged: str
) -> None:
    dawdler = place.dawdling[port]
    with suppress(ConnectionResetError):
        while dawdler.recv(1000):
            pass
    assert time.monotonic() - place.began < seconds + 60.0, "it is closed in time, unless all of this took long"
    assert wait_until(lambda: place.count(port, 3, reason) >= 1, 10.0)
    about = "ALARM" if port == "peers" else "refused a client"
    assert any(about in line and logged in line and "127.0.0.1" in line for line in place.log(3))


def test_no_log_nor_data_shows_the_password(place: Place) -> None:
    place.secure.check_alive([1, 2, 3])
    for member in place.secure.members.values():
        found = [member.log, *(path for path in Path(member.directory).rglob("*") if path.is_file())]
        assert all(PASSWORD.encode() not in path.read_bytes() for path in found)
