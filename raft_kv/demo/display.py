"""The display of the demo: a live board on a terminal, plain lines elsewhere, for the log of a build."""

from __future__ import annotations

import sys
import time
from typing import Protocol, final

import attrs
from rich.console import Console
from rich.live import Live

from raft_kv.demo.board import Board, Row, draw, lines_beside_events

__all__ = ["Display", "choose"]


class Display(Protocol):
    """Shows the board, again and again, from any thread."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...

    def tell(self, board: Board) -> None:
        """Show the latest event."""
        ...

    def show(self, board: Board) -> None:
        """Show how the nodes stand."""
        ...

    def end(self, board: Board) -> None:
        """Show the results; called after the end of the `with`."""
        ...


def choose() -> Display:
    """Return the live board if standard output is a terminal that can show it."""
    console = Console()
    blocks = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return _Live(console) if console.is_terminal and blocks and not console.is_dumb_terminal else _Lines()


@final
@attrs.define(eq=False)
class _Lines:
    """One line per event, and one per second on how the nodes stand."""

    _last: float = -10.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, board: Board) -> None:
        when, sentence = board.told[-1]
        print(f"[{when:6.1f} s] {sentence}", flush=True)

    def show(self, board: Board) -> None:
        now = time.monotonic()
        if now - self._last < 1.0 or board.rate is None:
            return
        if self._last < 0:
            print("           of each node: role / t term / c entries committed / a entries applied", flush=True)
        self._last = now
        nodes = "  ".join(_line(row) for row in board.rows)
        when = now - board.started
        print(f"[{when:6.1f} s] {board.rate:7.0f} writes/s  {board.acknowledged:8d} in all   {nodes}", flush=True)

    def end(self, board: Board) -> None:
        pause = "none" if board.pause is None else f"{board.pause * 1000:.0f} ms"
        rate = board.acknowledged / board.elapsed if board.elapsed else 0.0
        print(
            f"\nwrites acknowledged  {board.acknowledged}"
            f"\nlost                 {board.lost}"
            f"\nfailover             {pause}"
            f"\nwrites per second    {rate:.0f}"
            f"\n(not acknowledged: {board.not_acknowledged})",
            flush=True,
        )
        if board.try_next:
            print(f"\ntry next  {board.try_next}", flush=True)


def _line(row: Row) -> str:
    numbers = f"/t{row.term}/c{row.commit}/a{row.applied}" if row.known else ""
    return f"{row.node}:{row.role}{numbers}"


@final
@attrs.define(eq=False)
class _Live:
    """The board, redrawn in place."""

    _console: Console
    _live: Live = attrs.field(init=False)
    _shown: Board | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:  # the last picture stays, so it has to keep its height no longer
            self._draw(self._shown, wraps=True)
        self._live.stop()

    def tell(self, board: Board) -> None:
        self.show(board)

    def show(self, board: Board) -> None:
        self._shown = board
        self._draw(board, wraps=False)
        self._live.refresh()

    def _draw(self, board: Board, *, wraps: bool) -> None:
        width, height = self._console.size
        events = max(2, height - 1 - lines_beside_events(board, width))
        self._live.update(draw(board, events, width, wraps=wraps))

    def end(self, board: Board) -> None:
        return None  # the board stays on the terminal
