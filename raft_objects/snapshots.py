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
from raft_objects.portions import Portions, extended, let_others_run, packed_portions
from raft_objects.shards import SHARD, ShardedDict, ShardedSortedList

__all__ = ["Contents", "Head", "read_snapshot", "written_snapshot"]

_FORMAT: Final = 2
_LENGTH: Final = Struct("<I")
_CHUNK: Final = 64 * 1024
_DICT, _SORTED = range(2)


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
    for record in records:
        name, field, *parts = msgspec.msgpack.decode(record)
        codec = codecs.get(name)
        if codec is None:
            contents.unclaimed.setdefault(name, []).append(record)
            continue
        fields = contents.fields.setdefault(name, {})
        if len(parts) == 1:
            fields[field] = codec.unpack(parts[0])
            continue
        tag, packed = parts
        portion = [codec.unpack(part) for part in packed]
        let_others_run()
        if tag == _DICT:
            table: ShardedDict[Any, Any] = fields.setdefault(field, ShardedDict())
            for key, value in zip(portion[::2], portion[1::2], strict=True):
                table[key] = value
        elif tag == _SORTED:
            line: ShardedSortedList[Any] = fields.setdefault(field, ShardedSortedList())
            for entry in portion:
                line.add(entry)
        else:
            fields[field] = extended(fields.get(field), tag, portion)
    return contents


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
