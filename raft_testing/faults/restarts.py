"""Planned restarts under load: nodes are asked to stop while requests are open, one alone or all in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.requests import Propose
from raft_core.sessions import Sequence, SessionId, encode_command
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["Restarts"]

_LOOK: Final = 50 * MILLISECOND


@final
class Restarts:
    """Stops nodes in good order and starts them again, with requests open at every node."""

    def __init__(self, world: World, start: Callable[[SimulatedNode], None], striking: Callable[[], bool]) -> None:
        self._world = world
        self._start = start
        self._striking = striking

    def restart(self, victim: SimulatedNode | None, rng: Rng) -> bool:
        """Restart this node, or every living one in turn."""
        if victim is None:
            return False
        nodes = self._world.alive()
        self._next([victim] if rng.chance(0.5) else nodes, rng)
        return True

    def _next(self, nodes: list[SimulatedNode], rng: Rng) -> None:
        if not nodes or not self._striking():
            return
        node, rest = nodes[0], nodes[1:]
        self._keep_busy(rng)
        life = node.life
        if node.alive:
            node.stop()

        def look() -> None:
            if node.alive and node.life == life:
                self._world.at(_LOOK, look)
                return
            self._start(node)
            self._world.at(rng.around(SECOND), lambda: self._next(rest, rng))

        look()

    def _keep_busy(self, rng: Rng) -> None:
        """Send requests to every node. They name an unknown session, so they change nothing."""
        world = self._world
        for node in list(world.nodes.values()):
            for _ in range(rng.between(1, 6) if node.alive else 0):
                ticket = world.next_ticket()
                command = encode_command(SessionId(1 << 40), Sequence(ticket), Sequence(ticket), b"restart")
                deadline = node.clock.at(world.now) + 5 * SECOND
                node.call(ticket, Propose(command), deadline, lambda _: None)
