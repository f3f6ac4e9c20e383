"""`Identity` and `Recovered`: the state read from a disk, from which a core starts, and the formation of a cluster."""

from __future__ import annotations

from typing import Final, final

import attrs

from raft_core.entries import MEMBERS, Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, BootNumber, ClusterId, Incarnation, Index, NodeId, Term
from raft_core.membership import Members

__all__ = ["RESTART_TEXT", "Identity", "Recovered", "check_founding", "formation"]

RESTART_TEXT: Final = (
    "This disk no longer holds what this node has committed or applied: its log ends at {last}, but {commit} is known "
    "to be committed. The disk was restored from a backup, partly wiped, or lied about a sync. Do not start it again: "
    "remove the node from the cluster and add it with a new id and an empty directory."
)


@final
@attrs.frozen
class Identity:
    """The owner of a disk. An identity is not an address; addresses may change at any time."""

    node: NodeId
    cluster: ClusterId = ClusterId("")
    incarnation: Incarnation = Incarnation(0)


@final
@attrs.frozen
class Recovered:
    """The disk's state after opening.

    `entries` are consecutive and follow `snapshot` (or index 0). `boot` rises by one at every opening. `applied` is the
    index already held by a durable state machine, 0 for one in memory. A formatted node which was never part of a
    cluster has no snapshot, no entries and term 0.

    `covered` are the entries still on the disk although the snapshot covers them: consecutive, the last one at the
    snapshot's position. A store may give none. With them a restarted node can send appends, not a snapshot, to a
    follower slightly behind (§7).
    """

    identity: Identity
    hard: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    entries: tuple[Entry, ...] = ()
    boot: BootNumber = BootNumber(1)
    applied: Index = NO_INDEX
    covered: tuple[Entry, ...] = ()

    @property
    def formed(self) -> bool:
        """True if this disk was part of a cluster: it holds a term, a snapshot or entries."""
        return bool(self.hard.term or self.snapshot or self.entries)

    @property
    def members(self) -> Members:
        """The configuration in force on this disk; empty if it was never part of a cluster."""
        for entry in reversed(self.entries):
            if entry.kind is MEMBERS:
                return Members.decode(entry.data)
        return self.snapshot.members if self.snapshot else Members()

    @classmethod
    def fresh(cls, node: int, members: Members | None = None, *, boot: int = 1) -> Recovered:
        """Return an empty disk; with `members`, that of a node in a new cluster. Pass all nodes the same members.

        Without `members` the node joins later: it waits for its cluster's leader and never campaigns.
        """
        identity = Identity(NodeId(node))
        if members is None:
            return cls(identity, boot=BootNumber(boot))
        identity = attrs.evolve(identity, incarnation=members.incarnation_of(NodeId(node)))
        hard, entry = formation(members)
        return cls(identity, hard=hard, entries=(entry,), boot=BootNumber(boot))


def check_founding(members: Members, identity: Identity) -> None:
    """Raise `CallerError` if this disk cannot found a cluster of these members.

    Votes count only from the disks named in the configuration. If the first entry named none (incarnation 0) although
    the disks have numbers, the cluster could never elect a leader.
    """
    if not members.is_member(identity.node):
        raise CallerError(f"node {identity.node} is not among the members that it is to found a cluster with")
    declared = members.incarnation_of(identity.node)
    if declared not in (0, identity.incarnation):
        raise CallerError(f"the members name another disk (incarnation {declared}) as node {identity.node}")
    nameless = [node for node in members.nodes if not members.incarnation_of(node)]
    if identity.incarnation and nameless:
        raise CallerError(
            f"the members name no disk of node {nameless[0]}, so its votes would never count: give Members.initial the"
            " incarnations of all the nodes' stores (incarnations={1: store.identity.incarnation, 2: ...}),"
            " or let a node form the cluster by itself (NodeConfig.founders)"
        )


def formation(members: Members) -> tuple[HardState, Entry]:
    """Return the first write of every founding member: term 1, and the members at index 1, committed."""
    return HardState(term=Term(1), commit=Index(1)), Entry.make(1, 1, members.encode(), MEMBERS)
