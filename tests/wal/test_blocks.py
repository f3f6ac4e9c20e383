"""Blocks, marks and records: what one batch looks like, and what a single flipped bit does to it."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import Index, NodeId, Term
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
from raft_core.wal.records import Change, RecordsUndecodable

AT = Position(3, 4 * BLOCK)


def read_back(framed: bytes) -> bytes | None:
    head = parse_head(framed[:BLOCK])
    if head is None or framed[ROOM::BLOCK] != expected_marks(len(framed) // BLOCK):
        return None
    content = content_of(bytearray(framed), head)
    return None if content is None else bytes(content)


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


@pytest.mark.parametrize("payload", [b"", b"payload", bytes(range(256)) * 4])
def test_a_batch_is_what_the_format_says(payload: bytes) -> None:
    blocks = -(-(44 + len(payload)) // 511)
    content = payload + bytes(blocks * 511 - 44 - len(payload))
    head = struct.pack("<IIQQQQ", len(payload), zlib.crc32(content), 3, 2048, 2, 512)
    stream = struct.pack("<I", zlib.crc32(head)) + head + content
    marks = [b"\xa6", *[b"\x59"] * (blocks - 1)]
    wanted = b"".join(stream[511 * number : 511 * number + 511] + mark for number, mark in enumerate(marks))

    assert frame_batch(payload, Position(3, 2048), Position(2, 512)) == wanted
    assert len(wanted) == batch_bytes(len(payload)) == 512 * blocks


def test_a_batch_of_four_gigabytes_is_refused() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(ValueError, match=r"^a batch holds less than 4 GiB$"):
        frame_batch(Huge(), AT, NOWHERE)


def test_a_head_that_is_cut_short_or_has_another_checksum_is_none() -> None:
    framed = frame_batch(b"payload", AT, NOWHERE)
    assert parse_head(framed[:HEAD_BYTES]) == parse_head(framed)
    assert [parse_head(framed[:length]) for length in range(HEAD_BYTES)] == [None] * HEAD_BYTES
