"""The tail of the log in memory: match, append, truncate, compact, slice.

What lives here: entries and positions. Nothing here knows what is durable (`outbox`) or committed (`server`).
Everything after `base` is held; what lies at or before it is known only as a snapshot.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import final

from raft_core.entries import COMMAND, ENTRY_OVERHEAD, START, Entry, LogPosition
from raft_core.errors import invariant
from raft_core.ids import NO_TERM, Index, Term

__all__ = ["Log", "entry_bytes"]


def entry_bytes(entries: Sequence[Entry]) -> int:
    """What these entries are charged: their data and `ENTRY_OVERHEAD` each."""
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD * len(entries)


def _term_of(entry: Entry) -> Term:
    return entry.term


@final
class Log:
    """Consecutive entries after `base`; terms never fall along it (§5.3)."""

    __slots__ = ("_entries", "base", "last_index", "last_term", "size")

    def __init__(self, base: LogPosition = START, entries: Sequence[Entry] = ()) -> None:
        self.base = base
        self._entries: list[Entry] = []
        self.last_index: Index = base.index
        self.last_term: Term = base.term
        self.size = 0  # bytes charged for everything held
        if entries:
            self.append(entries)

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
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term
        self.size += entry_bytes(entries)

    def truncate_from(self, index: Index) -> None:
        """Nothing at or after `index` is held any more."""
        place = index - self.base.index - 1
        invariant(place >= 0, "only entries after the base can be truncated")
        self.size -= entry_bytes(self._entries[place:])
        del self._entries[place:]
        self._find_end()

    def compact(self, upto: Index) -> None:
        """Nothing at or before `upto` is held any more; its position is the new base."""
        term = self.term_at(upto)
        invariant(term is not None, "the log can be compacted only at a place that it holds")
        assert term is not None
        count = upto - self.base.index
        self.size -= entry_bytes(self._entries[:count])
        del self._entries[:count]
        self.base = LogPosition(upto, term)
        self._find_end()

    def reset(self, base: LogPosition) -> None:
        """The log is empty after `base`: what a snapshot leaves that it does not connect to (fig. 13 rule 7)."""
        self._entries.clear()
        self.size = 0
        self.base = base
        self._find_end()

    def slice(self, first: Index, last: Index, max_bytes: int) -> tuple[Entry, ...]:
        """Entries `first` to `last`, as many as fit into `max_bytes` but at least one; all must be held."""
        base = self.base.index
        found = self._entries[first - base - 1 : last - base]
        if len(found) == 1:
            return (found[0],)
        total = 0
        for count, entry in enumerate(found):
            total += len(entry.data) + ENTRY_OVERHEAD
            if total > max_bytes and count:
                return tuple(found[:count])
        return tuple(found)

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
        kept, total = upto, 0
        while kept > self.base.index and upto - kept < most_entries:
            total += len(self.entry(kept).data) + ENTRY_OVERHEAD
            if total > most_bytes:
                break
            kept = Index(kept - 1)
        return kept

    def command_bytes_after(self, index: Index) -> int:
        """What the commands after `index` are charged; no-ops and configurations are free, so never refused for it."""
        held = self._entries[max(0, index - self.base.index) :]
        return entry_bytes([entry for entry in held if entry.kind is COMMAND])

    def _find_end(self) -> None:
        if self._entries:
            last = self._entries[-1]
            self.last_index, self.last_term = last.index, last.term
        else:
            self.last_index, self.last_term = self.base.index, self.base.term if self.base.index else NO_TERM
