"""A cluster of hosts in one process: byte pipes for connections, one virtual clock, no sleeping.

A helper for tests. Every node is a real `NodeCore` with real wire bytes, a real `JobRunner` over a
memory store and a small machine; only the network, the clock and the workers' threads are made up. Deterministic by
seed.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from raft_core.effects import Alarm, RoleChanged, RoleName
from raft_core.errors import RaftError, RequestError
from raft_core.ids import Index, NodeId
from raft_core.node import MILLISECOND, SECOND, JobRunner, NodeCore, NodeLimits, Phase
from raft_core.node.events import (
    Answer,
    Answered,
    BytesReceived,
    Call,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    Dial,
    DialFailed,
    Disconnect,
    Finished,
    NodeEffect,
    NodeEvent,
    Run,
    StopAsked,
    TimerFired,
    Transmit,
    Transmitted,
    WakeAt,
)
from raft_core.node.jobs import Job, Lane
from raft_core.node.outcomes import result_of
from raft_core.node.peers import Peers
from raft_core.requests import Propose, Read, ReadConsistency
from raft_core.settings import Settings
from raft_core.state_machine import preparer
from raft_core.wire import Greeted, encode_payload
from raft_core.wire.payloads import Hello
from raft_storage import MemoryStore

__all__ = ["Cluster", "LogMachine", "Node", "greet"]

LATENCY = MILLISECOND // 2
DISK = MILLISECOND // 5
WALL = 1_700_000_000 * SECOND


def greet(peers: Peers, connection: ConnectionId, hello: Hello) -> None:
    """The greeting arrives, and the host finds no fault with it."""
    for greeted, said in peers.on_bytes(connection, encode_payload(hello)):
        if isinstance(said, Greeted):
            peers.welcome(greeted, said.hello)


class LogMachine:
    """Keeps every command in order. A query `b"len"` gives the count, `b"all"` everything, `b"raise"` raises."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.prepared = 0

    def init(self) -> Index:
        return Index(0)

    def prepare(self, command: bytes, now: int) -> bytes:
        if command == b"unpreparable":
            raise ValueError("no such command")
        self.prepared += 1
        return command

    def apply(self, index: Index, command: bytes) -> bytes:
        if command == b"poison":
            raise RuntimeError("cannot apply")
        self.commands.append(command)
        return b"ok:" + command

    def query(self, request: bytes) -> bytes:
        if request == b"raise":
            raise ValueError("bad query")
        return str(len(self.commands)).encode() if request == b"len" else b",".join(self.commands)

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d:" % len(command) + command for command in self.commands])

    def restore(self, chunks: Iterable[bytes]) -> None:
        data, self.commands = b"".join(chunks), []
        while data:
            length, _, rest = data.partition(b":")
            self.commands.append(rest[: int(length)])
            data = rest[int(length) :]


@dataclass
class Pipe:
    """One end of a connection: whose, under which number, and the other end."""

    node: Node
    number: ConnectionId
    other: Pipe | None = None
    closed: bool = False
    free: int = 0  # when everything sent from this end will have left it, where the line is slow


@dataclass
class Node:
    """One node: what survives a crash (store), and what does not."""

    cluster: Cluster
    id: NodeId
    store: MemoryStore
    config: NodeLimits
    settings: Settings
    machine: LogMachine = field(default_factory=LogMachine)
    host: NodeCore = field(init=False)
    work: JobRunner = field(init=False)
    alive: bool = False
    life: int = 0
    pipes: dict[ConnectionId, Pipe] = field(default_factory=dict)
    lanes: dict[Lane, deque[Job]] = field(default_factory=dict)
    busy: set[Lane] = field(default_factory=set)
    inbox: list[NodeEvent] = field(default_factory=list)
    scheduled: bool = False
    accepted: int = 1
    answers: dict[int, bytes | RequestError] = field(default_factory=dict)
    answered_at: dict[int, int] = field(default_factory=dict)
    finished: Finished | None = None
    announced: list[RoleChanged] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    disk_stalled: bool = False
    wall_offset: int = 0
    effects: list[NodeEffect] = field(default_factory=list)

    def start(self) -> None:
        """A new process on the same disk."""
        assert not self.alive
        self.alive, self.life, self.finished = True, self.life + 1, None
        self.announced, self.alarms = [], []
        self.machine = self.cluster.new_machine()
        if self.life > 1:
            self.store = self.store.reopened()
        self.work = JobRunner(self.store, self.machine)
        seed = self.cluster.seed * 1000 + int(self.id) * 10 + self.life
        self.host = NodeCore(
            self.config,
            self.settings,
            self.store.recover(),
            preparer(self.machine),
            random.Random(seed),
            random.Random(seed + 7),
        )
        self.lanes = {lane: deque() for lane in Lane}
        self.busy, self.inbox, self.pipes, self.scheduled = set(), [], {}, False
        self.tell(TimerFired())

    def tell(self, *events: NodeEvent) -> None:
        """The events are handled at this very moment, with whatever else happens in it."""
        self.inbox.extend(events)
        if not self.scheduled:
            self.scheduled = True
            self.cluster.at(0, self, self._handle)

    def _handle(self) -> None:
        self.scheduled = False
        events, self.inbox = self.inbox, []
        wall = WALL + self.cluster.now + self.wall_offset
        for effect in self.host.handle(events, self.cluster.now, wall):
            self.effects.append(effect)
            self._do(effect)

    def _do(self, effect: NodeEffect) -> None:
        if isinstance(effect, Dial):
            self.cluster.dial(self, effect)
        elif isinstance(effect, Transmit):
            self.cluster.transmit(self, effect)
        elif isinstance(effect, Disconnect):
            self.cluster.close(self, effect.connection)
        elif isinstance(effect, WakeAt):
            self.cluster.at(effect.at - self.cluster.now, self, lambda: self.tell(TimerFired()))
        elif isinstance(effect, Run):
            self.lanes[effect.lane].append(effect.job)
            self._work(effect.lane)
        elif isinstance(effect, Answer):
            assert isinstance(effect.ticket, int)
            assert effect.ticket not in self.answers, "a ticket is answered once"
            self.answers[effect.ticket] = reply_of(effect.outcome, self.host)
            self.answered_at[effect.ticket] = self.cluster.now
        elif isinstance(effect, RoleChanged):
            self.announced.append(effect)
        elif isinstance(effect, Alarm):
            self.alarms.append(effect)
        else:
            assert isinstance(effect, Finished)
            self.finished = effect
            self.cluster.crash(self.id)

    def _work(self, lane: Lane) -> None:
        stalled = lane is Lane.WRITE and self.disk_stalled
        if not self.alive or lane in self.busy or not self.lanes[lane] or stalled:
            return
        self.busy.add(lane)

        def run() -> None:
            jobs = list(self.lanes[lane])
            self.lanes[lane].clear()
            self.busy.discard(lane)
            reports = self.work.run(lane, jobs)
            if reports:
                self.tell(*reports)
            self._work(lane)

        self.cluster.at(DISK if lane is not Lane.APPLY else 0, self, run)

    def stall_disk(self, stalled: bool) -> None:
        self.disk_stalled = stalled
        self._work(Lane.WRITE)

    @property
    def role(self) -> RoleName:
        return self.announced[-1].role if self.announced else RoleName.FOLLOWER

    @property
    def leader(self) -> NodeId:
        return self.announced[-1].leader if self.announced else NodeId(0)

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.host.status.drops)

    # What a caller does.

    def propose(self, command: bytes, *, timeout: int = 0) -> int:
        ticket = self.cluster.next_ticket()
        self.tell(Call(ticket, Propose(command), self.cluster.now + timeout if timeout else 0))
        return ticket

    def ask(self, request: bytes, *, timeout: int = 0) -> int:
        ticket = self.cluster.next_ticket()
        deadline = self.cluster.now + timeout if timeout else 0
        self.tell(Call(ticket, Read(ReadConsistency.LINEARIZABLE, 0, request), deadline))
        return ticket


class Cluster:
    """Nodes 1 … n with addresses "n1" …, all founders unless `joiners` names them."""

    def __init__(
        self,
        count: int = 3,
        *,
        seed: int = 1,
        settings: Settings | None = None,
        joiners: Sequence[int] = (),
        new_machine: Callable[[], LogMachine] = LogMachine,
        **config: object,
    ) -> None:
        self.seed = seed
        self.new_machine = new_machine
        self.now = 0
        self.settings = settings or Settings()
        self.nodes: dict[NodeId, Node] = {}
        self.cut: set[frozenset[NodeId]] = set()
        self.silent: set[NodeId] = set()  # without power: says nothing, not even that a connection is closed
        self._queue: list[tuple[int, int, Node | None, int, Callable[[], None]]] = []
        self._made = 0
        self._tickets = 0
        self._config = config
        founders = tuple(NodeId(n) for n in range(1, count + 1) if n not in joiners)
        for number in range(1, count + 1):
            self.add(number, () if number in joiners else founders, count)

    def add(self, number: int, founders: tuple[NodeId, ...], count: int, *, incarnation: int = 0) -> Node:
        """A node with an empty disk, not started yet."""
        node = NodeId(number)
        peers = {NodeId(n): f"n{n}" for n in range(1, count + 1) if n != number}
        config = NodeLimits(address=f"n{number}", peers=peers, founders=founders, **self._config)  # type: ignore[arg-type]
        store = MemoryStore(number, "test", incarnation=incarnation or 1000 + number)
        self.nodes[node] = Node(self, node, store, config, self.settings)
        return self.nodes[node]

    def __getitem__(self, number: int) -> Node:
        return self.nodes[NodeId(number)]

    def next_ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    # Time.

    def at(self, delay: int, node: Node | None, action: Callable[[], None]) -> None:
        """The action is done after `delay`, unless its node has died by then."""
        self._made += 1
        life = node.life if node is not None else 0
        heapq.heappush(self._queue, (self.now + max(0, delay), self._made, node, life, action))

    def run(self, duration: int) -> None:
        """That much time has passed."""
        self.run_until(lambda: False, within=duration, must=False)

    def run_until(self, reached: Callable[[], bool], *, within: int = 10 * SECOND, must: bool = True) -> None:
        """The condition holds; fails where it does not within that time."""
        end = self.now + within
        while not reached():
            if not self._queue or self._queue[0][0] > end:
                self.now = end
                assert not must, f"not reached within {within / SECOND} s"
                return
            self.now, _, node, life, action = heapq.heappop(self._queue)
            if node is None or (node.alive and node.life == life):
                action()

    # Nodes.

    def start(self, *numbers: int) -> None:
        for node in self.nodes.values():
            if not numbers or node.id in numbers:
                node.start()

    def leader(self) -> Node | None:
        """The one node that leads in the highest term, where a majority of the living follows it."""
        leaders = [n for n in self.nodes.values() if n.alive and n.role is RoleName.LEADER]
        return max(leaders, key=lambda n: n.announced[-1].term, default=None)

    def elect(self) -> Node:
        """A leader, known to every living node."""

        def settled() -> bool:
            leader = self.leader()
            return leader is not None and all(
                n.leader == leader.id for n in self.nodes.values() if n.alive and n.id not in self.silent
            )

        self.run_until(settled)
        leader = self.leader()
        assert leader is not None
        return leader

    def elect_among(self, *numbers: int) -> Node:
        """A leader, known to these nodes."""
        self.run_until(lambda: self.leader() is not None and len({self[n].leader for n in numbers}) == 1)
        leader = self.leader()
        assert leader is not None
        return leader

    def followers_among(self, *numbers: int) -> list[Node]:
        leader = self.elect_among(*numbers)
        return [self[number] for number in numbers if self[number] is not leader]

    def followers(self) -> list[Node]:
        leader = self.elect()
        return [node for node in self.nodes.values() if node.alive and node is not leader]

    def crash(self, number: int) -> None:
        """The process is gone; the operating system closes its connections."""
        node = self[number]
        for connection in list(node.pipes):
            self.close(node, connection)
        node.alive = False

    def lose_power(self, number: int) -> None:
        """Remove the node without closing its connections."""
        self.silent.add(NodeId(number))
        self[number].alive = False

    def stop(self, number: int) -> None:
        self[number].tell(StopAsked())

    # The network.

    def partition(self, one: int, other: int) -> None:
        """Nothing passes between the two, and their connections break."""
        self.cut.add(frozenset((NodeId(one), NodeId(other))))
        for node in (self[one], self[other]):
            for pipe in list(node.pipes.values()):
                if pipe.other is not None and self._is_cut(pipe.node, pipe.other.node):
                    self.close(node, pipe.number)
                    self.at(0, node, lambda n=node, c=pipe.number: n.tell(ConnectionClosed(c)))  # type: ignore[misc]

    def isolate(self, number: int) -> None:
        for other in self.nodes:
            if other != number:
                self.partition(number, other)

    def heal(self) -> None:
        self.cut.clear()

    def _is_cut(self, one: Node, other: Node) -> bool:
        return frozenset((one.id, other.id)) in self.cut or bool({one.id, other.id} & self.silent)

    def connect_stranger(self, number: int, data: bytes) -> ConnectionId:
        """Open a connection from a stranger, and send these bytes."""
        node = self[number]
        connection = self._accept(node)
        node.pipes[connection] = Pipe(node, connection)
        node.tell(ConnectionOpened(connection, accepted=True), BytesReceived(connection, data))
        return connection

    def _accept(self, node: Node) -> ConnectionId:
        node.accepted += 2
        return ConnectionId(node.accepted)

    def dial(self, node: Node, effect: Dial) -> None:
        target = next((n for n in self.nodes.values() if n.config.address == effect.address), None)
        near = Pipe(node, effect.connection)
        node.pipes[effect.connection] = near

        def arrive() -> None:
            if near.closed:
                return
            if target is None or not target.alive or self._is_cut(node, target):
                node.pipes.pop(effect.connection, None)
                node.tell(DialFailed(effect.connection, "refused"))
                return
            far = Pipe(target, self._accept(target), near)
            near.other = far
            target.pipes[far.number] = far
            target.tell(ConnectionOpened(far.number, accepted=True))
            node.tell(ConnectionOpened(effect.connection, accepted=False))

        self.at(LATENCY, node, arrive)

    def transmit(self, node: Node, effect: Transmit) -> None:
        pipe = node.pipes.get(effect.connection)
        if pipe is None:
            return
        self.at(1000, node, lambda: node.tell(Transmitted(effect.connection)))
        far = pipe.other
        if far is None:
            return

        def arrive() -> None:
            if not far.closed and not self._is_cut(node, far.node):
                far.node.tell(BytesReceived(far.number, effect.data))

        self.at(LATENCY, far.node, arrive)

    def close(self, node: Node, connection: ConnectionId) -> None:
        """This end is closed; the other end hears of it, where there is a way."""
        pipe = node.pipes.pop(connection, None)
        if pipe is None:
            return
        pipe.closed = True
        far = pipe.other
        if far is None or far.closed or self._is_cut(node, far.node):
            return

        def hear() -> None:
            if not far.closed:
                far.closed = True
                far.node.pipes.pop(far.number, None)
                far.node.tell(ConnectionClosed(far.number))

        self.at(LATENCY, far.node, hear)

    # Conditions.

    def wait(self, node: Node, *tickets: int, within: int = 10 * SECOND) -> list[bytes | RequestError]:
        """The answers, once all are there."""
        self.run_until(lambda: self.answered(node, *tickets), within=within)
        return [node.answers[ticket] for ticket in tickets]

    def answered(self, node: Node, *tickets: int) -> bool:
        return all(ticket in node.answers for ticket in tickets)

    def converged(self) -> bool:
        """Every living node's machine has the same commands."""
        machines = [node.machine.commands for node in self.nodes.values() if node.alive]
        return all(commands == machines[0] for commands in machines)

    def running(self) -> bool:
        return all(n.host.status.phase is Phase.RUNNING for n in self.nodes.values() if n.alive)


def reply_of(outcome: Answered, host: NodeCore) -> bytes | RequestError:
    """What the caller would get: the result, or the exception."""
    try:
        return result_of(outcome, host.address_of)
    except RequestError as error:
        return error


def error_of(node: Node, ticket: int) -> RaftError:
    """The error that the ticket was answered with."""
    answer = node.answers[ticket]
    assert isinstance(answer, RequestError), f"answered with {answer!r}"
    return answer
