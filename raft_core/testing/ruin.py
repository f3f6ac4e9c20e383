"""What may become of a disk's medium while nobody looks, beyond single bits.

What lives here: `ruin`, one such damage of a kind that a store has to find: a file that has vanished, noise in place of
a sector, one sector in place of another. And `blank`, a sector of zeros, which behind the last proven sync cannot be
told from one that was never written.
"""

from __future__ import annotations

from raft_core.testing.crash_disk import SECTOR, CrashDisk
from raft_core.testing.dice import Dice

__all__ = ["blank", "ruin"]


def blank(disk: CrashDisk, dice: Dice) -> bool:
    """One sector of one file is zeros; False where there is none."""
    files = [name for name in disk.listing() if disk.content(name)]
    if not files:
        return False
    name = dice.choice(files)
    content = bytearray(disk.content(name))
    start = dice.below(max(1, -(-len(content.rstrip(b"\0")) // SECTOR))) * SECTOR
    content[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))
    disk.overwrite(name, bytes(content))
    return True


def ruin(disk: CrashDisk, dice: Dice) -> bool:
    """One file is not what it was, or is not there; False where there is none."""
    files = [name for name in disk.listing() if disk.content(name)]
    if not files:
        return False
    name = dice.choice(files)
    if dice.chance(0.3):
        disk.remove(name)
        return True
    content = bytearray(disk.content(name))
    used = max(1, -(-len(content.rstrip(b"\0")) // SECTOR))
    sector = dice.below(used)
    target = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(content)))
    other = dice.below(used)
    put = bytes(content[other * SECTOR : (other + 1) * SECTOR]).ljust(SECTOR, b"\x77")
    if other == sector or dice.chance(0.5):
        put = bytes(byte or 0x77 for byte in dice.random.randbytes(SECTOR))
    content[target] = put[: target.stop - target.start]
    disk.overwrite(name, bytes(content))
    return True
