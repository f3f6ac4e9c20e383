"""The work that a `NodeCore` orders from the workers of its adapter.

What lives here: `Lane`, a queue with a worker of its own, and the closed union `Job`: values, nothing that works.
`raft_core.node.job_runner.JobRunner` knows how each job is done, and what is reported of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NewType, TypeAlias, final

from raft_core.effects import Persist
from raft_core.entries import Entry, SnapshotMeta
from raft_core.ids import Index, NodeId
from raft_core.membership import Members
from raft_core.structs import Value

__all__ = [
    "ApplyEntries",
    "BeginSnapshot",
    "DropReceived",
    "FormCluster",
    "Job",
    "Lane",
    "Query",
    "ReadChunk",
    "RestoreMachine",
    "StoreChunk",
    "StoreSnapshot",
    "Ticket",
    "Write",
]

Ticket = NewType("Ticket", int)
"""The adapter's number for one waiting caller."""


class Lane(Enum):
    """A queue of blocking work, done in order by a worker of its own."""

    WRITE = "write"  # Write, FormCluster
    APPLY = "apply"  # ApplyEntries, Query, BeginSnapshot, RestoreMachine
    SNAPSHOT = "snapshot"  # StoreSnapshot
    TRANSFER = "transfer"  # ReadChunk, StoreChunk, DropReceived


@final
class Write(Value, frozen=True):
    """Make it durable. All writes in one call to `run` share one sync."""

    persist: Persist


@final
class FormCluster(Value, frozen=True):
    """Write the first entry of a new cluster."""

    members: Members


@final
class ApplyEntries(Value, frozen=True):
    """Apply committed entries to the machine. The results of those not in a pair of `wanted` are dropped."""

    entries: tuple[Entry, ...]
    wanted: tuple[tuple[Index, Index], ...] = ()


@final
class Query(Value, frozen=True):
    """Ask the machine a question on behalf of `ticket`."""

    ticket: Ticket
    request: bytes


@final
class BeginSnapshot(Value, frozen=True):
    """Take hold of the machine's state at this moment."""

    meta: SnapshotMeta


@final
class RestoreMachine(Value, frozen=True):
    """Set the machine to a stored snapshot."""

    meta: SnapshotMeta


@final
class StoreSnapshot(Value, frozen=True, eq=False, gc=True):
    """Write the chunks of a begun snapshot to the store."""

    meta: SnapshotMeta
    chunks: Iterator[bytes]


@final
class ReadChunk(Value, frozen=True):
    """Read a piece of a snapshot for `peer`."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    length: int


@final
class StoreChunk(Value, frozen=True):
    """Store a piece of a snapshot that `source` sends; the first has no data and asks where to go on."""

    meta: SnapshotMeta
    source: str
    offset: int
    data: bytes
    last: bool


@final
class DropReceived(Value, frozen=True):
    """Forget the snapshot being received."""


Job: TypeAlias = (
    Write
    | FormCluster
    | ApplyEntries
    | Query
    | BeginSnapshot
    | RestoreMachine
    | StoreSnapshot
    | ReadChunk
    | StoreChunk
    | DropReceived
)
