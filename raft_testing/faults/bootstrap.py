"""Faults while a cluster forms: it must form nevertheless, and only once.

`BootstrapFaults`: founders start late, name wrong members or settings first, and lose power between the others' first
write and their own. One of them may lose its disk when some have met it and others have not, or have already formed the
cluster with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, final

import attrs

from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.settings import unfit
from raft_testing.disk.crash_disk import FaultKind
from raft_testing.rng import Rng
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["BootstrapFaults"]

_LOOK: Final = 2 * MILLISECOND
_FORMED_BY: Final = 5 * SECOND
_FEWEST: Final = 3
"""Of fewer founders, none can be spared."""


@final
class BootstrapFaults:
    """The bootstrap of one simulated cluster.

    `start` starts a node, again and again until its disk opens; `may_lose`: the others have the committed entries;
    `mourn` replaces a node whose disk is lost, unless it starts again.
    """

    def __init__(
        self,
        world: World,
        start: Callable[[SimulatedNode], None],
        may_lose: Callable[[SimulatedNode], bool],
        mourn: Callable[[SimulatedNode], None],
    ) -> None:
        self._world = world
        self._start = start
        self._may_lose = may_lose
        self._mourn = mourn

    def found(self, nodes: list[SimulatedNode], rng: Rng | None) -> None:
        """All founders are started; with `rng`, each after a mishap of its own, or without one."""
        if rng is not None and len(nodes) >= _FEWEST and rng.chance(0.4):
            self._lose_a_disk(nodes, rng)
            return
        for node in nodes:
            fate = rng.below(7) if rng is not None else 0
            if rng is None or fate < 2:
                self._start(node)
            elif fate == 2:
                self._world.at(rng.around(3 * SECOND), partial(self._start, node))
            elif fate == 3 and len(nodes) > 1:
                self._mistake(node, self._with_other_companions(node, rng), rng)
            elif fate == 4 and len(nodes) > 1:
                self._mistake(node, self._with_other_leases(node, rng), rng)
            elif fate == 5:
                self._start(node)
                kind = rng.choice((FaultKind.POWER, FaultKind.ERROR))
                node.faults.append((rng.choice(("create", "write", "sync", "sync directory")), kind, ""))
            else:
                self._start(node)
                self._interrupt(node, rng)

    @staticmethod
    def _with_other_companions(node: SimulatedNode, rng: Rng) -> NodeLimits:
        """Return a configuration with a typing error in the list of founders."""
        right = node.config.founders
        wrong = (*right, NodeId(77))
        if len(right) > 2 and rng.chance(0.5):
            forgotten = rng.choice(right)
            wrong = tuple(founder for founder in right if founder != forgotten)
        return attrs.evolve(node.config, founders=tuple({*wrong, node.id}))

    def _with_other_leases(self, node: SimulatedNode, rng: Rng) -> NodeLimits:
        """Return limits with the other choice about leases, if the settings allow it."""
        leases = not node.config.leases
        plan = Members.initial(node.config.founders, leases=leases)
        if unfit(node.settings, plan):
            return self._with_other_companions(node, rng)
        return attrs.evolve(node.config, leases=leases)

    def _mistake(self, node: SimulatedNode, wrong: NodeLimits, rng: Rng) -> None:
        """Start the node with a wrong configuration: the others ignore it until it is corrected."""
        right, node.config = node.config, wrong
        self._start(node)
        what = "settings" if wrong.founders == right.founders else "companions"
        self._world.seen[f"founder with the wrong {what}"] += 1

        def mend() -> None:
            node.die(Death.KILLED)
            node.config = right
            self._start(node)

        self._world.at(rng.around(2 * SECOND), mend)

    def _interrupt(self, node: SimulatedNode, rng: Rng) -> None:
        """Power is lost when others have founded the cluster, and this node has not; for a moment or for long."""
        world = self._world
        others = [other for other in world.nodes.values() if other is not node]
        if world.now > _FORMED_BY or node.raft is not None or not node.alive:
            return
        if not any(other.raft is not None for other in others):
            world.at(_LOOK, lambda: self._interrupt(node, rng))
            return
        world.seen["founder lost power while others founded"] += 1
        node.die(Death.POWER_CLEAN)
        world.at(rng.choice((1, 20)) * SECOND, lambda: self._start(node))

    def _lose_a_disk(self, nodes: list[SimulatedNode], rng: Rng) -> None:
        """Replace one founder's disk by an empty one within the first seconds.

        The others start one after the other, do not reach one another for a while, write slowly, and are restarted.
        """
        network, unlucky = self._world.network, rng.choice(nodes)
        for node in nodes:
            node.slow_disk = rng.choice((0, 0, rng.below(2 * SECOND)))
            self._world.at(rng.choice((0, rng.below(SECOND))), partial(self._start, node))
        for pair in [(a.id, b.id) for a in nodes for b in nodes if a.id < b.id]:
            if rng.chance(0.5):
                continue
            begin, end = sorted((rng.choice((0, rng.below(2 * SECOND))), rng.below(5 * SECOND)))
            for line in (pair, pair[::-1]):
                self._world.at(begin, partial(network.cut, *line))
                self._world.at(end, partial(network.mend, *line))

        def lose() -> None:
            if self._world.committed > 1 and not self._may_lose(unlucky):
                return
            self._world.seen["founder's disk replaced while others founded"] += 1
            unlucky.replace_disk(rng.choice((Death.KILLED, Death.POWER)), self._world.nodes)
            self._world.at(rng.choice((0, rng.below(2 * SECOND))), partial(self._start, unlucky))
            self._mourn(unlucky)

        def restart(node: SimulatedNode) -> None:
            if node.alive and not node.wiped and node.raft is None:
                node.die(rng.choice((Death.KILLED, Death.POWER_CLEAN)))
                self._world.at(rng.below(SECOND), partial(self._start, node))

        for node in nodes:
            if rng.chance(0.3):
                self._world.at(rng.below(3 * SECOND), partial(restart, node))

        def hurry() -> None:
            for node in nodes:
                node.slow_disk = 0

        self._world.at(rng.below(3 * SECOND), lose)
        self._world.at(5 * SECOND, hurry)
