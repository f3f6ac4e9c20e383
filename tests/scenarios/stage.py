"""A cluster that tells what happens to it: the stage of the scripts.

Narration, and the ways to move messages one by one. What is routine is told only where something
visible follows from it: heartbeats, announcements of the commit index, ticks, and reports of disk and machine.
Messages are told when they arrive or are lost, not when they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raft_core.describe import describe, describe_entry, describe_members
from raft_core.effects import Alarm, Effect, Persist, Send
from raft_core.events import Applied, Event, Persisted, Restored, SnapshotTaken, Tick
from raft_core.membership import Members
from raft_core.messages import DATA, AppendEntries, AppendReply, Message
from raft_core.recovered import Recovered
from raft_core.settings import Settings
from tests.core.cluster import Cluster, Node
from tests.core.test_chaos import Watch

__all__ = ["Stage", "TellingNode"]

ROUTINE = (Applied, Persisted, Restored, SnapshotTaken, Tick)


class TellingNode(Node):
    """A node of the test cluster that tells its steps."""

    def step(self, event: Event | None = None) -> list[Effect]:
        assert isinstance(self.cluster, Stage)
        self.cluster.begins(self, event)
        return super().step(event)


class Stage(Cluster):
    """Every step is checked for the invariants of one core and for figure 3 over all of them."""

    def __init__(
        self,
        members: Members,
        settings: Settings,
        own: Mapping[int, Settings],
        recovered: Callable[[int], Recovered],
    ) -> None:
        self.own = own
        self.told: list[str] = []
        self.quiet = False
        self.kept: list[tuple[int, int, Message]] = []
        self.alarms: dict[int, list[Alarm]] = {}
        self._event: Event | None = None
        self.watch = Watch()
        super().__init__(members=members, settings=settings, recovered=recovered, on_step=self._stepped)

    def add(self, recovered: Recovered, settings: Settings | None = None) -> Node:
        node = recovered.identity.node
        self.nodes[node] = TellingNode(
            self, recovered, settings or self.own.get(node, self.settings), self.seed * 1000 + node
        )
        return self.nodes[node]

    # Telling.

    def tell(self, text: str) -> None:
        """One line of the narration."""
        if not self.quiet:
            self.told.append(f"    {text}")

    def begins(self, node: Node, event: Event | None) -> None:
        """`node` is about to take `event`."""
        self._event = event

    def _stepped(self, node: Node) -> None:
        self.watch.look(node)
        self.alarms.setdefault(node.id, []).extend(effect for effect in node.effects if isinstance(effect, Alarm))
        lines = [f"  {describe(effect)}" for effect in node.effects if _visible(node, effect)]
        if lines or not _routine(self._event):
            self.tell(f"{node.id} {describe(self._event)}")
        for line in lines:
            self.tell(line)

    def _lost(self, sender: int, to: int, message: Message) -> None:
        if not _routine(message):
            self.tell(f"lost on the way to {to}, {describe(message)}")

    # Moving messages.

    def deliver(self, keep: Callable[[int, int, Message], bool] = lambda *_: True) -> None:
        """Messages and reports flow until nothing moves; what a cut link carries is lost."""
        for _ in range(20_000):
            moved = self.local()
            if self.network:
                self._hand_over(*self.network.pop(0))
                moved = True
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def _hand_over(self, sender: int, to: int, message: Message) -> None:
        node = self.nodes.get(to)
        if node is None or not node.alive or (sender, to) in self.cut:
            self._lost(sender, to, message)
        else:
            node.step(message)

    def take(self, sender: int | None, to: int | None, count: int = -1) -> list[tuple[int, int, Message]]:
        """The oldest `count` messages on these links (None: any end) are in flight no more."""
        found: list[tuple[int, int, Message]] = []
        left: list[tuple[int, int, Message]] = []
        for item in self.network:
            wanted = sender in (None, item[0]) and to in (None, item[1]) and count != 0
            (found if wanted else left).append(item)
            count -= wanted
        self.network = left  # type: ignore[assignment]
        return found

    def pass_on(self, sender: int | None, to: int | None, count: int = -1) -> None:
        """What is in flight on these links arrives; what follows from it stays in flight."""
        for item in self.take(sender, to, count):
            self._hand_over(*item)

    def lose(self, sender: int | None, to: int | None, count: int = -1) -> None:
        """What is in flight on these links is lost."""
        for item in self.take(sender, to, count):
            self._lost(*item)

    # Pictures.

    def show(self, number: int) -> None:
        """The node's state in one line, its log in a second."""
        node = self.nodes[number]
        if not node.alive:
            self.tell(f"{number}: down")
            return
        status = node.raft.status
        self.tell(
            f"{number}: {status.role.value}, term {status.term}, vote {status.vote or 'nobody'}, leader "
            f"{status.leader or 'unknown'}, commit {status.commit}, applied {status.applied}, "
            f"{describe_members(status.members)}"
        )
        entries = " ".join(describe_entry(entry).partition("(")[0] for entry in node.raft.log.entries())
        start = f"snapshot {status.snapshot_index} | " if status.first_index > 1 else ""
        self.tell(f"   log {start}{entries}")


def _visible(node: Node, effect: Effect) -> bool:
    if isinstance(effect, Persist):
        return not node.auto_persist
    return not isinstance(effect, Send)


def _routine(event: Event | None) -> bool:
    if isinstance(event, AppendEntries | AppendReply):
        return event.purpose is not DATA
    return event is None or isinstance(event, ROUTINE)
