"""Planned restarts under load: nodes are asked to stop while requests are open, one alone or all in turn.

`Restarts` is the fault, `unfair` the check of every answer: a node that stops answers what is open, for as long as it
waits for that, and no client of another node is told that somebody stops or hands over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.errors import OutcomeUnknown, Refused
from raft_core.node.events import ClientProposed
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.pending_request import ClientEvent
from raft_core.sessions import Sequence, SessionId, encode_command
from raft_testing.rng import Rng

if TYPE_CHECKING:
    from raft_testing.sim.node import Reply, SimulatedNode
    from raft_testing.sim.simulation import Simulation

__all__ = ["Restarts", "unfair"]

_LOOK: Final = 50 * MILLISECOND
_LEAVING: Final = (RefusalReason.STOPPING, RefusalReason.TRANSFERRING)


def unfair(event: ClientEvent, reply: Reply, config: NodeLimits, waited: int, stopping_for: int) -> str:
    """Return what is wrong with this answer; "" where nothing is.

    `waited`: nanoseconds since it was asked. `stopping_for`: since the node was asked to stop, or -1."""
    if isinstance(reply, OutcomeUnknown):
        early = reply.reason is UnknownReason.STOPPING and stopping_for < config.drain_timeout
        return f"ended with a request open {stopping_for / SECOND} s after it was asked to stop" if early else ""
    if not isinstance(reply, Refused) or reply.reason not in _LEAVING or type(event) is not ClientProposed:
        return ""
    early = not config.leader_wait or waited < config.leader_wait
    return f"told a client {reply.reason}, and was not asked to stop" if early and stopping_for < 0 else ""


@final
class Restarts:
    """Stops nodes in good order and starts them again, with requests open at every node."""

    def __init__(self, simulation: Simulation, start: Callable[[SimulatedNode], None]) -> None:
        self._simulation = simulation
        self._start = start

    def restart(self, victim: SimulatedNode | None, rng: Rng) -> bool:
        """Restart this node, or every living one in turn."""
        if victim is None:
            return False
        nodes = [node for node in self._simulation.nodes.values() if node.alive]
        self._next([victim] if rng.chance(0.5) else nodes, rng)
        return True

    def _next(self, nodes: list[SimulatedNode], rng: Rng) -> None:
        if not nodes or not self._simulation.nemesis.striking:
            return
        node, rest = nodes[0], nodes[1:]
        self._keep_busy(rng)
        life = node.life
        if node.alive:
            node.stop()

        def look() -> None:
            if node.alive and node.life == life:
                self._simulation.at(_LOOK, look)
                return
            self._start(node)
            self._simulation.at(rng.around(SECOND), lambda: self._next(rest, rng))

        look()

    def _keep_busy(self, rng: Rng) -> None:
        """Every node has requests open. They name a session that never was, so they change nothing."""
        simulation = self._simulation
        for node in list(simulation.nodes.values()):
            for _ in range(rng.between(1, 6) if node.alive else 0):
                ticket = simulation.next_ticket()
                command = encode_command(SessionId(1 << 40), Sequence(ticket), Sequence(ticket), b"restart")
                deadline = node.clock.at(simulation.now) + 5 * SECOND
                node.call(ticket, ClientProposed(ticket, command, deadline), lambda _: None)
