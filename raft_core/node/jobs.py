"""Jobs that a `NodeCore` gives to the workers of its adapter, and the lanes they are queued in.

`Lane` is a queue with its own worker. A `Job` is an effect of the core (`Persist`, `Apply`, `TakeSnapshot`, `Restore`),
whose report is then the core's event, or one of the node's own jobs below. `raft_core.node.job_runner.JobRunner` runs
each and makes its report.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from enum import Enum
from typing import Protocol, TypeAlias, final

from raft_core.effects import Apply, Persist, Restore, TakeSnapshot
from raft_core.entries import SnapshotMeta
from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.structs import Value

__all__ = [
    "CloseBackups",
    "DropReceived",
    "FormCluster",
    "Job",
    "Lane",
    "Query",
    "ReadChunk",
    "ReadPiece",
    "StoreChunk",
    "StoreSnapshot",
    "Ticket",
]


class Ticket(Hashable, Protocol):
    """The adapter's name for one waiting caller, handed back with the answer: best an object that takes it."""


class Lane(Enum):
    """A queue of blocking jobs, done in order by its own worker."""

    WRITE = "write"  # Persist, FormCluster
    APPLY = "apply"  # Apply, Query, TakeSnapshot, Restore
    SNAPSHOT = "snapshot"  # StoreSnapshot
    CHUNKS = "chunks"  # ReadChunk, StoreChunk, DropReceived, ReadPiece, CloseBackups


@final
class FormCluster(Value, frozen=True):
    """Write the first entry of a new cluster."""

    members: Members


@final
class Query(Value, frozen=True, gc=True):
    """Query the machine. `ticket` names this request, and no later one of the same caller."""

    ticket: Ticket
    request: bytes


@final
class StoreSnapshot(Value, frozen=True, eq=False, gc=True):
    """Write the chunks of a started snapshot to the store."""

    meta: SnapshotMeta
    chunks: Iterator[bytes]


@final
class ReadChunk(Value, frozen=True):
    """Read a chunk of a snapshot for `peer`."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    length: int


@final
class StoreChunk(Value, frozen=True):
    """Store a chunk of a snapshot sent by `source`. The first has no data: its report gives the offset to resume at."""

    meta: SnapshotMeta
    source: str
    offset: int
    data: bytes
    last: bool


@final
class DropReceived(Value, frozen=True):
    """Discard the incoming snapshot."""


@final
class ReadPiece(Value, frozen=True, gc=True):
    """Read a piece of a backup of this snapshot for the request `ticket`. `label` is for the header, piece 0."""

    ticket: Ticket
    meta: SnapshotMeta
    piece: int
    label: str = ""


@final
class CloseBackups(Value, frozen=True):
    """Close the snapshots kept open for backups: nothing was read from them for long."""


Job: TypeAlias = (
    Persist
    | FormCluster
    | Apply
    | Query
    | TakeSnapshot
    | Restore
    | StoreSnapshot
    | ReadChunk
    | StoreChunk
    | DropReceived
    | ReadPiece
    | CloseBackups
)
