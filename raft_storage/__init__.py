"""Durable stores: blocking, plain code, one copy for every adapter."""

from __future__ import annotations

from raft_storage.file_store import FileStore
from raft_storage.files import OperatingFiles
from raft_storage.location import Location, PackageMissing, UnknownStore, open_store, parse_location
from raft_storage.memory_store import MemoryStore
from raft_storage.migration import migrate
from raft_storage.salvage import Survivor, salvage

__all__ = [
    "FileStore",
    "Location",
    "MemoryStore",
    "OperatingFiles",
    "PackageMissing",
    "Survivor",
    "UnknownStore",
    "migrate",
    "open_store",
    "parse_location",
    "salvage",
]
