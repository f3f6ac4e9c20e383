"""When a person should look at a peer.

What lives here: `Warnings`, which raises an alarm about one thing once a minute at most, because peers dial again and
again; and under which name each fault of a connection is counted.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.effects import Alarm, AlarmKind
from raft_core.host.config import SECOND
from raft_core.host.orders import Orders
from raft_core.host.status import Drop
from raft_core.ids import NodeId
from raft_core.wire.link import LinkFault

__all__ = ["FAULT_DROPS", "Warnings"]

_EVERY: Final = 60 * SECOND
_MOST: Final = 1000
FAULT_DROPS: Final[dict[LinkFault, Drop]] = {
    LinkFault.BAD_FRAME: Drop.BAD_FRAME,
    LinkFault.OUT_OF_ORDER: Drop.BAD_FRAME,
    LinkFault.WRONG_SENDER: Drop.BAD_FRAME,
    LinkFault.WRONG_VERSION: Drop.WRONG_VERSION,
    LinkFault.WRONG_CLUSTER: Drop.WRONG_CLUSTER,
    LinkFault.WRONG_ADDRESSEE: Drop.WRONG_PEER,
    LinkFault.WRONG_PEER: Drop.WRONG_PEER,
    LinkFault.WRONG_INCARNATION: Drop.WRONG_INCARNATION,
    LinkFault.REFUSED: Drop.REFUSED_BY_PEER,
}


@final
class Warnings:
    """What was said when. Bounded, whoever calls: strangers can make up any number of names."""

    __slots__ = ("_last", "_orders")

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._last: dict[tuple[Drop, NodeId], int] = {}

    def warn(self, reason: Drop, peer: NodeId, text: str, now: int) -> None:
        """An alarm is raised, unless one was for this reason and peer within the last minute."""
        last = self._last.get((reason, peer))
        if last is not None and now - last < _EVERY:
            return
        if len(self._last) > _MOST:
            self._last.clear()
        self._last[reason, peer] = now
        kind = AlarmKind.WRONG_INCARNATION if reason is Drop.WRONG_INCARNATION else AlarmKind.MALFORMED
        self._orders.effects.append(Alarm(kind, peer, text))
