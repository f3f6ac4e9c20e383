"""Builders of `NodeStatus` and `Load` from the parts of a node."""

from __future__ import annotations

from raft_core.effects import RoleChanged
from raft_core.node.meter import Meter
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.node.status import Load, NodeStatus, Phase
from raft_core.raft import Raft
from raft_core.recovered import Identity

__all__ = ["load_of", "picture_of"]


def load_of(peers: Peers, clients: RequestBook) -> Load:
    """Return the load of these parts of a node."""
    return Load(clients.count, clients.bytes, clients.forwarded, peers.table.most_queued)


def picture_of(
    identity: Identity,
    phase: Phase,
    standing: RoleChanged,
    raft: Raft | None,
    peers: Peers,
    clients: RequestBook,
    meter: Meter,
    features: tuple[str, ...],
) -> NodeStatus:
    """Return the present state of these parts of a node."""
    return NodeStatus(
        node=identity.node,
        identity=identity,
        phase=phase,
        role=standing.role,
        term=standing.term,
        leader=standing.leader,
        leader_address=peers.addresses.of(standing.leader),
        core=None if raft is None else raft.status,
        peers=peers.status(),
        addresses=peers.addresses.known(),
        waiting_clients=clients.count,
        waiting_bytes=clients.bytes,
        forwarded=clients.forwarded,
        drops=tuple(sorted((reason.value, count) for reason, count in peers.drops.items())),
        measured=meter.value,
        features=features,
    )
