"""Server processes of this release and of earlier ones, and a client for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, final

import redis

from raft_kv.demo.cluster import free_ports
from raft_kv.node_client import node_status
from tests.compatibility import wheel

__all__ = ["NEW", "Servers", "wait_until"]

NEW: Final = "this release"
_HOST: Final = "127.0.0.1"
_SETTINGS: Final = ("snapshot_entries=60", "keep_entries=10")


def wait_until(check: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Wait until `check()` is true. Raise `TimeoutError`, which names `what`, after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


@final
class Servers:
    """`raft-kv serve` processes of one cluster, each of the release that it was started with."""

    def __init__(self, directory: Path, nodes: Iterable[int]) -> None:
        self.directory = directory
        ports = free_ports(2 * len(tuple(nodes)))
        self.ports = {node: (ports.pop(), ports.pop()) for node in nodes}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self.processes):
            self.kill(node)

    def start(self, node: int, release: str, *, known: Iterable[int] = (), join: bool = False) -> None:
        """Start a node with the code of `release`. `known`: the other nodes that it is told of; none means all."""
        others = [other for other in (known or self.ports) if other != node]
        port, peer_port = self.ports[node]
        command = [sys.executable, "-P", "-m", "raft_kv", "serve", "--id", str(node), "--cluster", "old"]
        command += ["--listen", f"{_HOST}:{port}", "--peer-listen", f"{_HOST}:{peer_port}"]
        command += ["--data", str(self.directory / f"node-{node}"), *(["--join"] if join else [])]
        for other in others:
            command += ["--peer", f"{other}={_HOST}:{self.ports[other][1]}"]
        for setting in _SETTINGS:
            command += ["--set", setting]
        environment = dict(os.environ)
        if release != NEW:
            environment["PYTHONPATH"] = str(wheel(release))
        with (self.directory / f"node-{node}.err").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, node: int) -> None:
        process = self.processes.pop(node)
        process.kill()
        process.wait()

    def client(self, node: int) -> redis.Redis:
        return redis.Redis(_HOST, self.ports[node][0], socket_timeout=10.0)

    def ask(self, node: int, *command: object) -> Any:
        """Send one command. Return its reply, or None where the node does not answer or refuses."""
        try:
            with self.client(node) as client:
                return client.execute_command(*command)
        except redis.RedisError:
            return None

    def wait_ready(self, nodes: Iterable[int]) -> None:
        """Wait until each of these nodes answers a linearizable read."""
        for node in nodes:
            wait_until(lambda node=node: self.ask(node, "DBSIZE") is not None, f"{self.report(node)}", 40.0)  # type: ignore[misc]

    def leader(self) -> int | None:
        for node in self.processes:
            status = node_status((_HOST, self.ports[node][0]))
            if status is not None and status["role"] == "leader":
                return node
        return None

    def wait_leader(self) -> int:
        wait_until(lambda: self.leader() is not None, "no leader")
        return self.leader() or self.wait_leader()

    def report(self, node: int) -> str:
        log = self.directory / f"node-{node}.err"
        return f"node {node} is not ready:\n{log.read_text('utf-8', 'replace')[-2000:] if log.exists() else ''}"
