"""`QueueTable`: a queue whose messages come back until they are acknowledged. Pure; `queues` does the waiting.

A message that is taken is hidden until its deadline, by cluster time. Then it is ready again, and after `attempts`
deliveries it is a dead letter. Each delivery has a receipt of its own: who took a message but came too late cannot
acknowledge what was delivered again to another. The lowest priority is delivered first, and of one priority the lowest
number: so what comes back comes before what was put later.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from raft_objects.declare import Replicated, command, query
from raft_objects.durations import nanoseconds, require_end
from raft_objects.shards import ShardedDict, ShardedSortedList

__all__ = ["Empty", "Message", "QueueTable", "StoredMessage"]

T = TypeVar("T")
_PORTION = 256
"""Hidden messages that one command makes ready, so that none is long."""


@attrs.frozen
class Message(Generic[T]):
    """One delivery: the message's number, the receipt to acknowledge it by, how often it was delivered, the item."""

    number: int
    receipt: int
    delivery: int
    item: T
    priority: int = 0


@attrs.frozen
class Empty:
    """No message is ready. `due`: when the next hidden one will be, in cluster nanoseconds; 0: none is hidden."""

    due: int


@attrs.frozen
class StoredMessage:
    """A message in the queue. `receipt`: of the present delivery, 0 if it is not out; `until`: when its hiding ends."""

    item: Any
    delivery: int = 0
    receipt: int = 0
    until: int = 0
    priority: int = 0


class QueueTable(Replicated, Generic[T]):
    """A queue of values, made by `QueueTable[Job]()`, or with `Objects.add(..., classes=[Job])`.

    `attempts`: deliveries before a message is a dead letter; 0: no limit. The same in every process.
    """

    undo = False
    checks_types = True
    errors: ClassVar[tuple[type[Exception], ...]] = (ArithmeticError,)
    classes = (StoredMessage, Message, Empty)

    def __init__(self, *, attempts: int = 5) -> None:
        self.attempts: int = attempts
        self.messages: ShardedDict[int, StoredMessage] = ShardedDict()
        self.ready: ShardedSortedList[tuple[int, int]] = ShardedSortedList()  # priority, number
        self.hidden: ShardedSortedList[tuple[int, int]] = ShardedSortedList()  # until, number
        self.dead: ShardedDict[int, StoredMessage] = ShardedDict()
        self.last: int = 0
        self.receipts: int = 0

    @command
    def put(self, item: T, *, delay: float = 0.0, priority: int = 0) -> int:
        """Add an item, ready at once or after `delay` seconds; return its number."""
        require_end(delay)
        self._end_deliveries()
        self.last += 1
        self._return(self.last, StoredMessage(item, priority=priority), delay)
        return self.last

    @command
    def take(self, visibility: float) -> Message[T] | Empty:
        """Deliver the first message, hidden from others for `visibility` seconds; or say when one may be ready."""
        return self._take(visibility)

    def _take(self, visibility: float) -> Message[T] | Empty:
        if not visibility > 0:
            raise ValueError("a delivery is hidden for a positive number of seconds")
        require_end(visibility)
        self._end_deliveries()
        if not self.ready:
            return Empty(self.hidden.first[0] if self.hidden.first else 0)
        _, number = self.ready.pop_first()
        self.receipts += 1
        stored = self.messages[number]
        stored = attrs.evolve(stored, receipt=self.receipts, delivery=stored.delivery + 1)
        self._hide(number, stored, visibility)
        return Message(number, stored.receipt, stored.delivery, stored.item, stored.priority)

    @command
    def acknowledge(self, number: int, receipt: int) -> bool:
        """Remove the message for good. Return False if the delivery has ended: it may be another's now."""
        self._end_deliveries()
        stored = self._out(number, receipt)
        if stored is None:
            return False
        self.hidden.discard((stored.until, number))
        del self.messages[number]
        return True

    @command
    def extend(self, number: int, receipt: int, visibility: float) -> bool:
        """Hide the delivery for `visibility` seconds from now. Return False if it has ended."""
        require_end(visibility)
        self._end_deliveries()
        stored = self._out(number, receipt)
        if stored is None:
            return False
        self.hidden.discard((stored.until, number))
        self._hide(number, stored, visibility)
        return True

    @command
    def give_back(self, number: int, receipt: int, *, delay: float = 0.0) -> bool:
        """End the delivery: the message is ready again after `delay` seconds, or dead. Return False if it has ended."""
        require_end(delay)
        self._end_deliveries()
        stored = self._out(number, receipt)
        if stored is None:
            return False
        self.hidden.discard((stored.until, number))
        self._end(number, stored, delay)
        return True

    @command
    def revive(self, number: int) -> bool:
        """Make a dead letter ready again, with all its attempts. Return False if there is none of that number."""
        self._end_deliveries()
        stored = self.dead.pop(number, None)
        if stored is None:
            return False
        self._return(number, StoredMessage(stored.item, priority=stored.priority), 0.0)
        return True

    @command
    def drop_dead(self, number: int) -> bool:
        """Remove a dead letter. Return False if there is none of that number."""
        return self.dead.pop(number, None) is not None

    @query
    def dead_letters(self, limit: int = 100) -> list[tuple[int, T]]:
        """Return the oldest dead letters with their numbers."""
        return [(number, stored.item) for number, stored in islice(self.dead.items(), limit)]

    @query
    def size(self) -> tuple[int, int, int]:
        """Return how many messages are ready, hidden, and dead."""
        return len(self.ready), len(self.hidden), len(self.dead)

    def _hide(self, number: int, stored: StoredMessage, seconds: float) -> None:
        until = self.now_ns + nanoseconds(seconds)
        self.messages[number] = attrs.evolve(stored, until=until)
        self.hidden.add((until, number))

    def _out(self, number: int, receipt: int) -> StoredMessage | None:
        """Return the message if this is its present delivery."""
        stored = self.messages.get(number)
        return stored if stored is not None and stored.receipt == receipt != 0 else None

    def _return(self, number: int, stored: StoredMessage, delay: float) -> None:
        if delay > 0:
            self._hide(number, stored, delay)
        else:
            self.messages[number] = stored
            self.ready.add((stored.priority, number))
        self.notify("ready")  # who waits takes it, or learns when it is due

    def _end_deliveries(self) -> None:
        """Make ready what has been hidden long enough."""
        for _ in range(_PORTION):
            first = self.hidden.first
            if first is None or first[0] > self.now_ns:
                return
            self.hidden.pop_first()
            self._end(first[1], self.messages[first[1]], 0.0)

    def _end(self, number: int, stored: StoredMessage, delay: float) -> None:
        was_out, stored = stored.receipt, attrs.evolve(stored, receipt=0, until=0)
        if was_out and 0 < self.attempts <= stored.delivery:
            self.dead[number] = stored
            del self.messages[number]
        else:
            self._return(number, stored, delay)
