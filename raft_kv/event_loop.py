"""What the server needs of an event loop beyond anyio: to watch a descriptor and to call functions, without tasks.

On asyncio and uvloop these are methods of the loop. On trio two tasks do it (`trio_event_loop`), whatever the number of
clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, final

from anyio.abc import TaskGroup

__all__ = ["AsyncioLoop", "EventLoop", "event_loop"]

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
    if name != "trio":
        return AsyncioLoop()
    from raft_kv.trio_event_loop import TrioLoop  # trio takes a tenth of a second to import, and is needed here only

    return TrioLoop(group)


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
