"""State machines over classes: commands, questions and their answers as attrs classes instead of bytes.

What lives here: `Schema`, the classes that travel, which clients and replicas share; `TypedStateMachine`, the
protocol that a user implements; and `TypedMachine`, which makes a `StateMachine` of both. Nothing here knows of Raft
beyond the index of a command.

On the wire and in the log a value is the MessagePack array `[class name, {field: value, …}]`. A class can gain a
field with a default, and a vocabulary a class, as long as every replica knows them before the first command uses
them. Decoding is strict, because it must come out alike on every replica: no number is made of text, an unknown
field is an error, and what does not decode has `Undecodable` as its result, which says nothing that could differ
between versions of a library. Sets are written sorted; their members have to be plain values.
"""

from __future__ import annotations

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
"""How deeply a command may be nested. A limit of our own, for the interpreter's depends on who calls."""

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
    """The result of a command, or the answer to a question, that the machine does not understand."""


class StateUndecodable(ValueError):
    """A snapshot does not hold a state of this vocabulary: it is from a newer release, or of another machine."""


class TypedStateMachine(
    Protocol[_Command_contra, _Result_co, _Question_contra, _Answer_co, State],
):
    """What a user writes: deterministic, without I/O, clock or dice."""

    def apply_command(self, index: Index, command: _Command_contra) -> _Result_co:
        """The result of the committed command. An exception stops the node, so a refusal is a result."""
        ...

    def query(self, question: _Question_contra) -> _Answer_co:
        """The answer, from the state as it is; changes nothing."""
        ...

    def snapshot_state(self) -> State:
        """The whole state as a picture that later commands do not change. Called between two commands, and must
        return soon: it is written down afterwards, while applying goes on."""
        ...

    def restore_state(self, state: State) -> None:
        """Replaces the whole state."""
        ...


@runtime_checkable
class Prepares(Protocol[Command]):
    """A typed machine that completes commands on the leader before they enter the log, with the time for example."""

    def prepare_command(self, command: Command, now: int) -> Command:
        """The command as it shall enter the log. `now`: nanoseconds since 1970, by the leader's clock."""
        ...


# Values to data and back.


def make_converter() -> cattrs.Converter:
    """A strict converter: exact types, unknown fields refused, unions of attrs classes told apart by class name.

    Register hooks on it for types that MessagePack does not know, and hand it to the vocabulary."""
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
    """One union of classes to bytes and back. Hooks are looked up once, here."""

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
        """The bytes of `value`. Raises `CallerError` where it is of no class of this union or cannot be written."""
        kind = type(value)
        if (write := self._write.get(kind)) is None:
            raise CallerError(f"{kind.__name__} is not among the {self._what} of this vocabulary")
        try:
            return msgspec.msgpack.encode([kind.__name__, write(value)])
        except (TypeError, ValueError, OverflowError) as failure:
            raise CallerError(f"a {kind.__name__} cannot be written: {failure}; register a hook for it") from failure

    def decode(self, data: bytes) -> _Value | Undecodable:
        """The value in `data`, or `Undecodable`. Alike on every replica, so whatever a class's own validators or
        hooks raise counts as not decoding."""
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
    """The classes of one machine: what may be sent to it and what it may say. Each is a tuple of attrs classes.

    Clients and replicas share it. Raises `CallerError` for a class that is not of attrs, a
    name used twice, and a field of a type that the converter has no hook for."""

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
        """What to propose."""
        return self._commands.encode(command)

    def decode_result(self, data: bytes) -> Result | Undecodable:
        """What became of a command; `Undecodable` also where the result itself is of an unknown class."""
        return self._results.decode(data)

    def encode_question(self, question: Question) -> bytes:
        """What to ask."""
        return self._questions.encode(question)

    def decode_answer(self, data: bytes) -> Answer | Undecodable:
        """What was answered; `Undecodable` also where the answer itself is of an unknown class."""
        return self._answers.decode(data)

    # A replica's side.

    def decode_command(self, data: bytes) -> Command | Undecodable:
        """The command in an entry."""
        return self._commands.decode(data)

    def encode_result(self, result: Result | Undecodable) -> bytes:
        """The result that goes back to the client."""
        return _UNDECODABLE if isinstance(result, Undecodable) else self._results.encode(result)

    def decode_question(self, data: bytes) -> Question | Undecodable:
        """The question that was asked."""
        return self._questions.decode(data)

    def encode_answer(self, answer: Answer | Undecodable) -> bytes:
        """The answer that goes back to the client."""
        return _UNDECODABLE if isinstance(answer, Undecodable) else self._answers.encode(answer)

    def encode_state(self, state: State) -> bytes:
        """A snapshot's bytes."""
        return self._states.encode(state)

    def decode_state(self, data: bytes) -> State:
        """The state in a snapshot. Raises `StateUndecodable`."""
        state = self._states.decode(data)
        if isinstance(state, Undecodable):
            raise StateUndecodable("the snapshot holds no state of this machine; was it written by a newer release?")
        return state


@final
class TypedMachine(Generic[Command, Result, Question, Answer, State]):
    """A `StateMachine` made of a typed one and its vocabulary. It lives in memory: snapshots and the log keep it."""

    def __init__(
        self,
        machine: TypedStateMachine[Command, Result, Question, Answer, State],
        vocabulary: Schema[Command, Result, Question, Answer, State],
    ) -> None:
        self.machine: Final = machine
        self.vocabulary: Final = vocabulary
        self._prepares: Prepares[Command] | None = machine if isinstance(machine, Prepares) else None

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        """The command completed by the typed machine; unchanged where it has nothing to add or does not understand."""
        if self._prepares is None:
            return command
        decoded = self.vocabulary.decode_command(command)
        if isinstance(decoded, Undecodable):
            return command
        return self.vocabulary.encode_command(self._prepares.prepare_command(decoded, now))

    def latest_time(self) -> int:
        """Return what the typed machine says, where it implements `KeepsTime`; else 0, which says nothing."""
        return latest_time(self.machine)

    def apply(self, index: Index, command: bytes) -> bytes:
        """The typed result as bytes; `Undecodable` for a command that is none, and the state is as it was."""
        decoded = self.vocabulary.decode_command(command)
        if isinstance(decoded, Undecodable):
            return _UNDECODABLE
        return self.vocabulary.encode_result(self.machine.apply_command(index, decoded))

    def query(self, request: bytes) -> bytes:
        """The typed answer as bytes; `Undecodable` for a question that is none."""
        question = self.vocabulary.decode_question(request)
        if isinstance(question, Undecodable):
            return _UNDECODABLE
        return self.vocabulary.encode_answer(self.machine.query(question))

    def snapshot(self) -> Iterator[bytes]:
        """The chunks of the state as it is now; it is turned into bytes when the first is taken."""
        return self._chunks(self.machine.snapshot_state())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replaces the typed machine's state. Raises `StateUndecodable`, and the state is as it was."""
        self.machine.restore_state(self.vocabulary.decode_state(b"".join(chunks)))

    def _chunks(self, state: State) -> Iterator[bytes]:
        data = self.vocabulary.encode_state(state)
        for at in range(0, len(data), _CHUNK):
            yield data[at : at + _CHUNK]
