"""Damage to the medium of a disk, beyond single bits.

`ruin` does damage that a store has to detect: a file that has vanished, noise in place of a sector, one sector in place
of another. `blank` writes a sector of zeros, which behind the last proven sync cannot be told from one never written.
"""

from __future__ import annotations

from raft_testing.disk.crash_disk import SECTOR, CrashDisk
from raft_testing.rng import Rng

__all__ = ["blank", "ruin"]


def blank(disk: CrashDisk, rng: Rng) -> bool:
    """Overwrite one sector of one file with zeros. Return False if the disk is empty."""
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
    """Damage or remove one file. Return False if the disk is empty."""
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
