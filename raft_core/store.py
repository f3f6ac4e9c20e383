"""The face of a durable store, as the host needs it. Stores are blocking and plain; they live outside the core.

What lives here: protocols. Every method may raise `DiskError`; after a failed write or sync a store must refuse
every later one with `StorageBroken` until it is opened again: what a failed sync left behind, nobody knows. One
exception: a snapshot for which the disk has no room may be given up alone. Its writer raises another `DiskError`, frees
what was written of it, and the log goes on.
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
    """An open snapshot. It stays readable, even when a newer one has been switched to, until it is closed."""

    @property
    def meta(self) -> SnapshotMeta: ...

    @property
    def size(self) -> int:
        """How many bytes of machine state it holds."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, shorter only at the end."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The whole state in order, each chunk checked against its checksum."""
        ...

    def close(self) -> None: ...


class SnapshotWriter(Protocol):
    """A snapshot being written, by this node's machine or from a peer. Nothing refers to it until it is switched to
    by a `Persist` that names its meta."""

    @property
    def offset(self) -> int:
        """How many bytes of machine state are already written: where an interrupted transfer resumes."""
        ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """Everything written is synced and complete; ready to be switched to."""
        ...

    def abort(self) -> None:
        """Forgets what was written."""
        ...


class Store(Protocol):
    """One node's disk. Calls come from one thread at a time per lane: `write` from the write lane, snapshot methods
    from others at the same time."""

    @property
    def identity(self) -> Identity: ...

    def recover(self) -> Recovered:
        """What the disk holds. Called once, before anything is written in this run."""
        ...

    def form(self, members: Members) -> Recovered:
        """Writes `recovered.formation(members)` durably on a disk that is not formed yet, and recovers that. Raises
        `CallerError` where it is, and where `recovered.check_founding` does."""
        ...

    def write(self, batch: Sequence[Persist]) -> None:
        """All of `batch`, in order, is durable on return: one sync for many."""
        ...

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """A writer for a snapshot of this node's own machine; an unfinished one of the same meta is thrown away."""
        ...

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        """A writer for a snapshot received from `source`; it continues an unfinished one of the same meta and
        source, across restarts, and throws away any other unfinished one."""
        ...

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        """The snapshot last switched to, or finished, with that index and term. Raises `DiskError` if gone."""
        ...

    def close(self) -> None: ...
