"""`SyncPatience`: how long the loop waits for a write that its disk will have done, and whether it writes itself.

A thread writes and syncs, so that a hung disk stops neither heartbeats nor elections. The way back from the thread
through the event loop costs as much as a fast sync, and a turn. So while the disk is fast, the loop waits in its turn
for the report: a moment that is bounded, whatever the disk does. It waits for a few times the usual duration, 2 ms at
most, and after a wait in vain not again for a while. Example: a disk that takes 0.1 ms hangs for a minute. The loop has
lost 0.4 ms, once; the write goes on in its thread, and its report takes the long way.

With `NodeLimits.inline_sync` the loop itself writes and syncs while the disk is fast: no thread is woken, and none has
to wake the loop. The first sync that hangs holds it up for as long as it hangs; after a slow one the thread does the
next 64 writes, then 128, and so on. `NodeCore` allows it on followers only: a cluster misses a leader that hangs, and
elects another, but goes on without a follower.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["SyncPatience"]

_FAST: Final = 500_000
"""Nanoseconds. A disk whose writes take longer is not waited for."""
_LONGEST: Final = 2_000_000
"""Nanoseconds. The longest wait: far below an election timeout, or any other that a node has."""
_MULTIPLE: Final = 4
_SHORTEST_BREAK: Final = 64
_LONGEST_BREAK: Final = 4096
"""Writes that are not waited for after a wait in vain; more each time, less again with each success."""


@final
class SyncPatience:
    """The estimate of one disk. Durations are nanoseconds."""

    __slots__ = ("_break", "_estimate", "_left")

    def __init__(self) -> None:
        self._estimate = 8 * _FAST  # not known to be fast
        self._break = _SHORTEST_BREAK
        self._left = 0

    def wait(self) -> int:
        """Return how long to wait for the next write; 0: not at all."""
        if self._left:
            self._left -= 1
            return 0
        return min(_MULTIPLE * self._estimate, _LONGEST) if self._estimate <= _FAST else 0

    def inline(self) -> bool:
        """Return whether the loop may write itself, where that is allowed: while the disk is fast."""
        if self._left:
            return False  # `wait` counts the break
        return self._estimate <= _FAST

    def took_inline(self, duration: int) -> None:
        """Note how long the loop was held up by a write of its own. After a slow one the thread writes for a while."""
        self.took(duration)
        if duration > _LONGEST:
            self.waited(in_vain=True)

    def took(self, duration: int) -> None:
        """Note how long a write took. A slow one counts at once, fast ones convince slowly."""
        change = duration - self._estimate
        self._estimate += change // (2 if change > 0 else 8)

    def waited(self, *, in_vain: bool) -> None:
        """Note how a wait ended."""
        if in_vain:
            self._left = self._break
            self._break = min(2 * self._break, _LONGEST_BREAK)
        elif self._break > _SHORTEST_BREAK:
            self._break -= 1
