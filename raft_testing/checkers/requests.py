"""Answers: each item of a request to a core is answered once, and no other.

`RequestTracker` holds the open requests of one core in one life. It does not judge the contents of answers.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core.effects import RefusalReason, Respond, UnknownReason
from raft_core.errors import OutcomeUnknown, Refused, RequestError
from raft_core.events import Event, Proposed, Requested
from raft_core.ids import RequestId
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.requests import NodeRequest, Propose

__all__ = ["Reply", "RequestTracker", "unfair"]

Reply: TypeAlias = "bytes | RequestError | None"
"""What a caller of a node gets: an answer, an error, or None where the node died."""

_LEAVING: Final = (RefusalReason.STOPPING, RefusalReason.TRANSFERRING)


@final
class RequestTracker:
    """Requests by number, with a bit for each unanswered item."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[RequestId, int] = {}

    @property
    def open(self) -> tuple[RequestId, ...]:
        """The unanswered requests, oldest first."""
        return tuple(self._open)

    def asked(self, event: Event | None) -> None:
        """Note the event if it is a request."""
        if type(event) is Proposed:
            if event.commands:
                self._open[RequestId(event.request)] = (1 << len(event.commands)) - 1
        elif type(event) is Requested:
            self._open[RequestId(event.id)] = 1

    def answered(self, answer: Respond) -> str:
        """Return the violation in an answer, or ""."""
        items = ((1 << answer.count) - 1) << answer.offset
        waiting = self._open.get(answer.request, 0)
        if waiting & items != items:
            return f"request {answer.request} was answered twice, or never asked: {answer!r}"
        waiting ^= items
        if waiting:
            self._open[answer.request] = waiting
        else:
            del self._open[answer.request]
        return ""


def unfair(request: NodeRequest, reply: Reply, config: NodeLimits, waited: int, stopping_for: int) -> str:
    """Return the fault of this reply, or "".

    `waited`: nanoseconds since the request. `stopping_for`: nanoseconds since the node was asked to stop, or -1.
    """
    if isinstance(reply, OutcomeUnknown):
        # A node that was not asked to stop passes on what the leader said, which stopped with the request open.
        early = reply.reason is UnknownReason.STOPPING and 0 <= stopping_for < config.drain_timeout
        return f"ended with a request open {stopping_for / SECOND} s after it was asked to stop" if early else ""
    if not isinstance(reply, Refused) or reply.reason not in _LEAVING or type(request) is not Propose:
        return ""
    early = not config.leader_wait or waited < config.leader_wait
    return f"told a client {reply.reason}, and was not asked to stop" if early and stopping_for < 0 else ""
