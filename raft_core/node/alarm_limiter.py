"""When a person should look at a peer.

What lives here: `AlarmLimiter`, which does not raise an alarm about one thing again and again, because peers dial and
ask again and again; and under which name each fault of a connection is counted.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core.effects import Alarm, AlarmKind
from raft_core.ids import Index, NodeId, Term
from raft_core.node.limits import SECOND
from raft_core.node.outputs import Outputs
from raft_core.node.status import Drop
from raft_core.wire.handshake import LinkFault

__all__ = ["FAULT_DROPS", "AlarmLimiter", "no_address"]

Reason: TypeAlias = Drop | AlarmKind | tuple[Index, Term]
"""What an alarm is about: a fault of a connection, a kind of which there is one at a time, or a snapshot."""

_MINUTE: Final = 60 * SECOND
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


_KINDS: Final = {
    Drop.WRONG_INCARNATION: AlarmKind.WRONG_INCARNATION,
    Drop.WRONG_FOUNDING: AlarmKind.TWO_CLUSTERS,
}


@final
class AlarmLimiter:
    """What was said when, to be said again after `every` nanoseconds at the earliest; None: never. Bounded, whoever
    calls: strangers can make up any number of names."""

    __slots__ = ("_every", "_last", "_orders")

    def __init__(self, orders: Outputs, *, every: int | None = _MINUTE) -> None:
        self._orders = orders
        self._every: Final = every
        self._last: dict[tuple[Reason, NodeId], int] = {}

    def warn(self, reason: Drop, peer: NodeId, text: str, now: int, about: NodeId | None = None) -> None:
        """Raise the alarm that goes with a fault of the peer's connection, unless it was lately. `about`: for all who
        share this number it counts as one; the peer's own by default."""
        self.alarm(_KINDS.get(reason, AlarmKind.MALFORMED), reason, peer, text, now, about)

    def alarm(
        self, kind: AlarmKind, reason: Reason, peer: NodeId, text: str, now: int, about: NodeId | None = None
    ) -> None:
        """Raise an alarm, unless one was for this reason and peer lately."""
        key = (reason, peer if about is None else about)
        last = self._last.get(key)
        if last is not None and (self._every is None or now - last < self._every):
            return
        if len(self._last) > _MOST:
            self._last.clear()
        self._last[key] = now
        self._orders.effects.append(Alarm(kind, peer, text))


def no_address(peer: NodeId) -> str:
    """Say of a peer that can be heard but not dialled what to do about it."""
    return (
        f"node {peer} does not say where it can be dialled, and nobody else has, so nothing can be sent to it: start "
        "it with an address to advertise, or start this node with the address of that one"
    )
