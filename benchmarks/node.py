"""Three embedded nodes in three processes, 256-byte commands, a real disk: what a put costs without a server around it.

`measure` returns figures and prints nothing. This module is also the program of one node, which takes its orders
from standard input: `python -m benchmarks.node LOOP NODE PORTS DIRECTORY`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from raft_core.effects import RoleName
from raft_core.errors import RequestError
from raft_core.ids import Index

__all__ = ["measure"]

_COMMAND = b"c" * 256
_IDLE_SECONDS = 5.0


class _Counter:
    """A state machine that costs next to nothing."""

    def __init__(self) -> None:
        self.applied = 0

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        self.applied = index
        return b""

    def query(self, request: bytes) -> bytes:
        return b"%d" % self.applied

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.applied])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.applied = int(b"".join(chunks))


def measure(quick: bool = False, loop: str = "trio") -> dict[str, float]:
    """Latency in ms, puts per second, and microseconds of processor time of all three processes per put."""
    rounds, seconds = (300, 1.0) if quick else (2000, 4.0)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as ends:
        ports = _free_ports(3)
        nodes = [ends.enter_context(_Process(loop, node, ports, directory)) for node in (1, 2, 3)]
        leader = _leader(nodes)
        leader.order("many", 8, 0.5)  # warm
        figures |= _with_cost("put in sequence", nodes, leader, "sequence", rounds)
        for callers in (64, 1000):
            figures |= _with_cost(f"put, {callers} callers", nodes, leader, "many", callers, seconds)
        figures |= _with_cost("read in sequence", nodes, leader, "reads", rounds)
        gaps = [_leader(nodes).order("handover")[1] for _ in range(5 if quick else 20)]
        for name in gaps[0]:
            figures[f"handover, {name}, median"] = statistics.median(gap[name] for gap in gaps)
        before = [node.seconds() for node in nodes]
        time.sleep(_IDLE_SECONDS)
        spent = [now.seconds() - then for now, then in zip(nodes, before, strict=True)]
        figures["idle node, percent of a core, the busiest"] = max(spent) / _IDLE_SECONDS * 100
    return figures


def _with_cost(title: str, nodes: list[_Process], leader: _Process, *order: object) -> dict[str, float]:
    before = [node.seconds() for node in nodes]
    done, figures = leader.order(*order)
    spent = [now.seconds() - then for now, then in zip(nodes, before, strict=True)]
    place = nodes.index(leader)
    named = {f"{title}, {name}": value for name, value in figures.items()}
    named[f"{title}, µs of the leader's process each"] = spent[place] / done * 1e6
    named[f"{title}, µs of all processes each"] = sum(spent) / done * 1e6
    return named


def _leader(nodes: list[_Process]) -> _Process:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        for node in nodes:
            if node.order("leads")[0]:
                return node
        time.sleep(0.05)
    raise TimeoutError("no node leads")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


class _Process:
    """One node's process, for the one who gives the orders."""

    def __init__(self, loop: str, node: int, ports: list[int], directory: str) -> None:
        program = [sys.executable, "-m", "benchmarks.node", loop, str(node), ",".join(map(str, ports)), directory]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, *words: object) -> tuple[int, dict[str, float]]:
        """Have the node do something; return how often, and its figures."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a node has ended")
        done, figures = json.loads(line)
        return done, figures

    def seconds(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# One node.


async def _serve(loop: str, node: int, ports: list[int], directory: str) -> None:
    package: Any
    if loop == "trio":
        import raft_trio as package
    else:
        import raft_anyio as package
    members = {number: f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    config = package.NodeConfig(node, members, data=f"{directory}/{node}")
    async with package.open_node(config, _Counter()) as running:
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            word, *numbers = json.loads(line)
            answer = await _carry_out(running, word, numbers)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


async def _carry_out(node: Any, word: str, numbers: list[float]) -> tuple[int, dict[str, float]]:
    if word == "leads":
        return int(node.status.role is RoleName.LEADER), {}
    if word == "sequence":
        return await _in_sequence(lambda: node.propose(_COMMAND), int(numbers[0]))
    if word == "reads":
        return await _in_sequence(lambda: node.read(b""), int(numbers[0]))
    if word == "outlive":
        return await _outlive(node)
    if word == "handover":
        return await _hand_over(node)
    return await _many(node, int(numbers[0]), numbers[1])


async def _in_sequence(call: Any, rounds: int) -> tuple[int, dict[str, float]]:
    took: list[float] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await call()
        took.append((time.perf_counter() - begin) * 1000)
    percentiles = statistics.quantiles(took, n=100)
    return rounds, {"p50, ms": percentiles[49], "p99, ms": percentiles[98]}


async def _outlive(node: Any) -> tuple[int, dict[str, float]]:
    """Repeat a put until it is acknowledged: the leader has just been killed."""
    begin = time.perf_counter()
    while True:
        try:
            await node.propose(_COMMAND, timeout=5.0)
        except RequestError:
            continue
        return 1, {"until a put is acknowledged, ms": (time.perf_counter() - begin) * 1000}


async def _hand_over(node: Any) -> tuple[int, dict[str, float]]:
    """Transfer leadership; the next put, made here, is forwarded to the new leader."""
    begin = time.perf_counter()
    await node.transfer()
    transferred = time.perf_counter()
    await node.propose(_COMMAND)
    ended = time.perf_counter()
    return 1, {"transfer, ms": (transferred - begin) * 1000, "until a put is acknowledged, ms": (ended - begin) * 1000}


async def _many(node: Any, callers: int, seconds: float) -> tuple[int, dict[str, float]]:
    begin, done = time.perf_counter(), 0

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < begin + seconds:
            await node.propose(_COMMAND)
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(callers):
            group.start_soon(call)
    return done, {"per second": done / (time.perf_counter() - begin)}


def main() -> None:
    """Run one node until its input ends."""
    loop, node, ports, directory = sys.argv[1:]
    backend = "trio" if loop in ("trio", "anyio-trio") else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    numbers = [int(port) for port in ports.split(",")]
    anyio.run(_serve, loop, int(node), numbers, directory, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
