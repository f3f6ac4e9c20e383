"""Recovery from the permanent loss of a majority of disks: a new cluster is created from one surviving disk.

This module makes the plan and the statement of possible losses, as pure values; a store carries out the plan.

Data held only by the lost disks cannot be recovered. So the old cluster is not repaired; a new one is created under a
new name. Nodes of the old cluster which return are then refused at the handshake, instead of continuing a second
history. The old directory is only read and remains as evidence. No configuration on the new disk names one of the old
disks, so nodes that join later do not expect them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import attrs
import msgspec

from raft_core.effects import Persist
from raft_core.entries import MEMBERS, START, Entry, HardState, LogPosition, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered
from raft_core.validation import FAR_TERM

__all__ = ["QuorumLossPlan", "Statement", "best_survivor", "log_end", "plan_quorum_loss_recovery"]

_ENTRIES_PER_WRITE: Final = 1000
_APART: Final = 1 << 20
"""First terms of clusters founded on the same state; elections use up few. Far below `TERM_LEAP`."""


@final
@attrs.frozen
class Statement:
    """The data kept and the possible losses. `text()` is for the responsible operator."""

    source: Identity
    target: Identity
    old_members: Members
    last: LogPosition
    known_commit: Index
    snapshot: Index
    new_members_at: Index

    @property
    def gone(self) -> tuple[NodeId, ...]:
        """The old cluster's voters not in the new one."""
        return tuple(node for node in self.old_members.all_voters if node != self.target.node)

    def text(self) -> str:
        """Return the statement in several lines, one sentence each."""
        uncertain = self.last.index - self.known_commit
        lines = [
            f"Cluster {self.target.cluster!r} is founded on the disk of node {self.source.node} of cluster "
            f"{self.source.cluster!r}.",
            f"Kept: all up to entry {self.last.index}, term {self.last.term}; up to {self.snapshot} as a snapshot.",
            f"Certainly committed before: the entries up to {self.known_commit}.",
            f"Possibly never acknowledged, but applied now: the {uncertain} entries behind it.",
            f"May be lost: everything acknowledged by a majority without this disk, among {_list(self.gone)}.",
            f"Sole voter from entry {self.new_members_at} on: node {self.target.node}. Add the others with ids above "
            f"{max(self.old_members.highest_id, self.target.node)}, the highest ever used, and empty directories. "
            "Never found another cluster of this name: the two could not be told apart.",
            f"Never start {_list(self.gone)} on their old directories where clients can reach them: they would answer "
            "for the old cluster.",
        ]
        return "\n".join(lines)


@final
@attrs.frozen
class QuorumLossPlan:
    """The contents of the new disk: the survivor's snapshot, if any, copied first as `snapshot`; then `writes`."""

    statement: Statement
    snapshot: SnapshotMeta | None
    writes: tuple[Persist, ...]


def log_end(recovered: Recovered) -> LogPosition:
    """Return the end of the disk's log."""
    if recovered.entries:
        return LogPosition(recovered.entries[-1].index, recovered.entries[-1].term)
    return recovered.snapshot.position if recovered.snapshot else START


def best_survivor(survivors: Sequence[Recovered]) -> int:
    """Return the position of the disk with the most up-to-date log (§5.4.1); all must be of one cluster."""
    if not survivors:
        raise CallerError("name at least one surviving disk")
    best = 0
    for place, survivor in enumerate(survivors):
        if survivor.identity.cluster != survivors[0].identity.cluster:
            raise CallerError("the disks belong to different clusters; name those of one cluster only")
        if not log_end(survivors[best]).at_least_as_up_to_date_as(log_end(survivor)):
            best = place
    return best


def plan_quorum_loss_recovery(survivor: Recovered, target: Identity) -> QuorumLossPlan:
    """Plan a new cluster on `target`'s empty disk, with all data of `survivor` and one voter.

    Raise `CallerError` if the survivor was never part of a cluster, or the cluster name is not new.
    """
    old = survivor.members
    if old.empty:
        raise CallerError(f"node {survivor.identity.node} was never part of a cluster: there is nothing to salvage")
    if target.cluster == survivor.identity.cluster:
        raise CallerError("the new cluster needs a new name, so that nodes of the old one are refused by it")
    last = log_end(survivor)
    term = _first_term(survivor, last, target)
    members = Members.initial(
        [target.node],
        incarnations={target.node: target.incarnation} if target.incarnation else {},
        leases=bool(old.leases),
        features=old.features,
    )
    members = attrs.evolve(members, highest_id=max(old.highest_id, target.node))
    founding = Entry.make(last.index + 1, term, members.encode(), MEMBERS)
    hard = HardState(term=term, commit=founding.index)
    entries = (*map(_without_disks, survivor.entries), founding)
    snapshot = survivor.snapshot
    if snapshot is not None:
        snapshot = msgspec.structs.replace(snapshot, members=members, members_index=NO_INDEX)
    writes = [Persist(WriteId(1), hard, snapshot=snapshot)]
    for start in range(0, len(entries), _ENTRIES_PER_WRITE):
        writes.append(Persist(WriteId(len(writes) + 1), entries=entries[start : start + _ENTRIES_PER_WRITE]))
    base = snapshot.index if snapshot else NO_INDEX
    known = max(survivor.hard.commit, survivor.applied, base)
    statement = Statement(survivor.identity, target, old, last, known, base, founding.index)
    return QuorumLossPlan(statement, snapshot, tuple(writes))


def _without_disks(entry: Entry) -> Entry:
    """Return the entry; a configuration without the numbers of its members' disks.

    A node that joins later gets it in between, and must not refuse a node that now has another disk. It stays equal in
    all clusters that are founded on the same state.
    """
    if entry.kind is not MEMBERS:
        return entry
    members = attrs.evolve(Members.decode(entry.data), incarnations=())
    return Entry.make(entry.index, entry.term, members.encode(), MEMBERS)


def _first_term(survivor: Recovered, last: LogPosition, target: Identity) -> Term:
    """Return a term above the survivor's, and some way off that of any other cluster founded on the same state.

    Two clusters of one name that count from the same term could hold different entries at one index and term, each
    taking them for equal (§5.3). Example: a backup is restored on three machines under one name, and then the nodes are
    joined. Their terms differ by the disk's number, so the logs conflict, and an alarm says so.
    """
    spent = survivor.hard.term > FAR_TERM  # not reached by elections: start again from the last entry's term
    term = last.term if spent else max(survivor.hard.term, last.term)
    return Term(term + 1 + (target.incarnation % _APART if term <= FAR_TERM else 0))


def _list(nodes: tuple[NodeId, ...]) -> str:
    return f"nodes {', '.join(map(str, nodes))}" if nodes else "no other nodes"
