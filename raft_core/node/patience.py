"""`Patience`: silence limits of connections, in ticks handled, so that a paused process does not blame its peers."""

from __future__ import annotations

from typing import Final, final

from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.peer_connection import Connection
from raft_core.settings import Settings

__all__ = ["Patience"]

_MOST_UNDER_WAY: Final = 4 * 1024 * 1024
"""Bytes buffered by operating systems for one connection; more do not excuse silence."""


@final
class Patience:
    """The limits of one node.

    `ping`: interval of pings on a dialled connection. `doubt`: longest silence of a leader before it has missed several
    heartbeats. `least`: the shortest silence after which a connection is dead.
    """

    __slots__ = ("_bytes_in_tick", "_proof", "doubt", "least", "ping")

    def __init__(self, config: NodeLimits, settings: Settings) -> None:
        self.ping: Final = max(1, config.ping // config.tick)
        self.doubt: Final = 3 * settings.heartbeat_ticks
        self.least: Final = max(3, config.silence // config.tick)
        self._proof: Final = max(3, config.settle_wait // 4 // config.tick)
        self._bytes_in_tick: Final = max(1, config.lowest_rate * config.tick // SECOND)

    def silence(self, connection: Connection, *, heard: bool) -> int:
        """Return the ticks of silence after which the connection is dead.

        A dialled connection receives little but answers to pings, and pings wait behind outgoing data: the time for
        that is added while the peer itself is `heard`.
        """
        return self.least + (self._under_way(connection) if connection.dialled and heard else 0)

    def proof(self, connection: Connection) -> int:
        """Return the ticks within which a deposed leader must give a sign of life."""
        return self._proof + self._under_way(connection)

    def _under_way(self, connection: Connection) -> int:
        return min(connection.handed - connection.arrived, _MOST_UNDER_WAY) // self._bytes_in_tick
