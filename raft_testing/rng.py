"""Random numbers for simulations: one seed, and a separate stream for each name.

`Rng` uses only `random()` of the generator, whose sequence is the same on every Python. With a stream for each purpose,
leaving one fault out changes no other choice.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar, final

__all__ = ["Rng"]

_Item = TypeVar("_Item")


@final
class Rng:
    """Deterministic by seed. `random` can be handed to whoever wants a generator of the standard library."""

    __slots__ = ("_seed", "random")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.random = random.Random(seed)

    def fork(self, name: str) -> Rng:
        """Return another stream, which depends on the seed and the name, not on the numbers drawn here."""
        digest = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=8).digest()
        return Rng(int.from_bytes(digest, "little"))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.random.random() < probability

    def below(self, count: int) -> int:
        """0 to `count` - 1."""
        return int(self.random.random() * count)

    def between(self, low: int, high: int) -> int:
        """`low` to `high`, both included."""
        return low + int(self.random.random() * (high - low + 1))

    def around(self, mean: int) -> int:
        """From a quarter of `mean` to seven quarters."""
        return self.between(mean // 4, mean + 3 * mean // 4)

    def choice(self, items: Sequence[_Item]) -> _Item:
        """Return one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[_Item], probability: float) -> list[_Item]:
        """Each item with this probability, in order."""
        return [item for item in items if self.chance(probability)]
