"""What a write costs the event loop: a few callbacks and steps of tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import trio

import raft_anyio
import raft_trio
from raft_core.effects import RoleName
from raft_core.errors import CallerError
from raft_core.node.core import NodeCore
from raft_core.node.events import Call, NodeEffect, NodeEvent
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Job, Lane
from raft_core.requests import Propose

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


def test_write_takes_few_steps_of_trio_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each node the task that reads, which takes the turn if one peer has sent: 9.

    With a task for each connection, which wakes that of the turns, it was 16 to 22, with tasks for writing 60.
    """
    steps = 0
    for bound in ("_FAST", "_LONGEST"):  # every disk is fast
        monkeypatch.setattr(f"raft_core.node.sync_patience.{bound}", 1_000_000_000)

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
    assert steps / WRITES < 14


@pytest.mark.parametrize("package", [raft_anyio, raft_trio])
def test_input_of_one_is_handled_at_once_and_that_of_several_in_the_next_pass(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[int] = []
    handle = NodeCore.handle

    def noted(core: NodeCore, events: Sequence[NodeEvent], now: int, wall: int) -> list[NodeEffect]:
        handled.append(sum(type(event) is Call for event in events))
        return handle(core, events, now, wall)

    class Asker:
        def deliver(self, outcome: object) -> None:
            answers.append(outcome)

    answers: list[object] = []

    async def main() -> None:
        cluster = Cluster(package.open_node, tmp_path)
        async with cluster.open():
            await cluster.start_all(1)
            node: Any = await cluster.leader()
            monkeypatch.setattr(NodeCore, "handle", noted)

            def ask(times: int) -> int:
                for _ in range(times):
                    node.submit(Propose(b"x"), Asker())
                return times

            node.take(lambda: ask(1))
            assert handled.count(1) == 1
            node.take(lambda: ask(2))
            assert 2 not in handled
            await node.propose(b"last")
            assert 2 in handled or 3 in handled
            assert len(answers) == 3, "each has its outcome"

            def fail() -> int:
                ask(1)
                raise OSError("a client's connection")

            taking: list[bool] = []
            kind, wake = type(node._loop), type(node._loop).wake

            def note(loop: Any) -> None:
                taking.append(loop._taking)
                wake(loop)

            with monkeypatch.context() as patch:
                patch.setattr(kind, "wake", note)
                with pytest.raises(OSError, match="connection"):
                    node.take(fail)
            assert taking[-1] is False, "what was asked before does not wait for something else"
            with pytest.raises(CallerError):
                await anyio.to_thread.run_sync(lambda: node.take(lambda: 0))

    anyio.run(main, backend="trio" if package is raft_trio else "asyncio")


@pytest.mark.parametrize("package", [raft_anyio, raft_trio])
def test_followers_write_in_their_loop_if_they_are_told_to(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: set[str] = set()
    write = JobRunner.run

    def noted(runner: JobRunner, lane: Lane, jobs: Sequence[Job]) -> list[NodeEvent]:
        if lane is Lane.WRITE:
            here.add(threading.current_thread().name)
        return write(runner, lane, jobs)

    monkeypatch.setattr(JobRunner, "run", noted)
    for bound in ("_FAST", "_LONGEST"):  # every disk is fast
        monkeypatch.setattr(f"raft_core.node.sync_patience.{bound}", 1_000_000_000)

    async def main() -> None:
        cluster = Cluster(package.open_node, tmp_path)
        cluster.host = attrs.evolve(cluster.host, inline_sync=True)
        async with cluster.open():
            await cluster.start_all(3)
            leader = await cluster.leader()
            await written(cluster, leader)  # the threads learn that the disk is fast
            here.clear()
            await written(cluster, leader)
            assert leader.status.role is RoleName.LEADER

    anyio.run(main, backend="trio" if package is raft_trio else "asyncio")
    assert threading.current_thread().name in here
    assert len(here) == 2, "the leader's thread, and the loop"
