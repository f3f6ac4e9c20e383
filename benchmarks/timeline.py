"""Where the time of one SET goes: the moments of its way through three processes, on the clock that they share.

`python -m benchmarks timeline` starts three `raft-kv serve`, with hooks around a few functions, and sends SETs one by
one. Each process notes moments and times in memory, and writes them to a file when it is told to. Only one SET is under
way at a time, so the notes between its request and its reply are its own. Only SETs whose moments are all there, in
order, are counted. The hooks themselves take about 1 µs each, and need interpreted modules.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raft_kv.demo.cluster import Cluster

__all__ = ["measure"]

_NOTES = "RAFT_TIMELINE"
"""The environment variable with the directory for notes; it makes this module a server's program."""
_WARM = 300

Notes = list[tuple[str, int]]


def _hook(owner: Any, name: str, before: str = "", after: str = "", *, when: Callable[..., bool] | None = None) -> None:
    """Note the moments before and after each call of a method, if `when` says so of its arguments."""
    method = getattr(owner, name)
    notes, clock = _notes, time.monotonic_ns

    def noted(*given: Any, **named: Any) -> Any:
        counts = when is None or when(*given)
        if before and counts:
            notes.append((before, clock()))
        result = method(*given, **named)
        if after and counts:
            notes.append((after, clock()))
        return result

    setattr(owner, name, noted)


_notes: Notes = []


def _instrument() -> None:
    """Put the hooks into this process, and have SIGUSR1 write the notes to a file."""
    from raft_anyio.asyncio_connections import AsyncioConnections
    from raft_core.node.core import NodeCore
    from raft_core.node.job_runner import JobRunner
    from raft_core.node.jobs import Lane
    from raft_kv.client_connection import ClientConnection
    from raft_kv.client_sockets import _SocketTransport

    _hook(ClientConnection, "received", "request read")
    _hook(_SocketTransport, "write", after="reply sent")
    _hook(NodeCore, "handle", "turn begins", "turn decided")
    _hook(AsyncioConnections, "transmit", after="sent")
    _hook(JobRunner, "run", "write begins", "synced", when=lambda _, lane, jobs: lane is Lane.WRITE)
    _hook(JobRunner, "run_machine", "apply begins", "applied")
    from raft_anyio import asyncio_connections

    _hook(asyncio_connections._Peer, "data_received", "bytes read")

    def write(*_: object) -> None:
        Path(os.environ[_NOTES], f"{os.getpid()}.json").write_text(json.dumps(_notes))

    signal.signal(signal.SIGUSR1, write)


def measure(quick: bool = False) -> dict[str, float]:
    """Return the moments of a SET in order, each with the median of its µs after the client's request was sent."""
    sets = 300 if quick else 2000
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as directory:
        notes = Path(directory, "notes")
        notes.mkdir()
        program = ("env", f"{_NOTES}={notes}", sys.executable, "-c", f"import {__name__} as t; t.main()")
        with Cluster(Path(directory), "uvloop", python=program) as cluster:
            cluster.found(3)
            cluster.wait_ready([1, 2, 3], 60)
            leader = cluster.wait_leader(60)
            asked = _send(cluster.members[leader].port, sets + _WARM)[_WARM:]
            found: dict[int, Notes] = {}
            for node, member in cluster.members.items():
                assert member.process is not None
                member.process.send_signal(signal.SIGUSR1)
                path = notes / f"{member.process.pid}.json"
                while not path.exists():
                    time.sleep(0.05)
                time.sleep(0.5)
                found[node] = [(str(name), int(at)) for name, at in json.loads(path.read_text())]
            return _line(asked, found.pop(leader), list(found.values()))


def _send(port: int, count: int) -> list[tuple[int, int]]:
    """Send SETs one after the other; return when each was sent and answered."""
    times: list[tuple[int, int]] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count):
            key = b"%08d" % number
            request = b"*3\r\n$3\r\nSET\r\n$8\r\n" + key + b"\r\n$256\r\n" + b"v" * 256 + b"\r\n"
            begin = time.monotonic_ns()
            connection.sendall(request)
            reply = connection.recv(64)
            times.append((begin, time.monotonic_ns()))
            assert reply == b"+OK\r\n", reply
    return times


_LEADER = (
    "request read", "turn begins", "turn decided", "sent", "sent", "write begins", "synced", "turn begins",
    "turn decided", "bytes read", "turn begins", "turn decided", "apply begins", "applied", "reply sent",
)  # fmt: skip
"""What the leader does for a SET, in this order. Its own sync usually ends before the first acknowledgement."""
_FOLLOWER = (
    "bytes read",
    "turn begins",
    "turn decided",
    "write begins",
    "synced",
    "turn begins",
    "turn decided",
    "sent",
)


def _line(asked: list[tuple[int, int]], leader: Notes, followers: list[Notes]) -> dict[str, float]:
    moments: dict[str, list[float]] = {}
    for begin, end in asked:
        mine = _way(leader, _LEADER, begin, end)
        theirs = [way for notes in followers if (way := _way(notes, _FOLLOWER, begin, end)) is not None]
        if mine is None or not theirs:
            continue
        first = min(theirs, key=lambda way: way[-1][1])  # the acknowledgement that makes the majority
        for who, way in (("leader", mine), ("follower", first)):
            for place, (name, at) in enumerate(way):
                moments.setdefault(f"{who} {place:02} {name}", []).append((at - begin) / 1e3)
        moments.setdefault("client 99 reply read", []).append((end - begin) / 1e3)
    medians = {f"{name}, µs": statistics.median(times) for name, times in moments.items()}
    return dict(sorted(medians.items(), key=lambda moment: moment[1]))


def _way(notes: Notes, names: tuple[str, ...], begin: int, end: int) -> Notes | None:
    """Return the notes with these names in this order within the time of one SET; None if one is missing."""
    way: Notes = []
    for name, at in notes[_place(notes, begin) :]:
        if at > end or len(way) == len(names):
            break
        if name == names[len(way)]:
            way.append((name, at))
    return way if len(way) == len(names) else None


def _place(notes: Notes, begin: int) -> int:
    low, high = 0, len(notes)
    while low < high:
        middle = (low + high) // 2
        if notes[middle][1] < begin:
            low = middle + 1
        else:
            high = middle
    return low


def main() -> None:
    """Serve as `raft-kv` does, and note the moments."""
    _instrument()
    import runpy

    sys.argv = ["raft-kv", *sys.argv[3:]]  # what follows `-m raft_kv`
    runpy.run_module("raft_kv", run_name="__main__")
