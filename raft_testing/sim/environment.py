"""The surroundings of a simulated node: virtual time, the network, the checkers, and the software under test.

A node sees this much of its simulation and no other node. Faults, workloads and probes see more: `World`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from raft_core.ids import Incarnation, NodeId
from raft_core.node.limits import SECOND
from raft_core.sessions import SessionLimits, Sessions
from raft_core.state_machine import StateMachine
from raft_core.store import Store
from raft_testing.checkers.cluster_time import ClusterTimeChecker
from raft_testing.checkers.safety import SafetyChecker
from raft_testing.checkers.state_machine import CountingStateMachine, ReplicaChecker
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.rng import Rng
from raft_testing.sim.network import Network
from raft_testing.sim.recording import RunRecording

__all__ = ["Environment", "OpenStore"]

OpenStore: TypeAlias = Callable[[CrashDisk, NodeId, Incarnation], Store]
"""Opens the store of a node on its disk. An empty disk is formatted with that incarnation first."""


class Environment:
    """Time, network, checkers and subject of one simulation.

    `now`: virtual nanoseconds since the beginning. `seen`: counts of noteworthy occurrences, by text. `over`: the run
    has ended, and later occurrences do not count.
    """

    def __init__(
        self,
        rng: Rng,
        safety: SafetyChecker,
        recording: RunRecording,
        machine: Callable[[], StateMachine],
        limits: SessionLimits,
        open_store: OpenStore,
    ) -> None:
        self.now = 0
        self.over = False
        self.seen: Counter[str] = Counter()
        self.safety = safety
        self.fail = safety.fail
        self.require = safety.require
        self.cluster_time = ClusterTimeChecker(lambda: self.now, safety.fail, lambda: safety.seen["elections won"])
        self.replicas = ReplicaChecker(safety.fail, self.cluster_time)
        self.network = Network(rng.fork("network"), self.at, lambda: self.now)
        self.recording = recording
        self.open_store = open_store
        self._machine = machine
        self._limits = limits
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._tickets = 0

    @property
    def committed(self) -> int:
        """The highest index known to be committed."""
        return self.safety.committed

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Do this `delay` nanoseconds from now."""
        self._planned += 1
        heapq.heappush(self._agenda, (self.now + delay, self._planned, action))

    def run_until(self, end: int, reached: Callable[[], bool] | None = None) -> bool:
        """Let time pass until `end`, the first violation, or the condition, which is evaluated every tenth of a second.

        Return whether the condition was met.
        """
        agenda, safety = self._agenda, self.safety
        next_look = self.now
        while agenda and agenda[0][0] <= end:
            if safety.violation is not None:
                return False
            if reached is not None and agenda[0][0] >= next_look:
                if reached():
                    return True
                next_look = agenda[0][0] + SECOND // 10
            self.now, _, action = heapq.heappop(agenda)
            safety.now = self.now
            action()
        self.now = safety.now = max(self.now, end)
        return False

    def new_machine(self) -> StateMachine:
        """Return a state machine of the user under sessions, as every node runs it."""
        return Sessions(CountingStateMachine(self._machine(), self.replicas), self._limits)

    def next_ticket(self) -> int:
        """Return a ticket, unique in this simulation."""
        self._tickets += 1
        return self._tickets
