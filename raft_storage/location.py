"""`Location`: a node's disk as text, the kind of store and its directory.

    /var/lib/raft/1            plain files
    file:/var/lib/raft/1       the same
    sqlite:/var/lib/raft/1     the log in an SQLite database
    rocksdb:/var/lib/raft/1    the log in RocksDB
    mdbx:/var/lib/raft/1       the log in MDBX

A path that itself begins like a scheme is written with `file:` or `./` in front.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import Final, Protocol, final

import attrs

from raft_core.errors import SettingsError, WrongDirectory
from raft_core.node.config import PathLike
from raft_core.store import Store
from raft_core.wal.layout import IDENTITY
from raft_storage.engine_store import ENGINE, engine_in
from raft_storage.file_store import FileStore
from raft_storage.posix import PosixFiles

__all__ = [
    "KINDS",
    "Location",
    "PackageMissing",
    "UnknownStore",
    "kind_at",
    "open_store",
    "parse_location",
    "store_class",
]

KINDS: Final = ("file", "sqlite", "rocksdb", "mdbx")
"""Every kind of store."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_CLASSES: Final = {
    "sqlite": ("raft_storage.sqlite_store", "SqliteStore", "sqlite3", "a Python that was built with SQLite"),
    "rocksdb": ("raft_storage.rocks_store", "RocksStore", "rocksdict", "pip install rocksdict"),
    "mdbx": (
        "raft_storage.mdbx_store",
        "MdbxStore",
        "mdbx",
        "pip install libmdbx, which has wheels for Python 3.11 to 3.13",
    ),
}


class UnknownStore(SettingsError):
    """A location with an unknown scheme."""


class PackageMissing(SettingsError):
    """The package for this kind of store is not installed; the text gives the command to install it."""


class _Opens(Protocol):
    """The class of a store."""

    def open(self, directory: str, *, node: int, cluster: str, incarnation: int | None) -> Store: ...


@final
@attrs.frozen
class Location:
    """A kind of store (one of `KINDS`) and its directory."""

    kind: str
    directory: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.directory}"


def parse_location(location: str | PathLike) -> Location:
    """Parse `location`. A path object is always a directory of plain files, whatever its name.

    Raise `UnknownStore` for an unknown scheme, and `SettingsError` if the directory is missing.
    """
    if not isinstance(location, str):
        return Location("file", location.__fspath__())
    found = _SCHEME.fullmatch(location)
    kind, directory = (found[1], found[2]) if found else ("file", location)
    if kind not in KINDS:
        raise UnknownStore(
            f"{location!r} names the store {kind!r}, which does not exist: use {', '.join(KINDS)}, or write"
            f" file:{location} if that is a path"
        )
    if not directory or "\0" in directory:
        raise SettingsError(f"{location!r} does not name a directory")
    return Location(kind, directory)


def kind_at(directory: str) -> str | None:
    """Return the kind of store in `directory`; None if it does not exist, or holds no store.

    Raise `LogDamaged` if the file with the kind is damaged, and `FileFailed` if it cannot be read.
    """
    if not os.path.isdir(directory):
        return None
    files = PosixFiles(directory, read_only=True)
    try:
        names = files.names()
        if ENGINE in names:
            return engine_in(files)
        return "file" if IDENTITY in names else None
    finally:
        files.close()


def open_store(location: Location, *, node: int, cluster: str = "", incarnation: int | None = None) -> Store:
    """Open the store at `location`: format it if empty, recover it otherwise.

    Raise `PackageMissing`, `WrongDirectory` if another kind of store, node or cluster owns the directory, and the
    errors of that store's `open`.
    """
    found = kind_at(location.directory)
    if found not in (None, location.kind):
        raise WrongDirectory(
            f"{location.directory} holds a store of kind {found}, not {location.kind}: start this node with"
            f" {found}:{location.directory}, or move it with raft-kv migrate"
        )
    return store_class(location).open(location.directory, node=node, cluster=cluster, incarnation=incarnation)


def store_class(location: Location) -> _Opens:
    """Return the class of the store. Raise `PackageMissing`."""
    if location.kind == "file":
        return FileStore
    module, name, package, remedy = _CLASSES[location.kind]
    try:
        import_module(package)
    except ImportError as failure:
        raise PackageMissing(f"{location} needs the package {package}, which is not installed: {remedy}") from failure
    found: _Opens = getattr(import_module(module), name)
    return found
