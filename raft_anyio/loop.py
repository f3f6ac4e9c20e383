"""`Loop`: a node's clock, timer and way back from its threads, by anyio. Its turns and waiting are in `NodeLoop`.

It serves on trio; `asyncio_loop` does the same on asyncio without tasks.

All other tasks and threads reach the node through the driver's inbox; there are no locks.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Final

import anyio
import anyio.from_thread
import anyio.lowlevel

from raft_core.node.core import NodeCore
from raft_core.node.driver import ConnectionTable
from raft_core.node.events import NodeEvent, TimerFired
from raft_core.node.loop import NodeLoop
from raft_storage.workers import Workers

__all__ = ["FROM_THREADS", "MILLISECOND", "NANOSECONDS", "Loop"]

NANOSECONDS: Final = 1_000_000_000
"""Nanoseconds in a second."""
MILLISECOND: Final = 1_000_000
"""Nanoseconds in a millisecond."""
FROM_THREADS: Final = (
    "from another thread, anyio.from_thread.run(node.propose, command), or on asyncio "
    "asyncio.run_coroutine_threadsafe(node.propose(command), loop); with raft_objects.blocking, "
    "cluster.call(node.ready) or cluster.call(lambda: node.status)"
)
"""The way to use a node from another thread."""


class Loop(NodeLoop):
    """One node's loop. `run` and `keep_time` are its two tasks."""

    def __init__(self, host: NodeCore, lanes: Workers) -> None:
        checkpoint = anyio.lowlevel.checkpoint
        super().__init__(host, lanes, event=anyio.Event, checkpoint=checkpoint, here=_here, remedy=FROM_THREADS)
        self._lanes: Final = lanes
        self._wake_at = math.inf
        self._alarm = anyio.CancelScope()

    def now(self) -> int:
        """Return the node's clock: nanoseconds on the event loop's own, which on trio can be virtual."""
        return round(anyio.current_time() * NANOSECONDS)

    def wake_at(self, at: int) -> None:
        """Post `TimerFired` at this time; replaces any earlier time."""
        # Whole ms, rounded up: uvloop's clock and timers are no finer, and an early one would spin.
        self._wake_at = self._alarm.deadline = -(-at // MILLISECOND) / 1000

    async def run(self, connections: ConnectionTable) -> None:
        """Run the node. When this returns, the node has ended and every caller is answered."""
        self._lanes.start(partial(self._post_from_thread, anyio.lowlevel.current_token()))
        await self.take_turns(connections, time.time_ns)

    async def keep_time(self) -> None:
        """Report each `wake_at` time when it comes, once, until cancelled.

        A task of its own, because moving one deadline per tick costs less than setting one up for every wait.
        """
        while True:
            with anyio.CancelScope(deadline=self._wake_at) as self._alarm:
                await anyio.sleep_forever()
            self._wake_at = math.inf
            self.driver.post(TimerFired())

    def _post_from_thread(self, token: anyio.lowlevel.EventLoopToken, events: list[NodeEvent]) -> None:
        with suppress(anyio.RunFinishedError):  # a hung thread returned after the loop had ended
            anyio.from_thread.run_sync(self.driver.post_all, events, token=token)


def _here() -> tuple[int, object]:
    """Return identities of this thread and of the event loop running in it; None if none is."""
    try:
        return get_ident(), anyio.lowlevel.current_token()
    except RuntimeError:
        return get_ident(), None
