"""The format of a snapshot of `Objects`: small pieces, so that neither writing nor reading one takes long at a time.

    snapshot    record ...
    record      length u32 | MessagePack
    first       [format, enabled, begun, now, [index ...]]    of the commands that were skipped
    field       [object, field, value]
    portion     [object, field, tag, [part ...]]        of a sharded or large container, as many as it takes

Equal states give equal bytes. Objects that this code does not have are kept as records, and written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from struct import Struct
from typing import Any, Final

import attrs
import msgspec

from raft_objects.codec import Codec
from raft_objects.errors import VersionUnknown
from raft_objects.portions import Portions, extended, leave_out, let_others_run, packed_portions, uncollected
from raft_objects.shards import SHARD, ShardedDict, ShardedSortedList

__all__ = ["Contents", "Head", "read_snapshot", "written_snapshot"]

_FORMAT: Final = 2
_LENGTH: Final = Struct("<I")
_CHUNK: Final = 64 * 1024
_DICT, _SORTED = range(2)
_LEFT_OUT_AFTER: Final = 100
"""Records, of 512 entries in a large state, after which what was restored is left out of garbage collections."""


@attrs.frozen
class Head:
    """What a snapshot says of all objects."""

    enabled: int
    begun: bool
    now: int
    skipped: tuple[int, ...] = ()


@attrs.frozen
class Contents:
    """A snapshot that was read: fields by object, and records of unknown objects."""

    head: Head
    fields: dict[str, dict[str, Any]]
    unclaimed: dict[str, list[bytes]]


def written_snapshot(
    head: Head, held: Mapping[str, tuple[Codec, Mapping[str, Any]]], unclaimed: Mapping[str, list[bytes]]
) -> Iterator[bytes]:
    """Yield the chunks of a snapshot: of fields with the codec of their object, and of records kept."""
    waiting: list[bytes] = []
    size = 0
    for record in _records(head, held, unclaimed):
        waiting += (_LENGTH.pack(len(record)), record)
        size += _LENGTH.size + len(record)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _records(
    head: Head, held: Mapping[str, tuple[Codec, Mapping[str, Any]]], unclaimed: Mapping[str, list[bytes]]
) -> Iterator[bytes]:
    encode = msgspec.msgpack.Encoder().encode
    yield encode([_FORMAT, head.enabled, head.begun, head.now, head.skipped])
    for name in sorted([*held, *unclaimed]):
        if name in unclaimed:
            yield from unclaimed[name]
            continue
        codec, fields = held[name]
        for field, value in sorted(fields.items()):
            if isinstance(value, ShardedDict):
                pairs = value.items()
                while portion := [codec.pack(part) for pair in islice(pairs, SHARD) for part in pair]:
                    yield encode([name, field, _DICT, portion])
                    let_others_run()
                yield encode([name, field, _DICT, []])
            elif isinstance(value, ShardedSortedList):
                entries = iter(value)
                while portion := [codec.pack(part) for part in islice(entries, SHARD)]:
                    yield encode([name, field, _SORTED, portion])
                    let_others_run()
                yield encode([name, field, _SORTED, []])
            elif isinstance(value, Portions):
                for portion in packed_portions(value, codec):
                    yield encode([name, field, value.tag, portion])
            else:
                yield encode([name, field, codec.pack(value)])


def read_snapshot(chunks: Iterable[bytes], codecs: Mapping[str, Codec]) -> Contents:
    """Return what a snapshot holds. Raise `VersionUnknown` if it has another format, `ValueError` if it is damaged."""
    records = _lengths_removed(chunks)
    number, *rest = msgspec.msgpack.decode(next(records, b"\x91\xc0"))
    if number != _FORMAT:
        raise VersionUnknown(f"the snapshot has format {number}, this release reads {_FORMAT}")
    contents = Contents(Head(*rest), {}, {})
    for number, record in enumerate(records, 1):
        with uncollected():
            _read_record(record, codecs, contents)
        let_others_run()
        if not number % _LEFT_OUT_AFTER:
            leave_out()
            let_others_run()
    return contents


def _read_record(record: bytes, codecs: Mapping[str, Codec], contents: Contents) -> None:
    name, field, *parts = msgspec.msgpack.decode(record)
    codec = codecs.get(name)
    if codec is None:
        contents.unclaimed.setdefault(name, []).append(record)
        return
    fields = contents.fields.setdefault(name, {})
    if len(parts) == 1:
        fields[field] = codec.unpack(parts[0])
        return
    tag, packed = parts
    portion = codec.unpack_all(packed)
    if tag == _DICT:
        table: ShardedDict[Any, Any] = fields.setdefault(field, ShardedDict())
        table.extend(portion[::2], portion[1::2])
    elif tag == _SORTED:
        line: ShardedSortedList[Any] = fields.setdefault(field, ShardedSortedList())
        line.extend(portion)
    else:
        fields[field] = extended(fields.get(field), tag, portion)


def _lengths_removed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for chunk in chunks:
        data = left + chunk
        start = 0
        while len(data) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            end = start + _LENGTH.size + length
            if end > len(data):
                break
            yield data[start + _LENGTH.size : end]
            start = end
        left = data[start:]
    if left:
        raise ValueError("the snapshot ends within a record")
