"""The operations of all simulated clients of a run: number, pace and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import msgspec

from raft_core.node.limits import MILLISECOND, SECOND
from raft_testing.faults.catalogue import Profile
from raft_testing.linearizability.history import HistoryRecorder, Operation, OperationId
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World
from raft_testing.workloads.registers import Asked, ReadsTheIndex, ReadsTheLog, Workload

__all__ = ["Traffic"]

_LEAST: Final = MILLISECOND
"""Least time to think. With none at all, clients that wait would hold virtual time for ever."""


@final
class Traffic:
    """The pace and the history of a run's operations.

    While faults strike, the operations of the profile are spread evenly over the time. Afterwards clients go on until
    `close`. `think`: mean nanoseconds between two operations of a client. `written`: the commands whose clients were
    told that they are applied.
    """

    def __init__(self, world: World, workload: Workload, profile: Profile) -> None:
        self.workload = workload
        self.recorder = HistoryRecorder()
        self.sent: dict[OperationId, tuple[Asked, bytes]] = {}
        self.written: list[bytes] = []
        self.operations = 0
        self.think = profile.chaos * profile.clients // max(1, profile.operations)
        self._world = world
        self._profile = profile
        self._faults_ended = False
        self._closed = False

    @property
    def complete(self) -> bool:
        """Whether the clients have begun as many operations as the profile wants."""
        return self.operations >= self._profile.operations

    @property
    def closed(self) -> bool:
        """Whether no client begins anything more."""
        return self._closed

    def next_operation(self) -> int:
        """Return the number of the operation that begins. Clients that are behind schedule think less from now on."""
        self.operations += 1
        left = self._profile.operations - self.operations
        if not self._faults_ended and left > 0:
            spread = (self._profile.chaos - self._world.now) * self._profile.clients // left
            self.think = max(_LEAST, self.think // 4, min(self.think, spread))
        return self.operations

    def may_begin(self) -> bool:
        """Return whether a client may begin another operation."""
        return not self._closed if self._faults_ended else not self.complete

    def faults_ended(self) -> None:
        """Work fast from now on, and with members only."""
        self._faults_ended = True
        self.think = SECOND // 10

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def doors(self) -> Sequence[SimulatedNode]:
        """Return the nodes that a client may ask: any living one under fire, living members afterwards."""
        alive = self._world.alive()
        leader = self._world.leader()
        if self._faults_ended and leader is not None and leader.raft is not None:
            members = leader.raft.members
            return [node for node in alive if members.is_member(node.id)]
        return alive

    def note_written(self, command: bytes, answer: bytes) -> None:
        """Remember that a client was told that this command is applied."""
        self.written.append(command)
        self._world.replicas.told(command, answer)

    def history(self) -> tuple[Operation, ...]:
        """Return the clients' history, with arguments from the log if the workload's model needs them."""
        history, workload, replicas = self.recorder.history(), self.workload, self._world.replicas
        if not isinstance(workload, ReadsTheIndex | ReadsTheLog):
            return history
        told = list(history)
        for number, (asked, command) in self.sent.items():
            logged = replicas.logged(command)
            if logged is None:
                continue
            if isinstance(workload, ReadsTheIndex):
                argument = workload.as_placed(asked, replicas.carried_out_at(command), logged)
            else:
                argument = workload.as_logged(asked, logged)
            told[number] = msgspec.structs.replace(told[number], argument=argument)
        return tuple(told)
