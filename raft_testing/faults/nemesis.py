"""The faults of one seed: which, when and where, each at its own pace.

`Nemesis` chooses the kinds of fault that take part in a seed and lets each strike again and again until stopped. The
operations of administrators are in `admin`.

Faults are placed so that a correct cluster can recover. Any node may die and return, any message may be lost, but disks
are destroyed only while every configuration that may be in force keeps a majority of sound ones. A node whose disk is
destroyed must report it, and is replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, final

from raft_core.effects import RoleName
from raft_core.events import CampaignRequested, ForgetLeaderRequested
from raft_core.node.limits import MILLISECOND, SECOND
from raft_testing.disk.crash_disk import CrashDisk, FaultKind
from raft_testing.faults.admin import AdminFaults
from raft_testing.faults.api_misuse import ApiMisuse
from raft_testing.faults.bootstrap import BootstrapFaults
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.faults.disk import ruin, survives_loss_of
from raft_testing.faults.malformed_frames import late_answer
from raft_testing.faults.misconfiguration import Misconfigurations
from raft_testing.faults.network import NetworkFaults
from raft_testing.faults.restarts import Restarts
from raft_testing.faults.rogue_peers import RoguePeers
from raft_testing.faults.state_machine import TROUBLES
from raft_testing.rng import Rng
from raft_testing.sim.node import WALL, Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["Nemesis"]

_T: Final = SECOND
"""About an election timeout."""
_SELDOM: Final = {
    Fault.BIT_FLIP: 4,
    Fault.WIPE: 4,
    Fault.OUTAGE: 3,
    Fault.ISOLATE_LEADER: 1,
    Fault.GROW: 2,
}


_CLOCKS: Final = (Fault.CLOCK_RATE, Fault.CLOCK_JUMP)


@final
class Nemesis:
    """The faults of one seed. `counts` says how often each has struck."""

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
        self.operators = AdminFaults(world, rng.fork("operators"), self.counts)
        self._disruptions = NetworkFaults(world, self._later, self.operators.flood)
        self._blunders = Misconfigurations(world, self._start)
        self._founders = BootstrapFaults(world, self._start, self._may_lose, self.operators.mourn)
        self._strangers = RoguePeers(world)
        self._misusers = ApiMisuse(world)
        self._restarts = Restarts(world, self._start, lambda: self.striking)
        calm = rng.chance(0.02)
        chosen = [fault for fault in Fault if rng.fork(f"take {fault.name}").chance(profile.fault_chance) and not calm]
        # Leases promise nothing where clocks do not run alike; who wants to see that asks for both by name.
        spared = _CLOCKS if profile.leases and not clocks_may_differ else ()
        self.chosen = tuple(fault for fault in chosen if fault not in spared and (only is None or fault in only))
        self.clocks_alike = not any(fault in self.chosen for fault in _CLOCKS)
        self.striking = False
        self._strikes: dict[Fault, Callable[[Rng], bool]] = {
            Fault.LOSS: lambda d: self._disruptions.rate("loss", d.choice((0.02, 0.1, 0.3)), d),
            Fault.DUPLICATION: lambda d: self._disruptions.rate("duplication", d.choice((0.02, 0.1, 0.5)), d),
            Fault.REORDERING: lambda d: self._disruptions.rate("reordering", d.choice((0.02, 0.1, 0.5)), d),
            Fault.DELAY: self._disruptions.delay,
            Fault.CLOG: lambda d: self._disruptions.clog(d, d.around(2 * _T)),
            Fault.ONE_WAY: self._disruptions.one_way,
            Fault.PARTITION: self._disruptions.partition,
            Fault.ISOLATE_LEADER: self._disruptions.isolate_leader,
            Fault.BRIDGE: self._disruptions.bridge,
            Fault.OVERFLOW: self._disruptions.overflow,
            Fault.RESET: self._disruptions.reset,
            Fault.REPLAY: self._replay,
            Fault.STRANGERS: self._stranger,
            Fault.POWER_LOSS: lambda d: self._die(d, Death.POWER, d.around(2 * _T)),
            Fault.LOST_SUFFIX: lambda d: self._die(d, Death.POWER_CLEAN, d.around(2 * _T)),
            Fault.KILL: lambda d: self._die(d, Death.KILLED, d.around(_T)),
            Fault.CRASH_IN_EFFECTS: self._crash_in_effects,
            Fault.CRASH_IN_RECOVERY: self._crash_in_recovery,
            Fault.STOP: self._stop,
            Fault.RESTART: lambda d: self._restarts.restart(self._victim(d), d),
            Fault.OUTAGE: lambda d: self._die(d, Death.POWER, d.around(20 * _T)),
            Fault.FORMING: lambda d: False,  # it is over when faults begin to strike: see `found`
            Fault.MACHINE: self._trouble,
            Fault.PAUSE: self._pause,
            Fault.CLOCK_RATE: self._clock_rate,
            Fault.CLOCK_JUMP: self._clock_jump,
            Fault.WALL_CLOCK: self._step_wall_clock,
            Fault.SLOW_SYNC: self._slow_sync,
            Fault.TORN_WRITE: lambda d: self._arm(d, "write", FaultKind.POWER),
            Fault.WRITE_ERROR: lambda d: self._arm(d, "write", d.choice((FaultKind.ERROR, FaultKind.SHORT))),
            Fault.SYNC_ERROR: lambda d: self._arm(d, "sync", d.choice((FaultKind.ERROR, FaultKind.LOST_SYNC))),
            Fault.READ_ERROR: lambda d: self._arm(d, "read", FaultKind.ERROR),
            Fault.SNAPSHOT_CUT: self._snapshot_cut,
            Fault.NO_SPACE: self._no_space,
            Fault.BIT_FLIP: self._bit_flip,
            Fault.DAMAGE: self._damage,
            Fault.WIPE: self._wipe,
            Fault.GROW: self.operators.grow,
            Fault.SHRINK: self.operators.shrink,
            Fault.REPLACE: self.operators.replace,
            Fault.PROMOTE: self.operators.promote,
            Fault.JOINT: self.operators.joint,
            Fault.TRANSFER: self.operators.transfer,
            Fault.EXPLICIT: self.operators.explicit,
            Fault.FLOOD: self.operators.flood,
            Fault.MISUSE: lambda d: self._often(d, self._misusers.err, 12),
            Fault.MISCONFIGURED: self._misconfigure,
            Fault.NUDGE: lambda d: self._often(d, self._nudge),
        }

    def found(self, nodes: list[SimulatedNode]) -> None:
        """Start the founders, with faults if that fault takes part."""
        self.striking = disturbed = Fault.FORMING in self.chosen
        self.counts[Fault.FORMING] += disturbed
        self._founders.found(nodes, self._rng.fork(Fault.FORMING.name) if disturbed else None)

    def begin(self) -> None:
        """Every chosen fault strikes after a while, and again and again."""
        self.striking = True
        self._world.network.recording = Fault.REPLAY in self.chosen or Fault.STRANGERS in self.chosen
        calm = self._rng.fork("pace").choice((1, 1, 2))  # a seed with few faults gets further between two of them
        interval = calm * self._profile.mean_interval // 2
        for fault in self.chosen:
            rng = self._rng.fork(fault.name)
            pace = rng.choice((1, 2, 2, 4)) * interval * _SELDOM.get(fault, 1)
            self._schedule(fault, rng, pace)

    def _schedule(self, fault: Fault, rng: Rng, pace: int) -> None:
        def strike() -> None:
            if not self.striking:
                return
            if self._strikes[fault](rng):
                self.counts[fault] += 1
                self._world.recording.fault(self._world.now, fault.value)
            self._schedule(fault, rng, pace)

        self._world.at(rng.around(pace), strike)

    def end(self) -> None:
        """Nothing goes wrong any more, and what was broken is mended, but for disks that are lost."""
        self.striking = False
        world = self._world
        world.network.heal()
        self.operators.end()
        for node in world.nodes.values():
            node.slow_disk, node.faults, node.crash_in = 0, [], -1
            node.troubles.clear()
            node.disk.faults.clear()
            node.disk.capacity = None
            node.clock.change(world.now, 1000)
            node.clock_changed()
            node.paused_until = min(node.paused_until, world.now)
            if not node.alive and not node.retired:
                self._start(node)

    # Whom it strikes.

    def _alive(self) -> list[SimulatedNode]:
        return self._world.alive()

    def _victim(self, rng: Rng) -> SimulatedNode | None:
        """Any living node; the leader more often than its share."""
        alive = self._alive()
        leader = self._world.leader()
        if leader is not None and rng.chance(0.4):
            return leader
        return rng.choice(alive) if alive else None

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        self._world.at(delay, lambda: action() if self.striking else None)

    # Old messages, and strangers.

    def _replay(self, rng: Rng) -> bool:
        """Old messages come once more, a number of them; best to whoever is standing for election."""
        for _ in range(100):
            self._later(rng.below(4 * _T), lambda: self._replay_one(rng))
        return True

    def _replay_one(self, rng: Rng) -> None:
        alive = self._alive()
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
        return self._often(rng, self._strangers.repeat if rng.chance(0.1) else self._strangers.knock)

    def _often(self, rng: Rng, do: Callable[[SimulatedNode, Rng], bool], most: int = 8) -> bool:
        """Do the same to several nodes, within a few seconds."""

        def once() -> None:
            node = self._victim(rng)
            if node is not None:
                do(node, rng)

        for _ in range(rng.between(1, most)):
            self._later(rng.below(4 * _T), once)
        return True

    # Processes and clocks.

    def _nudge(self, node: SimulatedNode, rng: Rng) -> bool:
        """Give the core an event that our nodes never give, and another implementation may."""
        node.nudge(CampaignRequested() if rng.chance(0.6) else ForgetLeaderRequested())
        return True

    def _die(self, rng: Rng, death: Death, outage: int) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.die(death)
        self._later(outage, lambda: self._start(node))
        return True

    def _start(self, node: SimulatedNode) -> None:
        """Start the node, again for as long as its disk does not open for a passing reason."""
        if node.alive or node.retired or self._world.over:
            return
        if not node.start() and not node.retired:
            self._world.at(_T, lambda: self._start(node))

    def revive(self, node: SimulatedNode) -> None:
        """Start a node that ended by itself again after a while."""
        if not node.retired:
            self._world.at(self._rng.around(2 * _T), lambda: self._start(node))

    def _crash_in_effects(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.crash_in = rng.below(1000)
        self._later(rng.around(2 * _T), lambda: self._start(node))
        return True

    def _crash_in_recovery(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.die(Death.POWER)
        operation = rng.choice(("write", "sync", "rename", "create", "sync directory"))
        node.faults.append((operation, FaultKind.POWER, ""))
        self._later(rng.around(_T), lambda: self._start(node))
        return True

    def _stop(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.stop()
        self._later(rng.around(4 * _T), lambda: self._start(node))
        return True

    def _trouble(self, rng: Rng) -> bool:
        """Let the machine of this node raise, or return values that are not bytes."""
        node = self._victim(rng)
        if node is None:
            return False
        node.troubles.append(rng.choice(TROUBLES))
        return True

    def _misconfigure(self, rng: Rng) -> bool:
        node = self._victim(rng)
        return node is not None and self._blunders.misconfigure(node, rng)

    def _pause(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.pause(rng.around(rng.choice((_T // 2, 3 * _T, 8 * _T))))
        return True

    def _clock_rate(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.clock.change(self._world.now, rng.choice((500, 800, 950, 1050, 1300, 2000)))
        node.clock_changed()
        return True

    def _clock_jump(self, rng: Rng) -> bool:
        """Let the monotonic clock jump ahead."""
        node = self._victim(rng)
        if node is None:
            return False
        node.clock.change(self._world.now, node.clock.rate, jump=rng.around(3 * _T))
        node.clock_changed()
        return True

    def _step_wall_clock(self, rng: Rng) -> bool:
        """Set the wall clock: by seconds or hours, forwards or back, to 1970, or to the true time."""
        node = self._victim(rng)
        if node is None:
            return False
        step = rng.choice((0, 5 * _T, 3600 * _T, 24 * 3600 * _T))
        node.clock.wall_offset = rng.choice((-step, step, -WALL))
        return True

    # Disks.

    def _slow_sync(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None:
            return False
        node.slow_disk = rng.around(rng.choice((50 * MILLISECOND, _T // 2, 3 * _T)))

        def over() -> None:
            node.slow_disk = 0

        self._later(rng.around(6 * _T), over)
        return True

    def _arm(self, rng: Rng, operation: str, kind: FaultKind, name: str = "") -> bool:
        """Let the next such call of this disk fail. A node that ends because of it is started again."""
        node = self._victim(rng)
        if node is None or node.faults:
            return False
        node.faults.append((operation, kind, name))
        return True

    def _snapshot_cut(self, rng: Rng) -> bool:
        kind = rng.choice((FaultKind.ERROR, FaultKind.POWER, FaultKind.NO_SPACE))
        return self._arm(rng, rng.choice(("write", "sync")), kind, "snapshot")

    def _no_space(self, rng: Rng) -> bool:
        node = self._victim(rng)
        if node is None or node.disk.capacity is not None:
            return False
        node.disk.capacity = node.disk.used() + rng.below(20_000)
        node.fault_struck = True

        def room() -> None:
            node.disk.capacity = None

        self._later(rng.around(5 * _T), room)
        return True

    def _may_lose(self, node: SimulatedNode) -> bool:
        """Without this disk, every configuration that may be in force has a majority of sound ones.

        Before anything is committed it may be the only one that has formed, and what all founders must write cannot do
        without it.
        """
        if self._world.committed < 2:  # the first entry is the formation itself
            return False
        lost = {other.id for other in self._world.nodes.values() if other.retired or other.wiped or other.harmed}
        return not self.operators.busy and survives_loss_of(self._world, {*lost, node.id})

    def _bit_flip(self, rng: Rng) -> bool:
        """Flip a bit of a file while the node is down. Opening finds it, or it has no effect."""
        return self._harm(rng, self._flip)

    def _damage(self, rng: Rng) -> bool:
        """Remove a file or fill it with noise while the node is down. Opening finds it, or it has no effect."""
        examined = self._examine(rng)
        return (rng.chance(0.25) and self._harm(rng, ruin)) or examined

    def _examine(self, rng: Rng) -> bool:
        """Damage copies of a disk in several ways, which its store must find."""
        node = self._victim(rng)
        if node is None or node.harmed or node.disk.capacity is not None:
            return False
        for _ in range(6):
            self._blunders.open_damaged(node, ruin if rng.chance(0.6) else self._flip, rng)
            self._blunders.open_blanked(node, rng)
        return True

    def _harm(self, rng: Rng, do: Callable[[CrashDisk, Rng], bool]) -> bool:
        node = self._victim(rng)
        if node is None or not self._may_lose(node):
            return False
        node.die(Death.KILLED)
        node.disk = node.disk.crash(range(node.disk.unsynced))
        self._later(rng.around(_T), lambda: self._start(node))
        if not do(node.disk, rng):
            return False
        node.harmed = True
        self.operators.mourn(node)
        return True

    @staticmethod
    def _flip(disk: CrashDisk, rng: Rng) -> bool:
        files = [name for name in disk.listing() if disk.content(name)]
        if not files:
            return False
        name = rng.choice(files)
        used = len(disk.content(name).rstrip(b"\0"))
        disk.flip(name, rng.below(8 * max(used, 1)))
        return True

    def _wipe(self, rng: Rng) -> bool:
        """Replace the disk by an empty one under the same id, which the cluster must refuse."""
        node = self._victim(rng)
        if node is None or not self._may_lose(node):
            return False
        node.replace_disk(Death.POWER, self._world.nodes)
        self._later(rng.around(_T), lambda: self._start(node))
        self.operators.mourn(node)
        return True
