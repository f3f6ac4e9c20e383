"""The log as a store sees it: its state after a sequence of changes.

`LogIndex` knows everything but the entries' contents, and turns a `Persist` into the `Change` to write; `LogImage`
holds the entries too. Stores use the first while running, recovery the second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import count
from typing import final

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, LogPosition, SnapshotMeta, first_mismatch
from raft_core.errors import CallerError
from raft_core.ids import NO_TERM, Index, Term
from raft_core.wal.records import Change, SegmentHeader

__all__ = ["LogImage", "LogIndex"]


class LogIndex:
    """Hard state, snapshot and the terms of entries.

    `first`: entries below are obsolete; `next`: the index of the next entry; entries below `known_from` are unknown
    here, because their segments are deleted.
    """

    __slots__ = ("_starts", "_terms", "first", "hard", "known_from", "next", "snapshot")

    def __init__(self, header: SegmentHeader | None = None) -> None:
        self.hard = header.hard if header is not None else HardState()
        self.snapshot: SnapshotMeta | None = header.snapshot if header is not None else None
        self.first = header.first if header is not None else Index(1)
        self.next = header.next if header is not None else Index(1)
        self.known_from = self.next
        self._starts: list[int] = []  # rising; the first index of each run of entries with the term beside it
        self._terms: list[Term] = []

    @property
    def base(self) -> Index:
        """Return the snapshot's index, 0 without one: a restart begins there."""
        return self.snapshot.index if self.snapshot is not None else Index(0)

    def term_at(self, index: Index) -> Term:
        """Return the term of the entry at `index`, or of the snapshot's position; 0 if unknown."""
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        if not self.known_from <= index < self.next:
            return NO_TERM
        return self._terms[bisect_right(self._starts, index) - 1]

    def change(self, persist: Persist) -> Change:
        """Apply `persist` and return the change to write.

        Raise `CallerError`, and change nothing, if it does not fit the earlier writes.
        """
        snapshot = persist.snapshot
        change = Change(
            hard=persist.hard,
            truncate_from=persist.truncate_from,
            entries=persist.entries,
            snapshot=snapshot,
            discard=snapshot is not None and not self._will_hold(snapshot, persist),
            drop_before=persist.drop_before,
        )
        if (problem := self.problem(change)) is not None:
            raise CallerError(f"write {persist.write} does not fit the log: {problem}")
        self.apply(change)
        return change

    def apply(self, change: Change) -> None:
        """Apply a change that is known to fit."""
        if change.hard is not None:
            self.hard = change.hard
        if change.truncate_from:
            self._truncate(change.truncate_from)
        if change.entries:
            self._append_terms(change.entries)
            self.next = Index(change.entries[-1].index + 1)
        if change.snapshot is not None:
            self._switch(change.snapshot, discard=change.discard)
        # Entries outside any snapshot are needed, whatever the caller asks for.
        self.first = max(self.first, min(change.drop_before, Index(self.base + 1)))

    def problem(self, change: Change) -> str | None:
        """Return the reason why `change` cannot follow, or None."""
        if change.truncate_from and not self.base < change.truncate_from <= self.next:
            return f"it truncates from {change.truncate_from}, the log is from {self.base + 1} to {self.next - 1}"
        following = change.truncate_from or self.next
        indexes = [entry.index for entry in change.entries]
        if indexes != list(range(following, following + len(indexes))):
            wrong, index = next(pair for pair in zip(indexes, count(following), strict=False) if pair[0] != pair[1])
            return f"it appends entry {wrong} where {index} follows"
        if change.snapshot is not None and change.snapshot.index < self.base:
            return f"it switches to a snapshot at {change.snapshot.index}, behind the one at {self.base}"
        return None

    def _will_hold(self, snapshot: SnapshotMeta, persist: Persist) -> bool:
        """Return whether the log holds the snapshot's position once the entries of `persist` are written."""
        for entry in persist.entries:
            if entry.index == snapshot.index:
                return entry.term == snapshot.term
        if persist.truncate_from and snapshot.index >= persist.truncate_from:
            return False
        return self.term_at(snapshot.index) == snapshot.term

    def _append_terms(self, entries: Sequence[Entry]) -> None:
        terms = {entry.term for entry in entries}
        if terms == {self._terms[-1] if self._terms else NO_TERM}:
            return
        for entry in entries:
            if not self._terms or self._terms[-1] != entry.term:
                self._starts.append(entry.index)
                self._terms.append(entry.term)

    def _truncate(self, start: Index) -> None:
        while self._starts and self._starts[-1] >= start:
            self._starts.pop()
            self._terms.pop()
        self.next = start
        self.known_from = min(self.known_from, start)

    def _switch(self, snapshot: SnapshotMeta, *, discard: bool) -> None:
        self.snapshot = snapshot
        if not discard:
            return
        self._starts.clear()
        self._terms.clear()
        self.next = self.known_from = self.first = Index(snapshot.index + 1)


@final
class LogImage(LogIndex):
    """The index with the entries from `known_from` on."""

    __slots__ = ("entries",)

    def __init__(self, header: SegmentHeader | None = None) -> None:
        super().__init__(header)
        self.entries: list[Entry] = []

    def apply(self, change: Change) -> None:
        """Apply a change that is known to fit."""
        if change.truncate_from:
            del self.entries[max(0, change.truncate_from - self.known_from) :]
        self.entries += change.entries
        super().apply(change)
        if change.discard:
            self.entries.clear()

    def forget(self, below: Index) -> None:
        """Forget the entries below."""
        if below > self.known_from:
            del self.entries[: below - self.known_from]
            self.known_from = below

    def forget_unneeded(self) -> None:
        """Hold no entries below `first`, and let `first` name no entry that is not held."""
        self.first = max(self.first, min(self.known_from, Index(self.base + 1)))
        self.forget(self.first)

    def behind_snapshot(self) -> tuple[Entry, ...]:
        """Return the entries that no snapshot holds."""
        return tuple(self.entries[max(0, self.base + 1 - self.known_from) :])

    def covered(self) -> tuple[Entry, ...]:
        """Return the held entries up to the snapshot's position.

        None unless the last is the entry at that position: then log matching (§5.3) makes all of them the entries that
        the snapshot was made from.
        """
        held = tuple(self.entries[: max(0, self.base + 1 - self.known_from)])
        if self.snapshot is None or not held or LogPosition(held[-1].index, held[-1].term) != self.snapshot.position:
            return ()
        return held

    def problem(self, change: Change) -> str | None:
        """Return the reason why `change` cannot follow, or None."""
        entry = first_mismatch(change.entries)
        if entry is not None:
            return f"the checksum of entry {entry.index} is wrong"
        return super().problem(change)

    def outline(self) -> LogIndex:
        """Return an independent copy without contents."""
        copy = LogIndex()
        copy.hard, copy.snapshot = self.hard, self.snapshot
        copy.first, copy.next, copy.known_from = self.first, self.next, self.known_from
        copy._starts, copy._terms = list(self._starts), list(self._terms)
        return copy
