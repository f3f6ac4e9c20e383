"""A whole cluster in one process, under fire, in virtual time: same seed, same run, to the byte.

What lives here: `Simulation`, which holds the parts together and moves time. Real `Raft` inside real `NodeCore`, real
wire bytes over simulated connections, real bytes of the log on a simulated disk, the user's state machine under real
sessions; only time, the network, the disk's medium and the clients are made up.

A run has three phases: under fire, while safety is checked after every step of every core; in peace, when within a
stated bound there must be one leader, every client must be answered and all members must be equal; and a last look,
at which every acknowledged command must be on every member, and every disk must give back what it held.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.effects import Effect, RoleName, Send
from raft_core.errors import DiskError
from raft_core.events import Event
from raft_core.ids import Incarnation, NodeId
from raft_core.membership import Members
from raft_core.node.jobs import Lane, Ticket
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.quorum import quorum_reached
from raft_core.raft import Raft
from raft_core.sessions import Sessions
from raft_core.settings import Settings
from raft_core.state_machine import StateMachine
from raft_core.store import Store
from raft_core.wire.codec import encode_message
from raft_testing.checkers.probes import Probes, Salvage
from raft_testing.checkers.reference_model import ModelMismatch
from raft_testing.checkers.safety import SafetyChecker, Violation
from raft_testing.checkers.state_machine import CountingStateMachine, ReplicaChecker
from raft_testing.disk.crash_disk import CrashDisk
from raft_testing.faults.catalogue import ENDS_PROCESSES, Fault, Profile
from raft_testing.faults.nemesis import Nemesis
from raft_testing.linearizability.checker import Decision, check
from raft_testing.linearizability.history import HistoryRecorder, Operation, OperationId
from raft_testing.rng import Rng
from raft_testing.sim.network import Network
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.random_config import (
    address_of,
    draw_config,
    draw_leases,
    draw_limits,
    draw_settings,
    node_limits,
    unlike,
)
from raft_testing.stamps import Stamps
from raft_testing.trace.records import RecordKind, Tracer
from raft_testing.workloads.client import SimulatedClient
from raft_testing.workloads.registers import Asked, ReadsTheLog, Workload, result_bytes

__all__ = ["OpenStore", "Simulation"]

OpenStore: TypeAlias = Callable[[CrashDisk, NodeId, Incarnation], Store]
"""Opens the store of a node on its disk, which is formatted with that incarnation if it is empty."""

_PERIODS: Final = 3
"""Of `Profile.liveness`, for as long as logs grow in each."""
_UNLIKE_SHARE: Final = 0.25
"""In so many seeds nodes have settings of their own."""
_LIMIT: Final = 200_000
"""Configurations that the history checker may look at per key."""
_FRAMES: Final = 8
"""Of the traceback of an exception so many are shown."""


@final
class Simulation:
    """One seed. `run` does everything; afterwards the counters and `overseer.violation` tell what came of it."""

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
        salvage: Salvage | None = None,
    ) -> None:
        self.seed = seed
        self.profile = profile
        self.workload = workload
        self.now = 0
        self.over = False
        self.seen: Counter[str] = Counter()
        self.history = HistoryRecorder()
        self.sent: dict[OperationId, tuple[Asked, bytes]] = {}
        self.digest = hashlib.blake2b(digest_size=16) if digest else None
        self.nodes: dict[NodeId, SimulatedNode] = {}
        self._machine = machine
        self._open_store = open_store
        self._tracer = tracer
        self._rng = rng = Rng(seed)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._made = 0
        self._tickets = 0
        self.operations = 0
        self._peace = False
        self._closing = False
        self._written: list[bytes] = []
        self._in_flight: dict[tuple[NodeId, NodeId, bytes], int] = {}
        self.overseer = SafetyChecker(rng.fork("checks"), 1.0 if rng.chance(0.01) else profile.purity)
        self.stamps = Stamps(lambda: self.now, self.overseer.fail, lambda: self.overseer.seen["elections won"])
        self.testimony = ReplicaChecker(self.overseer.fail, self.stamps)
        self.network = Network(rng.fork("network"), self.at, lambda: self.now)
        self.network.latency = rng.choice((MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND))
        self.network.jitter = self.network.latency * rng.choice((0, 1, 3))
        self.network.cut_pieces = rng.chance(0.2)
        self._write_time = rng.choice((1, 3, 10)) * MILLISECOND
        self.leases_asked = profile.leases
        self.profile = profile = draw_leases(rng.fork("leases"), profile)
        self._settings = draw_settings(rng.fork("settings"), profile)
        self._unlike = rng.fork("unlike").chance(_UNLIKE_SHARE)
        self._config = draw_config(rng.fork("config"), profile, self._settings, result_bytes(workload))
        self._limits = draw_limits(rng.fork("limits"))
        self._founders = tuple(NodeId(n) for n in range(1, rng.choice((1, 2, 3, 3, 3, 3, 5, 5)) + 1))
        self.nemesis = Nemesis(self, rng.fork("nemesis"), only)
        self.stamps.alike = self.nemesis.clocks_alike
        self.stamps.steady = self.stamps.alike and not any(fault in ENDS_PROCESSES for fault in self.nemesis.chosen)
        self.onlookers = Probes(self, rng.fork("onlookers"), salvage)
        for _ in self._founders:
            self.new_node(self._founders)
        self.clients = [
            SimulatedClient(self, number, rng.fork(f"client {number}"), with_session=number % 4 != 3)
            for number in range(profile.clients)
        ]

    # What the parts ask for.

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """The action is done after `delay`."""
        self._made += 1
        heapq.heappush(self._queue, (self.now + delay, self._made, action))

    def new_node(self, founders: tuple[NodeId, ...] = ()) -> SimulatedNode:
        """A node with a new id and an empty disk, not started; without founders it waits to be added."""
        node = NodeId(len(self.nodes) + 1)
        config = node_limits(node, (*self._founders, *self.nodes), founders, self._settings, self._config)
        made = SimulatedNode(
            self, node, Incarnation(1000 + node), config, self._settings, self._rng.fork(f"node {node}")
        )
        self.nodes[node] = made
        self.network.place(config.address, made)
        return made

    def settings_for(self, node: SimulatedNode) -> Settings:
        """Return what the node is started with: what all have, or its own."""
        if not self._unlike:
            return self._settings
        self.seen["started with settings of its own"] += 1
        return unlike(node.rng.fork(f"settings {node.life}"), self._settings)

    def replace_disk(self, node: SimulatedNode, death: Death) -> None:
        """The node dies, and its disk is another one from now on, an empty one."""
        node.die(death)
        node.disk = CrashDisk()
        node.wiped = True
        self.overseer.lost(node.watched)
        node.incarnation = Incarnation(node.incarnation + 1_000_000)
        if node.config.founders == (node.id,):  # told to found alone again, it would: operators must not tell it so
            peers = {peer: address_of(peer) for peer in self.nodes if peer != node.id}
            node.config = attrs.evolve(node.config, founders=(), peers=peers)
        node.watched = self.overseer.watch(node.id, node.incarnation)

    def open_store(self, disk: CrashDisk, node: NodeId, incarnation: Incarnation) -> Store:
        return self._open_store(disk, node, incarnation)

    def new_machine(self) -> StateMachine:
        return Sessions(CountingStateMachine(self._machine(), self.testimony), self._limits)

    def next_ticket(self) -> Ticket:
        self._tickets += 1
        return Ticket(self._tickets)

    def next_operation(self) -> int:
        """The number of the operation that begins. Who falls behind, because operations take time, thinks less."""
        self.operations += 1
        left = self.profile.operations - self.operations
        if not self._peace and left > 0:
            spread = (self.profile.chaos - self.now) * len(self.clients) // left
            for client in self.clients:
                client.think = max(client.think // 4, min(client.think, spread))
        return self.operations

    def may_begin(self) -> bool:
        """Clients go on: evenly spread under fire, and in peace until each has been answered."""
        if self._peace:
            return not self._closing
        return self.operations < self.profile.operations

    def doors(self) -> list[SimulatedNode]:
        """Whom a client may ask: anybody under fire, members in peace."""
        alive = [node for node in self.nodes.values() if node.alive]
        leader = self.leader()
        if self._peace and leader is not None and leader.raft is not None:
            members = leader.raft.members
            return [node for node in alive if members.is_member(node.id)]
        return alive

    def duration(self, node: SimulatedNode, lane: Lane) -> int:
        """How long a worker takes for what it has begun."""
        if lane is Lane.WRITE:
            return node.slow_disk + node.rng.around(self._write_time)
        if lane is Lane.APPLY:
            return node.rng.below(3) * MILLISECOND
        return node.rng.around(5 * self._write_time)

    def note_written(self, command: bytes, answer: bytes) -> None:
        """A client was told that this command is applied."""
        self._written.append(command)
        self.testimony.told(command, answer)

    def leader(self) -> SimulatedNode | None:
        """The living leader of the highest term."""
        leaders = [node for node in self.nodes.values() if node.alive and node.standing.role is RoleName.LEADER]
        return max(leaders, key=lambda node: node.standing.term, default=None)

    def bears_loss_of(self, lost: set[NodeId]) -> bool:
        """Every configuration that may be in force keeps a majority of sound disks in each half; and none is new."""
        configurations: dict[int, Members] = {}
        for node in self.nodes.values():
            for index, members in self._configurations_of(node):
                if index > self.overseer.committed:
                    return False
                configurations[index] = members
        if not configurations:
            return False
        newest = configurations[max(configurations)]
        if newest.joint:
            return False
        recent = [configurations[index] for index in sorted(configurations)[-2:]]
        return all(quorum_reached(members, lambda node: node not in lost) for members in recent)

    @staticmethod
    def _configurations_of(node: SimulatedNode) -> list[tuple[int, Members]]:
        stable = node.watched.stable
        found: list[tuple[int, Members]] = []
        if stable.snapshot is not None:
            found.append((stable.snapshot.members_index or stable.snapshot.index, stable.snapshot.members))
        log = node.watched.log
        for index in log.configurations:
            found.append((index, Members.decode(log.entries[index - log.base - 1].data)))
        return found

    # Recording.

    def record_step(self, node: SimulatedNode, raft: Raft, event: Event | None, effects: list[Effect]) -> None:
        """For traces and for comparing two runs."""
        if self.digest is not None:
            self.digest.update(b"%d %d " % (self.now, node.id))
            self.digest.update(msgspec.msgpack.encode(event))
            self.digest.update(msgspec.msgpack.encode(effects))
        if self._tracer is None:
            return
        received = 0
        if event is not None and hasattr(event, "sender"):
            received = self._in_flight.get((event.sender, node.id, encode_message(event)), 0)  # type: ignore[arg-type]
        numbers = self._tracer.stepped(self.now, node.id, raft, event, effects, received)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        for number, send in zip(numbers, sends, strict=True):
            self._in_flight[node.id, send.to, encode_message(send.message)] = number

    def record_life(self, node: SimulatedNode, text: str) -> None:
        if self._tracer is not None:
            kind = RecordKind.RESTART if text == "started" else RecordKind.CRASH
            self._tracer.happened(self.now, kind, text, node.id)
        if text.startswith("died") and not self.over:
            self.seen[f"node {text}"] += 1
            if text == "died: ended":
                self.nemesis.revive(node)

    def record_note(self, text: str) -> None:
        if self._tracer is not None:
            self._tracer.happened(self.now, RecordKind.NOTE, text)

    # The run.

    def run(self) -> Violation | None:
        """All phases; the first violation, if there is one. What the user's machine, store or workload raise, where it
        stops the simulation, is one too: no exception comes out."""
        try:
            self._all_phases()
        except Exception as failure:
            self.overseer.fail(_told(failure))
        self.over = True
        if self.digest is not None:
            self.testimony.sum_up(self.digest.update)
        if self.overseer.violation is not None and self._tracer is not None and self._tracer.records:
            self._tracer.violated(self.overseer.violation.text, self.overseer.violation.moment)
        return self.overseer.violation

    def _all_phases(self) -> None:
        self.nemesis.found(list(self.nodes.values()))
        spread = self.profile.chaos * self.profile.clients // max(1, self.profile.operations)
        for client in self.clients:
            client.think = spread
            client.start()
        self.at(SECOND, self.nemesis.begin)
        self.onlookers.begin()
        self._run_until(self.profile.chaos)
        if self.overseer.violation is None:
            self._make_peace()
        if self.overseer.violation is None:
            self._last_look()

    def _run_until(self, end: int, reached: Callable[[], bool] | None = None) -> bool:
        """Time has come to `end`, or the condition holds (looked at every tenth of a second)."""
        queue, overseer = self._queue, self.overseer
        next_look = self.now
        while queue and queue[0][0] <= end:
            if overseer.violation is not None:
                return False
            if reached is not None and queue[0][0] >= next_look:
                if reached():
                    return True
                next_look = queue[0][0] + SECOND // 10
            self.now, _, action = heapq.heappop(queue)
            overseer.now = self.now
            action()
        self.now = overseer.now = max(self.now, end)
        return False

    def _make_peace(self) -> None:
        """Faults stop: within the bound there is one leader, everybody is answered, all members are equal."""
        self.nemesis.end()
        self._peace = True
        before = {client: client.answered for client in self.clients}
        for client in self.clients:
            client.think = SECOND // 10
        begun, end = self.now, self.now + self.profile.liveness

        def at_peace() -> bool:
            answered = all(client.answered > before[client] for client in self.clients)
            if answered and (self.operations >= self.profile.operations or self.now > (begun + end) // 2):
                self._closing = True
            return self._closing and all(client.idle for client in self.clients) and self._converged() is None

        for _ in range(_PERIODS):  # a backlog drains as slowly as the windows let it; standing still is not peace
            moved = self._moved()
            if self._run_until(max(end, self.now + self.profile.liveness), at_peace):
                self.seen["virtual seconds until all was well"] += (self.now - begun) // SECOND
                return
            if self.overseer.violation is not None:
                return
            if self._moved() == moved:
                break
        silent = [n for n, client in enumerate(self.clients) if client.answered == before[client] or not client.idle]
        why = self._converged() or f"clients {silent} wait for an answer, after {self.operations} operations"
        self.overseer.fail(f"no peace {(self.now - begun) // SECOND} s after the last fault: {why}")

    def _moved(self) -> tuple[int, list[int]]:
        """How far entries have come. Those of earlier terms may all have to arrive before one is committed (§5.4.2)."""
        return self.overseer.committed, [node.watched.stable.last for node in self._sound()]

    def _converged(self) -> str | None:
        """None where one leader leads and all its members stand where it stands; otherwise what is missing."""
        leaders = [node for node in self._sound() if node.standing.role is RoleName.LEADER]
        if len(leaders) != 1:
            return f"{len(leaders)} nodes lead"
        leader = leaders[0]
        raft = leader.raft
        if raft is None or raft.members.joint:
            return "the configuration is joint"
        commit = raft.server.commit
        if commit != self.overseer.committed or raft.log.last_index > commit:
            return "the leader's log is not committed"
        for number in raft.members.nodes:
            node = self.nodes[number]
            if node.retired or node.wiped:
                continue
            core = node.raft
            if core is None or core.server.applied != commit:
                return f"node {number} has not applied {commit}"
        return None

    def _sound(self) -> list[SimulatedNode]:
        return [node for node in self.nodes.values() if node.alive and not node.wiped]

    # The last look.

    def _last_look(self) -> None:
        overseer = self.overseer
        leader = self.leader()
        assert leader is not None
        assert leader.raft is not None
        members = [self.nodes[number] for number in leader.raft.members.nodes]
        members = [node for node in members if node.alive and not node.wiped]
        digests = {node.witness.digest() for node in members if node.witness is not None}
        if self.digest is not None:
            self.digest.update(b"".join(sorted(digests)))
        overseer.require(len(digests) == 1, f"the machines of {[node.id for node in members]} differ in the end")
        self._scan_writes(members)
        for node in members:
            overseer.all_answered(node.watched)
            self._scan_disk(node)
        self.onlookers.last_look(members)
        verdict = check(self._history(), self.workload.model, limit=_LIMIT)
        if verdict.decision is Decision.VIOLATED:
            overseer.fail(str(verdict), moment=verdict.failures[0].blocked.returned_at)
        self.seen[f"history {verdict.decision.value}"] += 1

    def _history(self) -> tuple[Operation, ...]:
        """Return what clients saw, with arguments as they stood in the log where the workload's model wants that."""
        history = self.history.history()
        workload = self.workload
        if not isinstance(workload, ReadsTheLog):
            return history
        told = list(history)
        for number, (asked, command) in self.sent.items():
            logged = self.testimony.logged(command)
            if logged is not None:
                told[number] = msgspec.structs.replace(told[number], argument=workload.as_logged(asked, logged))
        return tuple(told)

    def _scan_writes(self, members: list[SimulatedNode]) -> None:
        """Every acknowledged command was applied, at a place that every member's state covers."""
        for command in self._written:
            place = self.testimony.place_of(command)
            if not place:
                self.overseer.fail(f"an acknowledged command was never applied: {command!r}")
                return
            for node in members:
                assert node.witness is not None
                covered = node.witness.last >= place and self.testimony.chain(node.witness.last) == node.witness.chain
                self.overseer.require(covered, f"node {node.id} lacks the acknowledged command at index {place}")
        self.seen["acknowledged commands found on every member"] += len(self._written)

    def _scan_disk(self, node: SimulatedNode) -> None:
        """The machine loses power, and the disk gives back everything."""
        node.die(Death.POWER_CLEAN)
        try:
            recovered = self._open_store(node.disk, node.id, node.incarnation).recover()
            node.watched.stable.recovered(recovered)
        except (DiskError, ModelMismatch) as failure:
            self.overseer.fail(f"node {node.id}: {failure}")
            return
        index = self.overseer.committed
        base = recovered.snapshot.index if recovered.snapshot is not None else 0
        last = recovered.entries[-1].index if recovered.entries else base
        self.overseer.require(last >= index, f"the disk of node {node.id} ends at {last}, {index} is committed")


def _told(failure: Exception) -> str:
    """What was raised, and where: the last frames, which are the user's where the user's code raised."""
    frames: list[str] = []
    trace = failure.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"  {code.co_filename}, line {trace.tb_lineno}, in {code.co_name}")
        trace = trace.tb_next
    return "\n".join([f"{type(failure).__name__} was raised: {failure}", *frames[-_FRAMES:]])
