"""`Outputs`: the effects and core events collected during one call of `NodeCore.handle`.

The parts of a node append to the two lists, `NodeCore` empties them. So no part calls another's handler, and no
decision interrupts another.
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
    """Effects in the order of decision, and events for the core in the order of arrival."""

    __slots__ = ("effects", "events")

    def __init__(self) -> None:
        self.effects: list[NodeEffect] = []
        self.events: deque[Event | None] = deque()

    def run(self, lane: Lane, job: Job, here: bool = False) -> None:
        """Append the job to its lane's queue."""
        self.effects.append(Run(lane, job, here))

    def taken(self) -> list[NodeEffect]:
        """Return all effects since the last call, and clear the list."""
        effects, self.effects = self.effects, []
        return effects
