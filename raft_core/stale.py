"""Replies to messages of an older term: requests get our term, so their sender can catch up (rules 2.5, 2.6).

Replies of an older term are dropped: they concern that term only.
"""

from __future__ import annotations

from raft_core.ids import NO_INDEX
from raft_core.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
)
from raft_core.server import Server

__all__ = ["answer_old", "refuse_read_index"]


def answer_old(server: Server, message: Message) -> None:
    """Answer a request of an older term with our term; drop any other message (§5.1)."""
    if type(message) is AppendEntries:
        reply = AppendReply(
            server.term,
            server.me,
            server.identity.incarnation,
            message.id,
            message.purpose,
            message.read,
            NO_INDEX,
            message.prev_index,
            ok=False,
        )
        server.outbox.promise_term(message.sender, reply)
    elif type(message) is RequestVote:
        server.refuse_old_vote(message)
    elif type(message) is InstallSnapshot:
        answer = SnapshotReply(
            server.term, server.me, server.identity.incarnation, message.id, message.meta.index, NO_INDEX, ok=False
        )
        server.outbox.promise_term(message.sender, answer)
    elif type(message) is ReadIndex:
        refuse_read_index(server, message)


def refuse_read_index(server: Server, message: ReadIndex) -> None:
    """Refuse a read which cannot be confirmed here; the reply carries our term."""
    reply = ReadIndexReply(server.term, server.me, message.id, NO_INDEX, ok=False)
    server.outbox.promise_term(message.sender, reply)
