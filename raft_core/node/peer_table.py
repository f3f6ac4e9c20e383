"""`PeerTable`: the connections of one node, by number and by peer. It answers questions and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from raft_core.ids import NodeId
from raft_core.node.events import ConnectionId
from raft_core.node.patience import Patience
from raft_core.node.peer_connection import Connection
from raft_core.wire.payloads import Hello

__all__ = ["PeerTable"]


@final
class PeerTable:
    """All connections, those that this node dialled, and of the accepted ones the newest greeted one of each peer."""

    __slots__ = ("_accepted", "_connections", "_dialled")

    def __init__(
        self,
        connections: dict[ConnectionId, Connection],
        dialled: dict[NodeId, Connection],
        accepted: dict[NodeId, Connection],
    ) -> None:
        self._connections = connections
        self._dialled = dialled
        self._accepted = accepted

    @property
    def answering(self) -> bool:
        """True if a reply to a peer is still unsent."""
        return any(
            not connection.closing and (connection.requests.bytes or connection.busy or connection.mid_frame)
            for connection in self._accepted.values()
        )

    def connected_peers(self) -> tuple[NodeId, ...]:
        """Return the peers that can receive messages, sorted."""
        return tuple(sorted(peer for peer, connection in self._dialled.items() if connection.greeted))

    def accepted_from(self, peer: NodeId) -> ConnectionId | None:
        """Return the connection dialled by the peer, which carries its questions."""
        connection = self._accepted.get(peer)
        return None if connection is None else connection.id

    def dials(self, members: Iterable[NodeId], known: Iterable[NodeId], own: NodeId) -> bool:
        """Return whether all these nodes except `own`, and all that have dialled us, are dialled."""
        dialled = self._dialled
        for wanted in (members, known, self._accepted):
            for node in wanted:
                if node not in dialled and node != own:
                    return False
        return True

    def standing_greetings(self) -> list[Hello]:
        """Return the greetings received on our open, dialled connections."""
        greetings = [connection.link.greeting for connection in self._dialled.values()]
        return [hello for hello in greetings if hello is not None]

    def greeted(self) -> list[tuple[Connection, Hello]]:
        """Return all connections in use, of either direction, with the peers' greetings."""
        greeted = [(connection, connection.link.greeting) for connection in self._connections.values()]
        return [(each, hello) for each, hello in greeted if hello is not None and each.greeted and not each.closing]

    def features_of(self, peer: NodeId) -> tuple[str, ...] | None:
        """Return the features of a connected peer, by its greetings; None if it is not connected."""
        both = (self._dialled.get(peer), self._accepted.get(peer))
        hellos = [each.link.greeting for each in both if each is not None and each.greeted]
        found = [set(hello.features) for hello in hellos if hello is not None]
        return tuple(sorted(set.intersection(*found))) if found else None

    @property
    def most_queued(self) -> int:
        """Return the bytes waiting for the peer with the most."""
        return max([connection.queued_bytes for connection in self._dialled.values()], default=0)

    def quiet_ticks(self, patience: Patience) -> int:
        """Return in how many of the next ticks every connection only counts. 0 while one is being met or closed."""
        quiet = patience.ping
        for connection in self._connections.values():
            if connection.closing or not connection.greeted or connection.proof_ticks:
                return 0
            silent = connection.silent_ticks
            if patience.least - silent < quiet:
                silence = patience.silence(connection, heard=connection.peer in self._accepted)
                quiet = min(quiet, silence - silent)
            if connection.dialled:
                until_ping = patience.ping - silent % patience.ping - 1
                quiet = until_ping if until_ping < quiet else quiet
        return quiet

    def pass_quiet(self, ticks: int) -> None:
        """Count ticks in which nothing else was to be done."""
        for connection in self._connections.values():
            connection.silent_ticks += ticks
