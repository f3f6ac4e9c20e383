"""Sharded containers: they behave as dict and sorted list do, and a copy never changes."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_objects.codec import Codec
from raft_objects.shards import SHARD, ShardedDict, ShardedSortedList

STEPS = st.lists(st.tuples(st.sampled_from("sdpcrw"), st.integers(0, 40)), max_size=200)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_sharded_dict_is_a_dict_and_its_copies_stay(steps: list[tuple[str, int]]) -> None:
    it: ShardedDict[int, int] = ShardedDict()
    twin: dict[int, int] = {}
    copies: list[tuple[ShardedDict[int, int], dict[int, int]]] = []
    for number, (kind, key) in enumerate(steps):
        if kind == "s":
            it[key] = twin[key] = number
        elif kind in "dp":
            assert it.pop(key, None) == twin.pop(key, None)
        elif kind == "c":
            copies.append((it.copy(), dict(twin)))
        elif kind == "w" and copies:
            copies[-1][0][key] = copies[-1][1][key] = number
        elif copies:
            it, twin = copies.pop()
        assert list(it.items()) == list(twin.items())
        assert (it.get(key), key in it, len(it)) == (twin.get(key), key in twin, len(twin))
    for copy, expected in copies:
        assert list(copy.items()) == list(expected.items())


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 3))
def test_sharded_list_is_sorted_and_its_copies_stay(steps: list[tuple[str, int]], factor: int) -> None:
    start = range(factor * SHARD)
    it, twin = ShardedSortedList(start), sorted(start)
    copies: list[tuple[ShardedSortedList[int], list[int]]] = []
    for kind, key in steps:
        key *= 17
        if kind == "s":
            it.add(key)
            twin = sorted({*twin, key})
        elif kind == "d":
            assert it.discard(key) == (key in twin)
            twin = [one for one in twin if one != key]
        elif kind == "p" and twin:
            assert it.pop_first() == twin.pop(0)
        elif kind == "c":
            copies.append((it.copy(), list(twin)))
        elif copies:
            it, twin = copies.pop()
        assert (it.first, key in it, len(it)) == (twin[0] if twin else None, key in twin, len(twin))
        assert list(it.since(key)) == [one for one in twin if one >= key]
    for copy, expected in [*copies, (it, twin)]:
        assert list(copy) == expected


def test_shards_split_and_vanish() -> None:
    it: ShardedSortedList[int] = ShardedSortedList()
    for number in range(5 * SHARD):
        it.add(number)
    assert [len(shard) for shard in it.shards()] == 5 * [SHARD]
    for number in range(SHARD):
        it.add(number * 2)
        it.discard(number)
    assert list(it) == list(range(SHARD, 5 * SHARD))


def test_sharded_containers_travel() -> None:
    codec = Codec([])
    values: list[Any] = [ShardedDict((n, str(n)) for n in range(1000)), ShardedSortedList((n, "x") for n in range(9))]
    for value in values:
        assert codec.decode(codec.encode(value)) == value


def test_copy_of_a_million_entries_holds_up_nobody() -> None:
    table = ShardedDict((number, 0) for number in range(1_000_000))
    line = ShardedSortedList(range(1_000_000))
    took = []
    for turn in range(5):
        begin = time.thread_time()
        copies = table.copy(), line.copy()
        table[5] = turn + 1
        line.discard(turn)
        took.append(time.thread_time() - begin)
        assert (copies[0][5], copies[1].first) == (turn, turn)
    assert min(took) < 0.005
