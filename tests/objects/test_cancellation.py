"""Calls that are cancelled in their middle, in outages, and at the end of the node: nothing stays held or unseen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from raft_core.errors import CallerError, OutcomeUnknown, Refused
from raft_objects import Objects, Replicated
from raft_objects.barrier_table import BarrierTable
from raft_objects.barriers import Barriers
from raft_objects.leases import LockLost
from raft_objects.lock_table import LockTable
from raft_objects.locks import Election, Locks, Semaphore
from raft_objects.map_table import MapTable
from raft_objects.maps import Map
from raft_objects.occurrences import Every
from raft_objects.queue_table import QueueTable
from raft_objects.queues import Queue
from raft_objects.running import Running, attach
from raft_objects.schedule_table import Run, ScheduleTable
from raft_objects.schedules import Schedules

from .cluster import BACKENDS, run
from .samples import Bank
from .test_running import LossyNode

LOOPS: Final = [BACKENDS[0], BACKENDS[1]]
loops = pytest.mark.parametrize("backend", LOOPS, ids=["asyncio", "trio"])


class Gate(LossyNode):
    """A node in memory, in real time. `cut`: it refuses. `mute`: it applies, and answers only once that is over."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.cut = False
        self.muted: anyio.Event | None = None
        self.proposed = 0

    @property
    def cluster_time(self) -> int:
        return time.monotonic_ns()

    def apply(self, command: bytes) -> bytes:
        self.time = self.cluster_time
        return super().apply(command)

    def mute(self) -> None:
        self.muted = anyio.Event()

    def speak(self) -> None:
        assert self.muted is not None
        self.muted.set()
        self.muted = None

    def propose(self, command: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        return self._gated(command, timeout)

    async def _gated(self, command: bytes, timeout: float | None) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self.cut:
            raise Refused("no_leader")
        self.proposed += 1
        reply = self.apply(command)
        if self.muted is not None:
            muted = self.muted
            with anyio.move_on_after(timeout):
                await muted.wait()
            if not muted.is_set():
                raise OutcomeUnknown("deadline")
        return reply


@asynccontextmanager
async def opened(**parts: Replicated) -> AsyncIterator[tuple[Gate, Running]]:
    objects = Objects(parts)
    node = Gate(objects)
    async with attach(node, objects) as running:
        yield node, running


async def until(true: Callable[[], object]) -> None:
    while not true():
        await anyio.sleep(0.005)


# Places.


@loops
def test_place_given_up_in_an_outage_is_free_although_the_lease_lives_on(
    backend: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_objects.leases._RELEASE_TIMEOUT", 0.05)

    async def test() -> None:
        async with opened(locks=(table := LockTable())) as (node, _):
            locks = Locks(table, lease=30.0)
            async with locks.hold("other") as other:
                held = await locks.acquire("l")
                node.cut = True
                await locks.release(held)
                assert "l" in table.locks
                node.cut = False
                await until(lambda: "l" not in table.locks)
                other.check()

    run(backend, test, seconds=10.0)


@loops
def test_run_that_ended_in_an_outage_is_known_to_have_ended(
    backend: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_objects.leases._RELEASE_TIMEOUT", 0.05)

    async def test() -> None:
        async with opened(schedules=(table := ScheduleTable())) as (node, running):
            schedules = Schedules(table, lease=30.0)

            async def cut(run: Run) -> None:
                node.cut = True

            running.tasks.start_soon(schedules.run, "job", Every(0.5), cut)
            await until(lambda: node.cut)
            await anyio.sleep(0.2)
            assert table.jobs["job"].running
            node.cut = False
            await until(lambda: not table.jobs["job"].running)
            assert not table.jobs["job"].again

    run(backend, test, seconds=10.0)


@loops
@pytest.mark.parametrize("what", ["acquire", "try_acquire", "semaphore", "barrier"])
def test_acquire_cancelled_after_it_was_applied_leaves_nothing(backend: tuple[str, str], what: str) -> None:
    async def test() -> None:
        async with opened(locks=(table := LockTable()), barriers=(meeting := BarrierTable())) as (node, _):
            locks, barriers = Locks(table, lease=30.0), Barriers(meeting, lease=30.0)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "acquire": lambda: locks.acquire("l"),
                "try_acquire": lambda: locks.try_acquire("l"),
                "semaphore": lambda: Semaphore(locks, "l", 3).acquire(2),
                "barrier": lambda: barriers.wait("l", 2),
            }
            async with locks.hold("other"):
                await (await_lease(barriers) if what == "barrier" else anyio.sleep(0))
                node.mute()
                with anyio.move_on_after(0.05) as scope:
                    await asyncio_or_trio(calls[what], node)
                assert scope.cancelled_caught
                await until(lambda: "l" not in table.locks and "l" not in meeting.barriers)

    async def await_lease(barriers: Barriers) -> None:
        await barriers.wait("first", 1)

    async def asyncio_or_trio(call: Callable[[], Awaitable[object]], node: Gate) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(speak_later, node)
            await call()

    async def speak_later(node: Gate) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            node.speak()

    run(backend, test, seconds=10.0)


def test_second_cancellation_of_asyncio_leaves_no_lock_held() -> None:
    async def test() -> None:
        async with opened(locks=(table := LockTable())) as (node, _):
            locks = Locks(table, lease=30.0)
            async with locks.hold("other"):
                node.mute()
                task = asyncio.get_running_loop().create_task(locks.acquire("l"))
                await until(lambda: "l" in table.locks)
                for _ in range(3):  # as a server does that is told twice to end
                    task.cancel()
                    await asyncio.sleep(0)
                with pytest.raises(asyncio.CancelledError):
                    await task
                node.speak()
                await until(lambda: "l" not in table.locks)

    run(BACKENDS[0], test, seconds=10.0)


@loops
def test_waiting_goes_on_through_an_outage_that_began_before_it(
    backend: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command gives up after its deadline; here after a moment, so that the outage is longer."""
    monkeypatch.setattr("raft_objects.declare.DEFAULT_TIMEOUT", 0.1)
    monkeypatch.setattr("raft_objects.declare.BoundCommand.__init__.__defaults__", (0.1,))

    async def test() -> None:
        async with opened(locks=(table := LockTable()), schedules=(jobs := ScheduleTable())) as (node, running):
            node.cut = True
            got: list[str] = []

            async def lock() -> None:
                await Locks(table, lease=30.0).acquire("l")
                got.append("lock")

            async def ran(run: Run) -> None:
                got.append("schedule")

            async with anyio.create_task_group() as group:
                group.start_soon(lock)
                running.tasks.start_soon(Schedules(jobs).run, "job", Every(0.2), ran)
                await anyio.sleep(0.5)
                assert not got
                node.cut = False
                await until(lambda: {"lock", "schedule"} <= {*got})

    run(backend, test, seconds=10.0)


@loops
def test_held_lock_that_is_checked_after_a_blocked_loop_is_known_to_be_lost(backend: tuple[str, str]) -> None:
    async def test() -> None:
        async with opened(locks=(table := LockTable())):
            locks = Locks(table, lease=0.2)
            held = await locks.acquire("l")
            time.sleep(0.19)
            assert not held.lost.is_set()
            with pytest.raises(LockLost):
                held.check()
            with pytest.raises(LockLost):
                await anyio.to_thread.run_sync(held.check)

    run(backend, test, seconds=10.0)


@loops
def test_loss_of_another_lock_is_not_that_of_the_leadership(backend: tuple[str, str]) -> None:
    async def test() -> None:
        async with opened(locks=(table := LockTable()), schedules=(jobs := ScheduleTable())):
            calls: list[object] = []

            async def lead(token: object) -> None:
                calls.append(token)
                raise LockLost("another")

            with pytest.raises(LockLost):
                await Election(Locks(table), "e").run_while_leader(lead)
            with pytest.raises(LockLost):
                await Schedules(jobs).run("job", Every(0.1), lead)
            assert len(calls) == 2

    run(backend, test, seconds=10.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan"), 1e300])
def test_impossible_lease_is_refused_at_once(seconds: float) -> None:
    with pytest.raises(CallerError):
        Locks(LockTable(), lease=seconds)


# Messages.


@loops
def test_message_of_a_cancelled_take_comes_back_at_once(backend: tuple[str, str]) -> None:
    async def test() -> None:
        async with opened(jobs=(table := QueueTable[str]())) as (node, _):
            queue = Queue(table)
            await queue.put("a")
            node.mute()
            with pytest.raises(TimeoutError):
                await queue.take(visibility=1e6, timeout=0.05)
            assert table.size.here() == (0, 1, 0)
            node.speak()
            message = await queue.take(timeout=5.0)
            assert (message.item, message.delivery) == ("a", 2)

    run(backend, test, seconds=10.0)


@loops
def test_message_is_delivered_although_the_one_who_was_woken_for_it_left(backend: tuple[str, str]) -> None:
    async def test() -> None:
        async with opened(jobs=(table := QueueTable[str]())) as (node, _):
            queue, got = Queue(table), list[str]()

            async def work() -> None:
                got.append((await queue.take()).item)

            async with anyio.create_task_group() as group:
                first = anyio.CancelScope()

                async def first_in_line() -> None:
                    with first:
                        await queue.take()

                group.start_soon(first_in_line)
                await until(lambda: node.proposed >= 2)
                group.start_soon(work)
                await until(lambda: node.proposed >= 3)
                node.cut = True
                node.apply(plain_put(table, "a"))  # through another node
                await anyio.sleep(0.02)  # the first is woken, and cannot reach the cluster
                first.cancel()
                await anyio.sleep(0.02)
                node.cut = False
                await until(lambda: got == ["a"])

    run(backend, test, seconds=10.0)


@loops
def test_message_of_a_dead_worker_is_delivered_although_the_one_who_knew_when_it_is_due_left(
    backend: tuple[str, str],
) -> None:
    async def test() -> None:
        async with opened(jobs=(table := QueueTable[str]())):
            queue, got = Queue(table), list[str]()

            async def work() -> None:
                got.append((await queue.take()).item)

            async def impatient() -> None:
                with pytest.raises(TimeoutError):
                    await queue.take(timeout=0.15)

            async with anyio.create_task_group() as group:
                group.start_soon(impatient)
                await anyio.sleep(0.03)
                group.start_soon(work)
                await anyio.sleep(0.03)
                apply = attached_node(table).apply
                apply(plain_put(table, "a", delay=0.3))  # wakes the first in line only, who learns when it is due
                await until(lambda: got == ["a"])

    run(backend, test, seconds=3.0)


def plain_put(table: QueueTable[str], item: str, **named: Any) -> bytes:
    """Return a put as another process sends it."""
    from raft_core.sessions import encode_plain

    objects = attached_node(table).objects
    put: Any = QueueTable.put
    return encode_plain(objects.encode_call("jobs", put, put.arguments(item, **named)))


def attached_node(table: Replicated) -> Any:
    site = table._binding.site
    assert isinstance(site, Running)
    node: Any = site.node
    node.objects = site.objects
    return node


@loops
def test_error_of_the_work_leaves_unchanged_although_the_message_cannot_be_given_back(backend: tuple[str, str]) -> None:
    async def test() -> None:
        async with opened(jobs=(table := QueueTable[str]())) as (node, _):
            queue = Queue(table)
            await queue.put("a")

            async def work() -> None:
                async with queue.taking():
                    node.propose = refuse  # type: ignore[method-assign]
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await work()

    async def refuse(command: bytes, *, timeout: float | None = None) -> bytes:
        raise Refused("node_failed")

    run(backend, test, seconds=10.0)


# The end.


@loops
def test_who_waits_in_another_task_is_refused_at_the_end_of_the_node(backend: tuple[str, str]) -> None:
    async def test() -> None:
        parts: dict[str, Any] = {
            "locks": (locks := LockTable()),
            "jobs": (jobs := QueueTable[str]()),
            "map": (settings := MapTable[str]()),
        }
        refused: list[str] = []
        ready = anyio.Event()

        async def waits(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(Refused):
                await call()
            refused.append(name)

        async def serve() -> None:
            async with opened(**parts):
                ready.set()
                mine = Locks(locks)
                await mine.acquire("l")
                group.start_soon(waits, "lock", lambda: mine.acquire("l"))
                group.start_soon(waits, "queue", Queue(jobs).take)
                watch = Map(settings).watch(after=0)
                group.start_soon(waits, "watch", watch.__anext__)
                await anyio.sleep(0.1)
                assert not refused
            with pytest.raises(Refused):
                await watch.__anext__()

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
        assert sorted(refused) == ["lock", "queue", "watch"]

    run(backend, test, seconds=10.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_is_told_that_the_node_lives_in_the_parent() -> None:
    async def test() -> None:
        async with opened(bank=(bank := Bank())):
            await bank.deposit("ada", 5)
            child = os.fork()
            if child == 0:
                told = 1
                try:
                    bank.balance.here("ada")
                except CallerError:
                    told = 0
                finally:
                    os._exit(told)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert bank.balance.here("ada") == 5

    run(BACKENDS[0], test, seconds=10.0)
