"""Locks on three durable nodes, each a process: `acquire` of a free lock, and the hand-over of one that others want.

Beside it etcd's `concurrency.Mutex` on three etcd processes, where `etcd` and `go` with etcd's client are installed. A
hand-over is the time from the call that releases to the return of the next owner's `acquire`, between two processes of
ours that each are a node, and between two sessions of one Go program.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio

from raft_core.node.config import NodeConfig
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects
from raft_objects.lock_table import LockTable
from raft_objects.locks import Lock, Locks
from raft_objects.running import open_objects

__all__ = ["measure"]

_GO_PATH = "/usr/share/gocode"


def measure(quick: bool = False) -> dict[str, float]:
    """Milliseconds."""
    rounds = 50 if quick else 500
    with tempfile.TemporaryDirectory() as directory:
        figures = _ours(Path(directory), rounds)
    with tempfile.TemporaryDirectory() as directory:
        return figures | _etcd(Path(directory), rounds)


# Ours.


def _ours(directory: Path, rounds: int) -> dict[str, float]:
    ports = free_ports(3)
    command = [sys.executable, "-m", "benchmarks.locks", str(directory), ",".join(map(str, ports)), str(rounds)]
    nodes = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in (1, 2, 3)
    ]
    try:
        answers = [json.loads(node.stdout.readline()) for node in nodes if node.stdout is not None]
    finally:
        for node in nodes:
            if node.stdin is not None:
                node.stdin.close()
        for node in nodes:
            node.wait(20)
    figures: dict[str, float] = {}
    for answer in answers:
        if answer["acquire"]:
            figures |= _percentiles("acquire of a free lock", answer["acquire"])
            figures |= _percentiles("release", answer["release"])
    turns = sorted(turn for answer in answers for turn in answer["turns"])  # token, node, acquired, released
    gaps = [
        (later[2] - one[3]) * 1000 for one, later in pairwise(turns) if later[0] == one[0] + 1 and later[1] != one[1]
    ]
    return figures | _percentiles("hand-over between two nodes", gaps)


def _percentiles(title: str, took: list[float]) -> dict[str, float]:
    parts = statistics.quantiles(took, n=100)
    return {f"{title}, p50, ms": parts[49], f"{title}, p99, ms": parts[98]}


async def _node(directory: Path, ports: list[int], rounds: int, number: int) -> dict[str, Any]:
    members = {place + 1: f"127.0.0.1:{port}" for place, port in enumerate(ports)}
    table = LockTable()
    acquire, release, turns = [], [], []
    async with open_objects(NodeConfig(number, members, data=directory / str(number)), Objects({"locks": table})):
        locks = Locks(table, lease=10.0)
        if number == 1:
            alone = Lock(locks, "alone")
            for turn in range(rounds + 10):
                begin = time.perf_counter()
                held = await alone.acquire()
                middle = time.perf_counter()
                await alone.release(held)
                if turn >= 10:
                    acquire.append((middle - begin) * 1000)
                    release.append((time.perf_counter() - middle) * 1000)
        async with Lock(locks, "first").hold():
            pass
        while number != 1 and table.tokens < rounds + 10:  # until node 1 has done its part
            await anyio.sleep(0.02)
        if number != 3:
            wanted = Lock(locks, "wanted")
            for _ in range(rounds):
                held = await wanted.acquire()
                at = time.monotonic()
                turns.append((held.token, number, at, time.monotonic()))
                await wanted.release(held)
        print(json.dumps({"acquire": acquire, "release": release, "turns": turns}), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)  # until the others are done, too
    return {}


# etcd.


def _etcd(directory: Path, rounds: int) -> dict[str, float]:
    """Return etcd's figures; none where it is not installed."""
    etcd, go = shutil.which("etcd"), shutil.which("go")
    if etcd is None or go is None or not Path(_GO_PATH, "src/go.etcd.io/etcd/clientv3/concurrency").exists():
        return {}
    program = directory / "locks"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": _GO_PATH}
    source = Path(__file__).with_name("etcd_locks.go")
    built = subprocess.run([go, "build", "-o", str(program), str(source)], env=environment, check=False)
    if built.returncode:
        return {}
    ports = free_ports(6)
    peers = ",".join(f"n{place}=http://127.0.0.1:{port}" for place, port in enumerate(ports[:3]))
    clients = [f"http://127.0.0.1:{port}" for port in ports[3:]]
    servers = [
        subprocess.Popen(
            [
                *(etcd, "--name", f"n{place}", "--data-dir", str(directory / f"n{place}"), "--log-level", "error"),
                *("--listen-peer-urls", f"http://127.0.0.1:{ports[place]}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{ports[place]}"),
                *("--listen-client-urls", clients[place], "--advertise-client-urls", clients[place]),
                *("--initial-cluster", peers),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for place in range(3)
    ]
    try:
        done = subprocess.run(
            [str(program), ",".join(clients), str(rounds)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return {}
        told = json.loads(done.stdout)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(20)
    return (
        _percentiles("etcd: Lock of a free mutex", told["acquire"])
        | _percentiles("etcd: Unlock", told["release"])
        | _percentiles("etcd: hand-over between two sessions", told["gaps"])
    )


if __name__ == "__main__":
    anyio.run(
        _node, Path(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")], int(sys.argv[3]), int(sys.argv[4])
    )
