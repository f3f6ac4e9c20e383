"""`Held`: where a replica holds, because a command raised what it does not declare (`on_error="hold"`).

The replica is as it was before that command. It keeps the commands behind it in memory, answers none of them, refuses
queries and new commands, and takes no snapshot. Two ways lead on:

- Mended code: restart with it. The log still has everything from the command on, and it is applied as if nothing had
  happened.
- An entry that skips the command, `await objects.skip(index)`. Every replica takes the command as one without effect,
  and applies those behind it in order. Replicas agree on it because the log says so, and because each holds at the same
  command: it raises on all of them, or their code differs. A replica whose code did not raise ends at the entry.

Start mended code only where the node's snapshot is past the entry that skips. Before, it would carry out what the
others skipped, and end there.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, final

import attrs

from raft_objects.errors import CommandFailed

__all__ = ["Held", "require_held", "told_of"]

_AROUND: Final = ("raft_objects.machine", "raft_objects.declare")
_LONGEST: Final = 200
"""Characters of an exception's text."""


@final
@attrs.define(eq=False)
class Held:
    """The command that raised: its index, its name and its exception with the traceback; and the commands behind it."""

    index: int
    command: str
    failure: Exception
    kept: list[tuple[int, bytes]] = attrs.field(factory=list)
    latest: int = 0

    @property
    def text(self) -> str:
        """What to tell callers and operators."""
        return (
            f"held: the command {self.command} at index {self.index} raised {told_of(self.failure)}, which it"
            f" does not declare. Restart all nodes with mended code, or skip it: await objects.skip({self.index})"
        )

    def keep(self, index: int, command: bytes, stamp: int) -> None:
        """Keep a command for later."""
        self.kept.append((index, command))
        self.latest = max(self.latest, stamp)


def require_held(held: Held | None, index: int) -> None:
    """Raise `CommandFailed` unless a replica holds at `index`."""
    if held is None or held.index != index:
        raise CommandFailed(f"the leader does not hold at {index}" + (f" but at {held.index}" if held else ""))


def told_of(failure: BaseException) -> str:
    """Return an exception's class, text, and line of code: the last one outside the machinery around commands."""
    try:
        text = str(failure)[:_LONGEST]
    except Exception:  # the exception is the user's
        text = ""
    place, step = "", failure.__traceback__
    while step is not None:
        if not place or step.tb_frame.f_globals.get("__name__") not in _AROUND:
            place = f" ({PurePath(step.tb_frame.f_code.co_filename).name}, line {step.tb_lineno})"
        step = step.tb_next
    return type(failure).__name__ + (f": {text}" if text else "") + place
