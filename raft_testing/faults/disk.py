"""Faults of disks: slow and failing calls, no space, damage, and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.node.limits import MILLISECOND
from raft_core.quorum import quorum_reached
from raft_testing.disk.crash_disk import CrashDisk, FaultKind
from raft_testing.faults.admin import AdminFaults
from raft_testing.faults.damage import ruin
from raft_testing.faults.misconfiguration import Misconfigurations
from raft_testing.faults.targets import ELECTION, Targets
from raft_testing.rng import Rng
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["DiskFaults"]


@final
class DiskFaults:
    """Faults of the disk of one node. Each method returns whether it has struck.

    A disk is destroyed only while every configuration possibly in force keeps a majority of sound disks. Its node must
    detect the damage, and is replaced by `admin`.
    """

    def __init__(
        self, world: World, targets: Targets, admin: AdminFaults, misconfigurations: Misconfigurations
    ) -> None:
        self._world = world
        self._targets = targets
        self._admin = admin
        self._blunders = misconfigurations

    def slow_sync(self, rng: Rng) -> bool:
        """Delay every write of a disk for some time."""
        node = self._targets.victim(rng)
        if node is None:
            return False
        node.slow_disk = rng.around(rng.choice((50 * MILLISECOND, ELECTION // 2, 3 * ELECTION)))

        def over() -> None:
            node.slow_disk = 0

        self._targets.later(rng.around(6 * ELECTION), over)
        return True

    def arm(self, rng: Rng, operation: str, kind: FaultKind, name: str = "") -> bool:
        """Let the next such call of a disk fail. If the node ends because of it, it is started again."""
        node = self._targets.victim(rng)
        if node is None or node.faults:
            return False
        node.faults.append((operation, kind, name))
        return True

    def snapshot_cut(self, rng: Rng) -> bool:
        """Interrupt the writing of a snapshot."""
        kind = rng.choice((FaultKind.ERROR, FaultKind.POWER, FaultKind.NO_SPACE))
        return self.arm(rng, rng.choice(("write", "sync")), kind, "snapshot")

    def no_space(self, rng: Rng) -> bool:
        """Fill a disk for some time."""
        node = self._targets.victim(rng)
        if node is None or node.disk.capacity is not None:
            return False
        node.disk.capacity = node.disk.used() + rng.below(20_000)
        node.fault_struck = True

        def room() -> None:
            node.disk.capacity = None

        self._targets.later(rng.around(5 * ELECTION), room)
        return True

    def bit_flip(self, rng: Rng) -> bool:
        """Flip a bit of a file while the node is down. Opening detects it, or it did not matter."""
        return self._harm(rng, self._flip)

    def damage(self, rng: Rng) -> bool:
        """Remove or overwrite a file while the node is down. Opening detects it, or it did not matter."""
        examined = self._examine(rng)
        return (rng.chance(0.25) and self._harm(rng, ruin)) or examined

    def _examine(self, rng: Rng) -> bool:
        """Damage copies of a disk in several ways and open them, without effect on the node."""
        node = self._targets.victim(rng)
        if node is None or node.harmed or node.disk.capacity is not None:
            return False
        for _ in range(6):
            self._blunders.open_damaged(node, ruin if rng.chance(0.6) else self._flip, rng)
            self._blunders.open_blanked(node, rng)
        return True

    def _harm(self, rng: Rng, do: Callable[[CrashDisk, Rng], bool]) -> bool:
        node = self._targets.victim(rng)
        if node is None or not self.may_lose(node):
            return False
        node.die(Death.KILLED)
        node.disk = node.disk.crash(range(node.disk.unsynced))
        self._targets.later(rng.around(ELECTION), lambda: self._targets.start(node))
        if not do(node.disk, rng):
            return False
        node.harmed = True
        self._admin.mourn(node)
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

    def wipe(self, rng: Rng) -> bool:
        """Replace a disk by an empty one under the same id, which the cluster must refuse."""
        node = self._targets.victim(rng)
        if node is None or not self.may_lose(node):
            return False
        node.replace_disk(Death.POWER, self._world.nodes)
        self._targets.later(rng.around(ELECTION), lambda: self._targets.start(node))
        self._admin.mourn(node)
        return True

    def may_lose(self, node: SimulatedNode) -> bool:
        """Return whether the cluster can do without this disk.

        Before anything is committed it may be the only one that has formed, and all founders must write the formation.
        """
        if self._world.committed < 2:  # the first entry is the formation itself
            return False
        lost = {other.id for other in self._world.nodes.values() if other.retired or other.wiped or other.harmed}
        return not self._admin.busy and _survives_loss_of(self._world, {*lost, node.id})


def _survives_loss_of(world: World, lost: set[NodeId]) -> bool:
    """Return whether the cluster can do without these disks.

    Every configuration that may be in force has to keep a majority of sound disks in each half, and none may be
    uncommitted or joint.
    """
    configurations: dict[int, Members] = {}
    for node in world.nodes.values():
        for index, members in _configurations_of(node):
            if index > world.committed:
                return False
            configurations[index] = members
    if not configurations:
        return False
    newest = configurations[max(configurations)]
    if newest.joint:
        return False
    recent = [configurations[index] for index in sorted(configurations)[-2:]]
    return all(quorum_reached(members, lambda node: node not in lost) for members in recent)


def _configurations_of(node: SimulatedNode) -> list[tuple[int, Members]]:
    stable = node.watched.stable
    found: list[tuple[int, Members]] = []
    if stable.snapshot is not None:
        found.append((stable.snapshot.members_index or stable.snapshot.index, stable.snapshot.members))
    log = node.watched.log
    for index in log.configurations:
        found.append((index, Members.decode(log.entries[index - log.base - 1].data)))
    return found
