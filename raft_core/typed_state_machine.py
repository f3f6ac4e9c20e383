"""Typed state machines: commands, results, questions and answers as attrs classes instead of bytes.

`Schema` names the classes, shared by clients and replicas; users implement `TypedStateMachine`; `TypedMachine` makes a
`StateMachine` of both. Nothing here depends on Raft beyond the index of a command.

On the wire and in the log a value is the MessagePack array `[class name, {field: value, …}]`. A class can gain a
field with a default, and a schema a class, if every replica is upgraded before the first command uses them. Decoding
is strict, because it must be equal on every replica: text is never converted to a number, an unknown field is an
error, and undecodable data has the result `Undecodable`, without any text which might differ between versions of a
library. Sets are written sorted; their members must be plain values.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Set
from types import UnionType
from typing import Any, Final, Generic, Protocol, TypeVar, Union, final, get_args, get_origin, runtime_checkable

import attrs
import cattrs
import msgspec

from raft_core.errors import CallerError
from raft_core.ids import Index
from raft_core.state_machine import latest_time

__all__ = [
    "MAX_DEPTH",
    "Prepares",
    "Schema",
    "StateUndecodable",
    "TypedMachine",
    "TypedStateMachine",
    "Undecodable",
    "make_converter",
]

MAX_DEPTH: Final = 64
"""Maximum nesting of a command; a limit of our own, since the interpreter's depends on the call depth."""

_METHODS: Final = ("apply_command", "query", "snapshot_state", "restore_state")
_CHUNK: Final = 64 * 1024
_UNDECODABLE: Final = msgspec.msgpack.encode(["", {}])  # no class has the empty name

Command = TypeVar("Command")
Result = TypeVar("Result")
Question = TypeVar("Question")
Answer = TypeVar("Answer")
State = TypeVar("State")
_Command_contra = TypeVar("_Command_contra", contravariant=True)
_Result_co = TypeVar("_Result_co", covariant=True)
_Question_contra = TypeVar("_Question_contra", contravariant=True)
_Answer_co = TypeVar("_Answer_co", covariant=True)
_Value = TypeVar("_Value")


@final
@attrs.frozen
class Undecodable:
    """The result of an unknown command, or the answer to an unknown question."""


class StateUndecodable(ValueError):
    """A snapshot holds no state of this schema: it is from a newer release or another machine."""


class TypedStateMachine(
    Protocol[_Command_contra, _Result_co, _Question_contra, _Answer_co, State],
):
    """The user's machine: deterministic, without I/O, clock or random numbers. Derive from it; define all methods."""

    @abstractmethod
    def apply_command(self, index: Index, command: _Command_contra) -> _Result_co:
        """Apply the committed command and return its result. An exception stops the node: return errors as results."""
        ...

    @abstractmethod
    def query(self, question: _Question_contra) -> _Answer_co:
        """Return the answer from the present state, without changing it."""
        ...

    @abstractmethod
    def snapshot_state(self) -> State:
        """Return the whole state as a value which later commands do not change.

        It is called between two commands and must return soon: encoding follows while commands are applied.
        """
        ...

    @abstractmethod
    def restore_state(self, state: State) -> None:
        """Replace the whole state."""
        ...


@runtime_checkable
class Prepares(Protocol[Command]):
    """A typed machine which completes commands on the leader before they enter the log, e.g. with the time."""

    def prepare_command(self, command: Command, now: int) -> Command:
        """Return the command to write to the log. `now`: cluster time, as in `StateMachine.prepare`."""
        ...


# Values to data and back.


def make_converter() -> cattrs.Converter:
    """Return a strict converter: exact types, no unknown fields, unions of attrs classes by class name.

    Register hooks on it for types unknown to MessagePack, and pass it to `Schema`.
    """
    converter = cattrs.Converter(
        forbid_extra_keys=True, detailed_validation=False, unstruct_collection_overrides={Set: sorted}
    )
    for plain in (int, str, bytes, bool):
        converter.register_structure_hook(plain, _exactly(plain))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_factory(_is_union_of_classes, lambda union: _union_reader(converter, union))
    converter.register_unstructure_hook_factory(_is_union_of_classes, lambda union: _union_writer(converter))
    return converter


def _exactly(wanted: type[_Value]) -> Callable[[Any, type[_Value]], _Value]:
    def check(data: Any, _: type[_Value]) -> _Value:
        if type(data) is not wanted:
            raise TypeError(f"{wanted.__name__} expected")
        return data

    return check


def _number(data: Any, _: type[float]) -> float:
    if type(data) is not float and type(data) is not int:
        raise TypeError("a number expected")
    return float(data)


def _is_union_of_classes(kind: Any) -> bool:
    if get_origin(kind) not in (Union, UnionType):
        return False
    classes = [part for part in get_args(kind) if part is not type(None)]
    return len(classes) > 1 and all(isinstance(part, type) and attrs.has(part) for part in classes)


def _union_reader(converter: cattrs.Converter, union: Any) -> Callable[[Any, Any], Any]:
    known = _by_name(part for part in get_args(union) if part is not type(None))
    optional = type(None) in get_args(union)

    def read(data: Any, _: Any) -> Any:
        if data is None and optional:
            return None
        name, fields = data
        return converter.structure(fields, known[name])

    return read


def _union_writer(converter: cattrs.Converter) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        return None if value is None else [type(value).__name__, converter.unstructure(value)]

    return write


def _by_name(classes: Iterable[type[_Value]]) -> dict[str, type[_Value]]:
    known: dict[str, type[_Value]] = {}
    for one in classes:
        has_fields: bool = attrs.has(one)
        if not has_fields:
            raise CallerError(f"{one.__name__} is not an attrs class")
        if known.setdefault(one.__name__, one) is not one:
            raise CallerError(f"two classes of one union are called {one.__name__}")
    return known


def _too_deep(data: object) -> bool:
    level = [data]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for part in level:
            if type(part) is list:
                inner += part
            elif type(part) is dict:
                inner += part.values()
        if not inner:
            return False
        level = inner
    return True


@final
class _Codec(Generic[_Value]):
    """Encodes and decodes one union of classes. Hooks are looked up once, here."""

    __slots__ = ("_read", "_what", "_write")

    def __init__(self, what: str, classes: Iterable[type[_Value]], converter: cattrs.Converter) -> None:
        self._what = what
        self._read: dict[str, tuple[type[_Value], Callable[[Any, Any], Any]]] = {}
        self._write: dict[type, Callable[[Any], Any]] = {}
        for name, one in _by_name(classes).items():
            try:
                self._read[name] = (one, converter.get_structure_hook(one))
            except cattrs.StructureHandlerNotFoundError as failure:
                raise CallerError(f"a {name} has a field that cannot be read back: {failure}") from failure
            self._write[one] = converter.get_unstructure_hook(one)

    def encode(self, value: _Value) -> bytes:
        """Return the bytes of `value`. Raise `CallerError` if its class is not in this union or cannot be encoded."""
        kind = type(value)
        if (write := self._write.get(kind)) is None:
            raise CallerError(f"{kind.__name__} is not among the {self._what} of this schema")
        try:
            return msgspec.msgpack.encode([kind.__name__, write(value)])
        except (TypeError, ValueError, OverflowError) as failure:
            raise CallerError(f"a {kind.__name__} cannot be written: {failure}; register a hook for it") from failure

    def decode(self, data: bytes) -> _Value | Undecodable:
        """Return the value in `data`, or `Undecodable`.

        Any exception of a class's own validators or hooks counts as undecodable, so that all replicas agree.
        """
        try:
            name, fields = msgspec.msgpack.decode(data)
            if _too_deep(fields):
                return Undecodable()
            one, read = self._read[name]
            value = read(fields, one)
        except MemoryError:
            raise
        except Exception:
            return Undecodable()
        return value if type(value) is one else Undecodable()


@final
class Schema(Generic[Command, Result, Question, Answer, State]):
    """The classes of one machine's commands, results, questions, answers and states; all are attrs classes.

    Clients and replicas share it. Raise `CallerError` for a class not made by attrs, a name used twice, and a field
    without a converter hook for its type. With several commands mypy wants the union written down:

        schema: Schema[Open | Pay, Paid | Refusal, Balance, Cents, Accounts] = Schema(commands=[Open, Pay], ...)
    """

    def __init__(
        self,
        *,
        commands: Iterable[type[Command]],
        results: Iterable[type[Result]],
        questions: Iterable[type[Question]],
        answers: Iterable[type[Answer]],
        states: Iterable[type[State]],
        converter: cattrs.Converter | None = None,
    ) -> None:
        converter = converter or make_converter()
        self._commands = _Codec("commands", commands, converter)
        self._results = _Codec("results", results, converter)
        self._questions = _Codec("questions", questions, converter)
        self._answers = _Codec("answers", answers, converter)
        self._states = _Codec("states", states, converter)

    # A client's side.

    def encode_command(self, command: Command) -> bytes:
        """Return the bytes to propose."""
        return self._commands.encode(command)

    def decode_result(self, data: bytes) -> Result | Undecodable:
        """Return the result of a command; `Undecodable` also for a result of an unknown class."""
        return self._results.decode(data)

    def encode_question(self, question: Question) -> bytes:
        """Return the bytes of the query."""
        return self._questions.encode(question)

    def decode_answer(self, data: bytes) -> Answer | Undecodable:
        """Return the answer to a question; `Undecodable` also for an answer of an unknown class."""
        return self._answers.decode(data)

    # A replica's side.

    def decode_command(self, data: bytes) -> Command | Undecodable:
        """Return the command in an entry."""
        return self._commands.decode(data)

    def encode_result(self, result: Result | Undecodable) -> bytes:
        """Return the bytes of the result for the client."""
        return _UNDECODABLE if isinstance(result, Undecodable) else self._results.encode(result)

    def decode_question(self, data: bytes) -> Question | Undecodable:
        """Return the question in a query."""
        return self._questions.decode(data)

    def encode_answer(self, answer: Answer | Undecodable) -> bytes:
        """Return the bytes of the answer for the client."""
        return _UNDECODABLE if isinstance(answer, Undecodable) else self._answers.encode(answer)

    def encode_state(self, state: State) -> bytes:
        """Return the bytes of a snapshot."""
        return self._states.encode(state)

    def decode_state(self, data: bytes) -> State:
        """Return the state in a snapshot. Raise `StateUndecodable` if it holds none."""
        state = self._states.decode(data)
        if isinstance(state, Undecodable):
            raise StateUndecodable("the snapshot holds no state of this machine; was it written by a newer release?")
        return state


@final
class TypedMachine(Generic[Command, Result, Question, Answer, State]):
    """A `StateMachine` made of a typed one and its schema. It is in memory: snapshots and the log preserve it.

    Raise `CallerError` for a machine that lacks a method.
    """

    def __init__(
        self,
        machine: TypedStateMachine[Command, Result, Question, Answer, State],
        schema: Schema[Command, Result, Question, Answer, State],
    ) -> None:
        for name in _METHODS:
            if not callable(getattr(machine, name, None)):
                raise CallerError(f"{type(machine).__name__} has no method {name}: derive it from TypedStateMachine")
        self.machine: Final = machine
        self.schema: Final = schema
        self._prepares: Prepares[Command] | None = machine if isinstance(machine, Prepares) else None

    def init(self) -> Index:
        """Return 0: the machine lives in memory and starts empty."""
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the command completed by the typed machine; unchanged if it has no `Prepares` or decoding fails."""
        if self._prepares is None:
            return command
        decoded = self.schema.decode_command(command)
        if isinstance(decoded, Undecodable):
            return command
        return self.schema.encode_command(self._prepares.prepare_command(decoded, now))

    def latest_time(self) -> int:
        """Return the typed machine's latest time if it implements `KeepsTime`, else 0: unknown."""
        return latest_time(self.machine)

    def apply(self, index: Index, command: bytes) -> bytes:
        """Return the typed result as bytes; `Undecodable`, with the state unchanged, for an unknown command."""
        decoded = self.schema.decode_command(command)
        if isinstance(decoded, Undecodable):
            return _UNDECODABLE
        return self.schema.encode_result(self.machine.apply_command(index, decoded))

    def query(self, request: bytes) -> bytes:
        """Return the typed answer as bytes; `Undecodable` for an unknown question."""
        question = self.schema.decode_question(request)
        if isinstance(question, Undecodable):
            return _UNDECODABLE
        return self.schema.encode_answer(self.machine.query(question))

    def snapshot(self) -> Iterator[bytes]:
        """Return chunks of the present state; it is encoded when the first is taken."""
        return self._chunks(self.machine.snapshot_state())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the typed machine's state. Raise `StateUndecodable` with the state unchanged."""
        self.machine.restore_state(self.schema.decode_state(b"".join(chunks)))

    def _chunks(self, state: State) -> Iterator[bytes]:
        data = self.schema.encode_state(state)
        for at in range(0, len(data), _CHUNK):
            yield data[at : at + _CHUNK]
