"""The recovery plan, from the bytes of a directory to what they mean: the chain of segments and its gaps."""

from __future__ import annotations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, LogDamaged, LogLost, WrongDirectory
from raft_core.ids import NO_INDEX, BootNumber, ClusterId, GroupId, Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.wal.blocks import BLOCK, NOWHERE, Position, frame_batch
from raft_core.wal.image import LogImage
from raft_core.wal.records import Body, Change, encode
from raft_core.wal.recovery import Plan, header_of, plan_recovery
from raft_core.wal.segment import Anchor, IdentityFile, segment_name, snapshot_name

OURS = IdentityFile(ClusterId("c"), NodeId(1), Incarnation(7))
META = SnapshotMeta(Index(6), Term(1), Members.initial([1, 2, 3]))


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry.make(index, term, b"e%d" % index) for index in range(first, last + 1))


class Directory:
    """Segments written by hand, each batch synced before the next."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.image = LogImage()
        self.at = NOWHERE
        self.anchor = Anchor(BootNumber(1), NOWHERE)

    def begin(self, sequence: int, *, identity: IdentityFile = OURS, follows: Position | None = None) -> None:
        header = header_of(self.image, identity, sequence=sequence, boot=BootNumber(1), follows=follows or self.at)
        self.at = Position(sequence, 0)
        self.files[segment_name(sequence)] = b""
        self._write([header])
        self.anchor = Anchor(BootNumber(1), self.at)

    def write(self, **fields: object) -> None:
        self._write([self.image.change(Persist(WriteId(1), **fields))])  # type: ignore[arg-type]

    def _write(self, batch: list[Body]) -> None:
        framed = frame_batch(encode(batch), self.at, self.at)
        self.files[segment_name(self.at.segment)] += framed
        self.at = Position(self.at.segment, self.at.offset + len(framed))

    def plan(self, *, merge_bytes: int = 0) -> Plan:
        return plan_recovery(sorted(self.files), self.files.__getitem__, OURS, self.anchor, merge_bytes=merge_bytes)


def three_segments() -> Directory:
    """Entries 1 to 4, 5 to 8 and 9 to 12, each in a segment of its own."""
    directory = Directory()
    for sequence, first in ((1, 1), (2, 5), (3, 9)):
        directory.begin(sequence)
        directory.write(entries=entries(first, first + 1), hard=HardState(Term(sequence)))
        directory.write(entries=entries(first + 2, first + 3))
    return directory


def test_an_empty_directory_is_an_empty_log() -> None:
    plan = Directory().plan()
    assert (plan.image.entries, plan.image.hard, plan.changes, plan.kept) == ([], HardState(), (), ())
    assert (plan.header.sequence, plan.header.boot, plan.header.follows) == (1, 2, NOWHERE)


def test_a_chain_of_segments_is_one_log() -> None:
    plan = three_segments().plan()
    assert tuple(plan.image.entries) == entries(1, 12)
    assert plan.image.hard == HardState(Term(3))
    assert [live.sequence for live in plan.kept] == [1, 2, 3]
    assert (plan.header.sequence, plan.header.boot) == (4, 2)


def test_what_is_not_proven_to_be_synced_is_written_again() -> None:
    directory = three_segments()
    end_of_proven = directory.at.offset - BLOCK

    plan = directory.plan()

    assert plan.header.follows == Position(3, end_of_proven)
    assert plan.header.next == 11
    assert plan.changes[0] == Change(entries=entries(11, 12))


def test_short_segments_at_the_end_are_merged() -> None:
    directory = three_segments()
    two = len(directory.files[segment_name(2)]) + len(directory.files[segment_name(3)])

    plan = directory.plan(merge_bytes=two)

    assert [live.sequence for live in plan.kept] == [1]
    assert plan.header.follows == Position(1, len(directory.files[segment_name(1)]))
    assert [change.entries for change in plan.changes[:4]] == [entries(n, n + 1) for n in (5, 7, 9, 11)]
    assert plan.obsolete == (segment_name(2), segment_name(3))


def test_a_short_log_is_written_anew_as_a_whole() -> None:
    plan = three_segments().plan(merge_bytes=10**6)
    assert (plan.kept, plan.header.follows, plan.header.next) == ((), NOWHERE, 1)
    assert plan.changes == (Change(entries=entries(1, 12)),)
    assert plan.header.hard == HardState(Term(3))


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_missing_segment_in_the_middle_or_at_the_beginning_is_named(sequence: int) -> None:
    directory = three_segments()
    del directory.files[segment_name(sequence)]
    with pytest.raises(LogDamaged, match="missing") as caught:
        directory.plan()
    assert caught.value.file == segment_name(sequence)


def test_a_missing_newest_segment_is_named_because_of_the_anchor() -> None:
    directory = three_segments()
    del directory.files[segment_name(3)]
    with pytest.raises(LogDamaged, match="missing") as caught:
        directory.plan()
    assert caught.value.file == segment_name(3)


def test_a_log_that_is_gone_as_a_whole_is_lost() -> None:
    directory = three_segments()
    directory.files.clear()
    with pytest.raises(LogLost, match="join in its place"):
        directory.plan()


def test_segments_below_what_is_needed_may_be_gone() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(5))
    del directory.files[segment_name(1)]

    plan = directory.plan()

    assert plan.image.snapshot == META
    assert tuple(plan.image.entries) == entries(7, 12)


def test_entries_behind_the_snapshot_are_needed_whatever_else_was_said() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(12))
    assert directory.image.first == 7
    del directory.files[segment_name(1)]
    del directory.files[segment_name(2)]
    with pytest.raises(LogDamaged, match="from 7 to 8"):
        directory.plan()


def test_a_snapshot_that_discards_the_log_makes_all_older_segments_superfluous() -> None:
    directory = three_segments()
    meta = SnapshotMeta(Index(40), Term(9), Members.initial([1]))
    directory.files[snapshot_name(meta.position)] = b""
    directory.write(snapshot=meta)
    directory.write(entries=entries(41, 42, 9))
    del directory.files[segment_name(1)]
    del directory.files[segment_name(2)]
    assert tuple(directory.plan().image.entries) == entries(41, 42, 9)


def test_a_truncation_of_what_is_gone_makes_it_superfluous() -> None:
    directory = Directory()
    directory.begin(1)
    directory.write(entries=entries(1, 4))
    directory.begin(2)
    directory.write(truncate_from=Index(1), entries=entries(1, 2, 5))
    del directory.files[segment_name(1)]
    assert tuple(directory.plan().image.entries) == entries(1, 2, 5)


def test_a_missing_snapshot_is_named() -> None:
    directory = three_segments()
    directory.write(snapshot=META, drop_before=NO_INDEX)
    with pytest.raises(LogDamaged, match="snapshot") as caught:
        directory.plan()
    assert caught.value.file == snapshot_name(META.position)


def test_a_torn_new_segment_was_never_begun() -> None:
    directory = three_segments()
    directory.files[segment_name(4)] = bytes(BLOCK) + b"rest of a torn batch".ljust(BLOCK, b"\0")
    plan = directory.plan()
    assert tuple(plan.image.entries) == entries(1, 12)
    assert plan.obsolete == (segment_name(4),)
    assert plan.header.sequence == 5


def test_a_damaged_new_segment_is_damage() -> None:
    directory = three_segments()
    directory.files[segment_name(4)] = b"\x01" * BLOCK
    with pytest.raises(LogDamaged) as caught:
        directory.plan()
    assert (caught.value.file, caught.value.offset) == (segment_name(4), 0)


def test_what_an_older_segment_holds_behind_the_next_ones_beginning_is_void() -> None:
    directory = Directory()
    directory.begin(1)
    directory.write(entries=entries(1, 2))
    before = directory.at
    image_before = LogImage()
    image_before.change(Persist(WriteId(1), entries=entries(1, 2)))
    directory.write(entries=entries(3, 9))
    directory.image = image_before
    directory.begin(2, follows=before)
    directory.write(entries=entries(3, 4, 2))
    assert tuple(directory.plan().image.entries) == entries(1, 2) + entries(3, 4, 2)


def test_a_log_shorter_than_the_anchor_says_is_damage() -> None:
    directory = three_segments()
    directory.anchor = Anchor(BootNumber(1), directory.at)
    name = segment_name(3)
    directory.files[name] = directory.files[name][:-BLOCK] + bytes(BLOCK)
    with pytest.raises(LogDamaged, match="synced up to") as caught:
        directory.plan()
    assert (caught.value.file, caught.value.offset) == (name, directory.at.offset - BLOCK)


def test_a_header_that_contradicts_the_log_before_it_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    directory.write(entries=entries(1, 2))
    directory.image.hard = HardState(Term(8))
    directory.begin(2)
    with pytest.raises(LogDamaged, match="contradicts"):
        directory.plan()


def test_a_gap_between_entries_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    directory._write([Change(entries=entries(2, 3))])
    with pytest.raises(LogDamaged, match="appends entry 2 where 1 follows"):
        directory.plan()


def test_an_entry_with_a_wrong_seal_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    bad = Entry(Index(1), Term(1), entries(1, 1)[0].kind, b"other", entries(1, 1)[0].checksum)
    directory._write([Change(entries=(bad,))])
    with pytest.raises(LogDamaged, match="checksum of entry 1"):
        directory.plan()


def test_another_nodes_segment_is_refused() -> None:
    directory = Directory()
    directory.begin(1, identity=IdentityFile(ClusterId("c"), NodeId(2), Incarnation(7)))
    with pytest.raises(WrongDirectory, match="written by node 2"):
        directory.plan()


def test_another_groups_records_are_refused() -> None:
    directory = Directory()
    directory.begin(1)
    directory._write([Change(group=GroupId(4))])
    with pytest.raises(WrongDirectory, match="group 4"):
        directory.plan()


def test_a_header_that_follows_a_later_segment_is_damage() -> None:
    directory = Directory()
    header = header_of(LogImage(), OURS, sequence=2, boot=BootNumber(1), follows=Position(2, BLOCK))
    directory.files[segment_name(2)] = frame_batch(encode([header]), Position(2, 0), NOWHERE)
    directory.anchor = Anchor(BootNumber(1), Position(2, BLOCK))
    with pytest.raises(LogDamaged, match="follows a later segment"):
        directory.plan()


def test_a_head_of_which_nothing_is_proven_is_written_again_as_a_whole() -> None:
    directory = three_segments()
    end_of_three = directory.at
    before = directory.anchor
    directory.begin(4)
    directory.anchor = before

    plan = directory.plan()

    assert [live.sequence for live in plan.kept] == [1, 2, 3]
    assert plan.header.follows == end_of_three
    assert plan.obsolete == (segment_name(4),)


@pytest.mark.parametrize("start", [5, 6, 14])
def test_truncation_behind_the_snapshot_or_beyond_the_log_is_a_callers_error(start: int) -> None:
    image = LogImage()
    image.change(Persist(WriteId(1), entries=entries(1, 12)))
    image.change(Persist(WriteId(2), snapshot=META))
    with pytest.raises(CallerError, match="truncates"):
        image.change(Persist(WriteId(3), truncate_from=Index(start)))


def test_whether_the_log_holds_a_snapshot_counts_what_the_same_write_changes() -> None:
    def discards(**fields: object) -> bool:
        image = LogImage()
        image.change(Persist(WriteId(1), entries=entries(1, 8)))
        return image.change(Persist(WriteId(2), snapshot=META, **fields)).discard  # type: ignore[arg-type]

    assert not discards()
    assert discards(truncate_from=Index(6))
    assert not discards(truncate_from=Index(7))
    assert discards(truncate_from=Index(5), entries=entries(5, 9, 3))
    assert not discards(truncate_from=Index(5), entries=entries(5, 9, 1))
