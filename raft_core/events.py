"""Everything that can happen to a core, in the past tense. Peer messages are events too.

What lives here: values and the closed union `Event`. An adapter reports what it did for an effect with one of
these; reports of one lane come in the order of the effects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, final

from raft_core.entries import SnapshotMeta
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId, RequestId, WriteId
from raft_core.membership import Change, ChangeMode
from raft_core.messages import Message
from raft_core.structs import Value

__all__ = [
    "Applied",
    "CampaignRequested",
    "ChangeRequested",
    "Event",
    "ForgetLeaderRequested",
    "LeaveRequested",
    "LocalEvent",
    "MachineFailed",
    "PeerConnected",
    "PeerUnreachable",
    "Persisted",
    "Proposed",
    "ReadConsistency",
    "ReadRequested",
    "Restored",
    "SnapshotFailed",
    "SnapshotProgress",
    "SnapshotReceived",
    "SnapshotRejected",
    "SnapshotTaken",
    "Started",
    "StopRequested",
    "StorageFailed",
    "Tick",
    "TransferRequested",
]


@final
class Started(Value, frozen=True, tag=101, array_like=True):
    """The first event of every core, exactly once. Its effects restore the snapshot and replay what is committed."""


@final
class Tick(Value, frozen=True, tag=102, array_like=True):
    """Time passed: `elapsed` ticks, at least 1. Leases and the age of writes use all of it; election and
    CheckQuorum timers move by at most one per event, so that waking from a pause deposes nobody."""

    elapsed: int = 1


@final
class Persisted(Value, frozen=True, tag=103, array_like=True):
    """Every `Persist` up to and including `upto` is durable."""

    upto: WriteId


@final
class StorageFailed(Value, frozen=True, tag=104, array_like=True):
    """A write or a sync failed. Final: no promise leaves this core any more."""

    text: str = ""


@final
class Applied(Value, frozen=True, tag=105, array_like=True):
    """The state machine has applied everything up to `upto`.

    `results` has one item per entry since the last report, the last belonging to `upto`, or none at all where no result
    of them was wanted. No-ops, configurations and entries whose result was not wanted have an empty one."""

    upto: Index
    results: tuple[bytes, ...] = ()


@final
class SnapshotTaken(Value, frozen=True, tag=106, array_like=True):
    """The snapshot ordered by `TakeSnapshot` lies synced in the store, not yet switched to."""

    meta: SnapshotMeta


@final
class SnapshotFailed(Value, frozen=True, tag=107, array_like=True):
    """The snapshot ordered by `TakeSnapshot` could not be taken; it is ordered again later."""

    index: Index


@final
class SnapshotReceived(Value, frozen=True, tag=108, array_like=True):
    """The snapshot ordered by `ReceiveSnapshot` lies complete and synced in the store, not yet switched to."""

    meta: SnapshotMeta


@final
class SnapshotRejected(Value, frozen=True, tag=109, array_like=True):
    """The snapshot ordered by `ReceiveSnapshot` will not come: the sender has it no more, or the bytes were bad."""

    index: Index


@final
class SnapshotProgress(Value, frozen=True, tag=110, array_like=True):
    """Bytes of a snapshot moved to `peer`; its transfer's deadline starts anew."""

    peer: NodeId


@final
class Restored(Value, frozen=True, tag=111, array_like=True):
    """The state machine now stands at the snapshot's `index`, as `Restore` ordered."""

    index: Index


@final
class PeerConnected(Value, frozen=True, tag=112, array_like=True):
    """Messages can be sent to `peer` again."""

    peer: NodeId


@final
class PeerUnreachable(Value, frozen=True, tag=113, array_like=True):
    """The connection to or from `peer` was lost, or its queue overflowed and was thrown away."""

    peer: NodeId


@final
class Proposed(Value, frozen=True, tag=114, array_like=True):
    """A client asked for these commands to be appended, in this order, under one request id."""

    request: RequestId
    commands: tuple[bytes, ...]


class ReadConsistency(StrEnum):
    """What a read promises.

    `LINEARIZABLE`: it sees every write that was answered before it was asked (§8).
    `STALE_BOUNDED`: NOT linearizable; what the leader had committed when it sent the last message that this node has
    heard, at most `limit` ticks ago. The time that the message was on its way is not counted, and a leader that has
    been deposed without knowing it may be among those heard, for up to an election timeout.
    `MONOTONE`: NOT linearizable; the state at index `limit` or later, for a client that remembers what it has seen;
    refused as stale where this node does not know yet that so much is committed.
    """

    LINEARIZABLE = "linearizable"
    STALE_BOUNDED = "stale_bounded"
    MONOTONE = "monotone"


@final
class ReadRequested(Value, frozen=True, tag=115, array_like=True):
    """A client asked when it may read here. Answered by `ReadReady` or a `Refusal`."""

    request: RequestId
    consistency: ReadConsistency = ReadConsistency.LINEARIZABLE
    limit: int = 0


@final
class ChangeRequested(Value, frozen=True, tag=116, array_like=True):
    """An operator asked for other members. `expected`: only if the configuration in force was appended there."""

    request: RequestId
    changes: tuple[Change, ...]
    mode: ChangeMode = ChangeMode.AUTO
    expected: Index = NO_INDEX


@final
class LeaveRequested(Value, frozen=True, tag=117, array_like=True):
    """An operator asked to leave a joint configuration (needed only after `ChangeMode.EXPLICIT`)."""

    request: RequestId


@final
class TransferRequested(Value, frozen=True, tag=118, array_like=True):
    """An operator asked the leader to hand over, to `to` or (0) to the best-matched voter."""

    request: RequestId
    to: NodeId = NO_NODE


@final
class CampaignRequested(Value, frozen=True, tag=119, array_like=True):
    """Stand for election now, by pre-vote where that is on."""


@final
class ForgetLeaderRequested(Value, frozen=True, tag=120, array_like=True):
    """Forget the leader, so that a vote can be given before the timeout. Ignored by leaders and where leases are on."""


@final
class StopRequested(Value, frozen=True, tag=121, array_like=True):
    """The node is to end: a leader hands over first, then `Stop` is ordered. Waiting clients are answered."""


@final
class MachineFailed(Value, frozen=True, tag=122, array_like=True):
    """The state machine raised an exception instead of applying or restoring. Final: nothing is skipped, so nothing
    can follow. No promise leaves this core any more."""

    text: str = ""


LocalEvent: TypeAlias = (
    Started
    | Tick
    | Persisted
    | StorageFailed
    | MachineFailed
    | Applied
    | SnapshotTaken
    | SnapshotFailed
    | SnapshotReceived
    | SnapshotRejected
    | SnapshotProgress
    | Restored
    | PeerConnected
    | PeerUnreachable
    | Proposed
    | ReadRequested
    | ChangeRequested
    | LeaveRequested
    | TransferRequested
    | CampaignRequested
    | ForgetLeaderRequested
    | StopRequested
)
Event: TypeAlias = Message | LocalEvent
