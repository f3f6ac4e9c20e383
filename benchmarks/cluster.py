"""Three durable server processes on loopback, 256-byte values: latency in sequence, throughput, failover.

What lives here: `measure`, which returns figures and prints nothing. The one load process shares the machine with
the servers, as a client on the same host would; it is written plainly, to take as little of it as Python can.
"""

from __future__ import annotations

import random
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hiredis

from raft_kv.demo.cluster import Cluster, Member
from raft_kv.demo.load import Load
from raft_kv.node_client import Address, NodeConnection

__all__ = ["measure"]

_VALUE = b"v" * 256
_KEYS = 10_000
_CONNECTIONS = 32
_IN_FLIGHT = 31


def measure(quick: bool = False, loop: str = "trio") -> dict[str, float]:
    """Milliseconds, and requests per second."""
    seconds, rounds, failovers = (1.0, 200, 1) if quick else (5.0, 2000, 5)
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), loop) as cluster:
        cluster.found(3)
        cluster.wait_ready([1, 2, 3])
        leader = cluster.members[cluster.wait_leader()]
        follower = next(member for member in cluster.members.values() if member is not leader)
        figures: dict[str, float] = {}
        for where, member in (("leader", leader), ("follower", follower)):
            figures |= _sequence(f"SET in sequence at the {where}", member, _set_request, rounds)
            figures |= _sequence(f"GET in sequence at the {where}", member, _get_request, rounds)
        addresses = cluster.addresses
        for name, make in (("SET", _set_request), ("GET", _get_request)):
            title = f"{name}, {_CONNECTIONS} connections × {_IN_FLIGHT} in flight, per second"
            figures[title] = _throughput(addresses, [make(number) for number in range(_KEYS)], seconds)
        gaps = _failovers(cluster, failovers)
        figures["failover after SIGKILL, median of tries, ms"] = statistics.median(gaps)
        figures["failover after SIGKILL, longest, ms"] = max(gaps)
        return figures


def _set_request(number: int) -> tuple[bytes, ...]:
    return (b"SET", b"key:%d" % (number % _KEYS), _VALUE)


def _get_request(number: int) -> tuple[bytes, ...]:
    return (b"GET", b"key:%d" % (number % _KEYS))


def _sequence(title: str, member: Member, make: Callable[[int], tuple[bytes, ...]], rounds: int) -> dict[str, float]:
    """One client, one request at a time."""
    connection = NodeConnection(member.address, 10.0)
    took: list[float] = []
    for number in range(rounds + 50):
        begin = time.perf_counter()
        reply = connection.say(*make(number))
        took.append((time.perf_counter() - begin) * 1000)
        _must_be_good(reply)
    connection.close()
    percentiles = statistics.quantiles(took[50:], n=100)
    return {f"{title}, p50, ms": percentiles[49], f"{title}, p99, ms": percentiles[98]}


def _must_be_good(reply: object) -> None:
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(f"the cluster answered {reply}")


def _throughput(addresses: list[Address], requests: list[tuple[bytes, ...]], seconds: float) -> float:
    """Answers per second, with every connection's requests kept in flight, spread over the nodes."""
    packed = [hiredis.pack_command(request) for request in requests]  # type: ignore[arg-type]  # its stub says one word
    selector = selectors.DefaultSelector()
    connections: list[socket.socket] = []
    for number in range(_CONNECTIONS):
        connection = socket.create_connection(addresses[number % len(addresses)], 10.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, hiredis.Reader())
        connections.append(connection)
    place = 0
    for connection in connections:
        connection.sendall(b"".join(packed[place : place + _IN_FLIGHT]))
        place = (place + _IN_FLIGHT) % (_KEYS - _IN_FLIGHT)
    begin, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < begin + seconds:
        for key, _ in selector.select(1.0):
            stream = key.fileobj
            assert isinstance(stream, socket.socket)
            answered = _answers(stream, key.data)
            count += answered
            stream.sendall(b"".join(packed[place : place + answered]))
            place = (place + answered) % (_KEYS - _IN_FLIGHT)
    for connection in connections:
        connection.close()
    selector.close()
    return count / (now - begin)


def _answers(stream: socket.socket, reader: hiredis.Reader) -> int:
    """How many replies have arrived."""
    data = stream.recv(256 * 1024)
    if not data:
        raise RuntimeError("the server closed a connection")
    reader.feed(data)
    count = 0
    while (reply := reader.gets()) is not False:
        _must_be_good(reply)
        count += 1
    return count


def _failovers(cluster: Cluster, times: int) -> list[float]:
    """Milliseconds from SIGKILL of the leader to the first acknowledged write that was sent after it."""
    gaps: list[float] = []
    load = Load(cluster.addresses, 4)
    load.start()
    try:
        for _ in range(times):
            leader = cluster.wait_leader()
            time.sleep(0.2 + 0.3 * random.random())
            load.mark()
            cluster.kill(leader)
            deadline = time.monotonic() + 30
            while (gap := load.since_mark()) is None:
                if time.monotonic() > deadline:
                    raise TimeoutError("no write was acknowledged after the leader's death")
                time.sleep(0.001)
            gaps.append(gap * 1000)
            cluster.start(leader)
            cluster.wait_ready([leader])
    finally:
        load.stop()
    return gaps
