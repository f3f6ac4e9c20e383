"""The format of a snapshot file, and its reader and writer over the `File` protocol.

Bytes of machine state in, sealed chunks out, and back. Every offset follows from the header alone, so any part can be
read without the parts before it, and an interrupted write resumes behind the last whole chunk.

    file    = header, zeros up to a multiple of 512, chunks, trailer
    header  = magic "RAFTSNAP", version, length, checksum (4 bytes each), then a MessagePack array of that length
    chunk   = checksum (4 bytes), then `chunk_bytes` bytes of state; the last one may be shorter
    trailer = magic "SNAPDONE", size of the state (8), checksum over all chunks' checksums (4), checksum (4)

A chunk's checksum also covers the header's checksum and the chunk's number, so that a chunk of another snapshot or
place is not accepted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, final

import msgspec

from raft_core.entries import SnapshotMeta
from raft_core.errors import LogDamaged, WrongDirectory
from raft_core.ids import ClusterId, GroupId
from raft_core.structs import Value
from raft_core.wal.blocks import BLOCK
from raft_core.wal.filesystem import File, write_whole
from raft_core.wal.records import FORMAT_VERSION

__all__ = ["CHUNK_BYTES", "SNAPSHOT_REMEDY", "SnapshotFileReader", "SnapshotFileWriter", "SnapshotHeader"]

CHUNK_BYTES: Final = 64 * 1024
SYNC_BYTES: Final = 16 * 1024 * 1024
"""Bytes between two syncs while a long file is written, so that the log's syncs need not wait for all of it."""

SNAPSHOT_REMEDY: Final = (
    "The state that this node's log builds on is not readable here. Remove the node from the cluster, and let a node"
    " with a new id and an empty directory join in its place"
)

_MAGIC: Final = b"RAFTSNAP"
_TRAILER_MAGIC: Final = b"SNAPDONE"
_HEAD: Final = struct.Struct("<8sII")
_CHECKSUM: Final = struct.Struct("<I")
_NUMBER: Final = struct.Struct("<IQ")
_TRAILER: Final = struct.Struct("<8sQI")
_TRAILER_BYTES: Final = _TRAILER.size + _CHECKSUM.size


@final
class SnapshotHeader(Value, frozen=True, array_like=True):
    """The identity of a snapshot, and the size of its chunks."""

    cluster: ClusterId
    meta: SnapshotMeta
    chunk_bytes: int
    group: GroupId = GroupId(0)


def _header_bytes(header: SnapshotHeader) -> bytes:
    body = msgspec.msgpack.encode(header)
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, len(body))
    whole = head + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body
    return whole + bytes(-len(whole) % BLOCK)


def _damaged(file: File, offset: int, problem: str) -> LogDamaged:
    return LogDamaged(file.name, offset, problem, SNAPSHOT_REMEDY)


@final
class _Layout:
    """A header, and the offsets that follow from it."""

    __slots__ = ("header", "seal", "start")

    def __init__(self, header: SnapshotHeader) -> None:
        block = _header_bytes(header)
        self.header = header
        self.start = len(block)
        self.seal = zlib.crc32(block)

    def place(self, number: int) -> int:
        """Return the offset of chunk `number`."""
        return self.start + number * (_CHECKSUM.size + self.header.chunk_bytes)

    def checksum(self, number: int, data: bytes) -> int:
        return zlib.crc32(data, zlib.crc32(_NUMBER.pack(self.seal, number)))

    def chunk(self, file: File, number: int, length: int) -> bytes | None:
        """Return the `length` bytes of a chunk, or None if they have changed."""
        data = file.read_at(self.place(number), _CHECKSUM.size + length)
        state = data[_CHECKSUM.size :]
        if len(state) != length or _CHECKSUM.unpack_from(data)[0] != self.checksum(number, state):
            return None
        return state


def _read_layout(file: File) -> _Layout:
    head = file.read_at(0, _HEAD.size + _CHECKSUM.size)
    if len(head) < _HEAD.size + _CHECKSUM.size or head[:8] != _MAGIC:
        raise _damaged(file, 0, "the header is not one of a snapshot")
    _, version, length = _HEAD.unpack_from(head)
    body = file.read_at(len(head), min(length, file.size()))
    if _CHECKSUM.unpack_from(head, _HEAD.size)[0] != zlib.crc32(body, zlib.crc32(head[: _HEAD.size])):
        raise _damaged(file, 0, "the header's checksum is wrong")
    if version > FORMAT_VERSION:
        raise WrongDirectory(f"{file.name} has format {version}, this library reads {FORMAT_VERSION}")
    try:
        layout = _Layout(msgspec.msgpack.decode(body, type=SnapshotHeader))
    except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
        raise _damaged(file, len(head), f"the header cannot be decoded: {failure}") from None
    if layout.header.meta.members.problem() is not None or layout.header.chunk_bytes <= 0:
        raise _damaged(file, len(head), "the header contradicts itself")
    return layout


@final
class SnapshotFileReader:
    """A finished snapshot. Raise `LogDamaged` if its bytes have changed."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._layout = _read_layout(file)
        place = file.size() - _TRAILER_BYTES  # not negative: a header is longer than a trailer
        trailer = file.read_at(place, _TRAILER_BYTES)
        magic: bytes
        self._size: int
        self._seal: int
        magic, self._size, self._seal = _TRAILER.unpack_from(trailer)
        right = _CHECKSUM.pack(zlib.crc32(trailer[: _TRAILER.size], self._layout.seal)) == trailer[_TRAILER.size :]
        if magic != _TRAILER_MAGIC or not right or place != self._end():
            raise _damaged(file, place, "the trailer is missing or wrong")

    def _end(self) -> int:
        """Return the offset of the trailer."""
        whole, rest = divmod(self._size, self._layout.header.chunk_bytes)
        return self._layout.place(whole) + (_CHECKSUM.size + rest if rest else 0)

    @property
    def header(self) -> SnapshotHeader:
        """The header of the file."""
        return self._layout.header

    @property
    def meta(self) -> SnapshotMeta:
        """Index, term and configuration of the snapshot."""
        return self._layout.header.meta

    @property
    def size(self) -> int:
        """The size of the machine state in bytes."""
        return self._size

    def _chunk(self, number: int) -> bytes:
        chunk_bytes = self._layout.header.chunk_bytes
        data = self._layout.chunk(self._file, number, min(chunk_bytes, self._size - number * chunk_bytes))
        if data is None:
            raise _damaged(self._file, self._layout.place(number), "the checksum of a chunk is wrong")
        return data

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        chunk_bytes = self._layout.header.chunk_bytes
        first, last = offset // chunk_bytes, (end - 1) // chunk_bytes
        data = b"".join([self._chunk(number) for number in range(first, last + 1)])
        return data[offset - first * chunk_bytes : end - first * chunk_bytes]

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole state in order, each chunk checked first."""
        chunk_bytes = self._layout.header.chunk_bytes
        for number in range(-(-self._size // chunk_bytes)):
            yield self._chunk(number)

    def verify(self) -> None:
        """Check every byte. Raise `LogDamaged`."""
        seal = self._layout.seal
        for number, chunk in enumerate(self.chunks()):
            seal = zlib.crc32(_CHECKSUM.pack(self._layout.checksum(number, chunk)), seal)
        if seal != self._seal:
            raise _damaged(self._file, self._layout.start, "the checksum of the whole is wrong")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class SnapshotFileWriter:
    """A snapshot being written into `file`, which is empty or holds the beginning of the same one.

    `rewrite`: its contents were written before the last opening, so they may be in a page cache only; they are written
    again, unchanged, to be covered by the next sync.
    """

    def __init__(self, file: File, header: SnapshotHeader, *, rewrite: bool) -> None:
        self._file = file
        self._layout = _Layout(header)
        self._buffer = bytearray()
        self._chunks = 0
        self._seal = self._layout.seal
        self._synced = 0
        resumed = self.belongs(file, header)
        if rewrite or not resumed:
            write_whole(file, 0, _header_bytes(header))
        if resumed:
            self._take_up(rewrite=rewrite)

    @staticmethod
    def belongs(file: File, header: SnapshotHeader) -> bool:
        """Return whether `file` holds the beginning of this snapshot, so that it can be resumed."""
        expected = _header_bytes(header)
        return file.read_at(0, len(expected)) == expected

    def _take_up(self, *, rewrite: bool) -> None:
        """Resume behind the last whole chunk."""
        chunk_bytes = self._layout.header.chunk_bytes
        while (chunk := self._layout.chunk(self._file, self._chunks, chunk_bytes)) is not None:
            if rewrite:
                self._put(chunk)
            else:
                self._count(self._layout.checksum(self._chunks, chunk))

    def _count(self, checksum: int) -> None:
        self._seal = zlib.crc32(_CHECKSUM.pack(checksum), self._seal)
        self._chunks += 1

    @property
    def offset(self) -> int:
        """Return the bytes of state taken; after a crash, whole chunks of these are still there."""
        return self._chunks * self._layout.header.chunk_bytes + len(self._buffer)

    def write(self, data: bytes) -> None:
        """Append to the state."""
        self._buffer += data
        chunk_bytes = self._layout.header.chunk_bytes
        whole = len(self._buffer) // chunk_bytes * chunk_bytes
        for start in range(0, whole, chunk_bytes):
            self._put(bytes(self._buffer[start : start + chunk_bytes]))
        del self._buffer[:whole]
        if self.offset - self._synced >= SYNC_BYTES:
            self._file.sync()
            self._synced = self.offset

    def _put(self, chunk: bytes) -> None:
        checksum = self._layout.checksum(self._chunks, chunk)
        write_whole(self._file, self._layout.place(self._chunks), _CHECKSUM.pack(checksum) + chunk)
        self._count(checksum)

    def finish(self) -> None:
        """Complete and sync the file; the caller renames it."""
        size = self.offset
        end = self._layout.place(self._chunks)
        if self._buffer:
            end += _CHECKSUM.size + len(self._buffer)
            self._put(bytes(self._buffer))
            self._buffer.clear()
        body = _TRAILER.pack(_TRAILER_MAGIC, size, self._seal)
        write_whole(self._file, end, body + _CHECKSUM.pack(zlib.crc32(body, self._layout.seal)))
        self._file.sync()
        self._file.close()

    def close(self) -> None:
        """Leave the file as it is, to be resumed later."""
        self._file.close()
