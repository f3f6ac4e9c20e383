"""The half of an adapter that needs no event loop: the inbox, the effects by their type, who waits for what.

What lives here: `Driver`, which an adapter's loop gives its time to, `Feed`, what a stream of news remembers, and
`host_at`. Plain and synchronous. Nothing here sleeps, reads a clock or knows what an effect means to the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, assert_never, final

from raft_core.effects import Alarm, RoleChanged
from raft_core.node.config import NodeConfig
from raft_core.node.core import NodeCore
from raft_core.node.events import (
    Answer,
    ClientCancelled,
    ConnectionId,
    Dial,
    Disconnect,
    Finished,
    HostStarted,
    NodeEffect,
    NodeEvent,
    Run,
    TimerFired,
    Transmit,
    WakeAt,
)
from raft_core.node.jobs import Job, Lane, Ticket
from raft_core.node.outcomes import ended_error, ending, unknown_error
from raft_core.recorder import Recorder
from raft_core.recovered import Recovered
from raft_core.state_machine import StateMachine, preparer

__all__ = ["ConnectionTable", "Driver", "Feed", "LaneQueues", "Loop", "host_at", "outcome"]

T = TypeVar("T")
_KEPT_CHANGES: Final = 16
_KEPT_ALARMS: Final = 64

Deliver: TypeAlias = Callable[[Answer], object]
"""Wakes one caller with its answer. Called by the loop, exactly once or never."""


class ConnectionTable(Protocol):
    """What an adapter does with connections. None of it waits."""

    def dial(self, number: ConnectionId, address: str) -> None: ...
    def transmit(self, number: ConnectionId, data: bytes) -> None: ...
    def disconnect(self, number: ConnectionId) -> None: ...


class LaneQueues(Protocol):
    """What an adapter does with jobs. Jobs of lanes that never block are done in `run_inline`."""

    def put(self, lane: Lane, job: Job) -> None: ...
    def run_inline(self) -> list[NodeEvent]: ...


class Loop(Protocol):
    """What a driver asks of the event loop that it has."""

    def wake(self) -> None:
        """`Driver.turn` is called soon."""
        ...

    def wake_at(self, at: int) -> None:
        """`Driver.turn` is called at this time at the latest; replaces the wish before."""
        ...

    def tell(self) -> None:
        """Whoever reads a feed looks at it again."""
        ...


@final
class Feed(Generic[T]):
    """The newest items of a stream, for any number of readers, each of which keeps its own place."""

    def __init__(self, kept: int) -> None:
        self._items: Final[deque[T]] = deque(maxlen=kept)
        self._count = 0
        self.ended = False

    def put(self, item: T) -> None:
        self._items.append(item)
        self._count += 1

    def place(self, past: int) -> int:
        """The place of a reader that begins with the last `past` items."""
        return self._count - min(past, len(self._items))

    def after(self, place: int) -> tuple[T, int] | None:
        """The item at a reader's place, or the oldest kept if that is gone, and its next place; None if none yet."""
        if place == self._count:
            return None
        place = max(place, self._count - len(self._items))
        return self._items[place - self._count], place + 1


@final
class Driver:
    """A node's host, with everything around it that is not a task."""

    def __init__(self, host: NodeCore, lanes: LaneQueues, loop: Loop) -> None:
        self._host: Final = host
        self._lanes: Final = lanes
        self._loop: Final = loop
        self._inbox: list[NodeEvent] = [HostStarted()]
        self._tickets: Final = count(1)
        self._callers: Final[dict[Ticket, Deliver]] = {}
        self.changes: Final = Feed[RoleChanged](_KEPT_CHANGES)
        self.alarms: Final = Feed[Alarm](_KEPT_ALARMS)
        self.ended = False
        self.error: Exception | None = None

    @property
    def waiting(self) -> bool:
        """Something is in the inbox."""
        return bool(self._inbox)

    def post(self, event: NodeEvent) -> None:
        """The host hears of `event` in the next turn."""
        self._inbox.append(event)
        self._loop.wake()

    def post_all(self, events: list[NodeEvent]) -> None:
        """The host hears of all of them, in order, in the next turn."""
        self._inbox += events
        self._loop.wake()

    def ask(self, event: Callable[[Ticket], NodeEvent], deliver: Deliver) -> Ticket:
        """The host hears of a caller's event, and its answer goes to `deliver`. Raises `Refused` after the end."""
        if self.ended:
            raise ended_error(self.error)
        ticket = Ticket(next(self._tickets))
        self._callers[ticket] = deliver
        self.post(event(ticket))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for the ticket any more, answered or not."""
        if self._callers.pop(ticket, None) is not None:
            self.post(ClientCancelled(ticket))

    def turn(self, connections: ConnectionTable, now: int, wall: int) -> None:
        """Everything that has happened is handled in one go, and everything ordered is done or under way."""
        events, self._inbox = self._inbox, []
        if not events:
            events.append(TimerFired())
        for effect in self._host.handle(events, now, wall):
            self._do(effect, connections)
        self._inbox += self._lanes.run_inline()

    def end(self, error: Exception | None = None) -> None:
        """The node has ended; whoever still waits, which is nobody unless the host was cut short, is told."""
        self.ended = True
        self.error = self.error or error
        self.changes.ended = self.alarms.ended = True
        self._loop.tell()
        _, unknown, text = ending(self.error)
        while self._callers:
            ticket, deliver = self._callers.popitem()
            deliver(Answer(ticket, error=unknown_error(unknown, text)))

    def _do(self, effect: NodeEffect, connections: ConnectionTable) -> None:
        """One effect is done, or on its way. By type alone, hottest first."""
        if type(effect) is Transmit:
            connections.transmit(effect.connection, effect.data)
        elif type(effect) is Answer:
            if (deliver := self._callers.pop(effect.ticket, None)) is not None:
                deliver(effect)
        elif type(effect) is Run:
            self._lanes.put(effect.lane, effect.job)
        elif type(effect) is WakeAt:
            self._loop.wake_at(effect.at)
        elif type(effect) is RoleChanged:
            self.changes.put(effect)
            self._loop.tell()
        elif type(effect) is Alarm:
            self.alarms.put(effect)
            self._loop.tell()
        elif type(effect) is Dial:
            connections.dial(effect.connection, effect.address)
        elif type(effect) is Disconnect:
            connections.disconnect(effect.connection)
        elif type(effect) is Finished:
            self.end(effect.error)
        else:
            assert_never(effect)


def host_at(address: str, config: NodeConfig, recovered: Recovered, machine: StateMachine, seed: int) -> NodeCore:
    """The host of a node that listens at `address`. Raises `CallerError` where the disk contradicts `config`."""
    rng = Random(seed)
    core_rng = Random(int(rng.random() * 2**53))
    recorder = Recorder(max_bytes=config.recorder_bytes) if config.recorder_bytes else None
    own = config.node_limits(address)
    return NodeCore(own, config.settings, recovered, preparer(machine), core_rng=core_rng, rng=rng, recorder=recorder)


def outcome(answer: Answer) -> bytes:
    """What a caller gets: the answer's data, or its error raised."""
    error = answer.error
    if error is None:
        return answer.data
    try:
        raise error
    finally:
        del answer, error  # an exception knows the frame that raised it: nothing in the frame may know the exception
