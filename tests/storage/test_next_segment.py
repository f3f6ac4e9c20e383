"""The next segment is prepared before it is needed, and lost without a trace wherever that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry
from raft_core.errors import StorageBroken
from raft_core.ids import WriteId
from raft_core.wal.filesystem import FileFailed, Files
from raft_core.wal.layout import segment_name, segment_number
from raft_storage import FileStore
from raft_storage.next_segment import PREPARED, NextSegment
from raft_testing.disk.crash_disk import Call, CrashDisk, Fault, FaultKind

SEGMENT_BYTES = 8192


def open_store(files: Files) -> FileStore:
    return FileStore.open("disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=SEGMENT_BYTES)


def append(index: int, size: int = 1000) -> Persist:
    return Persist(WriteId(index), entries=(Entry.make(index, 1, bytes(size)),))


def segments(disk: CrashDisk) -> list[str]:
    return [name for name in disk.listing() if segment_number(name) is not None]


def written_until(disk: CrashDisk, store: FileStore, reached: Callable[[], bool]) -> int:
    """Write entries until the state of the disk is reached; return the index of the last."""
    index = 0
    while not reached():
        index += 1
        store.write([append(index)])
        assert index < 100
    return index


def recovered(disk: CrashDisk) -> int:
    store = open_store(disk)
    found = len(store.recover().entries)
    store.close()
    return found


def test_write_that_begins_a_segment_preallocates_nothing() -> None:
    disk = CrashDisk()
    store = open_store(disk)
    first = len(segments(disk))
    last = written_until(disk, store, lambda: PREPARED in disk.listing())
    assert len(segments(disk)) == first
    calls: list[tuple[str, str]] = []
    disk.watch = lambda call: calls.append((call.operation, call.name))

    while len(segments(disk)) == first:
        calls.clear()
        last += 1
        store.write([append(last)])

    assert ("rename", PREPARED) in calls
    assert "preallocate" not in {operation for operation, _ in calls}
    assert recovered(disk.crash()) == last


def test_prepared_segment_is_deleted_at_close_and_at_opening() -> None:
    disk = CrashDisk()
    store = open_store(disk)
    last = written_until(disk, store, lambda: PREPARED in disk.listing())
    dead = disk.restart()
    assert PREPARED in dead.listing()
    assert recovered(dead) == last
    assert PREPARED not in dead.listing()


def test_orderly_close_leaves_no_prepared_segment() -> None:
    disk = CrashDisk()
    store = open_store(disk)
    written_until(disk, store, lambda: PREPARED in disk.listing())
    store.close()
    assert PREPARED not in disk.listing()


@pytest.mark.parametrize("operation", ["create", "preallocate", "sync"])
def test_failed_preparation_costs_nothing_but_time(operation: str) -> None:
    disk = CrashDisk()
    store = open_store(disk)
    first, tried = len(segments(disk)), 0

    def fail(call: Call) -> None:
        nonlocal tried
        if (call.operation, call.name) == (operation, PREPARED):
            tried += 1
            disk.faults[call.number] = Fault(FaultKind.ERROR)

    disk.watch = fail
    last = written_until(disk, store, lambda: len(segments(disk)) == first + 1)
    assert tried == 1  # not with every write
    assert PREPARED not in disk.listing()
    assert recovered(disk.crash()) == last


@pytest.mark.parametrize("operation", ["rename", "open", "write", "sync"])
def test_prepared_segment_that_cannot_be_taken_breaks_store_and_is_deleted(operation: str) -> None:
    disk = CrashDisk()
    store = open_store(disk)
    last = written_until(disk, store, lambda: PREPARED in disk.listing())
    new = segment_name(max(segment_number(name) or 0 for name in segments(disk)) + 1)
    before = segments(disk)

    def fail(call: Call) -> None:
        if call.operation == operation and call.name in (new, PREPARED):
            disk.faults[call.number] = Fault(FaultKind.ERROR)

    disk.watch = fail
    while segments(disk) == before:
        try:
            store.write([append(last + 1)])
        except StorageBroken:
            break
        last += 1
    disk.watch = None
    store.close()
    assert segments(disk) == before
    assert PREPARED not in disk.listing()
    assert recovered(disk.crash()) == last


def test_batch_longer_than_a_segment_leaves_the_prepared_one() -> None:
    disk = CrashDisk()
    store = open_store(disk)
    last = written_until(disk, store, lambda: PREPARED in disk.listing())
    store.write([append(last + 1, 2 * SEGMENT_BYTES)])
    assert PREPARED in disk.listing()
    store.write([append(last + 2)])
    assert PREPARED not in disk.listing()
    assert recovered(disk.crash()) == last + 2


def test_file_in_the_way_is_not_replaced() -> None:
    disk = CrashDisk()
    waiting: list[Callable[[], None]] = []
    following = NextSegment(disk, SEGMENT_BYTES, waiting.append)
    following.prepare()
    following.prepare()
    (work,) = waiting
    work()
    disk.overwrite(segment_name(5), b"whose is this?")
    with pytest.raises(FileFailed):
        following.take(segment_name(5))
    assert disk.content(segment_name(5)) == b"whose is this?"


def test_thread_prepares_segment_of_a_real_directory(tmp_path: Path) -> None:
    store = FileStore.open(tmp_path, node=1, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 40):
        store.write([append(index)])
    store.close()
    assert PREPARED not in [path.name for path in tmp_path.iterdir()]
    store = FileStore.open(tmp_path, node=1, segment_bytes=SEGMENT_BYTES)
    assert len(store.recover().entries) == 39
    store.close()
