"""`Set`: a set that all processes share.

    done = objects.add("done", Set[str]())
    if await done.add(invoice.number):                    # True for one caller in the cluster
        ...

Promise: `add` and `discard` of an item take turns: of the callers that are told True for one item, every second one put
it in and every second one took it out.
"""

from __future__ import annotations

from itertools import islice
from typing import Generic, TypeVar

from raft_objects.declare import Replicated, command, query
from raft_objects.shards import ShardedDict

__all__ = ["Set"]

T = TypeVar("T")


class Set(Replicated, Generic[T]):
    """Items that can be hashed, in the order in which they came. Made by `Set[Tag]()`; it needs no handle."""

    undo = False

    def __init__(self) -> None:
        self.items: ShardedDict[T, None] = ShardedDict()

    @command
    def add(self, item: T) -> bool:
        """Put an item in. Return whether it was missing."""
        return self._add(item)

    def _add(self, item: T) -> bool:
        if item in self.items:
            return False
        self.items[item] = None
        return True

    @command
    def discard(self, item: T) -> bool:
        """Take an item out. Return whether it was there."""
        return self._discard(item)

    def _discard(self, item: T) -> bool:
        if item not in self.items:
            return False
        del self.items[item]
        return True

    @command
    def pop(self) -> T | None:
        """Take the oldest item out and return it; None if there is none."""
        item = next(iter(self.items), None)
        if item is not None:
            del self.items[item]
        return item

    @query
    def contains(self, item: T) -> bool:
        """Return whether the item is there."""
        return item in self.items

    @query
    def size(self) -> int:
        """Return how many there are."""
        return len(self.items)

    @query
    def members(self, limit: int = 1000) -> list[T]:
        """Return the oldest items, `limit` at most."""
        return list(islice(self.items, limit))
