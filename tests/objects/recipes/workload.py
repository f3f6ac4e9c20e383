"""Recipes in the simulator: their commands as a workload, their promises checked in true time.

`ObjectWorkload` sends commands of replicated objects, and its model is the objects themselves, one command after the
other: it finds answers that no order of the commands explains. The promises are checked apart from that, by what
clients saw and when: nothing of the recipe's own code takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

import attrs

from raft_core.ids import Index
from raft_core.node.limits import SECOND
from raft_objects import BoundQuery, Objects, Replicated
from raft_objects.lease_table import LeaseEnded
from raft_objects.replies import result_of
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = ["LEASE", "USABLE", "Mixture", "ObjectModel", "ObjectWorkload", "Recipe", "Seen"]

LEASE: Final = 3 * SECOND
USABLE: Final = 0.9
"""Of a lease, as `raft_objects.leases` has it."""


_READ: Final = "read "
"""Begins the kind of an operation that asks a query."""


@final
class ObjectModel:
    """The objects themselves as a sequential model, each alone: an argument is an entry of the log, with its time.

    A state is the object's name, the time of the last entry, and a snapshot. The log's time never runs back, so an
    entry older than the state cannot come next, and one without a time was never applied: both lead to a state from
    which nothing goes on.
    """

    def __init__(self, parts: Callable[[], dict[str, Replicated]]) -> None:
        self._machines = {name: Objects({name: part}) for name, part in parts().items()}
        self._initial = {name: b"".join(one.snapshot()) for name, one in self._machines.items()}

    def initial(self, key: Datum) -> Datum:
        assert isinstance(key, str)
        return key, 0, self._initial[key]

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        assert isinstance(argument, bytes)
        if not isinstance(state, tuple):
            return None, b"impossible"
        key, time, snapshot = state
        assert isinstance(key, str)
        assert isinstance(time, int)
        assert isinstance(snapshot, bytes)
        machine = self._machines[key]
        if kind.startswith(_READ):
            machine.restore([snapshot])
            return state, machine.query(argument)
        stamp = int.from_bytes(argument[1:9], "little")
        if not 0 < stamp >= time:
            return None, b"impossible"
        machine.restore([snapshot])
        result = machine.apply(Index(1), argument)
        return (key, stamp, b"".join(machine.snapshot())), result

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return kind.startswith(_READ)


class ObjectWorkload:
    """Commands of some of the objects; each object is a key of its own for the linearizability checker."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client."""
        raise NotImplementedError

    def call(self, method: Any, *args: Any, **named: Any) -> Asked:
        """Return the operation of a call."""
        name = method._binding.name
        made = method._query if isinstance(method, BoundQuery) else method._command
        data = self.objects.encode_call(name, made, made.arguments(*args, **named))
        if isinstance(method, BoundQuery):
            return Asked(_READ + made.name, name, data, data, reads=True)
        return Asked(made.name, name, data, data)

    def decoded(self, key: Datum, kind: str, answer: bytes) -> Any:
        """Return what the answer says; an error as a value."""
        try:
            return result_of(self.objects.entry(str(key)), kind.removeprefix(_READ), answer)
        except (LeaseEnded, LookupError) as failure:
            return failure

    def arguments(self, entry: Datum) -> dict[str, Any]:
        """Return the arguments of a command or query."""
        assert isinstance(entry, bytes)
        found = self.objects._decoded(entry) or self.objects._decoded(entry[11:])
        assert found is not None
        return found[2]

    def answered(self, asked: Asked, result: Any) -> None:
        """Learn from an answer."""


@attrs.frozen
class Seen:
    """An operation as its client saw it. `result`: None also where there was no answer; then `told` is None.

    `stamp`: cluster time at which it was carried out; 0 for reads and for what never was.
    """

    kind: str
    key: str
    given: dict[str, Any]
    asked: int
    told: int | None
    result: Any
    stamp: int = 0

    @property
    def latest(self) -> int:
        """The latest time at which it can have been applied."""
        return self.told if self.told is not None else 1 << 62


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

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        return command

    def result(self, asked: Asked, answer: bytes) -> Datum:
        workload = self._by_key[str(asked.key)]
        workload.answered(asked, workload.decoded(asked.key, asked.kind, answer))
        return answer

    def seen(self, history: Iterable[Operation]) -> list[Seen]:
        """Return the operations that were or may have been applied."""
        found = []
        for one in history:
            if one.fate is Fate.REFUSED:
                continue
            workload, told, result = self._by_key[str(one.key)], None, None
            if one.fate is Fate.ANSWERED:
                assert isinstance(one.result, bytes)
                told, result = one.returned_at, workload.decoded(one.key, one.kind, one.result)
            given, kind = workload.arguments(one.argument), one.kind.removeprefix(_READ)
            assert isinstance(one.argument, bytes)
            stamp = int.from_bytes(one.argument[1:9], "little") if kind == one.kind else 0
            found.append(Seen(kind, str(one.key), given, one.invoked_at, told, result, stamp))
        return found

    def wrong(self, found: list[Seen], last: Objects) -> list[str]:
        """Return the promises that were broken."""
        told = []
        for recipe in self._recipes:
            keys = recipe.parts().keys()
            told += [f"{recipe.name}: {text}" for text in recipe.check([one for one in found if one.key in keys], last)]
        return told
