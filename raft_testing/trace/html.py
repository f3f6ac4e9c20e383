"""A trace as a page: time runs down, a column per node, messages as arrows, the broken property in red.

`draw` makes one self-contained HTML text from records (SVG, style and script inside, no external resource). A row is as
high as its text. A node's state is written out where it changes; everything else (event, effects, the state at that
moment) appears on hovering, and stays when clicked.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, final

import msgspec

from raft_core.ids import NO_NODE, NodeId
from raft_testing.trace.records import NodePicture, RecordKind, TraceRecord, TraceSend
from raft_testing.trace.template import PAGE

__all__ = ["draw"]

_LEFT: Final = 96  # step and time stand here
_COLUMN: Final = 236
_TOP: Final = 12
_NANOSECONDS: Final = 1_000_000  # a time above this is not counted in steps or ticks
_LETTER: Final = 8  # the width of one in a violation's text
_PLAIN_ROW: Final = 17
_STATE_ROW: Final = 31
_WIDEST: Final = 33  # characters of an event that fit beside its column
_EMPHASIS: Final = {False: "old", True: "new"}
_SHORT_ROLE: Final = {"follower": "F", "pre_candidate": "pre", "candidate": "cand", "leader": "LEADER"}


def draw(trace: Sequence[TraceRecord], title: str = "trace") -> str:
    """Return the page. It is self-contained and can be sent by mail."""
    drawing = _Drawing(trace)
    drawing.draw()
    heads = [
        f'<div class="head" style="left:{drawing.column(node) - 14}px">node {node}</div>' for node in drawing.nodes
    ]
    violations = [record for record in trace if record.violation]
    summary = "".join(
        f'<a class="broken" href="#step{record.step}">step {record.step}: {escape(_first_line(record.violation))}</a>'
        for record in violations
    )
    pictures = "".join(f"<pre>{escape(record.violation)}</pre>" for record in violations if "\n" in record.violation)
    details = [_details(record) for record in trace]
    return (
        PAGE.replace("@TITLE@", escape(title))
        .replace("@SUMMARY@", summary or '<span class="quiet">no violation</span>')
        .replace("@PICTURES@", pictures)
        .replace("@COUNT@", f"{len(trace)} steps, {len(drawing.nodes)} nodes")
        .replace("@HEADS@", "".join(heads))
        .replace("@WIDTH@", str(drawing.width))
        .replace("@HEIGHT@", str(drawing.height))
        .replace("@DETAILS@", msgspec.json.encode(details).decode().replace("<", "\\u003c"))
        .replace("@BODY@", "\n".join(drawing.parts()))
    )


def _details(record: TraceRecord) -> list[str]:
    """Return the lines shown on hovering; the first is the headline, the second the violation or ""."""
    where = f"node {record.node}: " if record.node else ""
    lines = [f"step {record.step}, time {_moment(record.time)}", record.violation, where + record.event]
    if record.picture is not None:
        lines.append(_state_in_words(record.picture))
    lines += [f"→ {effect}" for effect in record.effects]
    lines += [f"→ send to {send.to}: {send.text}" for send in record.sends]
    return lines


def _moment(time: int) -> str:
    """Return steps and ticks as they are; nanoseconds, which are large, as seconds."""
    return str(time) if time < _NANOSECONDS else f"{time / 1e9:.4f} s"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _state_in_words(picture: NodePicture) -> str:
    return (
        f"now {picture.role.replace('_', '-')} in term {picture.term}, voted for {picture.vote or 'nobody'}, leader "
        f"{picture.leader or 'unknown'}, log {picture.first} to {picture.last}, commit {picture.commit}, "
        f"applied {picture.applied}"
    )


@final
class _Drawing:
    """Everything of the SVG, in layers: bands and lifelines, then arrows, then points and texts."""

    def __init__(self, trace: Sequence[TraceRecord]) -> None:
        self._trace = trace
        nodes = {record.node for record in trace} | {send.to for record in trace for send in record.sends}
        self.nodes = sorted(nodes - {NO_NODE})
        self.width = _LEFT + _COLUMN * len(self.nodes) + 20
        self.height = _TOP
        self._rows: list[int] = []
        self._bands: list[str] = []
        self._arrows: list[str] = []
        self._marks: list[str] = []
        self._before: dict[NodeId, NodePicture] = {}
        self._alive_since: dict[NodeId, int] = {}
        self._sent: dict[int, tuple[int, NodeId, TraceSend]] = {}
        self._arrived: set[int] = set()

    def column(self, node: NodeId) -> int:
        return _LEFT + 14 + _COLUMN * self.nodes.index(node)

    def parts(self) -> list[str]:
        return [*self._bands, '<g class="arrows">', *self._arrows, "</g>", *self._marks]

    def draw(self) -> None:
        for record in self._trace:
            self._rows.append(self.height + 9)
            self.height += self._row_height(record)
            self._record(record, self._rows[-1])
        self.height += 20
        for node in self.nodes:
            self._lifeline(node, self.height - 12)
        for identity in sorted(self._sent):
            self._on_its_way(identity)

    def _row_height(self, record: TraceRecord) -> int:
        changed = record.picture is not None and record.picture != self._before.get(record.node)
        height = _STATE_ROW if changed else _PLAIN_ROW
        return height + 18 if record.violation else height

    def _record(self, record: TraceRecord, y: int) -> None:
        time = f'<tspan class="time"> {_moment(record.time)}</tspan>' if record.time != record.step else ""
        hover = f'<rect class="row" id="step{record.step}" data-n="{record.step - self._trace[0].step}"'
        self._bands.append(f'{hover} x="0" y="{y - 9}" width="{self.width}" height="{self._row_height(record)}"/>')
        self._marks.append(f'<text class="step" x="6" y="{y + 4}">{record.step}{time}</text>')
        if record.kind is RecordKind.LOSS:
            self._loss(record, y)
        elif record.node == NO_NODE:
            self._marks.append(f'<text class="note" x="{_LEFT}" y="{y + 4}">{escape(record.event)}</text>')
        else:
            self._at_a_node(record, y)
        if record.violation:
            self._violation(record, y)

    def _at_a_node(self, record: TraceRecord, y: int) -> None:
        x = self.column(record.node)
        if record.kind is RecordKind.CRASH:
            self._lifeline(record.node, y)
            self._before.pop(record.node, None)
            self._marks.append(f'<text class="crash" x="{x - 6}" y="{y + 5}">✖</text>')
        elif record.kind is RecordKind.RESTART:
            self._alive_since[record.node] = y
            self._marks.append(f'<text class="restart" x="{x - 7}" y="{y + 5}">▲</text>')
        elif record.picture is not None:
            self._role_change(record.node, record.picture, y)
            self._marks.append(f'<circle class="dot {record.picture.role}" cx="{x}" cy="{y}" r="4"/>')
        text = record.event if len(record.event) <= _WIDEST else record.event[: _WIDEST - 1] + "…"
        kind = "local" if not record.message else "event"
        self._backing(x, y - 5, len(text) * 0.54)
        self._marks.append(f'<text class="{kind}" x="{x + 9}" y="{y + 4}">{escape(text)}</text>')
        if record.picture is not None:
            self._state(record.picture, self._before.get(record.node), x, y + 17)
            self._before[record.node] = record.picture
        if record.message:
            self._arrive(record.message, record.node, y)
        for send in record.sends:
            self._sent[send.id] = (y, record.node, send)

    def _role_change(self, node: NodeId, picture: NodePicture, y: int) -> None:
        before = self._before.get(node)
        if before is None:
            self._alive_since.setdefault(node, y)
        elif before.role != picture.role:
            self._lifeline(node, y)
            self._alive_since[node] = y

    def _lifeline(self, node: NodeId, until: int) -> None:
        """Draw the line from the start of the node's role to here, in the colour of that role."""
        since = self._alive_since.pop(node, None)
        if since is None:
            return
        picture = self._before.get(node)
        role = picture.role if picture is not None else "follower"
        x = self.column(node)
        self._bands.append(f'<line class="life {role}" x1="{x}" x2="{x}" y1="{since}" y2="{until}"/>')

    def _state(self, now: NodePicture, before: NodePicture | None, x: int, y: int) -> None:
        """Draw the state in short, changes in bold; nothing without a change."""
        if now == before:
            return
        fields = [
            (_SHORT_ROLE.get(now.role, now.role), before is None or before.role != now.role),
            (f"t{now.term}", before is None or before.term != now.term),
            (f"v{now.vote or '–'}", before is None or before.vote != now.vote),
            (f"log {now.first}–{now.last}", before is None or (before.first, before.last) != (now.first, now.last)),
            (f"c{now.commit}", before is None or before.commit != now.commit),
            (f"a{now.applied}", before is None or before.applied != now.applied),
        ]
        self._backing(x, y - 9, sum([len(text) + 1 for text, _ in fields]) * 0.58)
        spans = "".join(
            f'<tspan dx="{5 if place else 0}" class="{_EMPHASIS[changed]}">{text}</tspan>'
            for place, (text, changed) in enumerate(fields)
        )
        self._marks.append(f'<text class="state {now.role}" x="{x + 9}" y="{y}">{spans}</text>')

    def _backing(self, x: int, y: int, length: float) -> None:
        """Paper under a text, so that arrows that cross it do not strike it out. `length` in ems."""
        self._marks.append(f'<rect class="paper" x="{x + 8}" y="{y}" width="{length * 11:.0f}" height="11"/>')

    def _arrive(self, message: int, node: NodeId, y: int) -> None:
        origin = self._sent.get(message)
        if origin is None:
            return  # sent before the trace begins
        sent_y, sender, send = origin
        again = ' data-again="1"' if message in self._arrived else ""
        self._arrived.add(message)
        self._arrow(sent_y, self.column(sender), y, self.column(node), send, _family(send.text), again)

    def _arrow(self, y1: int, x1: int, y2: int, x2: int, send: TraceSend, family: str, extra: str) -> None:
        tip = x2 - 6 if x1 < x2 else x2 + 6
        back = 7 if x1 < x2 else -7
        self._arrows.append(
            f'<g class="arrow {family}" data-m="{send.id}"{extra}><line x1="{x1}" y1="{y1}" x2="{tip}" y2="{y2}"/>'
            f'<path d="M{tip} {y2}l{-back} -3.5v7z"/><title>{escape(send.text)}</title></g>'
        )

    def _loss(self, record: TraceRecord, y: int) -> None:
        origin = self._sent.get(record.message)
        if origin is None:
            self._marks.append(f'<text class="note" x="{_LEFT}" y="{y + 4}">{escape(record.event)}</text>')
            return
        sent_y, sender, send = origin
        self._arrived.add(record.message)
        x1, x2 = self.column(sender), self.column(send.to)
        x = x1 + (x2 - x1) * 6 // 10
        self._arrow(sent_y, x1, y, x, send, f"{_family(send.text)} lost", "")
        self._marks.append(f'<text class="lost" x="{x - 5}" y="{y + 5}">✕ lost</text>')

    def _on_its_way(self, message: int) -> None:
        """Draw a message in transit at the end of the trace as a stub."""
        if message in self._arrived:
            return
        y, sender, send = self._sent[message]
        if send.to not in self.nodes:
            return
        x = self.column(sender)
        aim = self.column(send.to)
        end = x + (34 if aim > x else -34)
        self._arrow(y, x, y + 9, end, send, f"{_family(send.text)} pending", "")

    def _violation(self, record: TraceRecord, y: int) -> None:
        height = self._row_height(record)
        self._bands.append(f'<rect class="violation" x="0" y="{y - 9}" width="{self.width}" height="{height}"/>')
        text, room = _first_line(record.violation), (self.width - _LEFT) // _LETTER - 2
        if len(text) > room:
            text = text[: room - 1] + "…"
        self._marks.append(f'<text class="violated" x="{_LEFT}" y="{y - 9 + height - 5}">✖ {escape(text)}</text>')


def _family(text: str) -> str:
    """Return the family of a message, for its colour: votes, heartbeats, replies, data."""
    if "vote" in text or "stand" in text:
        return "vote"
    if text.startswith("heartbeat"):
        return "beat"
    if text.startswith(("append ok", "append rejected", "snapshot")):
        return "reply"
    return "data"
