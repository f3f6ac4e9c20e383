"""The file store on a real directory and on the crash disk, and the memory store beside it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DirectoryInUse, DiskError, LogDamaged, LogLost, StorageBroken, WrongDirectory
from raft_core.ids import Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.store import Store
from raft_core.wal.filesystem import FileFailed, FileMissing, Files, LockHeld, NoSpace
from raft_core.wal.layout import ANCHOR, IDENTITY, part_name, segment_name, snapshot_name
from raft_storage import FileStore, MemoryStore, PosixFiles
from raft_storage.posix import PosixFile
from raft_testing.disk.crash_disk import Call, CrashDisk, Fault, FaultKind
from raft_testing.disk.store_conformance import FUNCTIONAL_CHECKS, OpenStore

SEGMENT_BYTES = 64 * 1024


def open_at(directory: Path, *, node: int = 1, cluster: str = "c") -> FileStore:
    return FileStore.open(directory, node=node, cluster=cluster, segment_bytes=SEGMENT_BYTES, merge_bytes=4096)


def open_on(files: Files) -> FileStore:
    return FileStore.open("disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=8192, merge_bytes=2048)


def append(first: int, last: int, *, term: int = 1, size: int = 100) -> Persist:
    entries = tuple(Entry.make(index, term, bytes([index % 256]) * size) for index in range(first, last + 1))
    return Persist(WriteId(first), hard=HardState(Term(term)), entries=entries)


def indexes(recovered: Recovered) -> list[int]:
    return [entry.index for entry in recovered.entries]


def with_snapshot(store: Store, index: int, state: bytes) -> SnapshotMeta:
    meta = SnapshotMeta(Index(index), Term(1), Members.initial([1, 2, 3]))
    writer = store.create_snapshot(meta)
    writer.write(state)
    writer.finish()
    store.write([Persist(WriteId(1), snapshot=meta, drop_before=Index(index + 1))])
    return meta


@pytest.mark.parametrize("orderly", [True, False])
def test_the_tail_before_a_snapshot_is_recovered_again_and_again(tmp_path: Path, *, orderly: bool) -> None:
    """A node that restarts can send it to a follower, instead of a snapshot; a later snapshot drops it."""
    store = open_at(tmp_path)
    store.recover()
    written = append(1, 40, size=5000)
    store.write([written])
    meta = SnapshotMeta(Index(30), Term(1), Members.initial([1, 2, 3]))
    store.create_snapshot(meta).finish()
    store.write([Persist(WriteId(2), snapshot=meta, drop_before=Index(20))])
    for restart in range(5):
        if orderly:
            store.close()
        else:
            store._files.close()
        store = open_at(tmp_path)
        recovered = store.recover()
        assert (recovered.snapshot, recovered.covered) == (meta, written.entries[19:30])
        assert [entry.index for entry in recovered.entries] == list(range(31, 41 + restart))
        store.write([append(41 + restart, 41 + restart, size=5000)])
    later = SnapshotMeta(Index(43), Term(1), Members.initial([1, 2, 3]))
    store.create_snapshot(later).finish()
    store.write([Persist(WriteId(9), snapshot=later, drop_before=Index(42))])
    store.close()
    recovered = open_at(tmp_path).recover()
    assert ([entry.index for entry in recovered.covered], indexes(recovered)) == ([42, 43], [44, 45])


def segments(directory: Path) -> int:
    return len([path for path in directory.iterdir() if path.suffix == ".log"])


def test_obsolete_segments_are_deleted_a_few_with_each_write(tmp_path: Path) -> None:
    """Deleting them all at once held up one write for half a second after a million entries."""
    store = open_at(tmp_path)
    store.recover()
    for first in range(1, 200, 10):
        store.write([append(first, first + 9, size=6000)])
    before = segments(tmp_path)
    assert before >= 15
    with_snapshot(store, 199, b"state")
    counts = [segments(tmp_path)]
    while len(counts) < 12:
        store.write([Persist(WriteId(500 + len(counts)), hard=HardState(Term(2), commit=Index(len(counts))))])
        counts.append(segments(tmp_path))
    store.close()

    assert counts[0] == before - 2
    assert max(one - other for one, other in pairwise(counts)) <= 2
    assert counts[-1] <= 3
    store = open_at(tmp_path)
    assert indexes(store.recover()) == [200]
    store.close()


# Every store keeps its word.


@pytest.mark.parametrize("check", FUNCTIONAL_CHECKS, ids=lambda check: check.__name__)
def test_the_file_store_keeps_its_word(check: Callable[[OpenStore], None], tmp_path: Path) -> None:
    check(lambda: open_at(tmp_path))


@pytest.mark.parametrize("check", FUNCTIONAL_CHECKS, ids=lambda check: check.__name__)
def test_the_file_store_on_a_crash_disk_keeps_its_word(check: Callable[[OpenStore], None]) -> None:
    disk = CrashDisk()
    check(lambda: open_on(disk))


@pytest.mark.parametrize("check", FUNCTIONAL_CHECKS, ids=lambda check: check.__name__)
def test_the_memory_store_keeps_its_word(check: Callable[[OpenStore], None]) -> None:
    stores: list[MemoryStore] = []

    def open_store() -> Store:
        stores.append(stores[-1].reopened() if stores else MemoryStore(1, "c"))
        return stores[-1]

    check(open_store)


def test_a_memory_store_can_be_broken_on_purpose() -> None:
    store = MemoryStore(1)
    store.fail("no more disk")
    with pytest.raises(StorageBroken):
        store.write([append(1, 1)])
    assert store.reopened().recover().entries == ()


# Identity.


def test_a_new_directory_gets_a_random_incarnation_that_it_keeps(tmp_path: Path) -> None:
    stores = [open_at(tmp_path / name) for name in ("a", "b")]
    drawn = [store.identity.incarnation for store in stores]
    for store in stores:
        store.close()
    assert drawn[0] != drawn[1]
    assert all(0 < number < 2**63 for number in drawn)
    again = open_at(tmp_path / "a")
    assert again.identity.incarnation == drawn[0]
    again.close()


@pytest.mark.parametrize(("node", "cluster"), [(2, "c"), (1, "other")])
def test_another_nodes_or_clusters_directory_is_refused_with_a_remedy(tmp_path: Path, node: int, cluster: str) -> None:
    open_at(tmp_path).close()
    with pytest.raises(WrongDirectory, match=r"node 1 .*'c'"):
        open_at(tmp_path, node=node, cluster=cluster)
    open_at(tmp_path).close()


def test_a_directory_with_other_things_in_it_is_not_formatted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(WrongDirectory, match=r"thesis\.txt"):
        open_at(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    data = bytearray((tmp_path / IDENTITY).read_bytes())
    data[8] += 1
    data[16:20] = zlib.crc32(data[20:], zlib.crc32(data[:16])).to_bytes(4, "little")
    (tmp_path / IDENTITY).write_bytes(data)
    with pytest.raises(WrongDirectory):
        open_at(tmp_path)


def test_a_missing_identity_beside_a_log_is_damage(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    (tmp_path / IDENTITY).unlink()
    with pytest.raises(LogDamaged) as caught:
        open_at(tmp_path)
    assert caught.value.file == IDENTITY


def test_a_missing_anchor_is_damage(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    (tmp_path / ANCHOR).unlink()
    with pytest.raises(LogDamaged) as caught:
        open_at(tmp_path)
    assert caught.value.file == ANCHOR


def test_a_node_id_is_positive(tmp_path: Path) -> None:
    with pytest.raises(CallerError):
        open_at(tmp_path, node=0)


def test_forming_checks_which_disk_the_members_name(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    other = Members.initial(
        [1, 2], incarnations={NodeId(1): store.identity.incarnation, NodeId(2): store.identity.incarnation}
    )
    wrong = Members.initial([1, 2], incarnations={NodeId(1): type(store.identity.incarnation)(5)})
    with pytest.raises(CallerError):
        store.form(wrong)
    nameless = [
        Members.initial([1, 2]),
        Members.initial([1, 2], incarnations={NodeId(1): store.identity.incarnation}),
        Members.initial([1, 2], incarnations={NodeId(2): store.identity.incarnation}),
        Members.initial([2, 3], incarnations={NodeId(2): Incarnation(5), NodeId(3): Incarnation(6)}),
    ]
    for members in nameless:  # no node could ever be elected
        with pytest.raises(CallerError):
            store.form(members)
    assert store.form(other).formed
    store.close()


# The lock.


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    with pytest.raises(DirectoryInUse):
        open_at(tmp_path)
    store.write([append(1, 1)])
    store.close()
    open_at(tmp_path).close()


def test_a_file_that_cannot_be_closed_does_not_keep_the_directory_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PosixFile.close

    def failing(file: PosixFile) -> None:
        real(file)
        if file.name.endswith(".log"):
            raise FileFailed("close", file.name, "Input/output error")

    store = open_at(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(PosixFile, "close", failing)
        with pytest.raises(FileFailed, match="close"):
            store.close()
    open_at(tmp_path).close()


def test_a_lock_that_cannot_be_asked_for_is_no_lock_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", broken)
        with pytest.raises(FileFailed, match="No locks available") as caught:
            open_at(tmp_path)
    assert not isinstance(caught.value, LockHeld)
    open_at(tmp_path).close()


def test_a_refused_opening_leaves_the_lock_free(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    with pytest.raises(WrongDirectory):
        open_at(tmp_path, node=2)
    open_at(tmp_path).close()


# Segments.


def test_the_log_rotates_and_old_segments_go_when_they_are_dropped(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    for first in range(1, 2001, 100):
        store.write([append(first, first + 99)])
    segments = sorted(tmp_path.glob("*.log"))
    assert len(segments) >= 4
    assert {path.stat().st_size for path in segments} == {SEGMENT_BYTES}

    with_snapshot(store, 1950, b"state")

    assert len(list(tmp_path.glob("*.log"))) < len(segments)
    store.close()
    store = open_at(tmp_path)
    assert indexes(store.recover()) == list(range(1951, 2001))
    store.close()


def test_a_batch_longer_than_a_segment_gets_a_segment_of_its_length(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.write([append(1, 3, size=2 * SEGMENT_BYTES)])
    store.write([append(4, 5)])
    store.close()
    store = open_at(tmp_path)
    assert indexes(store.recover()) == [1, 2, 3, 4, 5]
    store.close()


def test_many_restarts_do_not_pile_up_segments(tmp_path: Path) -> None:
    for number in range(1, 30):
        store = open_at(tmp_path)
        assert indexes(store.recover()) == list(range(1, number))
        store.write([append(number, number)])
        store.close()
    assert len(list(tmp_path.glob("*.log"))) <= 3


def test_a_batch_of_many_writes_is_one_write_and_one_sync() -> None:
    disk = CrashDisk()
    store = FileStore.open("disk", node=1, files=disk)
    calls: list[Call] = []
    disk.watch = calls.append

    store.write([append(first, first + 9) for first in range(1, 1000, 10)])

    assert [(call.operation, call.name) for call in calls] == [
        ("write", segment_name(1)),
        ("sync", segment_name(1)),
    ]


# What bad disks get.


def fill(tmp_path: Path, *, snapshot: bool = False) -> None:
    store = open_at(tmp_path)
    for first in range(1, 2001, 100):
        store.write([append(first, first + 99)])
    if snapshot:
        with_snapshot(store, 500, bytes(range(256)) * 1000)
    store.close()


def test_a_missing_segment_names_itself_and_the_remedy(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in sorted(tmp_path.glob("*.log")):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(LogDamaged) as caught:
            open_at(tmp_path)
        assert caught.value.file == path.name
        path.write_bytes(content)
    open_at(tmp_path).close()


def test_a_log_that_is_gone_is_lost(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in tmp_path.glob("*.log"):
        path.unlink()
    with pytest.raises(LogLost):
        open_at(tmp_path)


def test_a_flipped_bit_in_the_middle_names_file_and_offset(tmp_path: Path) -> None:
    fill(tmp_path)
    path = sorted(tmp_path.glob("*.log"))[1]
    data = bytearray(path.read_bytes())
    place = len(data) // 2
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(LogDamaged) as caught:
        open_at(tmp_path)
    assert caught.value.file == path.name
    assert 0 < caught.value.offset <= place
    assert str(caught.value.offset) in str(caught.value)


def test_a_damaged_snapshot_is_refused_not_skipped(tmp_path: Path) -> None:
    fill(tmp_path, snapshot=True)
    [path] = tmp_path.glob("snapshot-*")
    good = path.read_bytes()
    for place in (0, 9, 40, 600, 65536 + 2000, len(good) - 30, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(DiskError, match=path.name):
            open_at(tmp_path)
    for shorter in (0, 100, 512, len(good) - 1):
        path.write_bytes(good[:shorter])
        with pytest.raises(LogDamaged) as caught:
            open_at(tmp_path)
        assert caught.value.file == path.name
    path.write_bytes(good)
    open_at(tmp_path).close()


def test_a_snapshot_of_another_place_does_not_pass_for_this_one(tmp_path: Path) -> None:
    fill(tmp_path, snapshot=True)
    fill_other = tmp_path / "other"
    store = open_at(fill_other)
    store.write([append(1, 10)])
    with_snapshot(store, 7, b"other state")
    store.close()
    [path], [other] = tmp_path.glob("snapshot-*"), fill_other.glob("snapshot-*")
    path.write_bytes(other.read_bytes())
    with pytest.raises(LogDamaged):
        open_at(tmp_path)


def test_a_snapshot_that_goes_bad_while_open_is_noticed_when_read(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.write([append(1, 9)])
    meta = with_snapshot(store, 5, bytes(200_000))
    path = tmp_path / snapshot_name(meta.position)
    reader = store.open_snapshot(meta)
    data = bytearray(path.read_bytes())
    data[100_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogDamaged):
        reader.read(90_000, 20_000)
    assert reader.read(0, 10) == bytes(10)
    reader.close()
    store.close()


def test_a_directory_that_lost_its_identity_is_not_formatted_again(tmp_path: Path) -> None:
    for lost in ([IDENTITY, ANCHOR], [IDENTITY, segment_name(1)]):
        directory = tmp_path / lost[1]
        open_at(directory).close()
        for name in lost:
            (directory / name).unlink()
        with pytest.raises(LogDamaged) as caught:
            open_at(directory)
        assert caught.value.file == IDENTITY


def test_an_orderly_close_proves_the_last_batch(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.write([append(1, 1)])
    store.close()
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[512:1024] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(LogDamaged) as caught:
        open_at(tmp_path)
    assert (caught.value.file, caught.value.offset) == (path.name, 512)


def test_a_write_that_does_not_fit_breaks_the_store(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    with pytest.raises(CallerError):
        store.write([append(1, 1), append(3, 3)])
    with pytest.raises(StorageBroken):
        store.write([append(1, 1)])
    store.close()


def test_chunks_of_a_snapshot_that_changed_places_are_noticed(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.write([append(1, 9)])
    meta = with_snapshot(store, 5, b"a" * 65536 + b"b" * 65536)
    path = tmp_path / snapshot_name(meta.position)
    good = path.read_bytes()
    start, size = 512, 65540
    reader = store.open_snapshot(meta)
    path.write_bytes(
        good[:start] + good[start + size : start + 2 * size] + good[start : start + size] + good[start + 2 * size :]
    )
    with pytest.raises(LogDamaged):
        reader.read(0, 1)
    path.write_bytes(good[:-24] + bytes(512) + good[-24:])
    with pytest.raises(LogDamaged):
        store.open_snapshot(meta)
    path.write_bytes(good)
    assert reader.read(65535, 2) == b"ab"
    reader.close()
    store.close()


def test_a_transfer_of_another_configuration_starts_over(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    store.resume_snapshot(meta, "peer").write(bytes(70_000))
    other = SnapshotMeta(Index(5), Term(1), Members.initial([1, 2]))
    assert store.resume_snapshot(other, "peer").offset == 0
    store.close()


# Failing stops.


@pytest.mark.parametrize(
    ("call", "kind"),
    [(1, FaultKind.ERROR), (1, FaultKind.NO_SPACE), (2, FaultKind.ERROR), (2, FaultKind.LOST_SYNC)],
    ids=["write fails", "no space", "sync fails", "sync loses"],
)
def test_after_a_failure_nothing_is_acknowledged_until_it_is_reopened(call: int, kind: FaultKind) -> None:
    disk = CrashDisk()
    store = open_on(disk)
    store.write([append(1, 2)])
    meta = with_snapshot(store, 1, b"state")
    reader = store.open_snapshot(meta)
    disk.faults[disk.calls + call] = Fault(kind)

    with pytest.raises(StorageBroken):
        store.write([append(3, 4)])

    for attempt in (
        lambda: store.write([append(3, 4)]),
        lambda: store.write([]),
        lambda: store.recover(),
        lambda: store.create_snapshot(meta),
        lambda: store.resume_snapshot(meta, "peer"),
        lambda: store.open_snapshot(meta),
        lambda: reader.read(0, 1),
    ):
        with pytest.raises(StorageBroken):
            attempt()
    store.close()
    recovered = open_on(disk.crash()).recover()
    assert indexes(recovered) == [2]


def test_what_a_failed_sync_left_in_the_cache_is_durable_once_it_was_recovered() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    store.write([append(1, 2)])
    disk.faults[disk.calls + 2] = Fault(FaultKind.LOST_SYNC)
    with pytest.raises(StorageBroken):
        store.write([append(3, 4)])
    store.close()

    seen = open_on(disk).recover()
    after_power_loss = open_on(disk.crash()).recover()

    assert indexes(seen) == [1, 2, 3, 4]  # the page cache shows it, the medium never had it
    assert indexes(after_power_loss) == [1, 2, 3, 4]


def test_a_failed_snapshot_write_breaks_the_store_too() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    store.write([append(1, 9)])
    writer = store.create_snapshot(SnapshotMeta(Index(5), Term(1), Members.initial([1])))
    disk.faults[disk.calls + 1] = Fault(FaultKind.ERROR)
    with pytest.raises(StorageBroken):
        writer.write(bytes(100_000))
    with pytest.raises(StorageBroken):
        store.write([append(10, 10)])


def test_a_full_disk_stops_the_store_and_loses_nothing() -> None:
    disk = CrashDisk(capacity=40_000)
    store = open_on(disk)
    acknowledged = 0

    def write_until_it_fails() -> None:
        nonlocal acknowledged
        while True:
            store.write([append(acknowledged + 1, acknowledged + 1)])
            acknowledged += 1

    with pytest.raises(StorageBroken):
        write_until_it_fails()
    with pytest.raises(StorageBroken):
        store.write([append(acknowledged + 1, acknowledged + 1)])
    assert acknowledged > 50
    store.close()

    disk.capacity = None
    recovered = open_on(disk.crash()).recover()

    assert indexes(recovered)[:acknowledged] == list(range(1, acknowledged + 1))


def test_a_full_disk_at_opening_is_an_error_that_says_so() -> None:
    with pytest.raises(NoSpace):
        open_on(CrashDisk(capacity=5000))


def test_a_read_error_at_opening_is_an_error_that_names_the_file() -> None:
    disk = CrashDisk()
    open_on(disk).close()
    calls: list[Call] = []
    disk.watch = calls.append
    open_on(disk).close()
    read = next(call.number for call in calls if call.operation == "read" and call.name.endswith(".log"))
    again = disk.crash()
    again.faults[read - calls[0].number + 1] = Fault(FaultKind.ERROR)
    with pytest.raises(FileFailed, match=r"\.log"):
        open_on(again)


def test_an_interrupted_write_breaks_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    store = open_at(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.write([append(1, 1)])
    with pytest.raises(StorageBroken, match="KeyboardInterrupt"):
        store.write([append(1, 1)])
    store.close()


# Snapshots.


def test_an_own_unfinished_snapshot_is_gone_after_a_restart_and_a_received_one_is_not() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    store.create_snapshot(meta).write(bytes(70_000))
    store.resume_snapshot(meta, "peer").write(bytes(70_000))
    store.close()
    store = open_on(disk)
    names = disk.names()
    assert part_name(meta.position, None) not in names
    assert part_name(meta.position, "peer") in names
    assert store.resume_snapshot(meta, "peer").offset == 65536


def test_resuming_notices_chunks_that_did_not_reach_the_disk() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    state = bytes(range(256)) * 1024
    writer = store.resume_snapshot(meta, "peer")
    writer.write(state)
    name = part_name(meta.position, "peer")
    for survivors in (range(0, disk.unsynced, 2), range(disk.unsynced), [disk.unsynced - 1]):
        crashed = disk.crash(survivors)
        if name not in crashed.names():
            continue
        store = open_on(crashed)
        writer = store.resume_snapshot(meta, "peer")
        writer.write(state[writer.offset :])
        writer.finish()
        store.write([Persist(WriteId(1), snapshot=meta)])
        assert b"".join(store.open_snapshot(meta).chunks()) == state


def test_a_resumed_snapshot_does_not_trust_what_a_failed_sync_left_in_the_cache() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    state = bytes(range(256)) * 1024
    writer = store.resume_snapshot(meta, "peer")
    writer.write(state)

    def lose_the_next_sync(call: Call) -> None:
        if call.operation == "sync":
            disk.faults[call.number] = Fault(FaultKind.LOST_SYNC)

    disk.watch = lose_the_next_sync
    with pytest.raises(StorageBroken):
        writer.finish()
    disk.watch = None
    store.close()

    store = open_on(disk)
    writer = store.resume_snapshot(meta, "peer")
    assert writer.offset == len(state)
    writer.finish()
    store.write([Persist(WriteId(1), snapshot=meta)])

    store = open_on(disk.crash())
    assert b"".join(store.open_snapshot(meta).chunks()) == state


def test_a_writer_whose_file_another_one_took_over_is_dead(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    first = store.resume_snapshot(meta, "peer")
    second = store.resume_snapshot(meta, "peer")
    with pytest.raises(CallerError):
        first.write(b"x")
    first.abort()
    second.write(b"y")
    second.finish()
    with pytest.raises(CallerError):
        second.finish()
    store.close()


def test_switching_to_a_snapshot_that_is_not_finished_is_a_callers_error(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1]))
    store.create_snapshot(meta).write(b"half")
    with pytest.raises(CallerError):
        store.write([Persist(WriteId(1), snapshot=meta)])
    store.close()


def test_two_snapshots_of_one_place_are_the_same_and_the_first_stays(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.write([append(1, 9)])
    meta = with_snapshot(store, 5, b"own")
    writer = store.resume_snapshot(meta, "peer")
    writer.write(b"received")
    writer.finish()
    assert b"".join(store.open_snapshot(meta).chunks()) == b"own"
    store.close()


# The operating system's files.


def test_errors_of_the_operating_system_say_what_was_done_to_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = PosixFiles(tmp_path / "new" / "nested")
    with pytest.raises(FileMissing, match="open nothing"):
        files.open("nothing")
    file = files.create("file")
    with pytest.raises(FileFailed, match="open file"):
        files.create("file")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(NoSpace, match="write file"):
            file.write_at(0, b"x")
        with pytest.raises(NoSpace, match="preallocate file"):
            file.preallocate(10)
        with pytest.raises(FileFailed, match="sync file"):
            file.sync()
    file.close()
    file.close()
    files.lock("lock")
    other = PosixFiles(tmp_path / "new" / "nested")
    with pytest.raises(LockHeld):
        other.lock("lock")
    files.close()
    other.lock("lock")
    other.close()


_CHILD = """
import sys
import zlib
from raft_core.effects import Persist
from raft_core.entries import Entry
from raft_storage import FileStore
store = FileStore.open(sys.argv[1], node=1, cluster="c", segment_bytes=65536, merge_bytes=4096)
index = store.recover().entries[-1].index if len(sys.argv) > 2 else 0
while True:
    index += 1
    store.write([Persist(index, entries=(Entry.make(index, 1, b"%d" % index * 20),))])
    print(index, flush=True)
"""


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    held = 0
    for round_number, lines in enumerate((300, 1, 40)):
        arguments = [sys.executable, "-c", _CHILD, str(tmp_path), *(["again"] if round_number else [])]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            acknowledged = [int(child.stdout.readline()) for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout.read().splitlines() if line.isdigit()][:-1]

        store = open_at(tmp_path)
        recovered = store.recover()
        store.close()

        assert acknowledged[0] == held + 1
        held = len(recovered.entries)
        assert held >= acknowledged[-1]
        assert indexes(recovered) == list(range(1, held + 1))
        assert all(entry.data == b"%d" % entry.index * 20 for entry in recovered.entries)


def test_every_byte_prefix_of_the_last_write_recovers_to_the_writes_before_it() -> None:
    disk = CrashDisk()
    store = open_on(disk)
    store.write([append(1, 3)])
    store.write([append(4, 6), append(7, 9)])
    torn: list[CrashDisk] = []

    def note(call: Call) -> None:
        if call.operation == "write":
            for length in range(1, len(call.data) + 1, 13):
                half = disk.twin()
                half.hand_over(call.name, call.offset, call.data[:length])
                torn.append(half.crash(range(half.unsynced)))

    disk.watch = note
    store.write([append(10, 12), append(13, 14)])
    assert len(torn) > 50
    for after in torn:
        assert len(open_on(after).recover().entries) in (9, 14)


def test_a_snapshot_in_a_file_that_an_interrupted_writing_left_longer_is_not_finished() -> None:
    # The chunks of a transfer were never synced: of the first one nothing is left, of the second one something is. The
    # sender has started anew too, and its snapshot at this place is shorter now.
    disk = CrashDisk()
    store = open_on(disk)
    meta = SnapshotMeta(Index(5), Term(1), Members.initial([1, 2, 3]))
    part = part_name(meta.position, "peer")
    store.resume_snapshot(meta, "peer").write(b"a" * 65536 + b"b" * 65536)
    after = disk.crash([number for number in range(disk.unsynced) if number != 5])
    assert len(after.content(part)) == 512 + 2 * 65540

    store = open_on(after)
    writer = store.resume_snapshot(meta, "peer")
    assert writer.offset == 0
    writer.write(b"short")
    with pytest.raises(LogDamaged) as caught:
        writer.finish()
    assert (caught.value.file, part in after.listing()) == (part, False)
    again = store.resume_snapshot(meta, "peer")
    again.write(b"short")
    again.finish()
    store.write([Persist(WriteId(1), snapshot=meta)])
    store.close()

    store = open_on(after)
    assert store.recover().snapshot == meta
    assert store.open_snapshot(meta).read(0, 9) == b"short"
