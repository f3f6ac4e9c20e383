"""`RoguePeers`: unknown nodes that greet with the cluster's name but are in no known configuration.

An unknown node may be a new node that waits to be added, a voter of a configuration that this node has not received
yet, or any process that knows the cluster's name and makes up ids. So unknown nodes are heard, within a limit of their
own that takes nothing from the members: `MOST` of them are remembered, connected ones first, and one that has been gone
for `_MEMORY` is forgotten. State by node id is kept only for members and for these.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.peer_connection import Connection

__all__ = ["MOST", "RoguePeers"]

MOST: Final = 64
_MEMORY: Final = 60 * SECOND
_ANSWERS: Final = 64 * 1024
"""Bytes of answers that wait for one stranger: pongs, and that this node does not lead."""


@final
class RoguePeers:
    """The unknown nodes remembered by this node, with times, the newest last."""

    __slots__ = ("_answers", "_config", "_members", "_met", "_named")

    def __init__(self, config: NodeLimits) -> None:
        self._config: Final = config
        self._answers: Final = config.request_bytes
        self._named: Final = frozenset((*config.peers, *config.founders))
        self._members: frozenset[NodeId] = frozenset()
        self._met: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._met)

    def is_known(self, node: NodeId) -> bool:
        """Return whether the configuration in force or our own contains the node."""
        return node in self._members or node in self._named

    def room_for_answers(self, node: NodeId) -> int:
        """Return how many bytes of answers may wait until the node takes them."""
        return self._answers if self.is_known(node) else min(self._answers, _ANSWERS)

    def leave_no_room(self, accepted: Sequence[Connection]) -> bool:
        """Return whether these accepted connections reach a limit: of all, or of those without a greeting."""
        return len(accepted) >= self._config.max_connections or self._ungreeted_are_many(accepted)

    def spare(self, accepted: Sequence[Connection]) -> Connection | None:
        """Return which accepted connection to close for a new one, if any.

        The oldest without a greeting where those are too many, else the oldest that is no known peer's.
        """
        if self._ungreeted_are_many(accepted):
            return next(c for c in accepted if not c.greeted)
        return next((c for c in accepted if not (c.greeted and self.is_known(c.peer))), None)

    def _ungreeted_are_many(self, accepted: Sequence[Connection]) -> bool:
        return sum(not c.greeted for c in accepted) >= self._config.max_ungreeted

    def on_members(self, members: tuple[NodeId, ...], now: int) -> None:
        """Adopt this configuration. Former members are unknown from now on, and are forgotten in time."""
        before, self._members = self._members, frozenset(members)
        for node in members:
            self._met.pop(node, None)
        for node in sorted(before - self._members - self._named):
            self._met[node] = now

    def met(self, node: NodeId, now: int, connected: Container[NodeId]) -> NodeId | None:
        """Record a greeting.

        Return the node to forget in its favour, or None: the oldest of those gone, or else the oldest of all others.
        """
        if self.is_known(node):
            return None
        self._met.pop(node, None)
        gone = None
        if len(self._met) >= MOST:
            gone = next((other for other in self._met if other not in connected), next(iter(self._met)))
            del self._met[gone]
        self._met[node] = now
        return gone

    def past(self, now: int, connected: Container[NodeId]) -> list[NodeId]:
        """Remove and return the nodes that have been gone for long: they are to be forgotten everywhere."""
        for node in self._met:
            if node in connected:
                self._met[node] = now
        past = [node for node, seen in self._met.items() if now - seen > _MEMORY]
        for node in past:
            del self._met[node]
        return past
