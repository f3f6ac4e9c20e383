"""Sequential models: the behaviour of one object for one request at a time.

The protocol of a model, and the models needed here. A model is a pure function from a state and a request to the next
state and the result, without time or concurrency.
"""

from __future__ import annotations

from typing import Protocol, final

from raft_core.errors import CallerError
from raft_testing.linearizability.history import Datum

__all__ = ["KeyValue", "Register", "SequentialModel"]


class SequentialModel(Protocol):
    """One object of its kind, used by one client at a time. States are immutable and hashable."""

    def initial(self, key: Datum) -> Datum:
        """Return the state of the untouched object `key`."""
        ...

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Return the state after the request, and its result."""
        ...

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return whether a request with this result certainly changed nothing, in any state.

        Only for speed: False is always right, and True where the request could have changed something makes wrong
        verdicts.
        """
        ...


@final
class Register:
    """One cell: `read` → value, `write` value → None, `cas` (expected, new) → whether it was exchanged."""

    __slots__ = ("_initial",)

    def __init__(self, initial: Datum = None) -> None:
        self._initial = initial

    def initial(self, key: Datum) -> Datum:
        """Return the initial value."""
        return self._initial

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Return the next state and the result. Raise `CallerError` for an unknown request."""
        if kind == "read":
            return state, state
        if kind == "write":
            return argument, None
        if kind == "cas" and isinstance(argument, tuple) and len(argument) == 2:
            return (argument[1], True) if state == argument[0] else (state, False)
        raise CallerError(f"a register knows read, write and cas (expected, new), not {kind} {argument!r}")

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return whether it was a read, or a failed compare-and-set."""
        return kind == "read" or (kind == "cas" and result is False)


@final
class KeyValue:
    """One key of a store. A missing key reads as `absent`.

    `get` → value, `put` value → None, `delete` → whether it existed, `append` piece → the value's length afterwards,
    `incr` number → the sum.

    Appending needs a value of the piece's type, incrementing a number; otherwise nothing changes and the result is
    the text `WRONG_TYPE`.
    """

    __slots__ = ("_absent",)

    WRONG_TYPE = "wrong type"

    def __init__(self, absent: Datum = None) -> None:
        self._absent = absent

    def initial(self, key: Datum) -> Datum:
        """Return the value of a missing key."""
        return self._absent

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Return the next state and the result. Raise `CallerError` for an unknown request."""
        if kind == "get":
            return state, state
        if kind == "put":
            return argument, None
        if kind == "append":
            return self._append(state, argument)
        if kind == "delete":
            return self._absent, state != self._absent
        if kind == "incr":
            return self._increment(state, argument)
        raise CallerError(f"a key-value store knows get, put, append, delete and incr, not {kind}")

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return whether it was a read, or deleted a missing key."""
        return kind == "get" or (kind == "delete" and result is False)

    def _append(self, state: Datum, piece: Datum) -> tuple[Datum, Datum]:
        if state == self._absent and isinstance(piece, str | bytes):
            return piece, len(piece)
        if isinstance(state, str) and isinstance(piece, str):
            return state + piece, len(state) + len(piece)
        if isinstance(state, bytes) and isinstance(piece, bytes):
            return state + piece, len(state) + len(piece)
        return state, self.WRONG_TYPE

    def _increment(self, state: Datum, by: Datum) -> tuple[Datum, Datum]:
        number = 0 if state == self._absent else state
        if type(number) is int and type(by) is int:
            return number + by, number + by
        return state, self.WRONG_TYPE
