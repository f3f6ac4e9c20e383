"""All keys of a keyspace at one moment, and all of them now, to be read by iteration.

Interpreted even where the keyspace is compiled: a thread that runs only compiled code never gives up the interpreter's
lock, and whoever reads a million keys in a thread must let the loop go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol, final

from raft_kv.creation_order import Moment, places
from raft_kv.shards import shard_number
from raft_kv.values import Millis, Record

__all__ = ["Frozen", "LivingRecords"]


class _Space(Protocol):
    """A keyspace, as far as its records go."""

    @property
    def size(self) -> int: ...

    def alive(self, key: bytes) -> Record | None: ...

    def walk(self, born: int) -> Iterator[tuple[bytes, Record]]: ...


@final
class Frozen:
    """All keys at one moment, to be read once, from any thread, while the keyspace is changed.

    `records` are the keyspace's own; `kept` has, by shard, the records that were changed or removed since. A change
    keeps the old record first, and a reader looks at the present record first. So it never misses a change: if it saw
    the new record of a key, the old one was kept before.
    """

    __slots__ = ("__weakref__", "_created", "_kept", "_moment", "_records", "_time", "count", "done")

    def __init__(
        self, moment: Moment, records: list[dict[bytes, Record]], time: Millis, count: int, created: int
    ) -> None:
        self._moment = moment
        self._records = records
        self._kept: Final[list[dict[bytes, Record]]] = [{} for _ in records]
        self._time = time
        self._created: Final = created
        self.count: Final = count
        self.done = False  # everything was read

    def keep(self, number: int, key: bytes, record: Record) -> None:
        """Keep a record of shard `number` that is about to be changed, unless it is younger than this moment."""
        if record.born <= self._created:
            self._kept[number].setdefault(key, record)

    def __iter__(self) -> Iterator[tuple[bytes, Record]]:
        """Iterate over keys and records, in the order of creation."""
        for key, born in places(self._moment):
            number = shard_number(key)
            present = self._records[number].get(key)
            record = self._kept[number].get(key, present)
            if record is not None and record.born == born and not 0 < record.deadline <= self._time:
                yield key, record
        self.done = True
        while self._records:  # freeing all of them at once would take long
            self._records.pop()
        for number in range(len(self._kept)):  # a change may still be about to keep a record: no place may vanish
            self._kept[number] = {}


@final
class LivingRecords(Mapping[bytes, Record]):
    """A live view of the records, in the order of creation."""

    __slots__ = ("_space",)

    def __init__(self, space: _Space) -> None:
        self._space = space

    def __getitem__(self, key: bytes) -> Record:
        record = self._space.alive(key)
        if record is None:
            raise KeyError(key)
        return record

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._space.walk(0))

    def __len__(self) -> int:
        return self._space.size
