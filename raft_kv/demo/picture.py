"""The board as an SVG picture, for a README: the terminal's own output, without any external resource."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme

from raft_core.errors import CallerError
from raft_kv.demo.board import Board, draw

__all__ = ["check_writable", "write_picture"]

_WIDTH: Final = 96
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
    try:
        with path.open("ab"):
            pass
    except OSError as failure:
        raise CallerError(f"the picture cannot be written: {failure}") from None


def write_picture(board: Board, path: Path) -> None:
    """Draw the board as a terminal shows it."""
    console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_terminal=True, color_system="truecolor")
    console.print(Padding(draw(board), (0, 2)))
    svg = console.export_svg(title="", theme=_THEME, code_format=_SVG, unique_id="demo")
    path.write_text(svg.replace("\u00a0", "&#160;"), encoding="utf-8")
