"""`Operator`: change the members of a cluster while clients write.

It sends RAFT ADD and RAFT REMOVE to any node that answers, as a person would, and repeats them after a temporary
refusal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

import attrs

from raft_kv.demo.cluster import Cluster
from raft_kv.node_client import Failed, NodeConnection

__all__ = ["Operator"]

_PATIENCE: Final = 60.0
_PAUSE: Final = 0.1


@final
@attrs.define(eq=False)
class Operator:
    """Changes the members of a running cluster and reports the outcome."""

    cluster: Cluster
    tell: Callable[[str], None]
    pause: Callable[[], None] = attrs.field(default=lambda: time.sleep(_PAUSE))
    """Waits a little; called repeatedly while waiting."""

    def add(self, node: int) -> None:
        """Start a new process, add it as a learner and wait until it is a voter. Raise `TimeoutError`."""
        began = time.monotonic()
        member = self.cluster.join(node)
        others = [other for other in self.cluster.members if other != node]
        self._insist(others, ("RAFT", "ADD", node, member.peer_address), lambda: self._knows(others, node))
        self._wait(lambda: self._votes(others, node), f"node {node} did not become a voter")
        self.tell(f"node {node} was added, caught up and votes, {time.monotonic() - began:.1f} s after its start")

    def remove(self, node: int) -> None:
        """Remove the node from the configuration. Raise `TimeoutError`."""
        others = [other for other in self.cluster.members if other != node]
        self._insist(others, ("RAFT", "REMOVE", node), lambda: self._gone(others, node))
        self._wait(lambda: self._gone(others, node), f"node {node} was not removed")
        self.tell(f"node {node} was removed")

    def _insist(self, nodes: list[int], words: tuple[str | int, ...], done: Callable[[], bool]) -> None:
        """Repeat the command until it is answered by OK, or `done` is true."""
        deadline, problem, turn = time.monotonic() + _PATIENCE, "", 0
        while time.monotonic() < deadline:
            turn += 1
            try:
                connection = NodeConnection(self.cluster.members[nodes[turn % len(nodes)]].address, 10.0)
                try:
                    reply = connection.say(*words)
                finally:
                    connection.close()
            except Failed as failure:
                reply = failure
            if reply == b"OK" or done():
                return
            problem = str(reply)
            self.pause()
        raise TimeoutError(f"{' '.join(map(str, words))} was not carried out: {problem}")

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(complaint)
            self.pause()

    def _lists(self, nodes: list[int], name: str) -> list[list[object]]:
        """Return the lists under `name` in the status of each of these nodes that answers."""
        statuses = [self.cluster.members[node].status() for node in nodes]
        values = [status[name] for status in statuses if status is not None]
        return [value for value in values if isinstance(value, list)]

    def _votes(self, nodes: list[int], node: int) -> bool:
        """Return whether a majority has the node among its voters and no node is in a joint configuration."""
        votes = sum(node in voters for voters in self._lists(nodes, "voters"))
        return 2 * votes > len(nodes) and not any(self._lists(nodes, "outgoing"))

    def _knows(self, nodes: list[int], node: int) -> bool:
        learners = sum(node in learners for learners in self._lists(nodes, "learners"))
        return 2 * learners > len(nodes) or self._votes(nodes, node)

    def _gone(self, nodes: list[int], node: int) -> bool:
        """Return whether it is in no list of any node that answers."""
        lists = [self._lists(nodes, name) for name in ("voters", "learners", "outgoing")]
        return all(bool(answers) and not any(node in answer for answer in answers) for answers in lists)
