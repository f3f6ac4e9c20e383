"""The history checker: known histories, a naive twin that tries every order, and the picture of a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.errors import CallerError
from raft_testing.linearizability.checker import Decision, check
from raft_testing.linearizability.history import Datum, Fate, HistoryRecorder, Moment, Operation, OperationId, ProcessId
from raft_testing.linearizability.models import KeyValue, Register, SequentialModel
from tests.conformance.linearizability import run


def did(
    process: int, called: int, returned: int, kind: str, argument: Datum = None, result: Datum = None, key: Datum = "x"
) -> Operation:
    return Operation(ProcessId(process), Moment(called), Moment(returned), kind, key, argument, result)


def unknown(process: int, called: int, kind: str, argument: Datum = None, key: Datum = "x") -> Operation:
    return Operation(ProcessId(process), Moment(called), None, kind, key, argument, None, Fate.UNKNOWN)


def refused(process: int, called: int, returned: int, kind: str, argument: Datum = None) -> Operation:
    return Operation(ProcessId(process), Moment(called), Moment(returned), kind, "x", argument, None, Fate.REFUSED)


# Known histories.


def test_an_empty_history_is_linearizable() -> None:
    assert check([], Register()).linearizable


def test_a_read_may_see_a_write_that_is_under_way() -> None:
    assert check([did(1, 0, 9, "write", 1), did(2, 2, 3, "read", None, 1)], Register()).linearizable


def test_two_reads_in_sequence_never_go_back_in_time() -> None:
    history = [did(1, 0, 9, "write", 1), did(2, 1, 2, "read", None, 1), did(3, 3, 4, "read", None, None)]
    assert check(history, Register()).decision is Decision.VIOLATED


def test_a_read_never_misses_a_write_that_returned_before_it() -> None:
    assert not check([did(1, 0, 1, "write", 1), did(2, 2, 3, "read", None, None)], Register()).linearizable


def test_operations_that_touch_at_one_moment_count_as_concurrent() -> None:
    assert check([did(1, 0, 2, "write", 1), did(2, 2, 3, "read", None, None)], Register()).linearizable


def test_of_two_exchanges_of_one_value_only_one_succeeds() -> None:
    both = [did(1, 0, 5, "cas", (None, 1), True), did(2, 0, 5, "cas", (None, 2), True)]
    one = [did(1, 0, 5, "cas", (None, 1), True), did(2, 0, 5, "cas", (None, 2), False)]
    assert not check(both, Register()).linearizable
    assert check(one, Register()).linearizable


def test_an_unknown_write_may_take_effect_long_after_its_call() -> None:
    history = [
        unknown(1, 0, "write", 7),
        did(2, 1, 2, "write", 8),
        did(2, 3, 4, "read", None, 8),
        did(2, 50, 51, "read", None, 7),
    ]
    assert check(history, Register()).linearizable


def test_an_unknown_write_may_never_take_effect() -> None:
    assert check([unknown(1, 0, "write", 7), did(2, 50, 51, "read", None, None)], Register()).linearizable


def test_an_unknown_write_takes_effect_at_most_once() -> None:
    history = [
        unknown(1, 0, "write", 7),
        did(2, 1, 2, "read", None, 7),
        did(2, 3, 4, "write", 8),
        did(2, 5, 6, "read", None, 7),
    ]
    assert not check(history, Register()).linearizable
    assert check([*history, unknown(3, 3, "write", 7)], Register()).linearizable


def test_an_unknown_write_never_takes_effect_before_its_call() -> None:
    history = [did(2, 1, 2, "read", None, 7), unknown(1, 3, "write", 7)]
    assert not check(history, Register()).linearizable


def test_a_refused_write_is_never_seen() -> None:
    unseen = [refused(1, 0, 1, "write", 7), did(2, 2, 3, "read", None, None)]
    seen = [refused(1, 0, 1, "write", 7), did(2, 2, 3, "read", None, 7)]
    assert check(unseen, Register()).linearizable
    assert not check(seen, Register()).linearizable


def test_an_operation_that_was_done_without_a_recorded_result_still_has_to_be_placed() -> None:
    done = Operation(ProcessId(1), Moment(0), Moment(1), "append", "x", "a", None, Fate.DONE)
    assert check([done, did(2, 2, 3, "get", None, "a")], KeyValue()).linearizable
    assert not check([done, did(2, 2, 3, "get", None, None)], KeyValue()).linearizable


def test_a_retry_that_was_applied_twice_is_found_by_the_length_it_returns() -> None:
    history = [did(1, 0, 5, "append", "a", 2), did(1, 6, 7, "get", None, "aa")]
    assert not check(history, KeyValue()).linearizable


def test_keys_are_judged_apart_and_the_broken_one_is_named() -> None:
    good = [did(1, 0, 1, "put", 1, None, "a"), did(1, 2, 3, "get", None, 1, "a")]
    bad = [did(2, 0, 1, "put", 1, None, "b"), did(2, 2, 3, "get", None, 2, "b")]
    verdict = check([*good, *bad], KeyValue())
    assert [failure.key for failure in verdict.failures] == ["b"]
    assert (verdict.keys, verdict.operations) == (2, 4)


def test_a_limit_that_is_reached_leaves_the_history_undecided() -> None:
    history = [
        *[did(n, 0, 99, "append", f"{n}", None) for n in range(8)],
        did(9, 0, 100, "get", None, "never"),
    ]
    done = [
        Operation(o.process, o.invoked_at, o.returned_at, o.kind, "x", o.argument, None, Fate.DONE) for o in history
    ]
    verdict = check([*done[:-1], history[-1]], KeyValue(), limit=50)
    assert verdict.decision is Decision.UNDECIDED
    assert not verdict.linearizable
    assert check([*done[:-1], history[-1]], KeyValue()).decision is Decision.VIOLATED


@pytest.mark.parametrize(
    ("state", "kind", "argument", "after", "result"),
    [
        (None, "get", None, None, None),
        ("a", "put", "b", "b", None),
        ("a", "delete", None, None, True),
        (None, "delete", None, None, False),
        (None, "append", b"ab", b"ab", 2),
        (b"x", "append", b"ab", b"xab", 3),
        ("x", "append", "ab", "xab", 3),
        (1, "append", "ab", 1, KeyValue.WRONG_TYPE),
        (None, "incr", 3, 3, 3),
        (4, "incr", -1, 3, 3),
        ("a", "incr", 1, "a", KeyValue.WRONG_TYPE),
    ],
)
def test_a_key_does_what_its_model_says(state: Datum, kind: str, argument: Datum, after: Datum, result: Datum) -> None:
    assert KeyValue().step(state, kind, argument) == (after, result)


@pytest.mark.parametrize("model", [Register(), KeyValue()])
def test_a_model_refuses_requests_that_it_does_not_know(model: SequentialModel) -> None:
    with pytest.raises(CallerError):
        model.step(None, "explode", None)


# The naive twin.


def brute_force(history: Sequence[Operation], model: SequentialModel) -> bool:
    """Some order of some of the open and all of the completed operations respects time and explains every result."""
    seen = [operation for operation in history if operation.fate is not Fate.REFUSED]
    completed = {number for number, operation in enumerate(seen) if operation.returned_at is not None}
    for count in range(len(completed), len(seen) + 1):
        for order in permutations(range(len(seen)), count):
            if completed <= set(order) and explains([seen[number] for number in order], model):
                return True
    return False


def explains(order: Sequence[Operation], model: SequentialModel) -> bool:
    state = model.initial("x")
    for place, operation in enumerate(order):
        for later in order[place + 1 :]:
            if later.returned_at is not None and later.returned_at < operation.invoked_at:
                return False
        state, result = model.step(state, operation.kind, operation.argument)
        if operation.fate is Fate.ANSWERED and operation.result != result:
            return False
    return True


values = st.integers(1, 2)
register_requests = st.one_of(
    st.tuples(st.just("read"), st.none(), st.one_of(st.none(), values)),
    st.tuples(st.just("write"), values, st.none()),
    st.tuples(st.just("cas"), st.tuples(values, values), st.booleans()),
)
pieces = st.sampled_from(["a", "b"])
key_requests = st.one_of(
    st.tuples(st.just("get"), st.none(), st.sampled_from([None, "a", "b", "ab", "ba", "aa"])),
    st.tuples(st.just("put"), pieces, st.none()),
    st.tuples(st.just("append"), pieces, st.integers(1, 2)),
    st.tuples(st.just("delete"), st.none(), st.booleans()),
)


@st.composite
def histories(draw: st.DrawFn, requests: st.SearchStrategy[tuple[str, Datum, Datum]]) -> list[Operation]:
    operations: list[Operation] = []
    for process in range(draw(st.integers(1, 6))):
        kind, argument, result = draw(requests)
        called = draw(st.integers(0, 9))
        returned = called + draw(st.integers(0, 5))
        fate = draw(
            st.sampled_from([Fate.ANSWERED, Fate.ANSWERED, Fate.ANSWERED, Fate.DONE, Fate.UNKNOWN, Fate.REFUSED])
        )
        until = None if fate is Fate.UNKNOWN else Moment(returned)
        operations.append(Operation(ProcessId(process), Moment(called), until, kind, "x", argument, result, fate))
    return operations


@settings(max_examples=250, deadline=None)
@given(histories(register_requests))
def test_the_checker_decides_registers_like_its_naive_twin(history: list[Operation]) -> None:
    assert check(history, Register()).linearizable == brute_force(history, Register())


@settings(max_examples=250, deadline=None)
@given(histories(key_requests))
def test_the_checker_decides_keys_like_its_naive_twin(history: list[Operation]) -> None:
    assert check(history, KeyValue()).linearizable == brute_force(history, KeyValue())


# Size.


def long_history(operations: int, processes: int, keys: int, seed: int) -> list[Operation]:
    """A linearizable history: every operation takes effect at a moment between its call and its return."""
    chance, model, recorder = Random(seed), KeyValue(), HistoryRecorder()
    states: dict[Datum, Datum] = {}
    running: dict[int, tuple[OperationId, Datum]] = {}
    for now in range(2 * operations):
        process = int(chance.random() * processes)
        if process in running:
            number, result = running.pop(process)
            if result is None and chance.random() < 0.03:
                recorder.unknown(number)
            else:
                recorder.answered(number, now, result)
            continue
        key = int(chance.random() * keys)
        kind = ("get", "put", "incr", "delete")[int(chance.random() * 4)]
        argument = now if kind in ("put", "incr") else None
        number = recorder.invoke(process, now, kind, key=key, argument=argument)
        states[key], result = model.step(states.get(key), kind, argument)
        running[process] = (number, result)
    return list(recorder.history())


def test_ten_thousand_operations_with_unknown_outcomes_are_decided_within_seconds() -> None:
    history = long_history(10_000, processes=8, keys=10, seed=1)
    begun = time.process_time()
    assert check(history, KeyValue()).linearizable
    assert time.process_time() - begun < 10


def test_one_wrong_result_among_thousands_is_found() -> None:
    history = long_history(5_000, processes=4, keys=2, seed=2)
    place = next(n for n in range(4_000, 5_000) if history[n].kind == "get" and history[n].fate is Fate.ANSWERED)
    wrong = history[place]
    history[place] = did(wrong.process, wrong.invoked_at, wrong.returned_at or 0, "get", None, 99, wrong.key)
    verdict = check(history, KeyValue())
    assert [failure.blocked for failure in verdict.failures] == [history[place]]


# The picture.


def test_a_failure_is_shown_as_a_picture() -> None:
    history = [
        did(1, 0, 10, "write", 1),
        did(2, 5, 20, "read", None, 1),
        did(1, 30, 40, "write", 2),
        unknown(3, 31, "write", 3),
        did(2, 50, 60, "read", None, 1),
    ]
    assert str(check(history, Register())) == PICTURE


PICTURE = """\
not linearizable: 5 operations on 1 keys

key x: 3 of 5 operations can be ordered, then none fits
after them the object holds 2
stuck at: client 2, read → 1; the object would have answered 2

time      0                10 31              40           60
client 1  [1: write 1 → nil] [3: write 2 → nil]
client 2   [2: read → 1·····]                  [✗: read → 1]
client 3                      [ : write 3 → unknown …?

[number: operation] call to return, with its place in the order; ✗ could not be placed;
a blank number: not placed; …? unknown outcome, may take effect later or never"""


def test_the_picture_of_a_long_history_shows_only_the_neighbourhood_of_the_failure() -> None:
    history = [did(1, 2 * n, 2 * n + 1, "incr", 1, n + 1) for n in range(500)]
    history[400] = did(1, 800, 801, "incr", 1, 7)
    picture = check(history, KeyValue()).failures[0].picture()
    assert len(picture.splitlines()) < 12
    assert "✗: incr 1 → 7" in picture
    assert "the object would have answered 401" in picture


# The recorder.


def test_what_has_not_returned_is_unknown() -> None:
    recorder = HistoryRecorder()
    recorder.invoke(1, 5, "put", key="x", argument=1)
    assert recorder.history() == (unknown(1, 5, "put", 1),)


def test_a_recorded_operation_ends_as_it_was_reported() -> None:
    recorder = HistoryRecorder()
    first, second, third = [recorder.invoke(1, 5, "put", key="x", argument=n) for n in range(3)]
    recorder.answered(first, 6, "done")
    recorder.refused(second, 7)
    recorder.unknown(third)
    assert [(o.fate, o.returned_at, o.result) for o in recorder.history()] == [
        (Fate.ANSWERED, 6, "done"),
        (Fate.REFUSED, 7, None),
        (Fate.UNKNOWN, None, None),
    ]


def test_an_operation_ends_once_and_not_before_its_call() -> None:
    recorder = HistoryRecorder()
    number = recorder.invoke(1, 5, "put")
    with pytest.raises(CallerError):
        recorder.answered(number, 4)
    recorder.answered(number, 6)
    with pytest.raises(CallerError):
        recorder.unknown(number)


# The conformance file.


def test_the_conformance_runner_reads_both_kinds_of_history_and_names_what_failed(tmp_path: Path) -> None:
    good = [[0, "write", 1, True, 1, 2], [1, "read", None, 1, 3, 4], [0, "cas", [1, 2], "unknown", 5, None]]
    lost = [[0, "write", 1, True, 1, 2], [1, "read", None, None, 3, 4]]
    events = [[0, "invoke", "append", "k", "a"], [0, "ok", "append", "k", "a"]]
    events += [[1, "invoke", "get", "k", None], [1, "ok", "get", "k", "a"]]
    cases = {
        "register": [
            {"name": "good", "linearizable": True, "ops": good},
            {"name": "lost", "linearizable": False, "ops": lost},
            {"name": "mislabelled", "linearizable": True, "ops": lost},
        ],
        "kv": [{"name": "keys", "linearizable": True, "events": events}],
    }
    (tmp_path / "linearizability_cases.json").write_text(json.dumps(cases))
    lines = run(tmp_path)
    assert [(line.name, line.passed) for line in lines] == [
        ("register good", True),
        ("register lost", True),
        ("register mislabelled", False),
        ("key-value keys", True),
    ]
    assert lines[2].detail.startswith("wanted linearizable, got not linearizable")


def test_a_folder_without_histories_has_no_cases(tmp_path: Path) -> None:
    assert run(tmp_path) == []


def test_answers_that_differ_in_their_middle_are_shown_whole() -> None:
    def long(middle: str) -> bytes:
        return b"x" * 40 + middle.encode() + b"y" * 40

    history = [did(1, 0, 1, "write", long("A")), did(2, 2, 3, "read", None, long("B"))]
    report = str(check(history, Register()))
    alike = str(check([did(1, 0, 1, "write", b"A"), did(2, 2, 3, "read", None, b"B")], Register()))

    assert long("A").decode() in report
    assert long("B").decode() in report
    assert ", and was answered" not in alike
