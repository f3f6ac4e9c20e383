"""Check every byte of a stopped node's data, without changing any.

Plain files are read in place. An engine writes while it opens a database, so a copy of it is opened; finished snapshots
are linked into the copy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, final

import attrs

from raft_core.errors import DirectoryInUse, WrongDirectory
from raft_core.recovered import Identity, Recovered
from raft_core.wal.filesystem import Files, LockHeld, read_whole
from raft_core.wal.layout import IDENTITY, LOCK, read_identity, snapshot_name
from raft_core.wal.snapshot_file import SnapshotFileReader
from raft_storage.data_directory import check_not_moved, plan_in
from raft_storage.location import Location, kind_at, open_store
from raft_storage.migration import copy_store, identity_at, locked
from raft_storage.posix import PosixFiles

__all__ = ["ReadState", "Verified", "verify_store"]

ReadState: TypeAlias = Callable[[Iterator[bytes]], object]
"""Called with the state of a snapshot, to check what only its machine understands."""

_NO_MERGING = 0


@final
@attrs.frozen
class Verified:
    """An intact store: its owner, its log, and the size of its snapshot's state in bytes (0: no snapshot)."""

    identity: Identity
    recovered: Recovered
    snapshot_bytes: int


def verify_store(location: Location, read_state: ReadState = list, *, scratch: str | None = None) -> Verified:
    """Check all records of the log and every byte of the snapshot; the node must be stopped.

    `scratch`: the directory for the copy of an engine's database; the system's temporary one by default. Raise
    `LogDamaged` with file and offset, `WrongDirectory` if there is no store of this kind, `DirectoryInUse`,
    `PackageMissing`, or another `DiskError`.
    """
    found = kind_at(location.directory)
    if found != location.kind:
        held = "no store" if found is None else f"a store of kind {found}"
        raise WrongDirectory(f"{location.directory} holds {held}, not one of kind {location.kind}")
    if location.kind == "file":
        return _verify_files(location.directory, read_state)
    return _verify_copy(location, read_state, scratch)


def _verify_files(directory: str, read_state: ReadState) -> Verified:
    with _read_only(directory) as files:
        check_not_moved(files, directory)
        owner = read_identity(read_whole(files, IDENTITY))
        identity = Identity(owner.node, owner.cluster, owner.incarnation)
        recovered = plan_in(files, owner, _NO_MERGING).recovered(identity)
        size = 0
        if recovered.snapshot is not None:
            file = files.open(snapshot_name(recovered.snapshot.position))
            try:
                reader = SnapshotFileReader(file)
                size = reader.size
                read_state(reader.chunks())
            finally:
                file.close()
        return Verified(identity, recovered, size)


@contextmanager
def _read_only(directory: str) -> Iterator[Files]:
    files = PosixFiles(directory, read_only=True)
    try:
        try:
            files.lock(LOCK)
        except LockHeld as failure:
            raise DirectoryInUse(f"{directory} is in use: stop the node first") from failure
        yield files
    finally:
        files.close()


def _verify_copy(location: Location, read_state: ReadState, scratch: str | None) -> Verified:
    with locked(location.directory) as files, tempfile.TemporaryDirectory(prefix="raft-verify-", dir=scratch) as room:
        check_not_moved(files, location.directory)
        identity = identity_at(files, location)
        copy = Location(location.kind, os.path.join(room, "copy"))
        copy_store(files, location.directory, copy.directory)
        store = open_store(copy, node=identity.node, cluster=identity.cluster)
        try:
            recovered = store.recover()
            size = 0
            if recovered.snapshot is not None:
                reader = store.open_snapshot(recovered.snapshot)
                try:
                    size = reader.size
                    read_state(reader.chunks())
                finally:
                    reader.close()
            return Verified(identity, recovered, size)
        finally:
            store.close()
