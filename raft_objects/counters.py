"""`Counter`: a number that any process adds to.

    visits = objects.add("visits", Counter())
    await visits.add()                                    # the new value
    await visits.add_within(-3, low=0)                    # None, and nothing changed, if fewer than 3 are left

Promise: each addition that was acknowledged is in the value, once.
"""

from __future__ import annotations

from typing import ClassVar

from raft_objects.declare import Replicated, command, query

__all__ = ["Counter"]


class Counter(Replicated):
    """A whole number of any size. Open it as it is: it needs no handle."""

    undo = False
    checks_types = True
    errors: ClassVar[tuple[type[Exception], ...]] = (ArithmeticError,)

    def __init__(self, start: int = 0) -> None:
        self.count: int = start

    @command
    def add(self, amount: int = 1) -> int:
        """Add to the value and return it."""
        self.count += amount
        return self.count

    @command
    def add_within(self, amount: int, *, low: int | None = None, high: int | None = None) -> int | None:
        """Add to the value and return it; return None and change nothing if it would be below `low` or above `high`."""
        value = self.count + amount
        if (low is not None and value < low) or (high is not None and value > high):
            return None
        self.count = value
        return value

    @command
    def reset(self, value: int = 0) -> int:
        """Set the value and return the one before."""
        before, self.count = self.count, value
        return before

    @query
    def value(self) -> int:
        """Return the value."""
        return self.count
