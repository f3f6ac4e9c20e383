"""`Refusals`: connections that a port refused, counted by port and reason; the same one is logged once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final, final

__all__ = ["AT_CLIENTS", "AT_HEALTH", "BAD_REQUEST", "TOO_SLOW", "Refusals"]

AT_CLIENTS: Final = "clients"
AT_HEALTH: Final = "health"
BAD_REQUEST: Final = "bad_request"
"""What was sent is no request of the port's protocol, or too large for one. Other reasons are those of `Drop`."""
TOO_SLOW: Final = "too_slow"
"""A request was begun and not completed in time."""
_PAUSE: Final = 1.0


@final
class Refusals:
    """Those of one server. `report` takes port, address, reason, text, and how many like it were not reported before.

    There are only a few reasons and texts, so `report` is called a few times a second at most, whatever is tried.
    """

    __slots__ = ("_clock", "_due", "_report", "_unreported", "counts")

    def __init__(
        self, report: Callable[[str, str, str, str, int], None], clock: Callable[[], float] = monotonic
    ) -> None:
        self.counts: Final[Counter[tuple[str, str]]] = Counter()
        """By port and reason."""
        self._report: Final = report
        self._clock: Final = clock
        self._due: Final[dict[tuple[str, str, str], float]] = {}
        self._unreported: Final[Counter[tuple[str, str, str]]] = Counter()

    def add(self, port: str, address: str, reason: str, text: str) -> None:
        """Count a refused connection from this address. `text`: why, of a few that there are for the reason."""
        self.counts[port, reason] += 1
        kind = (port, reason, text)
        now = self._clock()
        if now < self._due.get(kind, now):
            self._unreported[kind] += 1
            return
        self._due[kind] = now + _PAUSE
        self._report(port, address, reason, text, self._unreported.pop(kind, 0))

    @property
    def by_reason(self) -> tuple[tuple[str, int], ...]:
        """How many there were for each reason, at all ports together; sorted."""
        totals: Counter[str] = Counter()
        for (_, reason), count in self.counts.items():
            totals[reason] += count
        return tuple(sorted(totals.items()))
