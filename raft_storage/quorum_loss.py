"""Create a new cluster from one surviving disk after permanently losing a majority.

This module reads a survivor without changing a byte of it, and copies it. `raft_core.quorum_loss` states the extent and
the possible losses. The new store is complete and synced before this returns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from raft_core.entries import SnapshotMeta
from raft_core.errors import DirectoryInUse, WrongDirectory
from raft_core.ids import ClusterId
from raft_core.quorum_loss import Statement, plan_quorum_loss_recovery
from raft_core.recovered import Identity
from raft_core.store import Store
from raft_core.wal.filesystem import Files, LockHeld, read_whole
from raft_core.wal.layout import IDENTITY, LOCK, read_identity, snapshot_name
from raft_core.wal.snapshot_file import SnapshotFileReader
from raft_storage.data_directory import plan_in
from raft_storage.engine_store import ENGINE
from raft_storage.posix import PosixFiles

__all__ = ["Survivor", "recover_from_quorum_loss"]

_NO_MERGING: Final = 0


@final
class Survivor:
    """A data directory open for reading only: `recovered` is the state a node would start from. Close it after use.

    Nothing in it is written, repaired, counted or deleted, so that it stays as evidence and a failing disk only has to
    read; it may be mounted read-only. Only a missing `lock` is made if possible, to stop a node from starting on it.

    `files` replaces the operating system; `directory` then is only a name for error texts. Raise `WrongDirectory`,
    `DirectoryInUse`, `LogDamaged` or another `DiskError`.
    """

    def __init__(self, directory: str | os.PathLike[str], cluster: str, *, files: Files | None = None) -> None:
        place = Path(directory)
        if files is None and (place / ENGINE).is_file():
            raise WrongDirectory(
                f"{place} is kept by a database engine; salvage reads plain files: move it first, with raft-kv migrate"
            )
        if not (IDENTITY in files.names() if files is not None else (place / IDENTITY).is_file()):
            raise WrongDirectory(f"{place} is not a node's data directory: it holds no file named {IDENTITY}")
        self._files = files if files is not None else PosixFiles(place, read_only=True)
        try:
            self._files.lock(LOCK)
            identity = read_identity(read_whole(self._files, IDENTITY))
            if identity.cluster != ClusterId(cluster):
                raise WrongDirectory(f"{place} belongs to cluster {identity.cluster!r}, not to {cluster!r}")
            plan = plan_in(self._files, identity, _NO_MERGING)
        except LockHeld as failure:
            self._files.close()
            raise DirectoryInUse(
                f"{place} is in use by {failure.holder or 'another process'}: this node still runs"
            ) from failure
        except BaseException:
            self._files.close()
            raise
        self.recovered = plan.recovered(Identity(identity.node, identity.cluster, identity.incarnation))

    def copy_snapshot(self, target: Store, meta: SnapshotMeta, progress: Callable[[str], None]) -> None:
        """Copy the survivor's snapshot to `target` under `meta`: finished and not yet switched to."""
        file = self._files.open(snapshot_name(meta.position))
        try:
            reader = SnapshotFileReader(file)
            writer = target.create_snapshot(meta)
            for chunk in reader.chunks():
                writer.write(chunk)
                progress(f"snapshot: {writer.offset} of {reader.size} bytes")
            writer.finish()
        finally:
            file.close()

    def close(self) -> None:
        """Free the directory."""
        self._files.close()


def recover_from_quorum_loss(
    survivor: Survivor, target: Store, progress: Callable[[str], None] = lambda line: None
) -> Statement:
    """Copy all of `survivor` to `target`, as the only voter of a new cluster.

    `target` is a freshly formatted store under the new cluster's name. Raise `CallerError` or `DiskError`; then discard
    `target`.
    """
    plan = plan_quorum_loss_recovery(survivor.recovered, target.identity)
    target.recover()
    if plan.snapshot is not None:
        survivor.copy_snapshot(target, plan.snapshot, progress)
    for number, write in enumerate(plan.writes, 1):
        target.write([write])
        progress(f"log: {number} of {len(plan.writes)} writes")
    return plan.statement
