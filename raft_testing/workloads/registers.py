"""The protocol `Workload`, for operations on your own state machine, and the default workload.

`RegisterMachine` with `RegisterWorkload`: named registers with reads, writes and compare-and-set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, final, runtime_checkable

import msgspec

from raft_core.ids import NO_INDEX, Index
from raft_core.state_machine import StateMachine
from raft_core.structs import Value
from raft_testing.linearizability.history import Datum, Operation
from raft_testing.linearizability.models import Register, SequentialModel
from raft_testing.rng import Rng

__all__ = [
    "Asked",
    "ChecksPromises",
    "HasHugeResults",
    "ReadsTheIndex",
    "ReadsTheLog",
    "RegisterMachine",
    "RegisterWorkload",
    "TellsOperations",
    "Workload",
    "result_bytes",
]


@final
class Asked(Value, frozen=True):
    """One operation of a client: its name in the history, and the bytes for the machine.

    `reads`: they are for `query`, otherwise for `apply`.
    """

    kind: str
    key: Datum
    argument: Datum
    data: bytes
    reads: bool = False


class Workload(Protocol):
    """Operations for a machine, and the sequential model of their results."""

    @property
    def model(self) -> SequentialModel:
        """The model of one object."""
        ...

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client; `number` is unique among all operations of a run."""
        ...

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """Return the machine's answer in terms of the model. Raise `ValueError` if it answers another operation."""
        ...


@runtime_checkable
class ReadsTheLog(Protocol):
    """A workload whose model needs the stamp of `prepare`, such as the time of a lease."""

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        """Return the argument for the model in place of `asked.argument`.

        It is taken from the command as first applied from the log. A command that was never applied keeps its argument.
        The commands of a run must differ, or one is taken for the other.
        """
        ...


@runtime_checkable
class ReadsTheIndex(Protocol):
    """A workload whose model needs the place in the log too, as where a result depends on the index."""

    def as_placed(self, asked: Asked, index: int, command: bytes) -> Datum:
        """Return the argument for the model as `ReadsTheLog.as_logged` does. `index` is that of the command."""
        ...


@runtime_checkable
class ChecksPromises(Protocol):
    """A workload with a promise of its own, which is checked at the end, beside the model."""

    def broken_promises(self, history: Sequence[Operation], machine: StateMachine) -> list[str]:
        """Return what contradicts the promise, one text each.

        `history` is what clients saw; arguments are as for the model. `machine` is that of a member, after the last
        command.
        """
        ...


@runtime_checkable
class TellsOperations(Protocol):
    """A workload that says in words what an operation was, for the report of a failure."""

    def in_words(self, operation: Operation) -> str:
        """Return call and answer, such as `jobs.put("report") → 7`."""
        ...


@runtime_checkable
class HasHugeResults(Protocol):
    """A workload whose machine may answer with much more than a few KiB."""

    @property
    def result_bytes(self) -> int:
        """How large a result may be: pieces and chunks in the simulated cluster are not too small for it."""
        ...


def result_bytes(workload: Workload) -> int:
    """Return how large a result may be; 0 where it is small."""
    return workload.result_bytes if isinstance(workload, HasHugeResults) else 0


class RegisterMachine:
    """Registers by name. A command is (number, kind, key, argument) in MessagePack; its result is (number, result).

    It remembers the number of every command that was applied, and raises `ValueError` if one comes a second time.
    """

    def __init__(self) -> None:
        self._values: dict[str, str | None] = {}
        self._numbers: set[int] = set()

    def init(self) -> Index:
        """Start empty."""
        return NO_INDEX

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the command unchanged."""
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        """Carry out the command."""
        number, kind, key, argument = msgspec.msgpack.decode(command, type=tuple[int, str, str, list[str | None]])
        if number in self._numbers:
            raise ValueError(f"command {number} is applied a second time, at index {index}")
        self._numbers.add(number)
        result: bool | None = None
        if kind == "write":
            self._values[key] = argument[0]
        elif kind == "cas":
            result = self._values.get(key) == argument[0]
            if result:
                self._values[key] = argument[1]
        return msgspec.msgpack.encode((number, result))

    def query(self, request: bytes) -> bytes:
        """Return the value of the named register, with the request."""
        return msgspec.msgpack.encode((request, self._values.get(request.decode())))

    def snapshot(self) -> Iterator[bytes]:
        """Return the registers and the numbers seen."""
        data = msgspec.msgpack.encode((sorted(self._values.items()), sorted(self._numbers)))
        return iter([data[start : start + 1000] for start in range(0, len(data), 1000)])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the registers and the numbers seen."""
        values, numbers = msgspec.msgpack.decode(b"".join(chunks), type=tuple[list[tuple[str, str | None]], list[int]])
        self._values, self._numbers = dict(values), set(numbers)


@final
class RegisterWorkload:
    """Reads, writes of values that are never written twice, and compare-and-set, over a few registers."""

    def __init__(self, keys: int = 4) -> None:
        self._keys = keys
        self._written: dict[str, list[str | None]] = {}

    @property
    def model(self) -> SequentialModel:
        """The model of one register."""
        return Register()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client."""
        key = f"r{rng.below(self._keys)}"
        fate = rng.random.random()
        if fate < 0.35:
            return Asked("read", key, None, key.encode(), reads=True)
        value = f"v{number}" + "x" * rng.choice((0, 0, 0, 40, 400))
        known = self._written.setdefault(key, [None])
        known.append(value)
        if fate < 0.75:
            return Asked("write", key, value, _command(number, "write", key, [value]))
        expected = rng.choice(known[-4:])
        return Asked("cas", key, (expected, value), _command(number, "cas", key, [expected, value]))

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """Return the value read, or the result of the write."""
        if asked.reads:
            request, value = msgspec.msgpack.decode(answer, type=tuple[bytes, str | None])
            if request != asked.data:
                raise ValueError(f"asked for {asked.data!r}, answered about {request!r}")
            return value
        wanted, *_ = msgspec.msgpack.decode(asked.data)
        number, result = msgspec.msgpack.decode(answer, type=tuple[int, bool | None])
        if number != wanted:
            raise ValueError(f"this is the result of command {number}, not of {wanted}")
        return result


def _command(number: int, kind: str, key: str, argument: list[str | None]) -> bytes:
    return msgspec.msgpack.encode((number, kind, key, argument))
