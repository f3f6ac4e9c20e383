"""The keys and values of one replica, and the only clock they know.

What lives here: `Keyspace`, the state that commands read and change. Time is an argument that comes with log
entries and never runs back, so every replica forgets a key at the same entry. Nothing here depends on the
iteration order of an unordered set, on a process's hash seed or on the machine.

Values are never changed in place: a change puts a new `Record`. A snapshot can therefore keep a plain copy of the
dictionary, some 40 ms and 40 MB per million keys, and be read from another thread while applying goes on.
"""

from __future__ import annotations

import heapq
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, TypeAlias, final

import attrs
import msgspec

__all__ = ["STRING", "KeyDue", "Keyspace", "Kind", "Millis", "Record", "Value", "Version", "kind_name"]

Millis: TypeAlias = int
"""Milliseconds of cluster time. They look like milliseconds since 1970, which old logs hold."""
Version: TypeAlias = int
"""The index of the log entry that last changed a key."""
Kind: TypeAlias = int
"""A number that says what a value is; part of the snapshot format, never given twice."""
Value: TypeAlias = bytes
"""What a key can hold. A type that comes later joins this union, and its number and name `_KIND_NAMES`."""

STRING: Final[Kind] = 1
_KIND_NAMES: Final[dict[Kind, str]] = {STRING: "string"}
_GRAVES: Final = 1024
"""Deletions are remembered by this many numbers, so that WATCH on an absent key notices one that came and went."""


def kind_name(kind: Kind) -> str:
    """What TYPE says about a value of this kind."""
    return _KIND_NAMES[kind]


class KeyDue(Exception):  # not an error: it asks for the clock to be moved
    """A question touched a key whose deadline has passed by the asker's clock, but not yet by the log's."""


@final
class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One key's value. `deadline` 0: it stays. `born`: its place in the order of creation, never given twice."""

    kind: Kind
    value: Value
    version: Version
    deadline: Millis
    born: int


@final
@attrs.define(eq=False)
class Keyspace:
    """All keys that are alive at `time`."""

    records: dict[bytes, Record] = attrs.field(factory=dict)
    time: Millis = 0
    """The log's clock: the latest time stamped into an applied entry. Every deadline in `records` lies after it."""
    index: Version = 0
    """The entry being applied, or the last one."""
    births: int = 0
    """How many keys have ever been created; numbers `Record.born`."""
    graves: list[Version] = attrs.field(factory=lambda: [0] * _GRAVES)
    """By the key's checksum: the last entry that deleted one."""
    expiring: int = attrs.field(default=0, init=False)
    """How many of the keys have a deadline."""
    asked_at: Millis = 0
    """While a question is being answered: the asker's clock; 0 while applying."""
    work: int = attrs.field(default=0, init=False)
    """How many bytes the commands of this entry or transaction have copied, or could have in their time. `machine`
    bounds it."""
    _deadlines: list[tuple[Millis, bytes]] = attrs.field(factory=list, init=False)
    """A heap of all deadlines, with stale ones among them."""
    _order: list[bytes] = attrs.field(factory=list, init=False)
    """Keys in the order of creation, with dead ones among them; `_order_born` are their numbers, ascending."""
    _order_born: array[int] = attrs.field(factory=lambda: array("Q"), init=False)

    # Time.

    @property
    def now(self) -> Millis:
        """The time by which a command counts what is left of a deadline."""
        return max(self.time, self.asked_at)

    def advance(self, time: Millis, index: Version) -> None:
        """Entry `index` begins at `time`: every key whose deadline has come is gone. Costs each key once."""
        self.index = index
        if time <= self.time:
            return
        self.time = time
        while self._deadlines and self._deadlines[0][0] <= time:
            deadline, key = heapq.heappop(self._deadlines)
            record = self.records.get(key)
            if record is not None and record.deadline == deadline:
                self.remove(key)

    # One key.

    def find(self, key: bytes) -> Record | None:
        """The key's record. Raises `KeyDue` where a question meets a deadline that only its asker has seen pass."""
        record = self.records.get(key)
        if record is not None and 0 < record.deadline <= self.asked_at:
            raise KeyDue
        return record

    def put(self, key: bytes, kind: Kind, value: Value, deadline: Millis = 0) -> None:
        """The key holds `value`, until `deadline` if one is given; one in the past leaves no key."""
        if 0 < deadline <= self.time:
            self.remove(key)
            return
        old = self.records.get(key)
        if old is None:
            self.births += 1
            born = self.births
            self._order.append(key)
            self._order_born.append(born)
        else:
            born = old.born
            self.expiring -= bool(old.deadline)
        self.expiring += bool(deadline)
        self.records[key] = Record(kind, value, self.index, deadline, born)
        if deadline and (old is None or old.deadline != deadline):
            heapq.heappush(self._deadlines, (deadline, key))
            self._tidy()

    def remove(self, key: bytes) -> bool:
        """The key is gone; whether it was there."""
        record = self.records.pop(key, None)
        if record is None:
            return False
        self.expiring -= bool(record.deadline)
        self.graves[zlib.crc32(key) % _GRAVES] = self.index
        if len(self._order) > 2 * len(self.records) + 64:
            self._reorder()
        return True

    def clear(self) -> None:
        """No key is left."""
        if self.records:
            self.graves = [self.index] * _GRAVES
        self.records = {}
        self.expiring = 0
        self._deadlines = []
        self._reorder()

    def version(self, key: bytes) -> Version:
        """A number that changes whenever the key does. For an absent key: the last deletion near it."""
        record = self.records.get(key)
        return self.graves[zlib.crc32(key) % _GRAVES] if record is None else record.version

    # All keys.

    def everything(self) -> dict[bytes, Record]:
        """All records, not to be changed. Raises `KeyDue` as `find` does."""
        self._drop_stale_deadlines()
        if self.asked_at and self._deadlines and self._deadlines[0][0] <= self.asked_at:
            raise KeyDue
        return self.records

    def created_after(self, born: int) -> Iterator[tuple[bytes, Record]]:
        """The keys that came after the `born`-th ever created, in that order, which no deletion disturbs."""
        records = self.everything()
        for place in range(bisect_left(self._order_born, born + 1), len(self._order)):
            record = records.get(self._order[place])
            if record is not None and record.born == self._order_born[place]:
                yield self._order[place], record

    # Housekeeping: nothing here can be seen from outside.

    def rebuild(self) -> None:
        """The helping structures match `records` after those were set from outside."""
        self._deadlines = [(record.deadline, key) for key, record in self.records.items() if record.deadline]
        heapq.heapify(self._deadlines)
        self.expiring = len(self._deadlines)
        self._reorder()

    def _reorder(self) -> None:
        self._order = list(self.records)  # a dictionary keeps the order of creation, as `born` does
        self._order_born = array("Q", [record.born for record in self.records.values()])

    def _drop_stale_deadlines(self) -> None:
        while self._deadlines:
            deadline, key = self._deadlines[0]
            record = self.records.get(key)
            if record is not None and record.deadline == deadline:
                return
            heapq.heappop(self._deadlines)

    def _tidy(self) -> None:
        """At most as many stale deadlines as keys, however often a client renews them."""
        if len(self._deadlines) > 2 * len(self.records) + 64:
            self._deadlines = [(record.deadline, key) for key, record in self.records.items() if record.deadline]
            heapq.heapify(self._deadlines)
