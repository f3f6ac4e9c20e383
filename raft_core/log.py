"""The tail of the log in memory: match, append, truncate, compact, slice.

What lives here: entries and positions. Nothing here knows what is durable (`outbox`) or committed (`server`).
Everything after `base` is held; what lies at or before it is known only as a snapshot.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import final

from raft_core.entries import ENTRY_OVERHEAD, START, Entry, LogPosition
from raft_core.errors import invariant
from raft_core.ids import Index, Term

__all__ = ["Log"]


def _term_of(entry: Entry) -> Term:
    return entry.term


@final
class Log:
    """Consecutive entries after `base`; terms never fall along it (§5.3).

    An entry is charged its data and `ENTRY_OVERHEAD`. The running totals make every question about bytes, and every
    slice bounded in bytes, independent of how many entries it spans."""

    __slots__ = ("_before", "_entries", "_totals", "base", "last_index", "last_term")

    def __init__(self, base: LogPosition = START, entries: Sequence[Entry] = ()) -> None:
        self.base = base
        self._entries: list[Entry] = []
        self._totals: list[int] = []  # per entry: what everything up to it is charged, `_before` included
        self._before = 0  # what the total was when the first held entry came
        self.last_index: Index = base.index
        self.last_term: Term = base.term
        if entries:
            self.append(entries)

    @property
    def size(self) -> int:
        """What everything held is charged."""
        return self._totals[-1] - self._before if self._totals else 0

    def size_between(self, after: Index, upto: Index) -> int:
        """What the entries behind `after`, up to `upto`, are charged; both places must be held or the base."""
        base = self.base.index
        high = self._totals[upto - base - 1] if upto > base else self._before
        return high - (self._totals[after - base - 1] if after > base else self._before)

    @property
    def first_index(self) -> Index:
        """Where the first held entry is, or would be."""
        return Index(self.base.index + 1)

    @property
    def last(self) -> LogPosition:
        return LogPosition(self.last_index, self.last_term)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[Entry, ...]:
        """Everything held, for tests and tools."""
        return tuple(self._entries)

    def entry(self, index: Index) -> Entry:
        """The entry at `index`, which must be held."""
        return self._entries[index - self.base.index - 1]

    def term_at(self, index: Index) -> Term | None:
        """The term at `index`; None where it is compacted or beyond the end."""
        if index == self.last_index:
            return self.last_term
        place = index - self.base.index - 1
        if place < 0:
            return self.base.term if place == -1 else None
        return self._entries[place].term if place < len(self._entries) else None

    def matches(self, index: Index, term: Term) -> bool:
        """The log holds an entry, or ends in a snapshot, with this index and term (§5.3)."""
        return self.term_at(index) == term

    def append(self, entries: Sequence[Entry]) -> None:
        """`entries` follow the last one."""
        invariant(entries[0].index == self.last_index + 1, "appended entries follow the last entry")
        invariant(entries[0].term >= self.last_term, "terms never fall along the log")
        self._entries.extend(entries)
        total = self._totals[-1] if self._totals else self._before
        if len(entries) == 1:
            self._totals.append(total + len(entries[0].data) + ENTRY_OVERHEAD)
        else:
            sizes = [len(entry.data) + ENTRY_OVERHEAD for entry in entries]
            sizes[0] += total
            self._totals.extend(accumulate(sizes))
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term

    def truncate_from(self, index: Index) -> None:
        """Nothing at or after `index` is held any more."""
        place = index - self.base.index - 1
        invariant(place >= 0, "only entries after the base can be truncated")
        del self._entries[place:]
        del self._totals[place:]
        self._find_end()

    def compact(self, upto: Index) -> None:
        """Nothing at or before `upto` is held any more; its position is the new base."""
        term = self.term_at(upto)
        invariant(term is not None, "the log can be compacted only at a place that it holds")
        assert term is not None
        count = upto - self.base.index
        if count > 0:
            self._before = self._totals[count - 1]
        del self._entries[:count]
        del self._totals[:count]
        self.base = LogPosition(upto, term)
        self._find_end()

    def reset(self, base: LogPosition) -> None:
        """The log is empty after `base`: what a snapshot leaves that it does not connect to (fig. 13 rule 7)."""
        self._entries.clear()
        self._totals.clear()
        self._before = 0
        self.base = base
        self._find_end()

    def slice(self, first: Index, last: Index, max_bytes: int) -> tuple[Entry, ...]:
        """Entries `first` to `last`, as many as fit into `max_bytes` but at least one; all must be held."""
        start, end = first - self.base.index - 1, last - self.base.index
        if end - start > 1:
            spent = self._totals[start - 1] if start else self._before
            fit = bisect_right(self._totals, spent + max_bytes, start, end)
            end = fit if fit > start else start + 1
        return tuple(self._entries[start:end])

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """How many of `entries` the log holds already, from the first on; the next one is new or conflicts."""
        for count, entry in enumerate(entries):
            if self.term_at(entry.index) != entry.term:
                return count
        return len(entries)

    def last_at_most(self, index: Index, term: Term) -> LogPosition:
        """The last place at or before `index` whose term is at most `term`, or the base where there is none.

        The heart of the rejection hints, which skip whole terms (end of §5.3). O(log n)."""
        if index > self.last_index:
            index = self.last_index
        count = index - self.base.index
        if count <= 0:
            return self.base
        place = bisect_right(self._entries, term, 0, count, key=_term_of)
        if place == 0:
            return self.base
        entry = self._entries[place - 1]
        return LogPosition(entry.index, entry.term)

    def place_to_keep(self, upto: Index, most_entries: int, most_bytes: int) -> Index:
        """The lowest base that keeps at most so many entries and bytes at or before `upto`."""
        end = upto - self.base.index
        if end <= 0:
            return self.base.index
        spared = self._totals[end - 1] - most_bytes
        dropped = bisect_left(self._totals, spared) + 1 if spared > self._before else 0
        return Index(max(self.base.index + dropped, upto - most_entries))

    def _find_end(self) -> None:
        if self._entries:
            last = self._entries[-1]
            self.last_index, self.last_term = last.index, last.term
        else:
            self.last_index, self.last_term = self.base.index, self.base.term
