"""The clock of a simulated node, which may differ from all others.

`nemesis` decides when its rate changes or it jumps.
"""

from __future__ import annotations

from typing import final

__all__ = ["NodeClock"]


@final
class NodeClock:
    """A clock that runs at its own rate, in thousandths, and may jump; the monotonic part never goes back."""

    __slots__ = ("_global", "_local", "rate", "wall_offset")

    def __init__(self, offset: int) -> None:
        self._global = 0
        self._local = offset
        self.rate = 1000
        self.wall_offset = 0

    def at(self, moment: int) -> int:
        """Return the clock's time at this moment of the simulation."""
        return self._local + (moment - self._global) * self.rate // 1000

    def moment(self, local: int) -> int:
        """When the clock will show this."""
        return self._global - (self._local - local) * 1000 // self.rate + 1

    def change(self, moment: int, rate: int, *, jump: int = 0) -> None:
        """Run at `rate` from this moment on, after a jump."""
        self._local = self.at(moment) + jump
        self._global = moment
        self.rate = rate
