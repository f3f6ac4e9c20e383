"""`Loop`: the task that drives the node, its timer, and the waiting of callers and readers.

The loop decides when to act; `Driver` decides on the action. All other tasks and threads reach the node through the
driver's inbox; there are no locks.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Final, Generic, Self, TypeVar

import trio

from raft_core.node.core import NodeCore
from raft_core.node.driver import Driver, Feed, outcome
from raft_core.node.events import Answer, NodeEvent, TimerFired
from raft_core.node.home import Home
from raft_core.node.jobs import Ticket
from raft_storage.workers import Workers
from raft_trio.connections import Connections

__all__ = ["Loop"]

T = TypeVar("T")
_NANOSECONDS: Final = 1_000_000_000
_FROM_THREADS: Final = "from another thread, trio.from_thread.run(node.propose, command)"
"""The way to use a node from another thread."""


class Loop:
    """Calls `Driver.turn` as needed. `run` and `keep_time` are its two tasks."""

    def __init__(self, host: NodeCore, lanes: Workers) -> None:
        self.driver: Final = Driver(host, lanes, self)
        self._lanes: Final = lanes
        self._home: Final = Home(get_ident(), _running_loop(), _FROM_THREADS)
        self._woken = trio.Event()
        self._told = trio.Event()
        self._wake_at = math.inf
        self._alarm = trio.CancelScope()

    def now(self) -> int:
        """Return the node's clock: nanoseconds on trio's, virtual in tests."""
        return round(trio.current_time() * _NANOSECONDS)

    def require_thread(self) -> None:
        """Raise `CallerError` in any other thread while the node lives."""
        if not self.driver.ended:
            self._home.require_thread(get_ident())

    def require_loop(self) -> None:
        """Raise `CallerError` in any other event loop."""
        self._home.require_loop(get_ident(), _running_loop())

    def wake(self) -> None:
        """Wake the loop: something is in its inbox."""
        self._woken.set()

    def wake_at(self, at: int) -> None:
        """Set the time of the next wake-up, in monotonic nanoseconds."""
        self._wake_at = self._alarm.deadline = at / _NANOSECONDS

    def tell(self) -> None:
        """Wake the readers of the feeds."""
        self._told.set()
        self._told = trio.Event()

    async def ask(self, event: Callable[[Ticket], NodeEvent]) -> bytes:
        """Send a caller's event and return its answer, or raise the answer's `RequestError`."""
        self.require_loop()
        caller = _Caller()
        ticket = self.driver.ask(event, caller.deliver)
        try:
            await caller.answered.wait()
        finally:
            self.driver.leave(ticket)
        return outcome(caller.answer)

    def read(self, feed: Feed[T], past: int) -> AsyncIterator[T]:
        """Yield the last `past` items of `feed`, then new ones as they come, until the node ends."""
        return _Reader(self, feed, past)

    async def told(self) -> None:
        """Wait until a feed may have a new item or the node has ended."""
        await self._told.wait()

    async def wait_ended(self) -> None:
        """Wait until the node has ended."""
        self.require_loop()
        await trio.lowlevel.checkpoint()
        while not self.driver.ended:
            await self.told()

    # The tasks.

    async def run(self, connections: Connections) -> None:
        """Run the node. When this returns, the node has ended and every caller is answered."""
        self._lanes.start(partial(self._post_from_thread, trio.lowlevel.current_trio_token()))
        try:
            while not self.driver.ended:
                await self._something_to_do()
                self.driver.turn(connections, self.now(), time.time_ns())
        except Exception as failure:  # a bug: end the node with the reason
            self.driver.end(failure)
        finally:
            self.driver.end()

    async def keep_time(self) -> None:
        """Report each `wake_at` time when it comes, once, until cancelled.

        A task of its own, because moving one deadline per tick costs less than setting one up for every wait.
        """
        while True:
            with trio.CancelScope(deadline=self._wake_at) as self._alarm:
                await trio.sleep_forever()
            self._wake_at = math.inf
            self.driver.post(TimerFired())

    async def _something_to_do(self) -> None:
        if self.driver.waiting:
            await trio.lowlevel.checkpoint()  # let others run, then take their events as well
            return
        self._woken = trio.Event()
        await self._woken.wait()

    def _post_from_thread(self, token: trio.lowlevel.TrioToken, events: list[NodeEvent]) -> None:
        with suppress(trio.RunFinishedError):  # a hung thread returned after the loop had ended
            token.run_sync_soon(self.driver.post_all, events)


def _running_loop() -> object:
    """Return an identity of the running event loop; None if none is running."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


class _Caller:
    """A caller waiting for its answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered: Final = trio.Event()
        self.answer: Answer

    def deliver(self, answer: Answer) -> None:
        self.answer = answer
        self.answered.set()


class _Reader(Generic[T]):
    """A reader's position in a feed. It holds nothing to close."""

    def __init__(self, loop: Loop, feed: Feed[T], past: int) -> None:
        self._loop: Final = loop
        self._feed: Final = feed
        self._place = feed.place(past)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._loop.require_loop()
        await trio.lowlevel.checkpoint()
        while (found := self._feed.after(self._place)) is None:
            if self._feed.ended:
                raise StopAsyncIteration
            await self._loop.told()
        item, self._place = found
        return item
