"""Rows, state and mark of stores on a database engine: their bytes, and every way in which they can contradict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import LogDamaged, LogLost, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.recovered import Identity
from raft_core.wal.records import Change
from raft_storage.engine_store import ENGINE, engine_identity_in, engine_in
from raft_storage.mark import MARK, MarkFile, create_mark, read_mark
from raft_storage.rows import START, STATE, Point, RowState, read_rows, seal_row, seal_state
from raft_testing.disk.crash_disk import CrashDisk

IDENTITY = Identity(NodeId(1), ClusterId("c"), Incarnation(7))
HARD = HardState(Term(2), NodeId(3), Index(1))

# Written by the first version of this format; every later one has to read them.
OLD_ROW = "01000000000000000100000000000000000000004fffb7e59198020093020301009195010201c40568656c6c6fc4049d23ac8ac0c200"
OLD_STATE = "52414654535441540100000014000000b60a027199a1630107019201cee5b7ff4f010293020301c0"
OLD_MARK = "524146544d41524b0100000001000000000000004fffb7e58c2104fb"
OLD_ENGINE = "52414654454e474e010000000c000000b6fea85a94a673716c697465a1630107"

Rows = list[tuple[int, bytes]]


def state(newest: Point, following: int, hard: HardState = HARD, snapshot: SnapshotMeta | None = None) -> RowState:
    return RowState(
        ClusterId("c"), NodeId(1), Incarnation(7), BootNumber(1), newest, Index(1), Index(following), hard, snapshot
    )


def log(writes: int) -> tuple[Rows, Point]:
    """So many writes of two entries each."""
    rows: Rows = []
    point = START
    for number in range(1, writes + 1):
        first = 2 * number - 1
        entries = tuple(Entry.make(index, 2, b"%d" % index) for index in (first, first + 1))
        row, point = seal_row(number, Index(first), point.chain, [Change(hard=HARD, entries=entries)])
        rows.append((number, row))
    return [(STATE, seal_state(state(point, 2 * writes + 1))), *rows], point


def test_bytes_are_those_of_the_first_version() -> None:
    change = Change(hard=HARD, entries=(Entry.make(1, 2, b"hello"),))
    row, point = seal_row(1, Index(1), 0, [change])
    assert (row.hex(), point) == (OLD_ROW, Point(1, 3854040911))
    assert seal_state(state(point, 2)).hex() == OLD_STATE


def test_old_rows_mark_and_engine_are_read() -> None:
    rows = [(0, bytes.fromhex(OLD_STATE)), (1, bytes.fromhex(OLD_ROW))]
    found = read_rows(rows, "log", IDENTITY, Point(1, 3854040911))
    assert found.state == state(Point(1, 3854040911), 2)
    assert [(entry.index, entry.data) for entry in found.image.entries] == [(1, b"hello")]
    disk = CrashDisk()
    disk.overwrite(MARK, bytes(512) + bytes.fromhex(OLD_MARK).ljust(512, b"\0"))
    disk.overwrite(ENGINE, bytes.fromhex(OLD_ENGINE))
    assert read_mark(disk) == Point(1, 3854040911)
    assert (engine_in(disk), engine_identity_in(disk)) == ("sqlite", IDENTITY)


def test_rows_give_the_log_back() -> None:
    rows, point = log(4)
    found = read_rows(rows, "log", IDENTITY, point)
    assert [entry.index for entry in found.image.entries] == list(range(1, 9))
    assert (found.image.hard, found.oldest, list(found.before)) == (HARD, 1, [1, 3, 5, 7])


def test_rows_that_no_entry_needs_may_be_gone() -> None:
    rows, point = log(4)
    meta = SnapshotMeta(Index(4), Term(2), Members.initial([1]))
    switched = seal_state(state(point, 9, snapshot=meta))
    found = read_rows([(STATE, switched), *rows[3:]], "log", IDENTITY, point)
    assert [entry.index for entry in found.image.entries] == [5, 6, 7, 8]
    assert found.oldest == 3


def swapped(rows: Rows) -> Rows:
    return [rows[0], rows[1], (2, rows[3][1]), (3, rows[2][1]), rows[4]]


def flipped(rows: Rows) -> Rows:
    body = bytearray(rows[2][1])
    body[-1] ^= 1
    return [*rows[:2], (2, bytes(body)), *rows[3:]]


def exchanged(rows: Rows) -> Rows:
    """The second write is one of another history, sealed by it: an older version of a page, perhaps."""
    entries = tuple(Entry.make(index, 1, b"other") for index in (3, 4))
    return [*rows[:2], (2, seal_row(2, Index(3), 12345, [Change(entries=entries)])[0]), *rows[3:]]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(exchanged, id="a row is of another history"),
        pytest.param(lambda rows: rows[1:], id="the state is gone"),
        pytest.param(lambda rows: rows[:-1], id="the newest row is gone"),
        pytest.param(lambda rows: [*rows[:2], *rows[3:]], id="a row in the middle is gone"),
        pytest.param(lambda rows: [rows[0], *rows[2:]], id="the oldest row is gone, and needed"),
        pytest.param(lambda rows: rows[:1], id="all rows are gone"),
        pytest.param(swapped, id="two rows are swapped"),
        pytest.param(flipped, id="a bit is flipped"),
        pytest.param(lambda rows: [(0, rows[0][1][:-1]), *rows[1:]], id="the state is cut"),
        pytest.param(lambda rows: [(0, b""), *rows[1:]], id="the state is empty"),
        pytest.param(lambda rows: [*rows[:-1], (4, rows[4][1][:10])], id="a row is cut"),
        pytest.param(lambda rows: [*rows, (5, log(5)[0][5][1])], id="a row is newer than the state"),
        pytest.param(lambda rows: [*log(3)[0][:1], *rows[1:]], id="the state is older than the rows"),
        pytest.param(lambda rows: [*log(5)[0][:1], *rows[1:]], id="the state is newer than the rows"),
    ],
)
def test_rows_that_contradict_each_other_are_damage(change: Callable[[Rows], Rows]) -> None:
    rows, _ = log(4)
    with pytest.raises(LogDamaged) as caught:
        read_rows(change(rows), "the file", IDENTITY, START)
    assert caught.value.file == "the file"


def test_log_that_ends_before_the_mark_is_lost_or_its_tail_is_damaged() -> None:
    rows, point = log(4)
    ahead = Point(5, 1)
    assert read_rows(rows, "log", IDENTITY, point).state is not None
    with pytest.raises(LogLost):
        read_rows(rows, "log", IDENTITY, ahead)
    with pytest.raises(LogLost):
        read_rows([], "log", IDENTITY, ahead)
    with pytest.raises(LogDamaged) as caught:
        read_rows(rows, "log", IDENTITY, ahead, "log's tail")
    assert caught.value.file == "log's tail"


def test_another_history_under_the_same_numbers_is_damage() -> None:
    rows, point = log(4)
    with pytest.raises(LogDamaged):
        read_rows(rows, "log", IDENTITY, Point(2, point.chain))


def test_rows_of_another_node_are_refused() -> None:
    rows, point = log(1)
    with pytest.raises(WrongDirectory):
        read_rows(rows, "log", Identity(NodeId(2), ClusterId("c"), Incarnation(7)), point)


def test_torn_mark_leaves_the_one_before() -> None:
    disk = CrashDisk()
    create_mark(disk)
    mark = MarkFile(disk)
    for number in range(1, 6):
        mark.put(Point(number, number * 10))
        mark.sync()
    assert read_mark(disk) == Point(5, 50)
    disk.flip(MARK, 512 * 8 + 100)
    assert read_mark(disk) == Point(4, 40)
    disk.flip(MARK, 100)
    with pytest.raises(LogDamaged):
        read_mark(disk)
