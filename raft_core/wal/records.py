"""What a batch of the log holds: records, as MessagePack arrays.

What lives here: the two record types and their bytes. `SegmentHeader` is the first record of every segment and of no
other place; it repeats everything that the log says besides entries, so that a segment can be understood when all
older ones are gone. `Change` is one `Persist`, made durable as a whole. A batch's payload is one MessagePack array of
records; every record is an array that begins with its tag. Nothing here is checksummed: the batch is.
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
"""Of everything in a data directory. A reader refuses a higher one."""

MAGIC: Final = "sansio-raft log"


class RecordsUndecodable(ValueError):
    """A payload with a right checksum is not what this library writes."""


@final
class SegmentHeader(Value, frozen=True, tag=1, array_like=True):
    """How the log stood where this segment begins.

    `follows`: the log before this segment ends there; what that segment holds behind it is void, and so is every
    segment between the two. `first`: entries below are not needed any more. `next`: the index of the next entry."""

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
    """The payload of one batch."""
    return _ENCODER.encode(records)


def decode(payload: bytes) -> tuple[Body, ...]:
    """The records of one batch. Raises `RecordsUndecodable`."""
    try:
        return _DECODER.decode(payload)
    except msgspec.MsgspecError as failure:
        raise RecordsUndecodable(str(failure)) from None
