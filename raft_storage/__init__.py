"""Durable stores: blocking, plain code, shared by all adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft_core._moved import moved_names
from raft_storage.backup_file import BackupFile, BackupUnusable, restore_backup, verify_backup
from raft_storage.file_store import FileStore
from raft_storage.location import Location, PackageMissing, UnknownStore, open_store, parse_location
from raft_storage.memory_store import MemoryStore
from raft_storage.migration import migrate
from raft_storage.posix import PosixFiles
from raft_storage.quorum_loss import Survivor, recover_from_quorum_loss
from raft_storage.verification import Verified, verify_store

__all__ = [
    "BackupFile",
    "BackupUnusable",
    "FileStore",
    "Location",
    "MemoryStore",
    "PackageMissing",
    "PosixFiles",
    "Survivor",
    "UnknownStore",
    "Verified",
    "migrate",
    "open_store",
    "parse_location",
    "recover_from_quorum_loss",
    "restore_backup",
    "verify_backup",
    "verify_store",
]

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
