"""Real servers on each loop, and clients that are many, slow, silent or waiting."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from raft_core.node.descriptors import RESERVED
from raft_kv.node_client import wait_until

LOOPS = ("trio", "asyncio", "uvloop")
ROOM = 8
"""How many clients the limited server takes."""


@attrs.define(eq=False)
class Server:
    process: subprocess.Popen[str]
    clients: tuple[str, int]
    peers: tuple[str, int]

    def client(self) -> socket.socket:
        return socket.create_connection(self.clients, 10.0)


def _address(line: str, what: str) -> tuple[str, int]:
    host, port = line.split(f"{what} at ")[1].split(",")[0].rsplit(":", 1)
    return host, int(port)


@contextmanager
def serving(
    directory: Path, loop: str, flags: Sequence[str] = (), *, files: int = 1000, stderr: int = subprocess.DEVNULL
) -> Iterator[Server]:
    """One node, which may have so many files open."""
    places = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--data", str(directory / "data")]
    node = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--loop", loop, *places, *flags]
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *node]
    process = subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield Server(process, _address(line, "clients"), _address(line, "peers"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


_HELD = ("01", "08")
"""The states of a socket in /proc/net/tcp that its process has open: established, or closed by the other side."""


@pytest.fixture(scope="module", params=LOOPS)
def small_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("kv"), request.param, files=RESERVED + ROOM) as server:
        with server.client() as client:
            assert wait_until(lambda: answer(client, b"SET a 1\r\n") == b"+OK\r\n", 10.0)
        yield server


@pytest.fixture
def limited(small_server: Server) -> Server:
    """A server with room for `ROOM` clients, which has noticed that those of the test before are gone."""

    port = f":{small_server.clients[1]:04X}"

    def no_client_is_held() -> bool:
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return not any(fields[1].endswith(port) and fields[3] in _HELD for fields in sockets)

    assert wait_until(no_client_is_held, 10.0)
    return small_server


def answer(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    return client.recv(1000)


def everything(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    while part := client.recv(1000):
        parts.append(part)
    return b"".join(parts)


def test_clients_beyond_the_bound_are_told_and_closed_and_the_others_are_served(limited: Server) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(limited.client()) for _ in range(ROOM)]
        assert all(answer(client, b"PING\r\n") == b"+PONG\r\n" for client in held)
        for _ in range(5 * RESERVED):
            with limited.client() as refused:
                assert everything(refused) == b"-ERR max number of clients reached\r\n"
        assert answer(held[0], b"GET a\r\n") == b"$1\r\n1\r\n"


def test_connections_to_the_peer_port_leave_clients_their_descriptors(limited: Server) -> None:
    with ExitStack() as stack:
        for _ in range(2 * (RESERVED + ROOM)):
            stack.enter_context(socket.create_connection(limited.peers, 10.0))
        held = [stack.enter_context(limited.client()) for _ in range(ROOM)]
        assert all(answer(client, b"GET a\r\n") == b"$1\r\n1\r\n" for client in held)
        assert len(os.listdir(f"/proc/{limited.process.pid}/fd")) < RESERVED + ROOM
    assert limited.process.poll() is None


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_strangers_and_clients_leave_the_disk_its_descriptors(loop: str, tmp_path: Path) -> None:
    """`ulimit -n 160`, 95 clients, then 75 connections to the peer port: the log ran out of descriptors."""
    often = ["--set", "snapshot_entries=20"]
    with serving(tmp_path, loop, often, files=160) as server, ExitStack() as stack:
        first = stack.enter_context(server.client())
        assert wait_until(lambda: answer(first, b"SET a 1\r\n") == b"+OK\r\n", 10.0)
        held = [first, *(stack.enter_context(server.client()) for _ in range(94))]
        assert all(answer(client, b"PING\r\n") == b"+PONG\r\n" for client in held)
        for _ in range(75):
            stack.enter_context(socket.create_connection(server.peers, 10.0))
        value = b"x" * 5000
        for number in range(60):
            client = held[number % len(held)]
            assert answer(client, b"SET k%d %b\r\n" % (number, value)) == b"+OK\r\n"
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 150
        assert server.process.poll() is None
        assert answer(stack.enter_context(server.client()), b"GET a\r\n") == b"$1\r\n1\r\n"


def test_clients_who_are_gone_without_a_word_are_noticed(limited: Server) -> None:
    with limited.client() as client:
        assert answer(client, b"PING\r\n") == b"+PONG\r\n"
        mine, theirs = (f"{address[1]:04X}" for address in (client.getsockname(), limited.clients))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(theirs) and fields[2].endswith(mine):
                assert fields[5].startswith("02:")  # the kernel's timer for this connection is keepalive's
                return
    raise AssertionError("the connection was not found")


def test_a_client_that_reads_gets_all_of_many_long_replies(limited: Server) -> None:
    size, count = 30 * 1024 * 1024, 4
    with limited.client() as client:
        assert answer(client, b"SETRANGE long %d x\r\n" % (size - 1)) == b":%d\r\n" % size
        client.sendall(b"GET long\r\n" * count)
        missing = count * (size + len(b"$%d\r\n\r\n" % size))
        room = bytearray(1024 * 1024)
        while missing:
            read = client.recv_into(room)
            assert read, f"cut off, {missing} bytes before the end"
            missing -= read
        assert answer(client, b"DEL long\r\n") == b":1\r\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_is_answered_at_the_end_also_when_nobody_reads_what_the_node_tells(tmp_path: Path, loop: str) -> None:
    nobody, told = os.pipe()
    alone = ["--peer", "2=127.0.0.1:1", "--peer", "3=127.0.0.1:2", "--set", "leader_wait=20000000000"]
    with serving(tmp_path, loop, alone, stderr=told) as server, server.client() as client:
        os.close(told)
        os.close(nobody)
        with socket.create_connection(server.peers, 10.0) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")  # something to tell
            everything(stranger)
        assert answer(client, b"PING\r\n") == b"+PONG\r\n"
        client.sendall(b"SET a 1\r\n")
        with server.client() as other:
            assert answer(other, b"PING\r\n") == b"+PONG\r\n"  # so the write has been received
            server.process.terminate()
            assert everything(client).startswith(b"-CLUSTERDOWN stopping")
            assert everything(other) == b""
        assert server.process.wait(10) == 0
