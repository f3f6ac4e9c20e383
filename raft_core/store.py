"""The protocols of a durable store. Stores are plain, blocking code outside the core.

Every method may raise `DiskError`. After a failed write or sync a store must refuse every later one with
`StorageBroken` until it is opened again, because the bytes on the disk are then unknown. One exception: if the disk has
no room for a snapshot, its writer raises another `DiskError` and frees its bytes, and the log continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from raft_core.effects import Persist
from raft_core.entries import SnapshotMeta
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered

__all__ = ["SnapshotReader", "SnapshotWriter", "Store"]


class SnapshotReader(Protocol):
    """An open snapshot. It stays readable until closed, even after the switch to a newer one."""

    @property
    def meta(self) -> SnapshotMeta:
        """Index, term and configuration of the snapshot."""
        ...

    @property
    def size(self) -> int:
        """The size of the machine state in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole state in order, each chunk checked against its checksum."""
        ...

    def close(self) -> None:
        """Close the file. Harmless twice."""
        ...


class SnapshotWriter(Protocol):
    """A snapshot being written, from this node's machine or from a peer.

    It is unused until a `Persist` with its meta switches to it.
    """

    @property
    def offset(self) -> int:
        """Bytes of machine state already written: an interrupted transfer resumes here."""
        ...

    def write(self, data: bytes) -> None:
        """Append data."""
        ...

    def finish(self) -> None:
        """Complete and sync the snapshot, ready to switch to."""
        ...

    def abort(self) -> None:
        """Delete the unfinished snapshot."""
        ...


class Store(Protocol):
    """One node's disk.

    Calls come from one thread at a time per lane: `write` from the write lane, snapshot methods concurrently from other
    lanes.
    """

    @property
    def identity(self) -> Identity:
        """The cluster, node and incarnation of this disk."""
        ...

    def recover(self) -> Recovered:
        """Return the disk's state. Called once, before any write of this run."""
        ...

    def form(self, members: Members) -> Recovered:
        """Write `recovered.formation(members)` durably to a disk not yet formed, and recover it.

        Raise `CallerError` if the disk is formed already, or if `recovered.check_founding` does.
        """
        ...

    def write(self, batch: Sequence[Persist]) -> None:
        """Make all of `batch` durable, in order, with one sync."""
        ...

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Return a writer for a snapshot of this node's machine; delete an unfinished one with the same meta."""
        ...

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        """Return a writer for a snapshot received from `source`.

        Continue an unfinished one with the same meta and source, even after a restart, and delete any other unfinished
        one.
        """
        ...

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        """Return the snapshot with this index and term, last switched to or finished. Raise `DiskError` if gone."""
        ...

    def close(self) -> None:
        """Close the store and free its directory."""
        ...
