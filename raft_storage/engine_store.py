"""`EngineStore`: the log in a database engine, and snapshots in files beside it.

The common part of all engines; each engine is behind `raft_storage.engine.Engine`. One `write` is one transaction and
one sync, however many `Persist`s it holds. Safety rests on the order of the steps:

- a commit is durable, then the mark names it, and only then is it acknowledged;
- opening reads and checks every row, and commits one of its own before anything else is deleted;
- a snapshot is finished before the commit that switches to it; older ones are deleted after that commit;
- obsolete rows are deleted a few per commit, so that no write waits for a million of them;
- after any failure the store is broken until it is opened again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Final, TypeAlias, final

import msgspec

from raft_core.effects import Persist
from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError, DirectoryInUse, DiskError, LogDamaged, WrongDirectory
from raft_core.ids import NO_NODE, BootNumber, ClusterId, Incarnation, NodeId
from raft_core.recovered import Identity, Recovered
from raft_core.structs import Value
from raft_core.wal.filesystem import FileFailed, Files, LockHeld, read_whole
from raft_core.wal.layout import (
    LOCK,
    RESTORE_REMEDY,
    is_received,
    is_unfinished,
    new_name,
    snapshot_name,
    snapshot_position,
)
from raft_core.wal.records import Change
from raft_storage.data_directory import check_not_moved, drawn_incarnation, replace_file
from raft_storage.disk_store import DiskStore
from raft_storage.engine import Engine, Range
from raft_storage.mark import MARK, MarkFile, create_mark, read_mark
from raft_storage.posix import PosixFiles
from raft_storage.rows import ROWS_VERSION, START, STATE, RowsRead, RowState, read_rows, seal_row, seal_state
from raft_storage.snapshot_store import SnapshotStore, verify_snapshot

__all__ = ["ENGINE", "EngineStore", "OpenEngine", "Opening", "engine_identity_in", "engine_in"]

OpenEngine: TypeAlias = Callable[[Files, bool], Engine]
"""Opens the engine in a locked directory; with True, creates its database."""

ENGINE: Final = "engine"
"""The file that marks the directory of an engine store, with the engine's kind and the owner."""

_DROP_ROWS: Final = 512
_DROP_BYTES: Final = 1024 * 1024
"""Most rows, and bytes of rows, deleted with one commit."""

RESERVE: Final = 64 * 1024 * 1024
"""Room that a snapshot leaves to the engine. A commit without room ends the store, and a checkpoint, a flush or a
compaction may need some 16 MiB at once. Below half of it, unfinished snapshots give way to the log.
"""

_ENGINE_MAGIC: Final = b"RAFTENGN"
_SEAL: Final = struct.Struct("<8sIII")


@final
class _EngineFile(Value, frozen=True, array_like=True):
    """The owner of a directory, and the engine that keeps its log."""

    kind: str
    cluster: ClusterId
    node: NodeId
    incarnation: Incarnation


def _sealed(value: _EngineFile) -> bytes:
    body = msgspec.msgpack.encode(value)
    start = _SEAL.pack(_ENGINE_MAGIC, ROWS_VERSION, len(body), 0)[:-4]
    return start + zlib.crc32(body, zlib.crc32(start)).to_bytes(4, "little") + body


def _unsealed(data: bytes) -> _EngineFile:
    if len(data) < _SEAL.size:
        raise LogDamaged(ENGINE, 0, "the file is too short", RESTORE_REMEDY)
    magic, version, length, checksum = _SEAL.unpack_from(data)
    body = data[_SEAL.size :]
    if (
        magic != _ENGINE_MAGIC
        or len(body) != length
        or zlib.crc32(body, zlib.crc32(data[: _SEAL.size - 4])) != checksum
    ):
        raise LogDamaged(ENGINE, 0, "the checksum is wrong", RESTORE_REMEDY)
    if version > ROWS_VERSION:
        raise WrongDirectory(f"{ENGINE} has format {version}, this library reads {ROWS_VERSION}: use a newer library")
    try:
        return msgspec.msgpack.decode(body, type=_EngineFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
        raise LogDamaged(ENGINE, _SEAL.size, f"cannot be decoded: {failure}", RESTORE_REMEDY) from None


def engine_in(files: Files) -> str | None:
    """Return the kind of engine that keeps this directory, None if none does.

    Raise `LogDamaged` if the file with the kind is damaged.
    """
    return _unsealed(read_whole(files, ENGINE)).kind if ENGINE in files.names() else None


def engine_identity_in(files: Files) -> Identity:
    """Return the owner of this directory. Raise `LogDamaged`."""
    found = _unsealed(read_whole(files, ENGINE))
    return Identity(found.node, found.cluster, found.incarnation)


class EngineStore(DiskStore):
    """A `raft_core.store.Store` on a database engine. Made by the `open` of a class for one engine."""

    def __init__(self, files: Files, identity: Identity, engine: Engine, found: RowsRead, mark: MarkFile) -> None:
        """Take over a directory whose rows were read. Only for `open_on`."""
        self._files = files
        self._identity = identity
        self._engine = engine
        self._mark = mark
        self._failure: str | None = None
        image = found.image
        image.forget_unneeded()
        self._outline = image.outline()
        self._at = found.state.newest if found.state is not None else START
        self._boot = BootNumber((found.state.boot if found.state is not None else 0) + 1)
        self._oldest, self._before, self._sizes = found.oldest, found.before, found.sizes
        self._dropped = 0  # rows at the front of `_before` that are deleted already
        try:
            for name in _rubbish(files.names(), image.snapshot):
                files.unlink(name)
            self._shelf = SnapshotStore(files, identity.cluster, image.snapshot, reserve=RESERVE)
            self._begin(image.snapshot)
        except BaseException:
            self._free()
            raise
        self._recovered: Recovered | None = Recovered(
            identity, image.hard, image.snapshot, image.behind_snapshot(), self._boot, covered=image.covered()
        )

    def _begin(self, snapshot: SnapshotMeta | None) -> None:
        """Commit the opening, which makes the recovered state durable; then delete obsolete rows and snapshots."""
        self._commit([])
        self._mark.sync()
        self._shelf.forget_all_but(snapshot)

    @property
    def engine(self) -> Engine:
        """The open database, for tests and tools: the store is not responsible for changes made through it."""
        return self._engine

    # The write lane.

    def _write(self, batch: Sequence[Persist]) -> None:
        """Commit one transaction."""
        snapshot = self._outline.snapshot
        self._next_before = self._outline.next
        self._commit(self._changes(batch))
        if self._outline.snapshot is not snapshot and self._outline.snapshot is not None:
            self._shelf.switch(self._outline.snapshot)

    def raise_boot(self, boot: BootNumber) -> None:
        """Raise the number of the next opening above `boot`, durably: for data from another store."""
        with self._guarded():
            self._boot = max(self._boot, boot)
            self._commit([])

    def _commit(self, changes: list[Change]) -> None:
        """Commit the next row with the state after it, and name it in the mark."""
        outline = self._outline
        next_before = self._next_before if changes else outline.next
        row, newest = seal_row(self._at.number + 1, next_before, self._at.chain, changes)
        state = RowState(
            cluster=self._identity.cluster,
            node=self._identity.node,
            incarnation=self._identity.incarnation,
            boot=self._boot,
            newest=newest,
            first=outline.first,
            next=outline.next,
            hard=outline.hard,
            snapshot=outline.snapshot,
        )
        self._before.append(next_before)
        self._sizes.append(len(row))
        drop = self._droppable()
        self._shelf.make_way_below(RESERVE // 2)
        checkpoint = self._engine.commit([(STATE, seal_state(state)), (newest.number, row)], drop)
        self._at = newest
        self._mark.put(newest)
        if checkpoint:
            self._mark.sync()
        self._dropped_upto(drop[1])

    def _droppable(self) -> Range:
        """Return the oldest rows whose entries are all below `first`, as many as one commit may delete."""
        place, size = self._dropped, 0
        while place + 1 < len(self._before) and self._before[place + 1] <= self._outline.first:
            size += self._sizes[place]
            if place - self._dropped >= _DROP_ROWS or (size > _DROP_BYTES and place > self._dropped):
                break
            place += 1
        return self._oldest + self._dropped, self._oldest + place

    def _dropped_upto(self, number: int) -> None:
        self._dropped = number - self._oldest
        if self._dropped > len(self._before) // 2 + _DROP_ROWS:
            self._oldest = number
            self._before, self._sizes = self._before[self._dropped :], self._sizes[self._dropped :]
            self._dropped = 0

    # The end.

    def close(self) -> None:
        """Free the directory. Written data stays; after a failure the store writes nothing more."""
        if self._failure is None:
            with suppress(DiskError), self._guarded():
                self._mark.sync()
        self._failure = self._failure or "the store is closed"
        try:
            self._shelf.close()
        finally:
            self._free()

    def _free(self) -> None:
        self._mark.close()
        try:
            self._engine.close()
        finally:
            self._files.close()

    @property
    def _log_file(self) -> str:
        return self._engine.file


def _rubbish(names: Sequence[str], snapshot: SnapshotMeta | None) -> list[str]:
    """Return unreferenced files: unfinished ones, and snapshots never switched to."""
    base = snapshot.index if snapshot is not None else 0
    found = []
    for name in names:
        position = snapshot_position(name)
        never_in_force = position is not None and position.index > base
        if never_in_force or (is_unfinished(name) and not is_received(name)):
            found.append(name)
    return found


@final
class Opening:
    """The steps that open a directory for an engine of kind `kind`, whose file names begin with `ours`."""

    def __init__(
        self,
        place: str,
        kind: str,
        ours: str,
        node: int,
        cluster: str,
        remove: Callable[[Files, str], None] = lambda files, name: files.unlink(name),
    ) -> None:
        if node <= NO_NODE:
            raise CallerError(f"a node id is a positive number, not {node}")
        self._remove = remove
        self.place, self.kind, self.ours = place, kind, ours
        self.node, self.cluster = NodeId(node), ClusterId(cluster)

    def opened(
        self, open_engine: OpenEngine, incarnation: int | None, files: Files | None = None
    ) -> tuple[Files, Identity, Engine, RowsRead, MarkFile]:
        """Return the parts of an `EngineStore`. If this raises, everything is free again.

        Raise `DirectoryInUse`, `WrongDirectory`, `LogDamaged`, `LogLost`, or another `DiskError`.
        """
        used = self._locked(files)
        try:
            return used, *self._take_over(used, open_engine, incarnation)
        except BaseException:
            used.close()
            raise

    def _locked(self, files: Files | None) -> Files:
        """Return the locked directory. Raise `DirectoryInUse`."""
        used = files if files is not None else PosixFiles(self.place)
        try:
            used.lock(LOCK)
        except FileFailed as failure:
            if files is None:
                used.close()
            if not isinstance(failure, LockHeld):
                raise
            raise DirectoryInUse(
                f"{self.place} is in use by another process: stop that process, or give this node another directory"
            ) from failure
        return used

    def _take_over(
        self, files: Files, open_engine: OpenEngine, incarnation: int | None
    ) -> tuple[Identity, Engine, RowsRead, MarkFile]:
        """Format the directory if it is empty, otherwise check its owner; then read and check its contents."""
        check_not_moved(files, self.place)
        names = files.names()
        fresh = ENGINE not in names
        if fresh:
            self._check_unused(files, names)
            identity = Identity(self.node, self.cluster, drawn_incarnation(incarnation))
            if MARK not in names:
                create_mark(files)
        else:
            identity = self._identity(_unsealed(read_whole(files, ENGINE)))
        mark = read_mark(files)
        engine = open_engine(files, fresh)
        try:
            if fresh:
                files.sync_directory()  # the names of the engine's files
                replace_file(files, ENGINE, _sealed(_EngineFile(self.kind, *_fields(identity))))
            with closing(engine.rows()) as rows:
                found = read_rows(rows, engine.file, identity, mark, engine.tail)
            if found.state is not None and found.state.snapshot is not None:
                self._check_snapshot(files, identity, found.state.snapshot)
            return identity, engine, found, MarkFile(files)
        except BaseException:
            engine.close()
            raise

    def _check_unused(self, files: Files, names: list[str]) -> None:
        if any(snapshot_position(name) is not None for name in names):
            raise LogDamaged(ENGINE, 0, "the file is missing, but the directory holds snapshots", RESTORE_REMEDY)
        begun = [name for name in names if name.startswith(self.ours)]
        if (begun and MARK not in names) or (MARK in names and read_mark(files).number):
            raise LogDamaged(ENGINE, 0, "the file is missing, but the directory was in use", RESTORE_REMEDY)
        known = {LOCK, MARK, "lost+found", new_name(MARK), new_name(ENGINE), *begun}
        if foreign := [name for name in names if name not in known]:
            raise WrongDirectory(
                f"{self.place} is not a data directory for {self.kind}, but holds {foreign[0]!r}: give this node an"
                " empty directory, or the location with which it was started before"
            )
        for name in begun:  # the mark, made before them, shows that nothing was ever committed
            self._remove(files, name)

    def _identity(self, found: _EngineFile) -> Identity:
        if found.kind != self.kind:
            raise WrongDirectory(
                f"{self.place} is kept by {found.kind}, not by {self.kind}: start this node with"
                f" {found.kind}:{self.place}, or move it with raft-kv migrate"
            )
        if (found.node, found.cluster) != (self.node, self.cluster):
            raise WrongDirectory(
                f"{self.place} belongs to node {found.node} of cluster {found.cluster!r}, not to node {self.node} of"
                f" cluster {self.cluster!r}: give this node the directory that it had before, or an empty one if it is"
                " new"
            )
        return Identity(found.node, found.cluster, found.incarnation)

    def _check_snapshot(self, files: Files, identity: Identity, meta: SnapshotMeta) -> None:
        name = snapshot_name(meta.position)
        if name not in files.names():
            raise LogDamaged(name, 0, "the snapshot that the log builds on is missing", RESTORE_REMEDY)
        verify_snapshot(files, identity.cluster, meta)


def _fields(identity: Identity) -> tuple[ClusterId, NodeId, Incarnation]:
    return identity.cluster, identity.node, identity.incarnation
