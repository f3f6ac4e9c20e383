"""`FileStore`: a node's log and snapshots in plain files.

It decides when each file is written, synced, renamed and deleted. `raft_core.wal` defines the bytes,
`raft_storage.posix` calls the operating system. Safety rests on the order of the steps:

- a batch is written into zeros that were never written before, and synced once;
- the zeros of the next segment are written in the background, into a file that nothing refers to;
- a new segment is synced, then the directory, then the anchor names it; only then is anything in it acknowledged;
- a file is deleted only when its replacement is durable; an unreferenced one, before its room may be needed;
- steps that need room come before the switch, and are undone if there is none;
- after any failure the store is broken: it does not retry on files whose durable contents are unknown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final

from raft_core.effects import Persist
from raft_core.errors import CallerError, DirectoryInUse, DiskError
from raft_core.ids import NO_INDEX, NO_NODE, ClusterId, NodeId
from raft_core.recovered import Identity, Recovered
from raft_core.wal.blocks import NOWHERE, Position, batch_bytes, frame_batch
from raft_core.wal.filesystem import File, FileFailed, Files, LockHeld, NoSpace, write_whole
from raft_core.wal.layout import ANCHOR, LOCK, Anchor, IdentityFile, new_name, sealed, segment_name
from raft_core.wal.records import Body, SegmentHeader, encode
from raft_core.wal.recovery import LiveSegment, Plan, header_of
from raft_storage.data_directory import discard, identity_in, plan_in, put_in_force, replace_file, write_new
from raft_storage.disk_store import DiskStore
from raft_storage.next_segment import Background, NextSegment, at_once, in_thread
from raft_storage.posix import PosixFiles
from raft_storage.snapshot_store import SnapshotStore

__all__ = ["FileStore"]

SEGMENT_BYTES: Final = 8 * 1024 * 1024
MERGE_BYTES: Final = 1024 * 1024
_MOST_UNLINKED: Final = 2
"""Most segments deleted with one write: each takes the file system some milliseconds, and the write waits for it. A
write begins one segment at most, so what is obsolete does not pile up. (A million small entries, dropped at once: half
a second in one write before.)"""
_PREPARED_AT: Final = 4
"""The next segment is prepared when one part in so many of this one is written."""


@final
class FileStore(DiskStore):
    """A `raft_core.store.Store` in one directory. Made by `FileStore.open`."""

    def __init__(
        self, files: Files, identity: IdentityFile, plan: Plan, segment_bytes: int, background: Background
    ) -> None:
        """Take over a directory as planned by recovery. Only for `open`."""
        self._files = files
        self._file_identity = identity
        self._identity = Identity(identity.node, identity.cluster, identity.incarnation)
        self._segment_bytes = segment_bytes
        self._failure: str | None = None
        self._outline = plan.image.outline()
        self._boot = plan.header.boot
        self._kept: list[LiveSegment] = list(plan.kept)
        self._at = NOWHERE
        self._file: File | None = None
        self._room = 0
        self._anchored = NOWHERE
        self._needed_from = NO_INDEX  # the entries before it may be deleted: a durable write says so
        self._next = NextSegment(files, segment_bytes, background)
        for name in plan.rubbish:
            files.unlink(name)
        self._shelf = SnapshotStore(files, identity.cluster, plan.image.snapshot)
        self._begin_segment(plan.header, list(plan.changes))
        for name in plan.obsolete:
            files.unlink(name)
        self._needed_from = self._outline.first
        self._drop_segments(len(self._kept))
        self._recovered: Recovered | None = plan.recovered(self._identity)

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        node: int,
        cluster: str = "",
        files: Files | None = None,
        incarnation: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        merge_bytes: int = MERGE_BYTES,
        background: Background | None = None,
    ) -> FileStore:
        """Open the store in `directory`: format it if empty, recover it otherwise.

        `files` replaces the operating system; `directory` then is only a name for error texts. `incarnation` is used
        for formatting only; by default a random one is drawn. A segment of the log takes `segment_bytes`, or more for
        one large batch. Segments at the log's end that together hold less than `merge_bytes` are merged. `background`
        runs the preparation of the next segment: by default a thread, with `files` the caller's.

        Raise `DirectoryInUse`, `WrongDirectory`, `LogDamaged`, `LogLost`, or another `DiskError` if reading or writing
        fails.
        """
        if node <= NO_NODE:
            raise CallerError(f"a node id is a positive number, not {node}")
        place = os.fspath(directory)
        used = files if files is not None else PosixFiles(directory)
        try:
            used.lock(LOCK)
        except FileFailed as failure:
            if files is None:
                used.close()
            if not isinstance(failure, LockHeld):
                raise
            raise DirectoryInUse(
                f"{place} is in use by {failure.holder or 'another process'}: stop that process, or give this node a"
                " directory of its own"
            ) from failure
        try:
            identity = identity_in(used, place, NodeId(node), ClusterId(cluster), incarnation)
            plan = plan_in(used, identity, merge_bytes)
            return cls(used, identity, plan, segment_bytes, background or (in_thread if files is None else at_once))
        except BaseException:
            used.close()
            raise

    # The write lane.

    def _write(self, batch: Sequence[Persist]) -> None:
        header = self._header_here()
        self._append(header, self._changes(batch))
        if self._outline.snapshot is not header.snapshot and self._outline.snapshot is not None:
            self._shelf.switch(self._outline.snapshot)
        self._needed_from = self._outline.first
        self._drop_segments(_MOST_UNLINKED)

    def _header_here(self) -> SegmentHeader:
        """Return the header of a segment that would begin now."""
        return header_of(
            self._outline,
            self._file_identity,
            sequence=self._at.segment + 1,
            boot=self._boot,
            follows=self._at,
        )

    def _append(self, header: SegmentHeader, changes: Sequence[Body]) -> None:
        """Write and sync the changes in this segment or, if it is full, in the next."""
        payload = encode(changes)
        if self._at.offset + batch_bytes(len(payload)) > self._room:
            self._begin_segment(header, changes)
            return
        assert self._file is not None
        framed = frame_batch(payload, self._at, self._at)
        write_whole(self._file, self._at.offset, framed)
        self._file.sync()
        self._at = Position(self._at.segment, self._at.offset + len(framed))
        if self._at.offset >= self._room // _PREPARED_AT:
            self._next.prepare()

    def _begin_segment(self, header: SegmentHeader, changes: Sequence[Body]) -> None:
        """Begin a new segment with these changes, make it durable, and name it in the anchor."""
        framed = frame_batch(encode([header, *changes]), Position(header.sequence, 0), header.follows)
        room = max(self._segment_bytes, len(framed))
        at = Position(header.sequence, len(framed))
        try:
            write_new(self._files, ANCHOR, sealed(Anchor(self._boot, at)))
            file = self._create_segment(header.sequence, framed, room)
        except NoSpace:
            if not (self._drop_segments(len(self._kept)) + self._shelf.make_way()):  # or a snapshot being written
                self._next.drop()  # the node ends, and needs room to start again
                raise
            write_new(self._files, ANCHOR, sealed(Anchor(self._boot, at)))
            file = self._create_segment(header.sequence, framed, room)
        old, self._file = self._file, file
        self._room, self._at = room, at
        self._kept.append(LiveSegment(header.sequence, header.next))
        if old is not None:
            old.close()
        put_in_force(self._files, ANCHOR)
        self._anchored = at

    def _create_segment(self, sequence: int, framed: bytes, room: int) -> File:
        """Create a durable segment with this batch.

        On failure delete it and free its room: the anchor does not name it yet, so nothing in it was acknowledged.
        """
        name, file = segment_name(sequence), None
        try:
            if room == self._segment_bytes:
                file = self._next.take(name)
            if file is None:
                file = self._files.create(name)
                file.preallocate(room)
            write_whole(file, 0, framed)
            file.sync()
            self._files.sync_directory()
        except BaseException:
            discard(self._files, new_name(ANCHOR))
            if file is not None:  # otherwise the file may not be ours
                discard(self._files, name)
                file.close()
            raise
        return file

    def _drop_segments(self, most: int) -> int:
        """Delete segments whose entries are all below `drop_before`: later segments repeat all else in them.

        Return how many were deleted, `most` at most, the oldest first; the next writes delete the others.
        """
        dropped = 0
        while dropped < most and len(self._kept) > 1 and self._kept[1].next <= self._needed_from:
            self._files.unlink(segment_name(self._kept.pop(0).sequence))
            dropped += 1
        return dropped

    # The end.

    def close(self) -> None:
        """Free the directory. Written data stays; a broken store is closed without another write."""
        if self._failure is None and self._anchored != self._at:
            with suppress(DiskError), self._guarded():
                replace_file(self._files, ANCHOR, sealed(Anchor(self._boot, self._at)))
        finish = self._next.wait if self._failure is not None else self._next.drop
        self._failure = self._failure or "the store is closed"
        file, self._file = self._file, None
        try:
            finish()
            self._shelf.close()
            if file is not None:
                file.close()
        finally:
            self._files.close()
