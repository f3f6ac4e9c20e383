"""The keys of a keyspace in the order of their creation, kept so that no change takes long however many there are.

`CreationOrder` holds blocks of at most `BLOCK` places. A place names a key and its number; the places of removed keys
stay until half of their block is dead, and then only this block is rebuilt. Blocks are never changed but at their end,
so whoever holds the list of blocks, and how long the last one was, holds one moment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, final

__all__ = ["BLOCK", "CreationOrder", "Moment"]

BLOCK: Final = 1024

Alive: TypeAlias = Callable[[bytes, int], bool]
"""Whether a key still has the number that it had at this place."""
Moment: TypeAlias = "tuple[list[_Block], int]"
"""All blocks, and how many places of the last one count."""


@final
class _Block:
    """Places in the order of creation; `alive` of them are those of keys that are still there."""

    __slots__ = ("alive", "keys", "numbers")

    def __init__(self, keys: list[bytes], numbers: list[int]) -> None:
        self.keys = keys
        self.numbers = numbers
        self.alive = len(keys)


@final
class CreationOrder:
    """Keys by the number that each was given when it was created; numbers rise."""

    __slots__ = ("_alive", "_blocks", "_firsts")

    def __init__(self, alive: Alive) -> None:
        self._alive: Final = alive
        self._blocks: list[_Block] = []
        self._firsts: list[int] = []  # a number at or below the first of each block, above those of the block before

    def add(self, key: bytes, number: int) -> None:
        """The key is the newest."""
        blocks = self._blocks
        if not blocks or len(blocks[-1].keys) >= BLOCK:
            blocks.append(_Block([], []))
            self._firsts.append(number)
        last = blocks[-1]
        last.keys.append(key)
        last.numbers.append(number)
        last.alive += 1

    def removed(self, number: int) -> None:
        """The key of this number is not there any more. Costs at most a block."""
        place = bisect_right(self._firsts, number) - 1
        block = self._blocks[place]
        block.alive -= 1
        if block.alive == 0:
            del self._blocks[place], self._firsts[place]
        elif 2 * block.alive < len(block.keys):
            self._rebuild(place, block)

    def _rebuild(self, place: int, block: _Block) -> None:
        """Only living places are left; they join the block before where both are small."""
        alive = self._alive
        pairs = [pair for pair in zip(block.keys, block.numbers, strict=True) if alive(*pair)]
        before = self._blocks[place - 1] if place else None
        if before is not None and len(before.keys) + len(pairs) <= BLOCK // 2:
            keys = before.keys + [key for key, _ in pairs]
            merged = _Block(keys, before.numbers + [number for _, number in pairs])
            merged.alive = before.alive + len(pairs)
            self._blocks[place - 1 : place + 1] = [merged]
            del self._firsts[place]
            return
        self._blocks[place] = _Block([key for key, _ in pairs], [number for _, number in pairs])

    def __len__(self) -> int:
        """How many places are held, those of dead keys among them."""
        return sum(len(block.keys) for block in self._blocks)

    def moment(self) -> Moment:
        """Return what `places` walks through later, from any thread, whatever is added and removed meanwhile."""
        return list(self._blocks), len(self._blocks[-1].keys) if self._blocks else 0

    def blocks(self) -> list[object]:
        """Return everything that is held, to be let go in portions."""
        return list(self._blocks)

    def after(self, number: int) -> Iterator[tuple[bytes, int]]:
        """Iterate over the places behind `number`, those of dead keys among them."""
        place = max(0, bisect_right(self._firsts, number) - 1)
        for block in self._blocks[place:]:
            start = bisect_right(block.numbers, number)
            yield from zip(block.keys[start:], block.numbers[start:], strict=True)


def places(moment: Moment) -> Iterator[tuple[bytes, int]]:
    """Iterate over all places of a moment; each block is let go once it is passed."""
    blocks, last = moment
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        yield from (
            zip(block.keys, block.numbers, strict=False)
            if blocks
            else zip(block.keys[:last], block.numbers[:last], strict=False)
        )
