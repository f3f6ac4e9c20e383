"""`MapTable`: a map with versions, compare-and-set, deadlines and a history of changes. Pure; `maps` does the waiting.

Every change has a revision, which is also the new version of its key. A key whose time to live is over is deleted by
the next command, with a revision of its own; until then queries tell its deadline, and a `Map` looks at it.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import ClassVar, Generic, TypeVar

import attrs

from raft_objects.declare import Replicated, command, query
from raft_objects.durations import nanoseconds
from raft_objects.shards import ShardedDict, ShardedSortedList

__all__ = ["Change", "Found", "MapTable"]

V = TypeVar("V")
_PORTION = 256
"""Keys that one command deletes because their time is over, so that none is long."""


@attrs.frozen
class Found(Generic[V]):
    """A key's value and version. `expires`: when it ends, in cluster nanoseconds; 0: never."""

    value: V
    version: int
    expires: int = 0


@attrs.frozen
class Change(Generic[V]):
    """One change: `value` is None if the key was deleted or its time was over."""

    revision: int
    key: str
    value: V | None


class MapTable(Replicated, Generic[V]):
    """A map from text to values, made by `MapTable[Setting]()`.

    `history`: changes kept for those who watch; who is further behind starts anew. The same in every process.
    """

    undo = False
    checks_types = True
    errors: ClassVar[tuple[type[Exception], ...]] = (ArithmeticError,)
    classes = (Found, Change)

    def __init__(self, *, history: int = 1000) -> None:
        self.history: int = history
        self.items: ShardedDict[str, Found[V]] = ShardedDict()
        self.keys: ShardedSortedList[str] = ShardedSortedList()
        self.deadlines: ShardedSortedList[tuple[int, str]] = ShardedSortedList()
        self.revision: int = 0
        self.changes: ShardedDict[int, Change[V]] = ShardedDict()  # by revision

    @command
    def put(self, key: str, value: V, *, ttl: float = 0.0) -> int:
        """Set a key, for `ttl` seconds if it is positive; return its new version."""
        self._expire()
        return self._set(key, value, ttl)

    @command
    def compare_and_set(self, key: str, value: V, *, expected: int, ttl: float = 0.0) -> int:
        """Set a key if its version is `expected`, 0 for a missing key; return the new version, or 0 if it is not."""
        self._expire()
        if self._version(key) != expected:
            return 0
        return self._set(key, value, ttl)

    @command
    def delete(self, key: str, *, expected: int = 0) -> bool:
        """Delete a key, if `expected` is given only at that version; return whether it was deleted."""
        self._expire()
        if key not in self.items or expected not in (0, self._version(key)):
            return False
        self._remove(key)
        return True

    @command
    def expire(self) -> None:
        """Delete what is over; sent by whoever notices it first."""
        self._expire()

    @query
    def get(self, key: str) -> Found[V] | None:
        """Return a key's value and version. It may be over: see `Found.expires`."""
        return self.items.get(key)

    @query
    def scan(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> list[tuple[str, Found[V]]]:
        """Return keys that begin with `prefix` and come after `after`, in order, `limit` at most."""
        keys = takewhile(lambda key: key.startswith(prefix), self.keys.since(max(prefix, after)))
        later = (key for key in keys if key != after or not after)  # "" is a key, too
        return [(key, self.items[key]) for key in islice(later, limit)]

    def _version(self, key: str) -> int:
        found = self.items.get(key)
        return 0 if found is None else found.version

    def _set(self, key: str, value: V, ttl: float) -> int:
        expires = self.now_ns + nanoseconds(ttl) if ttl > 0 else 0
        before = self.items.get(key)
        if before is not None and before.expires:
            self.deadlines.discard((before.expires, key))
        self._note(key, value)
        self.items[key] = Found(value, self.revision, expires)
        self.keys.add(key)
        if expires:
            self.deadlines.add((expires, key))
        return self.revision

    def _remove(self, key: str) -> None:
        found = self.items.pop(key)
        self.keys.discard(key)
        if found.expires:
            self.deadlines.discard((found.expires, key))
        self._note(key, None)

    def _note(self, key: str, value: V | None) -> None:
        # The change first: those who watch may read in another thread, and take a missing one for compacted.
        self.changes[self.revision + 1] = Change(self.revision + 1, key, value)
        self.revision += 1
        while len(self.changes) > self.history:
            del self.changes[next(iter(self.changes))]

    def _expire(self) -> None:
        for _ in range(_PORTION):
            first = self.deadlines.first
            if first is None or first[0] > self.now_ns:
                return
            self._remove(first[1])
