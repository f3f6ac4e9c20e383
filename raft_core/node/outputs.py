"""What one call of `NodeCore.handle` has to do: effects for the adapter, and events that the core has still to be
given.

What lives here: two lists with names. The parts of a host write into them, `NodeCore` empties them; so no part calls
another's handler and nothing is decided in the middle of something else.
"""

from __future__ import annotations

from collections import deque
from typing import final

from raft_core.events import Event
from raft_core.node.events import NodeEffect, Run
from raft_core.node.jobs import Job, Lane

__all__ = ["Outputs"]


@final
class Outputs:
    """Effects in the order in which they were decided, and events for the core in the order in which they happened."""

    __slots__ = ("effects", "events")

    def __init__(self) -> None:
        self.effects: list[NodeEffect] = []
        self.events: deque[Event] = deque()

    def run(self, lane: Lane, job: Job) -> None:
        """The job is at the end of its lane's queue."""
        self.effects.append(Run(lane, job))

    def taken(self) -> list[NodeEffect]:
        """Everything ordered since the last call; the list starts anew."""
        effects, self.effects = self.effects, []
        return effects
