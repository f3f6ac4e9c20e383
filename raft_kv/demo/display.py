"""The display of the demo: a live table on a terminal, plain lines elsewhere, for the log of a build."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final, Protocol, final

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Display", "Row", "choose"]


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


_SILENT: Final = frozenset({"down", "no answer", "starting"})


class Display(Protocol):
    """Shows the events and the nodes."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...

    def tell(self, sentence: str) -> None:
        """Something happened."""
        ...

    def show(self, rows: Sequence[Row], rate: float, acknowledged: int) -> None:
        """How the nodes stand, how many writes per second there are now, and how many there have been."""
        ...


def choose() -> Display:
    """Return the live table if standard output is a terminal."""
    return _Live() if sys.stdout.isatty() else _Lines()


@final
@attrs.define(eq=False)
class _Lines:
    """One line per event, and one per second on how the nodes stand."""

    _start: float = attrs.field(factory=time.monotonic)
    _last: float = -10.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, sentence: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {sentence}", flush=True)

    def show(self, rows: Sequence[Row], rate: float, acknowledged: int) -> None:
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        self._last = now
        nodes = "  ".join(_line(row) for row in rows)
        self.tell(f"{rate:7.0f} writes/s  {acknowledged:8d} in all   {nodes}")


def _line(row: Row) -> str:
    numbers = f"/t{row.term}/c{row.commit}/a{row.applied}" if row.known else ""
    return f"{row.node}:{row.role}{numbers}"


_COLOURS = {"leader": "bold green", "follower": "cyan", "down": "bold red"}


@final
@attrs.define(eq=False)
class _Live:
    """A table, redrawn in place, with the events below it."""

    _live: Live = attrs.field(factory=lambda: Live(console=Console(), refresh_per_second=8))
    _start: float = attrs.field(factory=time.monotonic)
    _told: list[Text] = attrs.field(factory=list)
    _table: Table | None = None

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, sentence: str) -> None:
        when = Text(f"{time.monotonic() - self._start:6.1f} s  ", style="dim")
        self._told.append(when.append(Text(sentence, style="default")))
        self._draw()

    def show(self, rows: Sequence[Row], rate: float, acknowledged: int) -> None:
        table = Table(title=f"{rate:,.0f} writes/s   {acknowledged:,} acknowledged", title_style="bold")
        for name in ("node", "clients at", "role", "term", "commit", "applied", "keys"):
            table.add_column(name, justify="left" if name in {"clients at", "role"} else "right")
        for row in rows:
            numbers = (row.term, row.commit, row.applied, row.keys)
            cells = [f"{number:,}" if row.known else "" for number in numbers]
            role = Text(row.role, style=_COLOURS.get(row.role, "yellow"))
            table.add_row(str(row.node), row.address, role, *cells)
        self._table = table
        self._draw()

    def _draw(self) -> None:
        shown = [self._table] if self._table is not None else []
        self._live.update(Group(*shown, *self._told[-20:]))
