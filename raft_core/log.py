"""The log in memory: match, append, truncate, compact, slice.

It holds all entries after `base`; those up to `base` exist only in a snapshot. Durability is the outbox's concern,
the commit index the server's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.entries import ENTRY_OVERHEAD, START, Entry, LogPosition, bytes_of, running_totals
from raft_core.errors import InvariantBroken, invariant
from raft_core.ids import Index, Term

__all__ = ["Log"]


_STEP: Final = 8
"""A total for so many entries: fewer take less memory, more make the sum from one to an index shorter."""


def _term_of(entry: Entry) -> Term:
    return entry.term


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Log:
    """Consecutive entries after `base`; terms never fall along it (§5.3).

    Each entry counts its data and `ENTRY_OVERHEAD`. Thanks to totals at each multiple of `_STEP`, sizes and slices by
    bytes cost about the same for few and for many entries.
    """

    __slots__ = ("_before", "_entries", "_totals", "base_index", "base_term", "last_index", "last_term", "size")

    def __init__(self, base: LogPosition = START, entries: Sequence[Entry] = ()) -> None:
        self.base_index: Index = base.index
        self.base_term: Term = base.term
        self._entries: list[Entry] = []
        self._totals: list[int] = []  # bytes up to each multiple of `_STEP` behind the base, including `_before`
        self._before = 0  # the total before the first held entry
        self.size = 0  # bytes of all held entries
        self.last_index: Index = base.index
        self.last_term: Term = base.term
        if entries:
            self.append(entries)

    def size_between(self, after: Index, upto: Index) -> int:
        """Return the bytes of the entries after `after` up to `upto`; both must be held or the base."""
        return self._total(upto) - self._total(after)

    def _total(self, index: Index) -> int:
        """Return the bytes up to `index`, which is held or the base, including `_before`."""
        if index == self.last_index:
            return self._before + self.size
        base = self.base_index
        mark = index - index % _STEP
        total, start = self._before, 0
        if mark > base:
            total, start = self._totals[mark // _STEP - base // _STEP - 1], mark - base
        end = index - base
        return total + bytes_of(self._entries[start:end]) if end > start else total

    @property
    def base(self) -> LogPosition:
        """The position before the first held entry."""
        return LogPosition(self.base_index, self.base_term)

    @property
    def first_index(self) -> Index:
        """The index of the first held entry, or of the next one in an empty log."""
        return Index(self.base_index + 1)

    @property
    def last(self) -> LogPosition:
        """The position of the last entry, or the base of an empty log."""
        return LogPosition(self.last_index, self.last_term)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[Entry, ...]:
        """Return all held entries, for tests and tools."""
        return tuple(self._entries)

    def entry(self, index: Index) -> Entry:
        """Return the entry at `index`, which must be held."""
        return self._entries[index - self.base_index - 1]

    def term_at(self, index: Index) -> Term | None:
        """Return the term at `index`; None if it is compacted or after the end."""
        if index == self.last_index:
            return self.last_term
        place = index - self.base_index - 1
        if place < 0:
            return self.base_term if place == -1 else None
        return self._entries[place].term if place < len(self._entries) else None

    def matches(self, index: Index, term: Term) -> bool:
        """Return whether an entry or the base has this index and term (§5.3)."""
        return self.term_at(index) == term

    def append(self, entries: Sequence[Entry]) -> None:
        """Append `entries` after the last one."""
        first, last = entries[0], entries[-1]
        term = first.term
        if first.index != self.last_index + 1:
            raise InvariantBroken("appended entries follow the last entry")
        if term < self.last_term:
            raise InvariantBroken("terms never fall along the log")
        if first is last:
            self.append_one(first, term, len(first.data))
            return
        self._entries.extend(entries)
        totals = running_totals(entries, self._before + self.size)
        self._totals.extend(totals[-(self.last_index + 1) % _STEP :: _STEP])
        self.size = totals[-1] - self._before
        self.last_index = last.index
        self.last_term = last.term

    def append_one(self, entry: Entry, term: Term, data_bytes: int) -> None:
        """Append the next entry, whose term and size the caller knows."""
        self._entries.append(entry)
        self.size += data_bytes + ENTRY_OVERHEAD
        self.last_index = Index(self.last_index + 1)
        if self.last_index % _STEP == 0:
            self._totals.append(self._before + self.size)
        self.last_term = term

    def truncate_from(self, index: Index) -> None:
        """Remove all entries from `index` on."""
        place = index - self.base_index - 1
        invariant(place >= 0, "only entries after the base can be truncated")
        size = self._total(Index(index - 1)) - self._before
        del self._entries[place:]
        del self._totals[(index - 1) // _STEP - self.base_index // _STEP :]
        self.size = size
        self._find_end()

    def compact(self, upto: Index) -> None:
        """Drop all entries up to `upto`; its position is the new base."""
        term = self.term_at(upto)
        invariant(term is not None, "the log can be compacted only at a place that it holds")
        assert term is not None
        count = upto - self.base_index
        before = self._total(upto)
        self.size -= before - self._before
        self._before = before
        del self._entries[:count]
        del self._totals[: upto // _STEP - self.base_index // _STEP]
        self.base_index, self.base_term = upto, term
        self._find_end()

    def reset(self, base: LogPosition) -> None:
        """Drop the whole log for a snapshot at `base` it does not connect to (fig. 13 rule 7)."""
        self._entries.clear()
        self._totals.clear()
        self._before = 0
        self.size = 0
        self.base_index, self.base_term = base.index, base.term
        self._find_end()

    def slice(self, first: Index, last: Index, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries `first` to `last`, as many as fit into `max_bytes`, at least one; all must be held."""
        return self.page(Index(first - 1), last, max_bytes)[0] if first <= last else ()

    def page(self, after: Index, upto: Index, max_bytes: int) -> tuple[tuple[Entry, ...], int]:
        """Return the entries after `after` up to `upto`, and their bytes: as many as fit, at least one."""
        start = after - self.base_index
        if upto - after == 1:
            entry = self._entries[start]
            return (entry,), len(entry.data) + ENTRY_OVERHEAD
        spent = self._total(after)
        size = self._total(upto) - spent
        end = upto - self.base_index
        if size > max_bytes:
            end, total = self._last_within(spent + max_bytes)
            if end <= start:
                end, total = start + 1, spent + len(self._entries[start].data) + ENTRY_OVERHEAD
            size = total - spent
        return tuple(self._entries[start:end]), size

    def _last_within(self, limit: int) -> tuple[int, int]:
        """Return how many entries have a total of at most `limit`, and this total."""
        marks = bisect_right(self._totals, limit)
        place, total = 0, self._before
        if marks:
            place = (self.base_index // _STEP + marks) * _STEP - self.base_index
            total = self._totals[marks - 1]
        while place < len(self._entries):
            size = len(self._entries[place].data) + ENTRY_OVERHEAD
            if total + size > limit:
                break
            total += size
            place += 1
        return place, total

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """Return how many of `entries`, from the first on, are already in the log; the next is new or conflicts."""
        for count, entry in enumerate(entries):
            if self.term_at(entry.index) != entry.term:
                return count
        return len(entries)

    def last_at_most(self, index: Index, term: Term) -> LogPosition:
        """Return the last position up to `index` with a term of at most `term`; the base if there is none.

        Rejection hints use it to skip whole terms (end of §5.3). O(log n).
        """
        if index > self.last_index:
            index = self.last_index
        count = index - self.base_index
        if count <= 0:
            return self.base
        place = bisect_right(self._entries, term, 0, count, key=_term_of)
        if place == 0:
            return self.base
        entry = self._entries[place - 1]
        return LogPosition(entry.index, entry.term)

    def place_to_keep(self, upto: Index, most_entries: int, most_bytes: int) -> Index:
        """Return the lowest base with at most `most_entries` and `most_bytes` kept up to `upto`."""
        end = upto - self.base_index
        if end <= 0:
            return self.base_index
        spared = self._total(upto) - most_bytes
        dropped = self._last_within(spared - 1)[0] + 1 if spared > self._before else 0
        return Index(max(self.base_index + dropped, upto - most_entries))

    def _find_end(self) -> None:
        if self._entries:
            last = self._entries[-1]
            self.last_index, self.last_term = last.index, last.term
        else:
            self.last_index, self.last_term = self.base_index, self.base_term
