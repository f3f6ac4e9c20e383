"""A cluster of bare cores in one place, moved one step at a time: the shared stage of the core's tests.

Disks that are durable when told, a network that is a list, machines that are lists. No time passes
but by `tick`. Every step is followed by `invariants.check`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

import attrs

from raft_core.effects import Apply, Effect, Persist, ReceiveSnapshot, Respond, Restore, Send, Stop, TakeSnapshot
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    Persisted,
    Proposed,
    Restored,
    SnapshotReceived,
    SnapshotTaken,
    Tick,
)
from raft_core.ids import Index, NodeId, RequestId, WriteId
from raft_core.invariants import check
from raft_core.membership import Members
from raft_core.messages import Message
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.settings import Settings

SMALL = Settings(election_ticks=10, heartbeat_ticks=1, short_ticks=2)


class Disk:
    """What one node has durably, as a model: the meaning of `Persist`, spelled out."""

    def __init__(self, recovered: Recovered) -> None:
        self.first = recovered
        self.hard: HardState = recovered.hard
        self.snapshot: SnapshotMeta | None = recovered.snapshot
        self.entries: dict[int, Entry] = {entry.index: entry for entry in recovered.entries}
        self.boot = int(recovered.boot)

    def write(self, persist: Persist) -> None:
        """The write is durable."""
        if persist.hard is not None:
            self.hard = persist.hard
        if persist.truncate_from:
            self.entries = {i: e for i, e in self.entries.items() if i < persist.truncate_from}
        for entry in persist.entries:
            self.entries[entry.index] = entry
        meta = persist.snapshot
        if meta is not None:
            held = self.entries.get(meta.index)
            if held is None or held.term != meta.term:
                self.entries = {}
            self.snapshot = meta
        if persist.drop_before:
            self.entries = {i: e for i, e in self.entries.items() if i >= persist.drop_before}

    def recover(self) -> Recovered:
        """What a restart finds."""
        self.boot += 1
        base = self.snapshot.index if self.snapshot else 0
        entries = tuple(self.entries[i] for i in sorted(self.entries) if i > base)
        covered = tuple(self.entries[i] for i in sorted(self.entries) if i <= base)
        boot = type(self.first.boot)(self.boot)
        return Recovered(self.first.identity, self.hard, self.snapshot, entries, boot, covered=covered)


class Node:
    """One core, its disk, its machine (a list of what was applied), and what it has answered."""

    def __init__(self, cluster: Cluster, recovered: Recovered, settings: Settings, seed: int) -> None:
        self.cluster = cluster
        self.id = recovered.identity.node
        self.settings = settings
        self.disk = Disk(recovered)
        self.seed = seed
        self.auto_persist = True
        self.snapshots: dict[int, list[tuple[Index, bytes]]] = {}
        self.answers: list[Respond] = []
        self.effects: list[Effect] = []
        self.boot(recovered)

    def boot(self, recovered: Recovered) -> None:
        """The node starts from what its disk holds; its machine lives in memory."""
        self.raft = Raft(self.settings, recovered, random.Random(self.seed))
        self.machine: list[tuple[Index, bytes]] = []
        self.writes: deque[Persist] = deque()
        self.alive = True
        self.step()

    def crash(self) -> None:
        """What was not durable is gone."""
        self.alive = False
        self.writes.clear()
        self.cluster.later = [(node, event) for node, event in self.cluster.later if node is not self]

    def restart(self) -> None:
        self.boot(self.disk.recover())

    def step(self, event: Event | None = None) -> list[Effect]:
        """The event happens, invariants are checked, and every effect but a held-back write is carried out."""
        effects = self.raft.step(event)
        check(self.raft)
        self.effects = effects
        self.cluster.on_step(self)
        for effect in effects:
            self._do(effect)
        if self.auto_persist and self.alive:
            self.persist()
        return effects

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.cluster.network.append((self.id, effect.to, effect.message))
        elif isinstance(effect, Persist):
            self.writes.append(effect)
        elif isinstance(effect, Apply):
            self.machine.extend(effect.commands)
            results = tuple(command for _, command in effect.commands)
            self.cluster.later.append((self, Applied(effect.upto, results)))
        elif isinstance(effect, Respond):
            self.answers.append(effect)
        elif isinstance(effect, TakeSnapshot):
            self.cluster.snapshots[effect.meta.index, effect.meta.term] = list(self.machine)
            self.cluster.later.append((self, SnapshotTaken(effect.meta)))
        elif isinstance(effect, Restore):
            self.machine = list(self.cluster.snapshots[effect.meta.index, effect.meta.term])
            self.cluster.later.append((self, Restored(effect.meta.index)))
        elif isinstance(effect, ReceiveSnapshot):
            if self.cluster.deliver_snapshots:
                self.cluster.later.append((self, SnapshotReceived(effect.meta)))
        elif isinstance(effect, Stop):
            self.alive = False

    def persist(self, count: int = -1) -> None:
        """The oldest `count` writes (-1: all) become durable and are reported."""
        while self.writes and count:
            persist = self.writes.popleft()
            self.disk.write(persist)
            count -= 1
            if self.raft.stopped:
                continue
            self.step(Persisted(WriteId(persist.write)))

    @property
    def data(self) -> list[bytes]:
        """The commands applied so far."""
        return [command for _, command in self.machine]


class Cluster:
    """Nodes and the messages between them, in order."""

    def __init__(
        self,
        count: int = 3,
        *,
        members: Members | None = None,
        settings: Settings = SMALL,
        seed: int = 1,
        recovered: Callable[[int], Recovered] | None = None,
        on_step: Callable[[Node], None] = lambda node: None,
    ) -> None:
        members = members or Members.initial(range(1, count + 1))
        self.network: list[tuple[NodeId, NodeId, Message]] = []
        self.later: list[tuple[Node, Event]] = []
        self.on_step: Callable[[Node], None] = on_step
        self.snapshots: dict[tuple[int, int], list[tuple[Index, bytes]]] = {}
        self.deliver_snapshots = True
        self.cut: set[tuple[int, int]] = set()
        self.settings = settings
        self.seed = seed
        self.nodes: dict[int, Node] = {}
        for node in members.nodes:
            self.add(recovered(node) if recovered else Recovered.fresh(node, members))

    def __getitem__(self, node: int) -> Node:
        return self.nodes[node]

    def add(self, recovered: Recovered, settings: Settings | None = None) -> Node:
        """Another node starts."""
        node = recovered.identity.node
        self.nodes[node] = Node(self, recovered, settings or self.settings, self.seed * 1000 + node)
        return self.nodes[node]

    def joiner(self, node: int) -> Node:
        """A node with an empty disk that waits to be told of its cluster."""
        return self.add(Recovered.fresh(node))

    def local(self) -> bool:
        """Reports that are due are made; true if there were any."""
        found = bool(self.later)
        while self.later:
            node, event = self.later.pop(0)
            if node.alive:
                node.step(event)
        return found

    def deliver(self, keep: Callable[[int, int, Message], bool] = lambda *_: True) -> None:
        """Messages and reports flow until nothing moves; what `keep` refuses, or a cut link carries, is lost."""
        for _ in range(100_000):
            moved = self.local()
            if self.network:
                sender, to, message = self.network.pop(0)
                node = self.nodes.get(to)
                usable = node is not None and node.alive and (sender, to) not in self.cut
                if usable and keep(sender, to, message):
                    assert node is not None
                    node.step(message)
                moved = True
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def tick(self, count: int = 1, nodes: Iterable[int] | None = None) -> None:
        """Time passes for `nodes` (None: all), and everything settles after each tick."""
        for _ in range(count):
            for node in list(self.nodes.values()):
                if node.alive and (nodes is None or node.id in nodes):
                    node.step(Tick())
            self.deliver()

    def elect(self, node: int) -> Node:
        """`node` leads, everything has settled."""
        self[node].step(CampaignRequested())
        self.deliver()
        assert self[node].raft.status.leads, self[node].raft.status
        return self[node]

    def propose(self, node: int, *data: bytes, request: int = 1) -> list[Effect]:
        """`node` is asked to append; nothing is delivered yet."""
        return self[node].step(Proposed(RequestId(request), data))

    def isolate(self, *nodes: int) -> None:
        """Nothing passes between `nodes` and the others."""
        for a in self.nodes:
            for b in self.nodes:
                if (a in nodes) != (b in nodes):
                    self.cut.add((a, b))

    def heal(self) -> None:
        self.cut.clear()

    @property
    def leader(self) -> Node:
        """The one living leader of the highest term."""
        leaders = [n for n in self.nodes.values() if n.alive and n.raft.status.leads]
        assert leaders, "there is no leader"
        return max(leaders, key=lambda n: n.raft.status.term)

    def logs(self) -> dict[int, list[tuple[int, int]]]:
        """(index, term) of every entry held, per node."""
        return {n: [(e.index, e.term) for e in node.raft.log.entries()] for n, node in self.nodes.items()}


def with_settings(**changes: object) -> Settings:
    """`SMALL`, but for these."""
    return attrs.evolve(SMALL, **changes)  # type: ignore[arg-type]


def index(number: int) -> Index:
    return Index(number)
