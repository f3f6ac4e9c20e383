"""Cancellation at every checkpoint of every public call: nothing lost, nothing done twice, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest

from raft_core.errors import RequestError
from raft_core.ids import NodeId
from raft_core.membership import AddLearner
from raft_storage.file_store import FileStore

from .kit import AnyNode, Cluster, Ledger, Valve, cancelled_at, eventually
from .test_faults import lane_threads

_MOST_CHECKPOINTS = 1000


async def _next_change(node: AnyNode) -> None:
    async for _ in node.changes():
        return


async def _next_alarm(node: AnyNode) -> None:
    async for _ in node.alarms():
        return


CALLS: dict[str, Callable[[AnyNode], Coroutine[Any, Any, object]]] = {
    "read": lambda node: node.read(b"a"),
    "transfer": lambda node: node.transfer(2),
    "leave_joint": lambda node: node.leave_joint(),
    "change_members": lambda node: node.change_members([AddLearner(NodeId(99))]),
    "changes": _next_change,
    "alarms": _next_alarm,
    "wait_finished": lambda node: node.wait_finished(),
    "stop": lambda node: node.stop(),
}
ENDLESS = {"alarms", "wait_finished"}
"""Calls that wait for what does not come in this test: each of their checkpoints is cancelled but never passed."""


async def _cancel_everywhere(call: Callable[[int], Coroutine[Any, Any, object]], *, endless: bool = False) -> int:
    """How many checkpoints the call has; it was cancelled at each, one after the other, and then let through."""
    for checkpoint in range(1, _MOST_CHECKPOINTS):
        with anyio.move_on_after(0.05 if endless else 20) as bound:
            with anyio.CancelScope() as scope, suppress(RequestError):
                await cancelled_at(checkpoint, scope, call(checkpoint))
        assert endless or not bound.cancelled_caught
        if not scope.cancel_called:
            return checkpoint - 1
    raise AssertionError("no call has so many checkpoints")


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_cancelled_anywhere_leaves_nobody_waiting(cluster: Cluster, name: str) -> None:
    await cluster.start_all(1)
    await cluster.write(b"a")
    node = cluster[1]
    checkpoints = await _cancel_everywhere(lambda _: CALLS[name](node), endless=name in ENDLESS)
    assert checkpoints > 0
    await eventually(lambda: node.status.waiting_clients == 0)
    if name != "stop":
        await cluster.write(b"b")
        assert cluster.running[1].machine.commands == [b"a", b"b"]


async def test_a_proposal_that_is_cancelled_anywhere_is_applied_once_or_never(cluster: Cluster) -> None:
    await cluster.start_all(3)
    await cluster.write(b"a")
    acknowledged: list[bytes] = [b"a"]

    async def propose(checkpoint: int) -> None:
        command = b"%d" % checkpoint
        await (await cluster.leader()).propose(command)
        acknowledged.append(command)

    assert await _cancel_everywhere(propose) > 0
    await cluster.write(b"last")
    machines = [running.machine for running in cluster.running.values()]
    await eventually(lambda: all(machine.commands[-1:] == [b"last"] for machine in machines))
    for running in cluster.running.values():
        commands = running.machine.commands
        assert set(acknowledged) <= set(commands)
        assert len(set(commands)) == len(commands)
        assert running.up.status.waiting_clients == 0


async def test_the_host_forgets_a_caller_who_gives_up_waiting_for_a_hung_disk(cluster: Cluster) -> None:
    cluster.settings = attrs.evolve(cluster.settings, stall_ticks=0)
    await cluster.start_all(1)
    await cluster.write(b"a")
    running = cluster.running[1]
    running.valve.open.clear()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(running.up.propose, b"b")
        await eventually(lambda: running.up.status.waiting_clients == 10)
        group.cancel_scope.cancel()
    await eventually(lambda: running.up.status.waiting_clients == 0)
    running.valve.open.set()
    await cluster.write(b"c")
    assert running.machine.commands == [b"a", *[b"b"] * 10, b"c"]


async def test_a_node_whose_block_is_cancelled_anywhere_closes_its_disk_and_ends_its_threads(cluster: Cluster) -> None:
    cluster.founders = (1,)
    valves: list[Valve] = []

    async def live_and_die(_: int) -> None:
        store = FileStore.open(cluster.directory / "1", node=1, cluster="test", segment_bytes=1 << 14)
        valves.append(Valve(store))
        async with cluster.open_node(cluster.config(1, valves[-1]), Ledger()) as node:
            await node.propose(b"a")

    checkpoints = await _cancel_everywhere(live_and_die)
    assert checkpoints > 5
    assert all(valve.closed for valve in valves)
    assert not lane_threads()
