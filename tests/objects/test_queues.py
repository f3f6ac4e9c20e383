"""Queues: nothing is lost, nothing acknowledged comes again, late workers cannot acknowledge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import attrs
import pytest

from raft_objects import Objects
from raft_objects.queue_table import Empty, Message, QueueTable
from raft_objects.queues import DeliveryEnded, Queue

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver

SECOND = 1_000_000_000


@attrs.frozen
class Job:
    name: str


def table(*, attempts: int = 2) -> tuple[QueueTable[Job], Driver]:
    objects = Objects(development=True)
    made = objects.add("jobs", QueueTable[Job](attempts=attempts))
    return made, Driver(objects)


def test_messages_come_in_order_and_are_gone_once_acknowledged() -> None:
    jobs, driver = table()
    for name in "ab":
        driver.do(jobs.put, Job(name))
    first = driver.do(jobs.take, 5.0)
    second = driver.do(jobs.take, 5.0)

    assert (first.item, second.item) == (Job("a"), Job("b"))
    assert isinstance(driver.do(jobs.take, 5.0), Empty)
    assert driver.do(jobs.acknowledge, first.number, first.receipt)
    assert not driver.do(jobs.acknowledge, first.number, first.receipt)
    driver.time += 6 * SECOND
    again = driver.do(jobs.take, 5.0)
    assert (again.item, again.delivery) == (Job("b"), 2)


def test_late_worker_cannot_acknowledge_what_another_has() -> None:
    jobs, driver = table()
    driver.do(jobs.put, Job("a"))
    late = driver.do(jobs.take, 5.0)
    driver.time += 5 * SECOND
    now = driver.do(jobs.take, 5.0)

    assert not driver.do(jobs.acknowledge, late.number, late.receipt)
    assert driver.do(jobs.acknowledge, now.number, now.receipt)


def test_message_is_a_dead_letter_after_its_attempts() -> None:
    jobs, driver = table(attempts=2)
    driver.do(jobs.put, Job("a"))
    for _ in range(2):
        assert driver.do(jobs.take, 5.0)
        driver.time += 5 * SECOND

    assert isinstance(driver.do(jobs.take, 5.0), Empty)
    assert driver.ask(jobs.dead_letters) == [(1, Job("a"))]
    assert driver.ask(jobs.size) == (0, 0, 1)
    assert driver.do(jobs.revive, 1)
    assert driver.do(jobs.take, 5.0).delivery == 1


def test_extended_delivery_stays_hidden() -> None:
    jobs, driver = table()
    driver.do(jobs.put, Job("a"))
    taken = driver.do(jobs.take, 5.0)
    driver.time += 4 * SECOND
    assert driver.do(jobs.extend, taken.number, taken.receipt, 5.0)
    driver.time += 4 * SECOND
    assert isinstance(driver.do(jobs.take, 5.0), Empty)
    driver.time += 2 * SECOND
    assert driver.do(jobs.take, 5.0).delivery == 2
    assert not driver.do(jobs.extend, taken.number, taken.receipt, 5.0)


def test_given_back_message_is_first_again_or_waits() -> None:
    jobs, driver = table(attempts=0)
    for name in "ab":
        driver.do(jobs.put, Job(name))
    taken = driver.do(jobs.take, 5.0)
    assert driver.do(jobs.give_back, taken.number, taken.receipt)
    taken = driver.do(jobs.take, 5.0)
    assert taken.item == Job("a")
    assert driver.do(jobs.give_back, taken.number, taken.receipt, delay=2.0)
    assert driver.do(jobs.take, 5.0).item == Job("b")
    assert isinstance(driver.do(jobs.take, 5.0), Empty)
    driver.time += 2 * SECOND
    assert driver.do(jobs.take, 5.0).item == Job("a")


def test_delayed_message_waits() -> None:
    jobs, driver = table()
    driver.do(jobs.put, Job("a"), delay=3.0)
    assert isinstance(driver.do(jobs.take, 5.0), Empty)
    driver.time += 3 * SECOND
    assert driver.do(jobs.take, 5.0).delivery == 1


# In a cluster.


@backends
def test_every_message_is_worked_on_once_without_polling(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, QueueTable[str]) as members:
            done: Counter[str] = Counter()

            async def work(queue: Queue[str]) -> None:
                while True:
                    async with queue.taking() as message:
                        done[message.item] += 1

            async with anyio.create_task_group() as group:
                for member in members:
                    queue = Queue(member.object)
                    for _ in range(3):
                        group.start_soon(work, queue)
                await anyio.sleep(0.3)
                for number in range(30):
                    await Queue(members[number % 3].object).put(str(number))
                while done.total() < 30 or len(members[0].object.messages):
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            assert done == Counter(map(str, range(30)))

    run(backend, test)


def test_failed_work_comes_back_and_slow_work_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, QueueTable[str], count=1) as members:
            queue = Queue(members[0].object)
            await queue.put("a")
            with pytest.raises(ZeroDivisionError):
                async with queue.taking():
                    raise ZeroDivisionError

            async def too_slow() -> Message[str]:
                async with queue.taking(visibility=0.05) as message:
                    assert message.delivery == 2
                    taken.append(await queue.take(timeout=5.0))
                    return message

            taken: list[Message[str]] = []
            with pytest.raises(DeliveryEnded):
                await too_slow()
            (again,) = taken
            assert again.delivery == 3
            assert await queue.acknowledge(again)
            with pytest.raises(TimeoutError):
                await queue.take(timeout=0.05)

    run(BACKENDS[0], test)
