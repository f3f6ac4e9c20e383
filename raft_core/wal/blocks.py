"""Batches of records as blocks of 512 bytes, the unit that a disk writes atomically.

This is the framing of one batch, without its contents. A batch is the unit of one sync. It fills whole blocks, so no
synced block is ever written again. The last byte of every block is its mark: FIRST for the block that begins a batch,
NEXT for the others. Preallocated space is zeros. The two marks differ from each other and from zero in four bits or
more, so a mark that is neither of them nor zero is damage and nothing else.

    batch   = head (44 bytes) + payload + zeros up to the end of the last block, 511 bytes of it in each block
    head    = checksum of the rest of the head, payload length, checksum of payload and zeros,
              segment, offset (where this batch is), synced segment, synced offset (up to where all was durable before)
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, final

from raft_core.structs import Value

__all__ = [
    "BLOCK",
    "FIRST",
    "HEAD_BYTES",
    "NEXT",
    "NOWHERE",
    "ROOM",
    "BatchHead",
    "Position",
    "batch_bytes",
    "content_of",
    "expected_marks",
    "frame_batch",
    "marks_of",
    "parse_head",
]

BLOCK: Final = 512
ROOM: Final = BLOCK - 1
"""Bytes of a block before its mark."""

FIRST: Final = 0xA6
NEXT: Final = 0x59
_NEXT_BYTES: Final = bytearray([NEXT])

_HEAD: Final = struct.Struct("<IIQQQQ")
_CHECKSUM: Final = struct.Struct("<I")
HEAD_BYTES: Final = _CHECKSUM.size + _HEAD.size

_LIMIT: Final = 2**32 - 1


@final
class Position(Value, frozen=True, array_like=True, order=True):
    """A place in the log: a segment's number and a byte offset in it."""

    segment: int
    offset: int


NOWHERE: Final = Position(0, 0)
"""Before the first segment."""


@final
class BatchHead(Value, frozen=True, array_like=True):
    """The head of a batch, in its first block."""

    length: int
    checksum: int
    at: Position
    synced: Position


def batch_bytes(payload_length: int) -> int:
    """Return the bytes that a batch takes in a segment."""
    return -(-(HEAD_BYTES + payload_length) // ROOM) * BLOCK


def frame_batch(payload: bytes, at: Position, synced: Position) -> bytes:
    """Return the blocks of a batch at `at`, written when everything before `synced` was durable."""
    if len(payload) > _LIMIT:
        raise ValueError("a batch holds less than 4 GiB")
    padding = bytes(batch_bytes(len(payload)) // BLOCK * ROOM - HEAD_BYTES - len(payload))
    checksum = zlib.crc32(padding, zlib.crc32(payload))
    head = _HEAD.pack(len(payload), checksum, at.segment, at.offset, synced.segment, synced.offset)
    stream = memoryview(b"".join((_CHECKSUM.pack(zlib.crc32(head)), head, payload, padding)))
    framed = _NEXT_BYTES.join([stream[start : start + ROOM] for start in range(0, len(stream), ROOM)])
    framed.append(NEXT)
    framed[ROOM] = FIRST
    return bytes(framed)


def parse_head(block: bytes) -> BatchHead | None:
    """Return the head in a block marked FIRST, or None if its checksum is wrong."""
    head = block[_CHECKSUM.size : HEAD_BYTES]
    if len(head) != _HEAD.size or _CHECKSUM.unpack_from(block)[0] != zlib.crc32(head):
        return None
    length, checksum, segment, offset, synced_segment, synced_offset = _HEAD.unpack(head)
    return BatchHead(length, checksum, Position(segment, offset), Position(synced_segment, synced_offset))


def expected_marks(blocks: int) -> bytes:
    """Return the marks of a whole batch, one per block."""
    return bytes([FIRST]) + bytes(_NEXT_BYTES) * (blocks - 1)


def marks_of(blocks: bytearray) -> bytes:
    """Return the mark of each block."""
    return bytes(blocks[ROOM::BLOCK])


def content_of(blocks: bytearray, head: BatchHead) -> memoryview | None:
    """Return the payload of a batch with all its marks, or None if its checksum is wrong. Uses up `blocks`."""
    del blocks[ROOM::BLOCK]
    del blocks[:HEAD_BYTES]
    if zlib.crc32(blocks) != head.checksum:
        return None
    return memoryview(blocks)[: head.length]
