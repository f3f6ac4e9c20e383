"""Histories: the operations of clients with the moments of call and return, and the outcome of each.

The values of a history, and the recorder that collects one; `checker` judges it. Time is any number that rises: virtual
nanoseconds, ticks, or the position in a list of events.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NewType, TypeAlias, final

from raft_core.errors import CallerError
from raft_core.structs import Value

__all__ = ["Datum", "Fate", "HistoryRecorder", "Moment", "Operation", "OperationId", "ProcessId", "plain", "told_apart"]

Datum: TypeAlias = "bool | int | str | bytes | tuple[Datum, ...] | None"
"""What keys, arguments, results and states of a sequential model are made of: immutable and hashable."""

ProcessId = NewType("ProcessId", int)
"""The number of a client. A client usually waits for an answer before it asks again, but need not."""
OperationId = NewType("OperationId", int)
"""The number of an operation in a `HistoryRecorder`."""
Moment = NewType("Moment", int)
"""A point in time. Two operations whose call and return fall on one moment count as concurrent."""


class Fate(Enum):
    """How an operation ended, as its client knows it.

    `ANSWERED`: done, with this result. `DONE`: certainly done before it returned, but the result was not recorded.
    `UNKNOWN`: it may take effect at any time after its call, or never. `REFUSED`: it never took and never takes effect.
    """

    ANSWERED = "answered"
    DONE = "done"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@final
class Operation(Value, frozen=True):
    """One call of one client. `returned_at` is None exactly where the fate is `UNKNOWN` or not known yet.

    `key` says which object was meant: operations on different keys are judged apart from each other, which is sound
    because a system is linearizable exactly where each of its objects is (Herlihy and Wing, 1990).
    """

    process: ProcessId
    invoked_at: Moment
    returned_at: Moment | None
    kind: str
    key: Datum = None
    argument: Datum = None
    result: Datum = None
    fate: Fate = Fate.ANSWERED

    def __str__(self) -> str:
        """Return the operation as a reader says it: request and answer."""
        asked = self.kind if self.argument is None else f"{self.kind} {plain(self.argument)}"
        if self.fate is Fate.ANSWERED:
            return f"{asked} → {plain(self.result)}"
        return asked if self.fate is Fate.DONE else f"{asked} → {self.fate.value}"


_LONGEST: Final = 30
_ANY_LENGTH: Final = 1 << 30


def plain(datum: Datum, longest: int = _LONGEST) -> str:
    """Return the datum in few characters: `nil` for None, `ok` for True, bytes as text if they are text.

    A long one loses its middle, because appended values differ at their end.
    """
    if datum is None:
        return "nil"
    if datum is True:
        return "ok"
    if isinstance(datum, tuple):
        return "(" + ", ".join([plain(item, longest) for item in datum]) + ")"
    text = datum.decode("ascii") if isinstance(datum, bytes) and datum.isascii() else str(datum)
    return text if len(text) <= longest else f"{text[: longest // 3]}…{text[-longest // 2 :]}"


def told_apart(one: Datum, other: Datum) -> tuple[str, str]:
    """Return two data in few characters each, but whole where they would look the same without their middle."""
    short = plain(one), plain(other)
    if one == other or short[0] != short[1]:
        return short
    return plain(one, _ANY_LENGTH), plain(other, _ANY_LENGTH)


@final
class HistoryRecorder:
    """Collects a history while it happens. Operations without a return are `UNKNOWN`."""

    __slots__ = ("_operations", "_over")

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._over: list[bool] = []

    def invoke(self, process: int, at: int, kind: str, *, key: Datum = None, argument: Datum = None) -> OperationId:
        """Note a client's request. The number names the operation when it ends."""
        operation = Operation(ProcessId(process), Moment(at), None, kind, key, argument, None, Fate.UNKNOWN)
        self._operations.append(operation)
        self._over.append(False)
        return OperationId(len(self._operations) - 1)

    def answered(self, operation: OperationId, at: int, result: Datum = None) -> None:
        """Note the client's result."""
        self._end(operation, Moment(at), result, Fate.ANSWERED)

    def refused(self, operation: OperationId, at: int) -> None:
        """Note a refusal: the request was not and will not be carried out."""
        self._end(operation, Moment(at), None, Fate.REFUSED)

    def unknown(self, operation: OperationId) -> None:
        """Note an unknown outcome, or the departure of the client. The operation stays open for ever."""
        self._end(operation, None, None, Fate.UNKNOWN)

    def history(self) -> tuple[Operation, ...]:
        """Everything so far, in the order of the calls."""
        return tuple(self._operations)

    def _end(self, number: OperationId, at: Moment | None, result: Datum, fate: Fate) -> None:
        if self._over[number]:
            raise CallerError(f"operation {number} has ended already; every call ends once")
        begun = self._operations[number]
        if at is not None and at < begun.invoked_at:
            raise CallerError(f"operation {number} cannot end at {at}, before its call at {begun.invoked_at}")
        self._over[number] = True
        self._operations[number] = Operation(
            begun.process, begun.invoked_at, at, begun.kind, begun.key, begun.argument, result, fate
        )
