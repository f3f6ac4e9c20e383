"""A history as a picture in text: time from left to right, one line per client, the tried order as numbers.

It draws the part of a history in which no order was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raft_testing.linearizability.history import Datum, Operation, plain, told_apart

__all__ = ["draw_timeline"]

_NANOSECONDS: Final = 1_000_000
"""Larger moments are times, smaller ones numbers of events."""
_SHOWN_BEFORE: Final = 10
"""Placed operations drawn before the one without a place."""


def draw_timeline(
    key: Datum,
    operations: Sequence[Operation],
    prefix: Sequence[Operation],
    blocked: Operation,
    state: Datum,
    expected: Datum,
) -> str:
    """Draw the last operations with an order, those in progress, and the one that has no place."""
    numbers = {id(operation): str(place) for place, operation in enumerate(prefix, 1)}
    shown = _neighbourhood(operations, prefix, blocked)
    columns = _columns(shown, numbers, blocked)
    answered, right = told_apart(blocked.result, expected)
    whole = "" if answered in str(blocked) else f", and was answered {answered}"
    lines = [
        f"key {plain(key)}: {len(prefix)} of {len(operations)} operations can be ordered, then none fits",
        f"after them the object holds {plain(state)}",
        f"stuck at: client {blocked.process}, {blocked}; the object would have answered {right}{whole}",
        "",
    ]
    names = sorted({operation.process for operation in shown})
    margin = max([len(f"client {name}") for name in names]) + 2
    lines.append("time".ljust(margin) + _axis(shown, columns))
    for name in names:
        mine = [operation for operation in shown if operation.process == name]
        for number, row in enumerate(_rows(mine, columns, numbers, blocked)):
            lines.append((f"client {name}" if number == 0 else "").ljust(margin) + row)
    lines.append("")
    lines.append("[number: operation] call to return, with its place in the order; ✗ could not be placed;")
    lines.append("a blank number: not placed; …? unknown outcome, may take effect later or never")
    return "\n".join(lines)


def _neighbourhood(operations: Sequence[Operation], prefix: Sequence[Operation], blocked: Operation) -> list[Operation]:
    """Return the end of the prefix, and all unplaced operations called before the blocked one returned.

    Open operations count only where they were placed lately: they stay open for ever and would crowd the picture.
    """
    recent = list(prefix[-_SHOWN_BEFORE:])
    placed = {id(operation) for operation in prefix}
    assert blocked.returned_at is not None  # only a completed operation can block
    for operation in operations:
        if id(operation) in placed or operation.invoked_at > blocked.returned_at:
            continue
        if operation.returned_at is not None or len(recent) < 3 * _SHOWN_BEFORE:
            recent.append(operation)
    return sorted(recent, key=lambda operation: (operation.invoked_at, operation.process))


def _label(operation: Operation, numbers: dict[int, str], blocked: Operation) -> str:
    mark = "✗" if operation is blocked else numbers.get(id(operation), " ")
    return f"{mark}: {operation}"


def _columns(shown: Sequence[Operation], numbers: dict[int, str], blocked: Operation) -> dict[int, int]:
    """For each moment the column at which it is drawn: as narrow as the texts allow, in the order of time.

    A call and a return at one moment share a column: they count as concurrent.
    """
    moments = sorted({m for one in shown for m in (one.invoked_at, one.returned_at) if m is not None})
    columns: dict[int, int] = {}
    column = -1
    for moment in moments:
        column += 1
        for operation in shown:
            if operation.returned_at == moment and operation.invoked_at < moment:
                needed = len(_label(operation, numbers, blocked)) + 1
                column = max(column, columns[operation.invoked_at] + needed)
        columns[moment] = column
    return columns


def _rows(mine: Sequence[Operation], columns: dict[int, int], numbers: dict[int, str], blocked: Operation) -> list[str]:
    """Return the rows of one client: overlapping operations stand in different rows."""
    rows: list[str] = []
    for operation in mine:
        text = _label(operation, numbers, blocked)
        start = columns[operation.invoked_at]
        if operation.returned_at is None:
            bar = f"[{text} …?"
        else:
            bar = "[" + text.ljust(columns[operation.returned_at] - start - 1, "·") + "]"
        for place, row in enumerate(rows):
            if len(row) <= start:
                rows[place] = row.ljust(start) + bar
                break
        else:
            rows.append(" " * start + bar)
    return rows


def _shown(moment: int) -> str:
    """Small numbers as they are; nanoseconds as seconds."""
    return str(moment) if moment < _NANOSECONDS else f"{moment / 1e9:.4f} s"


def _axis(shown: Sequence[Operation], columns: dict[int, int]) -> str:
    """Return the moments above their columns, as many as there is room for."""
    line = ""
    for moment, column in columns.items():
        if len(line) <= column:
            line = line.ljust(column) + f"{_shown(moment)} "
    return line.rstrip()
