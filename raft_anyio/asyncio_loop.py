"""`AsyncioLoop`: a node's loop on asyncio: each turn is a callback of the event loop, and so is its timer.

`loop.Loop` does the same with tasks on trio.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Final

import anyio.lowlevel

from raft_anyio.loop import FROM_THREADS, MILLISECOND, NANOSECONDS
from raft_core.node.core import NodeCore
from raft_core.node.driver import ConnectionTable
from raft_core.node.events import NodeEvent, TimerFired
from raft_core.node.loop import NodeLoop
from raft_storage.workers import Workers

__all__ = ["AsyncioLoop"]


class AsyncioLoop(NodeLoop):
    """One node's loop on asyncio or uvloop."""

    def __init__(self, host: NodeCore, lanes: Workers) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._lanes: Final = lanes
        self._scheduled = False
        self._wanted = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        checkpoint = anyio.lowlevel.checkpoint
        super().__init__(host, lanes, event=asyncio.Event, checkpoint=checkpoint, here=_here, remedy=FROM_THREADS)

    def now(self) -> int:
        """Return the node's clock: nanoseconds on the event loop's own."""
        return round(self._loop.time() * NANOSECONDS)

    def wake(self) -> None:
        """Have the driver take a turn in the next pass of the event loop."""
        if not (self._scheduled or self._taking):
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` in the next pass of the event loop."""
        self._loop.call_soon(work)

    def wake_at(self, at: int) -> None:
        """Post `TimerFired` at this time; replaces any earlier time."""
        self._wanted = at
        if self._timer is not None:
            if self._timer_at <= at:
                return  # it fires first, and is then set to the later time
            self._timer.cancel()
        self._set_timer()

    async def run(self, connections: ConnectionTable) -> None:
        """Run the node. When this returns, the node has ended and every caller is answered."""
        self._lanes.start(self._post_from_thread)
        self._turns = connections, time.time_ns
        self.wake()
        try:
            await self.wait_ended()
        finally:
            self.driver.end()
            if self._timer is not None:
                self._timer.cancel()

    def _turn(self) -> None:
        self._scheduled = False
        if self._turns is None or self.driver.ended or not self.driver.waiting:  # `take` may have taken the turn
            return
        self.turn(*self._turns)
        if self.driver.waiting:
            self.wake()  # after everything else that is ready

    def _set_timer(self) -> None:
        self._timer_at = self._wanted
        # Whole ms, rounded up: uvloop's clock and timers are no finer, and an early one would spin.
        self._timer = self._loop.call_at(-(-self._wanted // MILLISECOND) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._wanted > self._timer_at:
            self._set_timer()
        else:
            self.driver.post(TimerFired())

    def _post_from_thread(self, events: list[NodeEvent]) -> None:
        with suppress(RuntimeError):  # a hung thread returned after the loop was closed
            self._loop.call_soon_threadsafe(self.driver.post_all, events)


def _here() -> tuple[int, object]:
    """Return identities of this thread and of the event loop running in it; None if none is."""
    try:
        return get_ident(), asyncio.get_running_loop()
    except RuntimeError:
        return get_ident(), None
