"""The systems that `compare` measures side by side: raft-kv, etcd, PySyncObj, redis; each a cluster of processes.

Every system stores 256-byte values durably before it answers, on three nodes; except redis (one node, `appendfsync
always`, for scale) and PySyncObj, which does not sync its journal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.load.build import Missing, etcd_load, resp_load
from benchmarks.load.watchdog import watch
from raft_kv.certificates import make_authority, make_node
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import NodeConnection, wait_until

__all__ = ["Figures", "System", "system_named"]

Figures = dict[str, Any]
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 60.0


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class System(ABC):
    """A running cluster. While another one is measured, its processes are stopped (SIGSTOP)."""

    name: str
    pipelines = True
    """Clients can have many requests in flight on one connection."""
    reads = True

    @abstractmethod
    def processes(self) -> dict[int, int]:
        """Return the process of each running node."""

    @abstractmethod
    def leader(self) -> int:
        """Wait for a leader; return its node."""

    @abstractmethod
    def command(self, connections: int, depth: int, seconds: float, *, gets: bool) -> list[str]:
        """Return the command line of a load client."""

    @abstractmethod
    def close(self) -> None:
        """End all processes."""

    def freeze(self) -> None:
        for process in self.processes().values():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self.processes().values():
            os.kill(process, signal.SIGCONT)
        time.sleep(0.7)  # elections caused by the pause are over
        self.leader()

    def load(self, connections: int, depth: int, seconds: float, *, gets: bool) -> Figures:
        """Return the load client's figures and the servers' processor time per operation."""
        self.leader()
        client = subprocess.Popen(
            self.command(connections, depth, seconds, gets=gets), stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        return self._read(client.stdout.readline)

    def _read(self, line: Callable[[], str]) -> Figures:
        first = line()
        if first.strip() != "ready":
            raise RuntimeError(f"{self.name}: the load client said {first!r}")
        processes = list(self.processes().values())
        before = [processor_seconds(process) for process in processes]
        figures: Figures = json.loads(line())
        used = sum(processor_seconds(process) for process in processes) - sum(before)
        figures["processor_us"] = used / max(1, figures["operations"]) * 1e6
        return figures

    # Failover, for systems that have it.

    def failover_command(self, others: Sequence[int], process: int, number: int) -> list[str]:
        raise Missing(f"{self.name} has no failover here")

    def revive(self, node: int) -> None:
        """Start a node that has ended, and wait until it serves."""
        raise Missing(f"{self.name} has no failover here")

    def failover(self, number: signal.Signals) -> Figures:
        """Signal the leader; return the milliseconds until a survivor answers a later write."""
        leader = self.leader()
        time.sleep(1.0)
        process = self.processes()[leader]
        others = [node for node in self.processes() if node != leader]
        command = self.failover_command(others, process, number)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE, check=True)
        figures: Figures = json.loads(done.stdout)
        if number == signal.SIGSTOP:
            time.sleep(1.0)
            os.kill(process, signal.SIGCONT)
            time.sleep(1.5)
        else:
            self.revive(leader)
        return figures


class RaftKv(System):
    """Three `raft-kv serve` on one of the loops. `python`: another interpreter, with its own installed package.

    With `tls` nodes and clients use TLS.
    """

    def __init__(
        self, name: str, loop: str, directory: Path, tools: Path, python: str = "", *, tls: bool = False
    ) -> None:
        self.name = name
        self._client = resp_load(tools, tls=tls)
        self.cluster = Cluster(directory, loop, python=(python, "-I") if python else (sys.executable,))
        if tls:
            self.cluster.flags = {node: _tls_flags(directory / "tls", self.cluster.name, node) for node in (1, 2, 3)}
        self.cluster.found(3)
        watch(self.processes().values())
        self.cluster.wait_ready([1, 2, 3], _PATIENCE)

    def processes(self) -> dict[int, int]:
        members = self.cluster.members.values()
        return {member.node: member.process.pid for member in members if member.running and member.process is not None}

    def leader(self) -> int:
        return self.cluster.wait_leader(_PATIENCE)

    def address(self) -> str:
        """Return the leader's address."""
        return self._address(self.leader())

    def _address(self, node: int) -> str:
        return f"127.0.0.1:{self.cluster.members[node].port}"

    def command(self, connections: int, depth: int, seconds: float, *, gets: bool) -> list[str]:
        return [self._client, "load", self.address(), str(connections), str(depth), str(int(gets)), str(seconds)]

    def failover_command(self, others: Sequence[int], process: int, number: int) -> list[str]:
        return [self._client, "failover", ",".join(map(self._address, others)), str(process), str(int(number))]

    def revive(self, node: int) -> None:
        process = self.cluster.members[node].process
        assert process is not None
        process.wait(20)
        self.cluster.start(node)
        watch(self.processes().values())
        self.cluster.wait_ready([1, 2, 3], _PATIENCE)
        time.sleep(1.0)

    def storm(self, connections: int) -> Figures:
        """Let so many clients connect at once; return when the last one was served."""
        command = [self._client, "storm", self.address(), str(connections)]
        figures: Figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return figures

    def idle(self, seconds: float) -> float:
        """Return the part of a core that a node uses while no client asks for anything."""
        self.leader()
        time.sleep(0.5)
        processes = list(self.processes().values())
        before = sum(map(processor_seconds, processes))
        time.sleep(seconds)
        return (sum(map(processor_seconds, processes)) - before) / seconds / len(processes)

    def close(self) -> None:
        self.cluster.__exit__()


def _tls_flags(directory: Path, cluster: str, node: int) -> tuple[str, ...]:
    """Make a certificate; return the options of `raft-kv serve`. Its port for clients takes plain connections too."""
    if not directory.exists():
        make_authority(directory, cluster)
    make_node(directory, cluster, node, ["127.0.0.1"])
    files = {"certificate": f"node-{node}.crt", "key": f"node-{node}.key", "authorities": "ca.crt"}
    return (*(f"--tls-{name}={directory / file}" for name, file in files.items()), "--tls-clients=accept")


class Etcd(System):
    """Three etcd members with their default settings."""

    name = "etcd"
    pipelines = False

    def __init__(self, directory: Path, tools: Path) -> None:
        if shutil.which("etcd") is None:
            raise Missing("apt install etcd-server")
        self._client = etcd_load(tools)
        self._directory = directory
        directory.mkdir(parents=True)
        ports = free_ports(6)
        self._ports, self._peer_ports = ports[:3], ports[3:]
        self._members = [self._start(node, "new") for node in range(3)]
        self.leader()
        time.sleep(1.0)

    def _start(self, node: int, state: str) -> subprocess.Popen[bytes]:
        members = ",".join(f"m{other}=http://127.0.0.1:{self._peer_ports[other]}" for other in range(3))
        client, peer = (f"http://127.0.0.1:{ports[node]}" for ports in (self._ports, self._peer_ports))
        options = {
            "name": f"m{node}",
            "data-dir": str(self._directory / f"m{node}"),
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": members,
            "initial-cluster-state": state,
            "log-level": "error",
            "logger": "zap",
        }
        words = [word for option, value in options.items() for word in (f"--{option}", value)]
        with (self._directory / f"m{node}.log").open("ab") as log:
            member = subprocess.Popen(["etcd", *words], stdout=log, stderr=log)
        watch([member.pid])
        return member

    def processes(self) -> dict[int, int]:
        return {node: member.pid for node, member in enumerate(self._members) if member.poll() is None}

    def _leads(self, node: int) -> bool:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports[node]}/v3/maintenance/status", b"{}", method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as reply:
                status = json.load(reply)
        except OSError:
            return False
        return bool(status.get("leader", "0") == status["header"]["member_id"])

    def leader(self) -> int:
        found: list[int] = []

        def led() -> bool:
            found.extend(node for node in self.processes() if self._leads(node))
            return bool(found)

        if not wait_until(led, _PATIENCE):
            raise TimeoutError("etcd elected no leader")
        return found[-1]

    def command(self, connections: int, depth: int, seconds: float, *, gets: bool) -> list[str]:
        clients = connections * depth
        address = f"127.0.0.1:{self._ports[self.leader()]}"
        streams = str(min(connections, 32 if clients > 64 else 16))
        return [self._client, "load", address, str(clients), streams, str(int(gets)), str(seconds)]

    def failover_command(self, others: Sequence[int], process: int, number: int) -> list[str]:
        addresses = ",".join(f"127.0.0.1:{self._ports[node]}" for node in others)
        return [self._client, "failover", addresses, str(process), str(int(number))]

    def revive(self, node: int) -> None:
        self._members[node].wait(20)
        self._members[node] = self._start(node, "existing")
        time.sleep(2.5)

    def close(self) -> None:
        for member in self._members:
            member.kill()
            member.wait()


class Redis(System):
    """One redis, `appendfsync always`: no replication, for scale."""

    name = "redis"

    def __init__(self, directory: Path, tools: Path) -> None:
        if shutil.which("redis-server") is None:
            raise Missing("apt install redis-server")
        self._client = resp_load(tools)
        directory.mkdir(parents=True)
        (self._port,) = free_ports(1)
        options = {"port": self._port, "bind": "127.0.0.1", "dir": directory, "appendonly": "yes"}
        options |= {"appendfsync": "always", "save": "", "daemonize": "no", "loglevel": "warning"}
        words = [str(word) for option, value in options.items() for word in (f"--{option}", value)]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        watch([self._process.pid])
        self.leader()

    def processes(self) -> dict[int, int]:
        return {1: self._process.pid}

    def leader(self) -> int:
        def answers() -> bool:
            try:
                connection = NodeConnection(("127.0.0.1", self._port))
                connection.close()
            except Exception:
                return False
            return True

        if not wait_until(answers, _PATIENCE):
            raise TimeoutError("redis does not answer")
        return 1

    def command(self, connections: int, depth: int, seconds: float, *, gets: bool) -> list[str]:
        address = f"127.0.0.1:{self._port}"
        return [self._client, "load", address, str(connections), str(depth), str(int(gets)), str(seconds)]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class PySyncObj(System):
    """Three PySyncObj nodes with journals, which it does not sync; the leader puts the load on itself."""

    name = "pysyncobj"
    reads = False

    def __init__(self, directory: Path) -> None:
        if find_spec("pysyncobj") is None:
            raise Missing("pip install pysyncobj")
        directory.mkdir(parents=True)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self._nodes = [self._start(directory, address, addresses) for address in addresses]
        watch(self.processes().values())
        time.sleep(3.0)

    def _start(self, directory: Path, address: str, addresses: list[str]) -> subprocess.Popen[str]:
        journal = directory / address.rpartition(":")[2]
        others = ",".join(other for other in addresses if other != address)
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.pysyncobj_node", address, str(journal), others],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def processes(self) -> dict[int, int]:
        return {number: node.pid for number, node in enumerate(self._nodes)}

    def leader(self) -> int:
        return 0

    def command(self, connections: int, depth: int, seconds: float, *, gets: bool) -> list[str]:
        raise AssertionError("it loads itself")

    def load(self, connections: int, depth: int, seconds: float, *, gets: bool) -> Figures:
        for _ in range(20):
            for node in self._nodes:
                assert node.stdin is not None
                assert node.stdout is not None
                print(connections * depth, seconds, file=node.stdin, flush=True)
                first = node.stdout.readline()
                if first.strip() == "ready":
                    lines = iter((first, node.stdout.readline()))
                    return self._read_late(lines.__next__)
            time.sleep(0.5)
        raise TimeoutError("PySyncObj elected no leader")

    def _read_late(self, line: Callable[[], str]) -> Figures:
        line()
        figures: Figures = json.loads(line())
        return figures

    def close(self) -> None:
        for node in self._nodes:
            node.kill()
            node.wait()


def system_named(word: str, directory: Path, tools: Path) -> System:
    """Start a system: etcd, redis, pysyncobj, a loop (LOOP-tls: with TLS), or NAME=LOOP@PYTHON.

    Raise `Missing` with what to install.
    """
    if word == "etcd":
        return Etcd(directory / word, tools)
    if word == "redis":
        return Redis(directory / word, tools)
    if word == "pysyncobj":
        return PySyncObj(directory / word)
    name, _, rest = word.rpartition("=")
    loop, _, python = rest.partition("@")
    loop, tls = loop.removesuffix("-tls"), loop.endswith("-tls")
    if not python and find_spec(loop) is None:
        raise Missing(f"pip install {loop}")
    name = name or (f"{loop}-tls" if tls else loop)
    return RaftKv(name, loop, directory / name, tools, python, tls=tls)
