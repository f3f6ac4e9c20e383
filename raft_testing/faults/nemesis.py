"""The faults of one seed: which kinds take part, and when each strikes.

Faults are placed so that a correct cluster can recover. Any node may die and come back, and any message may be lost. A
disk is destroyed only while every configuration that may be in force keeps a majority of sound disks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, final

from raft_core.effects import RoleName
from raft_testing.disk.crash_disk import FaultKind
from raft_testing.faults.admin import AdminFaults
from raft_testing.faults.api_misuse import ApiMisuse
from raft_testing.faults.bootstrap import BootstrapFaults
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.faults.disk import DiskFaults
from raft_testing.faults.malformed_frames import late_answer
from raft_testing.faults.misconfiguration import Misconfigurations
from raft_testing.faults.network import NetworkFaults
from raft_testing.faults.processes import ProcessFaults
from raft_testing.faults.restarts import Restarts
from raft_testing.faults.rogue_peers import RoguePeers
from raft_testing.faults.targets import ELECTION, Targets
from raft_testing.rng import Rng
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["Nemesis"]

_SELDOM: Final = {
    Fault.BIT_FLIP: 4,
    Fault.WIPE: 4,
    Fault.OUTAGE: 3,
    Fault.ISOLATE_LEADER: 1,
    Fault.GROW: 2,
}
"""Multiples of the usual interval, for kinds striking more or less often than others."""
_RARE: Final = {Fault.RELEASES: 0.3}
"""Share of the usual probability to take part, unless kinds are named: most clusters are of one release."""
_CLOCKS: Final = (Fault.CLOCK_RATE, Fault.CLOCK_JUMP)


@final
class Nemesis:
    """The faults of one seed.

    `chosen`: the kinds that take part. `counts`: how often each has struck. `clocks_alike`: no clock runs at a rate of
    its own, or jumps.
    """

    def __init__(
        self,
        world: World,
        profile: Profile,
        rng: Rng,
        only: frozenset[Fault] | None,
        *,
        clocks_may_differ: bool,
    ) -> None:
        self._world = world
        self._profile = profile
        self._rng = rng
        self.counts: Counter[Fault] = Counter()
        self.targets = targets = Targets(world, rng)
        self._admin = admin = AdminFaults(world, rng.fork("operators"), self.counts)
        self._network = NetworkFaults(world, targets.later, admin.flood)
        misconfigurations = Misconfigurations(world, targets.start)
        self._processes = ProcessFaults(world, targets, misconfigurations)
        self._disks = DiskFaults(world, targets, admin, misconfigurations)
        self._bootstrap = BootstrapFaults(world, targets.start, self._disks.may_lose, admin.mourn)
        self._rogues = RoguePeers(world)
        self._misuse = ApiMisuse(world)
        self._restarts = Restarts(world, targets.start, lambda: targets.striking)
        self.chosen = _chosen(profile, rng, only, clocks_may_differ=clocks_may_differ)
        self.clocks_alike = not any(fault in self.chosen for fault in _CLOCKS)
        self._strikes = self._strikes_by_kind()

    def _strikes_by_kind(self) -> dict[Fault, Callable[[Rng], bool]]:
        """Return what strikes, by kind. A strike draws its details, and returns whether it found a victim."""
        return {
            Fault.LOSS: lambda d: self._network.rate("loss", d.choice((0.02, 0.1, 0.3)), d),
            Fault.DUPLICATION: lambda d: self._network.rate("duplication", d.choice((0.02, 0.1, 0.5)), d),
            Fault.REORDERING: lambda d: self._network.rate("reordering", d.choice((0.02, 0.1, 0.5)), d),
            Fault.DELAY: self._network.delay,
            Fault.CLOG: lambda d: self._network.clog(d, d.around(2 * ELECTION)),
            Fault.ONE_WAY: self._network.one_way,
            Fault.PARTITION: self._network.partition,
            Fault.ISOLATE_LEADER: self._network.isolate_leader,
            Fault.BRIDGE: self._network.bridge,
            Fault.OVERFLOW: self._network.overflow,
            Fault.RESET: self._network.reset,
            Fault.REPLAY: self._replay,
            Fault.STRANGERS: self._stranger,
            Fault.POWER_LOSS: lambda d: self._processes.die(d, Death.POWER, d.around(2 * ELECTION)),
            Fault.LOST_SUFFIX: lambda d: self._processes.die(d, Death.POWER_CLEAN, d.around(2 * ELECTION)),
            Fault.KILL: lambda d: self._processes.die(d, Death.KILLED, d.around(ELECTION)),
            Fault.CRASH_IN_EFFECTS: self._processes.crash_in_effects,
            Fault.CRASH_IN_RECOVERY: self._processes.crash_in_recovery,
            Fault.STOP: self._processes.stop,
            Fault.RESTART: lambda d: self._restarts.restart(self.targets.victim(d), d),
            Fault.OUTAGE: lambda d: self._processes.die(d, Death.POWER, d.around(20 * ELECTION)),
            Fault.FORMING: lambda d: False,  # it is over when faults begin to strike: see `found`
            Fault.MACHINE: self._processes.trouble,
            Fault.PAUSE: self._processes.pause,
            Fault.CLOCK_RATE: self._processes.clock_rate,
            Fault.CLOCK_JUMP: self._processes.clock_jump,
            Fault.WALL_CLOCK: self._processes.step_wall_clock,
            Fault.SLOW_SYNC: self._disks.slow_sync,
            Fault.TORN_WRITE: lambda d: self._disks.arm(d, "write", FaultKind.POWER),
            Fault.WRITE_ERROR: lambda d: self._disks.arm(d, "write", d.choice((FaultKind.ERROR, FaultKind.SHORT))),
            Fault.SYNC_ERROR: lambda d: self._disks.arm(d, "sync", d.choice((FaultKind.ERROR, FaultKind.LOST_SYNC))),
            Fault.READ_ERROR: lambda d: self._disks.arm(d, "read", FaultKind.ERROR),
            Fault.SNAPSHOT_CUT: self._disks.snapshot_cut,
            Fault.NO_SPACE: self._disks.no_space,
            Fault.BIT_FLIP: self._disks.bit_flip,
            Fault.DAMAGE: self._disks.damage,
            Fault.WIPE: self._disks.wipe,
            Fault.GROW: self._admin.grow,
            Fault.SHRINK: self._admin.shrink,
            Fault.REPLACE: self._admin.replace,
            Fault.PROMOTE: self._admin.promote,
            Fault.JOINT: self._admin.joint,
            Fault.TRANSFER: self._admin.transfer,
            Fault.EXPLICIT: self._admin.explicit,
            Fault.FLOOD: self._admin.flood,
            Fault.MISUSE: lambda d: self.targets.often(d, self._misuse.err, 12),
            Fault.MISCONFIGURED: self._processes.misconfigure,
            Fault.NUDGE: lambda d: self.targets.often(d, self._processes.nudge),
            Fault.RELEASES: lambda d: self._roll_out(d) if d.chance(0.6) else self._change_release(d),
        }

    def found(self, nodes: list[SimulatedNode]) -> None:
        """Start the founders, with faults if that fault takes part."""
        self.targets.striking = disturbed = Fault.FORMING in self.chosen
        self.counts[Fault.FORMING] += disturbed
        self._bootstrap.found(nodes, self._rng.fork(Fault.FORMING.name) if disturbed else None)

    def begin(self) -> None:
        """Let every chosen fault strike after a while, and again and again."""
        self.targets.striking = True
        self._world.network.recording = Fault.REPLAY in self.chosen or Fault.STRANGERS in self.chosen
        calm = self._rng.fork("pace").choice((1, 1, 2))  # a seed with few faults gets further between two of them
        interval = calm * self._profile.mean_interval // 2
        for fault in self.chosen:
            rng = self._rng.fork(fault.name)
            pace = rng.choice((1, 2, 2, 4)) * interval * _SELDOM.get(fault, 1)
            self._schedule(fault, rng, pace)

    def _schedule(self, fault: Fault, rng: Rng, pace: int) -> None:
        def strike() -> None:
            if not self.targets.striking:
                return
            if self._strikes[fault](rng):
                self.counts[fault] += 1
                self._world.recording.fault(self._world.now, fault.value)
            self._schedule(fault, rng, pace)

        self._world.at(rng.around(pace), strike)

    def end(self) -> None:
        """End all faults, and repair everything except lost disks."""
        self.targets.striking = False
        world = self._world
        world.network.heal()
        self._admin.end()
        for node in world.nodes.values():
            node.upgrade()
            node.slow_disk, node.faults, node.crash_in = 0, [], -1
            node.troubles.clear()
            node.disk.faults.clear()
            node.disk.capacity = None
            node.clock.change(world.now, 1000)
            node.clock_changed()
            node.paused_until = min(node.paused_until, world.now)
            if not node.alive and not node.retired:
                self.targets.start(node)

    def _roll_out(self, rng: Rng) -> bool:
        """Upgrade every node with the older release, one after the other, and enable what only the newer one has."""
        delay = 0
        for node in self._world.alive():
            if not node.settings.features:
                delay += rng.around(ELECTION)
                self.targets.later(delay, lambda node=node: self._upgrade(node))  # type: ignore[misc]
        self.targets.later(delay + rng.around(4 * ELECTION), self._enable)
        return True

    def _enable(self) -> None:
        self._admin.enable()

    def _upgrade(self, node: SimulatedNode) -> None:
        if node.alive:
            node.newer = True
            node.die(Death.KILLED)
            self.targets.later(ELECTION // 2, lambda: self.targets.start(node))

    def _change_release(self, rng: Rng) -> bool:
        """Restart a node: each life is of one of the two releases."""
        return self._processes.die(rng, Death.KILLED, rng.around(ELECTION))

    def _replay(self, rng: Rng) -> bool:
        """Deliver a number of old messages again, preferably to candidates."""
        for _ in range(100):
            self.targets.later(rng.below(4 * ELECTION), lambda: self._replay_one(rng))
        return True

    def _replay_one(self, rng: Rng) -> None:
        alive = self._world.alive()
        standing = [node for node in alive if node.standing.role in (RoleName.PRE_CANDIDATE, RoleName.CANDIDATE)]
        if len(self._world.nodes) < 2 or not alive or not (standing or rng.chance(0.3)):
            return
        victim = rng.choice(standing or alive)
        if rng.chance(0.3):
            victim.nudge(late_answer(victim.standing.term, rng.choice(sorted(self._world.nodes)), rng))
            return
        to = victim.id
        sender = rng.choice([node for node in sorted(self._world.nodes) if node != to])
        if self._world.network.replay(sender, to, rng):
            self._world.seen["old message delivered again"] += 1

    def _stranger(self, rng: Rng) -> bool:
        return self.targets.often(rng, self._rogues.repeat if rng.chance(0.1) else self._rogues.knock)


def _chosen(profile: Profile, rng: Rng, only: frozenset[Fault] | None, *, clocks_may_differ: bool) -> tuple[Fault, ...]:
    """Draw the kinds that take part: of `only`, if given; none in a calm seed, which is rare."""
    calm = rng.chance(0.02)
    share: dict[Fault, float] = {} if only else _RARE
    chosen = [
        fault
        for fault in Fault
        if rng.fork(f"take {fault.name}").chance(profile.fault_chance * share.get(fault, 1.0)) and not calm
    ]
    # Leases promise nothing where clocks do not run alike: to see that, ask for both by name.
    spared = _CLOCKS if profile.leases and not clocks_may_differ else ()
    return tuple(fault for fault in chosen if fault not in spared and (only is None or fault in only))
