"""Locks and elections: one owner, rising tokens, fairness, loss of the lease."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from raft_core.errors import Refused
from raft_objects import Objects
from raft_objects.lease_table import LeaseEnded
from raft_objects.lock_table import LockTable
from raft_objects.locks import Election, Held, LockLost, Locks
from raft_objects.queue_table import QueueTable
from raft_objects.queues import Queue
from raft_objects.running import NodeLike, attach

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver
from .test_running import LossyNode

SECOND = 1_000_000_000


def table() -> tuple[LockTable, Driver]:
    made = LockTable()
    driver = Driver(Objects({"locks": made}, development=True))
    for client in ("a", "b", "c"):
        driver.do(made.open_client, client, 10 * SECOND)
    return made, driver


# The table.


def test_lock_has_one_owner_and_passes_in_order_with_rising_tokens() -> None:
    locks, driver = table()
    assert driver.do(locks.acquire, "l", "a", "a1", True) == 1
    assert driver.do(locks.acquire, "l", "b", "b1", True) == 0
    assert driver.do(locks.acquire, "l", "c", "c1", True) == 0
    assert driver.do(locks.acquire, "l", "a", "a1", True) == 1

    assert driver.do(locks.release, "l", "a1")
    assert driver.do(locks.acquire, "l", "c", "c1", True) == 0
    assert driver.do(locks.acquire, "l", "b", "b1", True) == 2
    assert driver.do(locks.release, "l", "b1")
    assert driver.ask(locks.token, "l") == 3


def test_lock_of_ended_lease_passes_to_the_first_who_lives() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "l", "a", "a1", True)
    driver.do(locks.acquire, "l", "b", "b1", True)
    driver.time += 9 * SECOND
    driver.do(locks.acquire, "l", "c", "c1", True)
    driver.time += SECOND

    assert driver.do(locks.acquire, "l", "c", "c1", True) == 2
    with pytest.raises(LeaseEnded):
        driver.do(locks.renew, "a")
    with pytest.raises(LeaseEnded):
        driver.do(locks.acquire, "l", "b", "b1", True)


def test_renewed_lease_keeps_the_lock() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "l", "a", "a1", True)
    for _ in range(5):
        driver.time += 8 * SECOND
        driver.do(locks.renew, "a")

    assert driver.ask(locks.token, "l") == 1


def test_place_in_line_can_be_given_up() -> None:
    locks, driver = table()
    for owner in "abc":
        driver.do(locks.acquire, "l", owner, owner, True)
    assert not driver.do(locks.release, "l", "b")
    driver.do(locks.release, "l", "a")

    assert driver.do(locks.acquire, "l", "c", "c", True) == 2


def test_client_that_leaves_frees_everything() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "l", "a", "a1", True)
    driver.do(locks.acquire, "m", "a", "a2", True)
    driver.do(locks.close_client, "a")

    assert locks.locks == {}


# In a cluster.


@backends
def test_contended_lock_is_held_by_one_at_a_time(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, LockTable) as members:
            inside: list[int] = []
            tokens: list[int] = []

            async def work(locks: Locks) -> None:
                for _ in range(3):
                    async with locks.hold("l") as held:
                        assert not inside
                        inside.append(held.token)
                        tokens.append(held.token)
                        await anyio.sleep(0.005)
                        inside.clear()

            async with anyio.create_task_group() as group:
                for member in members:
                    locks = Locks(member.object, lease=5.0)
                    group.start_soon(work, locks)
                    group.start_soon(work, locks)
            assert tokens == sorted(tokens)
            assert len(set(tokens)) == 18

    run(backend, test)


def test_lock_that_is_taken_is_not_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable) as members:
            first, second = Locks(members[0].object), Locks(members[1].object)
            async with first.hold("l"):
                assert await second.try_acquire("l") is None
                with pytest.raises(TimeoutError):
                    await second.acquire("l", timeout=0.05)
            held = await second.try_acquire("l")
            assert held is not None
            await second.release(held)

    run(BACKENDS[0], test)


def test_lock_that_was_given_back_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1) as members:
            locks = Locks(members[0].object)
            held = await locks.acquire("l")
            held.check()
            await locks.release(held)
            assert held.lost.is_set()
            with pytest.raises(LockLost):
                held.check()
            async with Election(locks, "e").campaign() as leading:
                pass
            with pytest.raises(LockLost):
                leading.check()
            assert members[0].object.locks == {}

    run(BACKENDS[0], test)


def test_waiters_send_nothing_while_they_wait(tmp_path: Path) -> None:
    async def test() -> None:
        counts: list[Cut] = []

        def wrap(node: NodeLike) -> NodeLike:
            counts.append(Cut(node))
            return counts[-1]

        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1, wrap=wrap) as members:
            locks = Locks(members[0].object, lease=60.0)
            async with anyio.create_task_group() as group, locks.hold("l"):
                for _ in range(300):
                    group.start_soon(locks.acquire, "l")
                while len(members[0].object.locks["l"].waiting) < 300:
                    await anyio.sleep(0.01)
                await anyio.sleep(0.05)
                before = counts[0].proposals
                await anyio.sleep(0.3)
                assert counts[0].proposals == before
                group.cancel_scope.cancel()

    run(BACKENDS[0], test)


class Cut:
    """A node whose line to the cluster can be cut."""

    def __init__(self, node: NodeLike) -> None:
        self.node = node
        self.cut = False
        self.proposals = 0

    @property
    def cluster_time(self) -> int:
        return self.node.cluster_time

    def propose(self, command: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        return self._propose(command, timeout)

    async def _propose(self, command: bytes, timeout: float | None) -> bytes:
        self.proposals += 1
        if self.cut:
            await anyio.sleep(0.01)
            raise Refused("no_leader")
        return await self.node.propose(command, timeout=timeout)

    def read(self, query: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        return self.node.read(query, timeout=timeout)


@backends
def test_lost_lease_is_told_before_another_owns_the_lock(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        cuts: list[Cut] = []

        def wrap(node: NodeLike) -> NodeLike:
            cuts.append(Cut(node))
            return cuts[-1]

        async with cluster(backend, tmp_path, LockTable, wrap=wrap) as members:
            first, second = Locks(members[0].object, lease=1.5), Locks(members[1].object, lease=1.5)
            held: Held = await first.acquire("l")
            taken: list[Held] = []

            async def follow() -> None:
                taken.append(await second.acquire("l"))

            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await anyio.sleep(0.6)
                assert not taken
                assert not held.lost.is_set()
                cuts[0].cut = True
                await held.lost.wait()
                assert not taken
                with pytest.raises(LockLost):
                    held.check()
            assert taken[0].token > held.token
            await second.release(taken[0])

    run(backend, test)


@backends
def test_leader_is_cancelled_when_its_lease_is_lost_and_another_follows(
    backend: tuple[str, str], tmp_path: Path
) -> None:
    async def test() -> None:
        cuts: list[Cut] = []

        def wrap(node: NodeLike) -> NodeLike:
            cuts.append(Cut(node))
            return cuts[-1]

        async with cluster(backend, tmp_path, LockTable, wrap=wrap) as members:
            leading: list[tuple[int, int]] = []
            log: list[str] = []

            async def stand(number: int) -> None:
                async def lead(token: int) -> str:
                    assert not leading
                    leading.append((number, token))
                    try:
                        if len(log) == 2:
                            return "done"
                        log.append(f"led {token}")
                        if len(log) == 1:
                            cuts[number].cut = True
                        else:
                            return "done"
                        await anyio.sleep_forever()
                        raise AssertionError
                    finally:
                        leading.clear()

                locks = Locks(members[number].object, lease=1.5)
                assert await Election(locks, "scheduler").run_while_leader(lead) == "done"

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(stand, number)
                while len(log) < 2:
                    await anyio.sleep(0.02)
                for cut in cuts:
                    cut.cut = False

    run(backend, test)


@pytest.mark.parametrize("reason", ["removed", "stopping", "node_failed", "too_large"])
def test_refusal_that_will_not_pass_ends_the_waiting(reason: str) -> None:
    class Ended(Cut):
        async def _propose(self, command: bytes, timeout: float | None) -> bytes:
            await anyio.lowlevel.checkpoint()
            raise Refused(reason)

    async def test() -> None:
        objects = Objects({"locks": (locks := LockTable()), "jobs": (jobs := QueueTable[str]())})
        node = Ended(LossyNode(objects))
        async with attach(node, objects):
            with pytest.raises(Refused):
                await Locks(locks).acquire("l")
            with pytest.raises(Refused):
                await Queue(jobs).take()

    run(BACKENDS[0], test, seconds=10.0)


def test_error_of_what_runs_under_a_lock_leaves_unchanged(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1) as members:
            locks = Locks(members[0].object)

            async def fail(number: int) -> int:
                return 1 // number

            with pytest.raises(ZeroDivisionError):
                await locks.run_holding("l", fail, 0)
            assert await locks.run_holding("l", fail, 1) == 1
            assert members[0].object.locks == {}

    run(BACKENDS[0], test)
