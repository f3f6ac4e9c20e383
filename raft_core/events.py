"""Events, the inputs of a core: values and the closed union `Event`, which includes the messages of peers.

An adapter reports completed effects as events, in the order of the effects of each lane.
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
    "StopRequested",
    "StorageFailed",
    "Tick",
    "TransferRequested",
]


@final
class Tick(Value, frozen=True, tag=102, array_like=True):
    """Time passed: `elapsed` ticks, at least 1.

    Leases and the age of writes use all of it. Election and CheckQuorum timers move by at most one per event, so a node
    waking from a pause does not depose a leader.
    """

    elapsed: int = 1


@final
class Persisted(Value, frozen=True, tag=103, array_like=True):
    """Every `Persist` up to and including `upto` is durable."""

    upto: WriteId


@final
class StorageFailed(Value, frozen=True, tag=104, array_like=True):
    """A write or a sync failed. The core stops and drops the messages held for the disk."""

    text: str = ""


@final
class Applied(Value, frozen=True, tag=105, array_like=True):
    """The state machine has applied all entries up to `upto`.

    `results` has one item per entry since the last report, the last one for `upto`; it may be empty if no result was
    wanted. No-ops, configurations and entries without a wanted result have an empty result.
    """

    upto: Index
    results: tuple[bytes, ...] = ()


@final
class SnapshotTaken(Value, frozen=True, tag=106, array_like=True):
    """The snapshot ordered by `TakeSnapshot` is synced in the store, not yet switched to."""

    meta: SnapshotMeta


@final
class SnapshotFailed(Value, frozen=True, tag=107, array_like=True):
    """The snapshot ordered by `TakeSnapshot` failed; the core orders it again later."""

    index: Index


@final
class SnapshotReceived(Value, frozen=True, tag=108, array_like=True):
    """The snapshot ordered by `ReceiveSnapshot` is complete and synced in the store, not yet switched to."""

    meta: SnapshotMeta


@final
class SnapshotRejected(Value, frozen=True, tag=109, array_like=True):
    """The transfer ordered by `ReceiveSnapshot` failed: the sender no longer has it, or the bytes were damaged."""

    index: Index


@final
class SnapshotProgress(Value, frozen=True, tag=110, array_like=True):
    """Bytes of a snapshot were sent to `peer`; its transfer timeout restarts."""

    peer: NodeId


@final
class Restored(Value, frozen=True, tag=111, array_like=True):
    """The state machine has loaded the snapshot at `index`, as `Restore` ordered."""

    index: Index


@final
class PeerConnected(Value, frozen=True, tag=112, array_like=True):
    """A connection to `peer` was made."""

    peer: NodeId


@final
class PeerUnreachable(Value, frozen=True, tag=113, array_like=True):
    """The connection to or from `peer` was lost, or its queue overflowed and was discarded."""

    peer: NodeId


@final
class Proposed(Value, frozen=True, tag=114, array_like=True):
    """A client proposed these commands, in this order, under one request id."""

    request: RequestId
    commands: tuple[bytes, ...]


class ReadConsistency(StrEnum):
    """The guarantee of a read.

    `LINEARIZABLE`: it sees every write answered before the read was requested (§8).
    `STALE_BOUNDED`: NOT linearizable. It sees the commits of the leader at the time of its last message, received at
    most `limit` ticks ago. The message's time on the network is not counted, and the sender may be a deposed leader
    for up to an election timeout.
    `MONOTONE`: NOT linearizable. It sees the state at index `limit` or later, for clients which keep the highest index
    they have seen; refused as stale while this node's commit index is lower.
    """

    LINEARIZABLE = "linearizable"
    STALE_BOUNDED = "stale_bounded"
    MONOTONE = "monotone"


@final
class ReadRequested(Value, frozen=True, tag=115, array_like=True):
    """A client wants to read here. Answered by `ReadReady` or a `Refusal`."""

    request: RequestId
    consistency: ReadConsistency = ReadConsistency.LINEARIZABLE
    limit: int = 0


@final
class ChangeRequested(Value, frozen=True, tag=116, array_like=True):
    """An operator requested a membership change. `expected`: refuse unless the configuration was appended there."""

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
    """An operator requested a leadership transfer to `to`, or (0) to the best-matched voter."""

    request: RequestId
    to: NodeId = NO_NODE


@final
class CampaignRequested(Value, frozen=True, tag=119, array_like=True):
    """An operator requested an election now, with a pre-vote if that is on."""


@final
class ForgetLeaderRequested(Value, frozen=True, tag=120, array_like=True):
    """Forget the leader, to allow a vote before the timeout. Ignored by leaders and in a cluster with leases."""


@final
class StopRequested(Value, frozen=True, tag=121, array_like=True):
    """Stop the node: a leader transfers its leadership first. `Stop` follows, after all clients are answered."""


@final
class MachineFailed(Value, frozen=True, tag=122, array_like=True):
    """The state machine raised an exception in apply or restore.

    The core stops, since no entry may be skipped, and drops the messages held for the disk.
    """

    text: str = ""


LocalEvent: TypeAlias = (
    Tick
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
