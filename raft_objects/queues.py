"""`Queue` and `PriorityQueue`: take messages of a `QueueTable` without polling, on asyncio or trio.

    jobs = Queue(objects.add("jobs", QueueTable[Job]()))
    await jobs.put(Job("report"))
    async with jobs.taking(visibility=60) as message:
        work(message.item)                             # acknowledged at the end, given back after an exception

Promise: what was put is delivered until it is acknowledged, and what was acknowledged is never delivered again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Generic, TypeVar, cast

import anyio

from raft_core.errors import CallerError, OutcomeUnknown, Refused, RequestError
from raft_objects.queue_table import Empty, Message, QueueTable
from raft_objects.running import Running, may_pass

__all__ = ["DeliveryEnded", "PriorityQueue", "Queue"]

T = TypeVar("T")
_PAUSE: Final = 0.05
_GIVE_BACK_TIMEOUT: Final = 5.0


class DeliveryEnded(Exception):
    """The work took longer than the visibility timeout; the message may have been delivered to another."""


class Queue(Generic[T]):
    """A handle of a `QueueTable` that is open on a node. Any number of tasks may use it at once."""

    def __init__(self, table: QueueTable[T]) -> None:
        self._table: Final = table

    @property
    def _running(self) -> Running:
        site = self._table._binding.site
        if site is None:
            raise CallerError("the queue is not open; add it to Objects, and open those")
        return cast("Running", site)

    async def put(self, item: T, *, delay: float = 0.0) -> int:
        """Add an item, to be delivered after `delay` seconds; return its number."""
        return await self._table.put(item, delay=delay)

    async def take(self, *, visibility: float = 30.0, timeout: float | None = None) -> Message[T]:
        """Wait for a message and take it; acknowledge or give it back within `visibility` seconds.

        Raise `TimeoutError` after `timeout` seconds. Wait through outages of the cluster; raise `Refused` if this node
        has ended. A message that arrives when this was cancelled is given back.
        """
        with anyio.move_on_after(timeout), self._running.waiting(self._table._binding.name, "ready") as waiter:
            try:
                while True:
                    try:
                        taken = await self._running.undone_if_cancelled(
                            lambda: self._table.take(visibility), self._give_back_if_any
                        )
                    except (Refused, OutcomeUnknown) as failure:
                        if not may_pass(failure):
                            raise
                        await anyio.sleep(_PAUSE)
                        continue
                    if isinstance(taken, Message):
                        return taken
                    await waiter.wait(self._running.seconds_until(taken.due) if taken.due else None)
            finally:
                # Passed on, also if this is cancelled: it may have been the one who was woken for a message, or who
                # knew when the next is due. The next in line looks again.
                waiter.wake()
        raise TimeoutError(f"no message came within {timeout} s")

    async def _give_back_if_any(self, taken: Message[T] | Empty) -> None:
        if isinstance(taken, Message):
            await self.give_back(taken)

    @asynccontextmanager
    async def taking(self, *, visibility: float = 30.0, timeout: float | None = None) -> AsyncIterator[Message[T]]:
        """Take a message for the block: acknowledge it at the end, give it back after an exception.

        Raise `DeliveryEnded` if the block took longer than `visibility` and the message is another's.
        """
        message = await self.take(visibility=visibility, timeout=timeout)
        try:
            yield message
        except BaseException:
            with (
                anyio.CancelScope(shield=True),
                anyio.move_on_after(_GIVE_BACK_TIMEOUT),
                suppress(RequestError, CallerError),  # it comes back by itself, and the block's own error counts
            ):
                await self.give_back(message)
            raise
        if not await self.acknowledge(message):
            raise DeliveryEnded(f"message {message.number} was not acknowledged within {visibility} s")

    async def acknowledge(self, message: Message[T]) -> bool:
        """Remove the message for good. Return False if its delivery has ended."""
        return await self._table.acknowledge(message.number, message.receipt)

    async def extend(self, message: Message[T], visibility: float) -> bool:
        """Keep the message for `visibility` more seconds. Return False if its delivery has ended."""
        return await self._table.extend(message.number, message.receipt, visibility)

    async def give_back(self, message: Message[T], *, delay: float = 0.0) -> bool:
        """End the delivery: the message is ready again after `delay` seconds. Return False if it has ended."""
        return await self._table.give_back(message.number, message.receipt, delay=delay)


class PriorityQueue(Queue[T]):
    """A queue that delivers the lowest priority first, and of one priority what was put first.

    Promise: that of `Queue`; and no message is delivered while one of a lower priority is ready.
    """

    async def put(self, item: T, *, delay: float = 0.0, priority: int = 0) -> int:
        """Add an item, to be delivered after `delay` seconds; return its number."""
        return await self._table.put(item, delay=delay, priority=priority)
