"""The board as an SVG picture, for a README: the terminal's own output, without any external resource.

Curve and digits are shapes, not text: the blocks of a reader's font may leave gaps between lines.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme

from raft_core.errors import CallerError
from raft_kv.demo.board import Board, draw

__all__ = ["check_writable", "write_picture"]

_WIDTH: Final = 96
_CELL: Final = (12.2, 24.4)
"""Width and height of a character in Rich's picture."""
_BASELINE: Final = 20.0
"""From the upper edge of a line down to the `y` of its text."""
_STROKE: Final = 3.0
_OVERLAP: Final = 0.6
"""How far a shape reaches into the line below, so that no seam shows."""
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ARMS: Final = {
    "━": "lr",
    "┃": "ud",
    "┏": "rd",
    "┓": "ld",
    "┗": "ru",
    "┛": "lu",
    "┣": "udr",
    "┫": "udl",
    "┻": "lru",
} | {
    "╺": "r",
    "╸": "l",
    "╻": "d",
    "╹": "u",
}
_TEXT: Final = re.compile(r'<text class="([\w-]+)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>')
_THEME: Final = TerminalTheme(
    (18, 22, 28),
    (214, 220, 228),
    [
        *((18, 22, 28), (232, 104, 112), (76, 190, 132), (222, 176, 92)),
        *((96, 156, 236), (178, 140, 230), (86, 190, 208), (214, 220, 228)),
    ],
)
_SVG: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>raft-kv demo</title><style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  line-height: {line_height}px; white-space: pre; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect x="1" y="1" width="{width}" height="{height}" rx="10" fill="#12161c"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def check_writable(path: Path) -> None:
    """Raise `CallerError` if no picture can be written there; better before the run than after it."""
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:  # an empty file would look like a picture if the run is interrupted
            path.unlink()
    except OSError as failure:
        raise CallerError(f"the picture cannot be written: {failure}") from None


def write_picture(board: Board, path: Path) -> None:
    """Draw the board as a terminal shows it."""
    console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_terminal=True, color_system="truecolor")
    console.print(Padding(draw(board), (0, 2)))
    svg = console.export_svg(title="", theme=_THEME, code_format=_SVG, unique_id="demo")
    svg = _TEXT.sub(_shaped, svg.replace("&#160;", "\u00a0"))
    path.write_text(svg.replace("\u00a0", "&#160;"), encoding="utf-8")


def _shaped(found: re.Match[str]) -> str:
    """Return the text of one style in one line as shapes, if it is part of the curve or of a digit."""
    style, x, y, text = found.groups()
    drawn = set(text) - {"\u00a0", " "}
    if not drawn or not drawn <= _ARMS.keys() | set(_BLOCKS):
        return found[0]
    shapes = []
    for number, character in enumerate(text):
        left, top = float(x) + number * _CELL[0], float(y) - _BASELINE
        for at, down, wide, high in _rectangles(character):
            shapes.append(f"M{left + at:.1f} {top + down:.1f}h{wide:.1f}v{high:.1f}h-{wide:.1f}z")
    return f'<path class="{style}" d="{"".join(shapes)}"/>'


def _rectangles(character: str) -> Iterator[tuple[float, float, float, float]]:
    """Yield the rectangles of a character: left, top, width, height within its cell."""
    width, height = _CELL
    if character in _BLOCKS:
        part = height * (_BLOCKS.index(character) + 1) / 8
        yield 0.0, height - part, width, part + _OVERLAP
    beside, above, half = (width - _STROKE) / 2, (height - _STROKE) / 2, _STROKE / 2
    for arm in _ARMS.get(character, ""):
        if arm in "lr":
            yield (0.0 if arm == "l" else width / 2 - half), above, width / 2 + half, _STROKE
        else:
            yield beside, (0.0 if arm == "u" else height / 2 - half), _STROKE, height / 2 + half + _OVERLAP
