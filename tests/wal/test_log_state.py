"""The log as a store sees it: which writes fit, and what is known after each."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.wal.blocks import Position
from raft_core.wal.log_state import LogImage, LogIndex
from raft_core.wal.records import FORMAT_VERSION, MAGIC, SegmentHeader


def test_the_outline_knows_the_terms_of_what_was_written() -> None:
    outline = LogIndex()
    entries = tuple(Entry.make(index, 1 + index // 3) for index in range(1, 9))

    outline.change(Persist(WriteId(1), entries=entries))
    outline.change(Persist(WriteId(2), truncate_from=Index(5), entries=(Entry.make(5, 7),)))

    assert [outline.term_at(Index(index)) for index in range(7)] == [0, 1, 1, 2, 2, 7, 0]


def outline_of(*terms: int) -> LogIndex:
    outline = LogIndex()
    entries = tuple(Entry.make(index, term) for index, term in enumerate(terms, start=1))
    outline.change(Persist(WriteId(1), entries=entries))
    return outline


def snapshot_at(index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), Members.initial([1]))


def terms_of(outline: LogIndex, last: int) -> list[Term]:
    return [outline.term_at(Index(index)) for index in range(last + 1)]


def test_a_log_begins_as_the_header_of_its_oldest_segment_says() -> None:
    hard, snapshot = HardState(Term(4), NodeId(2), Index(5)), snapshot_at(6, 3)
    header = SegmentHeader(
        magic=MAGIC,
        version=FORMAT_VERSION,
        sequence=9,
        cluster=ClusterId("c"),
        node=NodeId(1),
        incarnation=Incarnation(0),
        boot=BootNumber(1),
        follows=Position(8, 512),
        first=Index(5),
        next=Index(8),
        hard=hard,
        snapshot=snapshot,
    )
    for log in (LogIndex(header), LogImage(header)):
        assert (log.hard, log.snapshot, log.base) == (hard, snapshot, 6)
        assert (log.first, log.next, log.known_from) == (5, 8, 8)
        assert terms_of(log, 8) == [0, 0, 0, 0, 0, 0, 3, 0, 0]
    new = LogIndex()
    assert (new.hard, new.snapshot, new.base) == (HardState(), None, 0)
    assert (new.first, new.next, new.known_from) == (1, 1, 1)


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
    ("persist", "values"),
    [
        (Persist(WriteId(7), truncate_from=Index(2)), r"2.* 3 to 4"),
        (Persist(WriteId(7), truncate_from=Index(6)), r"6.* 3 to 4"),
        (Persist(WriteId(7), entries=(Entry.make(6, 3),)), r"6.* 5"),
        (Persist(WriteId(7), entries=(Entry.make(5, 3), Entry.make(7, 3))), r"7.* 6"),
        (
            Persist(WriteId(7), truncate_from=Index(4), entries=(Entry.make(5, 3),)),
            r"5.* 4",
        ),
        (Persist(WriteId(7), snapshot=snapshot_at(1, 1)), r"1.* 2"),
    ],
)
def test_a_write_that_does_not_fit_changes_nothing_and_is_a_callers_error(persist: Persist, values: str) -> None:
    outline = outline_of(1, 1, 2, 3)
    outline.change(Persist(WriteId(2), snapshot=snapshot_at(2, 1)))

    with pytest.raises(CallerError, match=f"write 7.*{values}"):
        outline.change(persist)

    assert (outline.base, outline.next, terms_of(outline, 5)) == (2, 5, [0, 1, 1, 2, 3, 0])


@pytest.mark.parametrize("start", [3, 4, 5])
def test_a_truncation_fits_from_behind_the_snapshot_up_to_the_next_entry(start: int) -> None:
    outline = outline_of(1, 1, 2, 3)
    outline.change(Persist(WriteId(2), snapshot=snapshot_at(2, 1)))

    outline.change(Persist(WriteId(3), truncate_from=Index(start), snapshot=snapshot_at(2, 1)))

    assert outline.next == start


def image_of(*terms: int, forget: int = 1) -> LogImage:
    image = LogImage()
    image.change(Persist(WriteId(1), entries=tuple(Entry.make(index, term) for index, term in enumerate(terms, 1))))
    image.forget(Index(forget))
    return image


def held(image: LogImage) -> list[tuple[int, int]]:
    return [(entry.index, entry.term) for entry in image.entries]


def test_an_image_holds_the_entries_from_where_it_knows_them() -> None:
    image = image_of(1, 1, 2, 3, forget=3)

    assert (held(image), image.known_from, terms_of(image, 5)) == ([(3, 2), (4, 3)], 3, [0, 0, 0, 2, 3, 0])
    image.forget(Index(3))
    image.forget(Index(1))
    assert (held(image), image.known_from) == ([(3, 2), (4, 3)], 3)


@pytest.mark.parametrize(
    ("start", "left", "known_from"), [(5, [(3, 2), (4, 3)], 3), (4, [(3, 2)], 3), (3, [], 3), (2, [], 2), (1, [], 1)]
)
def test_a_truncation_takes_entries_out_of_an_image(start: int, left: list[tuple[int, int]], known_from: int) -> None:
    image = image_of(1, 1, 2, 3, forget=3)

    image.change(Persist(WriteId(2), truncate_from=Index(start), entries=(Entry.make(start, 9),)))

    assert (held(image), image.known_from, image.next) == ([*left, (start, 9)], known_from, start + 1)


def test_a_snapshot_that_discards_the_log_empties_the_image() -> None:
    image = image_of(1, 1, 2)
    image.change(Persist(WriteId(2), snapshot=snapshot_at(2, 1)))
    assert held(image) == [(1, 1), (2, 1), (3, 2)]
    image.change(Persist(WriteId(3), entries=(Entry.make(4, 2),), snapshot=snapshot_at(8, 2)))
    assert (held(image), image.known_from, image.next) == ([], 9, 9)


def test_the_outline_of_an_image_says_the_same_and_changes_by_itself() -> None:
    image = image_of(1, 1, 2, 3, forget=2)
    image.change(Persist(WriteId(2), hard=HardState(Term(3)), snapshot=snapshot_at(2, 1), drop_before=Index(2)))

    outline = image.outline()

    def known(log: LogIndex) -> tuple[object, ...]:
        return log.hard, log.snapshot, log.first, log.next, log.known_from, terms_of(log, 6)

    before = known(image)
    assert type(outline) is LogIndex
    assert known(outline) == before
    assert before == (HardState(Term(3)), snapshot_at(2, 1), 2, 5, 2, [0, 0, 1, 2, 3, 0, 0])
    outline.change(Persist(WriteId(3), truncate_from=Index(4), entries=(Entry.make(4, 8), Entry.make(5, 9))))
    assert known(image) == before
