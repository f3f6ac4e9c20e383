"""What a shipped `Driver` finds around itself in a simulation: connections, lanes and a loop that are made up.

What lives here: `SimulatedAdapter`, which stands in for an adapter of one node in one of its lives, and `converse`, by
which a call of a `NodeApi` is made as an application makes it, without an event loop. Everything is decided in
`simulated_node` and `simulated_lanes`; here it only changes hands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, final

from raft_core.errors import CallerError, RequestError
from raft_core.node.api import Done, Reply
from raft_core.node.driver import outcome
from raft_core.node.events import Answer, ConnectionId, NodeEvent
from raft_core.node.jobs import Job, Lane, Ticket
from raft_core.node.pending_request import ClientEvent

if TYPE_CHECKING:
    from raft_testing.sim.node import SimulatedNode

__all__ = ["Asked", "SimulatedAdapter", "converse"]


@final
class SimulatedAdapter:
    """One life's connections, lanes and loop, as `raft_core.node.driver` and `raft_core.node.api` want them."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._network = node.simulation.network
        self._inline: deque[Job] = deque()

    # Connections.

    def dial(self, number: ConnectionId, address: str) -> None:
        self._network.dial(self._node, number, address)

    def transmit(self, number: ConnectionId, data: bytes) -> None:
        self._network.transmit(self._node, number, data)

    def disconnect(self, number: ConnectionId) -> None:
        self._network.close(self._node, number)

    # Lanes.

    def put(self, lane: Lane, job: Job) -> None:
        """The job is done some time later, or at the end of the turn where the loop itself does it."""
        assert self._node.work is not None
        if self._node.work.inline(lane):
            self._inline.append(job)
        else:
            self._node.lanes.queue_job(lane, job)

    def run_inline(self) -> list[NodeEvent]:
        """What the loop itself does in a slice of time comes to this; nothing, where the node has died meanwhile. A job
        that blocks takes a thread and its time, and those behind it wait."""
        node = self._node
        if not self._inline or not node.alive or node.lanes.busy(Lane.APPLY):
            return []
        assert node.work is not None
        events = node.lanes.done_in_loop(self._inline)
        job = node.work.take_blocking(self._inline) if node.alive else None
        if job is not None:
            node.lanes.queue_job(Lane.APPLY, job)
        return events

    # The loop.

    def wake(self) -> None:
        self._node.schedule()

    def wake_at(self, at: int) -> None:
        self._node.wake_at(at)

    def tell(self) -> None:
        self._node.look_at_news()

    # For callers.

    def now(self) -> int:
        return self._node.clock.at(self._node.simulation.now)

    def require_thread(self) -> None:
        """A simulation has one thread and no event loop."""

    def ask(self, event: Callable[[Ticket], NodeEvent]) -> Asked:
        """A caller's event; `converse` has it answered."""
        return Asked(event)


@final
class Asked(Coroutine[Any, Any, bytes]):
    """One call of a node. Its first step gives the event, its second takes the answer and ends with what that is."""

    def __init__(self, event: Callable[[Ticket], NodeEvent]) -> None:
        self._event = event

    def send(self, value: Answer | None) -> Callable[[Ticket], NodeEvent]:
        """The event; or, given the answer, the end: `StopIteration` with the data, or the `RequestError` that it is."""
        if value is None:
            return self._event
        raise StopIteration(outcome(value))

    def throw(self, *failure: Any) -> Any:
        """Whoever called was cancelled."""
        raise failure[0]

    def close(self) -> None:
        """Nothing is held."""

    def __await__(self) -> Generator[Any, Any, bytes]:
        raise CallerError("nothing is awaited in a simulation: hand this to `converse`")


def converse(node: SimulatedNode, call: Reply | Done, then: Callable[[bytes | RequestError | None], None]) -> Ticket:
    """The call of the node's face is under way; `then` gets its result, its error, or None where the node died."""
    event: Callable[[Ticket], ClientEvent] = call.send(None)
    ticket = node.simulation.next_ticket()

    def on_reply(reply: bytes | RequestError | None) -> None:
        if reply is None:
            then(None)
            return
        answer = Answer(ticket, error=reply) if isinstance(reply, RequestError) else Answer(ticket, reply)
        try:
            call.send(answer)
        except StopIteration as stopped:
            reply = stopped.value
        except RequestError as error:
            reply = error
        then(reply)

    node.call(ticket, event(ticket), on_reply)
    return ticket
