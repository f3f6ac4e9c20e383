"""`Leaving`: the clean stop of a node: transfer leadership, answer the callers, then stop the core.

1. *Handing over*, on a leader: its own clients are still served. Requests refused by its core meanwhile are held and
   go to the next leader.
2. *Draining*: new requests are refused, open ones are answered: those forwarded to a leader, and those forwarded by
   peers to this node. A former leader stays a moment longer, so that a peer that does not know the next leader yet is
   refused rather than cut off. This takes `NodeLimits.drain_timeout` at most.
3. *Ending*: the core is told to stop. It transfers again if it still leads or leads again.

`NodeLimits.stop_timeout` bounds all of it together.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, final

from raft_core.effects import RefusalReason, Respond
from raft_core.events import Requested, StopRequested
from raft_core.ids import RequestId
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.requests import TransferLeadership

__all__ = ["Leaving"]

_LINGER_TICKS: Final = 10
"""Ticks for which a former leader stays and refuses late requests."""


class _Stage(Enum):
    HANDING_OVER = auto()
    DRAINING = auto()
    ENDING = auto()


@final
class Leaving:
    """One node's clean stop, from the request to the end."""

    __slots__ = ("_clients", "_config", "_drain_until", "_linger_until", "_orders", "_peers", "_stage", "_wish")

    def __init__(self, config: NodeLimits, orders: Outputs, clients: RequestBook, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._clients = clients
        self._peers = peers
        self._stage: _Stage | None = None
        self._wish: RequestId | None = None  # our request for a transfer, until it is answered
        self._linger_until = 0
        self._drain_until = 0

    def role_changes(self, now: int, *, led: bool) -> None:
        """Note a change of role, perhaps for the sake of a stop that follows. `led`: this node has led until now."""
        if led:
            self._linger_until = now + _LINGER_TICKS * self._config.tick

    def begin(self, now: int, *, leads: bool) -> None:
        """Begin the clean stop."""
        if not leads:
            self._drain(now)
            return
        self._stage = _Stage.HANDING_OVER
        self._wish = self._clients.number_anew()
        self._orders.events.append(Requested(self._wish, TransferLeadership()))

    def on_respond(self, effect: Respond) -> None:
        """Note the answer to our transfer request, if it is that. Any answer ends the wait."""
        if effect.request == self._wish:
            self._wish = None

    def look(self, now: int, *, leads: bool) -> None:
        """Begin the next stage if this one is over. Called after all events are handled."""
        if self._stage is _Stage.HANDING_OVER and (not leads or self._wish is None):
            self._drain(now)
        if self._stage is _Stage.DRAINING and (now >= self._drain_until or self._drained(now)):
            self._stage = _Stage.ENDING
            self._orders.events.append(StopRequested())

    def _drain(self, now: int) -> None:
        self._stage = _Stage.DRAINING
        self._drain_until = now + self._config.drain_timeout
        self._clients.close(RefusalReason.STOPPING)

    def _drained(self, now: int) -> bool:
        return now >= self._linger_until and not self._clients.count and not self._peers.table.answering
