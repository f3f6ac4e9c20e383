"""Callers: how long they wait for a leader, and from which threads and event loops a node can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest
import trio

from raft_core.effects import RefusalReason, RoleName
from raft_core.errors import CallerError, Refused
from raft_core.ids import NodeId
from raft_core.membership import AddVoter, RemoveNode
from raft_core.node.limits import MILLISECOND

from .conftest import Loop
from .kit import AnyNode, Cluster, eventually

CALLS: dict[str, Callable[[AnyNode], Coroutine[Any, Any, object]]] = {
    "propose": lambda node: node.propose(b"x", timeout=5.0),
    "read": lambda node: node.read(b"x", timeout=5.0),
    "ready": lambda node: node.ready(timeout=5.0),
    "change_members": lambda node: node.change_members([RemoveNode(NodeId(9))], timeout=5.0),
    "leave_joint": lambda node: node.leave_joint(timeout=5.0),
    "transfer": lambda node: node.transfer(timeout=5.0),
    "stop": lambda node: node.stop(),
    "wait_finished": lambda node: node.wait_finished(),
    "changes": lambda node: first(node.changes()),
    "alarms": lambda node: first(node.alarms()),
}
LOOKS: dict[str, Callable[[AnyNode], object]] = {
    "status": lambda node: node.status,
    "explain": lambda node: node.explain(),
    "recording": lambda node: node.recording(),
}


async def first(stream: Any) -> object:
    return await stream.__anext__()


async def from_another_thread(function: Callable[[], object]) -> object:
    """What it gives there, or the error that it raises."""

    def call() -> object:
        try:
            return function()
        except Exception as failure:
            return failure

    with anyio.fail_after(10):
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


# Waiting for a leader.


async def test_a_request_without_a_timeout_waits_for_a_leader_for_as_long_as_it_takes(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, leader_wait=0)
    cluster.founders = (1, 2, 3)
    await cluster.start(1)
    results: list[bytes] = []

    async def propose(timeout: float | None) -> None:
        results.append(await cluster[1].propose(b"a", timeout=timeout))

    async with anyio.create_task_group() as group:
        group.start_soon(propose, None)
        group.start_soon(propose, 15.0)
        await anyio.sleep(1.2)  # what it used to wait at most
        await cluster.start(2)
        await cluster.start(3)
    assert sorted(results) == [b"1", b"2"]


async def test_a_request_without_a_leader_is_refused_when_its_own_time_is_over(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, leader_wait=0)
    cluster.founders = (1, 2, 3)
    await cluster.start(1)
    for call in (cluster[1].propose(b"a", timeout=0.05), cluster[1].read(b"a", timeout=0.05)):
        with anyio.fail_after(5), pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason == RefusalReason.DEADLINE


async def test_a_node_is_ready_when_it_can_serve_and_not_before(cluster: Cluster) -> None:
    cluster.founders = (1, 2, 3)
    await cluster.start(1)
    with pytest.raises(Refused):
        await cluster[1].ready(timeout=0.05)
    await cluster.start(2)
    await cluster.start(3)
    await cluster[1].ready(timeout=10.0)
    assert cluster[1].status.leader != 0
    await cluster.write(b"a")
    await cluster.stop(3)
    await cluster.write(b"b")
    await cluster.start(3)
    await cluster[3].ready()
    assert cluster.running[3].machine.commands == [b"a", b"b"]


async def test_a_node_that_waits_to_be_added_refuses_at_once_and_is_ready_once_it_is_a_member(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, leader_wait=0)
    await cluster.start_all(1)
    await cluster.write(b"a")
    await cluster.start(2)
    for call in (cluster[2].propose(b"b"), cluster[2].read(b"b")):
        with anyio.fail_after(5), pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason == RefusalReason.NOT_A_MEMBER
    async with anyio.create_task_group() as group:
        group.start_soon(cluster[2].ready)
        await eventually(lambda: 2 in dict(cluster[1].status.addresses))
        await cluster[1].change_members([AddVoter(NodeId(2))], timeout=10.0)
    assert cluster.running[2].machine.commands == [b"a"]


async def test_a_node_that_was_removed_refuses_at_once(cluster: Cluster) -> None:
    cluster.host = attrs.evolve(cluster.host, leader_wait=0)
    await cluster.start_all(3)
    await cluster.write(b"a")
    removed = cluster.number_of((await cluster.followers())[0])
    await cluster.change(RemoveNode(NodeId(removed)))
    await eventually(lambda: cluster[removed].status.leader == 0)
    for call in (cluster[removed].propose(b"b"), cluster[removed].read(b"b")):
        with anyio.fail_after(5), pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason == RefusalReason.REMOVED


# Threads and event loops.


async def test_a_request_made_in_another_thread_is_carried_out_in_the_nodes_own_loop(
    cluster: Cluster, loop: Loop
) -> None:
    await cluster.start_all(1)
    node = cluster[1]
    await node.ready()
    if loop.backend == "trio":
        token = trio.lowlevel.current_trio_token()
        calls: list[Callable[[], object]] = [lambda: trio.from_thread.run(node.propose, b"x", trio_token=token)]
    else:
        running = asyncio.get_running_loop()
        calls = [lambda: asyncio.run_coroutine_threadsafe(node.propose(b"x", timeout=10), running).result()]
    anyios = anyio.lowlevel.current_token()
    calls.append(lambda: anyio.from_thread.run(node.propose, b"x", token=anyios))
    calls.append(lambda: anyio.from_thread.run(node.read, b"x", token=anyios))
    assert [await from_another_thread(call) for call in calls] == [b"1", b"2", b"2"]


async def test_the_time_of_a_request_begins_when_it_is_awaited(cluster: Cluster) -> None:
    await cluster.start_all(1)
    await cluster[1].ready()
    late = cluster[1].propose(b"x", timeout=0.5)
    await anyio.sleep(0.6)
    assert await late == b"1"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_request_awaited_in_another_loop_fails_at_once_and_is_not_carried_out(
    cluster: Cluster, call: str, backend: str
) -> None:
    await cluster.start_all(1)
    node = cluster[1]
    await node.ready()
    assert isinstance(await from_another_thread(lambda: anyio.run(CALLS[call], node, backend=backend)), CallerError)
    await anyio.sleep(0.02)
    assert cluster.running[1].machine.commands == []
    assert node.status.role is RoleName.LEADER


@pytest.mark.parametrize("look", LOOKS)
async def test_a_node_is_not_looked_at_from_another_thread_while_it_lives(cluster: Cluster, look: str) -> None:
    await cluster.start_all(1)
    node = cluster[1]
    await node.ready()
    assert isinstance(await from_another_thread(lambda: LOOKS[look](node)), CallerError)
    await cluster.stop(1)
    assert not isinstance(await from_another_thread(lambda: LOOKS[look](node)), CallerError)


async def test_an_idle_node_has_one_turn_for_each_tick(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that fires for a wish that has come already would give it two."""
    from raft_core.node.driver import Driver

    cluster.host = attrs.evolve(cluster.host, tick=20 * MILLISECOND)
    await cluster.start_all(1)
    await cluster[1].ready()
    times: list[int] = []
    turn = Driver.turn

    def counted(self: Driver, connections: Any, now: int, wall: int) -> None:
        times.append(now)
        turn(self, connections, now, wall)

    monkeypatch.setattr(Driver, "turn", counted)
    await eventually(lambda: len(times) >= 20)
    passed = (times[-1] - times[0]) / (20 * MILLISECOND)
    assert len(times) <= 1.3 * passed + 2
