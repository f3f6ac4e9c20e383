"""Waiting costs no polling: a thousand who wait send nothing, and a hand-over wakes one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from raft_objects import Objects
from raft_objects.barrier_table import BarrierTable
from raft_objects.barriers import Barrier, Barriers
from raft_objects.lock_table import LockTable
from raft_objects.locks import Lock, Locks, ReadWriteLock, Semaphore
from raft_objects.map_table import MapTable
from raft_objects.maps import Map
from raft_objects.occurrences import Every
from raft_objects.queue_table import QueueTable
from raft_objects.queues import Queue
from raft_objects.running import attach
from raft_objects.schedule_table import ScheduleTable
from raft_objects.schedules import Schedule, Schedules

from .cluster import BACKENDS, run
from .test_locks import Cut
from .test_running import LossyNode

WAITERS = 150


def test_thousand_waiters_send_nothing_and_a_release_wakes_one() -> None:
    """150 each for seven recipes, on a node in memory that counts what is sent to it."""

    async def test() -> None:
        objects = Objects()
        locks = Locks(objects.add("locks", LockTable()), lease=600.0)
        barriers = Barriers(objects.add("barriers", BarrierTable()), lease=600.0)
        queue = Queue(objects.add("jobs", QueueTable[str]()))
        watched = Map(objects.add("map", MapTable[str]()))
        schedules = Schedules(objects.add("schedules", ScheduleTable()))
        node = Counting(LossyNode(objects))
        entered: list[str] = []

        async def enter(name: str, acquire: Callable[[], Awaitable[Any]]) -> None:
            await acquire()
            entered.append(name)

        async with attach(node, objects):
            lock, semaphore, shared = Lock(locks, "l"), Semaphore(locks, "s", 2), ReadWriteLock(locks, "r")
            held = [await lock.acquire(), await semaphore.acquire(2), await shared.acquire_read()]

            async def watch() -> None:
                await anext(aiter(watched.watch(after=0)))

            async def job(_: object) -> None:
                entered.append("schedule")

            async with anyio.create_task_group() as group:
                for _ in range(WAITERS):
                    group.start_soon(enter, "lock", lock.acquire)
                    group.start_soon(enter, "semaphore", semaphore.acquire)
                    group.start_soon(enter, "write", shared.acquire_write)
                    group.start_soon(enter, "barrier", Barrier(barriers, "b", WAITERS + 1).wait)
                    group.start_soon(enter, "queue", queue.take)
                    group.start_soon(enter, "map", watch)
                    group.start_soon(Schedule(schedules, "daily", Every(1e6)).run, job)
                while await quiet(node, node.sent) or node.sent < 5 * WAITERS:
                    pass
                before = node.sent
                await anyio.sleep(0.3)
                assert node.sent == before

                await lock.release(held[0])
                await quiet(node, before)
                assert entered == ["lock"]
                assert node.sent == before + 2  # the release, and the confirmation of the one who was woken

                await queue.put("job")
                await quiet(node, before + 2)
                assert entered == ["lock", "queue"]
                # The put, the take, and a take of the next in line, who learns that nothing else is there.
                assert node.sent == before + 5
                group.cancel_scope.cancel()

    run(BACKENDS[0], test)


async def quiet(node: Counting, sent: int) -> bool:
    """Let everyone run for a moment. Return whether something was sent."""
    await anyio.sleep(0.05)
    return node.sent != sent


class Counting(Cut):
    """A node that counts commands and queries."""

    def __init__(self, node: LossyNode) -> None:
        super().__init__(node)
        self.reads = 0

    @property
    def sent(self) -> int:
        return self.proposals + self.reads

    def read(self, query: bytes, *, timeout: float | None = None) -> Any:
        self.reads += 1
        return super().read(query, timeout=timeout)
