"""Replicated objects under the simulator of `raft_testing`: clients that call their methods, and what they saw.

    class Clients(ObjectWorkload):
        @classmethod
        def parts(cls) -> dict[str, Replicated]:
            return {"jobs": Jobs()}

        def ask(self, rng: Rng, client: int, number: int) -> Asked:
            return self.call(self.part(Jobs, "jobs").put, f"job {number}")

        def broken(self, seen: list[Seen], end: Objects) -> list[str]:
            ...                                        # what is wrong by the promise of the class

    report = simulate(range(100), machine=Clients.machine, workload=Clients, open_store=open_store)

Two things are checked. The model is the objects themselves, one command after the other: so answers that no order of
the commands explains are found without a word of yours. It shares the mistakes of your code. A promise, which `broken`
checks, does not: it takes only what clients saw and when, and the objects of a member in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, TypeVar, final

import attrs

from raft_core.ids import Index
from raft_core.state_machine import StateMachine
from raft_objects.declare import BoundQuery, Replicated
from raft_objects.machine import Objects
from raft_objects.replies import result_of
from raft_testing.linearizability.history import Datum, Fate, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = ["ObjectModel", "ObjectWorkload", "Seen"]

T = TypeVar("T", bound=Replicated)
_READ: Final = "read "
"""Begins the kind of an operation that asks a query."""
_STAMP: Final = slice(1, 9)
"""Where the time is in a command. A client writes a number there, so that no two commands are equal; the leader
replaces it."""
_HEAD: Final = 11


@attrs.frozen
class Seen:
    """An operation as its client saw it. `kind`: the method; `key`: the object's name; `given`: the arguments by name.

    `asked` and `told` are true times in nanoseconds, `stamp` is the cluster time at which it was carried out and
    `index` its place in the log, 0 for queries and for what never was. `result`: an error that the class declares is
    here as a value. Without an answer `told` and `result` are None: it was carried out once or not at all. What was
    refused is not among them.
    """

    kind: str
    key: str
    given: dict[str, Any]
    asked: int
    told: int | None
    result: Any
    stamp: int = 0
    index: int = 0

    @property
    def latest(self) -> int:
        """The latest time at which it can have been applied."""
        return self.told if self.told is not None else 1 << 62


class ObjectWorkload:
    """Clients of replicated objects, as a workload for `raft_testing.sim.runner.simulate`. Subclass it.

    `objects` are never open: they make calls and read answers, and the objects in them serve for `call`.
    """

    development: ClassVar[bool] = True
    """Look for clocks, global random numbers and the like in commands, at several times the cost."""

    def __init__(self, objects: Objects | None = None) -> None:
        self.objects: Final = Objects(self.parts()) if objects is None else objects
        self._calls = 0

    # What a subclass defines.

    @classmethod
    def parts(cls) -> dict[str, Replicated]:
        """Return new objects by name, as each node begins with them."""
        raise NotImplementedError

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client, made by `call`; `number` is unique in a run. Draw from `rng` only."""
        raise NotImplementedError

    def answered(self, asked: Asked, result: Any) -> None:
        """Learn from an answer, such as the number of a message to be acknowledged."""

    def broken(self, seen: list[Seen], end: Objects) -> list[str]:
        """Return what contradicts the promise, one text each. `end`: the objects of a member after the last command."""
        return []

    # What it offers.

    def part(self, kind: type[T], name: str) -> T:
        """Return the object of that name, for `call`. Raise `TypeError` if it is of another kind."""
        found = self.objects.entry(name).instance
        if not isinstance(found, kind):
            raise TypeError(f"{name} is of the kind {type(found).__name__}, not {kind.__name__}")
        return found

    @classmethod
    def machine(cls) -> Objects:
        """Return the machine of one node."""
        return Objects(cls.parts(), development=cls.development)

    def call(self, method: Any, *args: Any, **named: Any) -> Asked:
        """Return the operation of a call, as in `self.call(bank.deposit, "ada", 5)`."""
        name = method._binding.name
        made = method._query if isinstance(method, BoundQuery) else method._command
        argument = data = self.objects.encode_call(name, made, made.arguments(*args, **named))
        if isinstance(method, BoundQuery):
            return Asked(_READ + made.name, name, argument, data, reads=True)
        self._calls += 1
        data = data[: _STAMP.start] + self._calls.to_bytes(8, "little") + data[_STAMP.stop :]
        return Asked(made.name, name, argument, data)

    # What the simulator calls.

    @property
    def model(self) -> SequentialModel:
        """The objects themselves."""
        return ObjectModel(self.parts)

    def as_placed(self, asked: Asked, index: int, command: bytes) -> Datum:
        """Return the command with its index and its time."""
        return index, command

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """Return the answer's bytes, for the model has the same."""
        self.answered(asked, self.decoded(asked.key, asked.kind, answer))
        return answer

    def broken_promises(self, history: Iterable[Operation], machine: StateMachine) -> list[str]:
        """Return what contradicts the promise, at the end of a run."""
        assert isinstance(machine, Objects)
        return self.broken(self.seen(history), machine)

    # Histories.

    def seen(self, history: Iterable[Operation]) -> list[Seen]:
        """Return the operations that were or may have been applied."""
        return [self.seen_as(one) for one in history if one.fate is not Fate.REFUSED]

    def seen_as(self, one: Operation) -> Seen:
        """Return one operation as its client saw it."""
        told, result = None, None
        if one.fate is Fate.ANSWERED:
            assert isinstance(one.result, bytes)
            told, result = one.returned_at, self.decoded(one.key, one.kind, one.result)
        kind = one.kind.removeprefix(_READ)
        index, data = one.argument if isinstance(one.argument, tuple) else (0, one.argument)
        assert isinstance(index, int)
        assert isinstance(data, bytes)
        stamp = int.from_bytes(data[_STAMP], "little") if kind == one.kind else 0
        return Seen(kind, str(one.key), self.arguments(data), one.invoked_at, told, result, stamp, index)

    def in_words(self, operation: Operation) -> str:
        """Return the call and its answer, such as `jobs.put(item='report') → 7 (index 12)`."""
        name = str(operation.key)
        data = operation.argument[1] if isinstance(operation.argument, tuple) else operation.argument
        given = ", ".join(f"{each}={value!r}" for each, value in self.arguments(data).items())
        call = f"{name}.{operation.kind.removeprefix(_READ)}({given})"
        place = f" (index {operation.argument[0]!r})" if isinstance(operation.argument, tuple) else ""
        if operation.fate is not Fate.ANSWERED:
            return f"{call} → {operation.fate.value}{place}"
        assert isinstance(operation.result, bytes)
        return f"{call} → {self.decoded(operation.key, operation.kind, operation.result)!r}{place}"

    def decoded(self, key: Datum, kind: str, answer: bytes) -> Any:
        """Return what the answer says; an error that the object declares as a value."""
        entry = self.objects.entry(str(key))
        try:
            return result_of(entry, kind.removeprefix(_READ), answer)
        except entry.declared as failure:
            return failure

    def arguments(self, call: Datum) -> dict[str, Any]:
        """Return the arguments of a command or query."""
        assert isinstance(call, bytes)
        found = self.objects.arguments_in(call)
        if found is None:
            found = self.objects.arguments_in(call[_HEAD:])
        assert found is not None
        return found


@final
class ObjectModel:
    """The objects themselves as a sequential model, each alone: an argument is an entry of the log, with its index.

    So `self.index`, `self.random` and `self.now` are those of the log. A state is the object's name, the index of the
    last entry, and a snapshot. The order of the log is that in which replicas apply, so an entry from before the state
    cannot come next, and one without an index was never applied: both lead to a state from which nothing goes on.
    """

    def __init__(self, parts: Callable[[], dict[str, Replicated]]) -> None:
        self._machines = {name: Objects({name: part}) for name, part in parts().items()}
        self._initial = {name: b"".join(one.snapshot()) for name, one in self._machines.items()}

    def initial(self, key: Datum) -> Datum:
        """Return the state of an object before its first command."""
        assert isinstance(key, str)
        return key, 0, self._initial[key]

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Carry out a command or a query."""
        if not isinstance(state, tuple):
            return None, b"impossible"
        key, last, snapshot = state
        assert isinstance(key, str)
        assert isinstance(last, int)
        assert isinstance(snapshot, bytes)
        machine = self._machines[key]
        if kind.startswith(_READ):
            assert isinstance(argument, bytes)
            machine.restore([snapshot])
            return state, machine.query(argument)
        if not isinstance(argument, tuple):
            return None, b"impossible"
        index, command = argument
        assert isinstance(index, int)
        assert isinstance(command, bytes)
        if index <= last:
            return None, b"impossible"
        machine.restore([snapshot])
        result = machine.apply(Index(index), command)
        return (key, index, b"".join(machine.snapshot())), result

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return whether it was a query."""
        return kind.startswith(_READ)
