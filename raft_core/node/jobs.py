"""Jobs that a `NodeCore` gives to the workers of its adapter, and the lanes they are queued in.

`Lane` is a queue with its own worker, `Job` a closed union of plain values. `raft_core.node.job_runner.JobRunner` runs
each job and makes its report.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from enum import Enum
from typing import Protocol, TypeAlias, final

from raft_core.effects import Apply, Persist
from raft_core.entries import SnapshotMeta
from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.structs import Value

__all__ = [
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


class Ticket(Hashable, Protocol):
    """The adapter's name for one waiting caller, handed back with the answer: best an object that takes it."""


class Lane(Enum):
    """A queue of blocking jobs, done in order by its own worker."""

    WRITE = "write"  # Write, FormCluster
    APPLY = "apply"  # Apply, Query, BeginSnapshot, RestoreMachine
    SNAPSHOT = "snapshot"  # StoreSnapshot
    TRANSFER = "transfer"  # ReadChunk, StoreChunk, DropReceived


@final
class Write(Value, frozen=True):
    """Make the write durable. All writes in one call to `run` share one sync."""

    persist: Persist


@final
class FormCluster(Value, frozen=True):
    """Write the first entry of a new cluster."""

    members: Members


@final
class Query(Value, frozen=True, gc=True):
    """Query the machine on behalf of `ticket`."""

    ticket: Ticket
    request: bytes


@final
class BeginSnapshot(Value, frozen=True):
    """Start a snapshot of the machine's present state."""

    meta: SnapshotMeta


@final
class RestoreMachine(Value, frozen=True):
    """Restore the machine from a stored snapshot."""

    meta: SnapshotMeta


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


Job: TypeAlias = (
    Write
    | FormCluster
    | Apply
    | Query
    | BeginSnapshot
    | RestoreMachine
    | StoreSnapshot
    | ReadChunk
    | StoreChunk
    | DropReceived
)
