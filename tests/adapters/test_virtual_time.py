"""Time on trio's virtual clock: nothing happens while it stands, and everything is on time when it moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import raft_anyio
import raft_trio
from raft_core.effects import RoleName
from raft_core.errors import OutcomeUnknown
from raft_core.ids import Incarnation, NodeId
from raft_core.membership import Members
from raft_core.node.limits import MILLISECOND
from raft_storage.file_store import FileStore

from .kit import AnyNode, Cluster, Ledger, OpenNode, Valve

TICK = 0.01


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, while virtual time stands: disks and their threads are real."""
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        await trio.lowlevel.checkpoint()


async def settled() -> None:
    """Let the node do all that it can do at this moment of virtual time, its disk apart."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


def own_term_applied(node: AnyNode) -> bool:
    """Return whether the leader's machine has applied the first entry of its term, and so all earlier ones."""
    core = node.status.core
    return core is not None and core.applied == core.last_index


def run(
    test: Callable[[AnyNode, Valve, MockClock], Coroutine[Any, Any, None]],
    open_node: OpenNode,
    directory: Path,
    founders: tuple[int, ...] = (1,),
) -> None:
    """Run the test with the first node of a cluster on a clock that stands still."""
    cluster = Cluster(open_node, directory)
    cluster.founders = founders
    cluster.settings = attrs.evolve(cluster.settings, stall_ticks=0)
    cluster.host = attrs.evolve(cluster.host, tick=10 * MILLISECOND)
    clock = MockClock()

    async def main() -> None:
        if len(founders) > 1:  # the others are never up: the cluster was founded before
            store = FileStore.open(directory / "1", node=1, cluster="test", segment_bytes=1 << 14)
            store.recover()
            disks = {NodeId(node): Incarnation(node) for node in founders} | {NodeId(1): store.identity.incarnation}
            store.form(Members.initial(founders, incarnations=disks))
            store.close()
        valve = Valve(FileStore.open(directory / "1", node=1, cluster="test", segment_bytes=1 << 14))
        async with open_node(cluster.config(1, valve), Ledger(), seed=1) as node:
            try:
                await test(node, valve, clock)
            finally:
                valve.open.set()
                clock.rate = 1.0

    trio.run(main, clock=clock)


@pytest.fixture(params=[raft_trio.open_node, raft_anyio.open_node], ids=["raft_trio", "raft_anyio"])
def open_node(request: pytest.FixtureRequest) -> OpenNode:
    chosen: OpenNode = request.param
    return chosen


def test_a_node_stands_for_election_after_its_timeout_and_not_before(open_node: OpenNode, tmp_path: Path) -> None:
    async def stands(node: AnyNode, valve: Valve, clock: MockClock) -> None:
        ticks = 0
        await until(lambda: node.status.core)
        while node.status.role is RoleName.FOLLOWER:
            ticks += 1
            clock.jump(TICK)
            await settled()
        assert 40 <= ticks <= 81

    run(stands, open_node, tmp_path, founders=(1, 2))


def test_a_node_that_is_alone_leads_while_time_stands(open_node: OpenNode, tmp_path: Path) -> None:
    async def leads(node: AnyNode, valve: Valve, clock: MockClock) -> None:
        await until(lambda: node.status.role is RoleName.LEADER)
        assert clock.current_time() < TICK

    run(leads, open_node, tmp_path)


def test_time_goes_on_when_the_timer_and_something_else_come_at_once(open_node: OpenNode, tmp_path: Path) -> None:
    async def goes_on(node: AnyNode, valve: Valve, clock: MockClock) -> None:
        await until(lambda: node.status.core)
        await until(lambda: node.status.role is RoleName.LEADER)
        await until(lambda: own_term_applied(node))  # by a thread; before, commands wait and would be refused
        valve.open.clear()
        given_up = 0

        async def propose() -> None:
            nonlocal given_up
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"a", timeout=3.5 * TICK)
            given_up += 1

        async def tick() -> None:
            clock.jump(TICK)

        async with trio.open_nursery() as nursery:
            for turn in range(1, 31):
                nursery.start_soon(propose)
                nursery.start_soon(tick)  # in the same round of the event loop
                await settled()
                for _ in range(20):
                    if given_up < turn:
                        clock.jump(TICK)
                        await settled()
                assert given_up == turn
        valve.open.set()

    run(goes_on, open_node, tmp_path)
