"""The adapter of a simulated node: connections, lanes and an event loop for a shipped `Driver`, in virtual time.

`SimulatedAdapter` passes on the driver's orders and decides nothing. `converse` carries out a call of `NodeApi` as
an application makes it, without an event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeAlias, final

from raft_core.errors import CallerError
from raft_core.node.api import Done
from raft_core.node.api import Reply as Asking
from raft_core.node.config import deadline_after
from raft_core.node.driver import Caller
from raft_core.node.events import Answered, ConnectionId, NodeEvent
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Job, Lane
from raft_core.node.meter import WorkTimes
from raft_core.node.outcomes import result_of
from raft_core.requests import NodeRequest
from raft_testing.checkers.requests import Reply
from raft_testing.sim.clock import NodeClock
from raft_testing.sim.environment import Environment
from raft_testing.sim.network import Endpoint
from raft_testing.sim.workers import SimulatedWorkers

__all__ = ["AdaptedNode", "Asked", "SimulatedAdapter", "converse"]

_Call: TypeAlias = Callable[[int, NodeRequest, int, Callable[[Reply], None]], None]


class AdaptedNode(Endpoint, Protocol):
    """A simulated node, as its adapter sees it."""

    @property
    def world(self) -> Environment:
        """The node's surroundings."""
        ...

    @property
    def clock(self) -> NodeClock:
        """The node's clock."""
        ...

    @property
    def work(self) -> JobRunner | None:
        """The runner of the node's jobs; None while the node is down."""
        ...

    @property
    def lanes(self) -> SimulatedWorkers:
        """The workers of the lanes."""
        ...

    def schedule(self) -> None:
        """Give the driver a turn at this very moment."""
        ...

    def wake_at(self, local: int) -> None:
        """Give the driver a turn when the node's clock shows this."""
        ...

    def look_at_news(self) -> None:
        """Read the driver's changes and alarms."""
        ...


@final
class SimulatedAdapter:
    """One life's connections, lanes and loop, as `raft_core.node.driver` and `raft_core.node.api` want them."""

    def __init__(self, node: AdaptedNode) -> None:
        self._node = node
        self._network = node.world.network
        self._inline: deque[Job] = deque()

    # Connections.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Dial on the simulated network."""
        self._network.dial(self._node, number, address)

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Send on the simulated network, which reports later."""
        self._network.transmit(self._node, number, data)
        return False

    def disconnect(self, number: ConnectionId) -> None:
        """Close on the simulated network."""
        self._network.close(self._node, number)

    # Lanes.

    def put(self, lane: Lane, job: Job, *, here: bool = False) -> None:
        """Do the job some time later, or at the end of the turn if the loop itself does it."""
        assert self._node.work is not None
        if self._node.work.inline(lane):
            self._inline.append(job)
        else:
            self._node.lanes.queue_job(lane, job)

    def late(self) -> list[NodeEvent]:
        """Return nothing: all reports go through the inbox."""
        return []

    def run_inline(self) -> list[NodeEvent]:
        """Return the reports of the loop's own jobs in a slice of time; none if the node died meanwhile.

        A blocking job takes a thread and its time, and later jobs wait.
        """
        node = self._node
        if not self._inline or not node.alive or node.lanes.busy(Lane.APPLY):
            return []
        assert node.work is not None
        events = node.lanes.done_in_loop(self._inline)
        job = node.work.take_blocking(self._inline) if node.alive else None
        if job is not None:
            node.lanes.queue_job(Lane.APPLY, job)
        return events

    def measure(self, times: WorkTimes) -> None:
        """Leave the durations of jobs at zero: a simulation computes them, and measures none."""

    @property
    def inline_waiting(self) -> bool:
        """True if `run_inline` has left jobs for the next turn."""
        return bool(self._inline) and not self._node.lanes.busy(Lane.APPLY)

    # The loop.

    def wake(self) -> None:
        """Give the driver a turn at this very moment."""
        self._node.schedule()

    def wake_at(self, at: int) -> None:
        """Give the driver a turn when the node's clock shows this."""
        self._node.wake_at(at)

    def tell(self) -> None:
        """Read the changes and alarms."""
        self._node.look_at_news()

    # For callers.

    def now(self) -> int:
        """Return the time of the node's clock."""
        return self._node.clock.at(self._node.world.now)

    def require_thread(self) -> None:
        """Do nothing: a simulation has one thread and no event loop."""

    def ask(self, request: NodeRequest, timeout: float | None) -> Asked:
        """Return a caller's request; `converse` gets it answered."""
        return Asked(request, deadline_after(self.now(), timeout))

    def submit(self, request: NodeRequest, caller: Caller, timeout: float | None) -> None:
        """Refuse: the simulator makes every request with `converse`, which watches its outcome."""
        raise CallerError("in a simulation, hand a request to `converse`")

    def withdraw(self, caller: Caller) -> None:
        """Do nothing: there is no caller."""

    def result(self, outcome: Answered) -> bytes:
        """Return the result in an outcome, or raise its error."""
        return result_of(outcome)


@final
class Asked(Coroutine[Any, Any, bytes]):
    """One call of a node: its request and deadline, for `converse`."""

    def __init__(self, request: NodeRequest, deadline: int) -> None:
        self.request = request
        self.deadline = deadline

    def send(self, value: Any) -> Any:
        """Refuse to be awaited."""
        raise CallerError("nothing is awaited in a simulation: hand this to `converse`")

    def throw(self, *failure: Any) -> Any:
        """Whoever called was cancelled."""
        raise failure[0]

    def close(self) -> None:
        """Nothing is held."""

    def __await__(self) -> Generator[Any, Any, bytes]:
        raise CallerError("nothing is awaited in a simulation: hand this to `converse`")


def converse(ticket: int, call: _Call, asked: Asking | Done, then: Callable[[Reply], None]) -> int:
    """Carry out a request that was made through `NodeApi`. Return its ticket.

    `call` is `SimulatedNode.call`. `then` gets the result or the error of the request, or None where the node died.
    """
    assert isinstance(asked, Asked)
    call(ticket, asked.request, asked.deadline, then)
    return ticket
