"""The registers of `registers` as a typed machine, and clients that sometimes send garbage.

The classes that travel, `TypedRegisters` over them, and `TypedRegisterWorkload`. Registers, model and results are those
of `RegisterMachine`. In addition there is the operation `garbage`: bytes that are no command or query, with the result
`UNDECODABLE` and no effect.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.ids import Index
from raft_core.state_machine import StateMachine
from raft_core.typed_state_machine import Schema, TypedMachine, Undecodable
from raft_testing.linearizability.history import Datum
from raft_testing.linearizability.models import Register, SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked, RegisterWorkload

__all__ = [
    "UNDECODABLE",
    "Command",
    "CompareAndSet",
    "Done",
    "Exchanged",
    "Held",
    "Note",
    "Outcome",
    "Read",
    "Signed",
    "TypedRegisterWorkload",
    "TypedRegisters",
    "Weighed",
    "Write",
    "new_typed_registers",
    "vocabulary",
]

UNDECODABLE: Final = "undecodable"
"""The result of garbage, in terms of the model."""

_GARBAGE: Final = "garbage"
_GARBAGE_SHARE: Final = 0.06
_NEVER_USED: Final = b"\xc1"
"""No MessagePack begins so."""


@final
@attrs.frozen
class Signed:
    """A note by a client."""

    name: str


@final
@attrs.frozen
class Weighed:
    """A note with a number."""

    weight: float


Note: TypeAlias = Signed | Weighed | None


@final
@attrs.frozen
class Write:
    """The register `key` shall hold `value`. `number` is unique among all commands of a run; the note comes back."""

    number: int
    key: str
    value: str
    note: Note = None


@final
@attrs.frozen
class CompareAndSet:
    """The register `key` shall hold `value` if it holds `expected`."""

    number: int
    key: str
    expected: str | None
    value: str


@final
@attrs.frozen
class Done:
    """Write `number` is carried out, and had this note."""

    number: int
    note: Note = None


@final
@attrs.frozen
class Exchanged:
    """The result of compare-and-set `number`."""

    number: int
    exchanged: bool


@final
@attrs.frozen
class Read:
    """Request the value of the register `key`."""

    key: str


@final
@attrs.frozen
class Held:
    """The register `key` holds `value`."""

    key: str
    value: str | None


@final
@attrs.frozen
class Registers:
    """All registers, and the numbers of all commands so far."""

    values: dict[str, str]
    numbers: frozenset[int]


Command: TypeAlias = Write | CompareAndSet
Outcome: TypeAlias = Done | Exchanged

_VOCABULARY: Final = Schema[Command, Outcome, Read, Held, Registers](
    commands=(Write, CompareAndSet), results=(Done, Exchanged), questions=(Read,), answers=(Held,), states=(Registers,)
)


class TypedRegisters:
    """Registers by name. Raise `ValueError` if a command comes a second time."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._numbers: set[int] = set()

    def prepare_command(self, command: Command, now: int) -> Command:
        """Return the command unchanged: the leader writes its decoded form into the log."""
        return command

    def apply_command(self, index: Index, command: Command) -> Outcome:
        """Carry out the command."""
        if command.number in self._numbers:
            raise ValueError(f"command {command.number} is applied a second time, at index {index}")
        self._numbers.add(command.number)
        if isinstance(command, Write):
            self._values[command.key] = command.value
            return Done(command.number, command.note)
        holds = self._values.get(command.key) == command.expected
        if holds:
            self._values[command.key] = command.value
        return Exchanged(command.number, holds)

    def query(self, question: Read) -> Held:
        """Return the value of the named register."""
        return Held(question.key, self._values.get(question.key))

    def snapshot_state(self) -> Registers:
        """Return the registers and the numbers seen."""
        return Registers(dict(sorted(self._values.items())), frozenset(self._numbers))

    def restore_state(self, state: Registers) -> None:
        """Replace the registers and the numbers seen."""
        self._values, self._numbers = dict(state.values), set(state.numbers)


def vocabulary() -> Schema[Command, Outcome, Read, Held, Registers]:
    """Return the schema that clients and machines share."""
    return _VOCABULARY


def new_typed_registers() -> StateMachine:
    """Return a machine for a simulated node."""
    return TypedMachine(TypedRegisters(), _VOCABULARY)


@final
class _WithGarbage:
    """A register that also gets garbage."""

    def __init__(self) -> None:
        self._register = Register()

    def initial(self, key: Datum) -> Datum:
        return self._register.initial(key)

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        return (state, UNDECODABLE) if kind == _GARBAGE else self._register.step(state, kind, argument)

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        return kind == _GARBAGE or self._register.changed_nothing(kind, result)


class TypedRegisterWorkload:
    """Reads, writes of values that are never written twice, compare-and-set, and garbage, over a few registers."""

    def __init__(self, keys: int = 4) -> None:
        self._registers = RegisterWorkload(keys)

    @property
    def model(self) -> SequentialModel:
        """The model of one register, with garbage."""
        return _WithGarbage()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client, sometimes garbage."""
        plain = self._registers.ask(rng, client, number)
        key = str(plain.key)
        if rng.chance(_GARBAGE_SHARE):
            return Asked(_GARBAGE, key, None, _garbage(rng, number, key), reads=rng.chance(0.3))
        if plain.reads:
            return msgspec.structs.replace(plain, data=_VOCABULARY.encode_question(Read(key)))
        command: Command
        if isinstance(plain.argument, tuple):
            expected, value = plain.argument
            command = CompareAndSet(number, key, None if expected is None else str(expected), str(value))
        else:
            command = Write(number, key, str(plain.argument), _note(rng, number))
        return msgspec.structs.replace(plain, data=_VOCABULARY.encode_command(command))

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """Return the value read, or the result of the write."""
        if asked.reads:
            return self._answer(asked, answer)
        result = _VOCABULARY.decode_result(answer)
        if asked.kind == _GARBAGE:
            return _undecodable(result)
        command = _VOCABULARY.decode_command(asked.data)
        assert not isinstance(command, Undecodable)
        if isinstance(result, Undecodable) or result.number != command.number:
            raise ValueError(f"this is the result {result}, not that of command {command.number}")
        if isinstance(command, Write) and result != Done(command.number, command.note):
            raise ValueError(f"{command} has the result {result}")
        return result.exchanged if isinstance(result, Exchanged) else None

    @staticmethod
    def _answer(asked: Asked, answer: bytes) -> Datum:
        held = _VOCABULARY.decode_answer(answer)
        if asked.kind == _GARBAGE:
            return _undecodable(held)
        if isinstance(held, Undecodable) or held.key != asked.key:
            raise ValueError(f"asked for {asked.key!r}, answered {held}")
        return held.value


def _note(rng: Rng, number: int) -> Note:
    return rng.choice((None, Signed(f"client of {number}"), Weighed(number / 8), Weighed(float(number))))


def _undecodable(found: object) -> Datum:
    if not isinstance(found, Undecodable):
        raise ValueError(f"garbage was answered {found}")
    return UNDECODABLE


def _garbage(rng: Rng, number: int, key: str) -> bytes:
    """Return bytes that are neither a command nor a question, and never the same twice.

    Every way in which a command can be wrong is tested in `tests/core/test_typed_state_machine.py`.
    """
    encode = msgspec.msgpack.encode
    fields: dict[str, object] = {"number": number, "key": key, "value": f"v{number}"}
    bodies: tuple[object, ...] = (
        ["Write", {**fields, "more": 1}],  # a field that the class does not have
        ["Write", {**fields, "note": ["Weighed", {"weight": "much"}]}],
        ["Delete", fields],  # a class of a newer release
        number,
    )
    whole = encode(bodies[rng.below(len(bodies))])
    fate = rng.below(4)
    if fate == 0:
        return _NEVER_USED + whole
    if fate == 1:
        return encode(["Write", fields])[: -1 - rng.below(3)] + _NEVER_USED + encode(number)
    if fate == 2:
        return encode(["Write", fields]) + encode(number)  # something follows
    return whole
