"""The small files and all names of a data directory, and the two loops over a file, byte by byte as the format says."""

from __future__ import annotations

import struct
import zlib

import pytest

from raft_core.entries import LogPosition, SnapshotMeta
from raft_core.errors import LogDamaged, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.wal.blocks import BLOCK, Position
from raft_core.wal.filesystem import FileFailed, FileMissing, read_whole, write_whole
from raft_core.wal.layout import (
    ANCHOR,
    IDENTITY,
    RESTORE_REMEDY,
    Anchor,
    IdentityFile,
    is_received,
    is_unfinished,
    new_name,
    part_name,
    read_anchor,
    read_identity,
    sealed,
    segment_name,
    segment_number,
    snapshot_name,
    snapshot_position,
)
from raft_testing.disk.crash_disk import CrashDisk

AT = Position(3, 4 * BLOCK)


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


def test_small_files_are_what_the_format_says() -> None:
    for value, magic, body in (
        (IdentityFile(ClusterId("c"), NodeId(4), Incarnation(5)), b"RAFTIDEN", b"\x93\xa1c\x04\x05"),
        (Anchor(BootNumber(9), Position(3, 100)), b"RAFTANCH", b"\x92\x09\x92\x03d"),
    ):
        start = magic + struct.pack("<II", 1, len(body))
        assert sealed(value) == start + struct.pack("<I", zlib.crc32(start + body)) + body


def small_file(body: bytes, *, magic: bytes = b"RAFTANCH", version: int = 1, length: int | None = None) -> bytes:
    start = magic + struct.pack("<II", version, len(body) if length is None else length)
    return start + struct.pack("<I", zlib.crc32(start + body)) + body


@pytest.mark.parametrize(
    ("data", "offset", "problem"),
    [
        (b"", 0, "the file is too short"),
        (b"RAFTANCH" + bytes(11), 0, "the file is too short"),
        (b"RAFTANCH" + bytes(12), 0, "the checksum is wrong"),
        (small_file(b"\x92\x01\x92\x00\x00", magic=b"RAFTIDEN"), 0, "the checksum is wrong"),
        (small_file(b"\x92\x01\x92\x00\x00", length=4), 0, "the checksum is wrong"),
        (small_file(b""), 20, "cannot be decoded: Input data was truncated"),
        (small_file(b"\x01"), 20, "cannot be decoded: Expected `array`, got `int`"),
    ],
)
def test_a_small_file_that_is_damaged_says_where_and_how(data: bytes, offset: int, problem: str) -> None:
    with pytest.raises(LogDamaged) as caught:
        read_anchor(data)
    found = caught.value
    assert (found.file, found.offset, found.problem, found.remedy) == (ANCHOR, offset, problem, RESTORE_REMEDY)


def test_a_small_file_of_a_newer_format_is_told_from_damage() -> None:
    with pytest.raises(WrongDirectory, match="format 2"):
        read_identity(small_file(b"", magic=b"RAFTIDEN", version=2))


def test_names_are_what_the_format_says() -> None:
    position = LogPosition(Index(70), Term(3))
    snapshot = "snapshot-00000000000000000070-00000000000000000003"
    assert segment_name(12) == "0000000000000012.log"
    assert snapshot_name(position) == snapshot
    assert part_name(position, None) == f"{snapshot}-own.part"
    for source in ("peer", "Zoë", "a" * 300):
        name = source.encode()
        assert part_name(position, source) == f"{snapshot}-from-{zlib.crc32(name):08x}-{len(name)}.part"
    assert new_name(ANCHOR) == "anchor.new"
    for unfinished in (new_name(ANCHOR), part_name(position, None), part_name(position, "peer")):
        assert is_unfinished(unfinished)
        assert is_received(unfinished) == (unfinished == part_name(position, "peer"))
    assert not any(is_unfinished(name) for name in (ANCHOR, IDENTITY, snapshot, segment_name(1)))


def test_names_read_back_and_other_names_mean_nothing() -> None:
    position = SnapshotMeta(Index(70), Term(3), Members()).position
    assert segment_number(segment_name(12)) == 12
    assert snapshot_position(snapshot_name(position)) == position
    for other in ("12.log", "lock", part_name(position, None), part_name(position, "peer"), "0000000000000012.log.new"):
        assert segment_number(other) is None
        assert snapshot_position(other) is None


def test_a_failed_operation_says_what_was_done_to_which_file_and_why() -> None:
    failure = FileFailed("sync", "anchor", "no luck")
    assert (failure.operation, failure.name, failure.problem) == ("sync", "anchor", "no luck")
    assert str(failure) == "sync anchor: no luck"


class Slow:
    """A file that takes as many bytes at a time as it is told, and holds what it was given."""

    name = "slow"

    def __init__(self, *takes: int) -> None:
        self.takes = list(takes)
        self.held = bytearray(b"-" * 12)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        taken = min(self.takes.pop(0), len(data))
        self.held[offset : offset + taken] = data[:taken]
        return taken

    def size(self) -> int:
        raise NotImplementedError

    def read_at(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def preallocate(self, size: int) -> None:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("takes", [(10,), (8,), (3, 5), (1, 1, 6), (7, 1)])
def test_whatever_a_file_takes_at_a_time_all_of_it_is_written_and_nothing_more(takes: tuple[int, ...]) -> None:
    file = Slow(*takes)
    write_whole(file, 2, b"contents")
    assert (bytes(file.held), file.takes) == (b"--contents--", [])


@pytest.mark.parametrize("takes", [(0, 0), (3, 0), (3, -1)])
def test_a_file_that_takes_nothing_is_an_error(takes: tuple[int, ...]) -> None:
    with pytest.raises(FileFailed, match="write slow"):
        write_whole(Slow(*takes), 2, b"contents")


def test_a_file_is_read_as_a_whole() -> None:
    disk = CrashDisk()
    file = disk.create("file")
    file.write_at(0, b"contents" * 100)
    assert read_whole(disk, "file") == b"contents" * 100
    with pytest.raises(FileMissing):
        read_whole(disk, "nothing")
