"""The files of a data directory: their names, and the format of the two small ones.

`identity` is written once. `anchor` is replaced at every opening, rotation and orderly close; it names a place up to
which the log was synced, so that a log that lost its newest segment is not taken for a shorter log.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final, TypeVar, final

import msgspec

from raft_core.entries import LogPosition
from raft_core.errors import LogDamaged, WrongDirectory
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, Term
from raft_core.structs import Value
from raft_core.wal.blocks import Position
from raft_core.wal.records import FORMAT_VERSION

__all__ = [
    "ANCHOR",
    "IDENTITY",
    "LOCK",
    "RESTORE_REMEDY",
    "Anchor",
    "IdentityFile",
    "is_received",
    "is_unfinished",
    "new_name",
    "part_name",
    "read_anchor",
    "read_identity",
    "sealed",
    "segment_name",
    "segment_number",
    "snapshot_name",
    "snapshot_position",
]

IDENTITY: Final = "identity"
ANCHOR: Final = "anchor"
LOCK: Final = "lock"

RESTORE_REMEDY: Final = (
    "This node must not vote with what is left. Remove it from the cluster, and let a node with a new id and an empty"
    " directory join in its place"
)

_IDENTITY_MAGIC: Final = b"RAFTIDEN"
_ANCHOR_MAGIC: Final = b"RAFTANCH"
_SEAL: Final = struct.Struct("<8sIII")


@final
class IdentityFile(Value, frozen=True, array_like=True):
    """The owner of a directory."""

    cluster: ClusterId
    node: NodeId
    incarnation: Incarnation


@final
class Anchor(Value, frozen=True, array_like=True):
    """The number of the last opening, and a place up to which the log was synced when this was written."""

    boot: BootNumber
    synced: Position


_Sealed = TypeVar("_Sealed", IdentityFile, Anchor)


def sealed(value: IdentityFile | Anchor) -> bytes:
    """Return the whole contents of a small file."""
    magic = _IDENTITY_MAGIC if isinstance(value, IdentityFile) else _ANCHOR_MAGIC
    body = msgspec.msgpack.encode(value)
    start = _SEAL.pack(magic, FORMAT_VERSION, len(body), 0)[:-4]
    return start + zlib.crc32(body, zlib.crc32(start)).to_bytes(4, "little") + body


def read_identity(data: bytes) -> IdentityFile:
    """Return the contents of `identity`. Raise `LogDamaged` or `WrongDirectory`."""
    return _unsealed(IDENTITY, _IDENTITY_MAGIC, data, IdentityFile)


def read_anchor(data: bytes) -> Anchor:
    """Return the contents of `anchor`. Raise `LogDamaged` or `WrongDirectory`."""
    return _unsealed(ANCHOR, _ANCHOR_MAGIC, data, Anchor)


def _unsealed(name: str, magic: bytes, data: bytes, kind: type[_Sealed]) -> _Sealed:
    if len(data) < _SEAL.size:
        raise LogDamaged(name, 0, "the file is too short", RESTORE_REMEDY)
    found, version, length, checksum = _SEAL.unpack_from(data)
    body = data[_SEAL.size :]
    right = zlib.crc32(body, zlib.crc32(data[: _SEAL.size - 4])) == checksum
    if found != magic or len(body) != length or not right:
        raise LogDamaged(name, 0, "the checksum is wrong", RESTORE_REMEDY)
    if version > FORMAT_VERSION:
        raise WrongDirectory(f"{name} has format {version}, this library reads {FORMAT_VERSION}: use a newer library")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
        raise LogDamaged(name, _SEAL.size, f"cannot be decoded: {failure}", RESTORE_REMEDY) from None


# Names.

_SEGMENT: Final = re.compile(r"([0-9]{16})\.log")
_SNAPSHOT: Final = re.compile(r"snapshot-([0-9]{20})-([0-9]{20})")
_NEW: Final = ".new"
_PART: Final = ".part"
_RECEIVED: Final = "-from-"


def segment_name(sequence: int) -> str:
    """Return the file name of the segment with this number; names sort as numbers do."""
    return f"{sequence:016d}.log"


def segment_number(name: str) -> int | None:
    """Return the segment's sequence number, or None for another file."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


def snapshot_name(position: LogPosition) -> str:
    """Return the file name of a finished snapshot. The log tells whether it is in force."""
    return f"snapshot-{position.index:020d}-{position.term:020d}"


def snapshot_position(name: str) -> LogPosition | None:
    """Return the position of a finished snapshot, or None for another file."""
    match = _SNAPSHOT.fullmatch(name)
    return LogPosition(Index(int(match[1])), Term(int(match[2]))) if match else None


def part_name(position: LogPosition, source: str | None) -> str:
    """Return the file name of an unfinished snapshot: this node's own, or one received from `source`."""
    if source is None:
        return f"{snapshot_name(position)}-own{_PART}"
    name = source.encode()
    return f"{snapshot_name(position)}{_RECEIVED}{zlib.crc32(name):08x}-{len(name)}{_PART}"


def new_name(name: str) -> str:
    """Return the name of a small file's replacement while it is written."""
    return name + _NEW


def is_unfinished(name: str) -> bool:
    """Return whether the file is unreferenced: an unfinished snapshot, or a small file before its renaming."""
    return name.endswith((_NEW, _PART))


def is_received(name: str) -> bool:
    """Return whether the file is an unfinished snapshot from another node, which may be resumed."""
    return name.endswith(_PART) and _RECEIVED in name
