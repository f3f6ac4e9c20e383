"""A trace as a page: time runs down, a column per node, messages as arrows. It opens on the violation.

`draw` makes one self-contained HTML text from records, with style and script inside and no external resource. Ticks and
heartbeats of which nothing came are folded. The rows stand in the page as text; the script draws the lines between
them, and answers the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

import msgspec

from raft_core.ids import NO_NODE, NodeId
from raft_testing.trace.findings import Finding, find_violations
from raft_testing.trace.records import NodePicture, RecordKind, TraceRecord
from raft_testing.trace.timeline import Fold, Row, Timeline, family, moment

__all__ = ["draw"]

_MARKS: Final = {RecordKind.CRASH: "✖", RecordKind.RESTART: "▲", RecordKind.LOSS: "✕", RecordKind.NOTE: "◆"}


def draw(trace: Sequence[TraceRecord], title: str = "trace", command: str = "") -> str:
    """Return the page. It is self-contained and can be sent by mail.

    `command` is the shell command that repeats the run, shown beside the violation.
    """
    timeline = Timeline(trace)
    findings = find_violations(trace)
    columns = {node: place for place, node in enumerate(timeline.nodes)}
    model = {
        "nodes": timeline.nodes,
        "records": [_facts(record, columns.get(record.node, -1)) for record in trace],
        "sends": [
            [place, columns[record.node], send.id, columns[send.to], family(send.text), send.text]
            for place, record in enumerate(trace)
            for send in record.sends
        ],
        "periods": [[columns[one.node], one.first, one.last, one.role] for one in timeline.periods],
        "violations": [finding.place for finding in findings],
    }
    heads = "".join(
        f'<div class="head" data-c="{place}"><b>node {node}</b><span></span></div>' for node, place in columns.items()
    )
    parts = {
        "@STYLE@": _part("page.css"),
        "@SCRIPT@": _part("page.js"),
        "@TITLE@": escape(title),
        "@COUNT@": f"{len(trace):,} events, {len(columns)} nodes",
        "@FINDINGS@": "".join(
            _finding(finding, trace[finding.place], f"{number} of {len(findings)}", command)
            for number, finding in enumerate(findings, 1)
        )
        or '<p class="fine">no violation</p>',
        "@COLUMNS@": str(max(1, len(columns))),
        "@HEADS@": heads,
        "@ROWS@": "\n".join(_item(item, columns) for item in timeline.items()),
        "@MODEL@": msgspec.json.encode(model).decode().replace("<", "\\u003c"),
    }
    text = _part("page.html")
    pieces: list[str] = []
    for name, value in parts.items():  # in the order of the page, so that no value is searched for a later name
        before, _, text = text.partition(name)
        pieces += [before, value]
    return "".join([*pieces, text])


@cache
def _part(name: str) -> str:
    return files("raft_testing.trace").joinpath(name).read_text("utf-8").rstrip("\n")


def _facts(record: TraceRecord, column: int) -> list[object]:
    """Return what the script needs of a record beside its row: column, kind, arrival, state, effects."""
    return [column, record.kind.value, record.message, _numbers(record.picture), record.effects]


def _numbers(picture: NodePicture | None) -> list[object] | None:
    if picture is None:
        return None
    role, term, vote, leader = picture.role, picture.term, picture.vote, picture.leader
    return [role, term, vote, leader, picture.first, picture.last, picture.commit, picture.applied]


def _finding(finding: Finding, record: TraceRecord, number: str, command: str) -> str:
    where = f"step {record.step}, time {moment(record.time)}"
    facts = [("at", f'<a href="#n{finding.place}">{where}</a> {escape(record.event)}')]
    if finding.nodes:
        facts.append(("nodes", " ".join(f'<span class="node">{node}</span>' for node in finding.nodes)))
    for named in finding.commands:
        nodes = f" <small>on {', '.join(map(str, named.nodes))}</small>" if named.nodes else ""
        facts.append(("command", f"<code>{escape(named.text)}</code>{nodes}"))
    if command:
        facts.append(("run again", f'<code class="again">{escape(command)}</code><button class="copy">copy</button>'))
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    more = f"<pre>{escape(finding.more)}</pre>" if finding.more else ""
    return (
        f'<section class="finding" data-n="{finding.place}"><h2><small>violation {number}</small>'
        f'<span class="invariant">{escape(finding.invariant)}</span></h2><dl>{lines}</dl>{more}</section>'
    )


def _item(item: Row | Fold, columns: Mapping[NodeId, int]) -> str:
    if isinstance(item, Row):
        return _row(item, columns)
    rows = "\n".join(_row(row, columns) for row in item.rows)
    return (
        f'<div class="fold" role="option" data-n="{item.rows[0].place}"><span class="count">{item.text}</span></div>'
        f'<div class="quiet" hidden>\n{rows}\n</div>'
    )


def _row(row: Row, columns: Mapping[NodeId, int]) -> str:
    record = row.record
    time = f"<i>{moment(record.time)}</i>" if record.time != record.step else ""
    classes = ["row", record.kind.value]
    if row.changes:
        classes.append("two")
    if row.full:
        classes.append("full")
    if record.violation:
        classes.append("violation")
    if record.node == NO_NODE:
        classes.append("wide")
    mark = _MARKS.get(record.kind, "")
    dot = record.picture.role if record.picture is not None else ""
    kind = family(record.event.partition(": ")[2]) if record.message or record.event.startswith("from ") else "local"
    changes = "".join(f"<span>{change} </span>" for change in row.changes)
    violated = f'<em class="violated">{escape(record.violation.partition(chr(10))[0])}</em>' if record.violation else ""
    return (
        f'<div class="{" ".join(classes)}" role="option" id="n{row.place}" data-n="{row.place}">'
        f'<span class="when"><b>{record.step}</b>{time}</span>'
        f'<div class="cell" style="--c:{columns.get(record.node, 0)}"><u class="dot {dot}">{mark}</u>'
        f'<span class="label {kind}">{escape(record.event)}</span>'
        f'{f"""<span class="changes">{changes}</span>""" if changes else ""}</div>{violated}</div>'
    )
