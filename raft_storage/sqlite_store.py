"""`SqliteStore`: the log in an SQLite database.

Pinned, whatever the defaults: a write-ahead log (`journal_mode=WAL`) synced at every commit (`synchronous=FULL`,
`fullfsync` on macOS), one connection that holds the database exclusively, pages of 4096 bytes, and small checkpoints by
the store itself, so that none holds up a write for long. SQLite's own checks do not cover the contents of a page; the
rows' chain does (`raft_storage.rows`), and `quick_check` covers the pages' structure.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TypeAlias, final

from raft_core.errors import DirectoryInUse, LogDamaged, LogLost
from raft_core.wal.filesystem import FileFailed, Files, NoSpace, read_whole
from raft_core.wal.layout import RESTORE_REMEDY
from raft_storage.engine import Range, Row
from raft_storage.engine_store import EngineStore, Opening
from raft_storage.sqlite_wal import has_frames, wal_damage

__all__ = ["Connect", "Connection", "SqliteEngine", "SqliteStore"]

DATABASE: Final = "log.sqlite"
LOG: Final = "log.sqlite-wal"

PAGE_BYTES: Final = 4096
CHECKPOINT_PAGES: Final = 1000
"""A checkpoint follows the commit that brings the log to about this many pages: 4 MiB."""

_CORRUPT: Final = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
_FULL: Final = 13
_BUSY: Final = (5, 6)

SETTINGS: Final[dict[str, object]] = {
    "locking_mode": "exclusive",
    "journal_mode": "wal",
    "synchronous": 2,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "wal_autocheckpoint": 0,
    "page_size": PAGE_BYTES,
    "cell_size_check": 1,
    "secure_delete": 0,
    "auto_vacuum": 0,
    "mmap_size": 0,
}
"""Every setting required for durability or detection, as the opened database reports it."""


class Connection(Protocol):
    """The store's part of a connection; fits `sqlite3` and apsw."""

    def execute(self, statement: str, values: Any = ..., /) -> Iterable[Any]:
        """Execute a statement."""
        ...

    def executemany(self, statement: str, values: Any, /) -> object:
        """Execute a statement once for each row of values."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


Connect: TypeAlias = Callable[[str], Connection]
"""Opens the database of that path, with automatic commits."""

Errors: TypeAlias = tuple[type[Exception], ...]
"""The errors raised by a connection."""


def _connect(path: str) -> Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)


@final
class SqliteEngine:
    """A `raft_storage.engine.Engine` on one connection."""

    def __init__(
        self,
        files: Files,
        directory: str,
        connect: Connect,
        errors: Errors,
        checkpoint_pages: int,
        *,
        create: bool,
    ) -> None:
        """Open or create the database. Move the log's contents into the database, written again and synced."""
        self._errors = errors
        self._checkpoint_pages = checkpoint_pages
        self._pages = 0
        self.tail = ""
        if create:
            files.create(DATABASE).close()  # so that it gets the permissions of the other files
        else:
            self._examine(files)
        with self._named("open"):
            self._connection = connect(os.path.join(directory, DATABASE))
        try:
            with self._named("open"):
                self._set()
                if create:
                    self._connection.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")
                self._checkpoint("TRUNCATE")  # opening trusts no page cache: the log's contents are written again
                self._check()
        except BaseException:
            self.close()
            raise

    def _examine(self, files: Files) -> None:
        """Check the files before SQLite, which takes damage in its log for the end of it."""
        names = files.names()
        if DATABASE not in names:
            raise LogLost(f"{DATABASE}: the file is missing. {RESTORE_REMEDY}")
        log = read_whole(files, LOG) if LOG in names else b""
        file = files.open(DATABASE)
        try:
            start = file.read_at(0, 20)
            if not (start[:16] == b"SQLite format 3\0" and start[16:20] == b"\x10\x00\x02\x02"):
                raise LogDamaged(DATABASE, 0, "the header is not that of a database in this format", RESTORE_REMEDY)
            damage = wal_damage(log, PAGE_BYTES, lambda number: file.read_at((number - 1) * PAGE_BYTES, PAGE_BYTES))
        finally:
            file.close()
        if damage is not None:
            raise LogDamaged(LOG, damage.offset, damage.problem, RESTORE_REMEDY)
        self.tail = LOG if has_frames(log) else ""

    @property
    def file(self) -> str:
        """The database's name in the directory."""
        return DATABASE

    def _set(self) -> None:
        for name, value in SETTINGS.items():
            if name == "journal_mode":
                self._pragma("page_size", PAGE_BYTES)  # before the first page is written
            self._pragma(name, value)
        if (found := self.settings()) != SETTINGS:
            wrong = {name: value for name, value in found.items() if value != SETTINGS[name]}
            raise FileFailed("open", DATABASE, f"this SQLite does not take settings that durability rests on: {wrong}")

    def _pragma(self, name: str, value: object) -> None:
        for _ in self._connection.execute(f"PRAGMA {name}={value}"):
            pass

    def settings(self) -> dict[str, object]:
        """Return the settings of `SETTINGS` as the open database reports them."""
        return {name: self._one(f"PRAGMA {name}") for name in SETTINGS}

    def _one(self, statement: str) -> object:
        rows = list(self._connection.execute(statement))
        return rows[0][0] if rows else 0  # no row: the file system lacks the feature

    def _check(self) -> None:
        """Run SQLite's own verification: every page is used once, and well formed."""
        found = self._one("PRAGMA quick_check(1)")
        if found != "ok":
            raise LogDamaged(DATABASE, 0, str(found).replace("\n", " "), RESTORE_REMEDY)

    def rows(self) -> Generator[Row, None, None]:
        """Yield every row in the order of the numbers."""
        with self._named("read"):
            for number, body in self._connection.execute("SELECT number, body FROM log ORDER BY number"):
                if not (isinstance(number, int) and isinstance(body, bytes)):
                    raise LogDamaged(DATABASE, 0, f"row {number!r} has another type than it was given", RESTORE_REMEDY)
                yield number, body

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        """Put `rows` and delete those numbered in `drop` in one transaction, synced."""
        with self._named("commit"):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO log VALUES (?, ?)", rows)
            if drop[0] < drop[1]:
                connection.execute("DELETE FROM log WHERE number >= ? AND number < ?", drop)
            connection.execute("COMMIT")
            self._pages += sum(3 + len(body) // PAGE_BYTES for _, body in rows) + drop[1] - drop[0]
            if self._pages < self._checkpoint_pages:
                return False
            self._checkpoint("PASSIVE")
            return True

    def _checkpoint(self, mode: str) -> None:
        [(busy, _log, _done)] = list(self._connection.execute(f"PRAGMA wal_checkpoint({mode})"))
        if busy:
            raise FileFailed("checkpoint", DATABASE, "another program uses the database")
        self._pages = 0

    def close(self) -> None:
        """Free everything."""
        with suppress(Exception):  # anything not in the database yet is in the log, synced
            self._connection.close()

    @contextmanager
    def _named(self, operation: str) -> Iterator[None]:
        """Turn an error of SQLite inside into one of ours."""
        try:
            yield
        except self._errors as failure:
            code = (getattr(failure, "sqlite_errorcode", 0) or getattr(failure, "result", 0)) & 0xFF
            if code in _CORRUPT:
                raise LogDamaged(DATABASE, 0, f"SQLite says: {failure}", RESTORE_REMEDY) from failure
            if code in _BUSY:
                raise DirectoryInUse(
                    f"{DATABASE} is in use by another program: stop it, then start this node again"
                ) from failure
            kind = NoSpace if code == _FULL else FileFailed
            raise kind(operation, DATABASE, str(failure)) from failure


@final
class SqliteStore(EngineStore):
    """A `raft_core.store.Store` whose log is an SQLite database. Made by `SqliteStore.open`."""

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        node: int,
        cluster: str = "",
        files: Files | None = None,
        connect: Connect = _connect,
        errors: Errors = (sqlite3.Error,),
        incarnation: int | None = None,
        checkpoint_pages: int = CHECKPOINT_PAGES,
    ) -> SqliteStore:
        """Open the store in `directory`: format it if empty, recover it otherwise.

        `files` and `connect`, which raises `errors`, replace the operating system; `directory` then is only a name.
        `incarnation` is used for formatting only; by default a random one is drawn. A checkpoint follows the commit
        that brings the log to about `checkpoint_pages`.

        Raise `DirectoryInUse`, `WrongDirectory`, `LogDamaged`, `LogLost`, or another `DiskError` if reading or writing
        fails.
        """
        place = os.fspath(directory)
        opening = Opening(place, "sqlite", DATABASE, node, cluster)

        def open_engine(used: Files, create: bool) -> SqliteEngine:
            return SqliteEngine(used, place, connect, errors, checkpoint_pages, create=create)

        return cls(*opening.opened(open_engine, incarnation, files))
