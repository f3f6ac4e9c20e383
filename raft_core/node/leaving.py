"""How a node goes that was asked to stop: it hands over, answers whoever waits, and only then ends its core.

1. *Handing over*, where it leads: its own clients are still served. What its core refuses meanwhile is held and goes to
   the next leader.
2. *Draining*: new requests are refused, open ones are answered: what was passed on to a leader, what peers passed on
   to this node. One that has led stays for a moment longer, so that a peer which has not heard of the next leader yet
   is refused rather than cut off. This takes `NodeLimits.drain_timeout` at most.
3. *Ending*: the core is told to stop. It hands over again where it still leads or leads anew.

All of it together is bounded by `NodeLimits.stop_timeout`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, final

from raft_core.effects import RefusalReason, Respond
from raft_core.events import StopRequested, TransferRequested
from raft_core.ids import RequestId
from raft_core.node.limits import NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook

__all__ = ["Leaving"]

_LINGER_TICKS: Final = 10
"""How many ticks a node that has led refuses what reaches it late, rather than be gone."""


class _Stage(Enum):
    HANDING_OVER = auto()
    DRAINING = auto()
    ENDING = auto()


@final
class Leaving:
    """The way out of one node, from the moment when it is asked to stop."""

    __slots__ = ("_clients", "_config", "_drain_until", "_linger_until", "_orders", "_peers", "_stage", "_wish")

    def __init__(self, config: NodeLimits, orders: Outputs, clients: RequestBook, peers: Peers) -> None:
        self._config = config
        self._orders = orders
        self._clients = clients
        self._peers = peers
        self._stage: _Stage | None = None
        self._wish: RequestId | None = None  # the transfer that was asked of our core, until it is answered
        self._linger_until = 0
        self._drain_until = 0

    def begin(self, now: int, *, leads: bool) -> None:
        """The node was asked to stop."""
        if not leads:
            self._drain(now)
            return
        self._stage = _Stage.HANDING_OVER
        self._wish = self._clients.number_anew()
        self._orders.events.append(TransferRequested(self._wish))

    def on_respond(self, effect: Respond) -> None:
        """The core may be answering our wish to hand over. Whatever it says, there is nothing more to wait for."""
        if effect.request == self._wish:
            self._wish = None

    def look(self, now: int, *, leads: bool) -> None:
        """The next stage begins once this one is over. Called after everything that happened was handled."""
        if self._stage is _Stage.HANDING_OVER and (not leads or self._wish is None):
            self._linger_until = 0 if leads else now + _LINGER_TICKS * self._config.tick
            self._drain(now)
        if self._stage is _Stage.DRAINING and (now >= self._drain_until or self._drained(now)):
            self._stage = _Stage.ENDING
            self._orders.events.append(StopRequested())

    def _drain(self, now: int) -> None:
        self._stage = _Stage.DRAINING
        self._drain_until = now + self._config.drain_timeout
        self._clients.close(RefusalReason.STOPPING)

    def _drained(self, now: int) -> bool:
        return now >= self._linger_until and not self._clients.count and not self._peers.answering
