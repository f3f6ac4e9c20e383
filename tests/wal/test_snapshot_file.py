"""Snapshot files, byte by byte: against a second writing of the format, and what every kind of damage is called."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest

from raft_core.entries import SnapshotMeta
from raft_core.errors import LogDamaged, WrongDirectory
from raft_core.ids import ClusterId, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.wal import snapshot_file
from raft_core.wal.filesystem import File
from raft_core.wal.snapshot_file import SNAPSHOT_REMEDY, SnapshotFileReader, SnapshotFileWriter, SnapshotHeader
from raft_testing.disk.crash_disk import Call, CrashDisk

NAME = "snapshot"
CHUNK = 100
META = SnapshotMeta(Index(9), Term(4), Members.initial([1, 2, 3]), Index(2))
HEADER = SnapshotHeader(ClusterId("c"), META, CHUNK)
STATE = bytes(number % 251 for number in range(3 * CHUNK + 40))
START = 512


def crc(data: bytes, start: int = 0) -> bytes:
    return zlib.crc32(data, start).to_bytes(4, "little")


def head_of(body: bytes, *, magic: bytes = b"RAFTSNAP", version: int = 1) -> bytes:
    start = magic + struct.pack("<II", version, len(body))
    whole = start + crc(start + body) + body
    return whole + bytes(-len(whole) % 512)


def whole_file(state: bytes = STATE, *, header: SnapshotHeader = HEADER, seal: int | None = None) -> bytes:
    """What the file of a snapshot has to be, put together in the plainest way. `seal`: another one than the right."""
    head = head_of(msgspec.msgpack.encode(header))
    of_head = zlib.crc32(head)
    chunks, right = b"", of_head
    for number, place in enumerate(range(0, len(state), header.chunk_bytes)):
        chunk = state[place : place + header.chunk_bytes]
        checksum = crc(struct.pack("<IQ", of_head, number) + chunk)
        chunks += checksum + chunk
        right = zlib.crc32(checksum, right)
    trailer = b"SNAPDONE" + struct.pack("<QI", len(state), right if seal is None else seal)
    return head + chunks + trailer + crc(trailer, of_head)


def file_of(data: bytes) -> File:
    file = CrashDisk().create(NAME)
    if data:
        file.write_at(0, data)
    return file


def content(file: File) -> bytes:
    return file.read_at(0, file.size())


def written(file: File, state: bytes, *, header: SnapshotHeader = HEADER, rewrite: bool = False) -> bytes:
    writer = SnapshotFileWriter(file, header, rewrite=rewrite)
    writer.write(state[writer.offset :])
    writer.finish()
    return content(file)


def damage(data: bytes, use: Callable[[SnapshotFileReader], object] = SnapshotFileReader.verify) -> tuple[int, str]:
    """Where and what the damage is that opening and `use` report."""
    with pytest.raises(LogDamaged) as caught:
        use(SnapshotFileReader(file_of(data)))
    assert (caught.value.file, caught.value.remedy) == (NAME, SNAPSHOT_REMEDY)
    return caught.value.offset, caught.value.problem


# Writing.


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, len(STATE)])
def test_a_file_is_what_the_format_says_and_reads_back(size: int) -> None:
    file = file_of(b"")

    assert written(file, STATE[:size]) == whole_file(STATE[:size])
    reader = SnapshotFileReader(file)
    assert (reader.header, reader.meta, reader.size) == (HEADER, META, size)
    assert b"".join(reader.chunks()) == reader.read(0, 10**6) == STATE[:size]
    reader.verify()


def test_a_state_may_come_in_pieces_of_any_size() -> None:
    for piece in (1, 7, CHUNK, 3 * CHUNK):
        file = file_of(b"")
        writer = SnapshotFileWriter(file, HEADER, rewrite=False)
        for place in range(0, len(STATE), piece):
            assert writer.offset == place
            writer.write(STATE[place : place + piece])
        assert writer.offset == len(STATE)
        writer.finish()
        assert content(file) == whole_file()


def test_a_header_of_any_length_fills_whole_blocks() -> None:
    starts = set()
    for length in range(300, 450):
        header = SnapshotHeader(ClusterId("c" * length), META, 1)
        data = written(file_of(b""), b"ab", header=header)
        assert data == whole_file(b"ab", header=header)
        assert SnapshotFileReader(file_of(data)).read(0, 2) == b"ab"
        starts.add(len(data) - 2 * 5 - 24)
    assert starts == {512, 1024}


@pytest.mark.parametrize("rewrite", [False, True])
def test_writing_goes_on_behind_the_last_whole_chunk(rewrite: bool) -> None:
    begun = START + 2 * (CHUNK + 4)
    for length in (begun, begun + 1, begun + 4 + CHUNK - 1):
        file = file_of(whole_file()[:length])
        assert SnapshotFileWriter(file, HEADER, rewrite=rewrite).offset == 2 * CHUNK
        assert written(file, STATE, rewrite=rewrite) == whole_file()


@pytest.mark.parametrize("rewrite", [False, True])
def test_what_another_snapshot_left_is_written_over(rewrite: bool) -> None:
    other = SnapshotHeader(ClusterId("other"), META, CHUNK)
    for left in (b"x", bytes(600), whole_file(header=other)[: START + CHUNK]):
        file = file_of(left)
        assert not SnapshotFileWriter.belongs(file, HEADER)
        assert written(file, STATE, rewrite=rewrite) == whole_file()


def test_what_was_written_before_an_opening_is_written_again() -> None:
    for rewrite, expected in ((True, {0, START, START + CHUNK + 4}), (False, set())):
        disk = CrashDisk()
        file = disk.create(NAME)
        file.write_at(0, whole_file()[: START + 2 * (CHUNK + 4)])
        calls: list[Call] = []
        disk.watch = calls.append

        SnapshotFileWriter(file, HEADER, rewrite=rewrite)

        assert {call.offset for call in calls if call.operation == "write"} == expected


def test_a_long_snapshot_is_synced_every_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_file, "SYNC_BYTES", 3 * CHUNK)
    disk = CrashDisk()
    writer = SnapshotFileWriter(disk.create(NAME), HEADER, rewrite=False)
    calls: list[Call] = []
    disk.watch = calls.append
    synced = []
    for _ in range(20):
        calls.clear()
        writer.write(bytes(CHUNK // 2))
        if "sync" in [call.operation for call in calls]:
            synced.append(writer.offset)

    assert synced == [3 * CHUNK, 6 * CHUNK, 9 * CHUNK]


# Reading.


def test_any_part_reads_as_it_was_written() -> None:
    reader = SnapshotFileReader(file_of(whole_file()))
    places = [place + near for place in range(0, len(STATE) + CHUNK, CHUNK) for near in (-1, 0, 1, 50)][1:]
    for offset in places:
        for length in (0, 1, 49, 50, CHUNK - 1, CHUNK, CHUNK + 1, 10**6):
            assert reader.read(offset, length) == STATE[offset : offset + length], (offset, length)


def test_only_the_chunks_that_are_asked_for_are_read() -> None:
    data = bytearray(whole_file())
    for number in (0, 2, 3):
        data[START + number * (CHUNK + 4) + 20] ^= 1
    reader = SnapshotFileReader(file_of(bytes(data)))

    assert reader.read(CHUNK, CHUNK) == STATE[CHUNK : 2 * CHUNK]
    assert reader.read(len(STATE), 10) == reader.read(5, 0) == b""
    for offset, length in ((CHUNK - 1, 2), (2 * CHUNK - 1, 2), (3 * CHUNK, 1)):
        with pytest.raises(LogDamaged):
            reader.read(offset, length)


# Damage.


def test_every_prefix_of_a_file_is_damage() -> None:
    good = whole_file()
    found = [damage(good[:length])[1] for length in range(len(good))]

    body = len(msgspec.msgpack.encode(HEADER))
    assert set(found[:20]) == {"the header is not one of a snapshot"}
    assert set(found[20 : 20 + body]) == {"the header's checksum is wrong"}
    assert set(found[20 + body :]) == {"the trailer is missing or wrong"}


def test_every_flipped_bit_of_a_file_is_noticed_where_it_is() -> None:
    good = whole_file()
    body, trailer = 20 + len(msgspec.msgpack.encode(HEADER)), len(good) - 24
    for bit in range(0, len(good) * 8, 3):
        place = bit // 8
        flipped = bytearray(good)
        flipped[place] ^= 1 << bit % 8
        if body <= place < START:  # the zeros behind the header mean nothing and are not read
            SnapshotFileReader(file_of(bytes(flipped))).verify()
            continue
        offset, _ = damage(bytes(flipped))
        chunk = START + (place - START) // (CHUNK + 4) * (CHUNK + 4)
        assert offset == (0 if place < body else trailer if place >= trailer else chunk)


def test_a_damaged_chunk_is_named_by_its_place() -> None:
    data = bytearray(whole_file())
    data[START + 2 * (CHUNK + 4) + 10] ^= 1
    wanted = (START + 2 * (CHUNK + 4), "the checksum of a chunk is wrong")

    assert damage(bytes(data)) == wanted
    assert damage(bytes(data), lambda reader: reader.read(2 * CHUNK, 1)) == wanted


def test_a_chunk_that_was_exchanged_unnoticed_by_its_own_checksum_breaks_the_seal() -> None:
    assert damage(whole_file(seal=12345)) == (START, "the checksum of the whole is wrong")


def test_a_header_with_a_right_checksum_has_to_make_sense() -> None:
    nobody = SnapshotMeta(Index(1), Term(1), Members(voters=(NodeId(3),)))
    assert damage(head_of(b"", magic=b"RAFTSNAX")) == (0, "the header is not one of a snapshot")
    offset, problem = damage(head_of(b"\x91\x01"))
    assert (offset, problem.partition(": ")[0]) == (20, "the header cannot be decoded")
    assert "array" in problem
    for wrong in (
        SnapshotHeader(ClusterId("c"), META, 0),
        SnapshotHeader(ClusterId("c"), META, -1),
        SnapshotHeader(ClusterId("c"), nobody, CHUNK),
    ):
        assert damage(head_of(msgspec.msgpack.encode(wrong))) == (20, "the header contradicts itself")


def test_a_newer_format_is_told_from_damage() -> None:
    data = head_of(msgspec.msgpack.encode(HEADER), version=2)
    with pytest.raises(WrongDirectory, match="format 2"):
        SnapshotFileReader(file_of(data))


@pytest.mark.parametrize("extra", [b"\0", bytes(512)])
def test_a_file_that_is_longer_than_it_says_is_damage(extra: bytes) -> None:
    good = whole_file()
    data = good[:-24] + extra + good[-24:]
    assert damage(data) == (len(data) - 24, "the trailer is missing or wrong")
