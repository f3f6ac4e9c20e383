"""The reader's verdict: torn tail or damage, for every prefix and every flipped bit."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from raft_core.entries import Entry, HardState
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term
from raft_core.wal.blocks import BLOCK, FIRST, NEXT, NOWHERE, ROOM, Position, frame_batch
from raft_core.wal.reader import Record, Verdict, VerdictKind, WalReader
from raft_core.wal.records import FORMAT_VERSION, MAGIC, Body, Change, SegmentHeader, encode

SEGMENT = 5
HEADER = SegmentHeader(
    magic=MAGIC,
    version=FORMAT_VERSION,
    sequence=SEGMENT,
    cluster=ClusterId("c"),
    node=NodeId(1),
    incarnation=Incarnation(7),
    boot=BootNumber(1),
    follows=NOWHERE,
    first=Index(1),
    next=Index(1),
    hard=HardState(),
    snapshot=None,
)


def changes(first: int, count: int, size: int) -> list[Change]:
    return [Change(entries=(Entry.make(first + n, 1, bytes([n + 1]) * size),)) for n in range(count)]


def segment(*batches: Sequence[Body], tail: int = 4 * BLOCK) -> tuple[bytes, list[int]]:
    """A segment of these batches behind a header, and where each begins; every batch was synced before the next."""
    data, starts = b"", []
    for batch in ([HEADER], *batches):
        starts.append(len(data))
        at = Position(SEGMENT, len(data))
        data += frame_batch(encode(batch), at, at if data else NOWHERE)
    return data + bytes(tail), starts


BATCHES = (changes(1, 2, 30), changes(3, 3, 400), changes(6, 1, 10), changes(7, 2, 600), changes(9, 1, 1))


def read(data: bytes) -> tuple[list[Record], WalReader]:
    reader = WalReader(SEGMENT)
    return reader.feed(data), reader


def damaged(offset: int, problem: str) -> Verdict:
    return Verdict(VerdictKind.DAMAGED, offset, problem)


def bodies(records: Sequence[Record]) -> list[Body]:
    return [record.body for record in records]


def test_a_whole_segment_reads_clean() -> None:
    data, starts = segment(*BATCHES)

    records, reader = read(data)

    assert bodies(records) == [HEADER, *(change for batch in BATCHES for change in batch)]
    assert reader.verdict == Verdict(VerdictKind.CLEAN, len(data) - 4 * BLOCK)
    assert reader.end == len(data) - 4 * BLOCK
    assert [record.at for record in records] == [
        0,
        *(at for at, batch in zip(starts[1:], BATCHES, strict=True) for _ in batch),
    ]
    assert reader.proven == starts[-1]


def test_pieces_of_any_size_give_the_same_records() -> None:
    data, _ = segment(*BATCHES)
    wanted, whole = read(data)
    random = Random(1)
    for _ in range(50):
        reader, records, offset = WalReader(SEGMENT), [], 0
        while offset < len(data):
            size = 1 + int(random.random() * 900)
            records += reader.feed(data[offset : offset + size])
            offset += size
        assert (records, reader.verdict, reader.proven) == (wanted, whole.verdict, whole.proven)


def test_every_byte_prefix_of_a_log_reads_as_a_prefix_of_its_batches() -> None:
    data, starts = segment(*BATCHES)
    ends = [*starts[1:], len(data) - 4 * BLOCK]
    every = bodies(read(data)[0])
    counts = [1]
    for batch in BATCHES:
        counts.append(counts[-1] + len(batch))
    for filler in (b"", bytes(len(data))):
        for length in range(len(data) - 4 * BLOCK + 1):
            cut = data[:length] + filler[length:]
            records, reader = read(cut)
            whole = sum(end <= length for end in ends)
            assert bodies(records) == every[: counts[whole - 1] if whole else 0], length
            # A last byte that is missing may have been padding: then nothing is missing.
            assert reader.verdict.kind is not VerdictKind.DAMAGED, length
            assert reader.end == ([0, *ends])[whole], length


def test_every_single_flipped_bit_is_damage_or_harmless() -> None:
    data, _ = segment(*BATCHES, tail=2 * BLOCK)
    wanted = bodies(read(data)[0])
    harmless = 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        records, reader = read(bytes(flipped))
        if reader.verdict.kind is VerdictKind.DAMAGED:
            assert reader.verdict.offset // BLOCK <= bit // 8 // BLOCK
            continue
        harmless += 1
        assert bodies(records) == wanted
        assert bit // 8 >= len(data) - 2 * BLOCK, "only what lies behind the log is harmless"
    assert harmless == 2 * ROOM * 8


def test_a_zeroed_batch_is_damage_where_a_later_one_proves_that_it_was_synced() -> None:
    data, starts = segment(*BATCHES)
    for number in range(len(starts) - 1):
        broken = data[: starts[number]] + bytes(starts[number + 1] - starts[number]) + data[starts[number + 1] :]
        wanted = f"a block is missing that was synced before offset {starts[number + 1]} was written"
        assert read(broken)[1].verdict == damaged(starts[number], wanted)


def test_a_missing_block_of_a_batch_is_damage_where_a_later_one_proves_that_it_was_synced() -> None:
    data, starts = segment(*BATCHES)
    block = starts[2] + BLOCK
    broken = data[:block] + bytes(BLOCK) + data[block + BLOCK :]
    wanted = damaged(starts[2], f"a block is missing that was synced before offset {starts[3]} was written")
    for piece in (len(broken), 700):
        reader = WalReader(SEGMENT)
        for place in range(0, len(broken), piece):
            reader.feed(broken[place : place + piece])
        assert reader.verdict == wanted


def test_a_missing_block_of_the_last_batch_is_a_torn_tail() -> None:
    data, starts = segment(*BATCHES[:4])
    for block in range(starts[-1] // BLOCK, len(data) // BLOCK - 4):
        torn = data[: block * BLOCK] + bytes(BLOCK) + data[(block + 1) * BLOCK :]
        records, reader = read(torn)
        assert reader.verdict == Verdict(VerdictKind.TORN, starts[-1], "a batch is not complete")
        assert reader.end == starts[-1]
        assert reader.proven == (starts[-1] if block > starts[-1] // BLOCK else starts[-2])
        assert len(records) == 1 + 2 + 3 + 1


def test_batches_written_without_a_sync_between_them_may_be_torn_together() -> None:
    at = [Position(SEGMENT, offset) for offset in (0, BLOCK, 2 * BLOCK)]
    first, second = encode(changes(1, 1, 9)), encode(changes(2, 1, 9))
    data = frame_batch(encode([HEADER]), at[0], NOWHERE) + bytes(BLOCK) + frame_batch(second, at[2], at[1])

    records, reader = read(data)

    assert bodies(records) == [HEADER]
    assert (reader.verdict.kind, reader.proven) == (VerdictKind.TORN, BLOCK)
    whole = frame_batch(encode([HEADER]), at[0], NOWHERE) + frame_batch(first, at[1], at[1])
    assert len(read(whole + frame_batch(second, at[2], at[1]))[0]) == 3


def test_nothing_is_read_behind_a_torn_batch() -> None:
    data, starts = segment(*BATCHES)
    records, reader = read(data[: starts[2]])
    assert reader.feed(b"") == []
    torn = WalReader(SEGMENT)
    assert torn.feed(data[: starts[2]] + bytes(BLOCK)) == records
    torn.feed(data[starts[2] + BLOCK :])
    assert torn.verdict.kind is VerdictKind.DAMAGED


def test_a_batch_from_another_place_or_segment_is_damage() -> None:
    data, starts = segment(*BATCHES)
    doubled = data[: starts[2]] + data[starts[1] :]
    assert read(doubled)[1].verdict == damaged(starts[2], "the head of a batch is not readable")
    foreign = WalReader(SEGMENT + 1)
    assert foreign.feed(data) == []
    assert foreign.verdict == damaged(0, "the head of a batch is not readable")


@pytest.mark.parametrize("batch", [[HEADER], [Change(), HEADER]])
def test_a_segment_has_one_header_at_its_beginning(batch: list[Body]) -> None:
    data, starts = segment(batch)
    assert read(data)[1].verdict == damaged(starts[1], "a segment has one header, at its beginning")


def test_an_empty_batch_says_nothing_and_is_allowed() -> None:
    data, _ = segment([])
    records, reader = read(data)
    assert (bodies(records), reader.verdict.kind) == ([HEADER], VerdictKind.CLEAN)


def test_a_segment_without_a_header_is_damage() -> None:
    batches: list[list[Body]] = [[Change()], [Change(), HEADER], []]
    for batch in batches:
        data = frame_batch(encode(batch), Position(SEGMENT, 0), NOWHERE)
        assert read(data)[1].verdict == damaged(0, "a segment has one header, at its beginning")


def test_a_right_checksum_over_nonsense_is_damage() -> None:
    data = frame_batch(b"\xff\xff", Position(SEGMENT, 0), NOWHERE)
    records, reader = read(data)
    problem = reader.verdict.problem
    assert (records, reader.verdict) == ([], damaged(0, problem))
    assert problem.startswith("a batch with a right checksum cannot be decoded: Expected `array`")


def test_a_first_mark_inside_a_batch_is_damage() -> None:
    data, starts = segment(*BATCHES)
    broken = bytearray(data)
    broken[starts[2] + BLOCK + ROOM] = FIRST
    assert read(bytes(broken))[1].verdict == damaged(starts[2] + BLOCK, "the mark of a block is 0xa6")


def test_a_mark_that_does_not_exist_is_damage_wherever_it_is() -> None:
    data, starts = segment(*BATCHES)
    problems = {starts[2]: "the head of a batch is not readable", starts[2] + BLOCK: "the mark of a block is 0x07"}
    for place, problem in problems.items():
        broken = bytearray(data)
        broken[place + ROOM] = 7
        assert read(bytes(broken))[1].verdict == damaged(place, problem)


def test_a_block_behind_a_torn_batch_that_is_not_readable_is_damage() -> None:
    data, _ = segment(*BATCHES[:1], tail=6 * BLOCK)
    end = len(data) - 6 * BLOCK
    behind = end + 3 * BLOCK
    for mark in (FIRST, 7):
        broken = bytearray(data)
        broken[end + BLOCK + ROOM] = NEXT
        broken[behind + ROOM] = mark
        assert read(bytes(broken))[1].verdict == damaged(behind, "a block is not readable")


def test_a_head_behind_a_torn_batch_is_believed_only_under_its_mark() -> None:
    at = [Position(SEGMENT, offset) for offset in (0, BLOCK, 2 * BLOCK)]
    later = bytearray(frame_batch(encode(changes(2, 1, 9)), at[2], at[1]))
    data = frame_batch(encode([HEADER]), at[0], NOWHERE) + bytes(BLOCK)
    assert read(data + bytes(later))[1].verdict.kind is VerdictKind.TORN

    later[ROOM] ^= 1

    assert read(data + bytes(later))[1].verdict == damaged(2 * BLOCK, "a block is not readable")


def test_what_a_torn_batch_left_without_a_head_is_torn_in_pieces_of_any_size() -> None:
    data, _ = segment(*BATCHES[:1], tail=6 * BLOCK)
    end = len(data) - 6 * BLOCK
    broken = bytearray(data)
    broken[end + BLOCK + ROOM] = broken[end + 2 * BLOCK + ROOM] = NEXT
    for size in (100, BLOCK, 3 * BLOCK, len(data)):
        reader = WalReader(SEGMENT)
        for place in range(0, len(data), size):
            reader.feed(bytes(broken[place : place + size]))
        assert reader.verdict == Verdict(VerdictKind.TORN, end, "a batch is not complete")


def test_a_later_head_proves_what_is_before_it_in_pieces_of_any_size() -> None:
    data, starts = segment(*BATCHES)
    broken = data[: starts[2]] + bytes(starts[3] - starts[2]) + data[starts[3] :]
    wanted = damaged(starts[2], f"a block is missing that was synced before offset {starts[3]} was written")
    for size in (100, BLOCK, 3 * BLOCK, len(data)):
        reader = WalReader(SEGMENT)
        for place in range(0, len(data), size):
            reader.feed(broken[place : place + size])
        assert (reader.verdict, reader.end, reader.proven) == (wanted, starts[2], starts[3])


def test_what_another_segment_synced_proves_nothing_here() -> None:
    at, far = Position(SEGMENT, 0), Position(SEGMENT - 1, 100 * BLOCK)
    _, reader = read(frame_batch(encode([HEADER]), at, far))
    assert (reader.verdict, reader.proven) == (Verdict(VerdictKind.CLEAN, BLOCK), 0)


def test_dirt_behind_the_log_that_fills_no_block_is_a_torn_batch() -> None:
    data, _ = segment(*BATCHES, tail=0)
    assert read(data + bytes(100))[1].verdict == Verdict(VerdictKind.CLEAN, len(data))
    assert read(data + b"x" * 100)[1].verdict == Verdict(VerdictKind.TORN, len(data), "a batch is not complete")
    assert read(data + bytes(ROOM) + b"\xa6")[1].verdict.kind is VerdictKind.DAMAGED


def test_a_promise_about_the_future_is_damage() -> None:
    data = frame_batch(encode([HEADER]), Position(SEGMENT, 0), Position(SEGMENT, BLOCK))
    assert read(data)[1].verdict == damaged(0, "the head of a batch is not readable")


def test_an_entry_may_hold_what_looks_like_a_log() -> None:
    inner, _ = segment(*BATCHES)
    batch = [Change(entries=(Entry.make(1, 1, inner),))]
    data, starts = segment(batch)
    assert bodies(read(data)[0])[1:] == batch
    torn = data[: starts[1]] + bytes(BLOCK) + data[starts[1] + BLOCK :]
    assert read(torn)[1].verdict.kind is VerdictKind.TORN


def test_terms_and_votes_survive_the_encoding() -> None:
    batch = [Change(hard=HardState(Term(2**63), NodeId(2**62), Index(2**61)))]
    data, _ = segment(batch)
    assert bodies(read(data)[0])[1:] == batch
