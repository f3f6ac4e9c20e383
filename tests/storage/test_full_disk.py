"""A full disk: nothing acknowledged is lost, restarts do not eat what is freed, and one segment's room is enough."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, SnapshotMeta
from raft_core.errors import DiskError, StorageBroken
from raft_core.events import Persisted
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.node.events import JobFailed
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane, StoreChunk
from raft_core.wal.filesystem import Files, NoSpace
from raft_core.wal.layout import ANCHOR, new_name, part_name, segment_name, segment_number
from raft_kv.state_machine import KeyValueMachine
from raft_storage import FileStore
from raft_storage.snapshot_store import SnapshotNotWritten
from raft_testing.disk.crash_check import _Check
from raft_testing.disk.crash_disk import Call, CrashDisk, Fault, FaultKind
from raft_testing.disk.script import make_script
from raft_testing.disk.trial import Standing

SEGMENT_BYTES = 4096
SMALL_FILE = 512
META = SnapshotMeta(Index(1), Term(1), Members.initial([1]))


def open_store(files: Files) -> FileStore:
    return FileStore.open(
        "disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=SEGMENT_BYTES, merge_bytes=2048
    )


def append(index: int, size: int = 100) -> Persist:
    return Persist(WriteId(index), entries=(Entry.make(index, 1, bytes(size)),))


def write_snapshot(store: FileStore, state: bytes) -> None:
    writer = store.create_snapshot(META)
    writer.write(state)
    writer.finish()


def a_disk(entries: int = 9) -> CrashDisk:
    """After a power loss, with some entries."""
    disk = CrashDisk()
    store = open_store(disk)
    for index in range(1, entries + 1):
        store.write([append(index)])
    return disk.crash()


def entries_on(disk: CrashDisk) -> int:
    store = open_store(disk)
    found = len(store.recover().entries)
    store.close()
    return found


def refuses(disk: CrashDisk) -> None:
    """Two openings fail for lack of room, and leave the disk no fuller."""
    for _ in range(2):
        before = disk.used()
        with pytest.raises(NoSpace):
            open_store(disk.restart())
        assert disk.used() <= before
        assert new_name(ANCHOR) not in disk.listing()


@pytest.mark.parametrize("freed", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES], ids="{} bytes free".format)
def test_an_opening_without_enough_room_leaves_the_disk_as_it_was(freed: int) -> None:
    disk = a_disk()
    disk.capacity = disk.used() + freed  # a segment alone would fit in the last case, the anchor beside it would not
    before = disk.listing()
    refuses(disk)
    assert disk.listing() == before
    disk.capacity += SEGMENT_BYTES + SMALL_FILE - freed
    assert entries_on(disk.restart()) == 9


def test_a_disk_that_is_freed_bit_by_bit_opens_as_soon_as_a_segment_fits() -> None:
    disk = a_disk()
    disk.capacity = disk.used()
    for _ in range(SEGMENT_BYTES // 1024):
        refuses(disk)
        disk.capacity += 1024
    refuses(disk)
    disk.capacity += SMALL_FILE
    assert entries_on(disk.restart()) == 9


def test_what_earlier_openings_left_behind_makes_room() -> None:
    disk = a_disk()
    store = open_store(disk)
    store.close()
    head = max(number for name in disk.listing() if (number := segment_number(name)) is not None)
    for number in range(head + 1, head + 4):
        disk.overwrite(segment_name(number), bytes(SEGMENT_BYTES))
    disk.capacity = disk.used()
    assert entries_on(disk.restart()) == 9
    assert disk.used() < disk.capacity


def test_a_snapshot_that_filled_the_disk_does_not_keep_the_node_from_starting() -> None:
    disk = a_disk()
    store = open_store(disk)
    disk.capacity = disk.used() + 100_000
    writer = store.create_snapshot(SnapshotMeta(Index(5), Term(1), Members.initial([1])))
    writer.write(bytes(64 * 1024))
    with pytest.raises(SnapshotNotWritten):
        writer.write(bytes(64 * 1024))
    assert entries_on(disk.restart()) == 9


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename"])
def test_a_snapshot_without_room_is_given_up_and_the_log_goes_on(step: str) -> None:
    disk = a_disk(1)
    store = open_store(disk)
    before = disk.listing()
    state = bytes(100) if step == "sync" else bytes(70_000)

    def fail(call: Call) -> None:
        own = part_name(META.position, None)
        if call.operation == step and call.name == own and (step != "write" or call.offset > 0):
            raise NoSpace(step, own, "no space left")

    disk.watch = fail
    for _ in range(2):
        with pytest.raises(SnapshotNotWritten):
            write_snapshot(store, state)
        assert disk.listing() == before

    store.write([append(2)])
    disk.watch = None
    write_snapshot(store, state)
    store.write([Persist(WriteId(3), snapshot=META)])
    store.close()
    recovered = open_store(disk.crash()).recover()
    assert recovered.snapshot == META
    assert [entry.index for entry in recovered.entries] == [2]


def test_a_snapshot_gives_way_to_a_segment_of_the_log() -> None:
    disk = a_disk(0)
    store = open_store(disk)
    writer = store.create_snapshot(META)
    writer.write(bytes(65 * 1024))
    disk.capacity = disk.used() + SEGMENT_BYTES // 2
    store.write([append(1, SEGMENT_BYTES // 2)])
    store.write([append(2, SEGMENT_BYTES // 2)])

    with pytest.raises(SnapshotNotWritten):
        writer.write(bytes(10))
    writer.abort()
    assert part_name(META.position, None) not in disk.listing()
    store.close()
    assert entries_on(disk.crash()) == 2


def test_a_received_snapshot_without_room_leaves_the_log_alone() -> None:
    disk = a_disk(1)
    store = open_store(disk)
    before = disk.listing()
    disk.capacity = disk.used() + 20_000
    work = JobRunner(store, KeyValueMachine())
    chunk = StoreChunk(META, "2", 0, bytes(70_000), last=False)

    (report,) = work.run(Lane.CHUNKS, [chunk])

    assert isinstance(report, JobFailed)
    assert report.lane is Lane.CHUNKS
    assert disk.listing() == before
    assert work.run(Lane.WRITE, [append(2)]) == [Persisted(WriteId(2))]


@pytest.mark.parametrize("lane", ["own", "received"])
def test_a_snapshot_file_that_cannot_be_synced_for_another_reason_ends_the_store(lane: str) -> None:
    disk = a_disk(1)
    store = open_store(disk)
    writer = store.create_snapshot(META) if lane == "own" else store.resume_snapshot(META, "2")
    writer.write(bytes(10))

    def fail(call: Call) -> None:
        if call.operation == "sync":
            disk.faults[call.number] = Fault(FaultKind.ERROR)

    disk.watch = fail
    with pytest.raises(StorageBroken):
        writer.finish()
    with pytest.raises(StorageBroken):
        store.write([append(2)])


def test_a_finished_snapshot_that_could_not_be_switched_to_makes_room() -> None:
    disk = a_disk()
    store = open_store(disk)
    writer = store.create_snapshot(SnapshotMeta(Index(5), Term(1), Members.initial([1])))
    writer.write(bytes(2 * SEGMENT_BYTES))
    writer.finish()
    disk.capacity = disk.used()
    assert entries_on(disk.restart()) == 9


def test_a_rotation_without_room_leaves_the_log_as_it_was() -> None:
    disk = a_disk(0)
    store = open_store(disk)
    disk.capacity = disk.used() + SEGMENT_BYTES
    before = disk.listing()
    store.write([append(1, SEGMENT_BYTES // 2)])
    with pytest.raises(StorageBroken):
        store.write([append(2, SEGMENT_BYTES // 2)])
    store.close()
    assert disk.listing() == before
    disk.capacity = None
    assert entries_on(disk.crash()) == entries_on(disk) == 1


def test_a_file_that_is_in_the_way_of_a_new_segment_is_not_deleted() -> None:
    disk = a_disk(0)
    store = open_store(disk)
    head = max(number for name in disk.listing() if (number := segment_number(name)) is not None)
    disk.overwrite(segment_name(head + 1), b"whose is this?")
    with pytest.raises(StorageBroken):
        store.write([append(1, 2 * SEGMENT_BYTES)])
    assert disk.content(segment_name(head + 1)) == b"whose is this?"


@pytest.mark.parametrize("room", [0, 700, SEGMENT_BYTES + 20])
def test_wherever_in_a_history_the_disk_is_full_restarts_take_no_room_and_nothing_is_lost(room: int) -> None:
    script = make_script(4)
    check = _Check(open_store, script, 4, 1)
    calls: list[Call] = []
    disk = CrashDisk()
    disk.watch = calls.append
    for _ in check.play(disk, Standing(), script):
        pass

    full = 0
    for call in (call for call in calls if call.changes):
        full += _full_from(check, call, room)
    assert full > 20


def _full_from(check: _Check, call: Call, room: int) -> bool:
    """The history with a disk that has only `room` more from this call on. Whether that was too little."""
    disk, standing = CrashDisk(), Standing()

    def fill(now: Call) -> None:
        if now.number == call.number:
            disk.capacity = disk.used() + room

    disk.watch = fill
    try:
        for _ in check.play(disk, standing, check.script):
            pass
    except DiskError:
        pass
    else:
        return False
    disk.watch = None
    where = f"full with {room} bytes left from call {call.number} ({call.operation} {call.name})"
    for survivors in (range(0), range(disk.unsynced)):
        check.survives(_roomy(disk.crash(survivors)), standing, f"{where}, then power lost")
    before = disk.used()
    for _ in range(3):
        try:
            recovered = open_store(disk.restart()).recover()
        except NoSpace:
            assert disk.used() <= before, where
            continue
        number = check._prefix(recovered, standing, check.script)
        assert number is not None, where
        standing.acknowledged = number
        break
    for survivors in (range(0), range(disk.unsynced)):
        check.survives(_roomy(disk.crash(survivors)), standing, f"{where}, restarted, then power lost")
    return True


def _roomy(disk: CrashDisk) -> CrashDisk:
    disk.capacity = None
    return disk
