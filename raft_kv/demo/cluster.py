"""`Cluster`: real server processes on loopback, to start, kill, stop and restart.

Each `Member` has a data directory and a log file. No server outlives this process, however it ends: each watches a pipe
whose other end only this process holds.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import attrs

from raft_kv.node_client import Failed, NodeConnection, node_status, wait_until
from raft_kv.stopping import GO_ON

__all__ = ["Cluster", "Member", "NodeDied", "free_ports"]

_HOST: Final = "127.0.0.1"
_LOWEST_PORT: Final = 20_000
_HIGHEST_PORT: Final = 32_000
"""Below the range from which operating systems take ports for outgoing connections: a killed node gets its own back."""
_STOP_SECONDS: Final = 15.0


class NodeDied(Exception):  # named for what happened, as the library's errors are
    """A node ended without being told to; the text ends with its last output."""


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    found: list[int] = []
    rng = random.SystemRandom()
    while len(found) < count:
        port = rng.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_HOST, port))
            if port not in found:
                found.append(port)
    return found


@final
@attrs.define(eq=False)
class Member:
    """One node: its number, its addresses, its directory, and its process while it runs."""

    node: int
    port: int
    peer_port: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    """When it was started last, on the monotonic clock."""

    @property
    def address(self) -> tuple[str, int]:
        """Return the address for clients."""
        return _HOST, self.port

    @property
    def peer_address(self) -> str:
        """Return the address for peers."""
        return f"{_HOST}:{self.peer_port}"

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """Return the file with its output."""
        return self.directory.with_suffix(".log")

    def last_words(self) -> str:
        """Return the end of its output."""
        if not self.log.exists():
            return "(it printed nothing)"
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-12:])

    def status(self) -> dict[str, object] | None:
        """Return its status; None if it does not answer."""
        return node_status(self.address) if self.running else None


@final
@attrs.define(eq=False)
class Cluster:
    """The processes of one cluster. Use it in a `with`: no process outlives it, unless `kept`."""

    directory: Path
    loop: str = "trio"
    store: str = "file"
    """Which kind of store the nodes keep their data in."""
    name: str = "demo"
    overrides: Sequence[str] = ()
    """`--set` values for every node."""
    flags: Mapping[int, Sequence[str]] = attrs.field(factory=dict)
    """More flags of single nodes."""
    members: dict[int, Member] = attrs.field(factory=dict)
    founders: tuple[int, ...] = ()
    kept: bool = False
    held: int | None = None
    """A descriptor held by every server as long as it runs."""
    python: Sequence[str] = (sys.executable,)
    """The interpreter, with its options."""

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.kept:
            for member in self.members.values():
                if member.running:
                    self.kill(member.node)
                _let_go(member)

    def keep(self) -> None:
        """Let the servers run on without this process."""
        self.kept = True
        for member in self.members.values():
            if member.process is not None and member.process.stdin is not None:
                with suppress(OSError):  # it has just ended
                    member.process.stdin.write(GO_ON)
                    member.process.stdin.close()

    def found(self, nodes: int) -> None:
        """Start so many nodes as a new cluster, or as the one in the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.founders = tuple(range(1, nodes + 1))
        for node in self.founders:
            self._add(node)
        for node in self.founders:
            self.start(node)

    def join(self, node: int) -> Member:
        """Start a new node, which waits to be added."""
        member = self._add(node)
        self.start(node)
        return member

    def _add(self, node: int) -> Member:
        port, peer_port = free_ports(2)
        member = self.members[node] = Member(node, port, peer_port, self.directory / f"node-{node}")
        return member

    # One process.

    def start(self, node: int) -> None:
        """Start the node's process; `wait_ready` waits until it serves clients."""
        member = self.members[node]
        with member.log.open("ab") as log:
            _let_go(member)
            member.since = time.monotonic()
            member.process = subprocess.Popen(
                self._command(member),
                stdin=subprocess.PIPE,  # held open until the end, which tells the server that we are gone
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
                pass_fds=() if self.held is None else (self.held,),
            )

    def _command(self, member: Member) -> list[str]:
        command = [*self.python, "-m", "raft_kv", "serve", "--id", str(member.node), "--cluster", self.name]
        command += ["--listen", f"{_HOST}:{member.port}", "--peer-listen", member.peer_address]
        command += ["--data", f"{self.store}:{member.directory}", "--loop", self.loop, "--verbose", "--stop-at-eof"]
        for other in self.members.values():
            if other is not member:
                command += ["--peer", f"{other.node}={other.peer_address}"]
        if member.node not in self.founders:
            command.append("--join")
        for override in self.overrides:
            command += ["--set", override]
        return [*command, *self.flags.get(member.node, ())]

    def kill(self, node: int) -> None:
        """SIGKILL: no last word, no last sync. Returns when the process is gone."""
        member = self.members[node]
        assert member.process is not None
        member.process.kill()
        member.process.wait()
        _let_go(member)

    def stop(self, nodes: Sequence[int]) -> None:
        """Stop these nodes by SIGTERM, or by SIGKILL if they do not end in time."""
        for node in nodes:
            if (process := self.members[node].process) is not None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for node in nodes:
            if (process := self.members[node].process) is not None:
                try:
                    process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.kill(node)
                _let_go(self.members[node])

    def forget(self, node: int) -> None:
        """Stop the node and no longer count it."""
        self.stop([node])
        del self.members[node]

    # All of them.

    @property
    def running(self) -> list[Member]:
        """The nodes whose process runs."""
        return [member for member in self.members.values() if member.running]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The client addresses of all nodes."""
        return [member.address for member in self.members.values()]

    def check_alive(self, expected: Sequence[int]) -> None:
        """Raise `NodeDied` if one of these nodes has ended by itself."""
        for node in expected:
            member = self.members[node]
            if not member.running:
                status = member.process.returncode if member.process is not None else None
                raise NodeDied(f"node {node} ended by itself (status {status}); its log ends:\n{member.last_words()}")

    def wait_ready(self, nodes: Sequence[int], timeout: float = 30.0) -> None:
        """Each of these answers a linearizable read. Raise `NodeDied` or `TimeoutError`."""
        for node in nodes:

            def ready(member: Member = self.members[node]) -> bool:
                self.check_alive([member.node])
                return _serves(member)

            if not wait_until(ready, timeout):
                raise TimeoutError(
                    f"node {node} does not serve clients; its log ends:\n{self.members[node].last_words()}"
                )

    def leader(self) -> int | None:
        """Return the node that most nodes name as leader, if it agrees."""
        for member in self.running:
            status = member.status()
            if status is not None and status["role"] == "leader":
                agreeing = sum(self._believes(other, member.node) for other in self.running)
                if 2 * agreeing > len(self.running):
                    return member.node
        return None

    @staticmethod
    def _believes(member: Member, leader: int) -> bool:
        status = member.status()
        return status is not None and status["leader"] == leader

    def wait_leader(self, timeout: float = 30.0) -> int:
        """Return the leader, once there is one. Raise `TimeoutError`."""
        found: list[int] = []

        def led() -> bool:
            if (leader := self.leader()) is not None:
                found.append(leader)
            return bool(found)

        if not wait_until(led, timeout):
            raise TimeoutError("no leader was elected in time")
        return found[-1]

    def statuses(self) -> Iterator[tuple[Member, dict[str, object] | None]]:
        """Yield every member with its status."""
        for member in self.members.values():
            yield member, member.status()


def _environment() -> dict[str, str]:
    """Return the environment without variables that configure a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAFT_KV_")}


def _let_go(member: Member) -> None:
    """Close our end of the pipe to an ended server."""
    if member.process is not None and member.process.stdin is not None:
        member.process.stdin.close()


def _serves(member: Member) -> bool:
    try:
        connection = NodeConnection(member.address, timeout=2.0)
    except Failed:
        return False
    try:
        return isinstance(connection.say("DBSIZE"), int)
    except Failed:
        return False
    finally:
        connection.close()
