"""What a write costs the event loop: a few callbacks and steps of tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import trio

import raft_anyio
import raft_trio

from .kit import AnyNode, Cluster

WRITES = 100


async def written(cluster: Cluster, leader: AnyNode) -> None:
    for number in range(WRITES):
        await leader.propose(b"%d" % number)


def test_write_takes_few_callbacks_of_asyncio(tmp_path: Path) -> None:
    """Two turns of each node, the caller and heartbeats: 13. With tasks for reading, writing and the loop it was 66."""
    calls = 0

    async def main() -> None:
        nonlocal calls
        cluster = Cluster(raft_anyio.open_node, tmp_path)
        async with cluster.open():
            await cluster.start_all(3)
            leader = await cluster.leader()
            await leader.propose(b"first")
            loop: Any = asyncio.get_running_loop()
            call_soon = loop.call_soon

            def counted(*given: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                return call_soon(*given, **named)

            loop.call_soon = counted
            await written(cluster, leader)
            del loop.call_soon

    anyio.run(main, backend="asyncio")
    assert calls / WRITES < 30


def test_write_takes_few_steps_of_trio_tasks(tmp_path: Path) -> None:
    """Of each node the reading tasks and the loop: 22. With tasks for writing as well it was 60."""
    steps = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async def main() -> None:
        cluster = Cluster(raft_trio.open_node, tmp_path)
        async with cluster.open():
            await cluster.start_all(3)
            leader = await cluster.leader()
            await leader.propose(b"first")
            instrument = Count()
            trio.lowlevel.add_instrument(instrument)
            await written(cluster, leader)
            trio.lowlevel.remove_instrument(instrument)

    anyio.run(main, backend="trio")
    assert steps / WRITES < 35
