"""`Map`: a `MapTable` whose keys end in time, and its changes as they come, on asyncio or trio.

    settings = Map(objects.add("settings", MapTable[str]()))
    version = await settings.put("colour", "red", ttl=60)
    async for change in settings.watch("col", after=version):
        print(change.key, change.value)

Promise: reads and writes are linearizable; a key with a time to live is read for that time, and once anyone has read
that it is gone it is never read again; a watch yields every change once, in order, or raises `Compacted`.
"""

from __future__ import annotations

from typing import Final, Generic, Self, TypeVar, cast

import anyio
import anyio.lowlevel

from raft_core.errors import CallerError, OutcomeUnknown, Refused
from raft_objects.map_table import Change, Found, MapTable
from raft_objects.running import Running, may_pass

__all__ = ["Compacted", "Map", "Watch"]

V = TypeVar("V")
_PAUSE: Final = 0.05


class Compacted(Exception):
    """Changes after this revision are no longer kept: read the map anew, and watch from `Map.revision`."""


class Map(Generic[V]):
    """A handle of a `MapTable` that is open on a node. Any number of tasks may use it at once."""

    def __init__(self, table: MapTable[V]) -> None:
        self._table: Final = table
        self._ending: Final = anyio.Lock()

    @property
    def _running(self) -> Running:
        site = self._table._binding.site
        if site is None:
            raise CallerError("the map is not open; add it to Objects, and open those")
        return cast("Running", site)

    @property
    def revision(self) -> int:
        """The revision of this node's replica, to watch from."""
        return self._table.revision

    async def put(self, key: str, value: V, *, ttl: float = 0.0) -> int:
        """Set a key, for `ttl` seconds if it is positive; return its new version."""
        return await self._table.put(key, value, ttl=ttl)

    async def compare_and_set(self, key: str, value: V, *, expected: int, ttl: float = 0.0) -> int:
        """Set a key if its version is `expected`, 0 for a missing key; return the new version, or 0 if it is not."""
        return await self._table.compare_and_set(key, value, expected=expected, ttl=ttl)

    async def delete(self, key: str, *, expected: int = 0) -> bool:
        """Delete a key, if `expected` is given only at that version; return whether it was deleted."""
        return await self._table.delete(key, expected=expected)

    async def get(self, key: str) -> Found[V] | None:
        """Return a key's value and version, or None."""
        found = await self._table.get(key)
        while found is not None and self._is_over(found):
            await self._table.expire()  # from now on nobody reads it
            found = await self._table.get(key)
        return found

    async def scan(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> list[tuple[str, Found[V]]]:
        """Return keys that begin with `prefix` and come after `after`, in order, `limit` at most."""
        found = await self._table.scan(prefix, after=after, limit=limit)
        while any(self._is_over(one) for _, one in found):
            await self._table.expire()
            found = await self._table.scan(prefix, after=after, limit=limit)
        return found

    def watch(self, prefix: str = "", *, after: int) -> Watch[V]:
        """Yield the changes of keys that begin with `prefix`, from the one that follows revision `after`.

        They come from this node's replica, as it applies them. Raise `Compacted` if the next one is no longer kept.
        """
        return Watch(self._table, self._running, self._ending, prefix, after)

    def _is_over(self, found: Found[V]) -> bool:
        return 0 < found.expires <= self._running.node.cluster_time


class Watch(Generic[V]):
    """An iterator of changes. It holds nothing to close; `revision` is where another watch goes on."""

    def __init__(self, table: MapTable[V], running: Running, ending: anyio.Lock, prefix: str, after: int) -> None:
        self._table: Final = table
        self._running: Final = running
        self._ending: Final = ending
        self._prefix: Final = prefix
        self.revision = after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[V]:
        await anyio.lowlevel.checkpoint()
        table = self._table
        with self._running.waiting(table._binding.name, None) as waiter:
            while True:
                if (change := self._next_kept()) is not None:
                    return change
                due = table.deadlines.first[0] if table.deadlines.first else 0
                if not await waiter.wait(self._running.seconds_until(due) if due else None):
                    await self._end_what_is_over(due)

    def _next_kept(self) -> Change[V] | None:
        """Return the next change with the prefix, and pass over those without."""
        last = self._table.revision  # first, because a thread may apply commands or a snapshot meanwhile
        changes = self._table.changes
        if self.revision < last - len(changes):
            raise Compacted(f"changes after revision {self.revision} are not kept any more; the last is {last}")
        for revision in range(self.revision + 1, last + 1):
            change = changes.get(revision)
            if change is None:  # compacted this moment, by a thread that applies
                raise Compacted(f"changes after revision {self.revision} are not kept any more; the last is {last}")
            self.revision = revision
            if change.key.startswith(self._prefix):
                return change
        return None

    async def _end_what_is_over(self, due: int) -> None:
        """Send one command, however many watch."""
        try:
            async with self._ending:
                first = self._table.deadlines.first
                if first is not None and first[0] <= due:
                    await self._table.expire()
        except (Refused, OutcomeUnknown) as failure:
            if not may_pass(failure):
                raise
            await anyio.sleep(_PAUSE)
