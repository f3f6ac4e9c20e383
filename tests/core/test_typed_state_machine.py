"""TypedMachine: a bank written over classes, driven in bytes."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs
import cattrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.errors import CallerError
from raft_core.ids import Index
from raft_core.sessions import Result, Sequence, SessionId, Sessions, decode_reply, encode_command, encode_register
from raft_core.state_machine import StateMachine
from raft_core.typed_state_machine import (
    _METHODS,
    MAX_DEPTH,
    Schema,
    StateUndecodable,
    TypedMachine,
    TypedStateMachine,
    Undecodable,
    make_converter,
)

# The bank.


def _positive(_: object, __: object, value: int) -> None:
    if value <= 0:
        raise ValueError("an amount is positive")


@attrs.frozen
class Deposit:
    account: str
    amount: int = attrs.field(validator=_positive)
    at: int = 0


@attrs.frozen
class Move:
    source: str
    target: str
    amount: int = attrs.field(validator=_positive)


@attrs.frozen
class Done:
    balance: int


@attrs.frozen
class NotEnough:
    missing: int


@attrs.frozen
class BalanceOf:
    account: str


@attrs.frozen
class Richest:
    pass


@attrs.frozen
class Balance:
    account: str
    amount: int


@attrs.frozen
class Books:
    accounts: dict[str, int]
    last: Deposit | Move | None = None


Commands: TypeAlias = Deposit | Move
Results: TypeAlias = Done | NotEnough
Questions: TypeAlias = BalanceOf | Richest


class Bank:
    """Accounts by name. None is overdrawn."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}
        self.last: Commands | None = None

    def prepare_command(self, command: Commands, now: int) -> Commands:
        return attrs.evolve(command, at=now) if isinstance(command, Deposit) else command

    def apply_command(self, index: Index, command: Commands) -> Results:
        self.last = command
        if isinstance(command, Deposit):
            return Done(self._add(command.account, command.amount))
        missing = command.amount - self.accounts.get(command.source, 0)
        if missing > 0:
            return NotEnough(missing)
        self._add(command.target, command.amount)
        return Done(self._add(command.source, -command.amount))

    def query(self, question: Questions) -> Balance:
        if isinstance(question, BalanceOf):
            return Balance(question.account, self.accounts.get(question.account, 0))
        return Balance(*max(self.accounts.items(), key=lambda item: item[1]))

    def snapshot_state(self) -> Books:
        return Books(dict(self.accounts), self.last)

    def restore_state(self, state: Books) -> None:
        self.accounts, self.last = dict(state.accounts), state.last

    def _add(self, account: str, amount: int) -> int:
        self.accounts[account] = self.accounts.get(account, 0) + amount
        return self.accounts[account]


WORDS = Schema[Commands, Results, Questions, Balance, Books](
    commands=(Deposit, Move),
    results=(Done, NotEnough),
    questions=(BalanceOf, Richest),
    answers=(Balance,),
    states=(Books,),
)


def a_bank() -> TypedMachine[Commands, Results, Questions, Balance, Books]:
    return TypedMachine(Bank(), WORDS)


def run(machine: StateMachine, *commands: Commands) -> list[Results | Undecodable]:
    return [
        WORDS.decode_result(machine.apply(Index(place), WORDS.encode_command(command)))
        for place, command in enumerate(commands, 1)
    ]


def test_commands_results_questions_and_answers_are_classes() -> None:
    bank = a_bank()

    results = run(bank, Deposit("ann", 10), Move("ann", "bob", 4), Move("ann", "bob", 7))

    assert results == [Done(10), Done(6), NotEnough(1)]
    assert WORDS.decode_answer(bank.query(WORDS.encode_question(BalanceOf("bob")))) == Balance("bob", 4)
    assert WORDS.decode_answer(bank.query(WORDS.encode_question(Richest()))) == Balance("ann", 6)


def test_it_is_a_state_machine_that_lives_in_memory() -> None:
    machine: StateMachine = a_bank()
    assert isinstance(machine, StateMachine)
    assert machine.init() == 0


def test_the_bytes_of_a_command_are_as_documented() -> None:
    assert msgspec.msgpack.decode(WORDS.encode_command(Move("ann", "bob", 4))) == [
        "Move",
        {"source": "ann", "target": "bob", "amount": 4},
    ]


def test_the_leader_completes_a_command_with_its_time() -> None:
    bank = a_bank()
    deposit, move = WORDS.encode_command(Deposit("ann", 1)), WORDS.encode_command(Move("ann", "bob", 1))

    assert WORDS.decode_command(bank.prepare(deposit, 99)) == Deposit("ann", 1, at=99)
    assert bank.prepare(move, 99) == move
    assert bank.prepare(b"garbage", 99) == b"garbage"


def test_a_machine_that_completes_nothing_gets_its_commands_unchanged() -> None:
    class Silent:
        def apply_command(self, index: Index, command: Commands) -> Results:
            return Done(index)

        def query(self, question: Questions) -> Balance:
            return Balance("nobody", 0)

        def snapshot_state(self) -> Books:
            return Books({})

        def restore_state(self, state: Books) -> None:
            return None

    machine = TypedMachine(Silent(), WORDS)
    assert machine.prepare(b"anything", 1) == b"anything"


def _nested(depth: int) -> bytes:
    data: object = 0
    for _ in range(depth):
        data = [data]
    return msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": data}])


NONSENSE = [
    b"",
    b"garbage",
    msgspec.msgpack.encode(["Withdraw", {"account": "ann", "amount": 1}]),
    msgspec.msgpack.encode(["Done", {"balance": 1}]),
    msgspec.msgpack.encode(["", {}]),
    msgspec.msgpack.encode([["Deposit"], {}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann"}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": "1"}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": 1.0}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": True}]),
    msgspec.msgpack.encode(["Deposit", {"account": 5, "amount": 1}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": 1, "colour": "red"}]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": -1}]),
    msgspec.msgpack.encode(["Deposit", ["ann", 1]]),
    msgspec.msgpack.encode(["Deposit", {"account": "ann", "amount": 1}, 3]),
    _nested(MAX_DEPTH + 1),
    _nested(500),
    b"\x91" * 100_000,
]


@pytest.mark.parametrize("command", NONSENSE)
def test_a_command_that_does_not_decode_has_an_error_as_its_result_and_changes_nothing(command: bytes) -> None:
    bank = a_bank()
    run(bank, Deposit("ann", 5))
    before = list(bank.snapshot())

    assert WORDS.decode_result(bank.apply(Index(2), command)) == Undecodable()
    assert bank.apply(Index(3), command) == bank.apply(Index(4), b"other nonsense")
    assert WORDS.decode_answer(bank.query(command)) == Undecodable()
    assert list(bank.snapshot()) == before


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_no_command_raises(command: bytes) -> None:
    a_bank().apply(Index(1), command)
    a_bank().query(command)


def test_an_exception_of_the_machine_itself_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="max"):
        a_bank().query(WORDS.encode_question(Richest()))

    class Broken(Bank):
        def apply_command(self, index: Index, command: Commands) -> Results:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TypedMachine(Broken(), WORDS).apply(Index(1), WORDS.encode_command(Deposit("ann", 1)))


def test_a_snapshot_shows_the_moment_at_which_it_was_begun() -> None:
    bank = a_bank()
    run(bank, Deposit("ann", 10), *(Deposit(f"account {number}", 1) for number in range(10_000)))
    chunks = bank.snapshot()
    run(bank, Deposit("ann", 90))

    pieces = list(chunks)
    other = a_bank()
    other.restore(iter(pieces))

    assert len(pieces) > 1
    assert other.query(WORDS.encode_question(BalanceOf("ann"))) == WORDS.encode_answer(Balance("ann", 10))
    assert list(other.snapshot()) == pieces


def test_a_union_within_a_class_is_told_apart_by_class_name() -> None:
    for last in (Deposit("ann", 1), Move("ann", "bob", 1), None):
        books = Books({"ann": 1}, last)
        assert WORDS.decode_state(WORDS.encode_state(books)) == books


@pytest.mark.parametrize("damaged", [b"", b"garbage", msgspec.msgpack.encode(["Books", {"accounts": 3}])])
def test_a_snapshot_of_something_else_is_refused_and_changes_nothing(damaged: bytes) -> None:
    bank = a_bank()
    run(bank, Deposit("ann", 10))
    with pytest.raises(StateUndecodable):
        bank.restore([damaged])
    assert bank.query(WORDS.encode_question(BalanceOf("ann"))) == WORDS.encode_answer(Balance("ann", 10))


# Vocabularies.


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Everything:
    flag: bool
    ratio: float
    raw: bytes
    colour: Colour
    many: tuple[int, ...]
    tags: frozenset[str]
    marks: set[int]
    nested: list[Done | NotEnough]
    maybe: Done | None = None


def a_vocabulary(*commands: type, converter: cattrs.Converter | None = None) -> Schema[object, Done, Done, Done, Done]:
    return Schema(
        commands=commands, results=(Done,), questions=(Done,), answers=(Done,), states=(Done,), converter=converter
    )


def test_the_usual_types_travel() -> None:
    words = a_vocabulary(Everything)
    value = Everything(
        True, 0.5, b"\xff", Colour.RED, (1, 2), frozenset("zebra"), {300, 2}, [Done(1), NotEnough(2)], Done(3)
    )
    assert words.decode_command(words.encode_command(value)) == value


def test_equal_sets_have_equal_bytes() -> None:
    data = a_vocabulary(Everything).encode_command(
        Everything(False, 1.0, b"", Colour.RED, (), frozenset(str(number) for number in range(100)), {1}, [])
    )
    tags = msgspec.msgpack.decode(data)[1]["tags"]
    assert tags == sorted(tags)


def test_a_number_does_not_become_bytes() -> None:
    data = msgspec.msgpack.decode(
        a_vocabulary(Everything).encode_command(Everything(False, 1.0, b"", Colour.RED, (), frozenset(), set(), []))
    )
    data[1]["raw"] = 10**12
    assert a_vocabulary(Everything).decode_command(msgspec.msgpack.encode(data)) == Undecodable()


def test_a_vocabulary_refuses_what_it_could_not_tell_apart() -> None:
    with pytest.raises(CallerError, match="Done"):
        a_vocabulary(Done, attrs.make_class("Done", ["x"]))
    with pytest.raises(CallerError):
        a_vocabulary(int)


def test_only_the_classes_of_the_vocabulary_can_be_sent() -> None:
    with pytest.raises(CallerError, match="Balance"):
        a_vocabulary(Done).encode_command(Balance("ann", 1))


@attrs.frozen
class Holder:
    number: complex


def test_a_type_that_cannot_travel_is_found_at_once() -> None:
    with pytest.raises(CallerError, match="Holder"):
        a_vocabulary(Holder)


def test_any_type_can_travel_with_a_hook_of_its_own() -> None:
    converter = make_converter()
    converter.register_structure_hook(complex, lambda data, _: complex(*data))
    with pytest.raises(CallerError, match="Holder"):
        a_vocabulary(Holder, converter=converter).encode_command(Holder(1j))

    converter = make_converter()
    converter.register_structure_hook(complex, lambda data, _: complex(*data))
    converter.register_unstructure_hook(complex, lambda value: [value.real, value.imag])
    words = a_vocabulary(Holder, converter=converter)
    assert words.decode_command(words.encode_command(Holder(1j))) == Holder(1j)


def test_a_number_that_is_too_large_cannot_be_written() -> None:
    with pytest.raises(CallerError, match="Done"):
        a_vocabulary(Done).encode_command(Done(2**64))


@attrs.frozen
class Nest:
    inner: Nest | None = None


def test_how_deep_a_command_may_be_nested_does_not_depend_on_the_interpreter() -> None:
    words = a_vocabulary(Nest)
    nest = Nest()
    for _ in range(MAX_DEPTH - 1):
        assert words.decode_command(words.encode_command(nest)) == nest
        nest = Nest(nest)
    assert words.decode_command(words.encode_command(Nest(nest))) == Undecodable()


def test_running_out_of_memory_is_not_taken_for_a_bad_command() -> None:
    def hook(data: object, _: object) -> complex:
        raise MemoryError

    converter = make_converter()
    converter.register_structure_hook(complex, hook)
    with pytest.raises(MemoryError):
        a_vocabulary(Holder, converter=converter).decode_command(msgspec.msgpack.encode(["Holder", {"number": 1}]))


def test_a_typed_machine_under_sessions_applies_a_repeated_command_once() -> None:
    bank = Sessions(a_bank())
    bank.apply(Index(1), encode_register())
    deposit = encode_command(SessionId(1), Sequence(1), Sequence(1), WORDS.encode_command(Deposit("ann", 5)))
    for index in (2, 3):
        reply = decode_reply(bank.apply(Index(index), bank.prepare(deposit, 7)))
        assert isinstance(reply, Result)
        assert WORDS.decode_result(reply.data) == Done(5)

    restored = Sessions(a_bank())
    restored.restore(bank.snapshot())
    assert restored.apply(Index(4), deposit) == bank.apply(Index(4), deposit)
    assert restored.query(WORDS.encode_question(BalanceOf("ann"))) == WORDS.encode_answer(Balance("ann", 5))


@pytest.mark.parametrize("missing", ["apply_command", "query", "snapshot_state", "restore_state"])
def test_machine_without_a_method_is_refused_before_it_loses_state(missing: str) -> None:
    methods = {name: lambda self, *values: None for name in _METHODS if name != missing}
    derived = type("Derived", (TypedStateMachine,), methods)
    with pytest.raises(TypeError, match=missing):
        derived()
    with pytest.raises(CallerError, match=missing):
        TypedMachine(type("Alike", (), methods)(), a_vocabulary())
