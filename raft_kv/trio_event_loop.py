"""The server's needs of a loop, on trio (see `event_loop`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import anyio
import trio
from anyio.abc import TaskGroup

__all__ = ["TrioLoop"]

Work = Callable[[], None]


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
