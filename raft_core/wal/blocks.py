"""Batches of records as blocks of 512 bytes, the unit that a disk writes wholly or not at all.

What lives here: the framing of one batch, and nothing about what is in it. A batch is what one sync makes durable; it
fills whole blocks, so no block that was synced is ever written again. The last byte of every block is its mark: FIRST
for the block that begins a batch, NEXT for the others. Space that was preallocated is zeros. The two marks differ from
each other and from zero in four bits or more, so a mark that is neither of them nor zero is damage and nothing else.

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
    """What the first block of a batch says about it."""

    length: int
    checksum: int
    at: Position
    synced: Position


def batch_bytes(payload_length: int) -> int:
    """How many bytes of a segment a batch takes."""
    return -(-(HEAD_BYTES + payload_length) // ROOM) * BLOCK


def frame_batch(payload: bytes, at: Position, synced: Position) -> bytes:
    """The blocks of a batch that begins at `at`, written when everything before `synced` was durable."""
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
    """The head in a block marked FIRST, or None where its checksum does not fit."""
    head = block[_CHECKSUM.size : HEAD_BYTES]
    if len(head) != _HEAD.size or _CHECKSUM.unpack_from(block)[0] != zlib.crc32(head):
        return None
    length, checksum, segment, offset, synced_segment, synced_offset = _HEAD.unpack(head)
    return BatchHead(length, checksum, Position(segment, offset), Position(synced_segment, synced_offset))


def expected_marks(blocks: int) -> bytes:
    """The marks of a whole batch, one per block."""
    return bytes([FIRST]) + bytes(_NEXT_BYTES) * (blocks - 1)


def content_of(blocks: bytes, head: BatchHead) -> bytes | None:
    """The payload of a batch whose marks are all present, or None where its checksum does not fit."""
    content = bytearray(blocks)
    del content[ROOM::BLOCK]
    del content[:HEAD_BYTES]
    if zlib.crc32(content) != head.checksum:
        return None
    return bytes(memoryview(content)[: head.length])
