"""Maps: versions, compare-and-set, times to live, scans, and watches that resume."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from raft_objects import Objects
from raft_objects.map_table import Change, Found, MapTable
from raft_objects.maps import Compacted, Map

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver

SECOND = 1_000_000_000


def table(*, history: int = 1000) -> tuple[MapTable[int], Driver]:
    objects = Objects(development=True)
    made = objects.add("map", MapTable[int](history=history))
    return made, Driver(objects)


def test_versions_rise_and_guard_changes() -> None:
    made, driver = table()
    assert driver.do(made.put, "a", 1) == 1
    assert driver.do(made.compare_and_set, "a", 2, expected=1) == 2
    assert driver.do(made.compare_and_set, "a", 3, expected=1) == 0
    assert driver.do(made.compare_and_set, "b", 3, expected=0) == 3
    assert driver.ask(made.get, "a") == Found(2, 2)
    assert not driver.do(made.delete, "a", expected=1)
    assert driver.do(made.delete, "a", expected=2)
    assert driver.ask(made.get, "a") is None
    assert driver.do(made.put, "a", 1) == 5


def test_key_ends_with_its_time_and_another_value_has_its_own() -> None:
    made, driver = table()
    driver.do(made.put, "a", 1, ttl=2.0)
    driver.do(made.put, "b", 1, ttl=2.0)
    driver.do(made.put, "b", 2)
    driver.time += 2 * SECOND - 1
    assert driver.do(made.compare_and_set, "a", 9, expected=0) == 0
    driver.time += 1
    driver.do(made.expire)

    assert driver.ask(made.get, "a") is None
    assert driver.ask(made.get, "b") == Found(2, 3)
    assert list(made.changes.values())[-1] == Change(4, "a", None)


def test_scan_is_in_order_and_goes_on_after_a_key() -> None:
    made, driver = table()
    for key in ("b", "aa", "ac", "ab"):
        driver.do(made.put, key, 1)

    assert [key for key, _ in driver.ask(made.scan, "a", limit=2)] == ["aa", "ab"]
    assert [key for key, _ in driver.ask(made.scan, "a", after="ab")] == ["ac"]


def test_history_is_bounded() -> None:
    made, driver = table(history=3)
    for number in range(10):
        driver.do(made.put, "a", number)

    assert [change.revision for change in made.changes.values()] == [8, 9, 10]


@backends
def test_watch_sees_every_change_once_on_every_node(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, MapTable[int]) as members:
            seen: dict[int, list[Change[int]]] = {}

            async def watch(number: int) -> None:
                async for change in Map(members[number].object).watch("k", after=0):
                    seen.setdefault(number, []).append(change)
                    if change.value == 29:
                        return

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(watch, number)
                for value in range(30):
                    await Map(members[value % 3].object).put(f"k{value % 4}", value)
                    await Map(members[value % 3].object).put("other", value)
            assert seen[0] == seen[1] == seen[2]
            assert [change.value for change in seen[0]] == list(range(30))

    run(backend, test)


def test_key_is_gone_after_its_time_although_nothing_else_happens(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, MapTable[int]) as members:
            first, second = Map(members[0].object), Map(members[1].object)
            version = await first.put("a", 1, ttl=1.5)
            found = await second.get("a")
            assert found is not None
            assert found.version == version
            async for change in second.watch(after=version):
                assert (change.key, change.value) == ("a", None)
                break
            await first.put("b", 1, ttl=0.1)
            await anyio.sleep(0.3)
            assert await first.scan() == []
            assert await second.get("b") is None

    run(BACKENDS[0], test)


def test_watch_from_a_revision_that_is_not_kept_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, lambda: MapTable[int](history=2), count=1) as members:
            watched = Map(members[0].object)
            for value in range(5):
                await watched.put("a", value)
            with pytest.raises(Compacted):
                await anext(aiter(watched.watch(after=1)))
            assert (await anext(aiter(watched.watch(after=3)))).value == 3
            assert watched.revision == 5

    run(BACKENDS[0], test)
