"""The mark: a file beside a database with the newest durable row, so that a shortened database is noticed.

The mark is overwritten after every commit, before the acknowledgement, and not synced each time. So it never claims too
much, whatever part of it survives, and after a crash of the process it names the last acknowledged row. After a power
loss it may be older: it is synced at every opening, at an orderly close and with every checkpoint.

The file has two slots of 512 bytes, written in turn, so that a torn write leaves the other one.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from typing import Final, final

from raft_core.errors import DiskError, LogDamaged, WrongDirectory
from raft_core.wal.filesystem import File, Files, write_whole
from raft_core.wal.layout import RESTORE_REMEDY
from raft_storage.data_directory import put_in_force, write_new
from raft_storage.rows import ROWS_VERSION, START, Point

__all__ = ["MARK", "MarkFile", "create_mark", "read_mark"]

MARK: Final = "mark"
_SLOT: Final = 512
_SLOTS: Final = 2
_MARK: Final = struct.Struct("<8sIQI")
_SEAL: Final = struct.Struct("<I")
_MAGIC: Final = b"RAFTMARK"


def _sealed(point: Point) -> bytes:
    body = _MARK.pack(_MAGIC, ROWS_VERSION, point.number, point.chain)
    return body + _SEAL.pack(zlib.crc32(body))


def create_mark(files: Files) -> None:
    """Write a mark without a row, durably."""
    slot = _sealed(START).ljust(_SLOT, b"\0")
    write_new(files, MARK, slot * _SLOTS)
    put_in_force(files, MARK)


def read_mark(files: Files) -> Point:
    """Return the newest row named by the mark. Raise `LogDamaged` if neither slot can be read."""
    if MARK not in files.names():
        raise LogDamaged(MARK, 0, "the file is missing", RESTORE_REMEDY)
    file = files.open(MARK)
    try:
        content = file.read_at(0, _SLOT * _SLOTS)
    finally:
        file.close()
    points = [point for at in range(0, _SLOT * _SLOTS, _SLOT) if (point := _read(content[at : at + _SLOT])) is not None]
    if not points:
        raise LogDamaged(MARK, 0, "the checksum is wrong", RESTORE_REMEDY)
    return max(points, key=lambda point: point.number)


def _read(slot: bytes) -> Point | None:
    end = _MARK.size + _SEAL.size
    if len(slot) < end or _SEAL.unpack_from(slot, _MARK.size)[0] != zlib.crc32(slot[: _MARK.size]):
        return None
    magic, version, number, chain = _MARK.unpack_from(slot)
    if magic != _MAGIC:
        return None
    if version > ROWS_VERSION:
        raise WrongDirectory(f"{MARK} has format {version}, this library reads {ROWS_VERSION}: use a newer library")
    return Point(number, chain)


@final
class MarkFile:
    """The mark of an open store."""

    def __init__(self, files: Files) -> None:
        self._file: File = files.open(MARK)

    def put(self, point: Point) -> None:
        """Write `point`, without a sync."""
        write_whole(self._file, point.number % _SLOTS * _SLOT, _sealed(point))

    def sync(self) -> None:
        """Make the last `put` durable."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        with suppress(DiskError):
            self._file.close()
