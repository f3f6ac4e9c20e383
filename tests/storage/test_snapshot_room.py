"""Snapshots on a full disk, for every store: they are given up, the log goes on, and a later one is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, SnapshotMeta
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.wal.filesystem import NoDescriptor
from raft_core.wal.layout import part_name
from raft_storage.engine_store import RESERVE
from raft_storage.snapshot_store import SnapshotNotWritten
from raft_testing.disk.crash_disk import Call, CrashDisk
from tests.storage.full_disk_child import MAY_NOT_MOUNT

PACKAGES = {"file": "zlib", "sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    for kind, package in PACKAGES.items()
]
META = SnapshotMeta(Index(1), Term(1), Members.initial([1]))
KIB = 1024


def append(index: int, size: int = 100) -> Persist:
    return Persist(WriteId(index), entries=(Entry.make(index, 1, bytes(size)),))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_snapshot_on_full_disk_is_given_up_and_log_goes_on(kind: str, tmp_path: Path) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.storage.full_disk_child", kind, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == MAY_NOT_MOUNT or "unshare" in done.stderr:
        pytest.skip("a file system may not be mounted here")
    assert done.returncode == 0, done.stderr


def test_snapshot_leaves_reserve_to_engine() -> None:
    pytest.importorskip("apsw")
    from tests.storage.sqlite_vfs import open_on

    disk = CrashDisk()
    store = open_on(disk)
    store.recover()
    store.write([append(1)])
    before = disk.listing()
    disk.capacity = disk.used() + RESERVE + 100 * KIB
    writer = store.create_snapshot(META)
    writer.write(bytes(64 * KIB))
    with pytest.raises(SnapshotNotWritten):
        writer.write(bytes(64 * KIB))
    assert disk.listing() == before
    disk.capacity = disk.used() + RESERVE - 1
    with pytest.raises(SnapshotNotWritten):
        store.create_snapshot(META)
    store.write([append(2)])
    store.close()


def test_snapshot_gives_way_before_engine_finds_no_room() -> None:
    pytest.importorskip("apsw")
    from tests.storage.sqlite_vfs import open_on

    disk = CrashDisk()
    store = open_on(disk)
    store.recover()
    writer = store.create_snapshot(META)
    writer.write(bytes(64 * KIB))
    disk.capacity = disk.used() + RESERVE // 2
    store.write([append(1)])
    assert part_name(META.position, None) in disk.listing()
    store.write([append(2)])
    assert part_name(META.position, None) not in disk.listing()
    with pytest.raises(SnapshotNotWritten):
        writer.write(b"more")
    store.close()


def test_snapshot_without_descriptor_leaves_engine_store_usable() -> None:
    pytest.importorskip("apsw")
    from tests.storage.sqlite_vfs import open_on

    disk = CrashDisk()
    store = open_on(disk)
    store.recover()

    def fail(call: Call) -> None:
        if call.operation == "create" and call.name == part_name(META.position, None):
            raise NoDescriptor("create", call.name, "too many open files")

    disk.watch = fail
    with pytest.raises(NoDescriptor):
        store.create_snapshot(META)
    disk.watch = None
    store.write([append(1)])
    store.close()
