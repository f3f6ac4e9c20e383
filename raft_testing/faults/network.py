"""Network faults: messages lost, late or doubled, lines cut, blocked or reset.

`NetworkFaults` lets each last for a while. The lines are in `sim.network`, and `nemesis` decides when a fault strikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.limits import SECOND
from raft_testing.rng import Rng
from raft_testing.sim.world import World

__all__ = ["NetworkFaults"]

_T: Final = SECOND
"""About an election timeout."""


@final
class NetworkFaults:
    """All faults of the network.

    `later`: do it after a while, unless faults have stopped. `flood`: many proposals at once, so that a blocked line
    overflows.
    """

    def __init__(
        self,
        world: World,
        later: Callable[[int, Callable[[], None]], None],
        flood: Callable[[Rng], bool],
    ) -> None:
        self._world = world
        self._later = later
        self._flood = flood

    def rate(self, name: str, rate: float, rng: Rng) -> bool:
        """Let a share of messages meet this fault, for a while."""
        network = self._world.network
        setattr(network, name, rate)
        self._later(rng.around(3 * _T), lambda: setattr(network, name, 0.0))
        return True

    def delay(self, rng: Rng) -> bool:
        """Everything takes longer, for a while."""
        network = self._world.network
        network.spike = rng.around(rng.choice((_T // 10, _T, 3 * _T)))

        def over() -> None:
            network.spike = 0

        self._later(rng.around(2 * _T), over)
        return True

    def _pair(self, rng: Rng) -> tuple[NodeId, NodeId] | None:
        nodes = sorted(self._world.nodes)
        if len(nodes) < 2:
            return None
        one = rng.choice(nodes)
        return one, rng.choice([node for node in nodes if node != one])

    def clog(self, rng: Rng, duration: int) -> bool:
        """Block a line; then deliver everything at once."""
        pair = self._pair(rng)
        if pair is None:
            return False
        network = self._world.network
        network.clog(*pair)
        self._later(duration, lambda: network.unclog(*pair))
        return True

    def _cut(self, pairs: list[tuple[NodeId, NodeId]], rng: Rng, duration: int) -> bool:
        network = self._world.network
        for sender, to in pairs:
            network.cut(sender, to)
        if rng.chance(0.5):
            for sender, to in pairs:
                network.reset(sender, to)

        def mend() -> None:
            for sender, to in pairs:
                network.mend(sender, to)

        self._later(duration, mend)
        return bool(pairs)

    def one_way(self, rng: Rng) -> bool:
        """Cut one direction between two nodes."""
        pair = self._pair(rng)
        return pair is not None and self._cut([pair], rng, rng.around(4 * _T))

    def partition(self, rng: Rng) -> bool:
        """Two sides see nothing of one another."""
        nodes = sorted(self._world.nodes)
        side = set(rng.some(nodes, 0.5))
        return self._split([(a, b) for a in nodes for b in nodes if (a in side) != (b in side)], rng)

    def isolate_leader(self, rng: Rng) -> bool:
        """Stop all messages of the leader, and mostly those to it."""
        leader = self._world.leader()
        if leader is None:
            return False
        others = [node for node in self._world.nodes if node != leader.id]
        pairs = [(leader.id, other) for other in others]
        if rng.chance(0.7):
            pairs += [(other, leader.id) for other in others]
        return self._split(pairs, rng)

    def bridge(self, rng: Rng) -> bool:
        """Separate two sides, except through one node."""
        nodes = sorted(self._world.nodes)
        middle = rng.choice(nodes)
        side = set(rng.some(nodes, 0.5))
        apart = [(a, b) for a in nodes for b in nodes if middle not in (a, b) and (a in side) != (b in side)]
        return self._split(apart, rng)

    def _split(self, pairs: list[tuple[NodeId, NodeId]], rng: Rng) -> bool:
        return self._cut(pairs, rng, rng.around(rng.choice((2, 5, 10)) * _T))

    def overflow(self, rng: Rng) -> bool:
        """Block a line and propose more than its queue takes."""
        return self.clog(rng, 4 * _T) and self._flood(rng)

    def reset(self, rng: Rng) -> bool:
        """All lines between two nodes break."""
        pair = self._pair(rng)
        return pair is not None and self._world.network.reset(*pair) > 0
