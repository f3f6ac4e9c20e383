"""How long a connection may be silent before it is closed. All in ticks handled, so that a paused process does not
blame its peers."""

from __future__ import annotations

from typing import Final, final

from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.peer_connection import Connection
from raft_core.settings import Settings

__all__ = ["Patience"]

_MOST_UNDER_WAY: Final = 4 * 1024 * 1024
"""Bytes that operating systems hold for one connection; more than these are no excuse for silence."""


@final
class Patience:
    """The limits of one node. `ping`: a dialled connection is pinged this often. `doubt`: a leader that was silent for
    longer has missed several heartbeats."""

    __slots__ = ("_bytes_in_tick", "_proof", "_silence", "doubt", "ping")

    def __init__(self, config: NodeLimits, settings: Settings) -> None:
        self.ping: Final = max(1, config.ping // config.tick)
        self.doubt: Final = 3 * settings.heartbeat_ticks
        self._silence: Final = max(3, config.silence // config.tick)
        self._proof: Final = max(3, config.settle_wait // 4 // config.tick)
        self._bytes_in_tick: Final = max(1, config.lowest_rate * config.tick // SECOND)

    def silence(self, connection: Connection, *, heard: bool) -> int:
        """Ticks of silence until the connection is dead. On one that we dialled little is said but answers to pings,
        and pings wait behind what is under way: the time for that is granted as long as the peer itself is `heard`."""
        return self._silence + (self._under_way(connection) if connection.dialled and heard else 0)

    def proof(self, connection: Connection) -> int:
        """Ticks within which a deposed leader has to show that it lives."""
        return self._proof + self._under_way(connection)

    def _under_way(self, connection: Connection) -> int:
        return min(connection.handed - connection.arrived, _MOST_UNDER_WAY) // self._bytes_in_tick
