"""A small cluster on loopback sockets and real files, and the means to mistreat it.

The state machine, store, network gate and cluster that the conformance suite is written over. It is
written with anyio, which runs on every loop that an adapter does, so that one suite serves all of them.
"""

from __future__ import annotations

import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.abc
import attrs
from anyio.abc import SocketAttribute, SocketStream

from raft_core.effects import Alarm, Persist, RoleChanged, RoleName
from raft_core.entries import SnapshotMeta
from raft_core.errors import MembershipRefused, RequestError, StorageBroken
from raft_core.explain import Explanation
from raft_core.ids import Index
from raft_core.membership import Change, ChangeMode, Members
from raft_core.node.config import NodeConfig
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.security import TLS
from raft_core.node.status import NodeStatus
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ReadConsistency
from raft_core.settings import Settings
from raft_core.state_machine import StateMachine
from raft_core.store import SnapshotReader, SnapshotWriter, Store
from raft_storage.file_store import FileStore

T = TypeVar("T")
PATIENCE: Final = 20.0
"""Seconds after which a condition that was waited for counts as never coming; far more than any should take."""


class AnyNode(Protocol):
    """The public face that both packages have."""

    @property
    def address(self) -> str: ...
    @property
    def status(self) -> NodeStatus: ...
    def recording(self) -> bytes: ...
    def explain(self) -> tuple[Explanation, ...]: ...
    async def ready(self, *, timeout: float | None = None) -> object: ...
    def changes(self) -> AsyncIterator[RoleChanged]: ...
    def alarms(self) -> AsyncIterator[Alarm]: ...
    async def propose(self, command: bytes, *, timeout: float | None = None) -> bytes: ...
    async def propose_with_index(self, command: bytes, *, timeout: float | None = None) -> tuple[int, bytes]: ...
    async def read(
        self,
        query: bytes,
        *,
        consistency: ReadConsistency = ReadConsistency.LINEARIZABLE,
        limit: int = 0,
        timeout: float | None = None,
    ) -> bytes: ...
    async def change_members(
        self,
        changes: Sequence[Change],
        *,
        mode: ChangeMode = ChangeMode.AUTO,
        expected: int = 0,
        timeout: float | None = None,
    ) -> object: ...
    async def leave_joint(self, *, timeout: float | None = None) -> object: ...
    async def transfer(self, to: int = 0, *, timeout: float | None = None) -> object: ...
    async def stop(self) -> None: ...
    async def reread_certificates(self) -> None: ...
    async def wait_finished(self) -> None: ...


class OpenNode(Protocol):
    """`open_node` of either package."""

    def __call__(
        self, config: NodeConfig, machine: StateMachine, *, seed: int | None = None
    ) -> AbstractAsyncContextManager[AnyNode]: ...


SETTINGS: Final = Settings(election_ticks=40, heartbeat_ticks=4)
HOST: Final = NodeLimits(
    tick=2 * MILLISECOND,
    dial_delay=5 * MILLISECOND,
    dial_delay_max=50 * MILLISECOND,
    hello_timeout=SECOND,
    ping=100 * MILLISECOND,
    silence=400 * MILLISECOND,
    leader_wait=500 * MILLISECOND,
    stop_timeout=SECOND,
    pull_timeout=300 * MILLISECOND,
)


async def eventually(condition: Callable[[], T]) -> T:
    """The first true value of `condition`; a failure where it does not come within `PATIENCE`."""
    with anyio.fail_after(PATIENCE):
        while not (value := condition()):
            await anyio.sleep(0.001)
    return value


class Ledger:
    """A machine that keeps every command in order, and would notice an index applied twice."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.applied = 0
        self.restored = 0

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        assert index > self.applied, f"entry {index} was applied after {self.applied}"
        self.applied = index
        if command == b"poison":
            raise ValueError("poison")
        self.commands.append(command)
        return b"%d" % len(self.commands)

    def query(self, request: bytes) -> bytes:
        return b"%d" % self.commands.count(request)

    def snapshot(self) -> Iterator[bytes]:
        commands = (b"%d" % self.applied, *self.commands)
        return (command + b"\n" for command in commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        applied, *self.commands = b"".join(chunks).split(b"\n")[:-1]
        self.applied = int(applied)
        self.restored += 1


class Valve:
    """A store that can be slow, hung or failing: writes wait while it is shut, and raise once it is broken."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self.open: Final = threading.Event()
        self.open.set()
        self.broken = False
        self.closed = False

    @property
    def identity(self) -> Identity:
        return self.store.identity

    def recover(self) -> Recovered:
        return self.store.recover()

    def form(self, members: Members) -> Recovered:
        return self.store.form(members)

    def write(self, batch: Sequence[Persist]) -> None:
        self.open.wait()
        if self.broken:
            raise StorageBroken("the disk is full")
        self.store.write(batch)

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        return self.store.create_snapshot(meta)

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        return self.store.resume_snapshot(meta, source)

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        return self.store.open_snapshot(meta)

    def close(self) -> None:
        self.closed = True
        self.store.close()


class Gate:
    """The way into one node, through which all others come. It can hold everything back, or be shut."""

    def __init__(self) -> None:
        self.target = ""
        self.address = ""
        self._flowing = anyio.Event()
        self._flowing.set()
        self._shut = False
        self._scopes: set[anyio.CancelScope] = set()

    def hold(self) -> None:
        """Hold back all bytes without closing: a peer that stops reading, a half-open connection."""
        self._flowing = anyio.Event()

    def shut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._shut = True
        for scope in self._scopes:
            scope.cancel()

    def open(self) -> None:
        """Let all bytes through that were held back."""
        self._shut = False
        self._flowing.set()

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.address = "{}:{}".format(*listener.extra(SocketAttribute.local_address))
        task_status.started()
        async with listener:
            await listener.serve(self._carry)

    async def _carry(self, near: SocketStream) -> None:
        async with near:
            if self._shut or not self.target:
                return
            host, _, port = self.target.rpartition(":")
            try:
                far = await anyio.connect_tcp(host, int(port))
            except OSError:
                return
            async with far, anyio.create_task_group() as group:
                self._scopes.add(group.cancel_scope)
                group.start_soon(self._pump, near, far, group.cancel_scope)
                group.start_soon(self._pump, far, near, group.cancel_scope)
            self._scopes.discard(group.cancel_scope)

    async def _pump(self, source: SocketStream, sink: SocketStream, scope: anyio.CancelScope) -> None:
        try:
            async for data in source:
                await self._flowing.wait()
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        scope.cancel()


@attrs.define(eq=False)
class Running:
    """One node in its task."""

    number: int
    machine: Ledger
    valve: Valve
    leave: anyio.Event = attrs.field(factory=anyio.Event)
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    node: AnyNode | None = None
    error: BaseException | None = None

    @property
    def up(self) -> AnyNode:
        assert self.node is not None
        return self.node


class Cluster:
    """Nodes of one adapter, each in a task of its own; all are stopped at the end of the test."""

    def __init__(self, open_node: OpenNode, directory: Path) -> None:
        self.open_node: Final = open_node
        self.directory: Final = directory
        self.running: Final[dict[int, Running]] = {}
        self.gates: Final[dict[int, Gate]] = {}
        self.settings = SETTINGS
        self.host = HOST
        self.founders: tuple[int, ...] = ()
        self.tls: dict[int, TLS] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    @property
    def _group(self) -> anyio.abc.TaskGroup:
        assert self._tasks is not None
        return self._tasks

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cluster]:
        """The cluster of one test, bounded in time; nothing of it is left afterwards."""
        with anyio.fail_after(3 * PATIENCE):
            async with anyio.create_task_group() as self._tasks:
                try:
                    yield self
                finally:
                    with anyio.CancelScope(shield=True):
                        for gate in self.gates.values():
                            gate.open()
                        for running in self.running.values():
                            running.valve.open.set()
                            running.leave.set()
                        for running in self.running.values():
                            await running.ended.wait()
                    self._group.cancel_scope.cancel()

    # Up and down.

    async def start_all(self, count: int, *, gates: bool = False) -> None:
        """`count` founders are up."""
        self.founders = tuple(range(1, count + 1))
        for number in self.founders:
            if gates:
                self.gates[number] = gate = Gate()
                await self._group.start(gate.serve)
        for number in self.founders:
            await self.start(number)

    async def start(
        self, number: int, *, peers: dict[int, str] | None = None, machine: Ledger | None = None
    ) -> Running:
        """Node `number` is up, on its directory, knowing `peers` besides those that are up."""
        store = FileStore.open(self.directory / str(number), node=number, cluster="test", segment_bytes=1 << 17)
        running = self.running[number] = Running(number, machine or Ledger(), Valve(store))
        config = self.config(number, running.valve)
        config = attrs.evolve(config, known={**config.known, **(peers or {})})
        await self._group.start(self._host_node, config, running)
        return running

    def config(self, number: int, store: Store) -> NodeConfig:
        addresses = {n: f"127.0.0.1:{n}" for n in self.founders}  # learned when it greets
        addresses |= {n: r.node.address for n, r in self.running.items() if r.node is not None}
        addresses |= {n: gate.address for n, gate in self.gates.items()}
        own = self.gates[number].address if number in self.gates else "127.0.0.1:0"
        members = {n: address for n, address in addresses.items() if n in self.founders}
        return NodeConfig(
            number,
            {**members, number: own},
            cluster="test",
            join=number not in self.founders,
            store=store,
            listen="127.0.0.1:0" if number in self.gates else "",
            known={n: address for n, address in addresses.items() if n not in (*self.founders, number)},
            metadata={"number": str(number)},
            settings=self.settings,
            limits=self.host,
            recorder_bytes=1 << 20,
            tls=self.tls.get(number),
        )

    async def _host_node(
        self, config: NodeConfig, running: Running, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        try:
            with running.scope:
                async with self.open_node(config, running.machine) as node:
                    running.node = node
                    if config.node in self.gates:
                        self.gates[config.node].target = node.address
                    task_status.started()
                    await running.leave.wait()
        except Exception as failure:
            running.error = failure
        finally:
            running.ended.set()

    async def stop(self, number: int, *, cancelled: bool = False) -> Running:
        """Node `number` has handed over and is gone; its block was left, or was cancelled."""
        running = self.running.pop(number)
        if cancelled:
            running.scope.cancel()
        running.leave.set()
        with anyio.fail_after(PATIENCE):
            await running.ended.wait()
        return running

    # What there is.

    def __getitem__(self, number: int) -> AnyNode:
        return self.running[number].up

    async def leader(self) -> AnyNode:
        """The node that leads, once most of those that are up say so too."""
        return self[await eventually(self._agreed_leader)]

    def _agreed_leader(self) -> int:
        views = {number: running.up.status for number, running in self.running.items() if not running.ended.is_set()}
        for number, view in views.items():
            if view.role is RoleName.LEADER:
                agreed = sum(other.leader == number and other.term == view.term for other in views.values())
                return number if 2 * agreed > len(views) else 0
        return 0

    async def followers(self) -> list[AnyNode]:
        leader = await self.leader()
        return [running.up for running in self.running.values() if running.node is not leader]

    def number_of(self, node: AnyNode) -> int:
        return node.status.node

    async def write(self, command: bytes) -> bytes:
        """The command is acknowledged; proposed again, wherever there is a leader, for as long as it is not."""
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    return await (await self.leader()).propose(command, timeout=1.0)
                except RequestError:
                    continue

    async def change(self, *changes: Change) -> None:
        """The members have been changed; asked again while another change is under way."""
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await (await self.leader()).change_members(changes, timeout=5.0)
                    return
                except MembershipRefused as refusal:
                    if refusal.reason != "change_pending":
                        raise

    async def agree(self, *commands: bytes) -> None:
        """Every node that is up has applied exactly these commands, in any order."""
        wanted = sorted(commands)
        await eventually(lambda: all(sorted(r.machine.commands) == wanted for r in self.running.values()))


# Cancellation at a chosen checkpoint.


@types.coroutine
def cancelled_at(left: int, scope: anyio.CancelScope, call: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """`call`, with `scope` cancelled the moment it waits for the `left`-th time."""
    given: Any = None
    raised: BaseException | None = None
    while True:
        try:
            trap = call.send(given) if raised is None else call.throw(raised)
        except StopIteration as done:
            result: T = done.value
            return result
        left -= 1
        if left == 0:
            scope.cancel()
        given, raised = None, None
        try:
            given = yield trap
        except BaseException as failure:
            raised = failure
