"""Backups as files: written piece by piece, checked, and restored into a new cluster.

The format is in `raft_core.backup_format`. A backup is written under another name, `FILE.part`, until it is whole, then
renamed; so `FILE` is at every moment absent, the earlier backup, or a whole new one. After an interruption the part is
continued, if the node still has the same snapshot.

A restored cluster has a name of its own and one voter. Its log begins behind the backup's state, with an entry that
makes this node the only member, in a term above the backup's. Nodes of the old cluster are refused by its name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Self, TypeAlias, final

from raft_core.backup_format import BLOCK_BYTES, BackupDamaged, BackupHeader, BackupReader
from raft_core.entries import HardState
from raft_core.errors import DirectoryInUse, DiskError, LogDamaged, WrongDirectory
from raft_core.quorum_loss import plan_quorum_loss_recovery
from raft_core.recovered import Identity, Recovered
from raft_core.wal.filesystem import FileFailed
from raft_core.wal.layout import RESTORE_REMEDY
from raft_storage.location import Location, open_store, store_class

__all__ = ["BackupFile", "BackupUnusable", "Progress", "backup_states", "restore_backup", "verify_backup"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done and the total."""

_SYNC_BYTES: Final = 16 * 1024 * 1024


class BackupUnusable(DiskError):
    """The file is no whole, intact backup; `offset` is the first byte of the part that is wrong."""

    def __init__(self, path: str, offset: int, problem: str) -> None:
        super().__init__(
            f"{path} at byte {offset:,}: {problem}. It cannot be restored: use another backup, or another copy of this"
            " one"
        )
        self.path = path
        self.offset = offset
        self.problem = problem


def _silent(_done: int, _total: int) -> None:
    """Show no progress."""


@final
class BackupFile:
    """A backup that is being written to `path`; use it as a context manager.

    Example: `header` and `number` come from the part that an earlier attempt left. Ask the node for its snapshot at
    `header.meta`; hand its header to `begin`; then append pieces from `number` on, and `finish`.

    Raise `DirectoryInUse` if another process writes the same backup, and `FileFailed`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = os.fspath(path)
        self._part: Final = f"{self.path}.part"
        self._reader = BackupReader()
        self._unsynced = 0
        try:
            self._file: Final[IO[bytes]] = open(self._part, "a+b")  # noqa: SIM115  # closed by `close`
        except OSError as failure:
            raise FileFailed("open", self._part, str(failure)) from failure
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            self._file.close()
            raise DirectoryInUse(f"{self._part} is being written by another process") from failure
        self._take_up()

    def _take_up(self) -> None:
        """Keep the whole, intact pieces of an earlier attempt; cut the rest."""
        reader = self._reader
        with suppress(BackupDamaged):
            self._file.seek(0)
            while data := self._file.read(BLOCK_BYTES):
                reader.feed(data)
        self._continue(reader)

    def _continue(self, reader: BackupReader) -> None:
        """Write on behind the pieces that `reader` has found intact."""
        self._file.truncate(reader.offset)
        self._file.seek(reader.offset)
        self._reader = BackupReader()
        self._reader.header, self._reader.number, self._reader.offset = reader.header, reader.number, reader.offset

    @property
    def header(self) -> BackupHeader | None:
        """The header, or None before `begin` if no earlier attempt left one."""
        return self._reader.header

    @property
    def number(self) -> int:
        """The piece to append next."""
        return self._reader.number

    @property
    def offset(self) -> int:
        """The bytes that are written."""
        return self._reader.offset

    @property
    def whole(self) -> bool:
        """True once the last piece is appended."""
        return self._reader.done

    def begin(self, piece: bytes) -> BackupHeader:
        """Take the header of the backup; start anew unless the part belongs to it. Raise `BackupDamaged`."""
        first = BackupReader()
        first.feed(piece)
        if first.header is None:
            raise BackupDamaged(0, "the header ends too early")
        if self.header is None or self.header.piece(0) != piece:
            self._continue(BackupReader())
            self.append(piece)
        assert self.header is not None
        return self.header

    def append(self, piece: bytes) -> None:
        """Write the piece `number`. Raise `BackupDamaged` if it is not that one, and `FileFailed`."""
        before = self._reader.number
        self._reader.feed(piece)
        if self._reader.number != before + 1:
            raise BackupDamaged(self._reader.offset, f"piece {before} is incomplete")
        try:
            self._file.write(piece)
            self._unsynced += len(piece)
            if self._unsynced >= _SYNC_BYTES:
                self._sync()
        except OSError as failure:
            raise FileFailed("write", self._part, str(failure)) from failure

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def finish(self) -> BackupHeader:
        """Give the whole backup its name, durably; replace an earlier one. Raise `BackupDamaged` if it is not whole."""
        header = self._reader.close()
        try:
            self._sync()
            os.rename(self._part, self.path)
            _sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except OSError as failure:
            raise FileFailed("rename", self.path, str(failure)) from failure
        return header

    def close(self) -> None:
        """Close the file; what is not finished stays as a part."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@final
class _Reading:
    """A backup in a file that is read from its beginning to its end."""

    def __init__(self, path: str | os.PathLike[str], progress: Progress) -> None:
        self._path = os.fspath(path)
        self._reader = BackupReader()
        self._progress = progress
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115  # closed by `close`
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as failure:
            raise FileFailed("open", self._path, str(failure)) from failure
        self._first: list[bytes] = []
        try:
            while self._reader.header is None and (states := self._next()) is not None:
                self._first += states
            if self._reader.header is None:
                self._end()
        except BaseException:
            self.close()
            raise
        assert self._reader.header is not None
        self.header: BackupHeader = self._reader.header

    def _next(self) -> list[bytes] | None:
        """Return the state in the next bytes of the file; None at its end."""
        try:
            data = self._file.read(BLOCK_BYTES)
        except OSError as failure:
            raise FileFailed("read", self._path, str(failure)) from failure
        try:
            states = self._reader.feed(data) if data else None
        except BackupDamaged as damage:
            raise BackupUnusable(self._path, damage.offset, damage.problem) from None
        self._progress(min(self._file.tell(), self._size), self._size)
        return states

    def _end(self) -> None:
        try:
            self._reader.close()
        except BackupDamaged as damage:
            raise BackupUnusable(self._path, damage.offset, damage.problem) from None

    def states(self) -> Iterator[bytes]:
        """Yield the state; raise `BackupUnusable` where it goes wrong, or at a missing end."""
        yield from self._first
        while (states := self._next()) is not None:
            yield from states
        self._end()

    def close(self) -> None:
        self._file.close()


def backup_states(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the state in a backup, in order, each part checked first. Raise `BackupUnusable` and `FileFailed`."""
    reading = _Reading(path, _silent)
    try:
        yield from reading.states()
    finally:
        reading.close()


def verify_backup(path: str | os.PathLike[str], progress: Progress = _silent) -> BackupHeader:
    """Check every byte of a backup; return its header. Raise `BackupUnusable` and `FileFailed`."""
    reading = _Reading(path, progress)
    try:
        for _ in reading.states():
            pass
        return reading.header
    finally:
        reading.close()


def restore_backup(
    path: str | os.PathLike[str], target: Location, *, node: int, cluster: str, progress: Progress = _silent
) -> tuple[BackupHeader, Recovered]:
    """Make `target` the disk of node `node`, the only voter of the new cluster `cluster`, with the backup's state.

    `target` must not exist, or be empty. Other nodes join the new cluster with empty disks. Raise `BackupUnusable`
    for a damaged, truncated or foreign file, `CallerError` if `cluster` is the backup's own, and `WrongDirectory`,
    `PackageMissing` or another `DiskError`. After any of these the target is as it was.
    """
    store_class(target)
    place = Path(os.path.abspath(target.directory))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise WrongDirectory(f"{place} is not empty: restore into a new directory")
    building = place.with_name(f"{place.name}.restoring")
    reading = _Reading(path, progress)
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700, parents=True)
        recovered = _build(reading, Location(target.kind, str(building)), node, cluster)
        try:
            os.rename(building, place)
            _sync_directory(str(place.parent))
        except OSError as failure:
            raise FileFailed("rename", str(place), str(failure)) from failure
        return reading.header, recovered
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    finally:
        reading.close()


def _build(reading: _Reading, target: Location, node: int, cluster: str) -> Recovered:
    header = reading.header
    meta = header.meta
    origin = Identity(header.node, header.cluster, header.incarnation)
    store = open_store(target, node=node, cluster=cluster)
    try:
        state = Recovered(origin, HardState(term=meta.term, commit=meta.index), snapshot=meta)
        plan = plan_quorum_loss_recovery(state, store.identity)
        store.recover()
        assert plan.snapshot is not None
        writer = store.create_snapshot(plan.snapshot)
        for chunk in reading.states():
            writer.write(chunk)
        writer.finish()
        for write in plan.writes:
            store.write([write])
    finally:
        store.close()
    again = open_store(target, node=node, cluster=cluster)
    try:
        recovered = again.recover()
    finally:
        again.close()
    wanted = plan.writes[-1].entries
    if recovered.snapshot != plan.snapshot or recovered.entries[-1:] != wanted[-1:]:
        raise LogDamaged(target.directory, 0, "the restored state came back different from the disk", RESTORE_REMEDY)
    return recovered
