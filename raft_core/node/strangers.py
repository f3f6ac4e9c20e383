"""Strangers: nodes that greet in the cluster's name, and that neither a configuration nor this node's own one names.

A stranger may be a new node that waits to be added, a voter of a configuration that this node has not received yet, or
anybody who knows the cluster's name and makes up numbers. So strangers are heard, and have an allowance of their own,
which takes nothing from the members: `MOST` of them are remembered, those first that are connected, and one that has
been gone for `_MEMORY` is forgotten. Whatever is kept by a node's number is kept for members and for these alone.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, final

from raft_core.ids import NodeId
from raft_core.node.limits import SECOND, NodeLimits

__all__ = ["MOST", "RoguePeers"]

MOST: Final = 64
_MEMORY: Final = 60 * SECOND
_ANSWERS: Final = 64 * 1024
"""Bytes of answers that wait for one stranger: pongs, and that this node does not lead."""


@final
class RoguePeers:
    """Whom this node remembers without knowing, and since when, the newest last."""

    __slots__ = ("_answers", "_members", "_met", "_named")

    def __init__(self, config: NodeLimits) -> None:
        self._answers: Final = config.request_bytes
        self._named: Final = frozenset((*config.peers, *config.founders))
        self._members: frozenset[NodeId] = frozenset()
        self._met: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._met)

    def is_known(self, node: NodeId) -> bool:
        """The configuration in force names the node, or our own one does."""
        return node in self._members or node in self._named

    def room_for_answers(self, node: NodeId) -> int:
        """Return how many bytes of answers may wait until the node takes them."""
        return self._answers if self.is_known(node) else min(self._answers, _ANSWERS)

    def on_members(self, members: tuple[NodeId, ...], now: int) -> None:
        """This configuration is in force. Who was a member is a stranger from now on, and is forgotten in time."""
        before, self._members = self._members, frozenset(members)
        for node in members:
            self._met.pop(node, None)
        for node in sorted(before - self._members - self._named):
            self._met[node] = now

    def met(self, node: NodeId, now: int, connected: Container[NodeId]) -> NodeId | None:
        """The node has greeted. Return whom to forget for it, if anybody: the oldest of those who are gone, or else of
        all others."""
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
        """Return those who have been gone for long: they are strangers no more, and to be forgotten everywhere."""
        for node in self._met:
            if node in connected:
                self._met[node] = now
        past = [node for node, seen in self._met.items() if now - seen > _MEMORY]
        for node in past:
            del self._met[node]
        return past
