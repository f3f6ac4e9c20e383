"""One scripted history against one store on the crash disk, and the verdict on the recovered state.

`Trial` is one script and one store. Faults come from other modules: power losses and failing calls from `crash_check`,
changed bytes from `corruption_check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NoReturn, TypeAlias, final

import attrs

from raft_core.errors import DiskError
from raft_core.recovered import Recovered
from raft_core.store import Store
from raft_core.wal.filesystem import Files
from raft_core.wal.layout import segment_number
from raft_testing.disk.crash_disk import Call, CrashDisk
from raft_testing.disk.script import LogState, Reopen, Script, TakeOne, WriteBatch, is_segment, take_snapshot

__all__ = ["CrashReport", "OpenOnFiles", "Standing", "StoreViolation", "Trial"]

OpenOnFiles: TypeAlias = Callable[[Files], Store]
"""Opens, or formats, the store on this directory."""

_SEGMENTS: Final = "segments begun"
_SEEN_BEFORE: Final = "of these, of a disk that was opened before"
_KEPT_SOME: Final = "seen: recoveries that kept segments"
_KEPT_MANY: Final = "seen: recoveries that kept two segments or more"
_DROPPED_FRONT: Final = "seen: recoveries that dropped the oldest segment and kept others"
_DROPPED: Final = "seen: segments dropped while the store was open"


class StoreViolation(AssertionError):
    """A violation by a store. The text has the operation and its result."""


@final
@attrs.frozen
class CrashReport:
    """Counts of injected faults, of occurrences and of checks."""

    counts: dict[str, int]

    def __add__(self, other: CrashReport) -> CrashReport:
        return CrashReport(dict(Counter(self.counts) + Counter(other.counts)))

    @property
    def never_seen(self) -> tuple[str, ...]:
        """What a check of a log in segments must have seen to prove anything, and this one has not."""
        wanted = (_KEPT_SOME, _KEPT_MANY, _DROPPED_FRONT, _DROPPED) if self.counts.get(_SEGMENTS) else ()
        return tuple(what.removeprefix("seen: ") for what in wanted if not self.counts.get(what))

    def table(self) -> str:
        """One line per count."""
        width = max(map(len, self.counts), default=0)
        lines = [f"{name:<{width}}  {count:>9,}" for name, count in self.counts.items()]
        return "\n".join([*lines, *(f"never seen: {what}" for what in self.never_seen)])


@final
@attrs.define
class Standing:
    """The progress of a history.

    Persists acknowledged, persists handed over, the last boot number returned, and whether the store is being opened.
    """

    acknowledged: int = 0
    attempted: int = 0
    boot: int = 0
    opening: bool = False


class Trial:
    """One script, one store."""

    def __init__(self, open_store: OpenOnFiles, script: Script, seed: int, every: int) -> None:
        self.open_store = open_store
        self.script = script
        self.seed = seed
        self.every = every
        self.portion: Callable[[float], None] = lambda done: None
        """Told from time to time how much of the part under way is done: 0 to 1."""
        self.random = Random(seed)
        self.counts: Counter[str] = Counter()
        self._found: StoreViolation | None = None
        self._survived: set[object] = set()  # disks, each with its standing, that passed both openings
        self._reopened: dict[object, int | None] = {}  # the same of second openings, and which prefix they found

    # Playing a history.

    def play(
        self, disk: CrashDisk, standing: Standing, script: Script, *, orderly: bool = True
    ) -> Iterator[Store | None]:
        """Carry out the steps one by one. Yield the store whenever another is open, and None before it is reopened."""
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

    def _opened(self, disk: CrashDisk, standing: Standing, script: Script) -> Store:
        standing.opening = True
        store = self.open_store(disk)
        standing.opening = False
        recovered = store.recover()
        self.judge(store, recovered, standing, script, "in the middle of the history")
        standing.boot = recovered.boot
        # What was recovered is known to the core: from now on it counts as acknowledged.
        matching = self._prefix(recovered, standing, script)
        assert matching is not None
        standing.acknowledged = standing.attempted = matching
        return store

    def _prefix(self, recovered: Recovered, standing: Standing, script: Script) -> int | None:
        """Return the length of the longest prefix of the history equal to `recovered`."""
        for number in range(standing.attempted, standing.acknowledged - 1, -1):
            if script.states[number].agrees(recovered):
                return number
        return None

    def judge(self, store: Store, recovered: Recovered, standing: Standing, script: Script, where: str) -> None:
        """Check the recovered state, and read its snapshot.

        Raise `StoreViolation`, and whatever the reading raises.
        """
        if self._prefix(recovered, standing, script) is None:
            self.violated(where, f"{_short(recovered)}, wanted {_short(script.states[standing.acknowledged])} or later")
        if recovered.boot <= standing.boot:
            self.violated(where, f"boot number {recovered.boot} was given out before")
        if recovered.snapshot is None:
            return
        reader = store.open_snapshot(recovered.snapshot)
        state = b"".join(reader.chunks())
        reader.close()
        if state != script.snapshots[recovered.snapshot.position]:
            self.violated(where, "the snapshot holds something else")

    def must_hold(self, store: Store, recovered: Recovered, standing: Standing, script: Script, where: str) -> None:
        """Check the state recovered from a disk without faults. Raise `StoreViolation`."""
        try:
            self.judge(store, recovered, standing, script, where)
        except StoreViolation:
            raise
        except Exception as failure:  # a store under test may raise anything
            self.failed(where, "the snapshot that it recovered cannot be read", failure)

    def violated(self, where: str, text: str) -> NoReturn:
        """Raise the violation, or the first one found before it."""
        self._found = self._found or StoreViolation(f"script {self.seed}, {where}: {text}")
        raise self._found

    def failed(self, where: str, text: str, failure: Exception) -> NoReturn:
        """Raise a violation for an exception no store may raise."""
        told = str(failure) if isinstance(failure, DiskError) else repr(failure)
        self._found = self._found or StoreViolation(f"script {self.seed}, {where}: {text}: {told}")
        raise self._found from failure

    def raise_what_was_found(self) -> None:
        """Raise the first violation, in case the store caught it: some are found in the middle of its own calls."""
        if self._found is not None:
            raise self._found

    # After a fault.

    def survives(self, disk: CrashDisk, standing: Standing, where: str, script: Script | None = None) -> None:
        """Open the disk: it recovers a correct prefix, and again after the next power loss. The disk is used up.

        Many faults leave the same bytes behind, after the same part of the history: such a disk is opened once.
        """
        script = script or self.script
        self.counts["recoveries checked"] += 2
        key = self._key(disk, standing, script)
        if key in self._survived:
            self.counts[_SEEN_BEFORE] += 2
            return
        first = self._recover(disk, standing, where, script)
        found = self._prefix(first, standing, script)
        disk, again = disk.crash(), Standing(standing.acknowledged, standing.attempted, first.boot)
        key_again = self._key(disk, again, script)
        if key_again in self._reopened:
            self.counts[_SEEN_BEFORE] += 1
            found_again = self._reopened[key_again]
        else:
            second = self._recover(disk, again, f"{where}, opened twice", script)
            found_again = self._prefix(second, again, script)
        if found != found_again:
            self.violated(where, "the second opening recovered something else than the first")
        if key is not None:
            self._survived.add(key)
        if key_again is not None:
            self._reopened[key_again] = found_again

    def _key(self, disk: CrashDisk, standing: Standing, script: Script) -> object | None:
        """Return what decides the verdict on a disk, None if its cache does too."""
        digest = disk.digest() if script is self.script else None
        if digest is None:
            return None
        return digest, standing.acknowledged, standing.attempted, standing.boot

    def _recover(self, disk: CrashDisk, standing: Standing, where: str, script: Script) -> Recovered:
        before = _segments(disk)
        try:
            store = self.open_store(disk)
            recovered = store.recover()
        except Exception as failure:  # a store under test may raise anything
            self.failed(where, "refused to open", failure)
        self.must_hold(store, recovered, standing, script, where)
        self._count_kept(before, _segments(disk))
        return recovered

    # What was seen of a log in segments.

    def _count_kept(self, before: list[str], after: list[str]) -> None:
        kept = [name for name in before if name in after]
        if not kept:
            return
        self.counts[_KEPT_SOME] += 1
        self.counts[_KEPT_MANY] += len(kept) > 1
        self.counts[_DROPPED_FRONT] += kept[0] != before[0]

    def count_dropped(self, call: Call, standing: Standing) -> None:
        """Count a segment removed while the store is open: it was superfluous, not merged."""
        if call.operation == "unlink" and not standing.opening and segment_number(call.name) is not None:
            self.counts[_DROPPED] += 1

    def count_script(self, disk: CrashDisk) -> None:
        """Count the contents of the history and the segments of its log."""
        self.counts["operations in the script"] += len(self.script.steps)
        ours = [segment_number(name) or 0 for name in _segments(disk) if is_segment(name, disk.content(name))]
        self.counts[_SEGMENTS] += max(ours, default=0)
        self.counts["snapshots in the script"] += len(self.script.snapshots)


def _segments(disk: CrashDisk) -> list[str]:
    """Return the files named like the log's segments, oldest first."""
    return [name for name in disk.listing() if segment_number(name) is not None]


def _short(state: Recovered | LogState) -> str:
    """Return a state in few words."""
    base = state.snapshot.index if state.snapshot is not None else 0
    terms = [entry.term for entry in state.entries]
    return f"{state.hard}, snapshot at {base}, entries {base + 1} to {base + len(terms)} of terms {terms}"
