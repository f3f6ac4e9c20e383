"""Wrong configurations, as on the first day.

`Misconfigurations`: contradictory numbers, a disk under another node's name, a store with an impossible state. Each
must be refused with a typed error, before anything else happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import final

import attrs

from raft_core.effects import Stop, StopReason
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DiskError, RaftStopped, SettingsError
from raft_core.events import Tick
from raft_core.ids import Index, NodeId, Term
from raft_core.membership import Members
from raft_core.node.config import NodeConfig
from raft_core.node.core import NodeCore
from raft_core.node.driver import host_at
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.faults.damage import blank
from raft_testing.rng import Rng
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.world import World

__all__ = ["Misconfigurations"]


@final
class Misconfigurations:
    """What goes wrong at starts, in one world. `start` starts a node, again and again until its disk opens."""

    def __init__(self, world: World, start: Callable[[SimulatedNode], None]) -> None:
        self._world = world
        self._start = start

    # A start with nonsense.

    def misconfigure(self, node: SimulatedNode, rng: Rng) -> bool:
        """Start this node wrongly in several ways, each of which is refused, and then as it should be."""
        node.die(Death.KILLED)
        self._open_as_another(node)
        self._join_as_no_founder(node)
        self._start_what_cannot_be(node)
        self._world.at(rng.around(SECOND), lambda: self._start(node))
        return True

    def _must_raise(self, mistake: str, call: Callable[[], object], *expected: type[Exception]) -> None:
        try:
            call()
        except expected:
            return
        names = " or ".join(error.__name__ for error in expected)
        self._world.fail(f"a mistake was not an error: {mistake} was to raise {names}")

    def _open_as_another(self, node: SimulatedNode) -> None:
        """Open a whole disk under another node's name: refused, and left as it is."""
        if node.harmed or node.disk.capacity is not None or not node.disk.listing():
            return
        disk = node.disk.twin()
        before = {name: disk.content(name) for name in disk.listing()}
        other = NodeId(node.id + 100)
        mistake = f"opening the disk of node {node.id} as node {other}"
        self._must_raise(mistake, lambda: self._world.open_store(disk, other, node.incarnation), DiskError)
        after = {name: disk.content(name) for name in disk.listing()}
        kept = all(after.get(name) == content for name, content in before.items())
        self._world.require(kept, f"a refused opening has changed the disk of node {node.id}")

    def _join_as_no_founder(self, node: SimulatedNode) -> None:
        """Start an empty disk as a founder not named by the others."""
        config = attrs.evolve(node.config, founders=(NodeId(node.id + 1),))
        rng = random.Random(0)
        empty = Recovered.fresh(node.id)
        mistake = f"founding with node {node.id}, which is no founder,"
        self._must_raise(
            mistake, lambda: NodeCore(config, node.settings, empty, lambda c, now, wall: c, rng, rng), CallerError
        )
        founded = Recovered.fresh(node.id, Members.initial((node.id,), leases=node.config.leases))
        host = NodeCore(
            config, node.settings, founded, lambda c, now, wall: c, rng, rng
        )  # it has been part of a cluster before
        host.handle([], 0, 0)
        self._must_raise("asking for what was not recorded", host.recording, CallerError)

    def open_damaged(self, node: SimulatedNode, harm: Callable[[CrashDisk, Rng], bool], rng: Rng) -> None:
        """Open a damaged copy of the node's disk: the damage is found, or the recovered state is equal."""
        survived = node.disk.crash(range(node.disk.unsynced))
        harmed = survived.twin()
        try:
            whole = self._contents(survived, node)
        except DiskError:
            return  # it waits for nothing but to be opened again
        if not harm(harmed, rng):
            return
        try:
            found = self._contents(harmed, node)
        except DiskError:
            self._world.seen["damage found on a copy of a disk"] += 1
            return
        self._world.require(
            found == whole,
            f"node {node.id}: damage to a copy of its disk made it say something else",
        )

    def open_blanked(self, node: SimulatedNode, rng: Rng) -> None:
        """Open a copy of the node's disk with one sector of zeros.

        If the sector may never have been written, the state before it is recovered. Nothing of a later term may appear,
        and the log has no gap.
        """
        survived = node.disk.crash(range(node.disk.unsynced))
        disk = survived.twin()
        try:
            most = self._contents(survived, node)[0].term
        except DiskError:
            return  # it waits for nothing but to be opened again
        if not blank(disk, rng):
            return
        try:
            hard, _, entries, _ = self._contents(disk, node)
        except DiskError:
            self._world.seen["missing sector found on a copy of a disk"] += 1
            return
        places = [entry.index for entry in entries]
        whole = places == list(range(places[0], places[0] + len(places))) if places else True
        self._world.require(
            whole and hard.term <= most,
            f"node {node.id}: a copy of its disk without one sector says what was never written",
        )

    def _contents(
        self, disk: CrashDisk, node: SimulatedNode
    ) -> tuple[HardState, SnapshotMeta | None, tuple[Entry, ...], bytes]:
        store = self._world.open_store(disk, node.id, node.incarnation)
        recovered = store.recover()
        state = b""
        if recovered.snapshot is not None:
            reader = store.open_snapshot(recovered.snapshot)
            state = b"".join(reader.chunks())
            reader.close()
        return recovered.hard, recovered.snapshot, recovered.entries, state

    def _start_what_cannot_be(self, node: SimulatedNode) -> None:
        """Start a core from a state no honest store returns: it ends, or does not start."""
        if node.harmed or node.disk.capacity is not None:
            return
        disk = node.disk.twin()
        try:
            recovered = self._world.open_store(disk, node.id, node.incarnation).recover()
        except DiskError:
            return  # its damage is told when the node itself is started
        self._run_beside(node, recovered)
        members = Raft(node.settings, recovered, random.Random(0)).members
        settings = attrs.evolve(node.settings, lease_reads=not members.leases, pre_vote=True, check_quorum=True)
        if members.leases:
            settings = attrs.evolve(settings, pre_vote=False)
        if not members.empty:
            mistake = f"starting node {node.id} with another mind about leases than its members"
            self._must_raise(mistake, lambda: Raft(settings, recovered, random.Random(0)), SettingsError)
        stranger = attrs.evolve(recovered, identity=attrs.evolve(recovered.identity, node=NodeId(0)))
        mistake = "starting the core of node 0"
        self._must_raise(mistake, lambda: Raft(node.settings, stranger, random.Random(0)), SettingsError)
        last = recovered.entries[-1].index if recovered.entries else Index(0)
        if last:
            self._must_stop(node, attrs.evolve(recovered, applied=Index(last + 1)))
            self._must_stop(node, attrs.evolve(recovered, hard=HardState(Term(0))))
            self._must_stop(node, attrs.evolve(recovered, entries=(), hard=HardState(Term(9), commit=last)))

    def _run_beside(self, node: SimulatedNode, recovered: Recovered) -> None:
        """Run a node made as adapters make it, on a copy of the disk, recorded: it starts in the disk's state."""
        config = NodeConfig(
            node.id,
            {node.id: node.address},
            cluster=recovered.identity.cluster,
            join=True,
            data="disk",
            settings=node.settings,
            limits=node.config,
            recorder_bytes=100_000,
        )
        machine = self._world.new_machine()
        host = host_at(node.address, config, recovered, machine, seed=node.id)
        host.handle([], 0, 0)
        status = host.status
        alone = set(Raft(node.settings, recovered, random.Random(0)).members.voters) == {node.id}
        term = recovered.hard.term + (status.term > recovered.hard.term and alone)  # a sole voter campaigns at once
        right = (status.node, status.term) == (node.id, term) and bool(host.recording())
        self._world.require(right, f"node {node.id} does not stand where its disk says")

    def _must_stop(self, node: SimulatedNode, recovered: Recovered) -> None:
        core = Raft(node.settings, recovered, random.Random(0))
        effects = core.copy().step(Tick())
        self._world.require(effects == core.step(), f"node {node.id} ticked on a disk that lost something")
        stops = [effect.reason for effect in effects if isinstance(effect, Stop)]
        self._world.require(stops == [StopReason.LOG_LOST], f"node {node.id} started on a disk that had lost something")
        self._must_raise("a tick after the end", lambda: core.step(Tick()), RaftStopped)


def _as_it_is(command: bytes, now: int, wall: int) -> bytes:
    """Prepare nothing."""
    return command
