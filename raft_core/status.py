"""The status of a core as a frozen value, for operators, tools and tests."""

from __future__ import annotations

from typing import final

import attrs

from raft_core.effects import RoleName
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.progress import ProgressState
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.server import Server

__all__ = ["PeerStatus", "Status", "picture"]


@final
@attrs.frozen
class PeerStatus:
    """A follower's progress on the leader. `state`: probe, replicate or snapshot. `in_flight`: messages, and bytes."""

    node: NodeId
    state: str
    match: Index
    next: Index
    in_flight: int
    in_flight_bytes: int
    paused: bool
    recently_active: bool
    pending_snapshot: Index
    learner: bool


@final
@attrs.frozen
class Status:
    """The status of a node. `leader` and `vote` are 0 if there is none; `peers` is empty except on a leader.

    `first_index` is the first entry in memory; earlier ones are in the snapshot at `snapshot_index`. `durable_index` is
    the last entry durable on this disk, `writes_under_way` the number of writes not yet durable.
    """

    node: NodeId
    role: RoleName
    term: Term
    vote: NodeId
    leader: NodeId
    commit: Index
    applied: Index
    first_index: Index
    last_index: Index
    last_term: Term
    durable_index: Index
    snapshot_index: Index
    log_bytes: int
    last_write: WriteId
    writes_under_way: int
    members: Members
    members_index: Index
    transfer_to: NodeId = NodeId(0)
    waiting_requests: int = 0
    waiting_reads: int = 0
    peers: tuple[PeerStatus, ...] = ()
    features: tuple[str, ...] = ()
    """The features that the cluster uses (`Raft.features`)."""

    @property
    def leads(self) -> bool:
        """True on the leader."""
        return self.role is RoleName.LEADER


def picture(server: Server, role: Follower | PreCandidate | Candidate | Leader) -> Status:
    """Return the status of the core with this server and role."""
    peers: tuple[PeerStatus, ...] = ()
    transfer, reads = NO_NODE, len(server.pipeline.reads)
    if isinstance(role, Leader):
        peers = tuple(_peer_picture(server, role, node) for node in role.replication.progress)
        transfer = role.succession.target
        reads += len(role.reading.queue)
    elif isinstance(role, Follower):
        reads += len(role.reads)
    return Status(
        node=server.me,
        role=role.name,
        term=server.term,
        vote=server.vote,
        leader=role.leader,
        commit=server.commit,
        applied=server.pipeline.applied,
        first_index=server.log.first_index,
        last_index=server.log.last_index,
        last_term=server.log.last_term,
        durable_index=server.outbox.durable_index,
        snapshot_index=server.snapshots.newest.index if server.snapshots.newest else NO_INDEX,
        log_bytes=server.log.size,
        last_write=server.outbox.issued,
        writes_under_way=len(server.outbox.issued_at),
        members=server.members,
        members_index=server.configurations.index,
        transfer_to=transfer,
        waiting_requests=len(server.requests),
        waiting_reads=reads,
        peers=peers,
        features=server.features,
    )


def _peer_picture(server: Server, role: Leader, node: NodeId) -> PeerStatus:
    peer = role.replication.progress[node]
    return PeerStatus(
        node=node,
        state=peer.state.value,
        match=peer.match,
        next=peer.next,
        in_flight=len(peer.inflight),
        in_flight_bytes=peer.inflight_bytes,
        paused=peer.paused,
        recently_active=peer.active,
        pending_snapshot=peer.pending if peer.state is ProgressState.SNAPSHOT else NO_INDEX,
        learner=node in server.members.learners,
    )
