"""Large plain containers: copied in a thread, written and read in portions, equal on all replicas."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from threading import get_ident
from typing import Any

import anyio
import attrs
import msgspec
import pytest

import raft_anyio
from raft_core.settings import Settings
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects, Replicated, command, snapshots
from raft_objects.portions import LARGE, copied_in_portions, is_large
from raft_objects.queue_table import QueueTable, StoredMessage
from raft_objects.snapshots import _lengths_removed

from .cluster import BACKENDS, config, run
from .samples import Driver


@attrs.define
class Line:
    item: str
    prices: list[int]


class Store(Replicated):
    undo = False
    classes = (Line,)

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.items: list[Any] = []
        self.line: deque[Any] = deque()
        self.names: set[Any] = set()

    @command
    def fill(self, count: int, step: int) -> None:
        """Fill all fields; the order in which a set was filled depends on `step`."""
        self.table = {f"key-{number}": Line(f"item-{number}", [number, 2**70]) for number in range(count)}
        self.items = [(number, None) for number in range(count)]
        self.line = deque(range(count))
        self.names = {f"name-{number * step % count}" for number in range(count)}

    @command
    def spoil(self) -> None:
        """Change every field in place."""
        self.table["key-1"].prices.append(7)
        self.items.append(5)
        self.line.popleft()
        self.names.add("late")


def filled(count: int, step: int = 1) -> tuple[Store, Driver]:
    store = Store()
    driver = Driver(Objects({"store": store}))
    driver.do(store.fill, count, step)
    return store, driver


def fields(store: Store) -> tuple[Any, ...]:
    return dict(store.table), list(store.items), deque(store.line), set(store.names)


@pytest.mark.parametrize("count", [0, 3, LARGE, 3 * LARGE + 1])
def test_containers_of_every_size_are_restored_as_they_were(count: int) -> None:
    store, driver = filled(count)
    chunks = driver.objects.snapshot()
    if count:
        driver.do(store.spoil)
    other, fresh = Store(), Objects()
    fresh.add("store", other)
    fresh.restore(chunks)

    assert fields(other) == fields(filled(count)[0])
    assert [type(field) for field in fields(other)] == [dict, list, deque, set]
    assert list(other.table) == [f"key-{number}" for number in range(count)]


def test_no_step_with_a_large_queue_takes_longer_than_twenty_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits for one step at most: what is done between two calls of `let_others_run`, or in `snapshot`.

    In processor time of the thread. What was restored is left out of collections: a full one alone took longer.
    """
    count = 100_000
    objects = Objects({"jobs": (jobs := QueueTable[str]())})
    for number in range(1, count + 1):
        jobs.messages[number] = StoredMessage(f"job {number}")
        jobs.ready.add((0, number))
    steps: list[float] = []
    began = time.thread_time()

    def note() -> None:
        nonlocal began
        now = time.thread_time()
        steps.append(now - began)
        began = now

    monkeypatch.setattr(snapshots, "let_others_run", note)
    gc.collect()
    gc.freeze()  # what the tests before this one left
    try:
        note()
        chunks = objects.snapshot()
        note()
        copied = steps[-1]
        written = list(chunks)
        writing = sorted(steps)
        twin = Objects({"jobs": (others := QueueTable[str]())})
        note()
        steps.clear()
        frozen = gc.get_freeze_count()
        twin.restore(written)
        note()
        frozen = gc.get_freeze_count() - frozen
    finally:
        gc.unfreeze()

    assert copied < 0.02
    assert writing[-3] < 0.02, writing[-5:]
    assert len(others.messages) == count
    assert len(steps) > count // 512
    assert frozen > count // 2
    assert sorted(steps)[-3] < 0.02, sorted(steps)[-5:]  # the machine of the tests may stop for a moment, too


def test_equal_states_give_equal_bytes() -> None:
    count = 2 * LARGE
    whole = [b"".join(filled(count, step)[1].objects.snapshot()) for step in (1, 3, 5)]

    assert whole[0] == whole[1] == whole[2]


def test_no_record_holds_more_than_a_portion() -> None:
    _, driver = filled(3 * LARGE)

    records = [msgspec.msgpack.decode(record) for record in _lengths_removed(driver.objects.snapshot())]
    assert max(len(record[3]) for record in records if len(record) == 4) <= 1024
    assert max(len(msgspec.msgpack.encode(record)) for record in records) < 100_000


@pytest.mark.parametrize(
    ("value", "large"),
    [
        (list(range(LARGE)), True),
        ({number: [1] * 40 for number in range(100)}, True),
        ([Line("a", [1]) for _ in range(LARGE)], True),
        ([Line("a", [1] * LARGE)], True),
        (list(range(LARGE - 2)), False),
        ({"a": [1, 2], "b": Line("a", [])}, False),
        (5, False),
    ],
)
def test_size_counts_what_is_inside(value: object, large: bool) -> None:
    assert is_large(value) is large


def test_small_container_is_copied_as_it_is() -> None:
    assert copied_in_portions([1, [2]]) == [1, [2]]


def test_thread_takes_the_snapshot_of_a_large_state_only(tmp_path: Path) -> None:
    async def test() -> None:
        threads: list[int] = []

        store = Store()
        objects = Objects({"store": store})
        taken = objects.snapshot

        def snapshot() -> Iterable[bytes]:
            threads.append(get_ident())
            return taken()

        objects.snapshot = snapshot  # type: ignore[method-assign]
        at = attrs.evolve(config(1, free_ports(1), tmp_path), settings=Settings(snapshot_entries=3, keep_entries=1))
        async with raft_anyio.open_node(at, objects):
            for count in (10, LARGE):
                before = len(threads)
                while len(threads) < before + 2:  # the first may have begun before this state was there
                    await store.fill(count, 1)
                    await anyio.sleep(0)
                assert (threads[-1] == get_ident()) is (count == 10)

    run(BACKENDS[0], test)
