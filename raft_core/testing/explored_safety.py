"""What must hold in every state of an explored cluster (figure 3 of the paper, and what it rests on).

What lives here: the ghost, which remembers what no node has to (who led which term, what was committed and in which
term), and the checks over all nodes. What must hold within one node is in `invariants.check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from raft_core.entries import Entry
from raft_core.ids import NodeId, Term
from raft_core.quorum import quorum_reached
from raft_core.testing.explored_keys import Names, as_bytes, plain, renamed
from raft_core.testing.explored_node import ExploredNode

__all__ = ["Ghost", "check_state", "remember"]


@final
@attrs.frozen
class Ghost:
    """`leaders`: who led, by term. `committed`: every entry that anybody took for committed, with the term of the
    node that did so first."""

    leaders: tuple[tuple[Term, NodeId], ...] = ()
    committed: tuple[tuple[Entry, Term], ...] = ()

    def renamed(self, names: Names) -> bytes:
        """The bytes of the same ghost in a cluster whose nodes are called so."""
        return as_bytes(renamed(plain((self.leaders, self.committed)), names))


def remember(ghost: Ghost, nodes: Sequence[ExploredNode], place: int) -> Ghost | str:
    """The ghost after a step of the node at `place`, or the property that the step broke."""
    node = nodes[place]
    term = node.raft.server.term
    if node.leads and (term, node.name) not in ghost.leaders:
        if any(led == term for led, _ in ghost.leaders):
            return f"election safety (§5.2): two leaders in term {term}"
        for entry, committed_in in ghost.committed:
            if committed_in < term and entry not in node.log:
                return f"leader completeness (§5.4): the leader of term {term} lacks committed entry {entry.index}"
        ghost = attrs.evolve(ghost, leaders=tuple(sorted((*ghost.leaders, (term, node.name)))))
    commit = node.raft.server.commit
    if commit > len(ghost.committed):
        tip = node.log[commit - 1]
        durable = {other.name for other in nodes if tip in other.disk.entries}
        if not quorum_reached(node.raft.server.members, durable.__contains__):  # of the members in force just now
            return f"durability: entry {commit} is committed but durable on no quorum"
        new = tuple((entry, term) for entry in node.log[len(ghost.committed) : commit])
        ghost = attrs.evolve(ghost, committed=(*ghost.committed, *new))
    return ghost


def check_state(ghost: Ghost, nodes: Sequence[ExploredNode], place: int) -> str:
    """The property that the last step, of the node at `place`, broke, or nothing."""
    node = nodes[place]
    commit = node.raft.server.commit
    if node.log[:commit] != tuple(entry for entry, _ in ghost.committed[:commit]):
        return f"state machine safety (§5.4.3): node {node.name} takes other entries for committed"
    for other in nodes:
        if other is not node and not _match(node.log, other.log):
            return f"log matching (§5.3): nodes {node.name} and {other.name} differ before an entry that they share"
    return ""


def _match(one: tuple[Entry, ...], other: tuple[Entry, ...]) -> bool:
    """From the last entry with the same index and term on, everything before is equal."""
    if one == other:
        return True
    for place in range(min(len(one), len(other)), 0, -1):
        if one[place - 1].term == other[place - 1].term:
            return one[:place] == other[:place]
    return True
