"""`History`: what a server remembers for the page: its last minutes by the second, role changes and alarms."""

from __future__ import annotations

from collections import deque
from typing import Final, final

import attrs

from raft_core.effects import Alarm, RoleChanged, RoleName
from raft_core.node.measured import HistogramValue, Measured
from raft_core.node.status import NodeStatus

__all__ = ["KEPT_SECONDS", "History", "Moment", "Note"]

KEPT_SECONDS: Final = 180
_KEPT_NOTES: Final = 20
_MILLISECOND: Final = 1_000_000


@final
@attrs.frozen
class Moment:
    """One second. `time`: its end, in seconds since 1970. Rates are per second, durations in milliseconds.

    A duration is that which 99 % of the requests within this second did not exceed, 0.0 if there were none.
    """

    time: float
    commands: float
    commits: float
    writes_p99: float
    reads_p99: float
    sync_p99: float
    memory: int


@final
@attrs.frozen
class Note:
    """A role change or an alarm, with its time in seconds since 1970."""

    time: float
    kind: str
    text: str
    term: int = 0


def _p99(after: HistogramValue, before: HistogramValue) -> float:
    return round(after.since(before).quantile(0.99) / _MILLISECOND, 3)


@final
class History:
    """Kept in bounded memory. `observe` is called about once a second."""

    __slots__ = ("_before", "moments", "notes")

    def __init__(self) -> None:
        self.moments: Final[deque[Moment]] = deque(maxlen=KEPT_SECONDS)
        self.notes: Final[deque[Note]] = deque(maxlen=_KEPT_NOTES)
        self._before: tuple[float, int, int, Measured] | None = None

    def observe(self, time: float, status: NodeStatus, commands: int, memory: int) -> None:
        """Add the second that ends at `time`. `commands`: all commands received so far."""
        core, measured = status.core, status.measured
        commit = 0 if core is None else core.commit
        before, self._before = self._before, (time, commands, commit, measured)
        if before is None or time <= before[0]:
            return
        seconds = time - before[0]
        moment = Moment(
            time=round(time, 3),
            commands=round(max(0, commands - before[1]) / seconds, 1),
            commits=round((commit - before[2]) / seconds, 1) if before[2] else 0.0,
            writes_p99=_p99(measured.writes, before[3].writes),
            reads_p99=_p99(measured.reads, before[3].reads),
            sync_p99=_p99(measured.sync, before[3].sync),
            memory=memory,
        )
        self.moments.append(moment)

    def role_changed(self, time: float, change: RoleChanged) -> None:
        """Note another role, term or leader."""
        leads = change.role is RoleName.LEADER
        leader = "" if leads else f", leader is node {change.leader}" if change.leader else ", no leader"
        text = f"{change.role.value.replace('_', '-')}{leader}"
        self.notes.append(Note(round(time, 3), "role", text, change.term))

    def alarm(self, time: float, alarm: Alarm) -> None:
        """Note an alarm."""
        about = f" (node {alarm.peer})" if alarm.peer else ""
        self.notes.append(Note(round(time, 3), "alarm", f"{alarm.kind.value}{about}: {alarm.text}"))
