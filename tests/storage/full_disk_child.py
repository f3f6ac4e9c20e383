"""A process that fills its disk with a snapshot and with the log: `tests.storage.full_disk_child KIND DIRECTORY`.

It mounts a small file system at DIRECTORY, so it runs in a mount namespace of its own. It exits with 77 if it may not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from raft_core.effects import Persist
from raft_core.entries import Entry, SnapshotMeta
from raft_core.events import Persisted, SnapshotFailed, SnapshotTaken
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.node.events import JobFailed
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane, StoreChunk, StoreSnapshot
from raft_kv.state_machine import KeyValueMachine
from raft_storage.location import open_store, parse_location

MAY_NOT_MOUNT = 77
CHUNK = 64 * 1024
META = SnapshotMeta(Index(1), Term(1), Members.initial([1]))
DISK_MIB = 192


def free(root: Path) -> int:
    """Return the free bytes of the disk."""
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def fill(root: Path, left: int) -> Path:
    """Make a file of another program that leaves so many bytes."""
    path = root / "filler"
    with path.open("wb") as file:
        while free(root) - left >= CHUNK:
            file.write(bytes(CHUNK))
            file.flush()
    return path


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(CHUNK)


def main(kind: str, root: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", str(root)], capture_output=True, check=False
    )
    if mounted.returncode:
        sys.exit(MAY_NOT_MOUNT)
    location = parse_location(f"{kind}:{root / 'data'}")
    store = open_store(location, node=1, cluster="c")
    store.recover()
    work = JobRunner(store, KeyValueMachine())
    written = 0

    def append(size: int) -> None:
        nonlocal written
        written += 1
        persist = Persist(WriteId(written), entries=(Entry.make(written, 1, bytes(size)),))
        assert work.run(Lane.WRITE, [persist]) == [Persisted(WriteId(written))]

    for _ in range(50):
        append(1000)

    # A snapshot larger than the disk, our own and a received one: each is given up, and the log goes on.
    for _ in range(2):
        (report,) = work.run(Lane.SNAPSHOT, [StoreSnapshot(META, chunks(DISK_MIB * 16))])
        assert isinstance(report, SnapshotFailed), report
        append(1000)
    received: object = None
    for offset in range(0, DISK_MIB * CHUNK * 16, CHUNK):
        (received,) = work.run(Lane.CHUNKS, [StoreChunk(META, "2", offset, bytes(CHUNK), last=False)])
        if isinstance(received, JobFailed):
            break
        if offset % (32 * CHUNK) == 0:
            append(100_000)
    assert isinstance(received, JobFailed), received
    assert received.lane is Lane.CHUNKS
    append(1000)

    # The disk fills up while a snapshot is being written: the snapshot gives way to the log.
    writer = store.create_snapshot(META)
    while free(root) > 80 * 1024 * 1024:
        writer.write(bytes(CHUNK))
    filler = fill(root, 20 * 1024 * 1024)
    for _ in range(20):
        append(500_000)
    filler.unlink()

    # There is room again, and the next one is written.
    (report,) = work.run(Lane.SNAPSHOT, [StoreSnapshot(META, chunks(64))])
    assert report == SnapshotTaken(META), report
    assert work.run(Lane.WRITE, [Persist(WriteId(written + 1), snapshot=META)]) == [Persisted(WriteId(written + 1))]
    store.close()
    store = open_store(location, node=1, cluster="c")
    recovered = store.recover()
    assert recovered.snapshot == META
    assert [entry.index for entry in recovered.entries] == list(range(2, written + 1))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
