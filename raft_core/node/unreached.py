"""Peers that cannot be reached: since when, and what an operator is told of it."""

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
    """Which peers are dialled in vain. Those that lasted so for `silence` raise an alarm, once a minute each."""

    __slots__ = ("_addresses", "_patience", "_since", "_warnings")

    def __init__(self, config: NodeLimits, addresses: AddressBook, warnings: AlarmLimiter) -> None:
        self._patience = config.silence
        self._addresses = addresses
        self._warnings = warnings
        self._since: dict[NodeId, int] = {}

    def reached(self, peer: NodeId) -> None:
        """The peer has greeted this node where it was dialled."""
        self._addresses.reached(peer)
        self._since.pop(peer, None)

    def forget(self, peer: NodeId) -> None:
        """The peer is dialled no more."""
        self._since.pop(peer, None)

    def failed(self, peer: NodeId, address: str, why: str, missed: Container[NodeId], now: int) -> bool:
        """The peer was not found at `address`. Say so where that has lasted, and the peer is one of `missed`.

        Return whether all of its addresses have had their turn."""
        everywhere = self._addresses.failed(peer, address, why)
        since = self._since.setdefault(peer, now)
        if everywhere and peer in missed and now - since >= self._patience:
            told = f"it could not be reached for {(now - since) // SECOND} s: {self._addresses.complaint(peer)}"
            self._warnings.alarm(AlarmKind.UNREACHABLE, AlarmKind.UNREACHABLE, peer, told, now)
        return everywhere
