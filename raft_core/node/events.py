"""Events that an adapter gives to a `NodeCore`, and effects that it carries out for it.

The closed unions are `NodeEvent` and `NodeEffect`; the jobs of `Run` are in `jobs.py`. An adapter passes all events
since its last call to `effects = host.handle(events, now, wall)` and carries out each effect by its type alone. `now`:
nanoseconds of a monotonic clock, which deadlines and `WakeAt` use; `wall`: nanoseconds since 1970, only for commands
with a wall time and as the start of cluster time. The first call also returns what the start of the
node causes.

    Dial        open a connection; report `ConnectionOpened` or `DialFailed`
    Transmit    write these bytes; report `Transmitted`, at once if `hurry`, else with the next events at the
                latest. At most one is under way per connection
    Disconnect  close the connection; no report
    WakeAt      call `handle` at this time at the latest; replaces any earlier `WakeAt`
    Run         queue the job in its lane. A lane's worker takes everything queued, calls
                `work.run(lane, jobs)` (blocking; in a thread unless `work.inline(lane)`), and returns the events
    Answer      give the caller `ticket` the outcome, which `result_of` makes a result or an exception
    Announce    role, term or leader changed: publish it
    Alarm       a condition that needs an operator's attention: publish it
    Finished    the node has ended; raise `error` if there is one
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NewType, TypeAlias, final

from raft_core.effects import Alarm, Indeterminate, Refusal, RoleChanged, Success
from raft_core.entries import SnapshotMeta
from raft_core.errors import RaftError
from raft_core.events import Applied, Persisted, Restored, SnapshotFailed, SnapshotTaken
from raft_core.ids import NodeId
from raft_core.node.jobs import Job, Lane, Ticket
from raft_core.node.status import Drop
from raft_core.recovered import Recovered
from raft_core.requests import NodeRequest
from raft_core.structs import Value

__all__ = [
    "Answer",
    "Answered",
    "BytesReceived",
    "Call",
    "CallCancelled",
    "CertificateRead",
    "ChunkRead",
    "ChunkStored",
    "ConnectionClosed",
    "ConnectionId",
    "ConnectionOpened",
    "ConnectionSecured",
    "Dial",
    "DialFailed",
    "Disconnect",
    "Finished",
    "Formed",
    "JobFailed",
    "MachineTime",
    "NodeEffect",
    "NodeEvent",
    "QueryAnswered",
    "QueryFailed",
    "Run",
    "SecuringFailed",
    "SnapshotBegun",
    "SnapshotComplete",
    "StopAsked",
    "TimerFired",
    "Transmit",
    "Transmitted",
    "WakeAt",
]

Answered: TypeAlias = Success | Refusal | Indeterminate
"""The outcome of a caller's request: the core's three final ones."""
ConnectionId = NewType("ConnectionId", int)
"""A connection's number: even for connections that the node dials, odd for those that the adapter accepts."""


# Events.


@final
class TimerFired(Value, frozen=True):
    """The time of `WakeAt` has come. Harmless at any other time."""


@final
class ConnectionOpened(Value, frozen=True):
    """A connection is open: a dialled one, or (`accepted`) one from outside, from this IP address if it is known."""

    connection: ConnectionId
    accepted: bool
    address: str = ""


@final
class ConnectionSecured(Value, frozen=True):
    """A connection's TLS handshake is done; comes before any of its bytes.

    `names`: the URIs among the subject alternative names of the peer's certificate, which an authority of ours has
    signed. A dialled connection is secured before its `ConnectionOpened`, an accepted one after it, so that the limits
    of connections without a greeting also hold for slow handshakes.
    """

    connection: ConnectionId
    names: tuple[str, ...]


@final
class SecuringFailed(Value, frozen=True):
    """A connection's TLS failed, or it has none where it is required. `text` gives the reason, for the operator."""

    connection: ConnectionId
    reason: Drop
    text: str


@final
class CertificateRead(Value, frozen=True):
    """This node's certificate was read. It is valid from `issued` to `expires`, in seconds since 1970.

    With a `problem` the files could not be read or used, and the certificate read before stays in use.
    """

    issued: int
    expires: int
    problem: str = ""


@final
class DialFailed(Value, frozen=True):
    """A `Dial` failed; `text` gives the reason."""

    connection: ConnectionId
    text: str = ""


@final
class BytesReceived(Value, frozen=True):
    """Bytes were received on a connection."""

    connection: ConnectionId
    data: bytes


@final
class Transmitted(Value, frozen=True):
    """The operating system took the bytes of the last `Transmit`."""

    connection: ConnectionId


@final
class ConnectionClosed(Value, frozen=True):
    """The connection ended: the peer closed it, or reading or writing failed."""

    connection: ConnectionId


@final
class Call(Value, frozen=True, gc=True):
    """A caller made a request. It is answered once, by an `Answer` with its ticket, unless `CallCancelled` comes first.

    `ticket`: any hashable object that no other waiting call has; it may come again after the answer. `deadline`:
    nanoseconds on the node's clock, 0 for none.
    """

    ticket: Ticket
    request: NodeRequest
    deadline: int = 0


@final
class CallCancelled(Value, frozen=True, gc=True):
    """A caller gave up. A proposal already made is not taken back."""

    ticket: Ticket


@final
class StopAsked(Value, frozen=True):
    """A stop was requested: transfer leadership, answer all callers, finish."""


# Events that report jobs; made by `JobRunner.run`. The core's effects are reported by the core's own events.


@final
class Formed(Value, frozen=True):
    """The first entry of a new cluster is durable."""

    recovered: Recovered


@final
class MachineTime(Value, frozen=True):
    """The latest time stamped into the machine's commands (`KeepsTime`), as of the report that follows."""

    time: int


@final
class QueryAnswered(Value, frozen=True, gc=True):
    """The machine answered a query."""

    ticket: Ticket
    data: bytes


@final
class QueryFailed(Value, frozen=True, gc=True):
    """The machine raised an exception for this query. Nothing changed, so only its caller is told."""

    ticket: Ticket
    text: str


@final
class SnapshotBegun(Value, frozen=True, eq=False, gc=True):
    """The machine returned the chunks of a snapshot of one moment."""

    meta: SnapshotMeta
    chunks: Iterator[bytes]


@final
class ChunkRead(Value, frozen=True):
    """A chunk of a snapshot for `peer`; `gone` if the snapshot no longer exists, with a `text` if it should."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    size: int
    data: bytes
    gone: bool = False
    text: str = ""


@final
class ChunkStored(Value, frozen=True):
    """The incoming snapshot is written up to `offset`."""

    meta: SnapshotMeta
    offset: int


@final
class SnapshotComplete(Value, frozen=True):
    """The incoming snapshot is complete and durable."""

    meta: SnapshotMeta


@final
class JobFailed(Value, frozen=True, gc=True):
    """A job failed for good.

    The node stops acknowledging, steps down and ends with `error`. In the lane of chunks only the incoming snapshot is
    given up: the leader offers it again.
    """

    lane: Lane
    error: RaftError


NodeEvent: TypeAlias = (
    TimerFired
    | ConnectionOpened
    | ConnectionSecured
    | SecuringFailed
    | CertificateRead
    | DialFailed
    | BytesReceived
    | Transmitted
    | ConnectionClosed
    | Call
    | CallCancelled
    | StopAsked
    | Persisted
    | Formed
    | Applied
    | Restored
    | SnapshotTaken
    | SnapshotFailed
    | MachineTime
    | QueryAnswered
    | QueryFailed
    | SnapshotBegun
    | ChunkRead
    | ChunkStored
    | SnapshotComplete
    | JobFailed
)


# Effects.


@final
class Dial(Value, frozen=True):
    """Open a connection to `address`; then report `ConnectionOpened` or `DialFailed`."""

    connection: ConnectionId
    address: str


@final
class Transmit(Value, frozen=True):
    """Write these bytes to a connection; then report `Transmitted`.

    `hurry`: something waits for the report. If not, and the operating system has taken the bytes, the report may wait
    for the next call of `handle`, so that it costs no turn of its own.
    """

    connection: ConnectionId
    data: bytes
    hurry: bool = False


@final
class Disconnect(Value, frozen=True):
    """Close a connection; `text` gives the reason."""

    connection: ConnectionId
    text: str = ""


@final
class WakeAt(Value, frozen=True):
    """Call `handle` at `at` at the latest: nanoseconds on its `now` clock."""

    at: int


@final
class Run(Value, frozen=True, eq=False, gc=True):
    """Run `job` in a worker of this lane, and report the resulting event.

    `here`: the loop may write itself, because the cluster goes on without this node if the disk hangs.
    """

    lane: Lane
    job: Job
    here: bool = False


@final
class Answer(Value, frozen=True, eq=False, gc=True):
    """Answer a caller. `Success` has one result for a command or a query, and none for another request.

    `raft_core.node.outcomes.result_of` makes it a result or an exception.
    """

    ticket: Ticket
    outcome: Answered


@final
class Finished(Value, frozen=True, eq=False, gc=True):
    """The node has ended, by `error` or on request."""

    error: RaftError | None = None
    text: str = ""


NodeEffect: TypeAlias = Dial | Transmit | Disconnect | WakeAt | Run | Answer | RoleChanged | Alarm | Finished
