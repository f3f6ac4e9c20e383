"""The records of a keyspace in many small dictionaries, so that no step touches all of them.

One dictionary of a million keys takes tens of milliseconds to copy, to enlarge or to free. A `Shard` holds the keys of
one checksum, their deadlines in order, and the last removal of a key.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final, TypeAlias, final
from zlib import crc32

from raft_kv.values import Millis, Record, Version

__all__ = ["SHARDS", "Shard", "shard_number"]

SHARDS: Final = 1024
"""Part of the snapshot format: a snapshot holds one tombstone for each."""


_crc32: Final = crc32


def shard_number(key: bytes) -> int:
    """Return the number of the key's shard; the same on every machine."""
    return _crc32(key) % SHARDS


Due: TypeAlias = "tuple[Millis, bytes]"


@final
class Shard:
    """Invariant: `due` holds each record's deadline, ascending; the first `dead` of them have passed."""

    __slots__ = ("dead", "due", "next_due", "records", "tombstone")

    def __init__(self, tombstone: Version = 0) -> None:
        self.records: dict[bytes, Record] = {}
        self.due: list[Due] = []
        self.dead = 0
        self.tombstone = (
            tombstone  # the last entry that deleted one of these keys, expired ones that are still held left out
        )
        self.next_due: Millis = 0  # at or before the first deadline still to come; 0: there is none

    def add_due(self, deadline: Millis, key: bytes) -> bool:
        """Add the key's deadline, which has not passed. Return whether `next_due` has fallen."""
        insort(self.due, (deadline, key))
        if self.next_due and self.next_due <= deadline:
            return False
        self.next_due = deadline
        return True

    def drop_due(self, deadline: Millis, key: bytes) -> None:
        """Drop the key's deadline."""
        place = bisect_left(self.due, (deadline, key))
        del self.due[place]
        if place < self.dead:
            self.dead -= 1

    def first_due(self) -> Millis:
        """Return the first deadline still to come; 0 if there is none."""
        return self.due[self.dead][0] if self.dead < len(self.due) else 0

    def pass_until(self, time: Millis) -> int:
        """Let deadlines up to `time` pass; return the number of those that had not before."""
        before = self.dead
        self.dead = bisect_left(self.due, (time + 1,), self.dead)
        self.next_due = self.first_due()
        return self.dead - before
