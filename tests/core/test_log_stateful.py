"""The log beside a plain list: any order of appends, truncations, compactions and resets."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raft_core.entries import ENTRY_OVERHEAD, Entry, LogPosition
from raft_core.ids import Index, Term
from raft_core.log import Log
from tests.profiles import stateful

PLACE = st.integers(0, 60)  # taken modulo the number of possible places
BYTES = st.integers(0, 300)


def total(held: Sequence[Entry]) -> int:
    return sum(len(entry.data) + ENTRY_OVERHEAD for entry in held)


class LogBesideList(RuleBasedStateMachine):
    """`held` are the entries after `base`, a pair of index and term."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.held: list[Entry] = []
        self.base = (0, 0)

    @property
    def last(self) -> int:
        return self.base[0] + len(self.held)

    @property
    def last_term(self) -> int:
        return self.held[-1].term if self.held else self.base[1]

    def term_of(self, index: int) -> int | None:
        if index == self.base[0]:
            return self.base[1]
        return self.held[index - self.base[0] - 1].term if self.base[0] < index <= self.last else None

    # Changes.

    @rule(step=st.integers(0, 2), sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def append(self, step: int, sizes: list[int]) -> None:
        new = [Entry.make(self.last + n, self.last_term + step, b"x" * size) for n, size in enumerate(sizes, 1)]
        self.log.append(tuple(new))
        self.held += new

    @precondition(lambda self: self.held)
    @rule(place=PLACE)
    def truncate(self, place: int) -> None:
        place %= len(self.held)
        self.log.truncate_from(Index(self.base[0] + 1 + place))
        del self.held[place:]

    @rule(place=PLACE)
    def compact(self, place: int) -> None:
        count = place % (len(self.held) + 1)
        upto = self.base[0] + count
        term = self.term_of(upto)
        assert term is not None
        self.log.compact(Index(upto))
        self.base = (upto, term)
        del self.held[:count]

    @rule(further=st.integers(0, 5), step=st.integers(0, 2))
    def reset(self, further: int, step: int) -> None:
        self.base = (self.last + further, self.last_term + step)
        self.log.reset(LogPosition(Index(self.base[0]), Term(self.base[1])))
        self.held = []

    # Questions.

    @rule(one=PLACE, other=PLACE, most=BYTES)
    def slice_stops_at_its_bytes(self, one: int, other: int, most: int) -> None:
        first, last = sorted((one % (len(self.held) + 1), other % (len(self.held) + 1)))
        wanted = self.held[first:last]
        fitting = [n for n in range(1, len(wanted) + 1) if n == 1 or total(wanted[:n]) <= most]
        found = self.log.slice(Index(self.base[0] + first + 1), Index(self.base[0] + last), most)
        assert list(found) == wanted[: max(fitting, default=0)]
        assert self.log.size_between(Index(self.base[0] + first), Index(self.base[0] + last)) == total(wanted)

    @rule(place=PLACE, most_entries=st.integers(0, 4), most_bytes=BYTES)
    def place_to_keep_is_lowest_that_fits(self, place: int, most_entries: int, most_bytes: int) -> None:
        count = place % (len(self.held) + 1)
        kept = next(
            start
            for start in range(count + 1)
            if count - start <= most_entries and total(self.held[start:count]) <= most_bytes
        )
        assert self.log.place_to_keep(Index(self.base[0] + count), most_entries, most_bytes) == self.base[0] + kept

    @rule(place=PLACE, below=st.integers(0, 4))
    def hint_is_last_position_not_above_term(self, place: int, below: int) -> None:
        index = max(0, self.base[0] - 1) + place % (len(self.held) + 3)
        term = max(0, self.last_term - below)
        places = [at for at in range(self.base[0] + 1, min(index, self.last) + 1) if (self.term_of(at) or 0) <= term]
        best = places[-1] if places else self.base[0]
        assert self.log.last_at_most(Index(index), Term(term)) == LogPosition(
            Index(best), Term(self.term_of(best) or 0)
        )

    @rule(place=PLACE, changed=st.integers(0, 6), beyond=st.integers(0, 2))
    def first_conflict_is_first_difference(self, place: int, changed: int, beyond: int) -> None:
        offered = self.held[place % (len(self.held) + 1) :]
        same = min(changed, len(offered))
        other = [Entry.make(entry.index, entry.term + 1, b"other") for entry in offered[same:]]
        new = [Entry.make(self.last + n, self.last_term + 1, b"new") for n in range(1, beyond + 1)]
        assert self.log.first_conflict([*offered[:same], *other, *new]) == same

    # Always.

    @invariant()
    def both_hold_the_same(self) -> None:
        log = self.log
        assert list(log.entries()) == self.held
        assert [log.entry(entry.index) for entry in self.held] == self.held
        assert (len(log), log.size) == (len(self.held), total(self.held))
        assert (log.base, log.first_index, log.last) == (
            LogPosition(Index(self.base[0]), Term(self.base[1])),
            self.base[0] + 1,
            LogPosition(Index(self.last), Term(self.last_term)),
        )

    @invariant()
    def terms_are_known_from_the_base_to_the_end(self) -> None:
        for index in range(max(0, self.base[0] - 2), self.last + 3):
            term = self.term_of(index)
            assert self.log.term_at(Index(index)) == term
            assert term is None or self.log.matches(Index(index), Term(term))
            assert not self.log.matches(Index(index), Term(10**6))


TestLogBesideList = stateful(LogBesideList, runs=40, steps=25)
