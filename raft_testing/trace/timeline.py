"""The rows of a timeline: labels, changes of state, the periods of each role, and runs of quiet records to fold.

A record is quiet if it is a tick or belongs to a heartbeat and nothing came of it: no effect, no other message, no
change of state. A busy cluster has ten of them for each one that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, final

import attrs

from raft_core.ids import NO_NODE, NodeId
from raft_testing.trace.records import NodePicture, RecordKind, TraceRecord

__all__ = ["Fold", "Period", "Row", "Timeline", "family", "moment"]

_NANOSECONDS: Final = 1_000_000  # a time above this is not counted in steps or ticks
_IN_FULL: Final = 10
_ROLE_WORDS: Final = {"pre_candidate": "pre-candidate"}


@final
@attrs.define
class Row:
    """One record. `changes` are the fields of the state that it changed, in words; `full`: its label is not cut."""

    place: int
    record: TraceRecord
    quiet: bool
    changes: tuple[str, ...]
    full: bool = False


@final
@attrs.frozen
class Fold:
    """Consecutive quiet rows, shown as one line such as "12 ticks, 24 heartbeats"."""

    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """Return the number of each kind."""
        ticks = sum("tick" in row.record.event.split(" at ")[0] for row in self.rows)
        counts = [(ticks, "tick"), (len(self.rows) - ticks, "heartbeat")]
        return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count)


@final
@attrs.frozen
class Period:
    """A node in one role, from one place of the trace to another."""

    node: NodeId
    role: str
    first: int
    last: int


@final
class Timeline:
    """The rows, folds and periods of a trace."""

    def __init__(self, trace: Sequence[TraceRecord]) -> None:
        nodes = {record.node for record in trace} | {send.to for record in trace for send in record.sends}
        self.nodes: list[NodeId] = sorted(nodes - {NO_NODE})
        self.rows: list[Row] = []
        self.periods: list[Period] = []
        self._state: dict[NodeId, NodePicture] = {}
        self._since: dict[NodeId, tuple[str, int]] = {}
        for place, record in enumerate(trace):
            self.rows.append(self._row(place, record))
        for node in list(self._since):
            self._end_period(node, len(trace) - 1)
        self._show_ends_in_full()

    def items(self) -> Iterator[Row | Fold]:
        """Yield the rows in order, quiet ones folded."""
        quiet: list[Row] = []
        for row in self.rows:
            if row.quiet:
                quiet.append(row)
                continue
            if quiet:
                yield Fold(tuple(quiet))
                quiet = []
            yield row
        if quiet:
            yield Fold(tuple(quiet))

    def _row(self, place: int, record: TraceRecord) -> Row:
        before = self._state.get(record.node)
        if record.kind is RecordKind.CRASH:
            self._state.pop(record.node, None)
            self._end_period(record.node, place)
        now = record.picture
        changes: tuple[str, ...] = ()
        if now is not None:
            changes = () if now == before else tuple(_changes(before, now))
            if before is None or before.role != now.role:
                self._end_period(record.node, place)
                self._since[record.node] = (now.role, place)
            self._state[record.node] = now
        return Row(place, record, not changes and _is_quiet(record), changes)

    def _end_period(self, node: NodeId, place: int) -> None:
        if node in self._since:
            role, since = self._since.pop(node)
            self.periods.append(Period(node, role, since, place))

    def _show_ends_in_full(self) -> None:
        """Mark the last rows up to each violation and to the end of the trace."""
        ends = [row.place for row in self.rows if row.record.violation] + [len(self.rows) - 1]
        for end in ends:
            shown = [row for row in self.rows[: end + 1] if not row.quiet]
            for row in shown[-_IN_FULL:]:
                row.full = True


def moment(time: int) -> str:
    """Return steps and ticks as they are; nanoseconds, which are large, as seconds."""
    return str(time) if time < _NANOSECONDS else f"{time / 1e9:.4f} s"


def family(text: str) -> str:
    """Return the family of a message, for its colour: vote, beat, reply or data."""
    if "vote" in text or "stand" in text:
        return "vote"
    if text.startswith("heartbeat"):
        return "beat"
    if text.startswith(("append ok", "append rejected", "snapshot")):
        return "reply"
    return "data"


def _is_quiet(record: TraceRecord) -> bool:
    if record.kind is not RecordKind.STEP or record.violation or record.effects:
        return False
    sender, _, message = record.event.partition(": ")
    beat = sender.startswith("from ") and family(message) == "beat"
    tick = record.event == "tick" or record.event.endswith("ticks at once")
    return (beat or tick) and all(family(send.text) == "beat" for send in record.sends)


def _changes(before: NodePicture | None, now: NodePicture) -> Iterator[str]:
    """Yield the changed fields as "term 2 → 3"; all fields of a node that is seen for the first time."""
    if before is None or before.role != now.role:
        yield _ROLE_WORDS.get(now.role, now.role)
    for name, old, new in _fields(before, now):
        if before is None:
            yield f"{name} {new}"
        elif old != new:
            yield f"{name} {old} → {new}"


def _fields(before: NodePicture | None, now: NodePicture) -> list[tuple[str, str, str]]:
    was = now if before is None else before
    return [
        ("term", str(was.term), str(now.term)),
        ("vote", str(was.vote or "–"), str(now.vote or "–")),
        ("leader", str(was.leader or "–"), str(now.leader or "–")),
        ("log", f"{was.first}–{was.last}", f"{now.first}–{now.last}"),
        ("commit", str(was.commit), str(now.commit)),
        ("applied", str(was.applied), str(now.applied)),
    ]
