"""`DiskStore`: what the stores have in common, whatever keeps their log: opening, forming, snapshots, breaking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from raft_core.effects import Persist
from raft_core.entries import SnapshotMeta
from raft_core.errors import CallerError, DiskError, LogDamaged, StorageBroken
from raft_core.ids import BootNumber, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered, check_founding, formation
from raft_core.store import SnapshotReader, SnapshotWriter
from raft_core.wal.filesystem import FileFailed, NoDescriptor
from raft_core.wal.log_state import LogIndex
from raft_core.wal.records import Change
from raft_storage.snapshot_store import SnapshotStore

__all__ = ["DiskStore"]


class DiskStore:
    """The base of a `raft_core.store.Store` in a directory.

    A class that derives from it writes the log: it has `_write`, sets the attributes when it opens, and closes itself.
    """

    _identity: Identity
    _boot: BootNumber
    _outline: LogIndex
    _shelf: SnapshotStore
    _recovered: Recovered | None
    _failure: str | None
    """Why nothing more is written; None while the store is whole."""

    @property
    def identity(self) -> Identity:
        """The cluster, node and incarnation of this disk."""
        return self._identity

    # Opening.

    def recover(self) -> Recovered:
        """Return the state of the disk at opening; once, and before anything is written."""
        with self._guarded():
            recovered, self._recovered = self._recovered, None
            if recovered is None:
                raise CallerError("a store is recovered once, before it is written to; open it again")
            return recovered

    def form(self, members: Members) -> Recovered:
        """Write the first entry of a new cluster.

        Raise `CallerError` if the disk is not empty, or cannot found a cluster of these members.
        """
        if self._outline.hard.term or self._outline.snapshot is not None or self._outline.next > 1:
            raise CallerError("this disk is part of a cluster already; a new cluster forms on empty directories")
        check_founding(members, self._identity)
        hard, entry = formation(members)
        self.write([Persist(WriteId(0), hard=hard, entries=(entry,))])
        return Recovered(self._identity, hard, None, (entry,), self._boot)

    # The write lane.

    def write(self, batch: Sequence[Persist]) -> None:
        """Make all of `batch` durable: one write or transaction, one sync."""
        self._require_whole()
        self._recovered = None
        if not batch:
            return
        try:  # without a context manager while nothing fails: this is the hot path
            self._write(batch)
        except BaseException as failure:
            with self._breaking():
                if isinstance(failure, NoDescriptor):  # the batch is counted already
                    raise FileFailed(failure.operation, failure.name, failure.problem) from failure
                raise

    def _write(self, batch: Sequence[Persist]) -> None:
        raise NotImplementedError

    def _changes(self, batch: Sequence[Persist]) -> list[Change]:
        """Return the changes to write. A caller's error breaks the store: half of the batch may be counted."""
        try:
            for persist in batch:
                if persist.snapshot is not None:
                    self._shelf.require(persist.snapshot)
            return [self._outline.change(persist) for persist in batch]
        except CallerError as failure:
            self._failure = str(failure)
            raise

    # Snapshots.

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Return a writer for a snapshot of this node's own machine."""
        with self._guarded():
            return self._shelf.create(meta, self._guarded)

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        """Return a writer for a snapshot received from `source`, resuming an earlier one."""
        with self._guarded():
            return self._shelf.resume(meta, source, self._guarded)

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        """Open the finished snapshot of that index and term. Raise `DiskError` if it no longer exists."""
        with self._guarded():
            return self._shelf.open(meta, self._guarded)

    # Breaking.

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Do something with a store that is whole. Break it if anything inside fails."""
        self._require_whole()
        with self._breaking():
            yield

    def _require_whole(self) -> None:
        if self._failure is not None:
            raise StorageBroken(f"{self._failure}; open the directory again, which recovers what is durable")

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Break the store if anything inside fails."""
        try:
            yield
        except NoDescriptor:  # nothing was changed, and a snapshot can wait
            raise
        except FileFailed as failure:
            self._failure = str(failure)
            raise StorageBroken(f"{failure}; nothing written since the last success may be relied on") from failure
        except LogDamaged as failure:
            if failure.file == self._log_file:
                self._failure = str(failure)
            raise
        except (CallerError, DiskError):
            raise
        except BaseException as failure:  # interrupted in the middle: the state of the disk is unknown
            self._failure = f"{type(failure).__name__}: {failure}"
            raise

    @property
    def _log_file(self) -> str | None:
        """The file whose damage breaks the store when it is noticed in use; None: there is none."""
        return None
