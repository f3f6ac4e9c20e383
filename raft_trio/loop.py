"""The one task that touches the host: events in, effects done, asleep until there is something to do.

What lives here: `Loop` and what callers wait on. It looks at the type of an effect and at nothing inside it. All
other tasks and threads talk to it through `post`; there are no locks.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import count
from typing import Final, Generic, Self, TypeVar, assert_never

import trio

from raft_core.effects import Alarm, Announce, RefusalReason, UnknownReason
from raft_core.errors import OutcomeUnknown, Refused
from raft_core.host.host import Host
from raft_core.host.values import (
    Answer,
    ClientCancelled,
    Dial,
    Disconnect,
    Finished,
    HostEffect,
    HostEvent,
    HostStarted,
    Run,
    Ticket,
    TimerFired,
    Transmit,
    WakeAt,
)
from raft_storage.lanes import Lanes
from raft_trio.connections import Connections

__all__ = ["Feed", "Loop", "now"]

T = TypeVar("T")
_NANOSECONDS: Final = 1_000_000_000
_KEPT_CHANGES: Final = 16
_KEPT_ALARMS: Final = 64


def now() -> int:
    """The host's clock: nanoseconds on trio's, virtual in tests."""
    return round(trio.current_time() * _NANOSECONDS)


class Feed(Generic[T]):
    """The newest items of a stream, for any number of readers."""

    def __init__(self, kept: int) -> None:
        self.items: Final[deque[T]] = deque(maxlen=kept)
        self.count = 0
        self.more = trio.Event()
        self.ended = False

    def put(self, item: T) -> None:
        self.items.append(item)
        self.count += 1
        self._wake()

    def end(self) -> None:
        """Readers stop after what they have not seen yet."""
        self.ended = True
        self._wake()

    def read(self, past: int) -> AsyncIterator[T]:
        """The last `past` items, then new ones as they come. A reader that lags by more than are kept misses some."""
        return _Reader(self, self.count - min(past, len(self.items)))

    def _wake(self) -> None:
        self.more.set()
        self.more = trio.Event()


class _Reader(Generic[T]):
    """One reader's place in a feed. It holds nothing that would have to be closed."""

    def __init__(self, feed: Feed[T], seen: int) -> None:
        self._feed: Final = feed
        self._seen = seen

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        feed = self._feed
        while self._seen == feed.count:
            if feed.ended:
                raise StopAsyncIteration
            await feed.more.wait()
        self._seen = max(self._seen, feed.count - len(feed.items)) + 1
        return feed.items[self._seen - 1 - feed.count]


class _Caller:
    """Somebody who waits for an answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered: Final = trio.Event()
        self.answer = Answer(Ticket(0), error=OutcomeUnknown(UnknownReason.STOPPING))


class Loop:
    """The inbox, the host behind it, and everybody who waits for something of the host."""

    def __init__(self, host: Host, lanes: Lanes) -> None:
        self._host: Final = host
        self._lanes: Final = lanes
        self._inbox: list[HostEvent] = [HostStarted()]
        self._woken = trio.Event()
        self._wake_at = math.inf
        self._alarm = trio.CancelScope()
        self._tickets: Final = count(1)
        self._callers: Final[dict[Ticket, _Caller]] = {}
        self.changes: Final = Feed[Announce](_KEPT_CHANGES)
        self.alarms: Final = Feed[Alarm](_KEPT_ALARMS)
        self.finished: Final = trio.Event()
        self.error: Exception | None = None

    # For everybody.

    def post(self, event: HostEvent) -> None:
        """The host hears of `event` in the loop's next turn."""
        self._inbox.append(event)
        self._woken.set()

    def _post_all(self, events: list[HostEvent]) -> None:
        self._inbox += events
        self._woken.set()

    def _post_from_thread(self, token: trio.lowlevel.TrioToken, events: list[HostEvent]) -> None:
        with suppress(trio.RunFinishedError):  # a thread that hung until nobody was left to hear of it
            token.run_sync_soon(self._post_all, events)

    async def ask(self, event: Callable[[Ticket], HostEvent]) -> bytes:
        """The answer to a caller's event. Raises the `RequestError` that the host answers with."""
        if self.finished.is_set():
            raise Refused(RefusalReason.STOPPING, "the node has ended")
        ticket, caller = Ticket(next(self._tickets)), _Caller()
        self._callers[ticket] = caller
        self.post(event(ticket))
        try:
            await caller.answered.wait()
        finally:
            if self._callers.pop(ticket, None) is not None:
                self.post(ClientCancelled(ticket))
        if caller.answer.error is not None:
            raise caller.answer.error
        return caller.answer.data

    # The task.

    async def run(self, connections: Connections) -> None:
        """The node has ended when this returns, and everybody who waited has been answered."""
        token = trio.lowlevel.current_trio_token()
        self._lanes.start(lambda events: self._post_from_thread(token, events))
        try:
            while not self.finished.is_set():
                await self._wait()
                self._turn(connections)
        except Exception as failure:  # a defect, or a machine that raised: the node must end, and say why
            self.error = failure
        finally:
            self._end()

    async def keep_time(self) -> None:
        """Wakes `run` when the host wishes it, until cancelled. A task of its own, because a deadline that is moved
        once in a tick costs less than one that is set up for every wait."""
        while True:
            with trio.CancelScope(deadline=self._wake_at) as self._alarm:
                await trio.sleep_forever()
            self._woken.set()

    async def _wait(self) -> None:
        if self._inbox:
            await trio.lowlevel.checkpoint()  # let others run, then take what they brought as well
            return
        self._woken = trio.Event()
        await self._woken.wait()

    def _turn(self, connections: Connections) -> None:
        """Everything that has happened is handled in one go, and everything ordered is done or under way."""
        events, self._inbox = self._inbox, []
        if not events:
            events.append(TimerFired())
        for effect in self._host.handle(events, now(), time.time_ns()):
            self._do(effect, connections)
        self._inbox += self._lanes.run_inline()

    def _do(self, effect: HostEffect, connections: Connections) -> None:
        """One effect is done, or on its way. By type alone, hottest first."""
        if type(effect) is Transmit:
            connections.transmit(effect.connection, effect.data)
        elif type(effect) is Answer:
            self._answer(effect)
        elif type(effect) is Run:
            self._lanes.put(effect.lane, effect.job)
        elif type(effect) is WakeAt:
            self._wake_at = self._alarm.deadline = effect.at / _NANOSECONDS
        elif type(effect) is Announce:
            self.changes.put(effect)
        elif type(effect) is Alarm:
            self.alarms.put(effect)
        elif type(effect) is Dial:
            connections.dial(effect.connection, effect.address)
        elif type(effect) is Disconnect:
            connections.disconnect(effect.connection)
        elif type(effect) is Finished:
            self.error = effect.error
            self.finished.set()
        else:
            assert_never(effect)

    def _answer(self, answer: Answer) -> None:
        if (caller := self._callers.pop(answer.ticket, None)) is not None:
            caller.answer = answer
            caller.answered.set()

    def _end(self) -> None:
        self.finished.set()
        self.changes.end()
        self.alarms.end()
        for caller in self._callers.values():  # none, unless the host was cut short
            caller.answered.set()
        self._callers.clear()
