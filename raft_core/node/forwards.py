"""Requests that were passed on to a leader and are not answered yet, and when nothing more can be expected of one.

A forward is definite while its frame has not left this node: it can be taken back and sent to another leader. Once it
has left, its answer comes on the same connection, or nobody can know: the old leader may have appended the request,
and the new leader may have committed it. So an open forward ends in one of four ways.

- *Answered*: by the leader that it was sent to, also after that leader was deposed.
- *Taken back*: the connection broke, or another node leads, before the frame left.
- *Lost*: the connection broke after it left.
- *Overdue*: another node leads, and the old leader has not answered for `NodeLimits.settle_wait`. An old leader that
  shows no sign of life at all is given up earlier, with its connection (`Peers.prove`).
"""

from __future__ import annotations

from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.events import ClientAsked, ConnectionId
from raft_core.node.limits import NodeLimits
from raft_core.node.peers import Peers
from raft_core.node.pending_request import PendingRequest, Place
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

    __slots__ = ("_config", "_last", "_open", "_overdue_at", "_peers")

    def __init__(self, config: NodeLimits, peers: Peers) -> None:
        self._config = config
        self._peers = peers
        self._open: dict[int, _Open] = {}
        self._last = 0
        self._overdue_at = 0  # when the first of them is overdue; 0 where none can be

    def __len__(self) -> int:
        return len(self._open)

    def send(self, item: PendingRequest, leader: NodeId, now: int) -> bool:
        """The request is on its way to the leader; False where it cannot be passed on at present."""
        request = item.request
        assert not isinstance(request, ClientAsked)
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
        """Whom the answer is for; None where it is late or made up."""
        known = self._open.get(number)
        if known is None or known.connection != connection:
            return None
        del self._open[number]
        return known.item

    def lost(self, connection: ConnectionId, left: int) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """The connection is gone, after `left` of its frames had left: who can be sent again, and who is unknown."""
        unsent: list[PendingRequest] = []
        unknown: list[PendingRequest] = []
        for number in [number for number, known in self._open.items() if known.connection == connection]:
            known = self._open.pop(number)
            (unknown if known.place < left else unsent).append(known.item)
        return unsent, unknown

    def on_leader(self, leader: NodeId, now: int) -> list[PendingRequest]:
        """Another node may lead now: who can be sent there instead. The others' leaders must show that they live."""
        unsent: list[PendingRequest] = []
        doubted: dict[ConnectionId, None] = {}
        for number, known in list(self._open.items()):
            if known.leader == leader or known.overdue_at:
                continue
            if self._peers.take_back(known.connection, known.place):
                unsent.append(self._open.pop(number).item)
                continue
            known.overdue_at = now + self._config.settle_wait
            self._overdue_at = self._overdue_at or known.overdue_at
            doubted[known.connection] = None
        for connection in doubted:
            self._peers.prove(connection)
        return unsent

    def overdue(self, now: int) -> list[PendingRequest]:
        """Those whose leader was deposed and does not say what became of them."""
        if not self._overdue_at or now < self._overdue_at:
            return []
        late = [number for number, known in self._open.items() if known.overdue_at and known.overdue_at <= now]
        items = [self._open.pop(number).item for number in late]
        self._overdue_at = min((known.overdue_at for known in self._open.values() if known.overdue_at), default=0)
        return items

    def sweep(self) -> None:
        """Forwards that nobody waits for any more take no room."""
        for number in [number for number, known in self._open.items() if known.item.place is Place.DONE]:
            del self._open[number]

    def clear(self) -> None:
        """Nobody waits any more."""
        self._open.clear()
