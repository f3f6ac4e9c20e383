"""`Notices`: rare alarms of a node: that it listens without TLS, the nodes it waits for, that it was removed."""

from __future__ import annotations

from typing import Final, final

from raft_core.effects import Alarm, AlarmKind
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.raft import Raft

__all__ = ["Notices"]

_FIRST: Final = 3 * SECOND
"""Every node waits this long at first, without an alarm."""
_AGAIN: Final = 60 * SECOND


@final
class Notices:
    """Alarms about this node's own place in the cluster."""

    __slots__ = ("_clients", "_config", "_due", "_me", "_orders", "_peers", "_removed_at")

    def __init__(self, config: NodeLimits, me: NodeId, orders: Outputs, peers: Peers, clients: RequestBook) -> None:
        self._config = config
        self._me = me
        self._orders = orders
        self._peers = peers
        self._clients = clients
        self._due = 0
        self._removed_at = NO_INDEX

    def at_start(self) -> None:
        """Say that the peer port is open to a network without TLS, at every start."""
        if self._config.exposed:
            text = f"this node listens for peers at {self._config.exposed} without TLS (insecure): every machine that"
            self._alarm(AlarmKind.INSECURE, f"{text} reaches the port can read and change the data; set up TLS")

    def look(self, now: int, raft: Raft | None) -> None:
        """Raise a due alarm. Refuse the clients of a removed node at once."""
        if raft is not None and not raft.members.empty:
            self._look_for_removal(now, raft)
            return
        self._due = self._due or now + _FIRST
        if now >= self._due:
            self._due = now + _AGAIN
            self._alarm(AlarmKind.WAITING, self._of_founder() if raft is None else self._of_joiner())

    def _look_for_removal(self, now: int, raft: Raft) -> None:
        """Notice a removal without proof.

        After a restart, a removed node may never learn that its removal was committed. It is assumed after a while. If
        the node is added again, `RequestBook` learns the members and resumes.
        """
        at = raft.server.configurations.removal_of(self._me)
        self._due = self._due or now + _FIRST
        if not at:
            self._due = 0
        elif at <= raft.server.commit or now >= self._due:
            self._removed(at)

    def _removed(self, at: Index) -> None:
        text = f"node {self._me} was removed from the cluster by entry {at} of the log"
        self._clients.on_removed(f"{text}; ask a member")
        if at != self._removed_at:
            self._removed_at = at
            self._alarm(AlarmKind.REMOVED, f"{text}. It serves no client any more and can be stopped")

    def _alarm(self, kind: AlarmKind, text: str) -> None:
        self._orders.effects.append(Alarm(kind, NO_NODE, text))

    def _met(self) -> list[NodeId]:
        """Return the nodes that have greeted this node on an open connection of either direction."""
        return [peer.node for peer in self._peers.status() if peer.connected or peer.heard]

    def _of_founder(self) -> str:
        met, peers = self._met(), self._peers
        missing = [node for node in self._config.founders if node not in met and node != self._me]
        if not missing:
            return "the cluster is not founded yet: all founders are heard, but they have not agreed; see their alarms"
        told = ", and ".join(f"node {node} ({peers.addresses.complaint(node)})" for node in missing)
        return f"the cluster is not founded yet: this waits for all founders, and these are not heard: {told}"

    def _of_joiner(self) -> str:
        peers = self._peers
        if met := self._met():
            names = ", ".join(map(str, met))
            return f"this node waits until a member adds it to the cluster; it is in touch with node {names}"
        known = [f"node {node} ({peers.addresses.complaint(node)})" for node, _ in peers.addresses.known()]
        return f"this node waits until a member adds it to the cluster, but it has reached no one: {', '.join(known)}"
