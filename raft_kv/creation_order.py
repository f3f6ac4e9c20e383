"""The keys of a keyspace in the order of their creation, kept so that no change takes long however many there are.

`CreationOrder` holds blocks of at most `BLOCK` places. A place names a key and its number; the places of removed keys
stay until half of their block is dead. Then the block waits for `tidy`, which rebuilds one block: keys that go together
make all blocks sparse together, and rebuilding them all in one step would take long. Places are only ever added, to
the last block, and never to a block of which `moment` was asked, so whoever holds the list of blocks holds one moment.

Places are dictionaries from numbers to keys: CPython's garbage collector does not walk through a dictionary that holds
nothing but numbers and bytes. It would walk through a list of keys, for tens of milliseconds where they are many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, final

__all__ = ["BLOCK", "CreationOrder", "Moment"]

BLOCK: Final = 1024

Alive: TypeAlias = Callable[[bytes, int], bool]
"""Returns whether a key still has the number of this place."""
Moment: TypeAlias = "list[_Block]"
"""All blocks; no place is added to them any more."""


@final
class _Block:
    """Keys by their numbers, in the order of creation; `alive` of them are still there."""

    __slots__ = ("alive", "keys", "sealed", "sparse")

    def __init__(self, keys: dict[int, bytes]) -> None:
        self.keys = keys
        self.alive = len(keys)
        self.sealed = False  # part of a `Moment`
        self.sparse = False  # it waits to be rebuilt


@final
class CreationOrder:
    """Keys by their numbers of creation, which rise."""

    __slots__ = ("_alive", "_blocks", "_firsts", "_sparse")

    def __init__(self, alive: Alive) -> None:
        self._alive: Final = alive
        self._blocks: list[_Block] = []
        self._firsts: list[int] = []  # a number at or below the first of each block, above those of the block before
        self._sparse: Final[deque[int]] = deque()  # `_firsts` of the blocks to be rebuilt, and of some that are gone

    def add(self, key: bytes, number: int) -> None:
        """Add the key as the newest."""
        blocks = self._blocks
        if not blocks or blocks[-1].sealed or len(blocks[-1].keys) >= BLOCK:
            blocks.append(_Block({}))
            self._firsts.append(number)
        last = blocks[-1]
        last.keys[number] = key
        last.alive += 1

    def extend(self, keys: list[bytes], number: int) -> None:
        """Add these keys as the newest, as `add` would with `number` and those after it."""
        blocks = self._blocks
        start = 0
        while start < len(keys):
            if not blocks or blocks[-1].sealed or len(blocks[-1].keys) >= BLOCK:
                blocks.append(_Block({}))
                self._firsts.append(number + start)
            last = blocks[-1]
            some = keys[start : start + BLOCK - len(last.keys)]
            last.keys.update(zip(range(number + start, number + start + len(some)), some, strict=True))
            last.alive += len(some)
            start += len(some)

    @property
    def untidy(self) -> bool:
        """Return whether `tidy` may have something to do."""
        return bool(self._sparse)

    def removed(self, number: int) -> None:
        """Note the removal of the key with this number. Rebuild nothing."""
        place = bisect_right(self._firsts, number) - 1
        block = self._blocks[place]
        block.alive -= 1
        if block.alive == 0:
            del self._blocks[place], self._firsts[place]
        else:
            self._look_at(place, block)

    def _look_at(self, place: int, block: _Block) -> None:
        """Schedule the block for rebuilding if more than half of it is dead."""
        if not block.sparse and 2 * block.alive < len(block.keys):
            block.sparse = True
            self._sparse.append(self._firsts[place])

    def tidy(self) -> bool:
        """Rebuild one block of which more than half is dead; return whether there was one. Costs at most a block."""
        while self._sparse:
            place = bisect_right(self._firsts, self._sparse.popleft()) - 1
            if place >= 0 and self._blocks[place].sparse:
                self._rebuild(place, self._blocks[place])
                return True
        return False

    def _rebuild(self, place: int, block: _Block) -> None:
        """Only living places are left; they join the block before where both are small."""
        alive = self._alive
        fresh = _Block({number: key for number, key in block.keys.items() if alive(key, number)})
        before = self._blocks[place - 1] if place else None
        if before is None or len(before.keys) + len(fresh.keys) > BLOCK // 2:
            self._blocks[place] = fresh
            return
        merged = _Block(before.keys | fresh.keys)
        merged.alive = before.alive + fresh.alive
        self._blocks[place - 1 : place + 1] = [merged]
        del self._firsts[place]
        self._look_at(place - 1, merged)

    def __len__(self) -> int:
        """How many places are held, those of dead keys among them."""
        return sum(len(block.keys) for block in self._blocks)

    def moment(self) -> Moment:
        """Return the blocks for `places`, to be read from any thread while keys are added and removed."""
        for block in self._blocks:
            block.sealed = True
        return list(self._blocks)

    def blocks(self) -> list[object]:
        """Return all blocks, to be freed in portions."""
        return list(self._blocks)

    def after(self, number: int) -> Iterator[tuple[bytes, int]]:
        """Iterate over the places behind `number`, those of dead keys among them."""
        place = max(0, bisect_right(self._firsts, number) - 1)
        for block in self._blocks[place : place + 1]:
            yield from [(key, born) for born, key in block.keys.items() if born > number]
        for block in self._blocks[place + 1 :]:
            yield from zip(block.keys.values(), block.keys, strict=True)


def places(moment: Moment) -> Iterator[tuple[bytes, int]]:
    """Iterate over all places of a moment; each block is let go once it is passed."""
    moment.reverse()
    while moment:
        keys = moment.pop().keys
        yield from zip(keys.values(), keys, strict=True)
