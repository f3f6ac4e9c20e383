"""Blocks, marks and records: what one batch looks like, and what a single flipped bit does to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import LogDamaged, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.wal import records
from raft_core.wal.blocks import (
    BLOCK,
    FIRST,
    HEAD_BYTES,
    NEXT,
    NOWHERE,
    ROOM,
    Position,
    batch_bytes,
    content_of,
    expected_marks,
    frame_batch,
    parse_head,
)
from raft_core.wal.image import LogOutline
from raft_core.wal.records import Change, RecordsUndecodable
from raft_core.wal.segment import (
    Anchor,
    IdentityFile,
    part_name,
    read_anchor,
    read_identity,
    sealed,
    segment_name,
    segment_number,
    snapshot_name,
    snapshot_position,
)

AT = Position(3, 4 * BLOCK)


def read_back(framed: bytes) -> bytes | None:
    head = parse_head(framed[:BLOCK])
    if head is None or framed[ROOM::BLOCK] != expected_marks(len(framed) // BLOCK):
        return None
    return content_of(framed, head)


@pytest.mark.parametrize("mark", [FIRST, NEXT])
def test_no_single_flipped_bit_turns_a_mark_into_another_mark_or_zero(mark: int) -> None:
    assert not {mark ^ (1 << bit) for bit in range(8)} & {0, FIRST, NEXT}


def test_two_flipped_bits_do_not_either() -> None:
    pairs = [1 << a | 1 << b for a in range(8) for b in range(a)]
    assert not {mark ^ pair for mark in (FIRST, NEXT) for pair in pairs} & {0, FIRST, NEXT}


@pytest.mark.parametrize("length", [0, 1, ROOM - HEAD_BYTES, ROOM - HEAD_BYTES + 1, 5 * ROOM - HEAD_BYTES, 100_000])
def test_a_batch_of_any_length_fills_whole_blocks_and_reads_back(length: int) -> None:
    payload = bytes(number % 251 for number in range(length))

    framed = frame_batch(payload, AT, NOWHERE)

    assert len(framed) == batch_bytes(length)
    assert len(framed) % BLOCK == 0
    assert read_back(framed) == payload


@settings(max_examples=50)
@given(st.binary(max_size=3000))
def test_every_payload_reads_back(payload: bytes) -> None:
    assert read_back(frame_batch(payload, AT, Position(2, BLOCK))) == payload


def test_the_head_says_where_the_batch_is_and_what_was_synced_before_it() -> None:
    head = parse_head(frame_batch(b"payload", AT, Position(2, 7 * BLOCK)))
    assert head is not None
    assert (head.at, head.synced, head.length) == (AT, Position(2, 7 * BLOCK), 7)


def test_every_flipped_bit_of_a_batch_is_noticed() -> None:
    framed = frame_batch(bytes(range(256)) * 4, AT, NOWHERE)
    for bit in range(len(framed) * 8):
        flipped = bytearray(framed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert read_back(bytes(flipped)) is None, f"bit {bit}"


def test_records_read_back() -> None:
    entries = tuple(Entry.make(index, 2, b"x" * index) for index in range(5, 9))
    snapshot = SnapshotMeta(Index(4), Term(1), Members.initial([1, 2, 3]), Index(1))
    change = Change(hard=HardState(Term(2), NodeId(3), Index(4)), truncate_from=Index(5), entries=entries)
    switch = Change(snapshot=snapshot, discard=True, drop_before=Index(3))
    assert records.decode(records.encode([change, switch])) == (change, switch)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x91\x91\x09", b"\x91\x92\x02\xa1x", b"\xff" * 20])
def test_bytes_that_are_no_records_are_refused(payload: bytes) -> None:
    with pytest.raises(RecordsUndecodable):
        records.decode(payload)


def test_small_files_read_back() -> None:
    identity = IdentityFile(ClusterId("c"), NodeId(4), Incarnation(2**63 - 1))
    anchor = Anchor(BootNumber(9), AT)
    assert read_identity(sealed(identity)) == identity
    assert read_anchor(sealed(anchor)) == anchor


def test_every_flipped_bit_and_every_prefix_of_a_small_file_is_refused() -> None:
    data = sealed(Anchor(BootNumber(9), AT))
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((LogDamaged, WrongDirectory)):
            read_anchor(bytes(flipped))
    for length in range(len(data)):
        with pytest.raises(LogDamaged):
            read_anchor(data[:length])


def test_one_small_file_does_not_pass_for_the_other() -> None:
    with pytest.raises(LogDamaged):
        read_identity(sealed(Anchor(BootNumber(1), AT)))


def test_names_read_back_and_other_names_mean_nothing() -> None:
    position = SnapshotMeta(Index(70), Term(3), Members()).position
    assert segment_number(segment_name(12)) == 12
    assert snapshot_position(snapshot_name(position)) == position
    for other in ("12.log", "lock", part_name(position, None), part_name(position, "peer"), "0000000000000012.log.new"):
        assert segment_number(other) is None
        assert snapshot_position(other) is None


def test_the_outline_knows_the_terms_of_what_was_written() -> None:
    outline = LogOutline()
    entries = tuple(Entry.make(index, 1 + index // 3) for index in range(1, 9))

    outline.change(Persist(WriteId(1), entries=entries))
    outline.change(Persist(WriteId(2), truncate_from=Index(5), entries=(Entry.make(5, 7),)))

    assert [outline.term_at(Index(index)) for index in range(7)] == [0, 1, 1, 2, 2, 7, 0]
