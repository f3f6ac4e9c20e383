"""`Loop`: a node's clock, timer and way back from its threads, on trio. Its turns and waiting are in `NodeLoop`.

All other tasks and threads reach the node through the driver's inbox; there are no locks.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Final

import trio

from raft_core.node.core import NodeCore
from raft_core.node.driver import ConnectionTable
from raft_core.node.events import NodeEvent, TimerFired
from raft_core.node.loop import NodeLoop
from raft_storage.workers import Workers

__all__ = ["Loop"]

_NANOSECONDS: Final = 1_000_000_000
_FROM_THREADS: Final = "from another thread, trio.from_thread.run(node.propose, command)"
"""The way to use a node from another thread."""


class Loop(NodeLoop):
    """One node's loop. `run` and `keep_time` are its two tasks."""

    def __init__(self, host: NodeCore, lanes: Workers) -> None:
        checkpoint = trio.lowlevel.checkpoint
        super().__init__(host, lanes, event=trio.Event, checkpoint=checkpoint, here=_here, remedy=_FROM_THREADS)
        self._lanes: Final = lanes
        self._wake_at = math.inf
        self._alarm = trio.CancelScope()

    def now(self) -> int:
        """Return the node's clock: nanoseconds on trio's, virtual in tests."""
        return round(trio.current_time() * _NANOSECONDS)

    def wake_at(self, at: int) -> None:
        """Post `TimerFired` at this time; replaces any earlier time."""
        self._wake_at = self._alarm.deadline = at / _NANOSECONDS

    async def run(self, connections: ConnectionTable) -> None:
        """Run the node. When this returns, the node has ended and every caller is answered."""
        self._lanes.start(partial(self._post_from_thread, trio.lowlevel.current_trio_token()))
        await self.take_turns(connections, time.time_ns)

    async def keep_time(self) -> None:
        """Report each `wake_at` time when it comes, once, until cancelled.

        A task of its own, because moving one deadline per tick costs less than setting one up for every wait.
        """
        while True:
            with trio.CancelScope(deadline=self._wake_at) as self._alarm:
                await trio.sleep_forever()
            self._wake_at = math.inf
            self.driver.post(TimerFired())

    def _post_from_thread(self, token: trio.lowlevel.TrioToken, events: list[NodeEvent]) -> None:
        with suppress(trio.RunFinishedError):  # a hung thread returned after the loop had ended
            token.run_sync_soon(self.driver.post_all, events)


def _here() -> tuple[int, object]:
    """Return identities of this thread and of the event loop running in it; None if none is."""
    try:
        return get_ident(), trio.lowlevel.current_trio_token()
    except RuntimeError:
        return get_ident(), None
