"""`MdbxStore`: the log in an MDBX database.

Pinned: the durable mode (every commit syncs the data and then the meta page), no write map, exclusive use, extra
validation of pages. MDBX has no log: a commit writes new pages and then one of three meta pages in turn, so that the
other two stay. It has no checksums either; the rows' chain covers the rows read (`raft_storage.rows`).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, final

import mdbx
from mdbx import mdbx as binding

from raft_core.errors import DirectoryInUse, LogDamaged, LogLost
from raft_core.wal.filesystem import FileFailed, Files, NoSpace
from raft_core.wal.layout import RESTORE_REMEDY
from raft_storage.engine import Range, Row
from raft_storage.engine_store import EngineStore, Opening

__all__ = ["MdbxEngine", "MdbxStore"]

DATABASE: Final = "log.mdbx"

_NOSUBDIR: Final = 0x4000
_EXCLUSIVE: Final = 0x400000
_VALIDATION: Final = 0x2000
_UNSAFE: Final = 0x40000 | 0x10000 | 0x100000 | 0x80000
"""No sync of the meta page, of anything, none at all, and the write map: none of them may be set."""
_FLAGS: Final = _NOSUBDIR | _EXCLUSIVE | _VALIDATION

_PAGE_BYTES: Final = 4096
_MOST_BYTES: Final = 1 << 36
_STEP_BYTES: Final = 16 << 20
_SYNCED_EVERY: Final = 256
"""Commits between two syncs of the mark; there is no checkpoint to sync it with."""

_KEY: Final = struct.Struct(">Q")
_BUSY: Final = (-30778, 11, 16)  # MDBX_BUSY, EAGAIN, EBUSY
_FULL: Final = (-30792, 28, 122, 27)  # MDBX_MAP_FULL, ENOSPC, EDQUOT, EFBIG
_NOT_FOUND: Final = -30798
_SYSTEM: Final = 1000
"""Smaller numbers are those of the operating system."""


def _forget_cached(path: str) -> None:
    """Drop the file from the page cache, as far as the system allows.

    After a failed sync it may hold pages missing on the disk, and MDBX does not write them again.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


# The binding copies values byte by byte through a list, at 13 ns per byte: here each is copied as a whole.


def _put(transaction: Any, rows: Any, key: bytes, body: bytes) -> None:
    """Put one row; as `DBI.put` does, without a copy of the value."""
    one, other = binding.Iovec(key), binding.Iovec(body)
    done = binding._lib.mdbx_put(
        transaction._txn,
        rows._dbi,
        ctypes.c_void_p(ctypes.addressof(one)),
        ctypes.c_void_p(ctypes.addressof(other)),
        0,
    )
    if done:
        raise binding.make_exception(done)


def _pairs(cursor: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield every pair in order; as `Cursor.iter` does."""
    operation = binding.MDBXCursorOp.MDBX_FIRST
    while True:
        key, body = binding.Iovec(None), binding.Iovec(None)
        done = binding._lib.mdbx_cursor_get(cursor._cursor, ctypes.byref(key), ctypes.byref(body), operation)
        if done == _NOT_FOUND:
            return
        if done:
            raise binding.make_exception(done)
        yield ctypes.string_at(key.iov_base, key.iov_len), ctypes.string_at(body.iov_base, body.iov_len)
        operation = binding.MDBXCursorOp.MDBX_NEXT


@final
class MdbxEngine:
    """A `raft_storage.engine.Engine` on one environment."""

    tail: Final = ""

    def __init__(self, files: Files, directory: str, *, create: bool) -> None:
        """Open or create the database."""
        if not create and DATABASE not in files.names():
            raise LogLost(f"{DATABASE}: the file is missing. {RESTORE_REMEDY}")
        if create:
            files.create(DATABASE).close()  # so that it gets the permissions of the other files
        self._commits = 0
        self._environment: Any = None
        if not create:
            with self._named("sync"):
                _forget_cached(os.path.join(directory, DATABASE))
        with self._named("open"):
            self._environment = mdbx.Env(
                os.path.join(directory, DATABASE),
                flags=_FLAGS,
                mode=0o600,
                geometry=mdbx.Geometry(
                    size_lower=-1,
                    size_now=-1,
                    size_upper=_MOST_BYTES,
                    growth_step=_STEP_BYTES,
                    shrink_threshold=-1,
                    pagesize=_PAGE_BYTES if create else -1,
                ),
                maxreaders=4,
                maxdbs=1,
            )
            if self.flags() & _UNSAFE:
                raise FileFailed("open", DATABASE, f"this MDBX does not sync every commit: flags {self.flags():#x}")
            transaction = self._environment.rw_transaction()
            self._rows = transaction.create_map("log")
            transaction.commit()

    @property
    def file(self) -> str:
        """The database's name in the directory."""
        return DATABASE

    def flags(self) -> int:
        """Return the flags of the open environment, as MDBX reports them."""
        found = ctypes.c_uint(0)
        binding._lib.mdbx_env_get_flags(self._environment._env, ctypes.byref(found))
        return int(found.value)

    def rows(self) -> Generator[Row, None, None]:
        """Yield every row in the order of the numbers."""
        with self._named("read"):
            transaction = self._environment.ro_transaction()
            try:
                cursor = transaction.cursor(self._rows)
                try:
                    for key, body in _pairs(cursor):
                        if len(key) != _KEY.size:
                            raise LogDamaged(DATABASE, 0, f"a row has the key {key!r}", RESTORE_REMEDY)
                        yield _KEY.unpack(key)[0], body
                finally:
                    cursor.close()
            finally:
                transaction.abort()

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        """Put `rows` and delete those numbered in `drop` in one transaction, synced."""
        with self._named("commit"):
            transaction = self._environment.rw_transaction()
            try:
                for number, body in rows:
                    _put(transaction, self._rows, _KEY.pack(number), body)
                for number in range(*drop):
                    self._rows.delete(transaction, _KEY.pack(number))
            except BaseException:
                transaction.abort()
                raise
            try:
                transaction.commit()
            except BaseException:
                transaction._txn = None  # a failed commit has freed it, unknown to the binding
                raise
        self._commits += 1
        return self._commits % _SYNCED_EVERY == 0

    def close(self) -> None:
        """Free everything."""
        environment, self._environment = self._environment, None
        if environment is not None:
            with suppress(Exception, mdbx.MDBXErrorExc):
                environment.close()

    @contextmanager
    def _named(self, operation: str) -> Iterator[None]:
        """Turn an error of MDBX inside into one of ours."""
        try:
            yield
        except (mdbx.MDBXErrorExc, OSError) as failure:
            raise self._typed(operation, failure) from failure

    def _typed(self, operation: str, failure: BaseException) -> Exception:
        number = getattr(failure, "errno", None) or 0
        text = str(failure) or repr(failure)
        if number in _BUSY:
            return DirectoryInUse(f"{DATABASE} is in use by another program: stop it, then start this node again")
        if number in _FULL:
            return NoSpace(operation, DATABASE, text)
        if 0 < number < _SYSTEM:
            return FileFailed(operation, DATABASE, text)
        return LogDamaged(DATABASE, 0, f"MDBX says: {text}", RESTORE_REMEDY)


@final
class MdbxStore(EngineStore):
    """A `raft_core.store.Store` whose log is an MDBX database. Made by `MdbxStore.open`."""

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], *, node: int, cluster: str = "", incarnation: int | None = None
    ) -> MdbxStore:
        """Open the store in `directory`: format it if empty, recover it otherwise.

        `incarnation` is used for formatting only; by default a random one is drawn. Raise `DirectoryInUse`,
        `WrongDirectory`, `LogDamaged`, `LogLost`, or another `DiskError` if reading or writing fails.
        """
        place = os.fspath(directory)
        opening = Opening(place, "mdbx", DATABASE, node, cluster)
        return cls(*opening.opened(lambda files, create: MdbxEngine(files, place, create=create), incarnation))
