"""The format of a snapshot: a magic line, then blocks with their lengths; a head first, then keys with their records.

Each block is its length as four bytes, big endian, and msgpack: the `SnapshotHead`, then lists of (key, record). A long
value has a block of its own, which is written piece by piece. Blocks may be cut anywhere on their way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

import msgspec

from raft_kv.keyspace import Frozen, Keyspace, Kind, Millis, Record, Version
from raft_kv.long_values import LONG_BYTES, Long, portion
from raft_kv.once import ClientSession
from raft_kv.users.rules import User

__all__ = ["SnapshotHead", "SnapshotUnreadable", "count_keys", "read_snapshot", "write_snapshot"]

_MAGIC: Final = b"raft-kv snapshot 1\n"
_LENGTH: Final = struct.Struct(">I")
_BINARY: Final = struct.Struct(">BI")
_CHUNK_BYTES: Final = 256 * 1024


class SnapshotUnreadable(ValueError):
    """The chunks are not a snapshot of this machine, or end too early."""


@final
class SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    """The contents of a snapshot besides its keys."""

    time: Millis
    index: Version
    keys_created: int
    tombstones: list[Version]
    count: int
    sessions: list[msgspec.Raw] = []
    """Each a pair of a number and a `ClientSession`, the least recently used first, encoded and decoded one by one so
    that no step takes long. Trailing, and absent from snapshots of releases that knew no sessions."""
    users: list[User] = []
    """Trailing, and absent from snapshots of releases that knew no users."""


@final
class _Stored(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Record` as a snapshot holds it."""

    kind: Kind
    value: bytes
    version: Version
    deadline: Millis
    born: int

    def record(self) -> Record:
        value = self.value if len(self.value) <= LONG_BYTES else Long.of(self.value)
        return Record(self.kind, value, self.version, self.deadline, self.born)


def write_snapshot(
    space: Keyspace, sessions: Mapping[int, ClientSession], users: Iterable[User] = ()
) -> Iterator[bytes]:
    """Return an iterator over the chunks of a snapshot of this moment, to be driven from any thread."""
    head = SnapshotHead(space.time, space.index, space.keys_created, space.tombstones(), space.size, users=list(users))
    return _write(head, list(sessions.items()), space.freeze())


def _write(head: SnapshotHead, sessions: list[tuple[int, ClientSession]], records: Frozen) -> Iterator[bytes]:
    encoder = msgspec.msgpack.Encoder()
    rows = [msgspec.Raw(encoder.encode(row)) for row in sessions]
    block = encoder.encode(msgspec.structs.replace(head, sessions=rows))
    yield _MAGIC + _LENGTH.pack(len(block)) + block
    pairs: list[tuple[bytes, Record]] = []
    size = 0
    for key, record in records:
        long = len(record.value) > LONG_BYTES
        if pairs and (long or size >= _CHUNK_BYTES):
            block = encoder.encode(pairs)
            yield _LENGTH.pack(len(block)) + block
            pairs, size = [], 0
        if long:
            yield from _long_block(key, record, encoder)
            continue
        pairs.append((key, record))
        size += len(key) + len(record.value) + 32
    if pairs:
        block = encoder.encode(pairs)
        yield _LENGTH.pack(len(block)) + block


def _long_block(key: bytes, record: Record, encoder: msgspec.msgpack.Encoder) -> Iterator[bytes]:
    """Yield a block of one long value, piece by piece, so that no step copies all of it."""
    size = len(record.value)
    head = b"\x91\x92" + encoder.encode(key) + b"\x95" + encoder.encode(record.kind) + _BINARY.pack(0xC6, size)
    tail = encoder.encode(record.version) + encoder.encode(record.deadline) + encoder.encode(record.born)
    yield _LENGTH.pack(len(head) + size + len(tail)) + head
    for start in range(0, size, _CHUNK_BYTES):
        yield portion(record.value, start, start + _CHUNK_BYTES)
    yield tail


def read_snapshot(chunks: Iterable[bytes]) -> tuple[dict[int, ClientSession], Keyspace, list[User]]:
    """Return the client sessions, the keys and the users of a snapshot. Raise `SnapshotUnreadable`."""
    blocks = _blocks(chunks)
    decoder = msgspec.msgpack.Decoder(list[tuple[bytes, _Stored]])
    try:
        first = next(blocks, None)
        if first is None:
            raise SnapshotUnreadable("it is empty")
        head = msgspec.msgpack.decode(bytes(first), type=SnapshotHead)  # a copy: its raw rows refer to the bytes
        row = msgspec.msgpack.Decoder(tuple[int, ClientSession])
        sessions = dict(row.decode(encoded) for encoded in head.sessions)
        space = Keyspace(head.time, head.index, head.keys_created)
        space.fill_tombstones(head.tombstones)
        for block in blocks:
            for key, stored in decoder.decode(block):
                record = stored.record()
                if space.alive(key) is not None or 0 < record.deadline <= head.time:
                    raise SnapshotUnreadable("it holds a key twice, or one that is gone")
                space.fill(key, record)
    except msgspec.MsgspecError as failure:
        raise SnapshotUnreadable(str(failure)) from None
    if space.size != head.count:
        raise SnapshotUnreadable(f"{head.count} keys were announced, {space.size} came")
    return sessions, space, head.users


def count_keys(chunks: Iterable[bytes]) -> int:
    """Return the number of keys in a snapshot, after decoding all of it. Raise `SnapshotUnreadable`."""
    blocks = _blocks(chunks)
    decoder = msgspec.msgpack.Decoder(list[tuple[bytes, _Stored]])
    count = 0
    try:
        first = next(blocks, None)
        if first is None:
            raise SnapshotUnreadable("it is empty")
        announced = msgspec.msgpack.decode(bytes(first), type=SnapshotHead).count
        for block in blocks:
            count += len(decoder.decode(block))
    except msgspec.MsgspecError as failure:
        raise SnapshotUnreadable(str(failure)) from None
    if count != announced:
        raise SnapshotUnreadable(f"{announced} keys were announced, {count} came")
    return count


def _blocks(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    """Yield the blocks of a snapshot, however its bytes were cut on the way; each is valid until the next.

    All lie in one buffer. A copy of each would be freed between values that stay, and leave holes in the heap: 6 % of a
    state of values of 32 KiB.
    """
    buffer = bytearray()
    wanted = len(_MAGIC)
    started = False
    length_known = False
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= wanted:
            taken = wanted
            with memoryview(buffer) as whole, whole[:taken] as piece:
                if not started:
                    if bytes(piece) != _MAGIC:
                        raise SnapshotUnreadable("it does not begin as a snapshot of this machine")
                    started, wanted = True, _LENGTH.size
                elif not length_known:
                    length_known, wanted = True, _LENGTH.unpack(piece)[0]
                else:
                    yield piece
                    length_known, wanted = False, _LENGTH.size
            del buffer[:taken]
    if buffer or length_known or not started:
        raise SnapshotUnreadable("it ends in the middle")
