"""A disk in memory that loses power in every way of a real one, and fails on demand.

`CrashDisk` is one directory that implements `raft_core.wal.filesystem.Files`. It promises as little as the protocol
allows: until a sync, each written 512-byte sector, each change of a file's size and each change of a name survives or
not, independently of the others. A sector written twice may survive in either version. A failed sync may drop data
while reads still show it, like a page cache.

    disk = CrashDisk()
    store = open_store(disk)                     # any store that runs on `Files`
    disk.faults[disk.calls + 3] = Fault(FaultKind.POWER)
    try:
        store.write(batch)
    except PowerLost:
        pass
    after = disk.crash(survivors=[0, 2])         # these of `disk.unsynced` reached the medium
    recovered = open_store(after).recover()
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from hashlib import blake2b
from typing import Final, final

from raft_core.structs import Value
from raft_core.wal.filesystem import File, FileFailed, FileMissing, LockHeld, NoSpace

__all__ = ["SECTOR", "Call", "CrashDisk", "Fault", "FaultKind", "PowerLost"]

SECTOR: Final = 512
_ZEROS: Final = bytes(SECTOR)


class PowerLost(Exception):
    """The machine is off: every later call on this disk raises this too. Go on with `CrashDisk.crash`."""


class FaultKind(Enum):
    """What goes wrong in a call."""

    ERROR = "error"  # nothing happens, and the call fails
    NO_SPACE = "no space"  # a write puts down its first half, then fails for lack of space
    SHORT = "short write"  # a write takes its first half only, and says so
    POWER = "power"  # the power goes; of a write, the first `taken` bytes were handed over
    LOST_SYNC = "lost sync"  # a sync fails; reading still returns the dropped data


@final
class Fault(Value, frozen=True):
    """`taken`: of a write, how many bytes are handed over before the power goes."""

    kind: FaultKind
    taken: int = 0


@final
class Call(Value, frozen=True):
    """One call of the store: `number` counts from 1; `offset` and `data` are those of a write."""

    number: int
    operation: str
    name: str
    offset: int = 0
    data: bytes = b""

    @property
    def changes(self) -> bool:
        """True if the call may change the contents of the disk."""
        return self.operation not in ("names", "open", "read", "size", "lock")


@final
class _Node:
    """A file without its name. `pending`: unsynced changes; a size has the sector number -1."""

    __slots__ = ("coming_size", "live", "pending", "size", "stable", "stable_size")

    def __init__(self) -> None:
        self.live: dict[int, bytes] = {}
        self.size = 0
        self.stable: dict[int, bytes] = {}
        self.stable_size = 0
        self.coming_size = 0  # the size made durable by a sync; less than `size` after a lost sync
        self.pending: list[tuple[int, bytes, int]] = []

    def put(self, offset: int, data: bytes) -> None:
        """Write the bytes into the cache, each touched sector as a change of its own."""
        end = offset + len(data)
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            start = sector * SECTOR
            if offset <= start and start + SECTOR <= end:
                content = data[start - offset : start - offset + SECTOR]
            else:
                old = self.live.get(sector, _ZEROS)
                low, high = max(offset, start), min(end, start + SECTOR)
                content = old[: low - start] + data[low - offset : high - offset] + old[high - start :]
            self.live[sector] = content
            self.pending.append((sector, content, 0))
        self.grow(end)

    def grow(self, size: int) -> None:
        self.size = max(self.size, size)
        if size > self.coming_size:
            self.coming_size = size
            self.pending.append((-1, b"", size))

    def shrink(self, size: int) -> None:
        """End the file at `size`, which is not beyond its end."""
        self.size = self.coming_size = size
        _cut(self.live, size)
        self.pending.append((-1, b"", size))

    def lose(self) -> None:
        """Lose the unsynced changes, unless they are written again."""
        self.pending.clear()
        self.coming_size = self.stable_size

    def get(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first = offset // SECTOR
        sectors = [self.live.get(sector, _ZEROS) for sector in range(first, -(-end // SECTOR))]
        return b"".join(sectors)[offset - first * SECTOR : end - first * SECTOR]

    def settle(self) -> None:
        """Everything is on the medium."""
        for sector, content, size in self.pending:
            self._reach(sector, content, size)
        self.pending.clear()

    def _reach(self, sector: int, content: bytes, size: int) -> None:
        """One change is on the medium."""
        if sector >= 0:
            self.stable[sector] = content
            return
        if size < self.stable_size:
            _cut(self.stable, size)
        self.stable_size = size

    def after(self, survivors: Collection[int], first: int) -> _Node:
        """Return the file after a power loss; `survivors` are numbers of changes, from `first` on for this file."""
        node = _Node()
        node.stable, node.stable_size = dict(self.stable), self.stable_size
        for number, (sector, content, size) in enumerate(self.pending, start=first):
            if number in survivors:
                node._reach(sector, content, size)
        _cut(node.stable, node.stable_size)
        node.live, node.size, node.coming_size = dict(node.stable), node.stable_size, node.stable_size
        return node

    def twin(self) -> _Node:
        """Return a copy, cache included."""
        node = _Node()
        node.live, node.size, node.stable = dict(self.live), self.size, dict(self.stable)
        node.stable_size, node.coming_size, node.pending = self.stable_size, self.coming_size, list(self.pending)
        return node


def _cut(sectors: dict[int, bytes], size: int) -> None:
    """Nothing lies beyond `size`."""
    limit = -(-size // SECTOR)
    for sector in [sector for sector in sectors if sector >= limit]:
        del sectors[sector]
    if (inside := size % SECTOR) and (last := sectors.get(limit - 1)) is not None:
        sectors[limit - 1] = last[:inside] + bytes(SECTOR - inside)


@final
class _Name(Value, frozen=True, eq=False, gc=True):
    """A change of names without a directory sync."""

    removed: str
    added: str
    node: _Node | None


@final
class CrashDisk:
    """One directory. `faults`: the fault of each call, by number. `watch`: called before every call.

    `capacity`: the most bytes of all files together, without limit if None.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self._names: dict[str, _Node] = {}
        self._stable_names: dict[str, _Node] = {}
        self._pending_names: list[_Name] = []
        self._locked = False
        self._off = False
        self._life = 0
        self.capacity = capacity
        self.calls = 0
        self.faults: dict[int, Fault] = {}
        self.watch: Callable[[Call], None] | None = None

    # What happens to the machine.

    def listing(self) -> list[str]:
        """All names, sorted, without counting as a call."""
        return sorted(self._names)

    def used(self) -> int:
        """How many bytes all files have together."""
        return sum(node.size for node in self._names.values())

    @property
    def off(self) -> bool:
        """The power is gone: `crash` gives the disk after it."""
        return self._off

    @property
    def unsynced(self) -> int:
        """How many changes have not been covered by a sync: they are numbered from 0."""
        return sum(len(node.pending) for node in self._nodes()) + len(self._pending_names)

    def digest(self) -> bytes | None:
        """Return a digest of all names and bytes: disks with equal ones are the same to a store that opens them.

        None while the cache holds what the medium does not.
        """
        if self._names != self._stable_names or self._pending_names:
            return None
        found = blake2b(f"{self.capacity}".encode(), digest_size=20)
        for name, node in sorted(self._names.items()):
            if node.pending or node.live != node.stable or node.size != node.stable_size:
                return None
            sectors = sorted(node.live.items())
            found.update(f"|{name}|{node.size}|{[number for number, _ in sectors]}|".encode())
            found.update(b"".join([content for _, content in sectors]))
        return found.digest()

    def crash(self, survivors: Collection[int] = ()) -> CrashDisk:
        """Return the disk after a power loss: the synced data, and the unsynced changes with these numbers.

        This one stays unchanged, so many outcomes of one moment can be examined.
        """
        disk = CrashDisk(capacity=self.capacity)
        renewed: dict[int, _Node] = {}
        number = 0
        for node in self._nodes():
            renewed[id(node)] = node.after(survivors, number)
            number += len(node.pending)
        names = dict(self._stable_names)
        for change in self._pending_names:
            if number in survivors:
                names.pop(change.removed, None)
                if change.node is not None:
                    names[change.added] = change.node
            number += 1
        disk._names = {name: renewed[id(node)] for name, node in names.items()}
        disk._stable_names = dict(disk._names)
        return disk

    def restart(self) -> CrashDisk:
        """Return the same machine after the death of the process.

        The cache survives, locks are free, and open files are unusable. Faults planned for later calls stay planned.
        """
        self._life += 1
        self._locked = False
        return self

    def twin(self) -> CrashDisk:
        """Return another disk in the same state, cache included, not in use."""
        disk = CrashDisk(capacity=self.capacity)
        twins = {id(node): node.twin() for node in self._nodes()}
        disk._names = {name: twins[id(node)] for name, node in self._names.items()}
        disk._stable_names = {name: twins[id(node)] for name, node in self._stable_names.items()}
        disk._pending_names = [
            _Name(change.removed, change.added, None if change.node is None else twins[id(change.node)])
            for change in self._pending_names
        ]
        return disk

    def hand_over(self, name: str, offset: int, data: bytes) -> None:
        """Put the start of a write into the cache, unsynced."""
        self._names[name].put(offset, data)

    def _nodes(self) -> list[_Node]:
        """Return every file with a present or possible name, in an order given by the calls alone."""
        found = {id(node): node for node in self._stable_names.values()}
        found.update({id(node): node for node in self._names.values()})
        found.update({id(change.node): change.node for change in self._pending_names if change.node is not None})
        return list(found.values())

    # What happens to the medium behind the store's back.

    def content(self, name: str) -> bytes:
        """Return the bytes of a file, as a reader sees them."""
        node = self._names[name]
        return node.get(0, node.size)

    def overwrite(self, name: str, content: bytes) -> None:
        """Make the file durably hold these bytes."""
        node = self._names.get(name) or _Node()
        node.live = {
            start // SECTOR: content[start : start + SECTOR].ljust(SECTOR, b"\0")
            for start in range(0, len(content), SECTOR)
        }
        node.size = node.stable_size = node.coming_size = len(content)
        node.stable = dict(node.live)
        node.pending.clear()
        self._names[name] = self._stable_names[name] = node

    def flip(self, name: str, bit: int) -> None:
        """One bit of the file is the other way round, in the cache and on the medium."""
        node = self._names[name]
        sector, inside = divmod(bit, SECTOR * 8)
        for sectors in (node.live, node.stable):
            content = bytearray(sectors.get(sector, _ZEROS))
            content[inside // 8] ^= 1 << inside % 8
            sectors[sector] = bytes(content)

    def remove(self, name: str) -> None:
        """Remove the file without a trace."""
        del self._names[name]
        self._stable_names.pop(name, None)

    # `Files`.

    def _enter(
        self, operation: str, name: str, *, life: int | None = None, offset: int = 0, data: bytes = b""
    ) -> Fault | None:
        """Count a call. Raise the planned fault, unless only a write or a sync can have it."""
        if self._off:
            raise PowerLost(f"{operation} {name}: the power is off")
        if life is not None and life != self._life:
            raise FileFailed(operation, name, "the process that had opened this file is dead")
        self.calls += 1
        if self.watch is not None:
            self.watch(Call(self.calls, operation, name, offset, data))
        fault = self.faults.get(self.calls)
        if fault is None:
            return None
        if fault.kind is FaultKind.POWER and not (operation == "write" and fault.taken):
            self._off = True
            raise PowerLost(f"{operation} {name}: the power goes at call {self.calls}")
        if fault.kind is FaultKind.ERROR:
            raise FileFailed(operation, name, f"input/output error at call {self.calls}")
        if fault.kind is FaultKind.NO_SPACE and operation in ("create", "preallocate"):
            raise NoSpace(operation, name, f"no space left at call {self.calls}")
        return fault

    def names(self) -> list[str]:
        """All names, sorted."""
        self._enter("names", "")
        return sorted(self._names)

    def open(self, name: str) -> File:
        """Open an existing file."""
        self._enter("open", name)
        if name not in self._names:
            raise FileMissing("open", name, "no such file")
        return _OpenFile(self, self._names[name], name)

    def create(self, name: str) -> File:
        """Create an empty file."""
        self._enter("create", name)
        if name in self._names:
            raise FileFailed("create", name, "the file exists")
        node = self._names[name] = _Node()
        self._pending_names.append(_Name("", name, node))
        return _OpenFile(self, node, name)

    def rename(self, old: str, new: str) -> None:
        """Rename the file to `new`."""
        self._enter("rename", old)
        if old not in self._names:
            raise FileMissing("rename", old, "no such file")
        node = self._names[new] = self._names.pop(old)
        self._pending_names.append(_Name(old, new, node))

    def unlink(self, name: str) -> None:
        """Remove the name."""
        self._enter("unlink", name)
        if name not in self._names:
            raise FileMissing("unlink", name, "no such file")
        del self._names[name]
        self._pending_names.append(_Name(name, "", None))

    def sync_directory(self) -> None:
        """Make all names durable, unless a fault loses the sync."""
        fault = self._enter("sync directory", "")
        if fault is not None and fault.kind is FaultKind.LOST_SYNC:
            self._pending_names.clear()
            raise FileFailed("sync directory", "", f"input/output error at call {self.calls}, names are lost")
        self._stable_names = dict(self._names)
        self._pending_names.clear()

    def room(self) -> int | None:
        """Return how many bytes fit, None without a limit."""
        return None if self.capacity is None else max(0, self.capacity - self.used())

    def lock(self, name: str) -> None:
        """Take the lock for this process."""
        self._enter("lock", name)
        if self._locked:
            raise LockHeld("lock", name, "held by another process")
        self._locked = True

    def close(self) -> None:
        """Free the lock."""
        self._locked = False

    def _reserve(self, operation: str, name: str, more: int) -> None:
        if self.capacity is not None and more > 0 and self.used() + more > self.capacity:
            raise NoSpace(operation, name, "no space left")


@final
class _OpenFile:
    """A `File` on a crash disk."""

    __slots__ = ("_disk", "_life", "_name", "_node")

    def __init__(self, disk: CrashDisk, node: _Node, name: str) -> None:
        self._disk = disk
        self._node = node
        self._name = name
        self._life = disk._life

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        self._disk._enter("size", self._name, life=self._life)
        return self._node.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`."""
        self._disk._enter("read", self._name, life=self._life)
        return self._node.get(offset, length)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """How many bytes were taken: all of them, unless a fault says otherwise."""
        disk, data = self._disk, bytes(data)
        fault = disk._enter("write", self._name, life=self._life, offset=offset, data=data)
        disk._reserve("write", self._name, offset + len(data) - self._node.size)
        if fault is None:
            self._node.put(offset, data)
            return len(data)
        if fault.kind is FaultKind.POWER:
            self._node.put(offset, data[: fault.taken])
            disk._off = True
            raise PowerLost(f"write {self._name}: the power goes at call {disk.calls}, byte {fault.taken}")
        taken = len(data) // 2 if fault.kind in (FaultKind.SHORT, FaultKind.NO_SPACE) else len(data)
        taken = max(1, taken)
        self._node.put(offset, data[:taken])
        if fault.kind is FaultKind.NO_SPACE:
            raise NoSpace("write", self._name, f"no space left at call {disk.calls}")
        return taken

    def preallocate(self, size: int) -> None:
        """Fill the file with `size` zeros; if there is less room, with as many as fit, and fail."""
        disk = self._disk
        disk._enter("preallocate", self._name, life=self._life)
        if disk.capacity is not None:
            self._node.grow(min(size, self._node.size + max(0, disk.capacity - disk.used())))
        disk._reserve("preallocate", self._name, size - self._node.size)
        self._node.grow(size)

    def truncate(self, size: int) -> None:
        """End the file at `size`, durably only after a sync. No store of this library asks for it; databases do."""
        self._disk._enter("truncate", self._name, life=self._life)
        if size < self._node.size:
            self._node.shrink(size)

    def sync(self) -> None:
        """Make contents and size durable, unless a fault loses the sync."""
        fault = self._disk._enter("sync", self._name, life=self._life)
        if fault is not None and fault.kind is FaultKind.LOST_SYNC:
            self._node.lose()
            raise FileFailed("sync", self._name, f"input/output error at call {self._disk.calls}, data are lost")
        self._node.settle()

    def close(self) -> None:
        """Nothing is held."""
