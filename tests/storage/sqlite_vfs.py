"""SQLite on the crash disk: a virtual file system of apsw over `raft_core.wal.filesystem.Files`.

It does what SQLite's own one for POSIX does, as far as durability goes: a new log's name is synced with its first sync,
and a deletion is synced where SQLite asks for it. Locks are not modelled: the store holds the directory's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from typing import Any

import apsw

from raft_core.wal.filesystem import File, FileFailed, FileMissing, Files, NoSpace, write_whole
from raft_storage.sqlite_store import SqliteStore

__all__ = ["connect_on", "open_in_simulator", "open_on"]

_NUMBERS = count(1)
_MOST_OPEN = 32
_vfs: list[CrashVfs] = []


CHECKPOINT_PAGES = 8
"""So few that a short history has checkpoints, after which SQLite begins its log anew over the old one."""


def open_on(files: Files, checkpoint_pages: int = CHECKPOINT_PAGES) -> SqliteStore:
    """Open the store on these files."""
    return open_in_simulator(files, 1, 7, checkpoint_pages)


def open_in_simulator(
    files: Files, node: int, incarnation: int, checkpoint_pages: int = CHECKPOINT_PAGES
) -> SqliteStore:
    """Open the store of one node of a simulated cluster."""
    return SqliteStore.open(
        "disk",
        node=node,
        cluster="c",
        files=files,
        connect=connect_on(files),
        errors=(apsw.Error,),
        incarnation=incarnation,
        checkpoint_pages=checkpoint_pages,
    )


def connect_on(files: Files) -> Any:
    """Return what opens a database on these files, for `SqliteStore.open(connect=...)`."""

    def connect(path: str) -> apsw.Connection:
        vfs = CrashVfs(files)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        connection = _Connection(path, vfs=vfs.name, flags=flags)
        connection.vfs = vfs
        return connection

    return connect


class _Connection(apsw.Connection):
    """A connection that dies when it is dropped without being closed, as with its process: nothing more is written."""

    vfs: CrashVfs | None = None

    def __del__(self) -> None:
        if self.vfs is not None:
            self.vfs.dead = True


class CrashVfs(apsw.VFS):
    """One directory."""

    def __init__(self, files: Files) -> None:
        self.name = f"crash-{next(_NUMBERS)}"
        self.files = files
        self.dead = False
        super().__init__(self.name, "")
        _vfs.append(self)
        if len(_vfs) > _MOST_OPEN:
            _vfs.pop(0).unregister()

    def xOpen(self, name: Any, flags: Any) -> CrashFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None, "the store needs no temporary file"
        short = os.path.basename(path)
        with _as_sqlite(apsw.CantOpenError):
            try:
                file, new = self.files.open(short), False
            except FileMissing:
                if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                    raise
                file, new = self.files.create(short), True
        flags[1] = flags[0]
        journals = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        return CrashFile(self, file, name_is_new=new and bool(flags[0] & journals))

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if self.dead:
            return
        with _as_sqlite(apsw.IOError):
            if os.path.basename(filename) in self.files.names():
                self.files.unlink(os.path.basename(filename))
            if syncdir:
                self.files.sync_directory()

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        with _as_sqlite(apsw.IOError):
            return os.path.basename(pathname) in self.files.names()

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return "/" + os.path.basename(name)

    def xRandomness(self, amount: int) -> bytes:  # noqa: N802
        """The salts of the log: never the same twice, and the same in every run."""
        return next(_NUMBERS).to_bytes(8, "big").rjust(amount, b"\x01")[:amount]

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        return microseconds

    def xCurrentTime(self) -> float:  # noqa: N802
        return 2_460_000.5

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802
        return 0, ""


class CrashFile:
    """One open file."""

    def __init__(self, vfs: CrashVfs, file: File, *, name_is_new: bool) -> None:
        self.vfs, self.file, self.name_is_new = vfs, file, name_is_new

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self.vfs.dead:
            return bytes(amount)
        with _as_sqlite(apsw.IOError):
            return self.file.read_at(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self.vfs.dead:
            return
        with _as_sqlite(apsw.IOError):
            write_whole(self.file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self.vfs.dead:
            return
        with _as_sqlite(apsw.IOError):
            self.file.truncate(newsize)  # type: ignore[attr-defined]

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.vfs.dead:
            return
        with _as_sqlite(apsw.IOError):
            self.file.sync()
            if self.name_is_new:
                self.vfs.files.sync_directory()
                self.name_is_new = False

    def xFileSize(self) -> int:  # noqa: N802
        if self.vfs.dead:
            return 0
        with _as_sqlite(apsw.IOError):
            return self.file.size()

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE)

    def xClose(self) -> None:  # noqa: N802
        with suppress(FileFailed):
            self.file.close()


class _as_sqlite:  # noqa: N801
    """A `FileFailed` inside becomes the error that SQLite understands."""

    def __init__(self, kind: type[apsw.Error]) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, failure: BaseException | None, _trace: object) -> None:
        if isinstance(failure, NoSpace):
            raise apsw.FullError(str(failure)) from failure
        if isinstance(failure, FileFailed):
            raise self.kind(str(failure)) from failure
