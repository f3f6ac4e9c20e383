"""What an adapter tells a `NodeCore`, and what a `NodeCore` orders an adapter to do.

What lives here: values and the closed unions `NodeEvent` and `NodeEffect`; the jobs of `Run` are in `jobs.py`. An
adapter hands over everything that has happened in one call, `effects = host.handle(events, now, wall)`, and does each
effect by its type alone. `now`: nanoseconds of a monotonic clock (deadlines and `WakeAt` are on it); `wall`:
nanoseconds since 1970, for commands that name a wall time, and to begin cluster time with; it decides nothing else. The
first event is `HostStarted`.

    Dial        open a connection; report `ConnectionOpened` or `DialFailed`
    Transmit    write these bytes; report `Transmitted`. At most one is under way per connection
    Disconnect  close the connection; no report
    WakeAt      call `handle` at this time at the latest; replaces the wish before
    Run         put the job into its lane's queue. A lane's worker takes everything queued, calls
                `work.run(lane, jobs)` (blocking; in a thread unless `work.inline(lane)`), and hands the events back
    Answer      finish what waits for `ticket`, with a value or by raising `error`
    Announce    role, term or leader changed: tell whoever listens
    Alarm       something a person should look at: tell whoever listens
    Finished    the node has ended; raise `error` if there is one
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NewType, TypeAlias, final

from raft_core.effects import Alarm, RoleChanged
from raft_core.entries import SnapshotMeta
from raft_core.errors import RaftError, RequestError
from raft_core.events import ReadConsistency
from raft_core.ids import Index, NodeId, WriteId
from raft_core.membership import Change, ChangeMode
from raft_core.node.jobs import Job, Lane, Ticket
from raft_core.recovered import Recovered
from raft_core.structs import Value

__all__ = [
    "Answer",
    "BytesReceived",
    "ChunkRead",
    "ChunkStored",
    "ClientAsked",
    "ClientCancelled",
    "ClientChanged",
    "ClientLeft",
    "ClientProposed",
    "ClientTransferred",
    "ConnectionClosed",
    "ConnectionId",
    "ConnectionOpened",
    "Dial",
    "DialFailed",
    "Disconnect",
    "EntriesApplied",
    "Finished",
    "Formed",
    "HostStarted",
    "JobFailed",
    "MachineRestored",
    "NodeEffect",
    "NodeEvent",
    "QueryAnswered",
    "QueryFailed",
    "Run",
    "SnapshotBegun",
    "SnapshotComplete",
    "SnapshotIncomplete",
    "SnapshotStored",
    "StopAsked",
    "TimerFired",
    "Transmit",
    "Transmitted",
    "WakeAt",
    "Wrote",
]

ConnectionId = NewType("ConnectionId", int)
"""A connection's number. The host numbers those it dials (even), the adapter those it accepts (odd)."""


# Events.


@final
class HostStarted(Value, frozen=True):
    """The first event, exactly once."""


@final
class TimerFired(Value, frozen=True):
    """The time wished for by `WakeAt` has come. Harmless at any other time."""


@final
class ConnectionOpened(Value, frozen=True):
    """A connection is there: one that was dialled, or (`accepted`) one that somebody else opened."""

    connection: ConnectionId
    accepted: bool


@final
class DialFailed(Value, frozen=True):
    """A connection that was ordered by `Dial` could not be made; `text` says why."""

    connection: ConnectionId
    text: str = ""


@final
class BytesReceived(Value, frozen=True):
    """Bytes came over a connection."""

    connection: ConnectionId
    data: bytes


@final
class Transmitted(Value, frozen=True):
    """The bytes of the last `Transmit` were taken by the operating system."""

    connection: ConnectionId


@final
class ConnectionClosed(Value, frozen=True):
    """The connection ended: the other side closed it, or reading or writing failed."""

    connection: ConnectionId


@final
class ClientProposed(Value, frozen=True):
    """A caller wants a command applied. `deadline`: nanoseconds on the host's clock, 0 for none."""

    ticket: Ticket
    command: bytes
    deadline: int = 0


@final
class ClientAsked(Value, frozen=True):
    """A caller wants a query answered. With `barrier` the machine is not asked: the answer is b"" as soon as it could
    be, and the caller waits for that also while this node is no member."""

    ticket: Ticket
    request: bytes
    consistency: ReadConsistency = ReadConsistency.LINEARIZABLE
    limit: int = 0
    deadline: int = 0
    barrier: bool = False


@final
class ClientChanged(Value, frozen=True):
    """A caller wants other members. Finished when the change is committed and left, if it was joint."""

    ticket: Ticket
    changes: tuple[Change, ...]
    mode: ChangeMode = ChangeMode.AUTO
    expected: Index = Index(0)
    deadline: int = 0


@final
class ClientLeft(Value, frozen=True):
    """A caller wants to leave the joint configuration."""

    ticket: Ticket
    deadline: int = 0


@final
class ClientTransferred(Value, frozen=True):
    """A caller wants the leader to hand over."""

    ticket: Ticket
    to: NodeId = NodeId(0)
    deadline: int = 0


@final
class ClientCancelled(Value, frozen=True):
    """Nobody waits for the ticket any more. What was proposed is not taken back."""

    ticket: Ticket


@final
class StopAsked(Value, frozen=True):
    """The node is to end: hand over, answer everybody, finish."""


# Events that report jobs; made by `JobRunner.run`.


@final
class Wrote(Value, frozen=True):
    """Every write up to `upto` is durable."""

    upto: WriteId


@final
class Formed(Value, frozen=True):
    """The founding state of a new cluster is durable."""

    recovered: Recovered


@final
class EntriesApplied(Value, frozen=True):
    """The machine has applied everything up to `upto`, with these results, as `events.Applied` has them."""

    upto: Index
    results: tuple[bytes, ...]
    time: int = 0
    """What the machine says is the latest time stamped into its commands (`KeepsTime`); 0: it says nothing."""


@final
class QueryAnswered(Value, frozen=True):
    """The machine's answer to a query."""

    ticket: Ticket
    data: bytes


@final
class QueryFailed(Value, frozen=True):
    """The machine raised an exception for this query. Nothing was changed, so only its caller is told."""

    ticket: Ticket
    text: str


@final
class SnapshotBegun(Value, frozen=True, eq=False, gc=True):
    """The machine handed out the chunks of a snapshot that shows one moment."""

    meta: SnapshotMeta
    chunks: Iterator[bytes]


@final
class SnapshotStored(Value, frozen=True):
    """This node's own snapshot is synced."""

    meta: SnapshotMeta


@final
class SnapshotIncomplete(Value, frozen=True):
    """This node's own snapshot could not be stored; what had been written of it is gone."""

    meta: SnapshotMeta
    text: str


@final
class MachineRestored(Value, frozen=True):
    """The machine stands at the snapshot at `index`. `time` as in `EntriesApplied`."""

    index: Index
    time: int = 0


@final
class ChunkRead(Value, frozen=True):
    """A piece of a snapshot for `peer`; `gone` where it no longer exists, with a `text` where it should."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    size: int
    data: bytes
    gone: bool = False
    text: str = ""


@final
class ChunkStored(Value, frozen=True):
    """The snapshot being received is written up to `offset`."""

    meta: SnapshotMeta
    offset: int


@final
class SnapshotComplete(Value, frozen=True):
    """The snapshot being received is whole and synced."""

    meta: SnapshotMeta


@final
class JobFailed(Value, frozen=True, gc=True):
    """A job failed for good; the node stops acknowledging, steps down and ends with `error`. In the transfer lane
    only the snapshot being received is given up: the leader offers it again."""

    lane: Lane
    error: RaftError


NodeEvent: TypeAlias = (
    HostStarted
    | TimerFired
    | ConnectionOpened
    | DialFailed
    | BytesReceived
    | Transmitted
    | ConnectionClosed
    | ClientProposed
    | ClientAsked
    | ClientChanged
    | ClientLeft
    | ClientTransferred
    | ClientCancelled
    | StopAsked
    | Wrote
    | Formed
    | EntriesApplied
    | QueryAnswered
    | QueryFailed
    | SnapshotBegun
    | SnapshotStored
    | SnapshotIncomplete
    | MachineRestored
    | ChunkRead
    | ChunkStored
    | SnapshotComplete
    | JobFailed
)


# Effects.


@final
class Dial(Value, frozen=True):
    """Open a connection to `address`; then report `Dialled` or `DialFailed`."""

    connection: ConnectionId
    address: str


@final
class Transmit(Value, frozen=True):
    """Write these bytes to a connection; then report `Transmitted`."""

    connection: ConnectionId
    data: bytes


@final
class Disconnect(Value, frozen=True):
    """Close a connection; `text` says why."""

    connection: ConnectionId
    text: str = ""


@final
class WakeAt(Value, frozen=True):
    """`at`: nanoseconds on the clock that `handle` is given."""

    at: int


@final
class Run(Value, frozen=True, eq=False, gc=True):
    """Have a worker of this lane do `job`; its result is the event to report."""

    lane: Lane
    job: Job


@final
class Answer(Value, frozen=True, eq=False, gc=True):
    """`data` is a machine's answer, b"" for requests without one; `error` is a `RequestError` to raise instead."""

    ticket: Ticket
    data: bytes = b""
    error: RequestError | None = None


@final
class Finished(Value, frozen=True, eq=False, gc=True):
    """The node has ended, by `error` or as it was asked to."""

    error: RaftError | None = None
    text: str = ""


NodeEffect: TypeAlias = Dial | Transmit | Disconnect | WakeAt | Run | Answer | RoleChanged | Alarm | Finished
