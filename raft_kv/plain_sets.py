"""Runs of plain `SET`s in the log, recognised by their bytes and without an object for each.

After a restart every entry behind the snapshot is applied again, and no reply is wanted; nor is one on a follower.
Most entries are one `SET` of one client, as `log_format` encodes it:

    1, time (8 bytes), msgpack of [protocol, [[b"SET", key, value]]]

A key of less than 256 bytes and a value of less than 65,536 have one encoding. An entry with exactly these bytes is
taken apart by its lengths; one with more commands is decoded. Where an entry is anything else, the run ends before it.

Entries whose keys are of one length have their values' lengths and values at the same places. These are checked and
taken apart together, by columns, without a step of the interpreter for each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, final

from raft_core.ids import Index
from raft_kv.keyspace import Millis
from raft_kv.log_format import Calls, Undecodable, decode_entry

__all__ = ["PLAIN_SET", "PlainSets", "plain_columns"]

_CALLS: Final = 1
PLAIN_SET: Final = frozenset({b"SET", b"set"})
"""Names of a SET without options, if it has three words."""
_HEADS: Final = frozenset(
    {b"\x92%b\x91\x93\xc4\x03%b\xc4" % (protocol, name) for protocol in (b"\2", b"\3") for name in PLAIN_SET}
)
"""The bytes of an entry between its time and the length of the key."""
_KEY: Final = 20
"""Where the key begins."""
_FEW: Final = 16
"""Fewer entries are not worth a look at their columns."""
_time_of: Final[Callable[[bytes], bytes]] = itemgetter(slice(1, 9))
_BIN8: Final = 0xC4
_BIN16: Final = 0xC5
_ENTRY_BYTES: Final = 64 * 1024
"""A longer entry is none of a run (see `KeyValueMachine.is_long`)."""
_MOST: Final = 512
"""A run ends after so many `SET`s: a millisecond or two."""


@final
class PlainSets:
    """The `SET`s of the first entries of a page: keys, values and the index of each one's entry.

    `entries`: how many entries these are. `time`: the latest time in them.
    """

    __slots__ = ("entries", "indexes", "keys", "time", "values")

    def __init__(self, commands: Sequence[tuple[Index, bytes]], now: Millis, limit: Millis) -> None:
        """Take the entries before the first that is something else, or whose time is `limit` or later."""
        self.keys: Final[list[bytes]] = []
        self.values: Final[list[bytes]] = []
        self.indexes: Final[list[Index]] = []
        self.entries = 0
        latest, end = now.to_bytes(8, "big"), limit.to_bytes(8, "big")
        if len(commands) >= _FEW:
            latest = self._take_alike(commands[:_MOST], latest, end)
        if self.entries < len(commands):
            latest = self._take(commands[self.entries :], latest, end)
        self.time: Final[Millis] = int.from_bytes(latest, "big")

    def _take_alike(self, commands: Sequence[tuple[Index, bytes]], latest: bytes, limit: bytes) -> bytes:
        """Take the first entries as far as they differ in nothing but time, key, and the value and its length.

        Return the latest time. Take none where one of them needs a closer look.
        """
        first = commands[0][1]
        if len(first) < _KEY or first[0] != _CALLS or first[9:19] not in _HEADS:
            return latest
        end = _KEY + first[19]
        start = end + (3 if first[end : end + 1] == b"\xc5" else 2)
        entries = [command for _, command in commands]
        heads = b"".join(map(itemgetter(slice(0, start)), entries))
        if len(heads) != start * len(entries):  # one is too short
            return latest
        count = len(entries)
        for place in (0, *range(9, _KEY), end):
            column = heads[place : start * count : start]
            count -= len(column.lstrip(column[:1]))
        del entries[count:]
        times = list(map(_time_of, entries))
        values = list(map(itemgetter(slice(start, None)), entries))
        if max(times) >= limit or _sizes(heads[: start * count], start, first[end]) != list(map(len, values)):
            return latest
        self.keys.extend(map(itemgetter(slice(_KEY, end)), entries))
        self.values.extend(values)
        self.indexes.extend([index for index, _ in commands[:count]])
        self.entries = count
        return max(latest, max(times))

    def _take(self, commands: Sequence[tuple[Index, bytes]], latest: bytes, limit: bytes) -> bytes:
        """Return the latest time. Times are compared as bytes, whose order is the same."""
        keys, values, indexes = self.keys, self.values, self.indexes
        entries = self.entries
        try:
            for index, command in commands:
                time = command[1:9]
                if time >= limit or len(keys) >= _MOST or command[0] != _CALLS:
                    break
                if command[9:19] in _HEADS:
                    end = 20 + command[19]
                    if command[end] == _BIN16:
                        start, size = end + 3, command[end + 1] << 8 | command[end + 2]
                    elif command[end] == _BIN8:
                        start, size = end + 2, command[end + 1]
                    else:
                        break
                    value = command[start:]
                    if len(value) != size:
                        break
                    keys.append(command[20:end])
                    values.append(value)
                    indexes.append(index)
                elif not self._take_calls(index, command):
                    break
                entries += 1
                if time > latest:
                    latest = time
        except IndexError:  # too short
            pass
        self.entries = entries
        return latest

    def _take_calls(self, index: Index, command: bytes) -> bool:
        """Take an entry of several commands, if all of them are plain."""
        if len(command) > _ENTRY_BYTES:
            return False
        try:
            _, decoded = decode_entry(command)
        except Undecodable:
            return False
        if type(decoded) is not Calls:
            return False
        columns = plain_columns(decoded.calls)
        if columns is None:
            return not decoded.calls
        self.keys.extend(columns[0])
        self.values.extend(columns[1])
        self.indexes.extend([index] * len(columns[0]))
        return True


def plain_columns(calls: list[list[bytes]]) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
    """Return the keys and the values if all calls, one at least, are plain `SET`s; otherwise None."""
    try:
        names, keys, values = zip(*calls, strict=True)
    except ValueError:  # other numbers of words
        return None
    return (keys, values) if PLAIN_SET.issuperset(names) else None


def _sizes(heads: bytes, start: int, kind: int) -> list[int]:
    """Return the sizes of the values, big-endian at the end of each head of `start` bytes; none for another kind."""
    low = heads[start - 1 :: start]
    if kind == _BIN8:
        return list(low)
    if kind != _BIN16:
        return []
    pairs = bytearray(2 * len(low))
    pairs[::2], pairs[1::2] = heads[start - 2 :: start], low
    return list(struct.unpack(f">{len(low)}H", pairs))
