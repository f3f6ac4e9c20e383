"""The callers of one simulated node: each is told once, in time, and what it is told is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

from raft_core.errors import RequestError
from raft_core.ids import NodeId
from raft_core.node.driver import Driver
from raft_core.node.events import Answered
from raft_core.node.limits import NodeLimits
from raft_core.requests import NodeRequest
from raft_testing.checkers.requests import Reply, unfair
from raft_testing.sim.clock import NodeClock
from raft_testing.sim.environment import Environment

__all__ = ["CalledNode", "Callers"]

_LATE: Final = 2
"""So many ticks after a deadline a living node must have said something."""


class CalledNode(Protocol):
    """A simulated node, as its callers see it."""

    config: NodeLimits

    @property
    def id(self) -> NodeId:
        """The node's id."""
        ...

    @property
    def world(self) -> Environment:
        """The node's surroundings."""
        ...

    @property
    def clock(self) -> NodeClock:
        """The node's clock."""
        ...


@final
class Callers:
    """The callers that wait for a node in one of its lives. `stop_asked`: by the node's clock, -1 before."""

    def __init__(self, node: CalledNode, driver: Driver) -> None:
        self.stop_asked = -1
        self._node = node
        self._driver = driver
        self._waiting: dict[int, _Caller] = {}

    def call(self, ticket: int, request: NodeRequest, deadline: int, caller: Callable[[Reply], None]) -> None:
        """Make the request; the caller is told once."""
        waiting = _Caller(self, ticket, request, deadline, caller, self._now())
        self._driver.call(waiting, request, deadline)
        self._waiting[ticket] = waiting

    def answered(self, waiting: _Caller, outcome: Answered) -> None:
        """Tell the caller, once, and check the answers of a stopping node."""
        if self._waiting.pop(waiting.ticket, None) is None:
            return
        reply: Reply
        try:
            reply = self._driver.result(outcome)
        except RequestError as error:
            reply = error
        now, stop, node = self._now(), self.stop_asked, self._node
        wrong = unfair(waiting.request, reply, node.config, now - waiting.asked_at, now - stop if stop >= 0 else -1)
        node.world.require(not wrong, f"node {node.id} {wrong}")
        waiting.caller(reply)

    def cancel(self, ticket: int, handled_at: int) -> None:
        """Drop the caller, who must have been told if its deadline had passed when the node last handled events."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return
        self._driver.leave(waiting)
        node = self._node
        late = (handled_at - waiting.deadline) // node.config.tick if waiting.deadline else 0
        node.world.require(
            late <= _LATE, f"node {node.id} left a request unanswered for {late} ticks after its deadline"
        )

    def abandon(self) -> None:
        """Tell all callers that they will learn nothing: the node has died."""
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.caller(None)

    def _now(self) -> int:
        return self._node.clock.at(self._node.world.now)


class _Caller:
    """The ticket of a call."""

    __slots__ = ("_callers", "asked_at", "caller", "deadline", "request", "ticket")

    def __init__(
        self,
        callers: Callers,
        ticket: int,
        request: NodeRequest,
        deadline: int,
        caller: Callable[[Reply], None],
        asked_at: int,
    ) -> None:
        self._callers = callers
        self.ticket = ticket
        self.request = request
        self.deadline = deadline
        self.caller = caller
        self.asked_at = asked_at

    def deliver(self, outcome: Answered) -> None:
        """Give the caller the outcome."""
        self._callers.answered(self, outcome)
