"""`Driver`: the part of an adapter that needs no event loop: the inbox, the effects, the waiting callers.

Also `Feed`, a bounded stream for many readers, and `host_at`. Plain and synchronous. Nothing here sleeps, reads a clock
or knows the meaning of an effect to the protocol.
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
"""Give one caller its answer. Called by the loop at most once."""


class ConnectionTable(Protocol):
    """The adapter's operations on connections. None of them waits."""

    def dial(self, number: ConnectionId, address: str) -> None:
        """Connect to `address` and report the outcome under `number`."""
        ...

    def transmit(self, number: ConnectionId, data: bytes) -> None:
        """Send `data` on the connection, without waiting."""
        ...

    def disconnect(self, number: ConnectionId) -> None:
        """Close the connection, if it is still open."""
        ...


class LaneQueues(Protocol):
    """The adapter's operations on jobs. `run_inline` does the jobs of lanes that never block."""

    def put(self, lane: Lane, job: Job) -> None:
        """Queue the job for the lane's worker."""
        ...

    def run_inline(self) -> list[NodeEvent]:
        """Do the queued jobs of inline lanes and return their reports."""
        ...


class Loop(Protocol):
    """The driver's requirements on the event loop."""

    def wake(self) -> None:
        """Call `Driver.turn` soon."""
        ...

    def wake_at(self, at: int) -> None:
        """Call `Driver.turn` at this time at the latest; replaces any earlier `wake_at`."""
        ...

    def tell(self) -> None:
        """Wake the readers of feeds."""
        ...


@final
class Feed(Generic[T]):
    """The newest items of a stream, for any number of readers, each with its own position."""

    def __init__(self, kept: int) -> None:
        self._items: Final[deque[T]] = deque(maxlen=kept)
        self._count = 0
        self.ended = False

    def put(self, item: T) -> None:
        """Append an item; the oldest is dropped when the feed is full."""
        self._items.append(item)
        self._count += 1

    def place(self, past: int) -> int:
        """Return the position of a reader that starts with the last `past` items."""
        return self._count - min(past, len(self._items))

    def after(self, place: int) -> tuple[T, int] | None:
        """Return the item at `place`, or the oldest one kept, and the next position; None if there is none yet."""
        if place == self._count:
            return None
        place = max(place, self._count - len(self._items))
        return self._items[place - self._count], place + 1


@final
class Driver:
    """A node with everything around it except tasks."""

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
        """True if the inbox is not empty."""
        return bool(self._inbox)

    def post(self, event: NodeEvent) -> None:
        """Queue `event` for the next turn."""
        self._inbox.append(event)
        self._loop.wake()

    def post_all(self, events: list[NodeEvent]) -> None:
        """Queue all `events`, in order, for the next turn."""
        self._inbox += events
        self._loop.wake()

    def ask(self, event: Callable[[Ticket], NodeEvent], deliver: Deliver) -> Ticket:
        """Queue a caller's event, and give its answer to `deliver`. Raise `Refused` after the end."""
        if self.ended:
            raise ended_error(self.error)
        ticket = Ticket(next(self._tickets))
        self._callers[ticket] = deliver
        self.post(event(ticket))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Drop the caller; its answer, if any, is discarded."""
        if self._callers.pop(ticket, None) is not None:
            self.post(ClientCancelled(ticket))

    def turn(self, connections: ConnectionTable, now: int, wall: int) -> None:
        """Handle all queued events at once, and carry out or start all effects."""
        events, self._inbox = self._inbox, []
        if not events:
            events.append(TimerFired())
        for effect in self._host.handle(events, now, wall):
            self._do(effect, connections)
        self._inbox += self._lanes.run_inline()

    def end(self, error: Exception | None = None) -> None:
        """End the node. Answer callers that still wait; there are some only if the node was cut short."""
        self.ended = True
        self.error = self.error or error
        self.changes.ended = self.alarms.ended = True
        self._loop.tell()
        _, unknown, text = ending(self.error)
        while self._callers:
            ticket, deliver = self._callers.popitem()
            deliver(Answer(ticket, error=unknown_error(unknown, text)))

    def _do(self, effect: NodeEffect, connections: ConnectionTable) -> None:
        """Carry out or start one effect, by type alone, hottest first."""
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
    """Return the `NodeCore` of a node listening at `address`. Raise `CallerError` if the disk contradicts `config`."""
    rng = Random(seed)
    core_rng = Random(int(rng.random() * 2**53))
    recorder = Recorder(max_bytes=config.recorder_bytes) if config.recorder_bytes else None
    own = config.node_limits(address)
    return NodeCore(own, config.settings, recovered, preparer(machine), core_rng=core_rng, rng=rng, recorder=recorder)


def outcome(answer: Answer) -> bytes:
    """Return the answer's data, or raise its error."""
    error = answer.error
    if error is None:
        return answer.data
    try:
        raise error
    finally:
        del answer, error  # an exception refers to the frame that raised it: break the cycle
