"""Effects, the orders of a core: values and the closed unions `Effect` and `Outcome`.

Carry out every effect, and report it if its docstring names a report. Keep the order within each lane: the write lane
(`Persist`), the apply lane (`Apply`, `Restore`, `TakeSnapshot`), and two message lanes per peer (`Send`, split by
`messages.is_urgent`). Lanes are independent of each other: the core orders an effect only when its time has come.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, final

from raft_core._moved import moved_names
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
    NO_LEADER = "no_leader"  # a read on a follower without a known leader
    TRANSFERRING = "transferring"
    UNCOMMITTED_FULL = "uncommitted_full"  # too many bytes wait for a quorum
    LOG_FULL = "log_full"  # the log in memory is at log_max_bytes
    READS_FULL = "reads_full"
    CLIENTS_FULL = "clients_full"  # the host's queue of waiting clients
    TOO_LARGE = "too_large"
    PREPARE_FAILED = "prepare_failed"  # the machine's `prepare` raised; the command was not appended
    SUPERSEDED = "superseded"  # another entry is committed at its index
    LEADERSHIP_LOST = "leadership_lost"  # for reads, which are harmless to repeat
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"  # the state machine raised an exception; its node ends
    NODE_FAILED = "node_failed"  # the node ends, for a reason other than disk or machine
    DISK_STALLED = "disk_stalled"  # a read of entries held up by this node's slow disk
    STOPPING = "stopping"
    STALE = "stale"  # a bounded read, with no leader heard for too long
    DEADLINE = "deadline"  # the client's deadline passed before the request was started
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
    NOT_HEARD_FROM = "not_heard_from"  # the node to be added has never connected: its incarnation is unknown
    UNKNOWN_FEATURE = "unknown_feature"  # the leader's code does not have the feature to be enabled
    FEATURE_MISSING = "feature_missing"  # a member, or the node to be added, does not have the feature, or is not heard
    NOT_A_VOTER = "not_a_voter"  # transfer target
    TARGET_UNREACHABLE = "target_unreachable"
    TRANSFER_FAILED = "transfer_failed"  # the target did not take over in time, or refused


class UnknownReason(StrEnum):
    """Why the outcome of a request is indeterminate."""

    LEADERSHIP_LOST = "leadership_lost"
    TRUNCATED = "truncated"
    SNAPSHOT = "snapshot"  # a snapshot replaced the entries in question
    STOPPING = "stopping"
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"
    NODE_FAILED = "node_failed"
    DEADLINE = "deadline"
    TRANSFER_UNANSWERED = "transfer_unanswered"  # no reply from the successor to TimeoutNow
    FORWARD_LOST = "forward_lost"  # forwarded to the leader; the connection broke before the answer
    RESULT_TOO_LARGE = "result_too_large"  # forwarded to the leader and carried out; no frame holds the result


@final
class Success(Value, frozen=True, tag=1, array_like=True):
    """The entries from `first` on are applied. `results` has one item per command, and none if none was reported."""

    first: Index
    results: tuple[bytes, ...] = ()


@final
class Refusal(Value, frozen=True, tag=2, array_like=True):
    """Certainly not carried out: never appended, or superseded by a committed entry. `leader`: node to ask, or 0."""

    reason: RefusalReason
    leader: NodeId = NO_NODE
    text: str = ""


@final
class Indeterminate(Value, frozen=True, tag=3, array_like=True):
    """The request may or may not be carried out: a truncated entry may still be committed by another node."""

    reason: UnknownReason
    text: str = ""


@final
class ReadReady(Value, frozen=True, tag=4, array_like=True):
    """The read may be done now: the state machine has applied `index`, the index required."""

    index: Index


Outcome: TypeAlias = Success | Refusal | Indeterminate | ReadReady


class RoleName(StrEnum):
    """The roles of figure 4, and the pre-candidate of thesis 9.6."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class StopReason(StrEnum):
    """Why a core has stopped."""

    REQUESTED = "requested"
    LOG_LOST = "log_lost"
    STORAGE_FAILED = "storage_failed"
    MACHINE_FAILED = "machine_failed"


class AlarmKind(StrEnum):
    """Conditions which need an operator's attention. The core has dropped the message, if any, and continues."""

    WRONG_INCARNATION = "wrong_incarnation"
    TWO_LEADERS = "two_leaders"
    COMMITTED_CONFLICT = "committed_conflict"
    MALFORMED = "malformed"
    DISK_STALL = "disk_stall"
    SNAPSHOT_STUCK = "snapshot_stuck"
    LOG_FULL = "log_full"
    SETTINGS = "settings"
    UNREACHABLE = "unreachable"  # a peer is unreachable at every known address
    WAITING = "waiting"  # this node waits for its peers, or to be added by them
    TWO_CLUSTERS = "two_clusters"  # nodes of differently formed clusters
    REMOVED = "removed"  # this node was removed from the cluster
    INSECURE = "insecure"  # this node listens without TLS, or a connection's TLS or certificate was refused
    FEATURE_MISSING = "feature_missing"  # a node does not have a feature that the cluster uses
    CERTIFICATE = "certificate"  # this node's certificate expires soon, or could not be read anew


@final
class Send(Value, frozen=True, tag=201, array_like=True):
    """Send `message` to node `to`; it may be lost. No report."""

    to: NodeId
    message: Message


@final
class Persist(Value, frozen=True, tag=202, array_like=True):
    """Make all of this durable, atomically and in this order; then report `Persisted(write)` or `StorageFailed`.

    `hard`: write this hard state; None if unchanged (its commit index alone causes no write). `truncate_from` > 0:
    remove the entries from there on. `entries`: append them. `snapshot`: switch to this snapshot, already synced;
    discard the whole log if it does not hold the snapshot's (index, term), else keep the entries after it.
    `drop_before` > 0: entries below it may be deleted at any later time.
    """

    write: WriteId
    hard: HardState | None = None
    truncate_from: Index = NO_INDEX
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    drop_before: Index = NO_INDEX


@final
class Apply(Value, frozen=True, tag=203, array_like=True):
    """Apply these committed, durable commands, pairs of index and data; then report `Applied(upto, results)`.

    `upto` is the last entry; an entry that is not among `commands` is a no-op or a configuration, so there may be no
    command at all. The report may also come in parts, each up to a later command and the last one up to `upto`.
    `wanted`: ascending pairs of first and last index of the commands with a waiting client on this node. Other results
    may be dropped at once, for example those of a replay after a restart: report b"" for them.
    """

    upto: Index
    commands: tuple[tuple[Index, bytes], ...] = ()
    wanted: tuple[tuple[Index, Index], ...] = ()


@final
class Respond(Value, frozen=True, tag=204, array_like=True):
    """Answer items `offset` … `offset + count - 1` of a request; every item of every request is answered once."""

    request: RequestId
    outcome: Outcome
    offset: int = 0
    count: int = 1


@final
class TakeSnapshot(Value, frozen=True, tag=205, array_like=True):
    """Snapshot the machine, at this point of the apply lane; then report `SnapshotTaken` or `SnapshotFailed`."""

    meta: SnapshotMeta


@final
class Restore(Value, frozen=True, tag=206, array_like=True):
    """Set the machine to this snapshot; then report `Restored`."""

    meta: SnapshotMeta


@final
class ReceiveSnapshot(Value, frozen=True, tag=207, array_like=True):
    """Fetch this snapshot from `sender` into the store; then report `SnapshotReceived` or `SnapshotRejected`.

    A later order replaces an earlier one still under way, of which nothing is to be reported any more: a late
    `SnapshotReceived` of it is ignored, but a late `SnapshotRejected` would end the transfer that replaced it.
    """

    sender: NodeId
    meta: SnapshotMeta


@final
class RoleChanged(Value, frozen=True, tag=208, array_like=True):
    """Note the new role, term or leader. No report."""

    role: RoleName
    term: Term
    leader: NodeId


@final
class Alarm(Value, frozen=True, tag=209, array_like=True):
    """Show a condition which needs an operator's attention. No report."""

    kind: AlarmKind
    peer: NodeId = NO_NODE
    text: str = ""


@final
class Stop(Value, frozen=True, tag=210, array_like=True):
    """End the node: the core has stopped and answered every waiting client. No report."""

    reason: StopReason
    text: str = ""


Effect: TypeAlias = (
    Send | Persist | Apply | Respond | TakeSnapshot | Restore | ReceiveSnapshot | RoleChanged | Alarm | Stop
)

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
