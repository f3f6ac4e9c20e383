"""What messages of an older term get: ours, where silence would leave their sender stuck below it (rules 2.5, 2.6).

What lives here: answers that need no role. Replies of an older term are dropped: what they promised was for then.
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
    """A request of an older term has been answered with our term; anything else is dropped (§5.1)."""
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
    """The read cannot be confirmed here; the answer carries our term."""
    reply = ReadIndexReply(server.term, server.me, message.id, NO_INDEX, ok=False)
    server.outbox.promise_term(message.sender, reply)
