"""The recovery plan, from the bytes of a directory to what they mean: the chain of segments and its gaps."""

from __future__ import annotations

import msgspec
import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, LogPosition, SnapshotMeta
from raft_core.errors import CallerError, LogDamaged, LogLost, WrongDirectory
from raft_core.ids import NO_INDEX, BootNumber, ClusterId, GroupId, Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity
from raft_core.wal.blocks import BLOCK, NOWHERE, Position, frame_batch
from raft_core.wal.layout import RESTORE_REMEDY, Anchor, IdentityFile, part_name, segment_name, snapshot_name
from raft_core.wal.log_state import LogImage
from raft_core.wal.records import Body, Change, SegmentHeader, encode
from raft_core.wal.recovery import Plan, header_of, plan_recovery

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

    def carry_out(self, plan: Plan) -> None:
        """Do what `plan` says, as a store would."""
        for name in (*plan.rubbish, *plan.obsolete):
            del self.files[name]
        self.at = Position(plan.header.sequence, 0)
        self.files[segment_name(plan.header.sequence)] = b""
        self._write([plan.header, *plan.changes])
        self.anchor = Anchor(plan.header.boot, self.at)

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


def damage(directory: Directory) -> tuple[str, int, str]:
    """The file, the place and the problem that recovery names."""
    with pytest.raises(LogDamaged) as caught:
        directory.plan()
    assert caught.value.remedy == RESTORE_REMEDY
    return caught.value.file, caught.value.offset, caught.value.problem


def header(number: int, /, **parts: object) -> SegmentHeader:
    """The header of a segment of ours in which nothing has happened yet, with other parts."""
    plain = header_of(LogImage(), OURS, sequence=number, boot=BootNumber(1), follows=NOWHERE)
    return SegmentHeader(**{**{name: getattr(plain, name) for name in plain.__struct_fields__}, **parts})


def test_the_fresh_segment_begins_with_all_that_the_log_says_besides_entries() -> None:
    hard = HardState(Term(3), NodeId(2), Index(4))
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, hard=hard)
    directory.write(entries=entries(13, 13, 3))
    lengths = [len(directory.files[segment_name(number)]) for number in (1, 2, 3)]
    common: dict[str, object] = {"boot": 2, "hard": hard, "snapshot": META}

    whole = directory.plan(merge_bytes=10**6)
    last_two = directory.plan(merge_bytes=lengths[1] + lengths[2])
    unproven = directory.plan()

    assert whole.header == header(4, **{**common, "first": 1, "next": 1})
    assert whole.changes == (Change(entries=entries(1, 12) + entries(13, 13, 3)),)
    follows = Position(1, lengths[0])
    assert last_two.header == header(4, boot=2, follows=follows, next=5, hard=HardState(Term(1)))
    assert last_two.changes[-1] == unproven.changes[-1] == Change(drop_before=Index(1))
    assert unproven.header == header(4, **{**common, "first": 1, "next": 13, "follows": unproven.header.follows})
    assert unproven.changes == (Change(entries=entries(13, 13, 3)), Change(drop_before=Index(1)))
    assert [(live.sequence, live.next) for live in unproven.kept] == [(1, 1), (2, 5), (3, 9)]
    recovered = unproven.recovered(Identity(NodeId(1), ClusterId("c"), Incarnation(7)))
    assert recovered.identity == Identity(NodeId(1), ClusterId("c"), Incarnation(7))
    assert (recovered.hard, recovered.snapshot, recovered.boot) == (hard, META, 2)
    assert recovered.entries == entries(7, 12) + entries(13, 13, 3)
    assert recovered.covered == entries(1, 6)


def test_a_segment_that_is_merged_begins_as_it_did_before() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, hard=HardState(Term(9)), drop_before=Index(5))
    end = directory.at
    directory.begin(4)
    directory.write(entries=entries(13, 14))
    for number in (1, 2):
        del directory.files[segment_name(number)]
    directory.write(snapshot=SnapshotMeta(Index(13), Term(1), Members.initial([1])))
    directory.files[snapshot_name(LogPosition(Index(13), Term(1)))] = b""
    plan = directory.plan(merge_bytes=len(directory.files[segment_name(4)]))

    begun = {"boot": 2, "follows": end, "first": 5, "next": 13, "hard": HardState(Term(9)), "snapshot": META}
    assert [live.sequence for live in plan.kept] == [3]
    assert plan.header == header(5, **begun)
    assert (plan.image.covered(), plan.image.behind_snapshot()) == (entries(9, 13), entries(14, 14))


def test_after_an_orderly_close_nothing_has_to_be_written_again() -> None:
    directory = three_segments()
    directory.anchor = Anchor(BootNumber(5), directory.at)

    plan = directory.plan()

    assert (plan.header.follows, plan.header.next, plan.header.boot) == (directory.at, 13, 6)
    assert plan.changes == (Change(drop_before=Index(1)),)


def test_the_number_of_the_opening_is_above_every_one_that_was_used() -> None:
    directory = Directory()
    directory.files[segment_name(1)] = frame_batch(encode([header(1, boot=BootNumber(8))]), Position(1, 0), NOWHERE)
    assert directory.plan().header.boot == 9


def test_the_fresh_segment_has_a_number_above_every_one_that_was_used() -> None:
    directory = Directory()
    directory.files[segment_name(6)] = b""
    assert directory.plan().header.sequence == 7


def test_files_to_which_nothing_can_refer_are_rubbish_and_superseded_ones_obsolete() -> None:
    directory = three_segments()
    old = SnapshotMeta(Index(2), Term(1), Members.initial([1]))
    newer = SnapshotMeta(Index(7), Term(2), Members.initial([1]))
    part, own = part_name(newer.position, "peer"), part_name(newer.position, None)
    directory.write(snapshot=META)
    for name in (
        *(snapshot_name(meta.position) for meta in (old, META, newer)),
        part,
        own,
        "anchor.new",
        "identity",
        "lock",
    ):
        directory.files[name] = b""
    directory.files[segment_name(9)] = b""

    plan = directory.plan()

    assert plan.rubbish == (segment_name(9), "anchor.new", snapshot_name(newer.position), own)
    assert plan.obsolete == (snapshot_name(old.position),)


def test_every_snapshot_is_rubbish_where_the_log_names_none() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    assert (directory.plan().rubbish, directory.plan().obsolete) == ((snapshot_name(META.position),), ())


def test_what_the_end_of_the_log_makes_superfluous_stays_until_that_end_is_durable() -> None:
    directory = three_segments()
    old = SnapshotMeta(Index(2), Term(1), Members.initial([1]))
    directory.write(snapshot=META, drop_before=Index(7))
    for meta in (old, META):
        directory.files[snapshot_name(meta.position)] = b""

    plan = directory.plan(merge_bytes=100_000)

    assert plan.rubbish == ()
    assert plan.obsolete == (*(segment_name(number) for number in (1, 2, 3)), snapshot_name(old.position))


def test_an_older_segment_that_lacks_its_last_batch_is_damage() -> None:
    directory = three_segments()
    name = segment_name(2)
    length = len(directory.files[name])
    for left in (bytes(BLOCK), b""):
        directory.files[name] = directory.files[name][: length - BLOCK] + left
        problem = f"a batch is missing; a later segment follows offset {length}"
        assert damage(directory) == (name, length - BLOCK, problem)


def test_an_older_segment_that_lacks_all_is_damage_even_if_nothing_of_it_is_followed() -> None:
    directory = three_segments()
    directory.files[segment_name(2)] = b""
    problem = f"a batch is missing; a later segment follows offset {3 * BLOCK}"
    assert damage(directory) == (segment_name(2), 0, problem)
    directory = Directory()
    directory.files[segment_name(1)] = bytes(BLOCK)
    directory.begin(2, follows=Position(1, 0))
    assert damage(directory) == (segment_name(1), 0, "a batch is missing; a later segment follows offset 0")


def test_a_flipped_bit_in_any_segment_is_named_with_its_place() -> None:
    for number in (1, 2, 3):
        directory = three_segments()
        broken = bytearray(directory.files[segment_name(number)])
        broken[BLOCK + 100] ^= 1
        directory.files[segment_name(number)] = bytes(broken)
        problem = "all of a batch was written, but its checksum is wrong"
        assert damage(directory) == (segment_name(number), BLOCK, problem)


@pytest.mark.parametrize("parts", [{"magic": "another log"}, {"sequence": 2}])
def test_a_header_that_is_not_one_of_its_segment_is_damage(parts: dict[str, object]) -> None:
    directory = Directory()
    directory.files[segment_name(1)] = frame_batch(encode([header(1, **parts)]), Position(1, 0), NOWHERE)
    assert damage(directory) == (segment_name(1), 0, "the header is not one of this segment")


def test_a_segment_of_a_newer_format_is_refused() -> None:
    directory = Directory()
    directory.files[segment_name(1)] = frame_batch(encode([header(1, version=2)]), Position(1, 0), NOWHERE)
    with pytest.raises(WrongDirectory) as caught:
        directory.plan()
    for value in ("0000000000000001.log", "format 2"):
        assert value in str(caught.value)


@pytest.mark.parametrize(
    "other", [("d", 1, 7), ("c", 2, 7), ("c", 1, 8)], ids=["another cluster", "another node", "another disk"]
)
def test_a_segment_of_another_node_is_refused(other: tuple[str, int, int]) -> None:
    cluster, node, incarnation = other
    directory = Directory()
    directory.begin(1, identity=IdentityFile(ClusterId(cluster), NodeId(node), Incarnation(incarnation)))
    with pytest.raises(WrongDirectory) as caught:
        directory.plan()
    for value in ("0000000000000001.log", f"node {node}", f"'{cluster}'", f"incarnation {incarnation}"):
        assert value in str(caught.value)


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_missing_segment_in_the_middle_or_at_the_beginning_is_named(sequence: int) -> None:
    directory = three_segments()
    del directory.files[segment_name(sequence)]
    problem = f"the file is missing; it held entries from 1 to {4 * sequence}"
    assert damage(directory) == (segment_name(sequence), 0, problem)


def test_a_missing_newest_segment_is_named_because_of_the_anchor() -> None:
    directory = three_segments()
    del directory.files[segment_name(3)]
    assert damage(directory) == (segment_name(3), 0, "the file is missing")


def test_a_log_that_is_gone_as_a_whole_is_lost() -> None:
    directory = three_segments()
    directory.files.clear()
    with pytest.raises(LogLost) as caught:
        directory.plan()
    assert "0000000000000003.log" in str(caught.value)
    assert RESTORE_REMEDY in str(caught.value)


def test_segments_below_what_is_needed_may_be_gone() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(5))
    del directory.files[segment_name(1)]

    plan = directory.plan()

    assert plan.image.snapshot == META
    assert (plan.image.covered(), plan.image.behind_snapshot()) == (entries(5, 6), entries(7, 12))


@pytest.mark.parametrize("merge_bytes", [0, 4096, 10**6])
def test_the_tail_that_a_snapshot_covers_outlives_every_restart(merge_bytes: int) -> None:
    """Each opening once dropped it, so that a follower that lagged a little was sent the whole snapshot."""
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(3))
    directory.write(truncate_from=Index(9), entries=entries(9, 10, 4), hard=HardState(Term(4)))

    for _ in range(4):
        plan = directory.plan(merge_bytes=merge_bytes)
        assert (plan.image.first, plan.image.covered()) == (3, entries(3, 6))
        assert plan.image.behind_snapshot() == entries(7, 8) + entries(9, 10, 4)
        directory.carry_out(plan)


def test_what_was_overwritten_before_the_snapshot_is_not_among_what_it_covers() -> None:
    directory = three_segments()
    directory.write(truncate_from=Index(4), entries=entries(4, 7, 5), hard=HardState(Term(5)))
    meta = SnapshotMeta(Index(6), Term(5), Members.initial([1]))
    directory.files[snapshot_name(meta.position)] = b""
    directory.write(snapshot=meta, drop_before=Index(3))

    image = directory.plan().image

    assert (image.covered(), image.behind_snapshot()) == (entries(3, 3) + entries(4, 6, 5), entries(7, 7, 5))


def test_a_snapshot_that_the_log_does_not_hold_covers_nothing_that_is_left() -> None:
    directory = three_segments()
    meta = SnapshotMeta(Index(6), Term(9), Members.initial([1]))
    directory.files[snapshot_name(meta.position)] = b""
    directory.write(snapshot=meta)
    directory.write(entries=entries(7, 8, 9))

    for merge_bytes in (0, 10**6):
        image = directory.plan(merge_bytes=merge_bytes).image
        assert (image.covered(), image.behind_snapshot(), image.first) == ((), entries(7, 8, 9), 7)


def test_an_entry_of_another_term_at_the_snapshots_position_proves_nothing() -> None:
    image = LogImage()
    image.apply(Change(entries=entries(1, 8)))
    image.apply(Change(snapshot=SnapshotMeta(Index(6), Term(2), Members.initial([1]))))

    assert (image.covered(), image.behind_snapshot()) == ((), entries(7, 8))


def test_a_log_written_by_an_opening_that_dropped_the_tail_covers_nothing() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(3))
    directory.write(drop_before=Index(7))

    image = directory.plan().image

    assert (image.covered(), image.behind_snapshot()) == ((), entries(7, 12))


def test_entries_behind_the_snapshot_are_needed_whatever_else_was_said() -> None:
    directory = three_segments()
    directory.files[snapshot_name(META.position)] = b""
    directory.write(snapshot=META, drop_before=Index(12))
    assert directory.image.first == 7
    del directory.files[segment_name(1)]
    del directory.files[segment_name(2)]
    assert damage(directory) == (segment_name(2), 0, "the file is missing; it held entries from 7 to 8")


def test_a_single_missing_entry_behind_the_snapshot_is_damage() -> None:
    directory = three_segments()
    meta = SnapshotMeta(Index(7), Term(1), Members.initial([1]))
    directory.files[snapshot_name(meta.position)] = b""
    directory.write(snapshot=meta)
    del directory.files[segment_name(1)]
    del directory.files[segment_name(2)]
    assert damage(directory) == (segment_name(2), 0, "the file is missing; it held entries from 8 to 8")


def test_changes_in_the_batch_of_a_header_are_kept_whatever_is_merged() -> None:
    directory = Directory()
    directory.begin(1)
    directory.write(entries=entries(1, 2))
    old_end = directory.at
    image = directory.image
    begun = header_of(image, OURS, sequence=2, boot=BootNumber(1), follows=old_end)
    first = image.change(Persist(WriteId(1), entries=entries(3, 4)))
    directory.files[segment_name(2)] = b""
    directory.at = Position(2, 0)
    directory._write([begun, first])
    directory.anchor = Anchor(BootNumber(1), directory.at)

    for merge_bytes in (0, BLOCK, 10**6):
        plan = directory.plan(merge_bytes=merge_bytes)
        assert tuple(plan.image.entries) == entries(1, 4)
    merged = directory.plan(merge_bytes=BLOCK)
    assert ([live.sequence for live in merged.kept], merged.header.follows) == ([1], old_end)
    assert merged.changes == (Change(entries=entries(3, 4)), Change(drop_before=Index(1)))


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
    assert damage(directory) == (snapshot_name(META.position), 0, "the snapshot that the log builds on is missing")


def test_a_torn_new_segment_was_never_begun() -> None:
    directory = three_segments()
    directory.files[segment_name(4)] = bytes(BLOCK) + b"rest of a torn batch".ljust(BLOCK, b"\0")
    plan = directory.plan()
    assert tuple(plan.image.entries) == entries(1, 12)
    assert plan.rubbish == (segment_name(4),)
    assert plan.header.sequence == 5


@pytest.mark.parametrize("behind", [b"", b"\x01" * BLOCK, bytes(BLOCK) + b"\xff" * BLOCK])
@pytest.mark.parametrize("first", [b"\x01" * BLOCK, b"whole"])
def test_garbage_in_a_segment_that_the_anchor_does_not_name_yet_is_passed_over(first: bytes, behind: bytes) -> None:
    """Nothing in a segment is acknowledged before the anchor names it, durably; the node stopped for good."""
    directory = three_segments()
    anchor = directory.anchor
    if first == b"whole":
        directory.begin(4)
        first = directory.files[segment_name(4)]
        if not behind.strip(b"\0"):
            first = first[:20] + b"\xff" + first[21:]
    directory.anchor = anchor
    directory.files[segment_name(4)] = first + behind
    plan = directory.plan()

    assert tuple(plan.image.entries) == entries(1, 12)
    assert plan.rubbish == (segment_name(4),)
    assert plan.header.sequence == 5


def test_every_flipped_bit_of_a_segment_that_the_anchor_does_not_name_yet_leaves_what_was_acknowledged() -> None:
    directory = three_segments()
    anchor = directory.anchor
    directory.begin(4)
    directory.anchor = anchor
    whole = directory.files[segment_name(4)]
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        directory.files[segment_name(4)] = bytes(data)
        assert tuple(directory.plan().image.entries) == entries(1, 12)


def test_garbage_in_a_segment_that_the_anchor_names_is_damage() -> None:
    directory = three_segments()
    directory.files[segment_name(3)] = b"\x01" * BLOCK + directory.files[segment_name(3)][BLOCK:]
    with pytest.raises(LogDamaged) as caught:
        directory.plan()
    assert (caught.value.file, caught.value.offset) == (segment_name(3), 0)


def test_damaged_segment_that_was_continued_is_damage_although_an_older_anchor_does_not_name_it() -> None:
    """The anchor was put back: the second batch could only be written once the first had been acknowledged."""
    directory = three_segments()
    anchor = directory.anchor
    directory.begin(4)
    directory.write(entries=entries(13, 14))
    directory.anchor = anchor
    whole = directory.files[segment_name(4)]
    directory.files[segment_name(4)] = whole[:20] + b"\xff" + whole[21:]
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
    problem = f"the log ends here, but was synced up to offset {directory.at.offset}"
    assert damage(directory) == (name, directory.at.offset - BLOCK, problem)


def test_a_header_that_contradicts_the_log_before_it_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    directory.write(entries=entries(1, 2))
    directory.image.hard = HardState(Term(8))
    directory.begin(2)
    assert damage(directory) == (segment_name(2), 0, "the header contradicts the segments before it")


def test_a_gap_between_entries_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    directory._write([Change(entries=entries(2, 3))])
    assert damage(directory) == (segment_name(1), BLOCK, "it appends entry 2 where 1 follows")


def test_an_entry_with_a_wrong_seal_is_damage() -> None:
    directory = Directory()
    directory.begin(1)
    bad = Entry(Index(1), Term(1), entries(1, 1)[0].kind, b"other", entries(1, 1)[0].checksum)
    directory._write([Change(entries=(bad,))])
    assert damage(directory) == (segment_name(1), BLOCK, "the checksum of entry 1 is wrong")


def test_another_groups_records_are_refused() -> None:
    directory = Directory()
    directory.begin(1)
    directory._write([Change(group=GroupId(4))])
    with pytest.raises(WrongDirectory, match=r"0000000000000001\.log.*group 4"):
        directory.plan()


def test_a_segment_that_begins_with_another_groups_state_is_refused() -> None:
    directory = Directory()
    directory.begin(1)
    header = header_of(directory.image, OURS, sequence=2, boot=BootNumber(1), follows=directory.at)
    directory.at = Position(2, 0)
    directory.files[segment_name(2)] = b""
    directory._write([msgspec.structs.replace(header, group=GroupId(4))])
    directory.anchor = Anchor(BootNumber(1), directory.at)
    with pytest.raises(WrongDirectory, match=r"0000000000000002\.log.*group 4"):
        directory.plan()


def test_a_header_that_follows_a_later_segment_is_damage() -> None:
    directory = Directory()
    header = header_of(LogImage(), OURS, sequence=2, boot=BootNumber(1), follows=Position(2, BLOCK))
    directory.files[segment_name(2)] = frame_batch(encode([header]), Position(2, 0), NOWHERE)
    directory.anchor = Anchor(BootNumber(1), Position(2, BLOCK))
    assert damage(directory) == (segment_name(2), 0, "its header says that it follows a later segment")


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
    with pytest.raises(CallerError):
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
    assert not discards(truncate_from=Index(5), entries=entries(5, 6, 1) + entries(7, 9, 3))
    assert discards(truncate_from=Index(5), entries=entries(5, 5, 1) + entries(6, 9, 3))
    assert not discards(entries=entries(9, 10, 3))


def test_a_torn_first_segment_was_never_begun_either() -> None:
    directory = Directory()
    directory.files[segment_name(1)] = bytes(BLOCK)
    plan = directory.plan()
    assert (plan.rubbish, plan.header.sequence) == ((segment_name(1),), 2)
