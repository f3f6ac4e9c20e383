"""Recipes in the simulator: their commands as a workload, their promises checked in true time.

They stand on `raft_objects.simulated`. A `Mixture` is several of them on one log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

import attrs

from raft_core.node.limits import SECOND
from raft_objects import Objects, Replicated
from raft_objects.simulated import ObjectModel, ObjectWorkload, Seen
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = ["LEASE", "USABLE", "Mixture", "ObjectModel", "ObjectWorkload", "Recipe", "Seen"]

LEASE: Final = 3 * SECOND
USABLE: Final = 0.9
"""Of a lease, as `raft_objects.leases` has it."""


@final
@attrs.frozen
class Recipe:
    """A recipe under fire: its objects, its workload, and what is wrong by its promise.

    `check` gets the operations, and the objects of the node that is furthest at the end. `counted`: kinds of which a
    run must have seen some.
    """

    name: str
    parts: Callable[[], dict[str, Replicated]]
    workload: Callable[[Objects], ObjectWorkload]
    check: Callable[[list[Seen], Objects], list[str]]
    counted: tuple[str, ...]


@final
class Mixture:
    """The workloads of several recipes at once, on one log."""

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self._recipes = recipes
        self._objects = self.machine(development=False)
        self._workloads = [recipe.workload(self._objects) for recipe in recipes]
        self._by_key = {
            key: workload for recipe, workload in zip(recipes, self._workloads, strict=True) for key in recipe.parts()
        }

    def parts(self) -> dict[str, Replicated]:
        """Return new objects of all recipes."""
        return {key: part for recipe in self._recipes for key, part in recipe.parts().items()}

    def machine(self, *, development: bool) -> Objects:
        """Return the machine of one node."""
        return Objects(self.parts(), development=development)

    @property
    def model(self) -> SequentialModel:
        return ObjectModel(self.parts)

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        return rng.choice(self._workloads).ask(rng, client, number)

    def as_placed(self, asked: Asked, index: int, command: bytes) -> Datum:
        return index, command

    def result(self, asked: Asked, answer: bytes) -> Datum:
        workload = self._by_key[str(asked.key)]
        workload.answered(asked, workload.decoded(asked.key, asked.kind, answer))
        return answer

    def seen(self, history: Iterable[Operation]) -> list[Seen]:
        """Return the operations that were or may have been applied."""
        return [self._by_key[str(one.key)].seen_as(one) for one in history if one.fate is not Fate.REFUSED]

    def wrong(self, found: list[Seen], last: Objects) -> list[str]:
        """Return the promises that were broken."""
        told = []
        for recipe in self._recipes:
            keys = recipe.parts().keys()
            told += [f"{recipe.name}: {text}" for text in recipe.check([one for one in found if one.key in keys], last)]
        return told
