"""`AlarmLimiter`: limits the rate of alarms about one peer and reason.

Peers dial and ask repeatedly, so without it one fault would raise the same alarm again and again. Also maps each fault
of a connection to the reason under which it is counted.
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

Reason: TypeAlias = Drop | tuple[Drop, str] | AlarmKind | tuple[Index, Term]
"""The subject of an alarm: a fault of a connection, perhaps with its detail, a kind of alarm, or a snapshot."""

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
    LinkFault.FEATURE_MISSING: Drop.FEATURE_MISSING,
    LinkFault.WRONG_CERTIFICATE: Drop.WRONG_CERTIFICATE,
    LinkFault.REFUSED: Drop.REFUSED_BY_PEER,
}


_KINDS: Final = {
    Drop.WRONG_INCARNATION: AlarmKind.WRONG_INCARNATION,
    Drop.WRONG_FOUNDING: AlarmKind.TWO_CLUSTERS,
    Drop.FEATURE_MISSING: AlarmKind.FEATURE_MISSING,
    Drop.WRONG_CERTIFICATE: AlarmKind.INSECURE,
    Drop.BAD_CERTIFICATE: AlarmKind.INSECURE,
    Drop.NOT_TLS: AlarmKind.INSECURE,
    Drop.TLS_FAILED: AlarmKind.INSECURE,
}


@final
class AlarmLimiter:
    """Times of past alarms.

    The same alarm is repeated after `every` nanoseconds at the earliest; None: never. Bounded, because unknown nodes
    can make up any number of ids.
    """

    __slots__ = ("_every", "_last", "_orders")

    def __init__(self, orders: Outputs, *, every: int | None = _MINUTE) -> None:
        self._orders = orders
        self._every: Final = every
        self._last: dict[tuple[Reason, NodeId], int] = {}

    def warn(
        self, reason: Drop, peer: NodeId, text: str, now: int, about: NodeId | None = None, detail: str = ""
    ) -> None:
        """Raise the alarm for a fault of the peer's connection, unless it was raised recently.

        `about`: peers with the same number share one alarm; by default the peer's own. `detail`: one of a few causes of
        this fault, each with an alarm of its own; it must not hold what the peer has made up.
        """
        subject = (reason, detail) if detail else reason
        self.alarm(_KINDS.get(reason, AlarmKind.MALFORMED), subject, peer, text, now, about)

    def alarm(
        self, kind: AlarmKind, reason: Reason, peer: NodeId, text: str, now: int, about: NodeId | None = None
    ) -> None:
        """Raise an alarm, unless there was one for this reason and peer recently."""
        key = (reason, peer if about is None else about)
        last = self._last.get(key)
        if last is not None and (self._every is None or now - last < self._every):
            return
        if len(self._last) > _MOST:
            self._last.clear()
        self._last[key] = now
        self._orders.effects.append(Alarm(kind, peer, text))


def no_address(peer: NodeId) -> str:
    """Return a text for a peer that connects to us but has no known address, with the remedy."""
    return (
        f"node {peer} does not say where it can be dialled, and nobody else has, so nothing can be sent to it: start "
        "it with an address to advertise, or start this node with the address of that one"
    )
