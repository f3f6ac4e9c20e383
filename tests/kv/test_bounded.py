"""No step of the machine takes long, however many keys there are; and no client sees that work is left for later."""

from __future__ import annotations

import gc
import random
import sys
import threading
import zlib
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index
from raft_kv import garbage
from raft_kv import keyspace as keyspace_module
from raft_kv import state_machine as machine_module
from raft_kv.creation_order import BLOCK, CreationOrder
from raft_kv.keyspace import STRING, Keyspace, NeedsClock, Record
from raft_kv.log_format import Calls, Clock, Query, Transaction, encode_entry, encode_query, stamp
from raft_kv.resp import Reply, encode
from raft_kv.shards import SHARDS
from raft_kv.state_machine import KeyValueMachine

START = 1_700_000_000_000


@attrs.define
class Naive:
    """What a keyspace is to its users: everything is done at once."""

    time: int = 0
    index: int = 0
    keys_created: int = 0
    records: dict[bytes, tuple[bytes, int, int, int]] = attrs.field(factory=dict)  # value, version, deadline, born
    tombstones: dict[int, int] = attrs.field(factory=dict)

    def advance(self, time: int, index: int) -> None:
        self.index, self.time = index, max(self.time, time)
        for key in [key for key, record in self.records.items() if 0 < record[2] <= self.time]:
            self.remove(key)

    def put(self, key: bytes, value: bytes, deadline: int) -> None:
        if 0 < deadline <= self.time:
            self.remove(key)
            return
        old = self.records.get(key)
        self.keys_created += old is None
        self.records[key] = (value, self.index, deadline, self.keys_created if old is None else old[3])

    def remove(self, key: bytes) -> bool:
        if self.records.pop(key, None) is None:
            return False
        self.tombstones[zlib.crc32(key) % SHARDS] = self.index
        return True

    def clear(self) -> None:
        if self.records:
            self.tombstones = dict.fromkeys(range(SHARDS), self.index)
        self.records = {}

    def version(self, key: bytes) -> int:
        record = self.records.get(key)
        return self.tombstones.get(zlib.crc32(key) % SHARDS, 0) if record is None else record[1]


KEYS = [b"%d" % number for number in range(12)] + [b"2345", b"x9", b"y400"]
STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(0, 6)),
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(1, 3)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS), st.just(0)),
    st.tuples(st.just("advance"), st.just(b""), st.integers(0, 4)),
    st.tuples(st.just("clear"), st.just(b""), st.just(0)),
)


def same(space: Keyspace, naive: Naive) -> None:
    """Nothing that can be asked tells the two apart."""
    found = {key: (r.value, r.version, r.deadline, r.born) for key, r in space.records.items()}
    assert found == naive.records
    assert [key for key, _ in space.created_after(0)] == list(naive.records)
    assert space.size == len(space.everything()) == len(naive.records)
    assert space.expiring == sum(record[2] > 0 for record in naive.records.values())
    assert [space.version(key) for key in KEYS] == [naive.version(key) for key in KEYS]
    assert space.tombstones() == [naive.tombstones.get(number, 0) for number in range(SHARDS)]
    assert [(key, r.born) for key, r in space.freeze()] == [(key, r[3]) for key, r in naive.records.items()]
    asked = naive.time + 2
    space.query_time = asked
    try:
        due = len(space.everything()) < 0
    except NeedsClock:
        due = True
    space.query_time = 0
    assert due == any(0 < record[2] <= asked for record in naive.records.values())


@settings(deadline=None, max_examples=60)
@given(st.lists(STEP, max_size=60), st.integers(0, 3))
def test_work_that_is_left_for_later_can_be_seen_by_nobody(steps: list[tuple[str, bytes, int]], portion: int) -> None:
    space, naive = Keyspace(), Naive()
    before = keyspace_module._PORTION, keyspace_module._PER_KEY
    keyspace_module._PORTION, keyspace_module._PER_KEY = portion, portion % 2  # type: ignore[misc]
    try:
        for index, (what, key, number) in enumerate(steps, 1):
            if what == "put":
                deadline = naive.time + number if number else 0
                space.put(key, STRING, b"v", deadline)
                naive.put(key, b"v", deadline)
            elif what == "remove":
                assert space.remove(key) == naive.remove(key)
            elif what == "clear":
                space.clear()
                naive.clear()
            else:
                space.advance(naive.time + number, index)
                naive.advance(naive.time + number, index)
            assert space.find(b"nothing") is None
            same(space, naive)
        assert space.dead == sum(shard.dead for shard in space._shards)
        assert space.dead + space.size == sum(len(shard.records) for shard in space._shards)
    finally:
        keyspace_module._PORTION, keyspace_module._PER_KEY = before  # type: ignore[misc]


def filled(count: int, deadline: int = 0) -> Keyspace:
    space = Keyspace()
    space.advance(START, 1)
    for number in range(count):
        space.put(b"key:%d" % number, STRING, b"v", deadline)
    return space


def test_keys_that_die_together_are_freed_in_portions_and_are_gone_at_once() -> None:
    """One deadline for 10^6 keys took 6 s in one go, on every replica: the leader was deposed with no fault at all."""
    space = filled(3000, START + 100)

    freed = []
    for index in range(2, 30):
        held = space.dead + space.size
        space.advance(START + 100, index)
        freed.append(held - space.dead - space.size)
        assert (space.size, list(space.everything()), space.find(b"key:7")) == (0, [], None)
        assert space.version(b"key:7") == 2

    assert max(freed) == 256
    assert sum(freed) == 3000
    assert not space._passed
    assert len(space._order) == 0


def test_the_dead_are_freed_faster_than_keys_are_created() -> None:
    space = filled(0)
    for index in range(2, 40):
        space.advance(START + 10 * index, index)
        for number in range(600):
            space.put(b"%d:%d" % (index, number), STRING, b"v", START + 10 * index + 5)

    assert space.dead + space.size <= 2 * 600


def test_a_snapshot_and_a_flush_touch_shards_and_not_keys() -> None:
    space = filled(5000)
    dictionaries = [id(shard.records) for shard in space._shards]

    frozen = space.freeze()
    space.put(b"key:1", STRING, b"changed")
    space.remove(b"key:2")
    space.put(b"new", STRING, b"v")
    assert [id(shard.records) for shard in space._shards] == dictionaries  # none was copied
    assert sum(map(len, frozen._kept)) == 2
    space.clear()

    assert {key: record.value for key, record in frozen} == {b"key:%d" % n: b"v" for n in range(5000)}
    left = len(space._garbage)
    assert left >= SHARDS
    space.advance(START, 9)
    assert len(space._garbage) == left - 1


def test_moments_being_read_keep_what_each_began_with_and_no_more() -> None:
    space = filled(100)
    first = space.freeze()
    reading = iter(first)
    seen = [next(reading) for _ in range(10)]
    space.put(b"key:50", STRING, b"second")
    space.remove(b"key:60")
    second = space.freeze()
    space.put(b"key:50", STRING, b"third")
    space.put(b"key:60", STRING, b"again")
    space.put(b"key:60", STRING, b"and again")
    space.put(b"key:5", STRING, b"read already")

    values = {key: record.value for key, record in second}
    assert values[b"key:50"] == b"second"
    assert b"key:60" not in values
    assert space._frozen != []
    space.put(b"key:7", STRING, b"v")
    assert len(space._frozen) == 1  # the second was read to its end

    values = {key: record.value for key, record in [*seen, *reading]}
    assert values == {b"key:%d" % n: b"v" for n in range(100)}
    third = space.freeze()
    del third
    space.put(b"key:7", STRING, b"w")
    assert space._frozen == []  # nothing is kept for a snapshot that was given up


def test_moment_read_in_another_thread_is_not_disturbed_by_changes() -> None:
    space = filled(20_000)
    frozen = space.freeze()
    found: list[tuple[bytes, Record]] = []
    reader = threading.Thread(target=lambda: found.extend(frozen))
    reader.start()
    rng = random.Random(1)
    while reader.is_alive():
        space.put(b"key:%d" % rng.randrange(20_000), STRING, b"changed")
        space.remove(b"key:%d" % rng.randrange(20_000))
    reader.join()
    assert {key: record.value for key, record in found} == {b"key:%d" % n: b"v" for n in range(20_000)}


def test_record_may_be_kept_although_the_reader_has_just_finished() -> None:
    """A change in the loop looks whether the moment is read to its end; then the reader's thread ends it."""
    space = filled(100)
    frozen = space.freeze()
    ((_, record), *others) = frozen
    assert len(others) == 99

    for number in range(SHARDS):
        frozen.keep(number, b"key", record)


def test_the_order_of_creation_is_tidied_block_by_block() -> None:
    space = filled(20_000)
    for number in range(20_000):
        if number % 10:
            space.remove(b"key:%d" % number)
        if number % 512 == 0:
            space.advance(START, 2)
            assert len(space._order) <= 2.2 * space.size + 4096
    for _ in range(30):
        space.advance(START, 3)

    assert [key for key, _ in space.created_after(0)] == [b"key:%d" % n for n in range(0, 20_000, 10)]
    assert [key for key, _ in space.created_after(19_000)] == [b"key:%d" % n for n in range(19_000, 20_000, 10)]
    assert len(space._order._blocks) <= 16


@pytest.mark.interpreted
def test_keys_that_go_together_make_no_entry_rebuild_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the keys of every block were gone in the same few entries, and one of them rebuilt all blocks: 22 ms."""
    space = filled(40 * BLOCK, START + 100)
    rebuilt = 0
    before = CreationOrder._rebuild

    def rebuild(order: CreationOrder, place: int, block: object) -> None:
        nonlocal rebuilt
        rebuilt += 1
        before(order, place, block)  # type: ignore[arg-type]

    monkeypatch.setattr(CreationOrder, "_rebuild", rebuild)
    most = index = 0
    while index == 0 or space.dead:
        index += 1
        rebuilt = 0
        space.advance(START + 100, 1 + index)
        most = max(most, rebuilt)

    assert most == 2
    assert len(space._order) == 0


@pytest.mark.interpreted
def test_a_scan_behind_many_keys_that_have_gone_takes_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "_PLACES", 100)
    machine = KeyValueMachine(filled(1000, START + 100))
    scan = encode_query(Query(2, [], [[b"scan", b"0"]], False), START)
    assert not machine.is_long(scan)

    machine.keyspace.advance(START + 100, 2)

    assert machine.is_long(scan)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="every dictionary is tracked there")
def test_the_garbage_collector_does_not_walk_through_keys() -> None:
    """A full collection took 389 ms with 10^6 keys."""
    space = filled(5 * BLOCK)

    assert not any(gc.is_tracked(shard.records) for shard in space._shards)
    assert not any(gc.is_tracked(block.keys) for block in space._order._blocks)


def test_what_the_collector_would_walk_through_is_frozen_as_keys_become_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "MANY", 1000)
    space = filled(999, START + 100)
    try:
        assert not garbage.leave_out(space)
        space.put(b"one more", STRING, b"v")
        assert garbage.leave_out(space)
        assert not garbage.leave_out(space)
        seen = {id(thing) for thing in gc.get_objects()}
        assert not any(id(shard.due) in seen for shard in space._shards)

        space.clear()
        for number in range(1000):
            space.put(b"%d" % number, STRING, b"v")
        assert garbage.leave_out(space)
    finally:
        gc.unfreeze()


def machine_entries() -> Iterator[bytes]:
    """Keys that die together, with other work between."""
    for part in range(4):
        calls = [[b"set", b"k%d:%d" % (part, n), b"v", b"px", b"50"] for n in range(400)]
        yield stamp(encode_entry(Calls(2, calls)), START + part)
    for step in range(12):
        calls = [[b"dbsize"], [b"get", b"k0:%d" % step], [b"set", b"k1:%d" % step, b"w"], [b"exists", b"k2:1"]]
        yield stamp(encode_entry(Calls(2, calls)), START + 40 + 5 * step)
    yield stamp(encode_entry(Clock()), START + 500)


def test_replicas_have_equal_states_at_every_index_also_while_the_dead_are_being_freed() -> None:
    first, second = KeyValueMachine(), KeyValueMachine()
    for index, entry in enumerate(machine_entries(), 1):
        results = [machine.apply(Index(index), entry) for machine in (first, second)]
        assert results[0] == results[1]
        if index % 3 == 0:  # one that was restored in the middle has freed nothing and holds no dead
            whole = b"".join(first.snapshot())
            second = KeyValueMachine()
            second.restore([whole])
        assert b"".join(first.snapshot()) == b"".join(second.snapshot())
    assert first.keyspace.dead > 0 == second.keyspace.dead or first.keyspace.dead >= second.keyspace.dead


def test_a_scan_looks_at_a_bounded_number_of_keys_whatever_count_says() -> None:
    machine = KeyValueMachine()
    machine.keyspace = filled(5000)
    found: list[bytes] = []
    cursor, pages = b"0", 0
    while pages == 0 or cursor != b"0":
        command = Calls(2, [[b"scan", cursor, b"count", b"1000000"]])
        reply = machine.apply(Index(2 + pages), stamp(encode_entry(command), START))
        words = reply.split(b"\r\n")
        cursor, page = words[2], words[5::2]
        assert len(page) <= 1024 + 1
        found += [word for word in page if word]
        pages += 1

    assert pages == 5
    assert found == [b"key:%d" % number for number in range(5000)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_reply_that_is_too_long_for_its_entry_is_not_made_and_counts_as_before(
    protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = KeyValueMachine()
    space = machine.keyspace
    space.put(b"a", STRING, b"x" * 3_000_000)
    made: list[int] = []

    def encoding(reply: Reply, protocol: int) -> bytes:
        encoded = encode(reply, protocol)
        made.append(len(encoded))
        return encoded

    monkeypatch.setattr(machine_module, "encode", encoding)
    call = [b"mget", b"a", b"nothing", b"a"]
    replied = machine.apply(Index(2), stamp(encode_entry(Calls(protocol, [call])), START))

    assert replied.startswith(b"-ERR carried out")
    assert sum(made) < 100
    assert space.work == len(encode([b"x" * 3_000_000, None, b"x" * 3_000_000], protocol))


def test_a_sweep_and_a_large_entry_take_a_thread() -> None:
    machine = KeyValueMachine()

    assert machine.is_long(encode_query(Query(2, [], [[b"KEYS", b"*"]], False), START))
    assert machine.is_long(bytes(64 * 1024 + 1))
    assert machine.is_long(encode_query(Query(2, [], [[b"get", b"a" * 200], [b"Keys", b"*"]], True), START))
    assert machine.is_long(encode_query(Query(2, [], [[b"scan", b"0"]] * 5, True), START))
    assert not machine.is_long(encode_query(Query(2, [], [[b"scan", b"0"]], False), START))
    assert not machine.is_long(encode_query(Query(2, [], [[b"GET", b"a:keys"]], False), START))
    assert not machine.is_long(stamp(encode_entry(Calls(2, [[b"set", b"a", b"keys"]])), START))


def test_long_work_in_a_thread_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code never gives up the interpreter's lock by itself, and the loop would stand still for so long."""
    given: list[str] = []
    monkeypatch.setattr(machine_module, "give_way", lambda: given.append("machine"))
    monkeypatch.setattr(keyspace_module, "give_way", lambda: given.append("keyspace"))
    machine = KeyValueMachine(filled(20_000))
    machine.apply(Index(10**6), stamp(encode_entry(Transaction(2, [], [[b"set", b"a", b"b"]] * 65_536)), START))
    assert given.count("machine") >= 65_536 // 512

    machine.keyspace.let_go()
    assert given.count("keyspace") >= SHARDS + 20_000 // BLOCK
