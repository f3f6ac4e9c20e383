"""Faults of processes and clocks: crashes, stops, pauses, and clocks that run wrong or jump."""

from __future__ import annotations

from typing import final

from raft_core.events import CampaignRequested, ForgetLeaderRequested, SnapshotRequested
from raft_core.ids import MAX_INT63, Index
from raft_testing.disk.crash_disk import FaultKind
from raft_testing.faults.misconfiguration import Misconfigurations
from raft_testing.faults.state_machine import TROUBLES
from raft_testing.faults.targets import ELECTION, Targets
from raft_testing.rng import Rng
from raft_testing.sim.node import WALL, Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["ProcessFaults"]


@final
class ProcessFaults:
    """Faults of the process of one node. Each method returns whether it has struck."""

    def __init__(self, world: World, targets: Targets, misconfigurations: Misconfigurations) -> None:
        self._world = world
        self._targets = targets
        self._blunders = misconfigurations

    def nudge(self, node: SimulatedNode, rng: Rng) -> bool:
        """Order the core to campaign, or to forget its leader, or to take a snapshot; nodes do only the last."""
        if rng.chance(0.6):
            node.nudge(CampaignRequested())
        else:
            node.nudge(ForgetLeaderRequested())
            node.nudge(SnapshotRequested(Index(MAX_INT63)))
        return True

    def die(self, rng: Rng, death: Death, outage: int) -> bool:
        """End a process, and start it again after `outage` nanoseconds."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.die(death)
        self._targets.later(outage, lambda: self._targets.start(node))
        return True

    def crash_in_effects(self, rng: Rng) -> bool:
        """End a process between two effects of one turn."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.crash_in = rng.below(1000)
        self._targets.later(rng.around(2 * ELECTION), lambda: self._targets.start(node))
        return True

    def crash_in_recovery(self, rng: Rng) -> bool:
        """Cut the power, and once more while the disk is recovered."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.die(Death.POWER)
        operation = rng.choice(("write", "sync", "rename", "create", "sync directory"))
        node.faults.append((operation, FaultKind.POWER, ""))
        self._targets.later(rng.around(ELECTION), lambda: self._targets.start(node))
        return True

    def stop(self, rng: Rng) -> bool:
        """Ask a node to stop in good order, and start it again."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.stop()
        self._targets.later(rng.around(4 * ELECTION), lambda: self._targets.start(node))
        return True

    def trouble(self, rng: Rng) -> bool:
        """Let the state machine of a node raise, or return something other than bytes."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.troubles.append(rng.choice(TROUBLES))
        return True

    def misconfigure(self, rng: Rng) -> bool:
        """Start a node wrongly."""
        node = self._targets.victim(rng)
        return node is not None and self._blunders.misconfigure(node, rng)

    def pause(self, rng: Rng) -> bool:
        """Suspend a process."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.pause(rng.around(rng.choice((ELECTION // 2, 3 * ELECTION, 8 * ELECTION))))
        return True

    def clock_rate(self, rng: Rng) -> bool:
        """Change the rate of a node's clock."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.clock.change(self._world.now, rng.choice((500, 800, 950, 1050, 1300, 2000)))
        node.clock_changed()
        return True

    def clock_jump(self, rng: Rng) -> bool:
        """Let the monotonic clock of a node jump ahead."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.clock.change(self._world.now, node.clock.rate, jump=rng.around(3 * ELECTION))
        node.clock_changed()
        return True

    def step_wall_clock(self, rng: Rng) -> bool:
        """Set the wall clock: by seconds or hours, forwards or back, to 1970, or right again."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        step = rng.choice((0, 5 * ELECTION, 3600 * ELECTION, 24 * 3600 * ELECTION))
        node.clock.wall_offset = rng.choice((-step, step, -WALL))
        return True
