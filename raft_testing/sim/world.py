"""The view of a simulated cluster for probes, faults and workloads, and their operations on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from raft_core.effects import RoleName
from raft_core.ids import NodeId
from raft_core.sessions import SessionLimits
from raft_core.state_machine import StateMachine
from raft_testing.checkers.safety import SafetyChecker
from raft_testing.rng import Rng
from raft_testing.sim.environment import Environment, OpenStore
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.recording import RunRecording

__all__ = ["World"]


@final
class World(Environment):
    """The surroundings of the nodes, and all nodes so far, by id."""

    def __init__(
        self,
        rng: Rng,
        safety: SafetyChecker,
        recording: RunRecording,
        machine: Callable[[], StateMachine],
        limits: SessionLimits,
        open_store: OpenStore,
        make_node: Callable[[NodeId, tuple[NodeId, ...]], SimulatedNode],
    ) -> None:
        super().__init__(rng, safety, recording, machine, limits, open_store)
        self.nodes: dict[NodeId, SimulatedNode] = {}
        self._make_node = make_node

    def new_node(self, founders: tuple[NodeId, ...] = ()) -> SimulatedNode:
        """Return a node with a new id and an empty disk, not started. Without founders it waits to be added."""
        node = self._make_node(NodeId(len(self.nodes) + 1), founders)
        self.nodes[node.id] = node
        self.network.place(node.address, node)
        return node

    def alive(self) -> list[SimulatedNode]:
        """Return the nodes whose process runs."""
        return [node for node in self.nodes.values() if node.alive]

    def leader(self) -> SimulatedNode | None:
        """Return the living leader of the highest term."""
        leaders = [node for node in self.alive() if node.standing.role is RoleName.LEADER]
        return max(leaders, key=lambda node: node.standing.term, default=None)
