"""Damage to a disk's medium beyond single bits.

`ruin` makes one damage that a store must find: a lost file, noise in place of a sector, one sector in place of another.
`blank` zeroes a sector, which after the last proven sync looks like one never written.
"""

from __future__ import annotations

from raft_core.ids import NodeId
from raft_core.membership import Members
from raft_core.quorum import quorum_reached
from raft_testing.disk.crash_disk import SECTOR, CrashDisk
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["blank", "ruin", "survives_loss_of"]


def survives_loss_of(world: World, lost: set[NodeId]) -> bool:
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


def blank(disk: CrashDisk, rng: Rng) -> bool:
    """One sector of one file is zeros; False where there is none."""
    files = [name for name in disk.listing() if disk.content(name)]
    if not files:
        return False
    name = rng.choice(files)
    content = bytearray(disk.content(name))
    start = rng.below(max(1, -(-len(content.rstrip(b"\0")) // SECTOR))) * SECTOR
    content[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))
    disk.overwrite(name, bytes(content))
    return True


def ruin(disk: CrashDisk, rng: Rng) -> bool:
    """One file is not what it was, or is not there; False where there is none."""
    files = [name for name in disk.listing() if disk.content(name)]
    if not files:
        return False
    name = rng.choice(files)
    if rng.chance(0.3):
        disk.remove(name)
        return True
    content = bytearray(disk.content(name))
    used = max(1, -(-len(content.rstrip(b"\0")) // SECTOR))
    sector = rng.below(used)
    target = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(content)))
    other = rng.below(used)
    put = bytes(content[other * SECTOR : (other + 1) * SECTOR]).ljust(SECTOR, b"\x77")
    if other == sector or rng.chance(0.5):
        put = bytes(byte or 0x77 for byte in rng.random.randbytes(SECTOR))
    content[target] = put[: target.stop - target.start]
    disk.overwrite(name, bytes(content))
    return True
