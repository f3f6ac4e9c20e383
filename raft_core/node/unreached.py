"""`Unreached`: peers that cannot be reached, since when, and their alarms."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, final

from raft_core.effects import AlarmKind
from raft_core.ids import NodeId
from raft_core.node.address_book import AddressBook
from raft_core.node.alarm_limiter import AlarmLimiter
from raft_core.node.limits import SECOND, NodeLimits

__all__ = ["CLOSED_UNGREETED", "NO_CONNECTION", "NO_GREETING", "Unreached"]

NO_CONNECTION: Final = "no connection came about in time"
NO_GREETING: Final = "the connection was taken, but no greeting came in time"
CLOSED_UNGREETED: Final = "the connection was taken, and closed without a greeting"


@final
class Unreached:
    """Peers that cannot be dialled. One that stays so for `silence` raises an alarm, once a minute each."""

    __slots__ = ("_addresses", "_patience", "_since", "_warnings")

    def __init__(self, config: NodeLimits, addresses: AddressBook, warnings: AlarmLimiter) -> None:
        self._patience = config.silence
        self._addresses = addresses
        self._warnings = warnings
        self._since: dict[NodeId, int] = {}

    def reached(self, peer: NodeId) -> None:
        """Record that a dial reached the peer and it greeted."""
        self._addresses.reached(peer)
        self._since.pop(peer, None)

    def forget(self, peer: NodeId) -> None:
        """Forget a peer that is no longer dialled."""
        self._since.pop(peer, None)

    def failed(self, peer: NodeId, address: str, why: str, missed: Container[NodeId], now: int) -> bool:
        """Record a failed dial at `address`. Raise an alarm if this has lasted and the peer is one of `missed`.

        Return whether all of its addresses have been tried.
        """
        everywhere = self._addresses.failed(peer, address, why)
        since = self._since.setdefault(peer, now)
        if everywhere and peer in missed and now - since >= self._patience:
            told = f"it could not be reached for {(now - since) // SECOND} s: {self._addresses.complaint(peer)}"
            self._warnings.alarm(AlarmKind.UNREACHABLE, AlarmKind.UNREACHABLE, peer, told, now)
        return everywhere
