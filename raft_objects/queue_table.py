"""`QueueTable`: a queue whose messages come back until they are acknowledged. Pure; `queues` does the waiting.

A message that is taken is hidden until its deadline, by cluster time. Then it is ready again, at the front, and after
`attempts` deliveries it is a dead letter. Each delivery has a receipt of its own: who took a message but came too late
cannot acknowledge what was delivered again to another.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

import attrs

from raft_objects.declare import Replicated, command, query

__all__ = ["Empty", "Message", "QueueTable", "StoredMessage"]

T = TypeVar("T")
_PORTION = 256
"""Hidden messages that one command makes ready, so that none is long."""
_SECOND = 1_000_000_000


@attrs.frozen
class Message(Generic[T]):
    """One delivery: the message's number, the receipt to acknowledge it by, how often it was delivered, the item."""

    number: int
    receipt: int
    delivery: int
    item: T


@attrs.frozen
class Empty:
    """No message is ready. `due`: when the next hidden one will be, in cluster nanoseconds; 0: none is hidden."""

    due: int


@attrs.define
class StoredMessage:
    """A message in the queue. `receipt`: of the present delivery, 0 if it is not out; `until`: when its hiding ends."""

    item: Any
    delivery: int = 0
    receipt: int = 0
    until: int = 0


class QueueTable(Replicated, Generic[T]):
    """A queue of values, made by `QueueTable[Job]()`, or with `Objects.add(..., classes=[Job])`.

    `attempts`: deliveries before a message is a dead letter; 0: no limit. The same in every process.
    """

    undo = False
    classes = (StoredMessage, Message, Empty)

    def __init__(self, *, attempts: int = 5) -> None:
        self.attempts: int = attempts
        self.messages: dict[int, StoredMessage] = {}
        self.ready: deque[int] = deque()
        self.hidden: list[tuple[int, int]] = []  # a heap: when, number; those that do not match `until` are void
        self.dead: dict[int, StoredMessage] = {}
        self.last: int = 0
        self.receipts: int = 0

    @command
    def put(self, item: T, *, delay: float = 0.0) -> int:
        """Add an item at the end, or after `delay` seconds; return its number."""
        self._end_deliveries()
        self.last += 1
        self.messages[self.last] = StoredMessage(item)
        self._return(self.last, delay)
        return self.last

    @command
    def take(self, visibility: float) -> Message[T] | Empty:
        """Deliver the first message, hidden from others for `visibility` seconds; or say when one may be ready."""
        return self._take(visibility)

    def _take(self, visibility: float) -> Message[T] | Empty:
        if not visibility > 0:
            raise ValueError("a delivery is hidden for a positive number of seconds")
        self._end_deliveries()
        if not self.ready:
            return Empty(self.hidden[0][0] if self.hidden else 0)
        number = self.ready.popleft()
        stored = self.messages[number]
        self.receipts += 1
        stored.receipt = self.receipts
        stored.delivery += 1
        self._hide(number, visibility)
        return Message(number, stored.receipt, stored.delivery, stored.item)

    @command
    def acknowledge(self, number: int, receipt: int) -> bool:
        """Remove the message for good. Return False if the delivery has ended: it may be another's now."""
        self._end_deliveries()
        if not self._is_out(number, receipt):
            return False
        del self.messages[number]
        return True

    @command
    def extend(self, number: int, receipt: int, visibility: float) -> bool:
        """Hide the delivery for `visibility` seconds from now. Return False if it has ended."""
        self._end_deliveries()
        if not self._is_out(number, receipt):
            return False
        self._hide(number, visibility)
        return True

    @command
    def give_back(self, number: int, receipt: int, *, delay: float = 0.0) -> bool:
        """End the delivery: the message is ready again after `delay` seconds, or dead. Return False if it has ended."""
        self._end_deliveries()
        if not self._is_out(number, receipt):
            return False
        self._end(number, delay)
        return True

    @command
    def revive(self, number: int) -> bool:
        """Make a dead letter ready again, with all its attempts. Return False if there is none of that number."""
        self._end_deliveries()
        stored = self.dead.pop(number, None)
        if stored is None:
            return False
        self.messages[number] = StoredMessage(stored.item)
        self._return(number, 0.0)
        return True

    @command
    def drop_dead(self, number: int) -> bool:
        """Remove a dead letter. Return False if there is none of that number."""
        return self.dead.pop(number, None) is not None

    @query
    def dead_letters(self, limit: int = 100) -> list[tuple[int, T]]:
        """Return the oldest dead letters with their numbers."""
        numbers = list(self.dead)[:limit]
        return [(number, self.dead[number].item) for number in numbers]

    @query
    def size(self) -> tuple[int, int, int]:
        """Return how many messages are ready, hidden, and dead."""
        return len(self.ready), len(self.messages) - len(self.ready), len(self.dead)

    def _hide(self, number: int, seconds: float) -> None:
        self.messages[number].until = until = self.now_ns + round(seconds * _SECOND)
        heappush(self.hidden, (until, number))

    def _is_out(self, number: int, receipt: int) -> bool:
        stored = self.messages.get(number)
        return stored is not None and stored.receipt == receipt != 0

    def _return(self, number: int, delay: float) -> None:
        if delay > 0:
            self._hide(number, delay)
            self.notify("ready")  # who waits learns when this one is due
            return
        self.ready.append(number)
        self.notify("ready")

    def _end_deliveries(self) -> None:
        """Make ready what has been hidden long enough."""
        for _ in range(_PORTION):
            if not self.hidden or self.hidden[0][0] > self.now_ns:
                return
            when, number = heappop(self.hidden)
            stored = self.messages.get(number)
            if stored is not None and stored.until == when:
                self._end(number, 0.0)

    def _end(self, number: int, delay: float) -> None:
        stored = self.messages[number]
        was_out, stored.receipt, stored.until = stored.receipt, 0, 0
        if was_out and 0 < self.attempts <= stored.delivery:
            self.dead[number] = self.messages.pop(number)
        elif delay > 0:
            self._return(number, delay)
        else:
            self.ready.appendleft(number)
            self.notify("ready")
