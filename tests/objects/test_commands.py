"""Replicated classes without a node: calls, values, errors, snapshots, determinism."""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.errors import CallerError
from raft_objects import (
    CommandCrashed,
    CommandError,
    CommandFailed,
    CommandRefused,
    NotDeterministic,
    Objects,
    Replicated,
    command,
)
from raft_objects.codec import MAX_DEPTH, Codec, copied
from raft_objects.replies import result_of

from .samples import Bank, Broke, Colour, Driver, Order, Orders, Receipt, Sinner

ORDER = Order(7, Colour.BLUE, [("nut", 3), ("bolt", 2**70)], datetime(2030, 1, 2, tzinfo=UTC))


def bank(**settings: Any) -> tuple[Bank, Driver]:
    made = Bank()
    return made, Driver(Objects({"bank": made}, **settings))


def test_command_changes_state_and_returns_result() -> None:
    made, driver = bank()

    assert driver.do(made.deposit, "ada", 5) == 5
    assert driver.do(made.deposit, amount=7, account="ada", fee=2) == 10
    assert driver.ask(made.balance, "ada") == 10


def test_classes_enums_dates_and_containers_travel() -> None:
    orders = Orders()
    driver = Driver(Objects({"orders": orders}))

    assert driver.do(orders.place, ORDER) == ORDER
    assert driver.ask(orders.find, 7) == ORDER
    assert driver.ask(orders.find, 8) is None
    assert driver.do(orders.place, ORDER) is not ORDER


def test_call_with_wrong_arguments_raises_before_anything_is_sent() -> None:
    made, driver = bank()

    with pytest.raises(TypeError):
        driver.do(made.deposit, "ada")
    assert driver.log == []


def test_command_of_closed_object_raises() -> None:
    with pytest.raises(CallerError):
        _ = Bank().deposit("ada", 5)


def test_fields_change_in_commands_only() -> None:
    made, _ = bank()

    with pytest.raises(CallerError):
        made.accounts = {}


def test_command_called_by_command_is_refused() -> None:
    class Nested(Replicated):
        @command
        def inner(self) -> None: ...

        @command
        def outer(self) -> None:
            _ = self.inner()

    nested = Nested()
    driver = Driver(Objects({"nested": nested}))

    with pytest.raises(CommandFailed) as caught:
        driver.do(nested.outer)
    assert isinstance(caught.value.__cause__, CallerError)
    assert str(caught.value.__cause__) in str(caught.value)


class WithReceipts:
    receipts: list[Receipt]


class Annotated(Replicated, WithReceipts):
    """Names a class in a body only, that of its second base. This module's annotations are text."""

    def __init__(self) -> None:
        self.receipts = []

    @command
    def note(self, account: str) -> None:
        self.receipts.append(Receipt(account, 1))


def test_classes_are_found_in_annotations_of_the_class_body_that_are_text() -> None:
    made, read = Annotated(), Annotated()
    driver = Driver(Objects({"one": made}))
    driver.do(made.note, "ada")

    Objects({"one": read}).restore([driver.state()])

    assert read.receipts == [Receipt("ada", 1)]


# Exceptions.


def test_declared_error_is_the_result_and_takes_changes_back() -> None:
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)

    with pytest.raises(Broke) as caught:
        driver.do(made.move, "ada", "bob", 6)

    assert caught.value.args == ("ada", 6)
    assert made.accounts == {"ada": 5}


@pytest.mark.parametrize(("account", "amount", "error"), [("nobody", 1, KeyError), ("ada", "1", TypeError)])
def test_built_in_errors_are_results(account: str, amount: Any, error: type[Exception]) -> None:
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)

    with pytest.raises(error):
        driver.do(made.move, account, "bob", amount)
    assert made.accounts == {"ada": 5}


def test_errors_are_equal_on_all_replicas() -> None:
    made, driver = bank()
    replies = [
        driver.apply(driver.entry(made.move, "ada", "bob", 1)),
        driver.apply(driver.entry(made.deposit, "ada", 0)),
    ]
    _, other = bank()

    assert [other.apply(entry) for entry in driver.log] == replies


def test_undeclared_error_names_command_and_index() -> None:
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)

    with pytest.raises(CommandFailed, match=r"bank\.bug at index 2") as caught:
        driver.do(made.bug, "ada")
    assert isinstance(caught.value.__cause__, RuntimeError)
    for part in ("RuntimeError: a bug", "samples.py, line "):
        assert part in str(caught.value)


def test_error_whose_text_fails_is_named_without_it() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    class Silent(Replicated):
        @command
        def fail(self) -> None:
            raise Mute

    made = Silent()
    with pytest.raises(CommandFailed, match=r"raised Mute \(test_commands\.py, line"):
        Driver(Objects({"silent": made})).do(made.fail)


def test_undeclared_error_as_result_takes_changes_back() -> None:
    made, driver = bank(on_error="result")
    driver.do(made.deposit, "ada", 5)

    with pytest.raises(CommandCrashed):
        driver.do(made.bug, "ada")
    assert made.accounts == {"ada": 5}


def test_exhausted_stack_is_never_a_result() -> None:
    """How deep a stack may grow is the process's affair: another replica might have got through."""
    made, driver = bank(on_error="result")

    with pytest.raises(CommandFailed):
        driver.do(made.deep)


def test_exhausted_stack_is_never_a_result_even_if_declared() -> None:
    class Declares(Bank):
        errors = (RuntimeError,)

    made = Declares()
    driver = Driver(Objects({"bank": made}))
    with pytest.raises(CommandFailed):
        driver.do(made.deep)
    with pytest.raises(RuntimeError, match="a bug"):
        driver.do(made.bug, "ada")


def test_class_whose_field_the_constructor_does_not_take_is_refused() -> None:
    @attrs.define
    class Counted:
        count: int = attrs.field(init=False, default=0)

    with pytest.raises(CallerError):
        Codec([Counted])


def test_other_threads_may_call_while_a_command_runs() -> None:
    """A node with `machine_blocks` applies in a thread of its own."""
    inside, called = threading.Event(), threading.Event()

    class Slow(Replicated):
        @command
        def wait(self) -> bool:
            inside.set()
            return called.wait(10)

    slow = Slow()
    driver = Driver(Objects({"slow": slow}))
    thread = threading.Thread(target=driver.do, args=(slow.wait,))
    thread.start()
    inside.wait(10)
    with pytest.raises(CallerError, match="not open"):
        _ = slow.wait()
    with pytest.raises(CallerError):
        _ = slow.now
    called.set()
    thread.join()


def test_class_without_undo_keeps_what_was_changed_before_the_error() -> None:
    class Fast(Bank):
        undo = False

    made = Fast()
    driver = Driver(Objects({"bank": made}))
    driver.do(made.deposit, "ada", 5)

    with pytest.raises(Broke):
        driver.do(made.move, "ada", "bob", 6)
    assert made.accounts == {"ada": -1, "bob": 6}


# Snapshots and several objects.


def test_snapshot_restores_every_field_of_every_object() -> None:
    first = Bank(), Orders()
    driver = Driver(Objects({"bank": first[0], "orders": first[1]}))
    driver.do(first[0].deposit, "ada", 5)
    driver.do(first[1].place, ORDER)
    chunks = list(driver.objects.snapshot())
    driver.do(first[0].deposit, "ada", 1)
    second = Bank(), Orders()
    objects = Objects({"bank": second[0], "orders": second[1]})

    objects.restore(chunks)

    assert second[0].accounts == {"ada": 5}
    assert second[1].orders == {7: ORDER}
    assert second[1].seen == {"nut", "bolt"}
    assert objects.latest_time() == driver.time


def test_snapshot_is_of_its_moment() -> None:
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)
    chunks = driver.objects.snapshot()
    driver.do(made.deposit, "ada", 5)
    driver.objects.restore(chunks)

    assert made.accounts == {"ada": 5}


def test_state_in_slots_is_kept() -> None:
    @attrs.define(eq=False)
    class Counter(Replicated):
        total: int = 0

        @command
        def add(self, amount: int) -> int:
            self.total += amount
            if self.total > 9:
                raise ValueError("full")
            return self.total

    counter = Counter()
    driver = Driver(Objects({"counter": counter}))
    assert driver.do(counter.add, 5) == 5
    with pytest.raises(ValueError, match="full"):
        driver.do(counter.add, 5)
    chunks = list(driver.objects.snapshot())
    other = Counter()
    Objects({"counter": other}).restore(chunks)
    assert other.total == 5


def test_field_that_no_snapshot_can_hold_is_refused_at_once() -> None:
    class Odd(Replicated):
        def __init__(self) -> None:
            self.lock = object()

    with pytest.raises(CallerError):
        Objects({"odd": Odd()})


# Time and dice.


def test_time_index_and_dice_are_equal_on_all_replicas() -> None:
    one, other = Orders(), Orders()
    first, second = Driver(Objects({"orders": one})), Driver(Objects({"orders": other}))
    rolls = []
    for _ in range(3):
        first.time += 5
        rolls.append(first.do(one.dice))
    for entry in first.log:
        second.apply(entry)

    assert first.state() == second.state()
    assert [roll[1] for roll in rolls] == [1, 2, 3]
    assert [roll[2] - 1_000_000_000 for roll in rolls] == [5, 10, 15]
    assert len({roll[0] for roll in rolls}) == 3


def test_time_never_runs_back() -> None:
    one = Orders()
    driver = Driver(Objects({"orders": one}))
    driver.time = 50
    driver.do(one.dice)
    driver.time = 40

    assert driver.do(one.dice)[2] == 50


@pytest.mark.parametrize("name", ["clock", "wall", "dice", "name", "hidden"])
def test_clock_and_dice_of_the_process_are_found_with_the_line(name: str) -> None:
    sinner = Sinner()
    driver = Driver(Objects({"sinner": sinner}, development=True))

    with pytest.raises(NotDeterministic, match=r"samples\.py, line \d+"):
        driver.do(getattr(sinner, name))


def test_what_the_garbage_collector_calls_is_not_the_commands() -> None:
    """Libraries measure collections by `gc.callbacks`, and a collection may begin in any command."""
    bank_, driver = bank(development=True)
    called: list[float] = []

    def measure(phase: str, info: dict[str, int]) -> None:
        called.append(time.perf_counter())

    gc.callbacks.append(measure)
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        assert driver.do(bank_.deposit, "ada", 5) == 5
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(measure)
    assert called
    assert gc.isenabled()


def test_dice_of_the_command_are_allowed_in_development() -> None:
    sinner = Sinner()

    assert 1 <= Driver(Objects({"sinner": sinner}, development=True)).do(sinner.fair) <= 6


# Values.

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = plain | st.dates() | st.timedeltas() | st.uuids() | st.sampled_from(Colour)
values: st.SearchStrategy[Any] = st.recursive(
    hashable | st.decimals(allow_nan=False) | st.builds(Receipt, st.text(), st.integers(), st.floats(allow_nan=False)),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner)
        | st.sets(hashable)
        | st.frozensets(hashable)
        | st.builds(deque, st.lists(inner))
    ),
    max_leaves=20,
)


@given(values)
def test_what_was_put_in_comes_out(value: object) -> None:
    codec = Codec([Receipt, Colour])
    found = codec.decode(codec.encode(value))

    assert found == value == copied(value)
    assert type(found) is type(value)


@given(st.binary())
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        Codec([Receipt, Order, Colour]).decode(data)
    except ValueError:
        return


@given(st.binary(max_size=60))
def test_no_bytes_from_a_client_stop_a_node(data: bytes) -> None:
    made, driver = bank()
    driver.objects.apply(1, driver.objects.prepare(b"\0" + data, driver.time))
    forged = driver.entry(made.deposit, "ada", 1)[:11] + data
    driver.objects.apply(2, driver.objects.prepare(forged, driver.time))
    driver.objects.query(data)

    assert made.accounts == {}


def test_sets_are_written_in_one_order() -> None:
    codec = Codec([])

    assert codec.encode({"a", "b", "c"}) == codec.encode({"c", "b", "a"})


def test_values_of_all_kinds() -> None:
    codec = Codec([])
    kinds = [date(2030, 1, 2), timedelta(1, 2, 3), UUID(int=5), Decimal("1.10"), -(2**63), 2**63, deque([1])]

    assert codec.decode(codec.encode(kinds)) == kinds
    assert str(codec.decode(codec.encode(Decimal("1.10")))) == "1.10"


def test_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(CallerError):
        Codec([]).encode(loop)


def test_value_nested_too_deeply_is_not_read() -> None:
    deep: Any = []
    for _ in range(MAX_DEPTH - 1):
        deep = [0, deep]
    codec = Codec([])
    with pytest.raises(ValueError, match="not a value"):
        codec.decode(msgspec.msgpack.encode([0, [0, deep]]))


def test_unknown_class_is_refused_at_the_caller() -> None:
    made, driver = bank()

    with pytest.raises(CallerError):
        driver.do(made.deposit, Receipt, 5)
    assert driver.log == []


def test_error_class_of_another_module_is_known_by_its_name() -> None:
    assert issubclass(Broke, CommandError)


def test_garbage_is_refused() -> None:
    made, driver = bank()
    garbage = driver.entry(made.deposit, "ada", 5).replace(b"deposit", b"deploit")
    removed = driver.objects.prepare(garbage, driver.time)

    with pytest.raises(CommandRefused):
        result_of(driver.objects.entry("bank"), "deposit", driver.apply(removed))
