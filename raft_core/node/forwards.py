"""Forwarded requests without an answer yet, and the rules for giving one up.

A forward is revocable while its frame has not left this node: it can be taken back and sent to another leader. Once
sent, its answer comes on the same connection or its outcome is unknown: the old leader may have appended the request,
and the new leader may have committed it. So an open forward ends in one of four ways.

- *Answered*: by the leader that it was sent to, also after that leader was deposed.
- *Taken back*: the connection broke, or another node leads, before the frame left.
- *Lost*: the connection broke after it left.
- *Overdue*: another node leads, and the old leader has not answered for `NodeLimits.settle_wait`. An old leader
  without any sign of life is given up earlier, with its connection (`Peers.prove`).
"""

from __future__ import annotations

from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.events import ConnectionId
from raft_core.node.limits import NodeLimits
from raft_core.node.peers import Peers
from raft_core.node.pending_request import PendingRequest, Place
from raft_core.requests import Read
from raft_core.wire.payloads import Forward

__all__ = ["Forwards"]


@final
class _Open:
    """One forward. `place`: its frame's number on its connection. `overdue_at`: 0 while its leader is the newest."""

    __slots__ = ("connection", "item", "leader", "overdue_at", "place")

    def __init__(self, item: PendingRequest, leader: NodeId, connection: ConnectionId, place: int) -> None:
        self.item: Final = item
        self.leader: Final = leader
        self.connection: Final = connection
        self.place: Final = place
        self.overdue_at = 0


@final
class Forwards:
    """The open forwards of one node, at most `max_forwarded`."""

    __slots__ = ("_config", "_last", "_open", "_peers", "overdue_at")

    def __init__(self, config: NodeLimits, peers: Peers) -> None:
        self._config = config
        self._peers = peers
        self._open: dict[int, _Open] = {}
        self._last = 0
        self.overdue_at = 0  # when the first forward is overdue; 0 if none can be

    def __len__(self) -> int:
        return len(self._open)

    def send(self, item: PendingRequest, leader: NodeId, now: int) -> bool:
        """Send the request to the leader. Return False if it cannot be forwarded at present."""
        request = item.request
        assert not isinstance(request, Read)
        if len(self._open) >= self._config.max_forwarded or self._peers.doubtful(leader):
            return False
        budget = max(1, item.deadline - now) if item.deadline else 0
        asked = self._peers.ask(leader, Forward(self._last + 1, budget, request))
        if asked is None:
            return False
        self._last += 1
        item.place = Place.LEADER
        self._open[self._last] = _Open(item, leader, *asked)
        return True

    def answered(self, connection: ConnectionId, number: int) -> PendingRequest | None:
        """Return the request that the answer belongs to; None if the answer is late or invalid."""
        known = self._open.get(number)
        if known is None or known.connection != connection:
            return None
        del self._open[number]
        return known.item

    def lost(self, connection: ConnectionId, left: int) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """Remove the forwards of a lost connection, of which `left` frames were sent.

        Return the unsent and the sent ones.
        """
        unsent: list[PendingRequest] = []
        unknown: list[PendingRequest] = []
        for number in [number for number, known in self._open.items() if known.connection == connection]:
            known = self._open.pop(number)
            (unknown if known.place < left else unsent).append(known.item)
        return unsent, unknown

    def on_leader(self, leader: NodeId, now: int) -> list[PendingRequest]:
        """Take back and return the unsent forwards to other leaders. Ask those leaders for a sign of life."""
        unsent: list[PendingRequest] = []
        doubted: dict[ConnectionId, None] = {}
        for number, known in list(self._open.items()):
            if known.leader == leader or known.overdue_at:
                continue
            if self._peers.take_back(known.connection, known.place):
                unsent.append(self._open.pop(number).item)
                continue
            known.overdue_at = now + self._config.settle_wait
            self.overdue_at = self.overdue_at or known.overdue_at
            doubted[known.connection] = None
        for connection in doubted:
            self._peers.prove(connection)
        return unsent

    def overdue(self, now: int) -> list[PendingRequest]:
        """Return the forwards whose deposed leader did not answer in time."""
        late = [number for number, known in self._open.items() if known.overdue_at and known.overdue_at <= now]
        items = [self._open.pop(number).item for number in late]
        self.overdue_at = min((known.overdue_at for known in self._open.values() if known.overdue_at), default=0)
        return items

    def sweep(self) -> None:
        """Release the room of answered forwards."""
        for number in [number for number, known in self._open.items() if known.item.place is Place.DONE]:
            del self._open[number]

    def clear(self) -> None:
        """Forget all forwards."""
        self._open.clear()
