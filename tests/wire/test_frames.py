"""Frames: cut anywhere, damaged anywhere, too long, or not frames at all."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import GroupId
from raft_core.wire.frames import FRAME_OVERHEAD, MAGIC, FrameKind, FrameReader, encode_frame
from raft_core.wire.payloads import BadFrame, Frame

FRAMES = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 2**32 - 1).map(GroupId), st.binary(max_size=200) | st.just(bytes(70_000))
)


def encoded(frame: Frame) -> bytes:
    return encode_frame(frame.kind, frame.group, frame.payload)


def a_reader() -> FrameReader:
    return FrameReader(max_first=100_000, max_later=100_000)


def the_only_problem(data: bytes) -> BadFrame:
    events = a_reader().feed(data)
    assert len(events) == 1
    assert isinstance(events[0], BadFrame)
    return events[0]


def test_the_bytes_of_a_frame_are_as_documented() -> None:
    assert encode_frame(FrameKind.MESSAGE, GroupId(7), b"abc").hex(" ") == (
        "f5 52 03 00 07 00 00 00 03 00 00 00 c2 41 24 35 45 b2 57 bf 61 62 63"
    )


@settings(max_examples=50)
@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 80_000), max_size=20))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(encoded(frame) for frame in frames)
    reader = a_reader()
    received: list[Frame | BadFrame] = []

    at = 0
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[at : at + cut])
        at += cut

    assert received == frames


def test_a_stream_can_come_byte_by_byte() -> None:
    frames = [Frame(3, GroupId(0), b"one"), Frame(1, GroupId(5), b""), Frame(255, GroupId(0), bytes(300))]
    reader = a_reader()

    received = [event for byte in b"".join(map(encoded, frames)) for event in reader.feed(bytes([byte]))]

    assert received == frames


@pytest.mark.parametrize("payload", [b"", b"x", b"some payload"])
def test_every_single_flipped_bit_is_found(payload: bytes) -> None:
    whole = encode_frame(FrameKind.MESSAGE, GroupId(0), payload)
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(the_only_problem(bytes(damaged)), BadFrame)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.integers(1, 30))
def test_garbage_never_raises_and_never_makes_a_frame(garbage: bytes, cut: int) -> None:
    reader = a_reader()
    events = [event for at in range(0, len(garbage), cut) for event in reader.feed(garbage[at : at + cut])]
    assert all(isinstance(event, BadFrame) for event in events)
    assert len(events) <= 1
    if len(garbage) >= FRAME_OVERHEAD:
        assert events


@pytest.mark.parametrize("start", [b"G", b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01", MAGIC[:1] + b"S", b"\0"])
def test_another_protocol_is_recognised_by_its_first_bytes(start: bytes) -> None:
    assert "not the wire protocol" in the_only_problem(start).text


def test_a_bad_frame_does_not_lose_the_good_ones_before_it() -> None:
    good = Frame(3, GroupId(0), b"good")
    reader = a_reader()

    events = reader.feed(encoded(good) * 2 + b"bad bytes" + encoded(good))

    assert events[:2] == [good, good]
    assert isinstance(events[2], BadFrame)
    assert len(events) == 3
    assert reader.feed(encoded(good)) == []


def test_the_first_frame_has_a_limit_of_its_own() -> None:
    reader = FrameReader(max_first=10, max_later=20)
    ten, twenty = Frame(1, GroupId(0), bytes(10)), Frame(1, GroupId(0), bytes(20))

    assert reader.feed(encoded(ten) + encoded(twenty)) == [ten, twenty]
    assert reader.feed(encode_frame(1, GroupId(0), bytes(21))) == [
        BadFrame("a frame announces 21 bytes, but at most 20 are taken here")
    ]
    assert isinstance(FrameReader(max_first=10, max_later=20).feed(encoded(twenty))[0], BadFrame)


def test_a_frame_that_is_too_long_is_refused_by_its_header_alone() -> None:
    header = encode_frame(1, GroupId(0), bytes(100_001))[:FRAME_OVERHEAD]
    assert "100001 bytes" in the_only_problem(header).text


def test_an_announced_length_costs_no_memory() -> None:
    limit = 1 << 30
    reader = FrameReader(max_first=limit, max_later=limit)
    header = encode_frame(1, GroupId(0), bytes(1 << 24))[:FRAME_OVERHEAD]

    tracemalloc.start()
    assert reader.feed(header) == []
    assert reader.feed(bytes(100)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10_000


def test_what_was_read_is_let_go() -> None:
    reader = a_reader()
    whole = encode_frame(1, GroupId(0), bytes(90_000))

    tracemalloc.start()
    for _ in range(20):
        assert reader.feed(whole[:50_000]) == []
        assert len(reader.feed(whole[50_000:])) == 1
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert left < 200_000


def test_a_flag_of_a_later_version_is_not_passed_over() -> None:
    import struct
    import zlib

    checked = struct.pack("<HBBIII", int.from_bytes(MAGIC, "little"), 3, 4, 0, 0, 0)
    assert "flags (0x04)" in the_only_problem(checked + struct.pack("<I", zlib.crc32(checked))).text
