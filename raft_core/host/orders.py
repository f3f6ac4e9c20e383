"""What one call of `Host.handle` has to do: effects for the adapter, and events that the core has still to be given.

What lives here: two lists with names. The parts of a host write into them, `Host` empties them; so no part calls
another's handler and nothing is decided in the middle of something else.
"""

from __future__ import annotations

from collections import deque
from typing import final

from raft_core.events import Event
from raft_core.host.jobs import Job, Lane
from raft_core.host.values import HostEffect, Run

__all__ = ["Orders"]


@final
class Orders:
    """Effects in the order in which they were decided, and events for the core in the order in which they happened."""

    __slots__ = ("effects", "events")

    def __init__(self) -> None:
        self.effects: list[HostEffect] = []
        self.events: deque[Event] = deque()

    def run(self, lane: Lane, job: Job) -> None:
        """The job is at the end of its lane's queue."""
        self.effects.append(Run(lane, job))

    def taken(self) -> list[HostEffect]:
        """Everything ordered since the last call; the list starts anew."""
        effects, self.effects = self.effects, []
        return effects
