"""The records of a batch, as MessagePack arrays.

There are two types. `SegmentHeader` is the first record of every segment and occurs nowhere else; it repeats the whole
state of the log except entries, so that a segment can be understood when all older ones are gone. `Change` is one
`Persist`, made durable as a whole. A batch's payload is one MessagePack array of records; every record is an array that
begins with its tag. Records have no checksum: the batch has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, final

import msgspec

from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import NO_INDEX, BootNumber, ClusterId, GroupId, Incarnation, Index, NodeId
from raft_core.structs import Value
from raft_core.wal.blocks import Position

__all__ = ["FORMAT_VERSION", "MAGIC", "Body", "Change", "RecordsUndecodable", "SegmentHeader", "decode", "encode"]

FORMAT_VERSION: Final = 1
"""Version of everything in a data directory. A reader refuses a higher one."""

MAGIC: Final = "sansio-raft log"


class RecordsUndecodable(ValueError):
    """A payload with a valid checksum was not written by this library."""


@final
class SegmentHeader(Value, frozen=True, tag=1, array_like=True):
    """The state of the log at the beginning of this segment.

    `follows`: the end of the log before this segment; the rest of that segment is void, and so is every segment between
    the two. `first`: entries below are obsolete. `next`: the index of the next entry.
    """

    magic: str
    version: int
    sequence: int
    cluster: ClusterId
    node: NodeId
    incarnation: Incarnation
    boot: BootNumber
    follows: Position
    first: Index
    next: Index
    hard: HardState
    snapshot: SnapshotMeta | None
    group: GroupId = GroupId(0)


@final
class Change(Value, frozen=True, tag=2, array_like=True):
    """One `Persist`. `discard`: the log did not hold the snapshot's position, so the switch discards all of it."""

    group: GroupId = GroupId(0)
    hard: HardState | None = None
    truncate_from: Index = NO_INDEX
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    discard: bool = False
    drop_before: Index = NO_INDEX


Body: TypeAlias = SegmentHeader | Change

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(tuple[Body, ...])


def encode(records: Sequence[Body]) -> bytes:
    """Return the payload of one batch."""
    return _ENCODER.encode(records)


def decode(payload: bytes | memoryview) -> tuple[Body, ...]:
    """Return the records of one batch. Raise `RecordsUndecodable`."""
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
        raise RecordsUndecodable(str(failure)) from None
