"""`Board`: what the demo shows, and its drawing: writes per second as a curve, the failover, the nodes, the events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, final

import attrs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["CURVE_WIDTH", "Board", "Row", "big", "draw", "lines_beside_events", "sparkline"]

CURVE_WIDTH: Final = 72
_WIDE: Final = 84
"""Columns of a terminal from which on the pause stands beside its explanation, and the table has wide gaps."""
_ALL_COLUMNS: Final = 68
"""Columns of a terminal that the whole table needs, with numbers of millions."""
_RATE_WIDTH: Final = 10
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_COLOURS: Final = {"leader": "bold green", "follower": "cyan", "down": "bold red"}
_SILENT: Final = frozenset({"down", "no answer", "starting"})
_DIGITS: Final = {
    "0": ("┏━┓", "┃ ┃", "┗━┛"),
    "1": ("╺┓ ", " ┃ ", "╺┻╸"),
    "2": ("╺━┓", "┏━┛", "┗━╸"),
    "3": ("╺━┓", " ━┫", "╺━┛"),
    "4": ("╻ ╻", "┗━┫", "  ╹"),
    "5": ("┏━╸", "┗━┓", "╺━┛"),
    "6": ("┏━╸", "┣━┓", "┗━┛"),
    "7": ("╺━┓", "  ┃", "  ╹"),
    "8": ("┏━┓", "┣━┫", "┗━┛"),
    "9": ("┏━┓", "┗━┫", "╺━┛"),
}


@final
@attrs.frozen
class Row:
    """One node at one moment.

    `role` is "down" for an ended process, "no answer" or "starting" for one without a status yet; then the numbers have
    no meaning and are not shown.
    """

    node: int
    address: str
    role: str
    term: int = 0
    commit: int = 0
    applied: int = 0
    keys: int = 0

    @property
    def known(self) -> bool:
        """Return whether the numbers come from the node."""
        return self.role not in _SILENT


@final
@attrs.define(eq=False)
class Board:
    """The state of the story as shown. `curve` is writes per second, `part` seconds of the load in each number.

    `marks` are moments of the load worth a sign below the curve: seconds since its start, and words.
    `lost` is None until all writes were looked up. `pause` is how long no write was acknowledged, in seconds, or None
    before the story has caused one. `elapsed` is 0 while clients write.
    """

    title: str
    rows: Sequence[Row] = ()
    curve: Sequence[float] = ()
    part: float = 1.0
    marks: list[tuple[float, str]] = attrs.field(factory=list)
    rate: float | None = None
    acknowledged: int = 0
    elapsed: float = 0.0
    pause: float | None = None
    pause_of: str = "failover: from kill -9 to the next acknowledged write"
    not_acknowledged: str = ""
    lost: int | None = None
    told: list[tuple[float, str]] = attrs.field(factory=list)
    """Events: seconds since the start, and a sentence."""
    try_next: str = ""
    started: float = attrs.field(factory=time.monotonic)


def sparkline(curve: Sequence[float]) -> tuple[str, str]:
    """Return the upper and the lower line of the curve. Any writes at all are at least a thin line; none are a gap.

    The highest number leaves an eighth of its line free, so that the curve does not touch the line above.
    """
    most = max(curve, default=0.0)
    heights = [0 if value <= 0 or not most else max(1, round(value / most * 15)) for value in curve]
    upper = "".join(_BLOCKS[max(0, height - 8)] for height in heights)
    lower = "".join(_BLOCKS[min(8, height)] for height in heights)
    return upper, lower


def big(number: int) -> tuple[str, str, str]:
    """Return the number in digits of three lines."""
    digits = [_DIGITS[digit] for digit in str(number)]
    first, second, third = (" ".join(digit[line] for digit in digits) for line in range(3))
    return first, second, third


def draw(board: Board, events: int = 12, width: int = 96, *, wraps: bool = False) -> RenderableType:
    """Draw the board with the last so many events, in lines of at most `width` columns.

    A line that is too long is cut, so that the board keeps its height; with `wraps`, an event takes several lines.
    """
    parts: list[RenderableType] = [_headline(board), _curve(board, width), Text()]
    if board.rows:
        parts += [_nodes(board.rows, width), Text()]
    event = _whole_event if wraps else _event
    parts += [event(when, sentence) for when, sentence in board.told[-events:]]
    if board.pause is not None or board.lost is not None:
        parts += [Text(), _results(board, width)]
    if board.try_next:
        parts += [Text(), _line(("try next  ", "dim"), (board.try_next, "bold"))]
    return Group(*parts)


def lines_beside_events(board: Board, width: int) -> int:
    """Return how many lines the board has that are no events, once it shows its results."""
    results = 3 if width >= _WIDE else 6
    return 1 + 3 + 1 + len(board.rows) + 2 + 1 + results + 2


def _line(*parts: tuple[str, str]) -> Text:
    """Return a line that is cut off at the edge of the terminal."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _headline(board: Board) -> Text:
    return _line(("raft-kv demo", "bold"), ("   ", ""), (board.title, "dim"))


def _fitted(curve: Sequence[float], width: int) -> Sequence[float]:
    """Return the curve in at most `width` numbers, each the mean of its part."""
    if len(curve) <= width:
        return curve
    edges = [len(curve) * place // width for place in range(width + 1)]
    parts = [curve[first:last] for first, last in pairwise(edges)]
    return [sum(part) / len(part) for part in parts]


def _curve(board: Board, width: int) -> Table:
    rate = "" if board.rate is None else f"{board.rate:,.0f}"
    room = max(1, width - _RATE_WIDTH - 4)
    upper, lower = sparkline(_fitted(board.curve, room))
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", width=_RATE_WIDTH)
    table.add_column(no_wrap=True)
    table.add_row(Text(rate, style="bold"), Text(upper, style="green"))
    table.add_row(Text("writes/s", style="dim"), Text(lower, style="green"))
    table.add_row(Text(), Text(_signs(board, min(room, CURVE_WIDTH)), style="bold cyan"))
    return table


def _signs(board: Board, room: int) -> str:
    """Return the line below the curve: an arrow at each mark, and its words where there is room for them."""
    line = ""
    for moment, words in board.marks:
        column = int(moment / board.part)
        column = column * room // len(board.curve) if len(board.curve) > room else column
        if len(line) <= column < room:
            line = line.ljust(column) + "▲" + (f" {words}" if column + 2 + len(words) <= room else "")
    return line


def _nodes(rows: Sequence[Row], width: int) -> Table:
    table = Table(box=None, padding=(0, 2 if width >= _WIDE else 1), header_style="dim", pad_edge=False)
    names = ["node", "clients at", "role", "term", "commit", "applied", "keys"]
    names = names if width >= _ALL_COLUMNS else [name for name in names if name != "applied"]
    for name in names:
        table.add_column(name, justify="left" if name in {"clients at", "role"} else "right", no_wrap=True)
    for row in rows:
        numbers = [getattr(row, name) for name in names[3:]]
        cells = [f"{number:,}" if row.known else "" for number in numbers]
        role = Text(row.role, style=_COLOURS.get(row.role, "yellow"))
        table.add_row(str(row.node), row.address, role, *cells)
    return table


def _event(when: float, sentence: str) -> Text:
    return _line((f"{when:6.1f} s  ", "dim"), (sentence, "default"))


def _whole_event(when: float, sentence: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(f"{when:6.1f} s", "dim"), Text(sentence))
    return table


def _results(board: Board, width: int) -> RenderableType:
    """Draw the pause as one big number, and beside it (below it, on a narrow terminal) what was lost of how many."""
    table = Table.grid(padding=(0, 3))
    pause = Text("")
    lines: list[tuple[str, str]] = []
    if board.pause is not None:
        pause = Text("\n".join(big(round(board.pause * 1000))), style="bold cyan", no_wrap=True)
        pause.append(" ms", style="bold")
        lines.append((board.pause_of, ""))
    written = f"{board.acknowledged:,} writes acknowledged"
    if board.elapsed:
        written += f", {board.acknowledged / board.elapsed:,.0f} per second"
    lines.append((written, ""))
    if board.lost is not None:
        lines.append((f"{board.lost:,} lost", "bold green" if board.lost == 0 else "bold red"))
    words = [_line(line) for line in lines]
    if width < _WIDE:
        return Group(*([pause] if board.pause is not None else []), *words)
    table.add_row(pause, Group(*words))
    return table
