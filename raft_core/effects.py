"""Everything a core can order, in the imperative. Do every effect; report back where the docstring names a report.

What lives here: values and the closed unions `Effect` and `Outcome`. Lanes, each in order within itself: the write
lane (`Persist`), the apply lane (`Apply`, `Restore`, `TakeSnapshot`), and two message lanes per peer (`Send`, split
by `messages.is_urgent`). Between lanes there is no order to keep: the core holds back what must wait.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, final

from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId, RequestId, Term, WriteId
from raft_core.messages import Message
from raft_core.structs import Value

__all__ = [
    "Alarm",
    "AlarmKind",
    "Apply",
    "Effect",
    "Indeterminate",
    "Outcome",
    "Persist",
    "ReadReady",
    "ReceiveSnapshot",
    "Refusal",
    "RefusalReason",
    "Respond",
    "Restore",
    "RoleChanged",
    "RoleName",
    "Send",
    "Stop",
    "StopReason",
    "Success",
    "TakeSnapshot",
    "UnknownReason",
]


class RefusalReason(StrEnum):
    """Why a request was certainly not carried out."""

    NOT_LEADER = "not_leader"
    NO_LEADER = "no_leader"  # a read on a follower that knows of no leader
    TRANSFERRING = "transferring"
    UNCOMMITTED_FULL = "uncommitted_full"  # too many bytes wait for a quorum
    LOG_FULL = "log_full"  # the log in memory is at log_max_bytes
    READS_FULL = "reads_full"
    CLIENTS_FULL = "clients_full"  # the host's queue of waiting clients
    TOO_LARGE = "too_large"
    PREPARE_FAILED = "prepare_failed"  # the machine's `prepare` raised; the command was not appended
    SUPERSEDED = "superseded"  # another entry is committed at its place
    LEADERSHIP_LOST = "leadership_lost"  # for reads, which are harmless to repeat
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"  # the state machine raised an exception, and its node is ending
    NODE_FAILED = "node_failed"  # the node is ending for any other reason than its disk or its machine
    DISK_STALLED = "disk_stalled"  # a read that needs entries which this node's disk does not take
    STOPPING = "stopping"
    STALE = "stale"  # a bounded read on a node that heard no leader for too long
    DEADLINE = "deadline"  # the client's deadline passed while nothing had been done yet
    REMOVED = "removed"  # this node is no member any more
    NOT_A_MEMBER = "not_a_member"  # this node has not been added to a cluster yet
    QUERY_FAILED = "query_failed"  # the machine's `query` raised; nothing was changed
    CHANGE_PENDING = "change_pending"
    CHANGE_WHILE_JOINT = "change_while_joint"
    NOT_JOINT = "not_joint"
    NO_COMMIT_IN_TERM = "no_commit_in_term"
    CONFIGURATION_DIFFERS = "configuration_differs"
    UNKNOWN_NODE = "unknown_node"
    ID_REUSED = "id_reused"
    NO_VOTERS = "no_voters"
    CONTRADICTORY_CHANGE = "contradictory_change"
    NO_CHANGE = "no_change"
    BAD_ID = "bad_id"
    WRONG_INCARNATION = "wrong_incarnation"
    NOT_HEARD_FROM = "not_heard_from"  # a node to be added has not greeted yet, so its disk is not known
    NOT_A_VOTER = "not_a_voter"  # transfer target
    TARGET_UNREACHABLE = "target_unreachable"
    TRANSFER_FAILED = "transfer_failed"  # the target did not take over in time, or said no


class UnknownReason(StrEnum):
    """Why nobody can know whether a request is or will be carried out."""

    LEADERSHIP_LOST = "leadership_lost"
    TRUNCATED = "truncated"
    SNAPSHOT = "snapshot"  # a snapshot replaced the entries that would have told
    STOPPING = "stopping"
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"
    NODE_FAILED = "node_failed"
    DEADLINE = "deadline"
    TRANSFER_UNANSWERED = "transfer_unanswered"  # the successor was told to stand, and nothing was heard of it
    FORWARD_LOST = "forward_lost"  # sent to the leader, the connection broke before the answer


@final
class Success(Value, frozen=True, tag=1, array_like=True):
    """Applied: the first of these entries is at `first`, and `results` has one item per entry."""

    first: Index
    results: tuple[bytes, ...] = ()


@final
class Refusal(Value, frozen=True, tag=2, array_like=True):
    """Refused: never appended, or another entry is known to be committed at its place. `leader`: who to ask, or 0."""

    reason: RefusalReason
    leader: NodeId = NO_NODE
    text: str = ""


@final
class Indeterminate(Value, frozen=True, tag=3, array_like=True):
    """Unknown: everything else. A truncated entry may live on elsewhere and still be committed."""

    reason: UnknownReason
    text: str = ""


@final
class ReadReady(Value, frozen=True, tag=4, array_like=True):
    """The read may be done now: the state machine has applied `index`, and that is recent enough."""

    index: Index


Outcome: TypeAlias = Success | Refusal | Indeterminate | ReadReady


class RoleName(StrEnum):
    """The boxes of figure 4, with the pre-candidate of thesis 9.6."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class StopReason(StrEnum):
    """Why a core is finished."""

    REQUESTED = "requested"
    LOG_LOST = "log_lost"
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"


class AlarmKind(StrEnum):
    """What somebody should look at. The core has dropped the message and goes on."""

    WRONG_INCARNATION = "wrong_incarnation"
    TWO_LEADERS = "two_leaders"
    COMMITTED_CONFLICT = "committed_conflict"
    MALFORMED = "malformed"
    DISK_STALL = "disk_stall"
    SNAPSHOT_STUCK = "snapshot_stuck"
    LOG_FULL = "log_full"
    SETTINGS = "settings"
    UNREACHABLE = "unreachable"  # a peer has not been reached for a while, at any address known of it
    WAITING = "waiting"  # this node cannot do anything before others are there, or have added it
    TWO_CLUSTERS = "two_clusters"  # nodes that were founded differently, or would be
    REMOVED = "removed"  # this node was taken out of the cluster


@final
class Send(Value, frozen=True, tag=201, array_like=True):
    """Send `message` to `to`; it may be lost. No report."""

    to: NodeId
    message: Message


@final
class Persist(Value, frozen=True, tag=202, array_like=True):
    """Make all of this durable, atomically and in this order; then report `Persisted(write)` or `StorageFailed`.

    `hard` where term or vote changed (its commit index only rides along). `truncate_from` > 0: forget the entries
    from there on. `entries` follow. `snapshot`: switch to this snapshot, whose file is already synced; where the
    log does not hold its (index, term), the whole log is discarded, otherwise the entries after it stay.
    `drop_before` > 0: entries below may be forgotten at leisure."""

    write: WriteId
    hard: HardState | None = None
    truncate_from: Index = NO_INDEX
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    drop_before: Index = NO_INDEX


@final
class Apply(Value, frozen=True, tag=203, array_like=True):
    """Apply these committed, durable, consecutive entries; then report `Applied`, for all at once or in parts.

    Commands go to the machine. `wanted`: pairs of first and last index, ascending, of the entries whose results a
    client of this node waits for. The other results are to be dropped where they arise: after a restart no client waits
    for any."""

    entries: tuple[Entry, ...]
    wanted: tuple[tuple[Index, Index], ...] = ()


@final
class Respond(Value, frozen=True, tag=204, array_like=True):
    """The answer to items `offset` … `offset + count - 1` of a request; every item of every request gets one."""

    request: RequestId
    outcome: Outcome
    offset: int = 0
    count: int = 1


@final
class TakeSnapshot(Value, frozen=True, tag=205, array_like=True):
    """Take the machine's snapshot at this place of the apply lane; then report `SnapshotTaken` or `SnapshotFailed`."""

    meta: SnapshotMeta


@final
class Restore(Value, frozen=True, tag=206, array_like=True):
    """Set the machine to this snapshot; then report `Restored`."""

    meta: SnapshotMeta


@final
class ReceiveSnapshot(Value, frozen=True, tag=207, array_like=True):
    """Fetch this snapshot from `sender` into the store; then report `SnapshotReceived` or `SnapshotRejected`.

    A later order replaces an earlier one that is still under way."""

    sender: NodeId
    meta: SnapshotMeta


@final
class RoleChanged(Value, frozen=True, tag=208, array_like=True):
    """Role, term or leader changed to this. No report."""

    role: RoleName
    term: Term
    leader: NodeId


@final
class Alarm(Value, frozen=True, tag=209, array_like=True):
    """Something that a person should look at. No report."""

    kind: AlarmKind
    peer: NodeId = NO_NODE
    text: str = ""


@final
class Stop(Value, frozen=True, tag=210, array_like=True):
    """The core is finished: end the node. Every waiting client has been answered. No report."""

    reason: StopReason
    text: str = ""


Effect: TypeAlias = (
    Send | Persist | Apply | Respond | TakeSnapshot | Restore | ReceiveSnapshot | RoleChanged | Alarm | Stop
)
