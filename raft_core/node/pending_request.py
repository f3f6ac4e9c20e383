"""`PendingRequest`: one waiting request, local or forwarded. `Deadlines`: waiting requests by deadline.

These classes hold state; `requests` decides.
"""

from __future__ import annotations

import heapq
from enum import Enum, auto
from typing import Final, final

from raft_core.effects import RefusalReason
from raft_core.features import features_problem
from raft_core.ids import MAX_INT63
from raft_core.membership import RemoveNode
from raft_core.node.events import ConnectionId
from raft_core.node.jobs import Ticket
from raft_core.requests import BackupRequest, ChangeMembership, Propose, Read, Request, TransferLeadership

__all__ = ["Batch", "Deadlines", "PendingRequest", "Place", "impossible"]


class Place(Enum):
    """The place of a request."""

    HELD = auto()  # not handed on: it can be refused safely
    CORE = auto()  # with our core
    LEADER = auto()  # sent to the leader
    MACHINE = auto()  # a read ready to be answered: the machine is being queried
    DONE = auto()  # answered or cancelled


def impossible(request: Request) -> str:
    """Return the error in a number or name that cannot be sent, and so not be refused by the leader; "" if none."""
    if type(request) is Propose:
        return ""
    if isinstance(request, ChangeMembership):
        for change in request.changes:
            if not 0 < change.node <= MAX_INT63:
                return f"a node id is a positive 63-bit number, not {change.node}"
            if not isinstance(change, RemoveNode) and not 0 <= change.incarnation <= MAX_INT63:
                return f"an incarnation is a 63-bit number, not {change.incarnation}"
        if (problem := features_problem(request.features)) is not None:
            return problem
        if not 0 <= request.expected <= MAX_INT63:
            return f"the index of a configuration is a 63-bit number, not {request.expected}"
    if isinstance(request, TransferLeadership) and not 0 <= request.to <= MAX_INT63:
        return f"a node id is a positive 63-bit number, not {request.to}"
    return ""


@final
class PendingRequest:
    """A request that is answered exactly once, or cancelled.

    It comes from a local caller (`ticket`), or from a peer on `connection` under the peer's number `forward`; then
    `ticket` is None.
    """

    __slots__ = (
        "backup", "connection", "deadline", "forward", "held_for", "held_since", "is_barrier", "is_read", "place",
        "refused", "request", "since", "size", "ticket",
    )  # fmt: skip

    def __init__(self, request: Request, *, deadline: int, held_since: int, ticket: Ticket | None = None) -> None:
        self.request = request
        self.ticket: Final = ticket
        self.backup: BackupRequest | None = None  # made once `request`, a read without a query, is ready
        self.connection = ConnectionId(0)
        self.forward = 0
        self.deadline: Final = deadline
        self.since: Final = held_since  # never moved, for measurement
        self.held_since = held_since
        self.held_for: RefusalReason | None = None  # why the last attempt to move it failed
        self.place = Place.HELD
        self.refused: RefusalReason | None = None  # its last refusal, by a leader that was stepping down
        self.size: Final = _size(request)
        self.is_read: Final = type(request) is Read
        self.is_barrier: Final = type(request) is Read and request.query is None


def _size(request: Request) -> int:
    if type(request) is Propose:
        return len(request.command)
    return len(request.query or b"") if type(request) is Read else 0


@final
class Batch:
    """The callers behind one request to the core, and the number of unanswered items.

    A read of the core is one item, however many callers it serves.
    """

    __slots__ = ("items", "unanswered")

    def __init__(self, items: list[PendingRequest]) -> None:
        self.items: Final = items
        self.unanswered = 1 if items[0].is_read else len(items)


@final
class Deadlines:
    """Waiting requests by deadline. Answered ones are removed in time, and never make up more than half."""

    __slots__ = ("_heap", "_made", "next_at")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, PendingRequest]] = []
        self.next_at = 0  # the earliest deadline; 0: none
        self._made = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, waiting: PendingRequest) -> None:
        """Add the request, to be returned once its deadline has passed; never, if it has none."""
        if waiting.deadline:
            self._made += 1
            heapq.heappush(self._heap, (waiting.deadline, self._made, waiting))
            self.next_at = self._heap[0][0]

    def passed(self, now: int) -> list[PendingRequest]:
        """Remove and return the waiting requests whose deadline has passed, earliest first."""
        passed: list[PendingRequest] = []
        while self._heap and self._heap[0][0] <= now:
            waiting = heapq.heappop(self._heap)[2]
            if waiting.place is not Place.DONE:
                passed.append(waiting)
        self.next_at = self._heap[0][0] if self._heap else 0
        return passed

    def sweep(self, alive: int) -> None:
        """Remove answered requests if they outnumber the `alive` ones."""
        if len(self._heap) > 2 * alive + 64:
            self._heap = [item for item in self._heap if item[2].place is not Place.DONE]
            heapq.heapify(self._heap)
            self.next_at = self._heap[0][0] if self._heap else 0
