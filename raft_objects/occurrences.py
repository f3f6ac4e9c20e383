"""When a job is due: `Every` so many seconds, or by a line of `Cron`. Times are whole milliseconds since 1970. Pure.

All processes compute the same times from the same words, so each time names one occurrence in the whole cluster.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol, final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from raft_core.errors import CallerError

__all__ = ["Cron", "Every", "Occurrences"]


class Occurrences(Protocol):
    """The times at which something is due."""

    def before(self, time: int) -> int | None:
        """Return the latest occurrence at `time` or before; None if there is none."""
        ...

    def after(self, time: int) -> int | None:
        """Return the first occurrence after `time`; None if there is none."""
        ...


@final
class Every:
    """Every so many seconds, counted from 1970 in UTC and `offset` seconds later.

    For example, `Every(86400, 43200)` is every day at noon.
    """

    def __init__(self, seconds: float, offset: float = 0.0) -> None:
        self._period: Final = round(seconds * 1000)
        self._offset: Final = round(offset * 1000)
        if self._period < 1:
            raise CallerError(f"every {seconds} s is too often: a millisecond at least")

    def before(self, time: int) -> int:
        """Return the latest occurrence at `time` or before."""
        return time - (time - self._offset) % self._period

    def after(self, time: int) -> int:
        """Return the first occurrence after `time`."""
        return self.before(time) + self._period


@final
class Cron:
    """A line as in a crontab, `"30 3 * * mon"`, in a time zone, by the package cronsim (`pip install cronsim`).

    When clocks are put back or forward, it does as Debian's cron: what is due at a wall-clock time runs once.
    """

    def __init__(self, line: str, zone: str = "UTC") -> None:
        try:
            from cronsim import CronSim, CronSimError
        except ImportError:
            raise CallerError("cron lines need the package cronsim (the extra cron): pip install cronsim") from None
        self._line: Final = line
        self._make: Final = CronSim
        try:
            self._zone: Final = ZoneInfo(zone)
            CronSim(line, datetime.fromtimestamp(0, self._zone))
        except (ZoneInfoNotFoundError, ValueError):
            raise CallerError(f"there is no time zone called {zone!r}") from None
        except CronSimError as failure:
            raise CallerError(f"{line!r} is no line of a crontab: {failure}") from None

    def before(self, time: int) -> int | None:
        """Return the latest occurrence at `time` or before."""
        return self._next(time + 1000 - time % 1000, reverse=True)

    def after(self, time: int) -> int | None:
        """Return the first occurrence after `time`."""
        return self._next(time, reverse=False)

    def _next(self, time: int, *, reverse: bool) -> int | None:
        start = datetime.fromtimestamp(time // 1000, self._zone)
        found = next(self._make(self._line, start, reverse=reverse), None)
        return None if found is None else round(found.timestamp() * 1000)
