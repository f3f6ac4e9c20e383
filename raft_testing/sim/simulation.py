"""A whole cluster in one process, with faults, in virtual time: the same seed is the same run, to the byte.

Real `Raft` inside real `NodeCore`, real wire bytes over simulated connections, real bytes of the log on a simulated
disk, the user's state machine under real sessions. Only time, the network, the medium of the disk and the clients are
simulated.

A run has three phases. First faults strike, and safety is checked after every step of every core. Then faults stop:
within a stated bound there must be one leader, every client must be answered and all members must be equal. At last
every acknowledged command must be on every member, and every disk must return what it held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from raft_core.effects import RoleName
from raft_core.errors import DiskError
from raft_core.ids import Incarnation, NodeId
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.state_machine import StateMachine, unanswered
from raft_testing.checkers.probes import Probes
from raft_testing.checkers.recovery_probe import RecoverDisk
from raft_testing.checkers.reference_model import ModelMismatch
from raft_testing.checkers.safety import SafetyChecker, Violation
from raft_testing.faults.catalogue import ENDS_PROCESSES, Fault, Profile
from raft_testing.faults.nemesis import Nemesis
from raft_testing.linearizability.checker import Decision, check
from raft_testing.rng import Rng
from raft_testing.sim.client_operations import around, in_words, named_operations
from raft_testing.sim.environment import OpenStore
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.random_config import draw_config, draw_leases, draw_limits, draw_settings, node_limits
from raft_testing.sim.recording import RunRecording
from raft_testing.sim.world import World
from raft_testing.trace.records import Tracer
from raft_testing.workloads.client import SimulatedClient
from raft_testing.workloads.registers import ChecksPromises, TellsOperations, Workload, result_bytes
from raft_testing.workloads.traffic import Traffic

__all__ = ["OpenStore", "Simulation"]

_PERIODS: Final = 3
"""How often `Profile.liveness` is granted while logs still grow."""
_UNLIKE_SHARE: Final = 0.25
"""Share of seeds in which every node has settings of its own."""
_LIMIT: Final = 200_000
"""Most configurations for the linearizability checker to examine per key."""
_FRAMES: Final = 8
"""Frames of a traceback in the text of a violation."""


@final
class Simulation:
    """One seed. `run` does everything; afterwards the parts have the counters, and `safety.violation` the verdict."""

    def __init__(
        self,
        seed: int,
        *,
        machine: Callable[[], StateMachine],
        workload: Workload,
        open_store: OpenStore,
        profile: Profile,
        only: frozenset[Fault] | None = None,
        tracer: Tracer | None = None,
        digest: bool = False,
        recover: RecoverDisk | None = None,
    ) -> None:
        self._rng = rng = Rng(seed)
        self.recording = RunRecording(tracer, digest=digest)
        self.safety = SafetyChecker(rng.fork("checks"), 1.0 if rng.chance(0.01) else profile.purity)
        limits = draw_limits(rng.fork("limits"))
        self.world = world = World(rng, self.safety, self.recording, machine, limits, open_store, self._make_node)
        world.network.latency = rng.choice((MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND))
        world.network.jitter = world.network.latency * rng.choice((0, 1, 3))
        world.network.cut_pieces = rng.chance(0.2)
        self._write_time = rng.choice((1, 3, 10)) * MILLISECOND
        clocks_may_differ = profile.leases and only is not None
        self.profile = profile = draw_leases(rng.fork("leases"), profile)
        self._settings = draw_settings(rng.fork("settings"), profile)
        self._unlike = rng.fork("unlike").chance(_UNLIKE_SHARE)
        self._config = draw_config(rng.fork("config"), profile, self._settings, result_bytes(workload))
        self._founders = tuple(NodeId(n) for n in range(1, rng.choice((1, 2, 3, 3, 3, 3, 5, 5)) + 1))
        self.nemesis = Nemesis(world, profile, rng.fork("nemesis"), only, clocks_may_differ=clocks_may_differ)
        world.cluster_time.alike = self.nemesis.clocks_alike
        world.cluster_time.steady = self.nemesis.clocks_alike and not ENDS_PROCESSES & {*self.nemesis.chosen}
        self.probes = Probes(world, rng.fork("onlookers"), recover)
        for _ in self._founders:
            world.new_node(self._founders)
        self.traffic = Traffic(world, workload, profile)
        without_session = (1, 3) if unanswered(world.new_machine()) else (3,)  # its shorter way is for their commands
        self.clients = [
            SimulatedClient(
                world,
                self.traffic,
                number,
                rng.fork(f"client {number}"),
                with_session=number % 4 not in without_session,
            )
            for number in range(profile.clients)
        ]

    def _make_node(self, node: NodeId, founders: tuple[NodeId, ...]) -> SimulatedNode:
        known = (*self._founders, *self.world.nodes)
        return SimulatedNode(
            self.world,
            self.probes,
            self.nemesis.targets.revive,
            node,
            Incarnation(1000 + node),
            node_limits(node, known, founders, self._settings, self._config),
            self._settings,
            self._rng.fork(f"node {node}"),
            write_time=self._write_time,
            unlike=self._unlike,
            mixed=Fault.RELEASES in self.nemesis.chosen,
        )

    def run(self) -> Violation | None:
        """Run all phases. Return the first violation.

        Exceptions of the user's machine, store or workload are violations as well; none is raised.
        """
        try:
            self._all_phases()
        except Exception as failure:
            self.safety.fail(_told(failure))
        self.world.over = True
        self.world.replicas.sum_up(self.recording.add)
        if self.safety.violation is not None:
            self.recording.violated(self.safety.violation.text, self.safety.violation.moment)
        return self.safety.violation

    def _all_phases(self) -> None:
        self.nemesis.found(list(self.world.nodes.values()))
        for client in self.clients:
            client.start()
        self.world.at(SECOND, self.nemesis.begin)
        self.probes.begin()
        self.world.run_until(self.profile.chaos)
        if self.safety.violation is None:
            self._end_faults()
        if self.safety.violation is None:
            self._check_the_end()

    def _end_faults(self) -> None:
        """Stop faults. Within the bound there is one leader, every client is answered, all members are equal."""
        world, traffic = self.world, self.traffic
        self.nemesis.end()
        traffic.faults_ended()
        before = {client: client.answered for client in self.clients}
        begun, end = world.now, world.now + self.profile.liveness

        def recovered() -> bool:
            answered = all(client.answered > before[client] for client in self.clients)
            if answered and (traffic.complete or world.now > (begun + end) // 2):
                traffic.close()
            return traffic.closed and all(client.idle for client in self.clients) and self._converged() is None

        for _ in range(_PERIODS):  # a backlog drains as slowly as the windows let it: wait while anything moves
            moved = self._moved()
            if world.run_until(max(end, world.now + self.profile.liveness), recovered):
                world.seen["virtual seconds until all was well"] += (world.now - begun) // SECOND
                return
            if self.safety.violation is not None:
                return
            if self._moved() == moved:
                break
        silent = [n for n, client in enumerate(self.clients) if client.answered == before[client] or not client.idle]
        why = self._converged() or f"clients {silent} wait for an answer, after {traffic.operations} operations"
        self.safety.fail(f"did not converge within {(world.now - begun) // SECOND} s after the last fault: {why}")

    def _moved(self) -> tuple[int, list[int]]:
        """Return how far entries have come. All of earlier terms may have to arrive before one commits (§5.4.2)."""
        return self.safety.committed, [node.watched.stable.last for node in self._sound()]

    def _converged(self) -> str | None:
        """Return why members differ or there is no single leader; None if all is well."""
        leaders = [node for node in self._sound() if node.standing.role is RoleName.LEADER]
        if len(leaders) != 1:
            return f"{len(leaders)} nodes lead"
        leader = leaders[0]
        raft = leader.raft
        if raft is None or raft.members.joint:
            return "the configuration is joint"
        commit = raft.server.commit
        if commit != self.safety.committed or raft.log.last_index > commit:
            return "the leader's log is not committed"
        for number in raft.members.nodes:
            node = self.world.nodes[number]
            if node.retired or node.wiped:
                continue
            core = node.raft
            if core is None or core.server.pipeline.applied != commit:
                return f"node {number} has not applied {commit}"
        return None

    def _sound(self) -> list[SimulatedNode]:
        return [node for node in self.world.alive() if not node.wiped]

    # The end.

    def _check_the_end(self) -> None:
        safety = self.safety
        leader = self.world.leader()
        assert leader is not None
        assert leader.raft is not None
        members = [self.world.nodes[number] for number in leader.raft.members.nodes]
        members = [node for node in members if node.alive and not node.wiped]
        digests = {node.witness.digest() for node in members if node.witness is not None}
        self.recording.add(b"".join(sorted(digests)))
        safety.require(len(digests) == 1, f"the machines of {[node.id for node in members]} differ in the end")
        self._check_acknowledged(members)
        machine = members[0].witness.users_machine if members[0].witness is not None else None
        for node in members:
            safety.all_answered(node.watched)
            self._check_disk(node)
        self.probes.last_look(members)
        verdict = check(self.traffic.history(), self.traffic.workload.model, limit=_LIMIT)
        if verdict.decision is Decision.VIOLATED:
            stuck = verdict.failures[0]
            told = [str(verdict)]
            if isinstance(self.traffic.workload, TellsOperations):
                told.append(around(stuck, self.traffic.workload.in_words))
            safety.fail("\n\n".join(told), moment=stuck.blocked.returned_at)
        self.world.seen[f"history {verdict.decision.value}"] += 1
        if isinstance(self.traffic.workload, ChecksPromises) and machine is not None:
            history = self.traffic.history()
            for text in self.traffic.workload.broken_promises(history, machine)[:1]:
                safety.fail(f"{text}\n{named_operations(text, history, in_words(self.traffic.workload))}")
            self.world.seen["promise of the workload checked"] += 1

    def _check_acknowledged(self, members: list[SimulatedNode]) -> None:
        """Check every acknowledged command: it was applied, and every member's state covers its index."""
        replicas = self.world.replicas
        for command in self.traffic.written:
            place = replicas.place_of(command)
            if not place:
                self.safety.fail(f"an acknowledged command was never applied: {command!r}")
                return
            for node in members:
                assert node.witness is not None
                covered = node.witness.last >= place and replicas.chain(node.witness.last) == node.witness.chain
                self.safety.require(covered, f"node {node.id} lacks the acknowledged command at index {place}")
        self.world.seen["acknowledged commands found on every member"] += len(self.traffic.written)

    def _check_disk(self, node: SimulatedNode) -> None:
        """Cut the power, and check the recovered contents of the disk."""
        node.die(Death.POWER_CLEAN)
        try:
            recovered = self.world.open_store(node.disk, node.id, node.incarnation).recover()
            node.watched.stable.recovered(recovered)
        except (DiskError, ModelMismatch) as failure:
            self.safety.fail(f"node {node.id}: {failure}")
            return
        index = self.safety.committed
        base = recovered.snapshot.index if recovered.snapshot is not None else 0
        last = recovered.entries[-1].index if recovered.entries else base
        self.safety.require(last >= index, f"the disk of node {node.id} ends at {last}, {index} is committed")


def _told(failure: Exception) -> str:
    """Return the exception with its last frames, which are the user's if the user's code raised."""
    frames: list[str] = []
    trace = failure.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"  {code.co_filename}, line {trace.tb_lineno}, in {code.co_name}")
        trace = trace.tb_next
    return "\n".join([f"{type(failure).__name__} was raised: {failure}", *frames[-_FRAMES:]])
