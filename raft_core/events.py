"""Events, the inputs of a core: values and the closed union `Event`, which includes the messages of peers.

An adapter reports completed effects as events, in the order of the effects of each lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, final

from raft_core._moved import moved_names
from raft_core.entries import SnapshotMeta
from raft_core.ids import Index, WriteId
from raft_core.messages import Message
from raft_core.requests import SingleRequest
from raft_core.structs import Value

__all__ = [
    "Applied",
    "CampaignRequested",
    "Event",
    "ForgetLeaderRequested",
    "LocalEvent",
    "MachineFailed",
    "PeerConnected",
    "PeerUnreachable",
    "Persisted",
    "Proposed",
    "Requested",
    "Restored",
    "SnapshotFailed",
    "SnapshotProgress",
    "SnapshotReceived",
    "SnapshotRejected",
    "SnapshotRequested",
    "SnapshotTaken",
    "StopRequested",
    "StorageFailed",
    "Tick",
]


if TYPE_CHECKING:
    ByteStrings: TypeAlias = Sequence[bytes]  # a caller may pass a list
else:
    ByteStrings = tuple[bytes, ...]  # what a recording is decoded to


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
    """The state machine has applied all commands up to `upto`, an index named by `Apply`.

    `results` has one item per command since the last report; it may be empty if no result was wanted.
    """

    upto: Index
    results: ByteStrings = ()


@final
class SnapshotTaken(Value, frozen=True, tag=106, array_like=True):
    """The snapshot ordered by `TakeSnapshot` is synced in the store, not yet switched to."""

    meta: SnapshotMeta


@final
class SnapshotFailed(Value, frozen=True, tag=107, array_like=True):
    """The snapshot ordered by `TakeSnapshot` failed, with a `text` for the operator; the core orders it again later."""

    index: Index
    text: str = ""


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

    peer: int


@final
class Restored(Value, frozen=True, tag=111, array_like=True):
    """The state machine has loaded the snapshot at `index`, as `Restore` ordered."""

    index: Index


@final
class PeerConnected(Value, frozen=True, tag=112, array_like=True):
    """A connection that we dialled to `peer` can take messages: its greeting is over (`raft_core.wire.Greeted`)."""

    peer: int


@final
class PeerUnreachable(Value, frozen=True, tag=113, array_like=True):
    """The connection to or from `peer` was lost, or its queue overflowed and was discarded."""

    peer: int


@final
class Proposed(Value, frozen=True, tag=114, array_like=True):
    """Clients proposed these commands, in this order, as one request with an item for each."""

    request: int
    commands: ByteStrings


@final
class Requested(Value, frozen=True, tag=115, array_like=True):
    """A client or operator made this request. Answered by `Respond` to `id`: a read by `ReadReady` or a `Refusal`."""

    id: int
    request: SingleRequest


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


@final
class SnapshotRequested(Value, frozen=True, tag=123, array_like=True):
    """An operator wants a snapshot at `index` or later: take one now.

    Ignored if there is one already, if one is being taken or installed, and for a while after one has failed. So ask
    again until the newest snapshot is at `index` or later.
    """

    index: Index


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
    | SnapshotRequested
    | SnapshotProgress
    | Restored
    | PeerConnected
    | PeerUnreachable
    | Proposed
    | Requested
    | CampaignRequested
    | ForgetLeaderRequested
    | StopRequested
)
Event: TypeAlias = Message | LocalEvent

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
