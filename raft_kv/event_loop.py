"""What the server needs of an event loop beyond anyio: to watch a descriptor and to call functions, without tasks.

On asyncio and uvloop these are methods of the loop. On trio two tasks do it, whatever the number of clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, final

import anyio
import trio
from anyio.abc import TaskGroup

__all__ = ["AsyncioLoop", "EventLoop", "TrioLoop", "event_loop"]

Work = Callable[[], None]


class EventLoop(Protocol):
    """Calls functions. None of its methods waits."""

    def watch(self, descriptor: int, ready: Work) -> None:
        """Call `ready` whenever `descriptor` is readable, until the task group is cancelled."""
        ...

    def soon(self, work: Work) -> None:
        """Call `work` in the next pass of the loop, after everything that is ready now."""
        ...

    def later(self, seconds: float, work: Work) -> None:
        """Call `work` after so many seconds."""
        ...

    def close(self) -> None:
        """Watch nothing any more."""
        ...


def event_loop(name: str, group: TaskGroup) -> EventLoop:
    """Return the running loop; `name` is trio, asyncio or uvloop. Its tasks, if it needs some, are in `group`."""
    return TrioLoop(group) if name == "trio" else AsyncioLoop()


@final
class AsyncioLoop:
    """The running loop of asyncio, or uvloop."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._watched: Final[list[int]] = []

    def watch(self, descriptor: int, ready: Work) -> None:
        """Call `ready` whenever `descriptor` is readable."""
        self._watched.append(descriptor)
        self._loop.add_reader(descriptor, ready)

    def soon(self, work: Work) -> None:
        """Call `work` in the next pass."""
        self._loop.call_soon(work)

    def later(self, seconds: float, work: Work) -> None:
        """Call `work` after so many seconds."""
        self._loop.call_later(seconds, work)

    def close(self) -> None:
        """Watch nothing any more."""
        while self._watched:
            self._loop.remove_reader(self._watched.pop())


@final
class TrioLoop:
    """The running loop of trio."""

    def __init__(self, group: TaskGroup) -> None:
        self._group: Final = group
        self._due: list[Work] = []
        self._sleeper: trio.lowlevel.Task | None = None
        group.start_soon(self._call_due)

    def watch(self, descriptor: int, ready: Work) -> None:
        """Call `ready` whenever `descriptor` is readable."""
        self._group.start_soon(self._watch, descriptor, ready)

    def soon(self, work: Work) -> None:
        """Call `work` in the next pass."""
        self._due.append(work)
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    def later(self, seconds: float, work: Work) -> None:
        """Call `work` after so many seconds."""
        self._group.start_soon(self._sleep, seconds, work)

    def close(self) -> None:
        """Do nothing: the tasks end with their group."""

    async def _watch(self, descriptor: int, ready: Work) -> None:
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            ready()

    async def _sleep(self, seconds: float, work: Work) -> None:
        await anyio.sleep(seconds)
        work()

    async def _call_due(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            if self._due:
                await trio.lowlevel.checkpoint()
            else:
                self._sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(abort)
            due, self._due = self._due, []
            for work in due:
                work()
