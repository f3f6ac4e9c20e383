"""The nodes that faults strike, and how long a fault lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from raft_core.node.limits import SECOND
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["ELECTION", "Targets"]

ELECTION: Final = SECOND
"""About an election timeout, in nanoseconds."""


@final
class Targets:
    """Chooses nodes, starts them again, and ends faults after a while. `striking`: faults may strike."""

    def __init__(self, world: World, rng: Rng) -> None:
        self.striking = False
        self._world = world
        self._rng = rng

    def victim(self, rng: Rng) -> SimulatedNode | None:
        """Return any living node, and the leader more often than others; None if no node lives."""
        alive = self._world.alive()
        leader = self._world.leader()
        if leader is not None and rng.chance(0.4):
            return leader
        return rng.choice(alive) if alive else None

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Do this after `delay`, unless faults have ended by then."""
        self._world.at(delay, lambda: action() if self.striking else None)

    def often(self, rng: Rng, do: Callable[[SimulatedNode, Rng], bool], most: int = 8) -> bool:
        """Do the same to several nodes, within a few seconds."""

        def once() -> None:
            node = self.victim(rng)
            if node is not None:
                do(node, rng)

        for _ in range(rng.between(1, most)):
            self.later(rng.below(4 * ELECTION), once)
        return True

    def start(self, node: SimulatedNode) -> None:
        """Start the node, and try again while its disk does not open for a passing reason."""
        if node.alive or node.retired or self._world.over:
            return
        if not node.start() and not node.retired:
            self._world.at(ELECTION, lambda: self.start(node))

    def revive(self, node: SimulatedNode) -> None:
        """Start a node that ended by itself, after a while."""
        if not node.retired:
            self._world.at(self._rng.around(2 * ELECTION), lambda: self.start(node))
