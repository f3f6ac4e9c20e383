"""Move a node's data from one store to another, while the node is stopped.

The source is read from a copy of its small files and links to its snapshots, so nothing in it changes except that at
the end it gets a file named `moved`, which prevents an accidental start. The target is built and checked under another
name beside its place, and takes its place by one renaming. So after an interruption the target is either absent or
complete, and the move can be started over.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from raft_core.effects import Persist
from raft_core.entries import ENTRY_OVERHEAD, Entry
from raft_core.errors import CallerError, DirectoryInUse, DiskError, LogDamaged, WrongDirectory
from raft_core.ids import BootNumber, WriteId
from raft_core.recovered import Identity, Recovered
from raft_core.store import Store
from raft_core.wal.filesystem import FileFailed, Files, LockHeld, read_whole
from raft_core.wal.layout import (
    ANCHOR,
    IDENTITY,
    LOCK,
    RESTORE_REMEDY,
    Anchor,
    is_unfinished,
    read_anchor,
    read_identity,
    sealed,
    snapshot_position,
)
from raft_storage.data_directory import MOVED, replace_file
from raft_storage.engine_store import EngineStore, engine_identity_in
from raft_storage.location import Location, kind_at, open_store, store_class
from raft_storage.posix import PosixFiles

__all__ = ["Progress", "copy_store", "identity_at", "locked", "migrate"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done and the total."""

_PAGE_BYTES: Final = 1024 * 1024


def _silent(_done: int, _total: int) -> None:
    """Show no progress."""


def migrate(source: Location, target: Location, progress: Progress = _silent) -> Recovered:
    """Move the contents of `source` to `target`, including the identity. Return a node's starting state there.

    The node must be stopped. `target` must not exist, or be empty. Raise `DirectoryInUse`, `WrongDirectory`,
    `PackageMissing`, `LogDamaged`, `LogLost`, or another `DiskError`; then nothing has changed, except that a directory
    named like the target with the suffix `.migrating` may be left, which the next attempt removes.
    """
    store_class(source), store_class(target)
    place = os.path.abspath(target.directory)
    if os.path.realpath(source.directory) == os.path.realpath(place):
        raise CallerError(f"{source} and {target} are the same directory: move it to a new one")
    found = kind_at(source.directory)
    if found != source.kind:
        held = "no store" if found is None else f"a store of kind {found}"
        raise WrongDirectory(f"{source.directory} holds {held}, not one of kind {source.kind}")
    if os.path.exists(place) and (not os.path.isdir(place) or os.listdir(place)):
        raise WrongDirectory(f"{place} is not empty: move the data to a new directory")
    building = place + ".migrating"
    with locked(source.directory) as files:
        _check_not_moved(files, source)
        shutil.rmtree(building, ignore_errors=True)
        os.makedirs(building, 0o700)
        try:
            identity = identity_at(files, source)
            reading = Location(source.kind, os.path.join(building, "source"))
            copy_store(files, source.directory, reading.directory)
            writing = Location(target.kind, os.path.join(building, "target"))
            recovered = _build(reading, writing, identity, progress)
            _take_place(files, writing.directory, place, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return recovered


@contextmanager
def locked(directory: str) -> Iterator[Files]:
    """Lock the source against other users."""
    files = PosixFiles(directory)
    try:
        try:
            files.lock(LOCK)
        except LockHeld as failure:
            raise DirectoryInUse(f"{directory} is in use: stop the node first") from failure
        yield files
    finally:
        files.close()


def _check_not_moved(files: Files, source: Location) -> None:
    """Refuse a marked source, if the target exists: otherwise the move was interrupted before its last step."""
    if MOVED not in files.names():
        return
    moved_to = read_whole(files, MOVED).decode(errors="replace").strip()
    if kind_at(moved_to.partition(":")[2]) is not None:
        raise WrongDirectory(f"{source.directory} was moved to {moved_to} already: start the node there")
    files.unlink(MOVED)
    files.sync_directory()


def identity_at(files: Files, source: Location) -> Identity:
    """Return the owner of a store."""
    if source.kind != "file":
        return engine_identity_in(files)
    found = read_identity(read_whole(files, IDENTITY))
    return Identity(found.node, found.cluster, found.incarnation)


def copy_store(files: Files, directory: str, copy: str) -> None:
    """Copy the files that a store opens; link finished snapshots if possible, as they are never written again."""
    os.mkdir(copy, 0o700)
    for name in files.names():
        if name == LOCK or is_unfinished(name):
            continue
        old, new = os.path.join(directory, name), os.path.join(copy, name)
        if os.path.isdir(old):
            shutil.copytree(old, new)
            continue
        if snapshot_position(name) is not None:
            with suppress(OSError):
                os.link(old, new)
                continue
        shutil.copyfile(old, new)


def _build(reading: Location, writing: Location, identity: Identity, progress: Progress) -> Recovered:
    """Fill the target from the copy, close it, open it again, and compare every record."""
    node, cluster, incarnation = identity.node, identity.cluster, identity.incarnation
    source = open_store(reading, node=node, cluster=cluster)
    try:
        recovered = source.recover()
        pages = list(_pages(recovered.entries))
        count = _Counter(2 * (sum(map(_size, pages)) + _snapshot_size(source, recovered)), progress)
        target = open_store(writing, node=node, cluster=cluster, incarnation=incarnation)
        try:
            target.recover()
            _fill(source, target, recovered, pages, count)
        finally:
            target.close()
        _raise_boot(writing, identity, recovered.boot)
        target = open_store(writing, node=node, cluster=cluster)
        try:
            found = target.recover()
            _compare(source, target, recovered, found, writing, count)
        finally:
            target.close()
        return found
    finally:
        source.close()


class _Counter:
    """The progress of the move."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.done, self.total, self.progress = 0, max(1, total), progress

    def add(self, size: int) -> None:
        self.done += size
        self.progress(min(self.done, self.total), self.total)


def _size(entries: tuple[Entry, ...]) -> int:
    return sum(len(entry.data) + ENTRY_OVERHEAD for entry in entries)


def _pages(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    """Cut the entries into pages of about a mebibyte."""
    start, size = 0, 0
    for place, entry in enumerate(entries):
        size += len(entry.data) + ENTRY_OVERHEAD
        if size >= _PAGE_BYTES:
            yield entries[start : place + 1]
            start, size = place + 1, 0
    if start < len(entries):
        yield entries[start:]


def _snapshot_size(source: Store, recovered: Recovered) -> int:
    if recovered.snapshot is None:
        return 0
    reader = source.open_snapshot(recovered.snapshot)
    try:
        return reader.size
    finally:
        reader.close()


def _fill(source: Store, target: Store, recovered: Recovered, pages: list[tuple[Entry, ...]], count: _Counter) -> None:
    if recovered.snapshot is not None:
        reader = source.open_snapshot(recovered.snapshot)
        try:
            writer = target.create_snapshot(recovered.snapshot)
            for chunk in reader.chunks():
                writer.write(chunk)
                count.add(len(chunk))
            writer.finish()
        finally:
            reader.close()
    target.write([Persist(WriteId(1), hard=recovered.hard, snapshot=recovered.snapshot)])
    for page in pages:
        target.write([Persist(WriteId(1), entries=page)])
        count.add(_size(page))


def _raise_boot(writing: Location, identity: Identity, boot: BootNumber) -> None:
    """Raise the next boot number of the target above every opening of the source."""
    if writing.kind == "file":
        files = PosixFiles(writing.directory)
        try:
            anchor = read_anchor(read_whole(files, ANCHOR))
            replace_file(files, ANCHOR, sealed(Anchor(boot, anchor.synced)))
        finally:
            files.close()
        return
    store = open_store(writing, node=identity.node, cluster=identity.cluster)
    assert isinstance(store, EngineStore)
    try:
        store.raise_boot(boot)
    finally:
        store.close()


def _compare(
    source: Store, target: Store, wanted: Recovered, found: Recovered, writing: Location, count: _Counter
) -> None:
    def differs(what: str) -> LogDamaged:
        return LogDamaged(writing.directory, 0, f"{what} came back different from the disk", RESTORE_REMEDY)

    if found.identity != wanted.identity or found.hard != wanted.hard or found.snapshot != wanted.snapshot:
        raise differs("identity, term and vote, or the snapshot's place")
    if found.boot <= wanted.boot or len(found.entries) != len(wanted.entries):
        raise differs("the number of the opening, or of entries,")
    for page in _pages(wanted.entries):
        start = page[0].index - wanted.entries[0].index
        if found.entries[start : start + len(page)] != page:
            raise differs(f"one of the entries from {page[0].index} to {page[-1].index}")
        count.add(_size(page))
    if wanted.snapshot is None:
        return
    one, other = source.open_snapshot(wanted.snapshot), target.open_snapshot(wanted.snapshot)
    try:
        if one.size != other.size:
            raise differs("the snapshot's size")
        for offset in range(0, one.size, _PAGE_BYTES):
            chunk = one.read(offset, _PAGE_BYTES)
            if other.read(offset, _PAGE_BYTES) != chunk:
                raise differs(f"the snapshot at byte {offset}")
            count.add(len(chunk))
    finally:
        one.close()
        other.close()


def _take_place(files: Files, built: str, place: str, target: Location) -> None:
    """Mark the source, then rename the target into place; on failure remove the mark."""
    replace_file(files, MOVED, f"{target.kind}:{place}\n".encode())
    try:
        os.rename(built, place)
        parent = os.open(os.path.dirname(place), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as failure:
        if not os.path.exists(built):  # renamed, but perhaps not durably: both must not be startable
            shutil.rmtree(place, ignore_errors=True)
        with suppress(DiskError):
            files.unlink(MOVED)
            files.sync_directory()
        raise FileFailed("rename", place, str(failure)) from failure
