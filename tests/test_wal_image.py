"""The log as a store sees it: which writes fit, and what is known after each."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import Index, Term, WriteId
from raft_core.membership import Members
from raft_core.wal.image import LogOutline


def test_the_outline_knows_the_terms_of_what_was_written() -> None:
    outline = LogOutline()
    entries = tuple(Entry.make(index, 1 + index // 3) for index in range(1, 9))

    outline.change(Persist(WriteId(1), entries=entries))
    outline.change(Persist(WriteId(2), truncate_from=Index(5), entries=(Entry.make(5, 7),)))

    assert [outline.term_at(Index(index)) for index in range(7)] == [0, 1, 1, 2, 2, 7, 0]


def outline_of(*terms: int) -> LogOutline:
    outline = LogOutline()
    entries = tuple(Entry.make(index, term) for index, term in enumerate(terms, start=1))
    outline.change(Persist(WriteId(1), entries=entries))
    return outline


def snapshot_at(index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), Members.initial([1]))


def terms_of(outline: LogOutline, last: int) -> list[Term]:
    return [outline.term_at(Index(index)) for index in range(last + 1)]


def test_a_truncation_alone_leaves_what_is_before_it() -> None:
    outline = outline_of(1, 1, 2, 3)

    outline.change(Persist(WriteId(2), truncate_from=Index(4)))

    assert (outline.next, terms_of(outline, 5)) == (4, [0, 1, 1, 2, 0, 0])
    outline.change(Persist(WriteId(3), entries=(Entry.make(4, 3), Entry.make(5, 4))))
    assert (outline.next, terms_of(outline, 6)) == (6, [0, 1, 1, 2, 3, 4, 0])


def test_a_snapshot_within_the_log_takes_nothing_away_and_one_beyond_it_takes_all() -> None:
    outline = outline_of(1, 1, 2, 3)

    outline.change(Persist(WriteId(2), snapshot=snapshot_at(3, 2)))
    assert (outline.base, outline.first, outline.next, terms_of(outline, 5)) == (3, 1, 5, [0, 1, 1, 2, 3, 0])

    outline.change(Persist(WriteId(3), drop_before=Index(3)))
    assert outline.first == 3
    outline.change(Persist(WriteId(4), drop_before=Index(99)))
    outline.change(Persist(WriteId(5), drop_before=Index(2)))
    assert outline.first == 4

    outline.change(Persist(WriteId(6), snapshot=snapshot_at(9, 5)))
    assert (outline.base, outline.first, outline.next, outline.known_from) == (9, 10, 10, 10)
    assert terms_of(outline, 10) == [0] * 9 + [5, 0]


@pytest.mark.parametrize(
    ("persist", "problem"),
    [
        (Persist(WriteId(7), truncate_from=Index(2)), "it truncates from 2, the log is from 3 to 4"),
        (Persist(WriteId(7), truncate_from=Index(6)), "it truncates from 6, the log is from 3 to 4"),
        (Persist(WriteId(7), entries=(Entry.make(6, 3),)), "it appends entry 6 where 5 follows"),
        (Persist(WriteId(7), entries=(Entry.make(5, 3), Entry.make(7, 3))), "it appends entry 7 where 6 follows"),
        (
            Persist(WriteId(7), truncate_from=Index(4), entries=(Entry.make(5, 3),)),
            "it appends entry 5 where 4 follows",
        ),
        (Persist(WriteId(7), snapshot=snapshot_at(1, 1)), "it switches to a snapshot at 1, behind the one at 2"),
    ],
)
def test_a_write_that_does_not_fit_changes_nothing_and_is_a_callers_error(persist: Persist, problem: str) -> None:
    outline = outline_of(1, 1, 2, 3)
    outline.change(Persist(WriteId(2), snapshot=snapshot_at(2, 1)))

    with pytest.raises(CallerError) as caught:
        outline.change(persist)

    assert str(caught.value) == f"write 7 does not fit the log: {problem}"
    assert (outline.base, outline.next, terms_of(outline, 5)) == (2, 5, [0, 1, 1, 2, 3, 0])


@pytest.mark.parametrize("start", [3, 4, 5])
def test_a_truncation_fits_from_behind_the_snapshot_up_to_the_next_entry(start: int) -> None:
    outline = outline_of(1, 1, 2, 3)
    outline.change(Persist(WriteId(2), snapshot=snapshot_at(2, 1)))

    outline.change(Persist(WriteId(3), truncate_from=Index(start), snapshot=snapshot_at(2, 1)))

    assert outline.next == start
