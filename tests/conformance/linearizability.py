"""Our history checker judged by histories whose verdict is known: `linearizability_cases.json` of a given folder.

The translation of that file into histories, and `run`. A register history is a list of
`[process, read|write|cas, argument, result, invoked_at, returned_at]`, where the result "unknown" stands for an
unknown outcome; a key-value history is a list of `[process, invoke|ok, kind, key, value]` in order of time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from raft_testing.linearizability.checker import check
from raft_testing.linearizability.history import Datum, Fate, Moment, Operation, ProcessId
from raft_testing.linearizability.models import KeyValue, Register, SequentialModel

__all__ = ["FILE", "Line", "run"]

FILE: Final = "linearizability_cases.json"

_RegisterRow: TypeAlias = tuple[int, str, int | tuple[int, int] | None, bool | int | str | None, int, int | None]
_Event: TypeAlias = tuple[int, str, str, str, str | None]


class Line(NamedTuple):
    """What became of one case: its name, whether it passed, and, where not, what was wanted and what was found."""

    name: str
    passed: bool
    detail: str = ""


class _RegisterCase(msgspec.Struct, frozen=True):
    name: str
    linearizable: bool
    ops: list[_RegisterRow]


class _KeyCase(msgspec.Struct, frozen=True):
    name: str
    linearizable: bool
    events: list[_Event]


class _Cases(msgspec.Struct, frozen=True):
    register: list[_RegisterCase]
    kv: list[_KeyCase]


def run(path: str | Path) -> list[Line]:
    """One line per history of the folder `path`; none where the folder has no such file."""
    file = Path(path) / FILE
    if not file.exists():
        return []
    cases = msgspec.json.decode(file.read_bytes(), type=_Cases)
    lines = [
        _judge(f"register {case.name}", register_history(case.ops), Register(), case.linearizable)
        for case in cases.register
    ]
    for key_case in cases.kv:
        history = key_value_history(key_case.events)
        lines.append(_judge(f"key-value {key_case.name}", history, KeyValue(absent=""), key_case.linearizable))
    return lines


def _judge(name: str, history: list[Operation], model: SequentialModel, wanted: bool) -> Line:
    verdict = check(history, model)
    if verdict.linearizable == wanted:
        return Line(name, True)
    return Line(name, False, f"wanted {'linearizable' if wanted else 'not linearizable'}, got {verdict}")


def register_history(rows: list[_RegisterRow]) -> list[Operation]:
    """The operations of a register history. A read without a known result says nothing, so it is open like the rest."""
    history: list[Operation] = []
    for process, kind, argument, result, invoked_at, returned_at in rows:
        called = Moment(invoked_at)
        if result == "unknown" or returned_at is None:
            operation = Operation(ProcessId(process), called, None, kind, argument=argument, fate=Fate.UNKNOWN)
        else:
            seen: Datum = None if kind == "write" else result
            operation = Operation(ProcessId(process), called, Moment(returned_at), kind, argument=argument, result=seen)
        history.append(operation)
    return history


def key_value_history(events: list[_Event]) -> list[Operation]:
    """The operations of a key-value history; an event's place in the list is its time."""
    history: list[Operation] = []
    running: dict[int, int] = {}
    for now, (process, what, kind, key, value) in enumerate(events):
        if what == "invoke":
            running[process] = len(history)
            argument = None if kind == "get" else value
            history.append(Operation(ProcessId(process), Moment(now), None, kind, key, argument, None, Fate.UNKNOWN))
            continue
        place = running.pop(process)
        called = history[place]
        fate, result = (Fate.ANSWERED, value) if kind == "get" else (Fate.DONE, None)
        history[place] = Operation(
            called.process, called.invoked_at, Moment(now), kind, key, called.argument, result, fate
        )
    return history
