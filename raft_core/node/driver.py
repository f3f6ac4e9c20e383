"""`Driver`: the part of an adapter that needs no event loop: the inbox, the effects, the waiting callers.

Also `Feed`, a bounded stream for many readers, and `host_at`. Plain and synchronous. Nothing here sleeps, reads a clock
or knows the meaning of an effect to the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from random import Random
from typing import Final, Generic, Protocol, TypeVar, assert_never, cast, final

import attrs

from raft_core.effects import Alarm, Indeterminate, RoleChanged
from raft_core.node.config import NodeConfig
from raft_core.node.core import NodeCore
from raft_core.node.events import (
    Answer,
    Answered,
    Call,
    CallCancelled,
    ConnectionId,
    Dial,
    Disconnect,
    Finished,
    NodeEffect,
    NodeEvent,
    Run,
    TimerFired,
    Transmit,
    Transmitted,
    WakeAt,
)
from raft_core.node.jobs import Job, Lane, Ticket
from raft_core.node.meter import WorkTimes
from raft_core.node.outcomes import ended, ending, error_of, result_of
from raft_core.recorder import Recorder
from raft_core.recovered import Recovered
from raft_core.requests import NodeRequest
from raft_core.state_machine import StateMachine, preparer

__all__ = ["Caller", "ConnectionTable", "Driver", "Feed", "LaneQueues", "Loop", "host_at"]

T = TypeVar("T")
_KEPT_CHANGES: Final = 16
_KEPT_ALARMS: Final = 64


class Caller(Hashable, Protocol):
    """One waiting caller: the ticket of its call."""

    def deliver(self, outcome: Answered) -> None:
        """Take the outcome. Only the first one counts."""
        ...


class ConnectionTable(Protocol):
    """The adapter's operations on connections. None of them waits."""

    def dial(self, number: ConnectionId, address: str) -> None:
        """Connect to `address` and report the outcome under `number`."""
        ...

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Send `data` on the connection, without waiting. Return whether the operating system has taken all of it.

        If not, post `Transmitted` once it has.
        """
        ...

    def disconnect(self, number: ConnectionId) -> None:
        """Close the connection, if it is still open."""
        ...


class LaneQueues(Protocol):
    """The adapter's operations on jobs. `run_inline` does the jobs of lanes that never block."""

    def put(self, lane: Lane, job: Job, *, here: bool = False) -> None:
        """Queue the job for the lane's worker; with `here` the loop may do it in `run_inline`."""
        ...

    def late(self) -> list[NodeEvent]:
        """Return the reports that woke the loop, but did not go through its inbox."""
        ...

    def run_inline(self) -> list[NodeEvent]:
        """Do the queued jobs of inline lanes and return their reports."""
        ...

    def measure(self, times: WorkTimes) -> None:
        """Put the durations of jobs into `times` from now on."""
        ...

    @property
    def inline_waiting(self) -> bool:
        """True if `run_inline` has something to do in the next turn, which nothing else may bring about."""
        ...


class Loop(Protocol):
    """The driver's requirements on the event loop."""

    def now(self) -> int:
        """Return the node's clock in nanoseconds."""
        ...

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
        lanes.measure(host.meter.work)
        self._inbox: list[NodeEvent] = [TimerFired()]  # so that the first turn comes, which starts the node
        self._taken: list[NodeEvent] = []  # `Transmitted` of the last turn, for the next one, whenever it comes
        self._handled: Iterable[
            NodeEvent | NodeEffect
        ] = ()  # of the present turn: events, then effects still to be done
        self.changes: Final = Feed[RoleChanged](_KEPT_CHANGES)
        self.alarms: Final = Feed[Alarm](_KEPT_ALARMS)
        self.ended = False
        self.error: Exception | None = None

    @property
    def waiting(self) -> bool:
        """True if there is work for a turn: an event in the inbox, or a job of an inline lane."""
        return bool(self._inbox) or self._lanes.inline_waiting

    def post(self, event: NodeEvent) -> None:
        """Queue `event` for the next turn."""
        self._inbox.append(event)
        self._loop.wake()

    def post_all(self, events: list[NodeEvent]) -> None:
        """Queue all `events`, in order, for the next turn."""
        self._inbox += events
        self._loop.wake()

    def call(self, caller: Caller, request: NodeRequest, deadline: int) -> None:
        """Queue the caller's request; its outcome goes to `caller.deliver`. Raise `Refused` after the end."""
        if self.ended:
            raise error_of(ended(self.error))
        self.post(Call(caller, request, deadline))

    def result(self, outcome: Answered) -> bytes:
        """Return a request's result, or raise the exception for its outcome."""
        return result_of(outcome, self._host.address_of)

    def leave(self, caller: Caller) -> None:
        """Drop a caller that has no answer yet."""
        if not self.ended:
            self.post(CallCancelled(caller))

    def turn(self, connections: ConnectionTable, now: int, wall: int) -> None:
        """Handle all queued events at once, carry out or start all effects, and do jobs of inline lanes.

        The reports of those jobs are handled in the same turn, so that a machine that does not block answers at once.
        What they cause in an inline lane waits for the next turn: one turn holds up the loop for one slice of time.
        """
        events, self._inbox = self._inbox, []
        events += self._lanes.late()
        if self._taken:
            events, self._taken = self._taken + events, []
        self._handle(events or [TimerFired()], connections, now, wall)
        self._run_inline(connections, wall)

    def _run_inline(self, connections: ConnectionTable, wall: int) -> None:
        reports = self._lanes.run_inline()
        if reports and not self.ended:
            taken, self._taken = self._taken, []  # or an answer would wait for the next turn, whenever that comes
            self._handle(taken + reports, connections, self._loop.now(), wall)  # the machine took time

    def _handle(self, events: Sequence[NodeEvent], connections: ConnectionTable, now: int, wall: int) -> None:
        self._handled = events
        effects = self._host.handle(events, now, wall)
        self._handled = left = iter(effects)  # a caller who has its answer may make the next call in this turn
        for effect in left:
            self._do(effect, connections)
        self._handled = ()

    def end(self, error: Exception | None = None) -> None:
        """End the node. Answer callers that still wait; there are some only if the node was cut short."""
        self.error = self.error or error
        if self.ended:
            return
        self.ended = True
        self.changes.ended = self.alarms.ended = True
        self._loop.tell()
        for ticket, outcome in self._unanswered():
            cast(Caller, ticket).deliver(outcome)

    def _unanswered(self) -> Iterator[tuple[Ticket, Answered]]:
        """Yield the callers that wait when a turn failed, and their outcomes."""
        _, unknown, text = ending(self.error)
        left = list(self._handled)
        for value in left:
            if type(value) is Answer:
                yield value.ticket, value.outcome
        for value in (*left, *self._inbox):
            if type(value) is Call:
                yield value.ticket, Indeterminate(unknown, text)
        for ticket in self._host.tickets:
            yield ticket, Indeterminate(unknown, text)

    def _transmitted(self, effect: Transmit) -> None:
        """Report that the bytes are taken: in a turn of its own only if something waits for it."""
        if effect.hurry:
            self.post(Transmitted(effect.connection))
        else:
            self._taken.append(Transmitted(effect.connection))

    def _do(self, effect: NodeEffect, connections: ConnectionTable) -> None:
        """Carry out or start one effect, by type alone, hottest first."""
        if type(effect) is Transmit:
            if connections.transmit(effect.connection, effect.data):
                self._transmitted(effect)
        elif type(effect) is Answer:
            cast(Caller, effect.ticket).deliver(effect.outcome)
        elif type(effect) is Run:
            self._lanes.put(effect.lane, effect.job, here=effect.here)
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


def host_at(
    address: str, config: NodeConfig, recovered: Recovered, machine: StateMachine, seed: int, *, exposed: str = ""
) -> NodeCore:
    """Return the `NodeCore` of a node listening at `address`.

    `exposed`: `config.exposed` of the address. Raise `CallerError` if the disk contradicts `config`.
    """
    rng = Random(seed)
    core_rng = Random(int(rng.random() * 2**53))
    recorder = Recorder(max_bytes=config.recorder_bytes) if config.recorder_bytes else None
    own = attrs.evolve(config.node_limits(address), exposed=exposed)
    return NodeCore(own, config.settings, recovered, preparer(machine), core_rng=core_rng, rng=rng, recorder=recorder)
