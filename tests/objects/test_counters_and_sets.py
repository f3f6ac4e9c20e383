"""Counters and sets: every addition once; one caller puts an item in."""

from __future__ import annotations

from pathlib import Path

import anyio

from raft_objects import Objects
from raft_objects.counters import Counter
from raft_objects.sets import Set

from .cluster import BACKENDS, cluster, run
from .samples import Driver


def test_counter_counts_within_bounds() -> None:
    counter = Counter(5)
    driver = Driver(Objects({"c": counter}, development=True))

    assert driver.do(counter.add) == 6
    assert driver.do(counter.add, 2**70) == 6 + 2**70
    assert driver.do(counter.reset, 3) == 6 + 2**70
    assert driver.do(counter.add_within, -4, low=0) is None
    assert driver.do(counter.add_within, 4, high=6) is None
    assert driver.do(counter.add_within, -3, low=0, high=6) == 0
    assert driver.ask(counter.value) == 0


def test_set_tells_one_caller_and_keeps_the_order() -> None:
    objects = Objects(development=True)
    it = objects.add("s", Set[str]())
    driver = Driver(objects)

    assert [driver.do(it.add, item) for item in "bab"] == [True, True, False]
    assert [driver.do(it.discard, item) for item in "bb"] == [True, False]
    driver.do(it.add, "b")
    assert (driver.ask(it.members), driver.ask(it.size), driver.ask(it.contains, "c")) == (["a", "b"], 2, False)
    assert [driver.do(it.pop) for _ in range(3)] == ["a", "b", None]


def test_additions_of_all_nodes_are_counted_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, Counter) as members:

            async def work(counter: Counter) -> None:
                for _ in range(20):
                    await counter.add(2)

            async with anyio.create_task_group() as group:
                for member in members:
                    group.start_soon(work, member.object)
            assert await members[0].object.value() == 120

    run(BACKENDS[0], test)


def test_one_node_in_the_cluster_puts_an_item_in(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, Set[str]) as members:
            told: list[bool] = []

            async def work(it: Set[str]) -> None:
                for number in range(10):
                    told.append(await it.add(str(number)))

            async with anyio.create_task_group() as group:
                for member in members:
                    group.start_soon(work, member.object)
            assert sum(told) == 10
            assert await members[1].object.size() == 10

    run(BACKENDS[0], test)
