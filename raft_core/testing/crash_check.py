"""Every crash, every broken call and every flipped bit of a scripted history, and whether the store survives it.

What lives here: `crash_disk_check`, for any store that runs on `raft_core.wal.files.Files`, and `crash_disk`, which
does it for many scripts. After each injected fault the store must recover what the model holds after some prefix of
the history that includes everything acknowledged, and recover the same when it is opened again after another power
loss; where bytes on the medium were changed, it may refuse instead, with an error that names the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import combinations
from random import Random
from typing import Final, TypeAlias, final

import attrs

from raft_core.effects import Persist
from raft_core.errors import DiskError, LogDamaged, StorageBroken
from raft_core.ids import WriteId
from raft_core.recovered import Recovered
from raft_core.storage import Store
from raft_core.testing.crash_disk import Call, CrashDisk, Fault, FaultKind
from raft_core.testing.crash_script import (
    LogState,
    Reopen,
    Script,
    TakeOne,
    WriteBatch,
    batches_in,
    broken_copies,
    make_script,
    plain_script,
    take_snapshot,
    used_bytes,
)
from raft_core.wal.files import Files

__all__ = ["CHECKED", "CrashReport", "OpenOnFiles", "StoreViolation", "crash_disk", "crash_disk_check"]

OpenOnFiles: TypeAlias = Callable[[Files], Store]
"""Opens, or formats, the store on this directory."""
Progress: TypeAlias = Callable[[str], None]

CHECKED: Final = (
    "what is recovered is the model after some prefix of the history that includes everything that was acknowledged",
    "nothing that was truncated or never written appears",
    "damage that is not an unacknowledged tail raises, and names the file and the place",
    "opening again finds the same",
    "after a call that failed, nothing is acknowledged until the store is opened again",
)
"""What holds after every fault of a run that found no violation."""
ALL_SUBSETS: Final = 10
"""Up to this many unsynced changes, every subset of them is tried."""
LOG_BYTES: Final = 16 * 1024
"""How long the log is of which every bit is flipped."""
EMPTY_BYTES: Final = 64
"""Of the empty space behind a segment's last batch, every bit of so many bytes is flipped too."""


class StoreViolation(AssertionError):
    """The store did not keep its word; the text says what was done to it and what came back."""


@final
@attrs.frozen
class CrashReport:
    """What was injected, what was seen and what was checked, each with its count."""

    counts: dict[str, int]

    def __add__(self, other: CrashReport) -> CrashReport:
        return CrashReport(dict(Counter(self.counts) + Counter(other.counts)))

    def table(self) -> str:
        """One line per count."""
        width = max(map(len, self.counts), default=0)
        return "\n".join(f"{name:<{width}}  {count:>9,}" for name, count in self.counts.items())


def _silent(text: str) -> None:
    """No progress is shown."""


def crash_disk(
    open_store: OpenOnFiles, *, progress: Progress = _silent, scripts: int = 1, seed: int = 0, every: int = 1
) -> CrashReport:
    """The whole check for `scripts` histories, the first made from `seed`. Raises `StoreViolation`."""
    total = CrashReport({})
    for number in range(seed, seed + scripts):
        total += crash_disk_check(open_store, script_seed=number, progress=progress, every=every)
    return total


def crash_disk_check(
    open_store: OpenOnFiles, *, script_seed: int = 0, progress: Progress = _silent, every: int = 1
) -> CrashReport:
    """One history under every fault. `every`: to be faster, only one in so many of byte lengths and bits, and
    above 100 only a sample of the power losses during recovery.

    Raises `StoreViolation` at the first word that the store does not keep."""
    check = _Check(open_store, make_script(script_seed), script_seed, every)
    for name, part in (
        ("power loss at every call and in every write", check.power_losses),
        ("power loss during recovery", check.losses_in_recovery),
        ("every call fails once", check.failing_calls),
        ("every bit is flipped", check.flipped_bits),
        ("records are dropped, doubled and zeroed", check.broken_records),
    ):
        progress(f"script {script_seed}: {name}")
        part()
    check.counts["scripts"] += 1
    return CrashReport(dict(check.counts))


@final
@attrs.define
class _Standing:
    """How far a history got: persists acknowledged, persists handed over, and the last boot number given out."""

    acknowledged: int = 0
    attempted: int = 0
    boot: int = 0


@final
class _Check:
    """One script, one store."""

    def __init__(self, open_store: OpenOnFiles, script: Script, seed: int, every: int) -> None:
        self.open_store = open_store
        self.script = script
        self.seed = seed
        self.every = every
        self.random = Random(seed)
        self.counts: Counter[str] = Counter()

    # Playing a history.

    def play(
        self, disk: CrashDisk, standing: _Standing, script: Script, *, orderly: bool = True
    ) -> Iterator[Store | None]:
        """Does the steps one by one; gives the store whenever another one is open, and None before it is reopened."""
        store = self._opened(disk, standing, script)
        yield store
        for step in script.steps:
            if type(step) is WriteBatch:
                standing.attempted += len(step.batch)
                store.write(step.batch)
                standing.acknowledged = standing.attempted
            elif type(step) is TakeOne:
                take_snapshot(store, step)
            elif type(step) is Reopen:
                if step.orderly:
                    store.close()
                else:
                    disk.restart()
                yield None
                store = self._opened(disk, standing, script)
                yield store
        if orderly:
            store.close()

    def _opened(self, disk: CrashDisk, standing: _Standing, script: Script) -> Store:
        store = self.open_store(disk)
        recovered = store.recover()
        self._judge(store, recovered, standing, script, "in the middle of the history")
        standing.boot = recovered.boot
        # What was recovered is known to the core: from now on it counts as acknowledged.
        matching = self._prefix(recovered, standing, script)
        assert matching is not None
        standing.acknowledged = standing.attempted = matching
        return store

    def _prefix(self, recovered: Recovered, standing: _Standing, script: Script) -> int | None:
        """The longest prefix of the history that `recovered` is."""
        for number in range(standing.attempted, standing.acknowledged - 1, -1):
            if script.states[number].agrees(recovered):
                return number
        return None

    def _judge(self, store: Store, recovered: Recovered, standing: _Standing, script: Script, where: str) -> None:
        if self._prefix(recovered, standing, script) is None:
            self._violated(
                where, f"{_short(recovered)}, wanted {_short(script.states[standing.acknowledged])} or later"
            )
        if recovered.boot <= standing.boot:
            self._violated(where, f"boot number {recovered.boot} was given out before")
        if recovered.snapshot is None:
            return
        reader = store.open_snapshot(recovered.snapshot)
        state = b"".join(reader.chunks())
        reader.close()
        if state != script.snapshots[recovered.snapshot.position]:
            self._violated(where, "the snapshot holds something else")

    def _violated(self, where: str, text: str) -> None:
        raise StoreViolation(f"script {self.seed}, {where}: {text}")

    # After a fault.

    def survives(self, disk: CrashDisk, standing: _Standing, where: str, script: Script | None = None) -> Recovered:
        """Opens the disk: it recovers a right prefix, and once more after the next power loss. The disk is used up."""
        script = script or self.script
        first = self._recover(disk, standing, where, script)
        again = _Standing(standing.acknowledged, standing.attempted, first.boot)
        second = self._recover(disk.crash(), again, f"{where}, opened twice", script)
        if (first.hard, first.snapshot, first.entries) != (second.hard, second.snapshot, second.entries):
            self._violated(where, "the second opening recovered something else than the first")
        self.counts["recoveries checked"] += 2
        return first

    def _recover(self, disk: CrashDisk, standing: _Standing, where: str, script: Script) -> Recovered:
        try:
            store = self.open_store(disk)
            recovered = store.recover()
            self._judge(store, recovered, standing, script, where)
        except DiskError as failure:
            raise StoreViolation(f"script {self.seed}, {where}: refused to open: {failure}") from failure
        return recovered

    # Power losses.

    def power_losses(self) -> None:
        """At every call that changes something, with every subset of what was not synced; and inside every write."""
        disk, standing = CrashDisk(), _Standing()

        def lose(call: Call) -> None:
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
        self._count_script(disk)

    def _count_script(self, disk: CrashDisk) -> None:
        self.counts["operations in the script"] += len(self.script.steps)
        self.counts["segments begun"] += max(
            (int(name[:16]) for name in disk.names() if name.endswith(".log")), default=0
        )
        self.counts["snapshots in the script"] += len(self.script.snapshots)

    def _lose_inside(self, disk: CrashDisk, standing: _Standing, call: Call) -> None:
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
        if count <= ALL_SUBSETS:
            return (frozenset(some) for size in range(count + 1) for some in combinations(range(count), size))
        everything = range(count)
        found = {frozenset(everything[:end]) for end in range(count + 1)}
        found |= {frozenset(everything[start:]) for start in range(count)}
        found |= {frozenset([one]) for one in everything} | {frozenset(everything) - {one} for one in everything}
        found |= {frozenset(n for n in everything if self.random.random() < 0.5) for _ in range(32)}
        return sorted(found, key=sorted)

    def losses_in_recovery(self) -> None:
        """The power goes a second time, while the store is being opened after a torn write."""
        disk, standing = CrashDisk(), _Standing()
        torn_disks: list[tuple[CrashDisk, _Standing, Call]] = []

        def tear(call: Call) -> None:
            if call.operation == "write":
                torn = disk.twin()
                torn.hand_over(call.name, call.offset, call.data[: len(call.data) * 2 // 3])
                torn_disks.append((torn, attrs.evolve(standing), call))

        disk.watch = tear
        for _ in self.play(disk, standing, self.script):
            pass
        for torn, then, call in torn_disks[:: 1 + self.every // 100]:
            for survivors in (range(torn.unsynced), range(0)):
                self._lose_while_opening(torn.crash(survivors), then, f"torn call {call.number}")

    def _lose_while_opening(self, disk: CrashDisk, standing: _Standing, where: str) -> None:
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
        """Every call of the history fails once, in every way that it can."""
        calls: list[Call] = []
        disk = CrashDisk()
        disk.watch = calls.append
        for _ in self.play(disk, _Standing(), self.script):
            pass
        for call in calls:
            for kind in _ways_to_fail(call):
                self.counts[f"failed calls: {kind.value}"] += 1
                self._fail(call, kind)

    def _fail(self, call: Call, kind: FaultKind) -> None:
        where = f"{kind.value} in call {call.number} ({call.operation} {call.name})"
        disk, standing = CrashDisk(), _Standing()
        store: Store | None = None
        disk.faults[call.number] = Fault(kind)
        try:
            for store in self.play(disk, standing, self.script):  # noqa: B007 - the one that is open when it fails
                pass
        except DiskError:
            if store is not None and kind is not FaultKind.SHORT:
                self._acknowledges_nothing(store, where)
        for survivors in (range(0), range(disk.unsynced)):
            self.survives(disk.crash(survivors), standing, f"{where}, then power lost")
        self.survives(disk.twin(), standing, f"{where}, then opened again")

    def _acknowledges_nothing(self, store: Store, where: str) -> None:
        """A store that failed refuses everything."""
        for attempt in (lambda: store.write([Persist(WriteId(1))]), lambda: store.recover()):
            try:
                attempt()
            except StorageBroken:
                continue
            except DiskError as failure:
                self._violated(where, f"refused with {failure!r}, not with StorageBroken")
            self._violated(where, "a store that had failed took another call")

    # Changed bytes.

    def flipped_bits(self) -> None:
        """Every bit of a log of 16 KiB, of the empty space behind it, and of every other file."""
        script = plain_script(self.seed, LOG_BYTES)
        disk = self._written(script, orderly=False)
        budget = LOG_BYTES * 8
        for name in disk.names():
            used = used_bytes(disk.content(name)) * 8
            bits = min(used, budget) if name.endswith(".log") else 0
            budget -= bits
            behind = min(len(disk.content(name)) * 8 - used, EMPTY_BYTES * 8) if 0 < bits == used else 0
            self._flip_each(disk, script, name, bits + behind)
        small = self._written(self.script, orderly=True)
        for name in small.names():
            if not name.endswith(".log"):
                self._flip_each(small, self.script, name, len(small.content(name)) * 8)

    def _flip_each(self, disk: CrashDisk, script: Script, name: str, bits: int) -> None:
        # A store that refuses has written nothing, so that the same disk serves again.
        trial, changed = disk.twin(), [False]

        def note(call: Call) -> None:
            changed[0] = changed[0] or call.changes

        trial.watch = note
        for bit in range(0, bits, self.every):
            trial.flip(name, bit)
            self._refuses(trial, script, name, f"bit {bit} of {name} flipped", "flipped bits", damaged=bit // 8)
            if changed[0]:
                trial, changed[0] = disk.twin(), False
                trial.watch = note
            else:
                trial.flip(name, bit)

    def _refuses(
        self, disk: CrashDisk, script: Script, name: str, where: str, kind: str, *, damaged: int, at_risk: int = 0
    ) -> None:
        """The store names the file and a place not behind the byte at `damaged`, where a reader would begin to look;
        or it recovers everything all the same, save the last `at_risk` persists."""
        self.counts[f"{kind}: tried"] += 1
        try:
            store = self.open_store(disk)
            recovered = store.recover()
        except LogDamaged as damage:
            if damage.file != name or not 0 <= damage.offset <= damaged:
                self._violated(where, f"the error names another place: {damage}")
            self.counts[f"{kind}: refused"] += 1
            return
        except DiskError as failure:
            self._violated(where, f"refused without naming file and offset: {failure!r}")
        whole = len(script.states) - 1
        self._judge(store, recovered, _Standing(whole - at_risk, whole), script, where)
        store.close()
        self.counts[f"{kind}: harmless"] += 1

    def _written(self, script: Script, *, orderly: bool) -> CrashDisk:
        """A disk after a whole history: after an orderly close, or after the power went when all was acknowledged."""
        disk = CrashDisk()
        for _ in self.play(disk, _Standing(), script, orderly=orderly):
            pass
        return disk.crash()

    def broken_records(self) -> None:
        """Every record of the log is dropped, doubled and zeroed, and every file of it removed.

        Without an orderly close nothing proves that the very last record was ever acknowledged: it may be gone."""
        for script in (plain_script(self.seed, LOG_BYTES), self.script):
            for orderly in (True, False):
                disk = self._written(script, orderly=orderly)
                names = [name for name in disk.names() if name.endswith(".log")]
                for name in names:
                    self._break_each(disk, script, name, unproven=name == names[-1] and not orderly)
                    trial = disk.twin()
                    trial.remove(name)
                    self._refuses_missing(trial, script, name)

    def _break_each(self, disk: CrashDisk, script: Script, name: str, *, unproven: bool) -> None:
        content = disk.content(name)
        batches = batches_in(content)
        last = script.steps[-1]
        assert type(last) is WriteBatch
        for start, end in batches:
            at_risk = len(last.batch) if unproven and (start, end) == batches[-1] else 0
            for what, broken in broken_copies(content, start, end):
                trial = disk.twin()
                trial.overwrite(name, broken)
                where = f"record at {start} of {name} {what}"
                self._refuses(trial, script, name, where, f"records {what}", damaged=end, at_risk=at_risk)

    def _refuses_missing(self, disk: CrashDisk, script: Script, name: str) -> None:
        self.counts["segments removed: tried"] += 1
        try:
            store = self.open_store(disk)
            recovered = store.recover()
        except DiskError as failure:
            if name not in str(failure):
                self._violated(f"{name} removed", f"the error does not name it: {failure}")
            self.counts["segments removed: refused"] += 1
            return
        whole = _Standing(len(script.states) - 1, len(script.states) - 1)
        self._judge(store, recovered, whole, script, f"{name} removed")


def _ways_to_fail(call: Call) -> tuple[FaultKind, ...]:
    if call.operation == "write":
        return FaultKind.ERROR, FaultKind.NO_SPACE, FaultKind.SHORT
    if call.operation in ("create", "preallocate"):
        return FaultKind.ERROR, FaultKind.NO_SPACE
    if call.operation in ("sync", "sync directory"):
        return FaultKind.ERROR, FaultKind.LOST_SYNC
    return (FaultKind.ERROR,)


def _short(state: Recovered | LogState) -> str:
    """A state in few words."""
    base = state.snapshot.index if state.snapshot is not None else 0
    terms = [entry.term for entry in state.entries]
    return f"{state.hard}, snapshot at {base}, entries {base + 1} to {base + len(terms)} of terms {terms}"
