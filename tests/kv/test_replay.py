"""Entries whose replies are not wanted, applied in runs: the same state, byte for byte, as one after the other."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import Apply
from raft_core.events import Applied
from raft_core.ids import Index
from raft_core.node import JobRunner
from raft_core.node.jobs import Lane
from raft_kv.creation_order import BLOCK, CreationOrder
from raft_kv.log_format import Calls, ChangeUser, Clock, OpenSession, Transaction, encode_entry, stamp
from raft_kv.state_machine import KeyValueMachine
from raft_storage import MemoryStore

Commands = Sequence[tuple[Index, bytes]]

_KEYS = st.sampled_from([b"a", b"b", b"c", b"", b"\r\n", b"k" * 255, b"k" * 256])
_VALUES = st.sampled_from([b"", b"v", b"1", b"x" * 255, b"x" * 256, b"\xc4\x00", b"x" * 65_535, b"x" * 65_536])
_SETS = st.tuples(st.sampled_from([b"SET", b"set", b"Set"]), _KEYS, _VALUES).map(list)
_OTHERS = st.one_of(
    st.tuples(st.just(b"DEL"), _KEYS),
    st.tuples(st.just(b"SET"), _KEYS, st.just(b"v"), st.just(b"PX"), st.integers(1, 40).map(lambda n: b"%d" % n)),
    st.tuples(st.just(b"SET"), _KEYS),
    st.tuples(st.just(b"FLUSHALL")),
    st.tuples(st.just(b"APPEND"), _KEYS, st.just(b"x")),
    st.just(()),
).map(list)
_CALLS = st.one_of(_SETS, _SETS, _SETS, _OTHERS)
_ENTRIES = st.one_of(
    st.tuples(st.sampled_from([2, 3]), st.lists(_SETS, min_size=1, max_size=1)).map(
        lambda it: encode_entry(Calls(*it))
    ),
    st.tuples(st.sampled_from([2, 3]), st.lists(_SETS, min_size=1, max_size=1)).map(
        lambda it: encode_entry(Calls(*it))
    ),
    st.tuples(st.sampled_from([2, 3]), st.lists(_CALLS, max_size=3)).map(lambda it: encode_entry(Calls(*it))),
    st.lists(_SETS, max_size=3).map(lambda calls: encode_entry(Transaction(2, [], calls))),
    st.sampled_from([encode_entry(Clock()), encode_entry(OpenSession()), b"", b"\x01", b"\x01" * 15]),
    st.just(encode_entry(ChangeUser(b"ann", [b"on", b"nopass", b"+@all", b"~*"]))),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Index, bytes]]:
    """Entries with rising times; some of them cut short or with a byte too many."""
    history: list[tuple[Index, bytes]] = []
    index, now = 0, 1
    for entry in draw(st.lists(_ENTRIES, max_size=30)):
        index += draw(st.sampled_from([1, 1, 1, 2]))
        now += draw(st.sampled_from([0, 0, 1, 15, -3]))
        entry = stamp(entry, max(1, now))
        damage = draw(st.sampled_from(["", "", "", "", "", "short", "long", "time"]))
        if damage == "short":
            entry = entry[: draw(st.integers(0, len(entry)))]
        elif damage == "long":
            entry += b"\0"
        elif damage == "time" and len(entry) > 1:
            entry = entry[:1] + b"\xff" + entry[2:]
        history.append((Index(index), entry))
    return history


def in_runs(machine: KeyValueMachine, commands: Commands, wanted: tuple[tuple[Index, Index], ...] = ()) -> list[bytes]:
    """Apply all of it as a node does; return the results."""
    runner = JobRunner(MemoryStore(1, "test"), machine)
    if not commands:
        return []
    (report,) = [
        one for one in runner.run(Lane.APPLY, [Apply(commands[-1][0], tuple(commands), wanted)]) if type(one) is Applied
    ]
    return list(report.results)


def everything(machine: KeyValueMachine, *, held: bool = True) -> tuple[object, ...]:
    """Return all state, replicated or not, that later entries may depend on.

    `held`: also the places of keys that are gone, which are freed after an entry, so later after one long entry.
    """
    space = machine.keyspace
    numbers = (space.time, space.index, space.keys_created, space.size, space.expiring, space.dead)
    return (
        b"".join(machine.snapshot()),
        numbers,
        space.held_bytes,
        space.longest,
        space.held if held else 0,
        space.tombstones(),
    )


@settings(max_examples=150, deadline=None)
@given(histories(), st.data())
def test_runs_leave_the_same_state_byte_for_byte(history: list[tuple[Index, bytes]], data: st.DataObject) -> None:
    one_by_one, together = KeyValueMachine(), KeyValueMachine()
    cut = data.draw(st.integers(0, len(history)))
    results = {index: one_by_one.apply(index, entry) for index, entry in history[:cut]}
    in_runs(together, history[:cut])
    assert everything(together) == everything(one_by_one)

    rest = history[cut:]
    results |= {index: one_by_one.apply(index, entry) for index, entry in rest}
    first = data.draw(st.sampled_from([index for index, _ in rest])) if rest else Index(1)
    given = in_runs(together, rest, ((first, first),))

    assert everything(together) == everything(one_by_one)
    assert given == [results[index] if index == first else b"" for index, _ in rest]


@st.composite
def alike(draw: st.DrawFn) -> list[tuple[Index, bytes]]:
    """Many plain SETs whose keys are of the same length, and a few that differ a little."""
    many = draw(st.integers(16, 70))
    keys, sizes = draw(st.sampled_from([1, 30, 90])), draw(st.sampled_from([(1,), (1, 2, 255), (256, 300, 4000)]))
    sets = [[b"SET", b"%02d" % (n % keys), bytes(sizes[n % len(sizes)])] for n in range(many)]
    for place in draw(st.lists(st.integers(0, many - 1), max_size=2)):
        sets[place] = draw(st.sampled_from([[b"set", b"zz", b"v"], [b"SET", b"longer", b"v"], [b"GET", b"00"], []]))
    stamps = draw(st.sampled_from([(1,), (5, 6, 7), (9, 3)]))
    entries = [stamp(encode_entry(Calls(2, [one])), stamps[n % len(stamps)]) for n, one in enumerate(sets)]
    entries.insert(0, stamp(encode_entry(Calls(2, [[b"SET", b"01", b"v", b"PX", b"5"]])), 1))
    for place in draw(st.lists(st.integers(0, many), max_size=2)):
        at = draw(st.integers(0, min(40, len(entries[place]) - 1)))
        byte = draw(st.sampled_from([b"", b"\0", b"\xc4", b"\xc5", b"\xff"]))
        entries[place] = entries[place][:at] + byte + entries[place][at + 1 :]
    return [(Index(place), entry) for place, entry in enumerate(entries, 1)]


@settings(max_examples=100, deadline=None)
@given(alike())
def test_runs_of_entries_of_one_form_leave_the_same_state(history: list[tuple[Index, bytes]]) -> None:
    one_by_one, together = KeyValueMachine(), KeyValueMachine()
    for index, entry in history:
        one_by_one.apply(index, entry)
    in_runs(together, history)
    assert everything(together) == everything(one_by_one)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, BLOCK * 2), max_size=6), st.booleans())
def test_keys_added_together_are_kept_as_those_added_one_by_one(sizes: list[int], sealed: bool) -> None:
    one_by_one, together = CreationOrder(lambda *_: True), CreationOrder(lambda *_: True)
    number = 1
    for size in sizes:
        keys = [b"%d" % (number + place) for place in range(size)]
        together.extend(keys, number)
        for key in keys:
            one_by_one.add(key, number)
            number += 1
        if sealed:
            together.moment()
            one_by_one.moment()
    assert list(together.after(0)) == list(one_by_one.after(0))
    assert [len(block.keys) for block in together.moment()] == [len(block.keys) for block in one_by_one.moment()]


def plain(count: int, first: int = 1) -> list[tuple[Index, bytes]]:
    numbers = range(first, first + count)
    return [(Index(n), stamp(encode_entry(Calls(2, [[b"SET", b"k%d" % n, b"v"]])), n)) for n in numbers]


def test_run_ends_before_what_is_no_plain_set() -> None:
    machine = KeyValueMachine()
    others = [
        encode_entry(Calls(2, [[b"SET", b"k", b"v"], [b"GET", b"k"]])),
        encode_entry(Calls(2, [[b"SET", b"k", b"v", b"NX"]])),
        encode_entry(Transaction(2, [], [[b"SET", b"k", b"v"]])),
        encode_entry(Calls(2, [[b"SET", b"k", b"v"]])) + b"\0",
        encode_entry(Calls(2, [[b"SET", b"k", bytes(100_000)]])),
    ]
    for other in others:
        assert machine.apply_unanswered([*plain(3), (Index(4), stamp(other, 4))]) == 3
        assert machine.apply_unanswered([(Index(4), stamp(other, 4)), *plain(3, 5)]) == 0


def test_nothing_is_done_in_a_run_while_something_has_to_be_freed_or_checked() -> None:
    def machine_after(*calls: list[bytes]) -> KeyValueMachine:
        machine = KeyValueMachine()
        machine.apply(Index(1), stamp(encode_entry(Calls(2, list(calls))), 1))
        return machine

    dying = machine_after([b"SET", b"old", b"v", b"PX", b"4"])
    assert dying.apply_unanswered(plain(10, 2)) == 3  # the next one is at its deadline
    assert dying.apply_unanswered(plain(10, 5)) == 0
    flushed = machine_after([b"SET", b"old", b"v"], [b"FLUSHALL"])
    assert flushed.apply_unanswered(plain(10, 2)) == 0
    guarded = machine_after()
    guarded.apply(Index(2), encode_entry(ChangeUser(b"ann", [b"on", b"nopass", b"+@all", b"~*"])))
    assert guarded.apply_unanswered(plain(10, 3)) == 0
    remembering = machine_after()
    remembering.apply(Index(2), encode_entry(OpenSession()))
    assert remembering.apply_unanswered(plain(10, 3)) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(_CALLS, max_size=5), st.sampled_from([0, 1, 15]), st.booleans()), max_size=12))
def test_entry_leaves_the_same_state_as_its_commands_one_by_one(
    history: list[tuple[list[list[bytes]], int, bool]],
) -> None:
    """Commands of one entry as entries of the same index and time; with snapshots that begin between entries."""
    together, one_by_one = KeyValueMachine(), KeyValueMachine()
    now, snapshots = 1, []
    for index, (calls, later, begins) in enumerate(history, 1):
        now += later
        replies = together.apply(Index(index), stamp(encode_entry(Calls(2, calls)), now))
        singles = [stamp(encode_entry(Calls(2, [call])), now) for call in calls] or [stamp(encode_entry(Clock()), now)]
        assert replies == b"".join([one_by_one.apply(Index(index), single) for single in singles])
        assert everything(together, held=False) == everything(one_by_one, held=False)
        if begins:
            snapshots.append((together.snapshot(), b"".join(one_by_one.snapshot())))
    for snapshot, expected in snapshots:
        assert b"".join(snapshot) == expected


@pytest.mark.parametrize("answered", [False, True])
def test_snapshot_shows_its_moment_while_runs_go_on(answered: bool) -> None:
    machine = KeyValueMachine()
    machine.apply_unanswered(plain(200))
    expected, snapshot = b"".join(machine.snapshot()), machine.snapshot()
    head = next(snapshot)
    if answered:
        calls = [[b"SET", b"k%d" % n, b"w"] for n in range(300)]
        assert machine.apply(Index(201), stamp(encode_entry(Calls(2, calls)), 201)) == b"+OK\r\n" * 300
    else:
        assert machine.apply_unanswered([_set(201 + n, b"k%d" % n, 201 + n) for n in range(200)]) == 200
    assert head + b"".join(snapshot) == expected


def test_run_is_bounded_however_many_commands_an_entry_has() -> None:
    entry = stamp(encode_entry(Calls(2, [[b"SET", b"k%d" % n, b"v"] for n in range(400)])), 1)
    assert KeyValueMachine().apply_unanswered([(Index(n), entry) for n in range(1, 100)]) == 2


@pytest.mark.interpreted
def test_replay_of_one_set_takes_few_calls() -> None:
    """Neither functions of ours nor C functions are called for each new key; few for one that is there."""
    machine, calls = KeyValueMachine(), Counter[str]()

    def count(frame: FrameType, event: str, called: object) -> None:
        if event in ("call", "c_call") and "/raft_" in frame.f_code.co_filename:
            calls[f"{event} {frame.f_code.co_qualname} {getattr(called, '__name__', '')}"] += 1

    before = sys.getprofile()
    for first, bound in ((1000, 0.6), (3000, 5.6)):
        commands = [(Index(n), entry) for n, (_, entry) in enumerate(plain(2000, 1000), first)]
        calls.clear()
        sys.setprofile(count)
        try:
            in_runs(machine, commands)
        finally:
            sys.setprofile(before)
        most = sum(calls.values()) / 2000
        assert most <= bound, f"{most:.1f} calls per entry: {calls.most_common(20)}"
    assert machine.keyspace.size == 2000


def _set(index: int, key: bytes, now: int) -> tuple[Index, bytes]:
    return Index(index), stamp(encode_entry(Calls(2, [[b"SET", key, b"w"]])), now)


def _both(*entries: tuple[bytes, int]) -> tuple[KeyValueMachine, KeyValueMachine]:
    machines = KeyValueMachine(), KeyValueMachine()
    for machine in machines:
        for index, (entry, now) in enumerate(entries, 1):
            machine.apply(Index(index), stamp(entry, now))
    return machines


def test_run_waits_while_keys_that_are_gone_have_to_be_freed() -> None:
    """A write frees some of them first, and numbers keys in that order."""
    short_lived = [[b"SET", b"k%d" % n, b"v", b"PX", b"4"] for n in range(600)]
    one, together = _both((encode_entry(Calls(2, short_lived)), 1), (encode_entry(Clock()), 5))
    assert together.keyspace.dead
    rest = [_set(3 + n, b"k%d" % n, 6) for n in range(600)]
    in_runs(together, rest)
    for index, entry in rest:
        one.apply(index, entry)
    assert everything(together) == everything(one)


def test_run_waits_while_the_order_of_keys_has_to_be_tidied() -> None:
    many = [[b"SET", b"k%d" % n, b"v"] for n in range(8192)]
    fewer = [[b"DEL", b"k%d" % n] for n in range(8192) if n % 8]
    one, together = _both((encode_entry(Calls(2, many)), 1), (encode_entry(Calls(2, fewer)), 1))
    assert together.keyspace._order.untidy
    rest = [_set(3 + n, b"new%d" % n, 3) for n in range(20)]
    in_runs(together, rest)
    for index, entry in rest:
        one.apply(index, entry)
    assert everything(together) == everything(one)
