"""Mutual TLS between nodes, on every adapter: what works, what is refused, and moving a cluster that serves."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import pytest

from raft_core.effects import Alarm, AlarmKind
from raft_core.errors import Refused, SettingsError
from raft_core.ids import ClusterId, Incarnation, NodeId
from raft_core.node.limits import MILLISECOND
from raft_core.node.security import TLS
from raft_core.node.status import Drop
from raft_core.wire import WIRE_VERSION, Hello, Link, LinkBroken
from tests.certificates import files, tls

from .kit import AnyNode, Cluster, eventually


def secure_peers(node: AnyNode) -> list[int]:
    return [peer.node for peer in node.status.peers if peer.connected and peer.heard and peer.secure]


async def test_nodes_with_certificates_form_a_cluster_and_carry_large_commands(cluster: Cluster) -> None:
    cluster.tls = {number: tls(f"node-{number}") for number in (1, 2, 3)}
    await cluster.start_all(3)
    large = bytes(range(256)) * 2000
    await cluster.write(large)
    await cluster.agree(large)
    for number in (1, 2, 3):
        others = [other for other in (1, 2, 3) if other != number]
        await eventually(partial(lambda number, others: secure_peers(cluster[number]) == others, number, others))
        assert cluster[number].status.certificate_expires > 0


# What is refused.


def hello_of(node: int) -> bytes:
    return Link(Hello(WIRE_VERSION, ClusterId("test"), NodeId(node), Incarnation(9)), dialer=True).hello()


def context_of(own: TLS | None) -> ssl.SSLContext:
    """A dialler that takes whatever certificate it sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def say(address: str, own: TLS | None, data: bytes, *, plain: bool = False) -> str:
    """Dial, say `data`, and return the node's last words: a refusal or an alert."""
    host, _, port = address.rpartition(":")
    try:
        raw = socket.create_connection((host, int(port)), 5)
        with raw, raw if plain else context_of(own).wrap_socket(raw) as stream:
            heard = b""
            with suppress(ConnectionError):  # it may refuse before it reads: our words then reset the connection
                stream.sendall(data)
            with suppress(ConnectionError):
                while piece := stream.recv(65536):
                    heard += piece
    except ssl.SSLError as error:
        return str(error.reason)
    except OSError as error:
        return type(error).__name__
    theirs = Link(Hello(WIRE_VERSION, ClusterId("test"), NodeId(2), Incarnation(9)), dialer=True)
    events = theirs.receive(heard)
    return events[-1].text if events and isinstance(events[-1], LinkBroken) else repr(heard)


REFUSALS: dict[str, tuple[Callable[[str], str], Drop, str]] = {
    "plain bytes": (lambda at: say(at, None, hello_of(2), plain=True), Drop.NOT_TLS, "takes nothing but TLS"),
    "no certificate": (lambda at: say(at, None, hello_of(2)), Drop.BAD_CERTIFICATE, "CERTIFICATE_REQUIRED"),
    "wrong authority": (lambda at: say(at, tls(place="other"), hello_of(1)), Drop.BAD_CERTIFICATE, "UNKNOWN_CA"),
    "expired": (lambda at: say(at, tls(place="expired"), hello_of(2)), Drop.BAD_CERTIFICATE, "EXPIRED"),
    "another node's": (lambda at: say(at, tls("node-3"), hello_of(2)), Drop.WRONG_CERTIFICATE, "raft://test/3"),
    "a client's": (lambda at: say(at, tls("client-alice"), hello_of(2)), Drop.WRONG_CERTIFICATE, "names no node"),
}


async def test_bad_certificates_are_refused_with_reason_on_both_sides_and_counted(cluster: Cluster) -> None:
    cluster.tls = {1: tls("node-1")}
    await cluster.start_all(1)
    node = cluster[1]
    await node.ready(timeout=10.0)  # a node that founds its cluster closes earlier connections
    for name, (dial, drop, told) in REFUSALS.items():
        before = dict(node.status.drops).get(drop, 0)
        answer = await anyio.to_thread.run_sync(dial, node.address)
        assert told in answer, (name, answer)
        await eventually(partial(lambda drop, before: dict(node.status.drops).get(drop, 0) == before + 1, drop, before))
    alarms = [alarm async for alarm in _some(node.alarms(), 3)]
    assert {alarm.kind for alarm in alarms} == {AlarmKind.INSECURE}
    assert await node.propose(b"a") == b"1"


async def _some(alarms: AsyncIterator[Alarm], count: int) -> AsyncIterator[Alarm]:
    for _ in range(count):
        yield await anext(alarms)


async def test_handshake_that_dawdles_is_closed_in_time(cluster: Cluster) -> None:
    cluster.tls = {1: tls("node-1")}
    cluster.host = attrs.evolve(cluster.host, hello_timeout=100 * MILLISECOND, max_ungreeted=2)
    await cluster.start_all(1)
    host, _, port = cluster[1].address.rpartition(":")
    streams = [await anyio.connect_tcp(host, int(port)) for _ in range(5)]
    for stream in streams:
        await stream.send(b"\x16\x03\x01")  # the beginning of a handshake, and nothing more
    with anyio.fail_after(5):
        for stream in streams:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
            await stream.aclose()
    assert await cluster[1].propose(b"a") == b"1"


async def test_node_does_not_start_with_another_nodes_certificate(cluster: Cluster) -> None:
    cluster.tls = {1: tls("node-2")}
    cluster.founders = (1,)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with anyio.create_task_group():
            await cluster.start(1)
    assert raised.group_contains(SettingsError) or isinstance(cluster.running[1].error, SettingsError)


# Moving a cluster that serves.


@asynccontextmanager
async def load(cluster: Cluster, node: int) -> AsyncIterator[list[bytes]]:
    """Write through `node` without pause during the block. Every request must succeed, at its first attempt."""
    written: list[bytes] = []
    stop = anyio.Event()

    async def write() -> None:
        while not stop.is_set():
            command = b"%d" % len(written)
            await cluster[node].propose(command, timeout=10.0)
            written.append(command)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        yield written
        count = len(written)
        await eventually(lambda: len(written) > count + 5)
        stop.set()


async def restart(cluster: Cluster, number: int, written: list[bytes]) -> None:
    """Hand over leadership, restart the node cleanly, and wait until it has its peers again."""
    while (await cluster.leader()) is cluster[number]:
        with suppress(Refused):  # the others have not been heard lately
            await cluster[number].transfer(timeout=10.0)
    count = len(written)
    await eventually(lambda: len(written) > count + 2)  # nothing is on its way to the former leader
    await cluster.stop(number)
    await cluster.start(number)
    await cluster[number].ready(timeout=10.0)
    await eventually(lambda: all(peer.connected and peer.heard for peer in cluster[number].status.peers))


async def roll(cluster: Cluster, change: Callable[[int], TLS | None]) -> None:
    """Restart each node with its new TLS, while the load goes through another one."""
    for number in (1, 2, 3):
        through = 1 if number != 1 else 2
        async with load(cluster, through) as written:
            if (new := change(number)) is None:
                cluster.tls.pop(number, None)
            else:
                cluster.tls[number] = new
            await restart(cluster, number, written)


async def test_cluster_moves_to_tls_node_by_node_without_a_failed_request(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.leader()

    await roll(cluster, lambda number: tls(f"node-{number}", mode="accept"))
    for number in (1, 2, 3):
        await eventually(partial(lambda number: len(secure_peers(cluster[number])) == 2, number))
    await roll(cluster, lambda number: tls(f"node-{number}"))
    for number in (1, 2, 3):
        await eventually(partial(lambda number: len(secure_peers(cluster[number])) == 2, number))


async def test_cluster_moves_to_another_authority_without_restart_or_failed_request(
    cluster: Cluster, tmp_path: Path
) -> None:
    def put(number: int, name: str, source: Path) -> None:
        shutil.copy(source, tmp_path / f"new-{number}-{name}")
        (tmp_path / f"new-{number}-{name}").replace(tmp_path / f"{number}-{name}")

    for number in (1, 2, 3):
        put(number, "ca", files() / "ca.crt")
        put(number, "crt", files() / f"node-{number}.crt")
        put(number, "key", files() / f"node-{number}.key")
        paths = {name: tmp_path / f"{number}-{file}" for name, file in NAMES.items()}
        cluster.tls[number] = TLS(**paths)  # type: ignore[arg-type]
    await cluster.start_all(3)
    await cluster.leader()
    expires = cluster[1].status.certificate_expires

    async with load(cluster, 1):
        for number in (1, 2, 3):  # first all trust both authorities
            put(number, "ca", files() / "both.crt")
            await cluster[number].reread_certificates()
        for number in (1, 2, 3):  # then each gets its new certificate
            put(number, "crt", files() / "other" / f"node-{number}.crt")
            put(number, "key", files() / "other" / f"node-{number}.key")
            await cluster[number].reread_certificates()
        for number in (1, 2, 3):  # then none trusts the old one any more
            put(number, "ca", files() / "other" / "ca.crt")
            await cluster[number].reread_certificates()
    assert cluster[1].status.certificate_expires >= expires
    for number in (1, 2, 3):  # connections made anew
        async with load(cluster, 1 if number != 1 else 2) as written:
            await restart(cluster, number, written)
    await eventually(lambda: len(secure_peers(cluster[1])) == 2)


NAMES = {"certificate": "crt", "key": "key", "authorities": "ca"}
