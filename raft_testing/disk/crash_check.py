"""Every crash, failing call and flipped bit of a scripted history, against one store.

`crash_disk_check` does it for any store on `raft_core.wal.filesystem.Files`, and `crash_disk` for many scripts. After
each fault the store must recover the model's state after some prefix of the history with everything acknowledged, and
recover the same after another power loss. If bytes on the medium were changed, it may refuse instead, with an error
that names the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import combinations
from typing import Final, TypeAlias, final

import attrs

from raft_core.effects import Persist
from raft_core.errors import DiskError, StorageBroken
from raft_core.ids import WriteId
from raft_core.store import Store
from raft_testing.disk.corruption_check import break_records, flip_bits
from raft_testing.disk.crash_disk import Call, CrashDisk, Fault, FaultKind
from raft_testing.disk.script import make_script
from raft_testing.disk.trial import CrashReport, OpenOnFiles, Standing, StoreViolation, Trial

__all__ = ["CHECKED", "CrashReport", "OpenOnFiles", "StoreViolation", "crash_disk", "crash_disk_check"]

Progress: TypeAlias = Callable[[str], None]

CHECKED: Final = (
    "what is recovered is the model after some prefix of the history that includes everything that was acknowledged",
    "nothing that was truncated or never written appears",
    "damage that is not an unacknowledged tail raises, and names the file and the place",
    "opening again finds the same",
    "after a call that failed, nothing is acknowledged until the store is opened again",
)
"""The properties checked after every fault."""
ALL_SUBSETS: Final = 10
"""Up to this many unsynced changes, every subset of them is tried."""
SAMPLED: Final = 1000
"""With `every` above it, of more than four unsynced changes only a few subsets are tried."""


def _silent(text: str) -> None:
    """No progress is shown."""


def crash_disk(
    open_store: OpenOnFiles, *, progress: Progress = _silent, scripts: int = 1, seed: int = 0, every: int = 1
) -> CrashReport:
    """Run the whole check for `scripts` histories, the first made from `seed`. Raise `StoreViolation`."""
    total = CrashReport({})
    for number in range(seed, seed + scripts):
        total += crash_disk_check(open_store, script_seed=number, progress=progress, every=every)
    return total


def crash_disk_check(
    open_store: OpenOnFiles,
    *,
    script_seed: int = 0,
    progress: Progress = _silent,
    portion: Callable[[float], None] = lambda done: None,
    every: int = 1,
) -> CrashReport:
    """Run one history under every fault.

    `progress` is told each part as it begins, and `portion` from time to time how much of it is done, from 0 to 1.

    `every`: for speed, only one in so many byte lengths and bits; above 100 only a sample of the power losses during
    recovery; above 1000 only a sample of the survivors of many unsynced changes.

    Raise `StoreViolation` at the first violation.
    """
    check = _Check(open_store, make_script(script_seed), script_seed, every)
    check.portion = portion
    parts = (
        ("power loss at every call and in every write", check.power_losses),
        ("power loss during recovery", check.losses_in_recovery),
        ("every call fails once", check.failing_calls),
        ("every bit is flipped", lambda: flip_bits(check)),
        ("records are dropped, doubled and zeroed", lambda: break_records(check)),
    )
    for number, (name, part) in enumerate(parts, 1):
        progress(f"script {script_seed}, part {number} of {len(parts)}: {name}")
        try:
            part()
        except StoreViolation:
            raise
        except Exception as failure:  # a store under test may raise anything
            check.failed(name, "raised", failure)
        check.raise_what_was_found()
    check.counts["scripts"] += 1
    return CrashReport(dict(check.counts))


@final
class _Check(Trial):
    """One script, one store, and every power loss and every failing call."""

    # Power losses.

    def power_losses(self) -> None:
        """Cut the power at every changing call, with every subset of the unsynced data, and inside every write."""
        disk, standing, calls = CrashDisk(), Standing(), 0
        with suppress(Exception):  # a store under test may raise anything: below, where the call is known
            calls = len(self._calls())

        def lose(call: Call) -> None:
            if calls:
                self.portion(call.number / calls)
            self.count_dropped(call, standing)
            if not call.changes:
                return
            self.counts[f"calls: {call.operation}"] += 1
            where = f"power lost before call {call.number} ({call.operation} {call.name})"
            for survivors in self.subsets(disk.unsynced):
                self.counts["power losses between calls"] += 1
                self.survives(disk.crash(survivors), standing, f"{where}, surviving {list(survivors)}")
            if call.operation == "write":
                self._lose_inside(disk, standing, call)

        disk.watch = lose
        for _ in self.play(disk, standing, self.script):
            pass
        disk.watch = None
        for survivors in self.subsets(disk.unsynced):
            self.survives(disk.crash(survivors), standing, "power lost after the orderly end")
        self.count_script(disk)

    def _lose_inside(self, disk: CrashDisk, standing: Standing, call: Call) -> None:
        """Of a write, every number of bytes was handed over."""
        before = disk.unsynced
        for length in range(1, len(call.data) + 1, self.every):
            torn = disk.twin()
            torn.hand_over(call.name, call.offset, call.data[:length])
            where = f"power lost in call {call.number} (write {call.name}) after {length} bytes"
            self.counts["power losses inside a write"] += 1
            self.survives(torn.crash(range(torn.unsynced)), standing, where)
            if torn.unsynced > before + 1:
                self.counts["power losses inside a write"] += 1
                self.survives(torn.crash(range(before + 1, torn.unsynced)), standing, f"{where}, without the first")

    def subsets(self, count: int) -> Iterable[Collection[int]]:
        """Every subset of `count` changes, or of more than `ALL_SUBSETS` the telling ones and some at random."""
        if self.every > SAMPLED and count > 4:
            some = [frozenset(n for n in range(count) if self.random.random() < 0.5) for _ in range(6)]
            half = range(int(self.random.random() * count))
            return sorted({frozenset(), frozenset(range(count)), frozenset(half), *some}, key=sorted)
        if count <= ALL_SUBSETS:
            return (frozenset(some) for size in range(count + 1) for some in combinations(range(count), size))
        everything = range(count)
        found = {frozenset(everything[:end]) for end in range(count + 1)}
        found |= {frozenset(everything[start:]) for start in range(count)}
        found |= {frozenset([one]) for one in everything} | {frozenset(everything) - {one} for one in everything}
        found |= {frozenset(n for n in everything if self.random.random() < 0.5) for _ in range(32)}
        return sorted(found, key=sorted)

    def losses_in_recovery(self) -> None:
        """Lose power a second time, while the store is being opened after a torn write."""
        disk, standing = CrashDisk(), Standing()
        torn_disks: list[tuple[CrashDisk, Standing, Call]] = []

        def tear(call: Call) -> None:
            if call.operation == "write":
                torn = disk.twin()
                torn.hand_over(call.name, call.offset, call.data[: len(call.data) * 2 // 3])
                torn_disks.append((torn, attrs.evolve(standing), call))

        disk.watch = tear
        for _ in self.play(disk, standing, self.script):
            pass
        chosen = torn_disks[:: 1 + self.every // 100]
        for number, (torn, then, call) in enumerate(chosen):
            self.portion(number / len(chosen))
            for survivors in (range(torn.unsynced), range(0)):
                self._lose_while_opening(torn.crash(survivors), then, f"torn call {call.number}")

    def _lose_while_opening(self, disk: CrashDisk, standing: Standing, where: str) -> None:
        def lose(call: Call) -> None:
            if not call.changes:
                return
            for survivors in (range(0), range(disk.unsynced), range(1, disk.unsynced), range(disk.unsynced // 2)):
                self.counts["power losses during recovery"] += 1
                self.survives(disk.crash(survivors), standing, f"{where}, then lost before call {call.number}")

        disk.watch = lose
        with suppress(DiskError):
            self.open_store(disk).recover()

    # Failing calls.

    def failing_calls(self) -> None:
        """Let every call of the history fail once, in every possible way."""
        calls = self._calls()
        for number, call in enumerate(calls):
            self.portion(number / len(calls))
            for kind in _ways_to_fail(call):
                self.counts[f"failed calls: {kind.value}"] += 1
                self._fail(call, kind)

    def _calls(self) -> list[Call]:
        """Return every call of the history without a fault."""
        calls: list[Call] = []
        disk = CrashDisk()
        disk.watch = calls.append
        for _ in self.play(disk, Standing(), self.script):
            pass
        return calls

    def _fail(self, call: Call, kind: FaultKind) -> None:
        where = f"{kind.value} in call {call.number} ({call.operation} {call.name})"
        disk, standing = CrashDisk(), Standing()
        store: Store | None = None
        disk.faults[call.number] = Fault(kind)
        try:
            for store in self.play(disk, standing, self.script):  # noqa: B007 - the one that is open when it fails
                pass
        except DiskError as failure:
            goes_on = kind is FaultKind.NO_SPACE and not isinstance(failure, StorageBroken)  # only a snapshot is lost
            if store is not None and kind is not FaultKind.SHORT and not goes_on:
                self._acknowledges_nothing(store, where)
        except StoreViolation:
            raise
        except Exception as failure:  # a store under test may raise anything
            self.failed(where, "raised", failure)
        for survivors in (range(0), range(disk.unsynced)):
            self.survives(disk.crash(survivors), standing, f"{where}, then power lost")
        self.survives(disk.twin(), standing, f"{where}, then opened again")

    def _acknowledges_nothing(self, store: Store, where: str) -> None:
        """Check that a failed store refuses everything."""
        for attempt in (lambda: store.write([Persist(WriteId(1))]), lambda: store.recover()):
            try:
                attempt()
            except StorageBroken:
                continue
            except Exception as failure:
                self.violated(where, f"refused with {failure!r}, not with StorageBroken")
            self.violated(where, "a store that had failed took another call")


def _ways_to_fail(call: Call) -> tuple[FaultKind, ...]:
    if call.operation == "write":
        return FaultKind.ERROR, FaultKind.NO_SPACE, FaultKind.SHORT
    if call.operation in ("create", "preallocate"):
        return FaultKind.ERROR, FaultKind.NO_SPACE
    if call.operation in ("sync", "sync directory"):
        return FaultKind.ERROR, FaultKind.LOST_SYNC
    return (FaultKind.ERROR,)
