"""The messages between members, one class each. A message is itself an event for `Raft.step`.

Every request has an id, and its reply repeats it. Votes and acknowledgements carry the sender's incarnation: they
count only from the disk named in the configuration. Messages do not name their addressee (the connection does), so
one `AppendEntries` can be sent to every follower.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias, final

from raft_core._moved import moved_names
from raft_core.entries import Entry, LogPosition, SnapshotMeta
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.structs import Value

__all__ = [
    "COMMIT_UPDATE",
    "DATA",
    "HEARTBEAT",
    "AppendEntries",
    "AppendFields",
    "AppendPurpose",
    "AppendReply",
    "AppendReplyFields",
    "InstallSnapshot",
    "Message",
    "ReadIndex",
    "ReadIndexReply",
    "RequestVote",
    "SnapshotReply",
    "TimeoutNow",
    "TransferRefused",
    "VoteKind",
    "VoteReply",
    "is_urgent",
]


class VoteKind(IntEnum):
    """The kind of a vote request."""

    REAL = 0
    PRE = 1  # an inquiry; changes nothing at the voter (thesis 9.6)
    TRANSFER = 2  # a real vote on the leader's order: stickiness does not apply (thesis 3.10)


class AppendPurpose(IntEnum):
    """The purpose of an `AppendEntries`, which determines its reply."""

    DATA = 0  # entries, or an empty probe: answered with an acknowledgement or a rejection
    HEARTBEAT = 1  # urgent, never with entries; its reply claims min(verified, durable) and never rejects
    COMMIT_UPDATE = 2  # the commit index only; no reply except a rejection if prev_index is missing


DATA: Final = AppendPurpose.DATA
HEARTBEAT: Final = AppendPurpose.HEARTBEAT
COMMIT_UPDATE: Final = AppendPurpose.COMMIT_UPDATE


@final
class RequestVote(Value, frozen=True, tag=1, array_like=True):
    """A candidate requests a vote (§5.2). A pre-vote carries the term of the real election to come.

    `last` is the candidate's log end (§5.4.1).
    """

    term: Term
    sender: NodeId
    id: MessageId
    kind: VoteKind
    last: LogPosition


@final
class VoteReply(Value, frozen=True, tag=2, array_like=True):
    """A vote or a refusal. A granted pre-vote echoes the requested term; every other reply carries the voter's."""

    term: Term
    sender: NodeId
    incarnation: Incarnation
    id: MessageId
    kind: VoteKind
    granted: bool


@final
class AppendEntries(Value, frozen=True, tag=3, array_like=True):
    """Entries after (`prev_index`, `prev_term`), the leader's commit index, and the current read round (§5.3)."""

    term: Term
    sender: NodeId
    id: MessageId
    purpose: AppendPurpose
    prev_index: Index
    prev_term: Term
    commit: Index
    read: ReadId
    entries: tuple[Entry, ...] = ()
    tip: Index = Index(0)
    """In heartbeats: the leader's full commit index, for the age of stale reads only; it commits nothing."""
    time: int = 0
    """Cluster time in nanoseconds at sending of a heartbeat or entries; 0: unknown. For the node; the core ignores
    it."""


AppendFields: TypeAlias = tuple[
    Term, NodeId, MessageId, AppendPurpose, Index, Term, Index, ReadId, tuple[Entry, ...], Index, int
]
"""The fields of an `AppendEntries`, as `fields_of` returns them."""


@final
class AppendReply(Value, frozen=True, tag=4, array_like=True):
    """The reply to an append or a heartbeat. `match`: the sender's durable log equals the leader's up to here.

    Rejection (never of a heartbeat): `rejected` is the mismatching prev index, and (`hint_index`, `hint_term`) the
    last position at which the sender's log can still equal the leader's (rule 4.3).
    """

    term: Term
    sender: NodeId
    incarnation: Incarnation
    id: MessageId
    purpose: AppendPurpose
    read: ReadId
    match: Index
    rejected: Index = Index(0)
    hint_index: Index = Index(0)
    hint_term: Term = Term(0)
    ok: bool = True
    lease: int = 0
    """To a heartbeat in a cluster with leases: nanoseconds from its arrival for which the sender grants no vote except
    on this leader's order. 0: no promise."""


AppendReplyFields: TypeAlias = tuple[
    Term, NodeId, Incarnation, MessageId, AppendPurpose, ReadId, Index, Index, Index, Term, bool, int
]
"""The fields of an `AppendReply`, as `fields_of` returns them."""


@final
class InstallSnapshot(Value, frozen=True, tag=5, array_like=True):
    """The leader offers its snapshot in place of compacted entries (§7). The bytes travel outside the core."""

    term: Term
    sender: NodeId
    id: MessageId
    meta: SnapshotMeta
    time: int = 0
    """Cluster time in nanoseconds at sending; 0: unknown. For the node; the core ignores it."""


@final
class SnapshotReply(Value, frozen=True, tag=6, array_like=True):
    """The snapshot is installed or not needed (`ok`, with `match`), or cannot be installed now."""

    term: Term
    sender: NodeId
    incarnation: Incarnation
    id: MessageId
    index: Index
    match: Index
    ok: bool


@final
class TimeoutNow(Value, frozen=True, tag=7, array_like=True):
    """The leader transfers its leadership: campaign at once (thesis 3.10)."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class TransferRefused(Value, frozen=True, tag=8, array_like=True):
    """The transfer target cannot campaign: no voter, or a snapshot is under way. The leader resumes its work."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class ReadIndex(Value, frozen=True, tag=9, array_like=True):
    """A follower or learner requests the read index for a linearizable read (§8, thesis 6.4)."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class ReadIndexReply(Value, frozen=True, tag=10, array_like=True):
    """The read index for the read `id`; `ok` is false if the leader could not confirm it or is too busy."""

    term: Term
    sender: NodeId
    id: MessageId
    index: Index
    ok: bool


Message: TypeAlias = (
    AppendEntries
    | AppendReply
    | RequestVote
    | VoteReply
    | InstallSnapshot
    | SnapshotReply
    | TimeoutNow
    | TransferRefused
    | ReadIndex
    | ReadIndexReply
)


def is_urgent(message: Message) -> bool:
    """Return whether the message uses the urgent lane of a connection: all but appends, append replies and offers.

    A heartbeat and its reply may overtake data; data and its replies keep their order among themselves.
    """
    kind = type(message)
    if kind is AppendEntries or kind is AppendReply:
        return message.purpose is HEARTBEAT  # type: ignore[union-attr]
    return kind is not InstallSnapshot


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
