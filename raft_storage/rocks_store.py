"""`RocksStore`: the log in RocksDB.

Pinned: writes with `sync`, the write-ahead log never disabled, paranoid checks, and `kPointInTimeRecovery`: the only
mode that neither refuses a tail torn by a power loss, nor skips over damage. It stops at the first bad record and does
not tell the two cases apart; so the log is read before RocksDB reads it, and every commit left in it must be found in
the database afterwards.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, final

import rocksdict

from raft_core.errors import LogDamaged, LogLost
from raft_core.wal.filesystem import FileFailed, Files, NoSpace
from raft_core.wal.layout import RESTORE_REMEDY
from raft_storage.engine import Range, Row
from raft_storage.engine_store import EngineStore, Opening
from raft_storage.rows import newest_state_in

__all__ = ["RocksEngine", "RocksStore"]

DATABASE: Final = "rocksdb"
_CURRENT: Final = "CURRENT"

_BUFFER_BYTES: Final = 16 << 20
_SYNCED_BYTES: Final = 4 << 20
"""Bytes of rows between two syncs of the mark."""

_KEY: Final = struct.Struct(">Q")


def _options(*, create: bool) -> Any:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(create)
    options.set_error_if_exists(create)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    options.set_use_fsync(True)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_recycle_log_file_num(0)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_compression_type(rocksdict.DBCompressionType.none())
    return options


@final
class RocksEngine:
    """A `raft_storage.engine.Engine` on one database, in the subdirectory `rocksdb`."""

    def __init__(self, files: Files, directory: str, *, create: bool) -> None:
        """Open or create the database. Move the log's contents into tables, written again and synced."""
        self._path = os.path.join(directory, DATABASE)
        self._bytes = 0
        self._database: Any = None
        self.tail = ""
        self._logged = 0
        if not create:
            if DATABASE not in files.names() or not os.path.exists(os.path.join(self._path, _CURRENT)):
                raise LogLost(f"{DATABASE}: the database is missing. {RESTORE_REMEDY}")
            self._read_log()
        self._sync = rocksdict.WriteOptions()
        self._sync.sync = True
        self._sync.disable_wal = False
        with self._named("open"):
            self._database = rocksdict.Rdict(self._path, options=_options(create=create))
            self._database.set_write_options(self._sync)

    def _read_log(self) -> None:
        """Find the newest commit in the log: its presence proves that the one before it was synced."""
        for path in sorted(Path(self._path).glob("*.log")):
            try:
                content = path.read_bytes()
            except OSError as failure:
                raise FileFailed("read", f"{DATABASE}/{path.name}", str(failure)) from failure
            self._logged = max(self._logged, newest_state_in(content))
            self.tail = f"{DATABASE}/{path.name}" if content else self.tail

    @property
    def file(self) -> str:
        """The database's name in the directory."""
        return DATABASE

    def rows(self) -> Generator[Row, None, None]:
        """Yield every row in the order of the numbers."""
        last = 0
        with self._named("read"):
            for key, body in self._database.items():
                if not (isinstance(key, bytes) and len(key) == _KEY.size and isinstance(body, bytes)):
                    raise LogDamaged(DATABASE, 0, f"a row has the key {key!r}", RESTORE_REMEDY)
                last = _KEY.unpack(key)[0]
                yield last, body
        if last < self._logged - 1:
            problem = f"write {self._logged} is in the log, but writes {last + 1} to {self._logged - 1} cannot be read"
            raise LogDamaged(self.tail, 0, problem, RESTORE_REMEDY)

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        """Put `rows` and delete those numbered in `drop` in one write, synced."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for number, body in rows:
            batch.put(_KEY.pack(number), body)
        if drop[0] < drop[1]:
            batch.delete_range(_KEY.pack(drop[0]), _KEY.pack(drop[1]))
        with self._named("commit"):
            self._database.write(batch, self._sync)
        self._bytes += sum(len(body) for _, body in rows)
        if self._bytes < _SYNCED_BYTES:
            return False
        self._bytes = 0
        return True

    def close(self) -> None:
        """Free everything."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):
                database.close()

    @contextmanager
    def _named(self, operation: str) -> Iterator[None]:
        """Turn an error of RocksDB inside into one of ours; they differ by their text alone."""
        try:
            yield
        except LogDamaged:
            raise
        except Exception as failure:
            text = str(failure)
            if "No space" in text or "Disk quota" in text:
                raise NoSpace(operation, DATABASE, text) from failure
            damaged = ("Corruption", "Invalid argument", "Not found", "Not implemented")
            if text.startswith(damaged) or "No such file" in text or operation == "read":
                raise LogDamaged(DATABASE, 0, f"RocksDB says: {text}", RESTORE_REMEDY) from failure
            raise FileFailed(operation, DATABASE, text) from failure


@final
class RocksStore(EngineStore):
    """A `raft_core.store.Store` whose log is in RocksDB. Made by `RocksStore.open`."""

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], *, node: int, cluster: str = "", incarnation: int | None = None
    ) -> RocksStore:
        """Open the store in `directory`: format it if empty, recover it otherwise.

        `incarnation` is used for formatting only; by default a random one is drawn. Raise `DirectoryInUse`,
        `WrongDirectory`, `LogDamaged`, `LogLost`, or another `DiskError` if reading or writing fails.
        """
        place = os.fspath(directory)

        def remove(_: Files, name: str) -> None:
            shutil.rmtree(os.path.join(place, name))

        opening = Opening(place, "rocksdb", DATABASE, node, cluster, remove)
        return cls(*opening.opened(lambda files, create: RocksEngine(files, place, create=create), incarnation))
