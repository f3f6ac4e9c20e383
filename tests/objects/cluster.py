"""A cluster of nodes with replicated objects in one event loop, on real sockets and files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio
import attrs
import pytest

import raft_anyio
import raft_trio
from raft_core.node.config import NodeConfig
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.settings import Settings
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects, Replicated
from raft_objects.running import NodeLike, Running, attach

T = TypeVar("T", bound=Replicated)
BACKENDS: Final = (("raft_anyio", "asyncio"), ("raft_anyio", "trio"), ("raft_trio", "trio"))
SETTINGS: Final = Settings(election_ticks=30, heartbeat_ticks=3)
LIMITS: Final = NodeLimits(
    tick=5 * MILLISECOND, dial_delay=5 * MILLISECOND, dial_delay_max=50 * MILLISECOND, stop_timeout=SECOND
)


@attrs.define(eq=False)
class Member(Generic[T]):
    """One node: its object, what runs it, and how to end it."""

    object: T
    running: Running
    leave: anyio.Event = attrs.field(factory=anyio.Event)
    ended: anyio.Event = attrs.field(factory=anyio.Event)


def run(backend: tuple[str, str], test: Callable[[], Awaitable[None]], *, seconds: float = 40.0) -> None:
    """Run a test on a backend, bounded in time."""

    async def bounded() -> None:
        with anyio.fail_after(seconds):
            await test()

    anyio.run(bounded, backend=backend[1])


def config(number: int, ports: list[int], directory: Path) -> NodeConfig:
    """Return the configuration of node `number`, one of as many as there are ports."""
    members = {n + 1: f"127.0.0.1:{port}" for n, port in enumerate(ports)}
    data = directory / str(number)
    return NodeConfig(number, members, cluster="objects", data=data, settings=SETTINGS, limits=LIMITS)


@asynccontextmanager
async def cluster(
    backend: tuple[str, str],
    directory: Path,
    make: Callable[[], T],
    *,
    count: int = 3,
    wrap: Callable[[NodeLike], NodeLike] = lambda node: node,
) -> AsyncIterator[list[Member[T]]]:
    """Open `count` nodes, each with an object of its own called "it"."""
    ports = free_ports(count)
    members: list[Member[T]] = []

    async def one(number: int, *, task_status: anyio.abc.TaskStatus[Member[T]]) -> None:
        it = make()
        objects = Objects({"it": it})
        async with AsyncExitStack() as stack:
            node: NodeLike
            if backend[0] == "raft_trio":
                node = await stack.enter_async_context(
                    raft_trio.open_node(config(number, ports, directory), objects.machine)
                )
            else:
                node = await stack.enter_async_context(
                    raft_anyio.open_node(config(number, ports, directory), objects.machine)
                )
            running = await stack.enter_async_context(attach(wrap(node), objects))
            member = Member(it, running)
            task_status.started(member)
            await member.leave.wait()
        member.ended.set()

    async with anyio.create_task_group() as group:
        for number in range(1, count + 1):
            members.append(await group.start(one, number))
        yield members
        for member in members:
            member.leave.set()


backends = pytest.mark.parametrize("backend", BACKENDS, ids=["-".join(backend) for backend in BACKENDS])
