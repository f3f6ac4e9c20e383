"""Whether every request to a core is answered: each of its items once, and none that was not asked.

What lives here: `RequestTracker`, the open requests of one core in one life. What an answer says is judged elsewhere.
"""

from __future__ import annotations

from typing import final

from raft_core.effects import Respond
from raft_core.events import Event, Proposed, Requested
from raft_core.ids import RequestId

__all__ = ["RequestTracker"]


@final
class RequestTracker:
    """Requests by number, with a bit for each item that has no answer yet."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[RequestId, int] = {}

    @property
    def open(self) -> tuple[RequestId, ...]:
        """The requests that wait for an answer, oldest first."""
        return tuple(self._open)

    def asked(self, event: Event | None) -> None:
        """The event may be a request."""
        if type(event) is Proposed:
            if event.commands:
                self._open[event.request] = (1 << len(event.commands)) - 1
        elif type(event) is Requested:
            self._open[event.id] = 1

    def answered(self, answer: Respond) -> str:
        """What is wrong with the answer, or nothing."""
        items = ((1 << answer.count) - 1) << answer.offset
        waiting = self._open.get(answer.request, 0)
        if waiting & items != items:
            return f"request {answer.request} was answered twice, or never asked: {answer!r}"
        waiting ^= items
        if waiting:
            self._open[answer.request] = waiting
        else:
            del self._open[answer.request]
        return ""
