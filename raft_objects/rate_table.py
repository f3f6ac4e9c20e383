"""`RateTable`: rates by name, in cluster time. Pure; `rates` does the waiting.

A bucket of `burst` permits fills at one permit per `period`. It is kept as one number, the time at which it will be
full again: who takes permits moves it on by as many periods, and may use them once it is no more than the whole bucket
ahead ("generic cell rate algorithm"). Permits can be taken ahead of their time, so whoever waits sends one command and
then sleeps: waiting costs no polling and its order is that of the log.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from raft_objects.declare import Replicated, command, query
from raft_objects.shards import ShardedDict, ShardedSortedList

__all__ = ["RateTable", "Turn"]

_PORTION = 256
"""Full buckets that one command forgets, so that none is long."""


@attrs.frozen
class Turn:
    """The answer to who wants permits: `granted` or not, and in how many nanoseconds they may be used."""

    granted: bool
    wait: int


class RateTable(Replicated):
    """Buckets by name; those that are full are forgotten."""

    undo = False
    checks_types = True
    errors: ClassVar[tuple[type[Exception], ...]] = (ArithmeticError,)
    classes = (Turn,)

    def __init__(self) -> None:
        self.full: ShardedDict[str, int] = ShardedDict()  # when the bucket is full again
        self.by_time: ShardedSortedList[tuple[int, str]] = ShardedSortedList()

    @command
    def take(self, name: str, amount: int, *, period: int, burst: int, patience: int) -> Turn:
        """Take permits that may be used within `patience` nanoseconds. If there are none, nothing is taken.

        `period`: nanoseconds per permit. `burst`: permits in a full bucket. Raise `ValueError` if it never holds so
        many.
        """
        return self._take(name, amount, period, burst, patience)

    def _take(self, name: str, amount: int, period: int, burst: int, patience: int) -> Turn:
        if period < 1 or not 1 <= amount <= burst:
            raise ValueError(f"{amount} permits from a bucket of {burst}, one per {period} ns")
        self._forget()
        before = self.full.get(name, 0)
        full = max(before, self.now_ns) + amount * period
        wait = max(0, full - burst * period - self.now_ns)
        if wait > patience:
            return Turn(False, wait)
        self.by_time.discard((before, name))
        self.by_time.add((full, name))
        self.full[name] = full
        return Turn(True, wait)

    @query
    def in_use(self) -> int:
        """Return how many buckets were not full when the last command came."""
        return len(self.full)

    def _forget(self) -> None:
        for _ in range(_PORTION):
            first = self.by_time.first
            if first is None or first[0] > self.now_ns:
                return
            del self.full[self.by_time.pop_first()[1]]
