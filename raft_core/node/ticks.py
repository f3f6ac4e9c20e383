"""`Ticks`: a node's elapsed time in ticks, and when it has to be woken.

A tick in which nothing is due is *quiet*: an idle node sleeps through it. When it wakes, it first catches up on the
quiet ticks, each counted as if it had been awake, and then handles its input; the tick in which something is due comes
after the input, together with all further ones, as one. So a process that slept never deposes a leader whose heartbeat
waits in its input. Example: a follower with a timeout of 50 ticks last heard at tick 0 plans to wake at tick 10. Woken
by a heartbeat at tick 5 it counts 5 ticks and starts anew. Stopped until tick 1000 it counts one tick in all: it woke
far later than planned, and cannot know what it missed.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["MOST_QUIET", "Ticks"]

MOST_QUIET: Final = 9
"""Quiet ticks slept through at most. It bounds how far a sleep counts as time awake."""


@final
class Ticks:
    """The clock of one node. Times are nanoseconds, `length` is that of a tick."""

    __slots__ = ("_last", "_length", "_quiet", "count", "next_at")

    def __init__(self, length: int) -> None:
        self._length: Final = length
        self._last = 0  # the time up to which ticks are counted
        self._quiet = 0  # ticks from then on in which nothing is due
        self.count = 0  # ticks that have passed since the start
        self.next_at = length  # the time of the next tick: before it there is nothing to count

    def start(self, now: int) -> None:
        """Begin to count."""
        self._last = now
        self.next_at = now + self._length

    def due(self, now: int) -> bool:
        """Return whether a tick has passed that is not counted yet."""
        return now - self._last >= self._length

    def pass_quiet(self, now: int) -> int:
        """Count the quiet ticks that have passed, and return their number; 0 after an unplanned sleep."""
        passed = (now - self._last) // self._length
        quiet, self._quiet = self._quiet, 0
        if passed <= 0 or not quiet or passed > 2 * (quiet + 1):
            return 0
        return self._count(min(passed, quiet))

    def pass_all(self, now: int) -> int:
        """Count all ticks that have passed, and return their number."""
        passed = (now - self._last) // self._length
        return self._count(passed) if passed > 0 else 0

    def _count(self, passed: int) -> int:
        self._last += passed * self._length
        self.next_at = self._last + self._length
        self.count += passed
        return passed

    def plan(self, quiet: int) -> int:
        """Plan to sleep through so many quiet ticks. Return the time to wake."""
        self._quiet = min(quiet, MOST_QUIET)
        return self._last + (self._quiet + 1) * self._length
