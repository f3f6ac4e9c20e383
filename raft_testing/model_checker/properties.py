"""The properties that hold in every state of an explored cluster (figure 3 of the paper, and its foundations).

The ghost remembers facts that no node keeps (the leader of each term, the committed entries and their terms). The
checks are over all nodes, and over one step of one node. The invariants within one node are in `raft_core.invariants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import attrs

from raft_core.entries import MEMBERS, Entry
from raft_core.ids import NodeId, Term
from raft_core.membership import Members
from raft_testing.checkers.reference_model import majority_of_each_half
from raft_testing.model_checker.canonical import Names, as_bytes, plain, renamed
from raft_testing.model_checker.node import ExploredNode

__all__ = ["CHECKED", "Ghost", "check_state", "check_step", "remember"]

CHECKED: Final = (
    "election safety: at most one leader in a term, ever",
    "one vote per node and term, restarts included",
    "leader completeness: a new leader has everything that was committed in earlier terms",
    "leader append-only: a log only grows while its node leads",
    "log matching and state machine safety",
    "at most one uncommitted change of members in any log",
    "durability: what is first taken for committed is on the disks of a quorum, of each half of a joint configuration",
    "a node uses a feature only when a committed entry enables it, and never stops using one",
    "no node's term or commit index goes back; no core raises, or stops for no reason",
    "every invariant of a single core (raft_core.invariants)",
)
"""What holds in every state, or after every step, of a search that found no violation."""


@final
@attrs.frozen
class Ghost:
    """The facts of the past that the properties need.

    `leaders`: the leader of each term. `committed`: every entry that some node took for committed, with the term of the
    first such node.
    """

    leaders: tuple[tuple[Term, NodeId], ...] = ()
    committed: tuple[tuple[Entry, Term], ...] = ()

    def renamed(self, names: Names) -> bytes:
        """Return the bytes of the same ghost in a cluster with these names."""
        return as_bytes(renamed(plain((self.leaders, self.committed)), names))


def remember(ghost: Ghost, nodes: Sequence[ExploredNode], place: int) -> Ghost | str:
    """Return the ghost after a step of the node at `place`, or the property that the step broke."""
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
        members = node.raft.server.members  # in force just now
        if not majority_of_each_half(members, durable.__contains__):
            return f"durability: entry {commit} is committed but durable on no quorum"
        new = tuple((entry, term) for entry in node.log[len(ghost.committed) : commit])
        ghost = attrs.evolve(ghost, committed=(*ghost.committed, *new))
    return ghost


def check_state(ghost: Ghost, nodes: Sequence[ExploredNode], place: int) -> str:
    """Return the property that the last step, of the node at `place`, broke; "" if none."""
    node = nodes[place]
    commit = node.raft.server.commit
    if node.log[:commit] != tuple(entry for entry, _ in ghost.committed[:commit]):
        return f"state machine safety (§5.4.3): node {node.name} takes other entries for committed"
    for other in nodes:
        if other is not node and not _match(node.log, other.log):
            return f"log matching (§5.3): nodes {node.name} and {other.name} differ before an entry that they share"
    changes = [entry.index for entry in node.log[len(ghost.committed) :] if entry.kind is MEMBERS]
    if len(changes) > 1:
        return f"one change of members at a time (thesis 4.1): node {node.name} holds those at {changes}, uncommitted"
    return _unfounded_features(ghost, node)


def _unfounded_features(ghost: Ghost, node: ExploredNode) -> str:
    """Return the violation if the node uses a feature that no committed entry enables; "" if not."""
    used = node.raft.features
    if not used:
        return ""
    committed = [Members.decode(entry.data).features for entry, _ in ghost.committed if entry.kind is MEMBERS]
    if set(used) <= {feature for features in committed for feature in features}:
        return ""
    return f"features: node {node.name} uses {used}, which no committed entry enables"


def check_step(before: ExploredNode, after: ExploredNode) -> str:
    """Return the property that this step of one node broke, "" if none. A restart breaks none."""
    old, new = before.raft.server, after.raft.server
    if new.term < old.term or new.commit < old.commit:
        return f"node {after.name} went back from term {old.term}, commit {old.commit} to {new.term}, {new.commit}"
    if not set(before.raft.features) <= set(after.raft.features):
        return f"features: node {after.name} has stopped using one of {before.raft.features}"
    if before.leads and after.leads and new.term == old.term and after.log[: len(before.log)] != before.log:
        return f"leader append-only (§5.3): node {after.name} changed its own log in term {new.term}"
    return ""


def _match(one: tuple[Entry, ...], other: tuple[Entry, ...]) -> bool:
    """From the last entry with the same index and term on, everything before is equal."""
    if one == other:
        return True
    for place in range(min(len(one), len(other)), 0, -1):
        if one[place - 1].term == other[place - 1].term:
            return one[:place] == other[:place]
    return True
