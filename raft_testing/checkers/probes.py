"""Probes look at the nodes of a simulation while faults strike, and change nothing.

`Probes` asks nodes for their status and for explanations, and puts events and effects in words; the other two kinds are
in `recorder_probe` and `recovery_probe`. Each has random streams of its own, so that a run is the same without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from raft_core.describe import describe
from raft_core.effects import Effect
from raft_core.events import Event
from raft_core.ids import Index, NodeId
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.recorder import Recorder
from raft_core.state_codec import alike
from raft_testing.checkers.recorder_probe import RecorderProbe
from raft_testing.checkers.recovery_probe import RecoverDisk, RecoveryProbe
from raft_testing.checkers.status import (
    host_contradictions,
    said_wrongly,
    status_contradictions,
    wrong_answers,
    wrong_overview,
)
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["Probes"]

_ASKED_EVERY: Final = 9 * SECOND
_STILL_SHARE: Final = 0.25
"""Share of questions after which the core is compared with a copy made before."""
_READ_WHOLE: Final = 0.02
"""Share of seeds in which every event and effect is described; in others, one step of `_READ_EVERY` is."""
_READ_EVERY: Final = 120
_FAR: Final = 1 << 63
_STRANGER: Final = NodeId(99)


@final
class Probes:
    """All probes of one world.

    The simulation notifies them; they report contradictions as violations. `recover` recovers from quorum loss on a
    disk of this store, or is None.
    """

    def __init__(self, world: World, rng: Rng, recover: RecoverDisk | None) -> None:
        self._world = world
        self._rng = rng.fork("inquirers")
        self._recordings = RecorderProbe(world, rng.fork("recorders"))
        self._recovery = RecoveryProbe(world, rng.fork("rescuers"), recover)
        self._reader_dice = rng.fork("readers")
        self._reads_all = self._reader_dice.chance(_READ_WHOLE)
        self._steps_to_read = 1

    def begin(self) -> None:
        """Ask nodes at random, again and again."""
        self._world.at(self._rng.around(_ASKED_EVERY), self._inquire)

    def recorder_for(self, node: SimulatedNode, step: Callable[[Raft, Event | None], list[Effect]]) -> Recorder | None:
        """Return the recorder of this life of the node, if it has one; `step` replaces the recorded step."""
        return self._recordings.recorder_for(node, step)

    def stepped(self, node: SimulatedNode, event: Event | None, effects: list[Effect]) -> None:
        """Note a step of a core."""
        if node.id in self._recordings.kept:
            self._recordings.kept[node.id].append(effects)
        self._steps_to_read -= 1
        if not self._steps_to_read or self._reads_all:
            self._steps_to_read = self._reader_dice.between(1, 2 * _READ_EVERY)
            self._read(node, (event, *effects))

    def dying(self, node: SimulatedNode) -> None:
        """Probe a node about to end."""
        if self._over:
            return
        self._recordings.look(node, 0.3)
        if self._rng.chance(0.2):
            self._ask(node, announced=False)

    def disk_left(self, node: SimulatedNode) -> None:
        """Probe the disk of a dead node."""
        if not self._over:
            self._recovery.crashed(node)

    def disk_refused(self, node: SimulatedNode) -> None:
        """Try to recover from a disk its node refused as damaged."""
        self._recovery.try_damaged(node)

    def last_look(self, members: Sequence[SimulatedNode]) -> None:
        """Probe the disks at the end of the run."""
        for node in self._world.nodes.values():
            self._recordings.look(node, 1.0)
        self._recovery.compare(members)

    @property
    def _over(self) -> bool:
        return self._world.over or self._world.safety.violation is not None

    # Words.

    def _read(self, node: SimulatedNode, things: Sequence[Event | Effect | None]) -> None:
        safety = self._world.safety
        for thing in things:
            try:
                text = describe(thing)
            except Exception as failure:
                safety.fail(f"node {node.id}: {thing!r} cannot be described: {type(failure).__name__}: {failure}")
                return
            safety.require(text.isprintable() and bool(text), f"node {node.id}: no line is {text!r} of {thing!r}")
        self._world.seen["probes: events and effects in words"] += len(things)

    # Questions.

    def _inquire(self) -> None:
        if self._over:
            return
        node = self._rng.choice(list(self._world.nodes.values()))
        self._ask(node, announced=node.alive)
        self._recordings.look(node, 0.1)
        self._world.at(self._rng.around(_ASKED_EVERY), self._inquire)

    def _ask(self, node: SimulatedNode, *, announced: bool) -> None:
        """Ask a node, alive or dead, for everything it can be asked; a dead one answers for its last state.

        `announced`: its announcements have arrived.
        """
        host, raft = node.host, node.last_raft
        if host is None:
            return
        before = raft.copy() if raft is not None and self._rng.chance(_STILL_SHARE) else None
        try:
            wrong = self._host_says(node, announced) + ([] if raft is None else self._core_says(node, raft))
        except Exception as failure:
            self._complain(node, [f"a question was answered with {type(failure).__name__}: {failure}"])
            return
        if before is not None and not alike(raft, before):
            wrong.append("it is not what it was before it was asked")
        self._world.seen["probes: nodes asked how they are"] += 1
        self._world.seen["probes: cores compared before and after"] += before is not None
        self._complain(node, wrong)

    def _complain(self, node: SimulatedNode, wrong: Sequence[str]) -> None:
        for text in wrong:
            self._world.fail(f"node {node.id}, asked how it is: {text}")

    @staticmethod
    def _host_says(node: SimulatedNode, announced: bool) -> list[str]:
        host, raft = node.host, node.last_raft
        assert host is not None
        status = host.status
        wrong = list(host_contradictions(status, None if raft is None else raft.status))
        standing = node.standing
        if announced and (status.role, status.leader) != (standing.role, standing.leader):
            wrong.append(f"the node says {status.role.value} under {status.leader}, it announced {standing}")
        if announced and standing.term not in (status.term, 0):  # the term of a founding is not announced
            wrong.append(f"the node says term {status.term}, it announced {standing}")
        if status != host.status:
            wrong.append("two looks at one moment differ")
        if host.explain() != (() if raft is None else raft.explain()):
            wrong.append("the node explains other things than its core")
        return wrong

    def _core_says(self, node: SimulatedNode, raft: Raft) -> list[str]:
        rng, status = self._rng, raft.status
        wrong = list(said_wrongly(status))
        if node.alive and not raft.stopped:
            wrong += status_contradictions(status, node.watched)
        wrong += wrong_overview(raft, status, raft.explain())
        places = (status.applied, status.commit, status.commit + 1, status.last_index, status.last_index + 1)
        index = rng.choice((None, *places, 0, -1, 1, status.first_index - 1, _FAR))
        peer = rng.choice(
            (None, *[peer.node for peer in status.peers], *status.members.nodes, status.node, 0, _STRANGER)
        )
        if index is not None or peer is not None:
            found = raft.explain(
                index=None if index is None else Index(index), peer=None if peer is None else NodeId(peer)
            )
            wrong += wrong_answers(raft, status, index, peer, found)
        return wrong
