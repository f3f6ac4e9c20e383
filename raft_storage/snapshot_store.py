"""`SnapshotStore`: the snapshots of a data directory, finished and incoming, with their readers and writers.

The format is in `raft_core.wal.snapshot_file`. A snapshot is written under a name of its own, synced, renamed, and its
name synced; then it is finished. The log decides which finished one is in force; the older ones are then deleted.

A snapshot without room is given up, and its room is free again; the store goes on, because no acknowledgement depends
on an unfinished file. Once a file has its final name, every failure is final for the whole store.

A log that cannot get back from a failed write for lack of room, as in a database engine, keeps a reserve: a snapshot
without room in front of the reserve is given up before the disk is full.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import TypeAlias, final

from raft_core.entries import LogPosition, SnapshotMeta
from raft_core.errors import CallerError, DiskError, LogDamaged
from raft_core.ids import ClusterId
from raft_core.wal.filesystem import File, Files, NoSpace
from raft_core.wal.layout import is_received, is_unfinished, part_name, snapshot_name, snapshot_position
from raft_core.wal.snapshot_file import (
    CHUNK_BYTES,
    SNAPSHOT_REMEDY,
    SnapshotFileReader,
    SnapshotFileWriter,
    SnapshotHeader,
)

__all__ = ["Guard", "SnapshotNotWritten", "SnapshotStore", "verify_snapshot"]

Guard: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Makes a failure inside final for the whole store."""


class SnapshotNotWritten(DiskError):
    """The disk has no room for this snapshot. The log goes on; the snapshot is tried again later."""


def _no_room(failure: NoSpace) -> SnapshotNotWritten:
    return SnapshotNotWritten(f"there is no room for the snapshot: {failure}; make room on the disk")


def verify_snapshot(files: Files, cluster: ClusterId, meta: SnapshotMeta) -> None:
    """Check every byte of the finished snapshot. Raise `LogDamaged`."""
    file = files.open(snapshot_name(meta.position))
    try:
        reader = SnapshotFileReader(file)
        if reader.header.cluster != cluster or reader.meta.position != meta.position:
            raise LogDamaged(file.name, 0, "this is not the snapshot that the log names", SNAPSHOT_REMEDY)
        reader.verify()
    finally:
        file.close()


@final
class SnapshotStore:
    """The snapshots of one directory. Every method may be called from any thread."""

    def __init__(self, files: Files, cluster: ClusterId, in_force: SnapshotMeta | None, *, reserve: int = 0) -> None:
        """Take over the snapshots in `files`; leave `reserve` bytes of the disk to the log."""
        self._files = files
        self._reserve = reserve
        self._cluster = cluster
        self._lock = threading.Lock()
        self._finished: set[LogPosition] = {in_force.position} if in_force is not None else set()
        self._open_parts: dict[str, _Writer] = {}
        self._inherited = {name for name in files.names() if is_unfinished(name)}
        """Parts written before this opening, by a process whose syncs may have failed."""

    def require(self, meta: SnapshotMeta) -> None:
        """Raise `CallerError` unless the snapshot is finished."""
        if meta.position not in self._finished:
            raise CallerError(f"there is no finished snapshot at index {meta.index}, term {meta.term} to switch to")

    def create(self, meta: SnapshotMeta, guard: Guard) -> _Writer:
        """Return a writer for this node's own snapshot; discard an earlier part of it."""
        name = part_name(meta.position, None)
        with self._lock:
            self._discard(name)
        return self._begin(name, meta, guard)

    def resume(self, meta: SnapshotMeta, source: str, guard: Guard) -> _Writer:
        """Return a writer for a received snapshot; discard every other incoming one."""
        wanted = part_name(meta.position, source)
        with self._lock:
            for name in self._files.names():
                if is_received(name) and name != wanted:
                    self._discard(name)
            writer = self._open_parts.pop(wanted, None)
            if writer is not None:
                writer.leave()
            if wanted in self._files.names() and not self._continues(wanted, meta):
                self._discard(wanted)
        return self._begin(wanted, meta, guard)

    def _header(self, meta: SnapshotMeta) -> SnapshotHeader:
        return SnapshotHeader(self._cluster, meta, CHUNK_BYTES)

    def _continues(self, name: str, meta: SnapshotMeta) -> bool:
        file = self._files.open(name)
        try:
            return SnapshotFileWriter.belongs(file, self._header(meta))
        finally:
            file.close()

    def _begin(self, name: str, meta: SnapshotMeta, guard: Guard) -> _Writer:
        """Without the lock, because reading the existing part can take long."""
        file: File | None = None
        try:
            self.leave_reserve(name, 0)
            file = self._files.open(name) if name in self._files.names() else self._files.create(name)
            part = SnapshotFileWriter(file, self._header(meta), rewrite=name in self._inherited)
        except NoSpace as failure:
            if file is not None:
                file.close()
                self._files.unlink(name)
            raise _no_room(failure) from failure
        writer = _Writer(self, name, part, meta, guard)
        with self._lock:
            self._inherited.discard(name)
            self._open_parts[name] = writer
        return writer

    def _discard(self, name: str) -> None:
        writer = self._open_parts.pop(name, None)
        if writer is not None:
            writer.leave()
        if name in self._files.names():
            self._files.unlink(name)

    def finish(self, name: str, meta: SnapshotMeta) -> None:
        """Make the complete and synced file of that name the finished snapshot of its position."""
        with self._lock:
            self._open_parts.pop(name, None)
            self._check_finished(name)
            if meta.position in self._finished:  # two of the same position hold the same state: keep the first
                self._files.unlink(name)
                return
            self._rename(name, meta)
            self._files.sync_directory()
            self._finished.add(meta.position)

    def _rename(self, name: str, meta: SnapshotMeta) -> None:
        try:
            self._files.rename(name, snapshot_name(meta.position))
        except NoSpace as failure:  # the directory cannot grow; the file keeps its old name
            self._files.unlink(name)
            raise _no_room(failure) from failure

    def leave_reserve(self, name: str, length: int) -> None:
        """Raise `NoSpace` if `length` more bytes of a snapshot would take from the log's reserve."""
        if not self._reserve:
            return
        room = self._files.room()
        if room is not None and room - length < self._reserve:
            raise NoSpace("write", name, f"{room:,} bytes are free, of which {self._reserve:,} are left to the log")

    def make_way_below(self, room: int) -> None:
        """Give up every unfinished snapshot if the disk has less room than this."""
        if self._open_parts:
            found = self._files.room()
            if found is not None and found < room:
                self.make_way()

    def make_way(self) -> bool:
        """Give up every unfinished snapshot: the log needs the room. Return whether there was one.

        Waits for a chunk that is being written.
        """
        with self._lock:
            writers = list(self._open_parts.values())
        return sum(writer.make_way() for writer in writers) > 0

    def close(self) -> None:
        """Stop all writing. Received parts stay, and are resumed after a restart."""
        with self._lock:
            writers, self._open_parts = list(self._open_parts.values()), {}
        for writer in writers:
            writer.leave()

    def _check_finished(self, name: str) -> None:
        """Check that the file is readable from its trailer. It is not if an interrupted write left a longer file."""
        file = self._files.open(name)
        try:
            SnapshotFileReader(file)
        except LogDamaged:
            self._files.unlink(name)
            raise
        finally:
            file.close()

    def abort(self, name: str) -> None:
        """Discard the unfinished snapshot."""
        with self._lock:
            self._discard(name)

    def open(self, meta: SnapshotMeta, guard: Guard) -> _Reader:
        """Open a finished snapshot. Raise `DiskError` if it is gone, `LogDamaged` if it is damaged."""
        with self._lock:
            if meta.position not in self._finished:
                raise DiskError(f"there is no snapshot at index {meta.index}, term {meta.term} any more")
            file = self._files.open(snapshot_name(meta.position))
            try:
                return _Reader(SnapshotFileReader(file), guard)
            except BaseException:
                file.close()
                raise

    def switch(self, meta: SnapshotMeta) -> None:
        """Delete older snapshots: this one is in force, durably."""
        with self._lock:
            for position in sorted(self._finished, key=lambda position: (position.index, position.term)):
                if position != meta.position and position.index <= meta.index:
                    self._finished.discard(position)
                    self._files.unlink(snapshot_name(position))

    def forget_all_but(self, meta: SnapshotMeta | None) -> None:
        """Delete every finished snapshot on the disk but this one, which is durably in force."""
        with self._lock:
            for name in self._files.names():
                position = snapshot_position(name)
                if position is not None and (meta is None or position != meta.position):
                    self._files.unlink(name)


@final
class _Reader:
    """A `SnapshotReader`."""

    def __init__(self, reader: SnapshotFileReader, guard: Guard) -> None:
        self._reader = reader
        self._guard = guard

    @property
    def meta(self) -> SnapshotMeta:
        return self._reader.meta

    @property
    def size(self) -> int:
        return self._reader.size

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end."""
        with self._guard():
            return self._reader.read(offset, length)

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole state in order."""
        chunks = self._reader.chunks()
        while True:
            with self._guard():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        """Close the file; if the snapshot was replaced, this frees its space."""
        self._reader.close()


@final
class _Writer:
    """A `SnapshotWriter`. It is dead once finished or aborted, or once another one took over its file.

    The write lane can give it up in the middle, under the lock. It is taken before the store's lock, never after it.
    """

    def __init__(
        self, shelf: SnapshotStore, name: str, writer: SnapshotFileWriter, meta: SnapshotMeta, guard: Guard
    ) -> None:
        self._shelf = shelf
        self._name = name
        self._writer: SnapshotFileWriter | None = writer
        self._meta = meta
        self._guard = guard
        self._lock = threading.Lock()
        self._crowded_out = False

    @property
    def offset(self) -> int:
        return self._living().offset

    def write(self, data: bytes) -> None:
        """Append to the state. Raise `SnapshotNotWritten`, and give the snapshot up, if there is no room."""
        with self._lock, self._guard():
            writer = self._living()
            try:
                self._shelf.leave_reserve(self._name, len(data))
                writer.write(data)
            except NoSpace as failure:
                self._give_up()
                raise _no_room(failure) from failure

    def finish(self) -> None:
        """Make the snapshot durable under its name, so that it can be switched to. Raise as `write` does."""
        with self._lock, self._guard():
            writer = self._living()
            try:
                writer.finish()
            except NoSpace as failure:
                self._give_up()
                raise _no_room(failure) from failure
            self._writer = None
            self._shelf.finish(self._name, self._meta)

    def abort(self) -> None:
        """Discard the written data. A second call, or one after another writer took over, does nothing."""
        with self._lock:
            if self._writer is None:
                return
            with self._guard():
                self._shelf.abort(self._name)

    def make_way(self) -> bool:
        """Give the snapshot up, to free its room. Return whether it was still being written."""
        with self._lock:
            if self._writer is None:
                return False
            self._give_up()
            self._crowded_out = True
            return True

    def _give_up(self) -> None:
        with suppress(DiskError):  # it is closed in any case, and the next opening deletes unfinished files
            self._shelf.abort(self._name)
        self.leave()

    def leave(self) -> None:
        """Leave the file to another writer, as it is."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _living(self) -> SnapshotFileWriter:
        if self._crowded_out:
            raise SnapshotNotWritten(
                "the snapshot was given up, because the log needed its room; make room on the disk"
            )
        if self._writer is None:
            raise CallerError("this snapshot was finished, aborted, or taken over by another writer")
        return self._writer
