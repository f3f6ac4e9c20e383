"""The log in memory: match, append, truncate, compact, slice. `test_log_stateful` compares it with a plain list."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raft_core.entries import ENTRY_OVERHEAD, START, Entry, LogPosition
from raft_core.errors import InvariantBroken
from raft_core.ids import Index, Term
from raft_core.log import Log
from tests.core.helpers import entries


def entry_bytes(held: Sequence[Entry]) -> int:
    return sum(len(entry.data) + ENTRY_OVERHEAD for entry in held)


def at(index: int, term: int) -> LogPosition:
    return LogPosition(Index(index), Term(term))


def log_of(*terms: int, base: LogPosition = START) -> Log:
    return Log(base, entries(*[(base.index + place, term) for place, term in enumerate(terms, 1)]))


def test_an_empty_log_ends_where_its_base_is() -> None:
    log = Log(at(10, 3))

    assert (log.first_index, log.last, len(log), log.size) == (11, at(10, 3), 0, 0)
    assert log.matches(Index(10), Term(3))
    assert Log().matches(Index(0), Term(0))


def test_a_log_knows_terms_from_its_base_to_its_end_and_nothing_beyond() -> None:
    log = log_of(4, 4, 6, base=at(10, 3))

    assert [log.term_at(Index(i)) for i in range(8, 16)] == [None, None, 3, 4, 4, 6, None, None]
    assert tuple(log.entry(Index(i)) for i in range(11, 14)) == log.entries() == entries((11, 4), (12, 4), (13, 6))


def test_entries_that_do_not_follow_the_last_one_cannot_be_appended() -> None:
    log = log_of(1, 2)

    with pytest.raises(InvariantBroken):
        log.append(entries((4, 2)))
    with pytest.raises(InvariantBroken):
        log.append(entries((3, 1)))
    with pytest.raises(InvariantBroken):
        log_of(base=at(5, 1)).truncate_from(Index(5))
    with pytest.raises(InvariantBroken):
        log.compact(Index(3))


def test_truncating_takes_an_entry_and_all_that_follow() -> None:
    log = log_of(1, 1, 2, 3)

    log.truncate_from(Index(3))

    assert log.entries() == entries((1, 1), (2, 1))
    assert log.last == at(2, 1)
    assert log.size == entry_bytes(log.entries())


def test_truncating_everything_leaves_the_base() -> None:
    log = log_of(4, 4, base=at(10, 3))

    log.truncate_from(Index(11))

    assert (log.last, log.size) == (at(10, 3), 0)


def test_compacting_moves_the_base_and_keeps_what_follows() -> None:
    log = log_of(1, 1, 2, 3)

    log.compact(Index(3))

    assert (log.base, log.first_index, log.last) == (at(3, 2), 4, at(4, 3))
    assert log.size == entry_bytes(log.entries())


def test_a_reset_log_holds_nothing_behind_its_new_base() -> None:
    log = log_of(1, 1, 2)

    log.reset(at(20, 5))

    assert (log.base, log.last, len(log), log.size) == (at(20, 5), at(20, 5), 0, 0)


def test_a_log_that_was_reset_counts_its_bytes_from_nothing() -> None:
    log = log_of(1, 1, 2)
    log.compact(Index(1))
    log.reset(at(20, 5))

    log.append(entries((21, 5), (22, 6)))

    assert log.size == log.size_between(Index(20), Index(22)) == entry_bytes(log.entries())


def test_a_slice_stops_at_its_bytes_but_holds_at_least_one_entry() -> None:
    log = log_of(1, 1, 1, 1)
    each = ENTRY_OVERHEAD + len(b"1@1")

    assert log.slice(Index(2), Index(4), 10**9) == entries((2, 1), (3, 1), (4, 1))
    assert log.slice(Index(2), Index(4), 2 * each) == entries((2, 1), (3, 1))
    assert log.slice(Index(2), Index(4), 2 * each - 1) == entries((2, 1))
    assert log.slice(Index(2), Index(4), 0) == entries((2, 1))
    assert log.slice(Index(2), Index(3), 10**9) == entries((2, 1), (3, 1))
    assert log.slice(Index(5), Index(4), 10**9) == log.slice(Index(3), Index(2), 10**9) == ()


def test_the_first_conflict_is_the_first_entry_that_is_new_or_of_another_term() -> None:
    log = log_of(1, 1, 2)

    assert log.first_conflict(entries((2, 1), (3, 2))) == 2
    assert log.first_conflict(entries((2, 1), (3, 3))) == 1
    assert log.first_conflict(entries((3, 2), (4, 2))) == 1
    assert log.first_conflict(entries((4, 2))) == 0


def test_a_hint_is_the_last_place_whose_term_is_not_above() -> None:
    log = log_of(1, 1, 1, 4, 4, 5, base=at(2, 1))

    assert log.last_at_most(Index(8), Term(5)) == at(8, 5)
    assert log.last_at_most(Index(99), Term(4)) == at(7, 4)
    assert log.last_at_most(Index(7), Term(3)) == at(5, 1)
    assert log.last_at_most(Index(4), Term(9)) == at(4, 1)
    assert log.last_at_most(Index(8), Term(0)) == at(2, 1)
    assert log.last_at_most(Index(3), Term(9)) == at(3, 1)
    assert [log.last_at_most(Index(index), Term(9)) for index in (0, 1, 2)] == [at(2, 1)] * 3


def test_the_place_to_keep_from_is_bounded_by_entries_and_by_bytes() -> None:
    log = log_of(1, 1, 1, 1, 1)
    each = ENTRY_OVERHEAD + len(b"1@1")

    assert log.place_to_keep(Index(4), 2, 10**9) == 2
    assert log.place_to_keep(Index(4), 0, 10**9) == 4
    assert log.place_to_keep(Index(4), 99, 10**9) == 0
    assert log.place_to_keep(Index(4), 99, 3 * each) == 1
    assert log.place_to_keep(Index(4), 99, 3 * each - 1) == 2
    assert log.place_to_keep(Index(4), 99, 4 * each) == 0
    assert log.place_to_keep(Index(4), 99, 4 * each - 1) == 1
    assert log.place_to_keep(Index(1), 0, 0) == 1


def test_the_place_to_keep_from_is_never_before_the_base() -> None:
    log = log_of(1, 1, 1, base=at(10, 1))
    each = entry_bytes(log.entries()) // 3

    assert [log.place_to_keep(Index(upto), 0, 0) for upto in (9, 10, 11, 12)] == [10, 10, 11, 12]
    assert log.place_to_keep(Index(13), 99, 2 * each) == 11
    log.compact(Index(11))
    assert [log.place_to_keep(Index(13), 99, size) for size in (0, each, 2 * each)] == [13, 12, 11]
    assert Log(at(10, 1)).place_to_keep(Index(10), 5, 5) == 10
