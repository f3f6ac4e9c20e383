"""One class per message between members. A message is itself an event: it goes straight into `Raft.step`.

What lives here: values. Every request carries an id that its reply names. Replies that count (votes and
acknowledgements) carry the sender's incarnation: they count only from the disk that the configuration names.
No message names its addressee: the connection does, so that one `AppendEntries` can serve every follower.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias, final

from raft_core.entries import Entry, LogPosition, SnapshotMeta
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.structs import Value

__all__ = [
    "COMMIT_UPDATE",
    "DATA",
    "HEARTBEAT",
    "AppendEntries",
    "AppendPurpose",
    "AppendReply",
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
    """What a vote request asks for."""

    REAL = 0
    PRE = 1  # would you vote for me? changes nothing at the voter (thesis 9.6)
    TRANSFER = 2  # a real vote, asked on the leader's order: stickiness does not apply (thesis 3.10)


class AppendPurpose(IntEnum):
    """Why an `AppendEntries` was sent, which decides how it is answered."""

    DATA = 0  # entries, or an empty probe: answered with an acknowledgement or a rejection
    HEARTBEAT = 1  # urgent, never with entries; its reply claims min(verified, durable) and never rejects
    COMMIT_UPDATE = 2  # only tells the commit index; no reply but a rejection, where its place is lacking


DATA: Final = AppendPurpose.DATA
HEARTBEAT: Final = AppendPurpose.HEARTBEAT
COMMIT_UPDATE: Final = AppendPurpose.COMMIT_UPDATE


@final
class RequestVote(Value, frozen=True, tag=1, array_like=True):
    """A candidate asks for a vote (§5.2). A pre-vote carries the term that a real election would have.

    `last` is the candidate's log end (§5.4.1)."""

    term: Term
    sender: NodeId
    id: MessageId
    kind: VoteKind
    last: LogPosition


@final
class VoteReply(Value, frozen=True, tag=2, array_like=True):
    """A vote or a refusal. A granted pre-vote echoes the term asked for; every other reply carries the voter's."""

    term: Term
    sender: NodeId
    incarnation: Incarnation
    id: MessageId
    kind: VoteKind
    granted: bool


@final
class AppendEntries(Value, frozen=True, tag=3, array_like=True):
    """Entries after (`prev_index`, `prev_term`), the leader's commit index, and the read round it confirms (§5.3)."""

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
    """In heartbeats: the leader's whole commit index. It tells a reader how stale it is, and commits nothing."""
    time: int = 0
    """Cluster time in nanoseconds when a heartbeat or entries left; 0: not known. It is the host's; the core ignores
    it."""


@final
class AppendReply(Value, frozen=True, tag=4, array_like=True):
    """What an append or a heartbeat found. `match`: my log equals the leader's up to here, durably.

    Rejected (never for a heartbeat): `rejected` is the prev index that did not match, and (`hint_index`,
    `hint_term`) is the last place at which my log could still equal the leader's (rule 4.3)."""

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
    """To a heartbeat, where leases are allowed: nanoseconds from its arrival for which the sender gives no vote away
    but on that leader's order. 0: no promise."""


@final
class InstallSnapshot(Value, frozen=True, tag=5, array_like=True):
    """The leader offers its snapshot in place of entries it no longer has (§7). The bytes travel outside the core."""

    term: Term
    sender: NodeId
    id: MessageId
    meta: SnapshotMeta


@final
class SnapshotReply(Value, frozen=True, tag=6, array_like=True):
    """Installed or not needed (`ok`, with `match`), or not possible now."""

    term: Term
    sender: NodeId
    incarnation: Incarnation
    id: MessageId
    index: Index
    match: Index
    ok: bool


@final
class TimeoutNow(Value, frozen=True, tag=7, array_like=True):
    """The leader hands over: campaign at once (thesis 3.10)."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class TransferRefused(Value, frozen=True, tag=8, array_like=True):
    """The chosen successor cannot campaign: no voter, or a snapshot is under way. The leader takes up work again."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class ReadIndex(Value, frozen=True, tag=9, array_like=True):
    """A follower or learner asks the leader from which index on a read is linearizable (§8, thesis 6.4)."""

    term: Term
    sender: NodeId
    id: MessageId


@final
class ReadIndexReply(Value, frozen=True, tag=10, array_like=True):
    """The index for the read `id`; `ok` is false where the leader could not confirm or is too busy."""

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
    """The message belongs in the urgent lane of a connection: everything but appends with a place in the window.

    A heartbeat and its reply may overtake data; data and its replies keep their order among themselves."""
    kind = type(message)
    if kind is AppendEntries or kind is AppendReply:
        return message.purpose is HEARTBEAT  # type: ignore[union-attr]
    return kind is not InstallSnapshot
