"""Check the time in the log: it never runs back, gains nothing on true time, and loses little.

`ClusterTimeChecker` is told the time that each leader's state machine is given. It finds the same numbers in the
applied commands, because `Sessions` stamps each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, final

from raft_core.node.limits import MILLISECOND, SECOND

__all__ = ["LATE", "ClusterTimeChecker"]

_HEAD: Final = Struct("<BQ")
_ROUNDING: Final = MILLISECOND
LATE: Final = SECOND
"""By how much one change of leader may make cluster time late where no process dies: by what the fastest heartbeat took
that reached the new leader, and an eighth of each later one's delay."""


@final
class ClusterTimeChecker:
    """The time in one simulation's log.

    `now` returns the simulation's own time, `fail` gets the text of a violation, `elections` returns the number of
    elections so far.

    `alike`: all clocks run at the pace of true time, so cluster time can be compared with it. `steady`: besides, no
    process dies, so every node has a message of the leader.
    """

    def __init__(self, now: Callable[[], int], fail: Callable[[str], None], elections: Callable[[], int]) -> None:
        self._elections = elections
        self._now = now
        self._fail = fail
        self.alike = False
        self.steady = False
        # By the time given to a machine: the true times when it was given first and last. A leader and its predecessor,
        # which is late by exactly as much, may give the same.
        self._told: dict[int, tuple[int, int]] = {}
        self._last = (0, 0)  # index and stamp of the newest command that any machine has applied
        self._least: int | None = None  # of the stamps so far less the true time when they were given
        self._most: int | None = None
        self.lost = 0
        """By how much cluster time is late at last, in nanoseconds; None of it counts where clocks are not alike."""

    def told(self, time: int) -> None:
        """Note the time given to a leader's machine."""
        now = self._now()
        self._told[time] = (self._told.get(time, (now, now))[0], now)

    def applied(self, index: int, command: bytes, node: str) -> None:
        """Note a command applied by a machine of `node`, as the log has it."""
        last, before = self._last
        if index <= last or len(command) < _HEAD.size:
            return
        stamp = _HEAD.unpack_from(command)[1]
        moments = self._told.get(stamp)
        if moments is None:
            return  # garbage without a stamp
        self._last = (index, max(stamp, before))
        if stamp < before:
            text = f"the time in the log runs back by {before - stamp} ns at index {index}, after index {last}"
            self._fail(f"{text} ({node}, command {command!r})")
        if not self.alike:
            return
        first, last_given = moments
        ahead, certainly = stamp - first, stamp - last_given
        least = self._least if self._least is not None else ahead
        most = self._most if self._most is not None else ahead
        if certainly > least + _ROUNDING:
            self._fail(f"the time in the log gains {certainly - least} ns on true time at index {index} ({node})")
        self._least, self._most = min(least, ahead), max(most, certainly)
        self.lost = self._most - ahead
        if self.steady and self.lost > LATE * max(1, self._elections()):
            self._fail(f"the time in the log has lost {self.lost} ns at index {index} ({node}); no process has died")
