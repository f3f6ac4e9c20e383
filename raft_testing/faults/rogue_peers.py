"""Rogue peers: connections from programs that are no peer, or no longer, and send wrong bytes.

`RoguePeers` opens connections to nodes and sends them. The node must count the drops, give the reason if it helps,
close the connection, and continue. The bytes are in `malformed_frames`. One kind of rogue peer repeats, byte for byte,
earlier messages of a real peer. Nodes do not know their peers by secrets, so they believe it, and a protocol must bear
that like any very late message.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.events import ConnectionClosed, ConnectionId, ConnectionOpened, NodeEvent
from raft_core.node.limits import MILLISECOND, SECOND
from raft_testing.faults.malformed_frames import ODDITIES, Victim
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["RoguePeers"]

_FIRST_ID: Final = 900_000
_PATIENCE: Final = 20 * SECOND
"""By then, of its own clock, a node has closed any connection on which nothing sensible is said."""


@final
class RoguePeer:
    """Whoever dials a node and then says these things, one after the other."""

    alive = True
    life = 0
    address = ""

    def __init__(self, world: World, number: int, said: list[bytes], pause: int) -> None:
        self.id = NodeId(number)
        self.connected = False
        self.closed = False
        self.spoke_at = 0
        self._world = world
        self._said = said
        self._pause = pause

    def accepted_closed(self) -> None: ...

    def accept(self) -> ConnectionId:
        raise AssertionError("nobody dials a stranger")

    def dial(self, address: str) -> None:
        self._world.network.dial(self, ConnectionId(2), address)

    def hang_up(self) -> None:
        self.closed = True
        self._world.network.close(self, ConnectionId(2))

    def tell(self, *events: NodeEvent) -> None:
        """Take the events of its operating system. It ignores the node's answers."""
        for event in events:
            if isinstance(event, ConnectionOpened):
                self.connected = True
                self._say_next()
            elif isinstance(event, ConnectionClosed):
                self.closed = True

    def _say_next(self) -> None:
        if self._said and not self.closed:
            self.spoke_at = self._world.now
            self._world.network.transmit(self, ConnectionId(2), self._said.pop(0))
            self._world.at(self._pause, self._say_next)


@final
class RoguePeers:
    """All strangers of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0

    def knock(self, node: SimulatedNode, rng: Rng) -> bool:
        """Connect to this node and send bytes no peer sends."""
        if node.face is None:
            return False
        victim = Victim(node.face.status, NodeId(_FIRST_ID + self._count), node.settings)
        oddity = rng.choice(ODDITIES)
        said = oddity(victim, rng)
        if not said:
            return False
        self._world.seen[f"stranger: {oddity.__name__.replace('_', ' ')}"] += 1
        self._send(node, said, rng)
        return True

    def repeat(self, node: SimulatedNode, rng: Rng) -> bool:
        """Send again what a peer has sent to this node, on a connection of its own."""
        peers = [peer for peer in sorted(self._world.nodes) if peer != node.id]
        said = self._world.network.heard(rng.choice(peers), node.id) if peers else []
        if len(said) < 2:
            return False
        self._world.seen["stranger: what a peer said before"] += 1
        self._send(node, [said[0], *rng.some(said[1:], 0.5)], rng)
        return True

    def _send(self, node: SimulatedNode, said: list[bytes], rng: Rng) -> None:
        stranger = RoguePeer(self._world, _FIRST_ID + self._count, said, rng.choice((1, 10, 300)) * MILLISECOND)
        self._count += 1
        stranger.dial(node.address)
        if rng.chance(0.3):
            self._world.at(rng.around(2 * SECOND), stranger.hang_up)
            return
        life, until = node.life, node.clock.at(self._world.now) + _PATIENCE
        self._world.at(_PATIENCE, lambda: self._must_be_gone(stranger, node, life, until))

    def _must_be_gone(self, stranger: RoguePeer, node: SimulatedNode, life: int, until: int) -> None:
        world = self._world
        if not stranger.connected or stranger.closed or not node.alive or node.life != life:
            return
        lately = world.now - _PATIENCE
        if max(node.paused_until, stranger.spoke_at) > lately or node.clock.at(world.now) < until:
            world.at(_PATIENCE, lambda: self._must_be_gone(stranger, node, life, until))
            return
        world.fail(f"node {node.id} has kept the connection of a stranger")
