"""`ShardedDict` and `ShardedSortedList`: containers whose copy takes microseconds, however large they are.

Both keep their contents in shards of some hundred entries. A copy shares all shards; whoever then writes to a shared
shard copies that one first. So a snapshot of a million entries costs the applying loop a list of two thousand
references, and each write after it at most one shard.

An entry is replaced, never changed: a snapshot may be encoding the very same value in another thread. The order is that
of insertion, or of the entries; both are equal on all replicas.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, KeysView, Sequence
from itertools import islice
from operator import lt
from typing import Any, Final, Generic, Protocol, TypeVar, final, overload

__all__ = ["SHARD", "Ordered", "ShardedDict", "ShardedSortedList"]

SHARD: Final = 512
"""Entries in a full shard."""


class Ordered(Protocol):
    """What can be sorted."""

    def __lt__(self, other: Any, /) -> bool:
        """Return whether this one comes first."""
        ...


K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
T = TypeVar("T", bound=Ordered)
_NO_DEFAULT: Final = object()


@final
class ShardedDict(Generic[K, V]):
    """A dict in the order of insertion. `copy` is cheap; `_home` says in which shard a key is, and is not shared."""

    __slots__ = ("_home", "_next", "_own", "_room", "_shards")

    def __init__(self, pairs: Iterable[tuple[K, V]] = ()) -> None:
        self._shards: dict[int, dict[K, V]] = {}
        self._home: dict[K, int] = {}
        self._own: set[int] = set()  # shards that no copy shares
        self._next = 0
        self._room = 0  # keys that the newest shard still takes
        for key, value in pairs:
            self[key] = value

    def copy(self) -> ShardedDict[K, V]:
        """Return a copy that shares all shards until either is written to. Its index is made when it is needed."""
        made: ShardedDict[K, V] = ShardedDict()
        made._shards = dict(self._shards)
        made._home = _NO_INDEX
        made._next = self._next
        self._own.clear()
        self._room = 0
        return made

    def extend(self, keys: Sequence[K], values: Sequence[V]) -> None:
        """Set many keys, in this order. As cheap as a dict where they are new."""
        home = self._index()
        if not home.keys().isdisjoint(keys) or len(set(keys)) < len(keys):
            for key, value in zip(keys, values, strict=True):
                self[key] = value
            return
        start = 0
        while start < len(keys):
            if not self._room:
                self._next += 1
                self._room = SHARD
            end = start + self._room
            part = keys[start:end]
            if self._next not in self._shards:
                self._shards[self._next] = {}
                self._own.add(self._next)
            self._writable(self._next).update(zip(part, values[start:end], strict=True))
            home.update(dict.fromkeys(part, self._next))
            self._room -= len(part)
            start += len(part)

    def shards(self) -> list[dict[K, V]]:
        """Return the shards, to be read only."""
        return list(self._shards.values())

    def _index(self) -> dict[K, int]:
        if self._home is _NO_INDEX:
            self._home = {key: number for number, shard in self._shards.items() for key in shard}
        return self._home

    def _writable(self, number: int) -> dict[K, V]:
        if number not in self._own:
            self._shards[number] = dict(self._shards[number])
            self._own.add(number)
        return self._shards[number]

    def __setitem__(self, key: K, value: V) -> None:
        home = self._index()
        number = home.get(key)
        if number is None:
            if not self._room:
                self._next += 1
                self._shards[self._next] = {}
                self._own.add(self._next)
                self._room = SHARD
            self._room -= 1
            home[key] = number = self._next
            if number not in self._shards:  # it had become empty
                self._shards[number] = {}
                self._own.add(number)
        self._writable(number)[key] = value

    def __delitem__(self, key: K) -> None:
        number = self._index().pop(key)
        shard = self._writable(number)
        del shard[key]
        if not shard:
            del self._shards[number]
            self._own.discard(number)

    def __getitem__(self, key: K) -> V:
        return self._shards[self._index()[key]][key]

    def __contains__(self, key: object) -> bool:
        return key in self._index()

    def __len__(self) -> int:
        return sum(map(len, self._shards.values())) if self._home is _NO_INDEX else len(self._home)

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards.values():
            yield from shard

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ShardedDict):
            return list(self.items()) == list(other.items())
        return list(self.items()) == list(other.items()) if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ShardedDict({dict(self.items())!r})"

    def keys(self) -> KeysView[K]:
        """Return the keys, as a set without an order of its own."""
        return self._index().keys()

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield keys with their values."""
        for shard in self._shards.values():
            yield from shard.items()

    def values(self) -> Iterator[V]:
        """Yield the values."""
        for shard in self._shards.values():
            yield from shard.values()

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Return the key's value, or the default. A thread that does not apply may ask, too."""
        number = self._index().get(key)
        shard = None if number is None else self._shards.get(number)
        return default if shard is None else shard.get(key, default)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: D) -> V | D: ...
    def pop(self, key: K, default: Any = _NO_DEFAULT) -> Any:
        """Remove a key and return its value, or the default. Raise `KeyError` without one."""
        if default is not _NO_DEFAULT and key not in self:
            return default
        value = self[key]
        del self[key]
        return value


_NO_INDEX: Final[dict[Any, int]] = {}
"""Stands for the index of a copy in which nothing was looked up: most are encoded and dropped."""


@final
class ShardedSortedList(Generic[T]):
    """Entries in ascending order, none twice."""

    __slots__ = ("_lasts", "_own", "_shards")

    def __init__(self, entries: Iterable[T] = ()) -> None:
        whole = sorted(entries)
        self._shards: list[list[T]] = [whole[start : start + SHARD] for start in range(0, len(whole), SHARD)]
        self._lasts: list[T] = [shard[-1] for shard in self._shards]
        self._own: list[bool] = [True] * len(self._shards)

    def copy(self) -> ShardedSortedList[T]:
        """Return a copy that shares all shards until either is written to."""
        made: ShardedSortedList[T] = ShardedSortedList()
        self._own = [False] * len(self._shards)
        made._shards, made._lasts, made._own = list(self._shards), list(self._lasts), list(self._own)
        return made

    def shards(self) -> list[list[T]]:
        """Return the shards, to be read only."""
        return list(self._shards)

    def _writable(self, place: int) -> list[T]:
        if not self._own[place]:
            self._shards[place] = list(self._shards[place])
            self._own[place] = True
        return self._shards[place]

    def add(self, entry: T) -> None:
        """Add an entry, unless it is there."""
        if not self._shards:
            self._shards, self._lasts, self._own = [[entry]], [entry], [True]
            return
        place = min(bisect_left(self._lasts, entry), len(self._shards) - 1)
        at = bisect_left(self._shards[place], entry)
        if at < len(self._shards[place]) and self._shards[place][at] == entry:
            return
        shard = self._writable(place)
        shard.insert(at, entry)
        if len(shard) > SHARD:
            # Entries that only ever come at the end fill their shards; others leave room on both sides.
            cut = SHARD if at == SHARD and place == len(self._shards) - 1 else SHARD // 2
            self._shards.insert(place + 1, shard[cut:])
            self._lasts.insert(place + 1, shard[-1])
            self._own.insert(place + 1, True)
            del shard[cut:]
        self._lasts[place] = shard[-1]

    def extend(self, entries: Sequence[T]) -> None:
        """Add many entries. As cheap as a list where they are in order and come after all others."""
        ordered = all(map(lt, entries, islice(entries, 1, None)))
        if not entries or not ordered or (self._lasts and not self._lasts[-1] < entries[0]):
            for entry in entries:
                self.add(entry)
            return
        room = SHARD - len(self._shards[-1]) if self._shards else 0
        if room > 0:
            self._writable(len(self._shards) - 1).extend(entries[:room])
            self._lasts[-1] = self._shards[-1][-1]
        for start in range(max(0, room), len(entries), SHARD):
            self._shards.append(list(entries[start : start + SHARD]))
            self._lasts.append(self._shards[-1][-1])
            self._own.append(True)

    def discard(self, entry: T) -> bool:
        """Remove an entry. Return whether it was there."""
        place = bisect_left(self._lasts, entry)
        if place == len(self._shards):
            return False
        at = bisect_left(self._shards[place], entry)
        if self._shards[place][at] != entry:
            return False
        self._remove(place, at)
        return True

    def pop_first(self) -> T:
        """Remove the first entry and return it. Raise `IndexError` if there is none."""
        entry = self._shards[0][0]
        self._remove(0, 0)
        return entry

    def _remove(self, place: int, at: int) -> None:
        shard = self._writable(place)
        del shard[at]
        if shard:
            self._lasts[place] = shard[-1]
        else:
            del self._shards[place], self._lasts[place], self._own[place]

    @property
    def first(self) -> T | None:
        """The first entry, or None."""
        return self._shards[0][0] if self._shards else None

    def since(self, entry: T) -> Iterator[T]:
        """Yield the entries from this one on, or from where it would be."""
        place = bisect_left(self._lasts, entry)
        if place < len(self._shards):
            yield from self._shards[place][bisect_left(self._shards[place], entry) :]
            for shard in self._shards[place + 1 :]:
                yield from shard

    def __contains__(self, entry: T) -> bool:
        return next(self.since(entry), None) == entry

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __iter__(self) -> Iterator[T]:
        for shard in self._shards:
            yield from shard

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, ShardedSortedList) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ShardedSortedList({list(self)!r})"
