"""From a node's status to the `Picture` that clients see.

What lives here: one translation, so that nothing else in this package knows the fields of the core's status.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from raft_core.explain import Explanation
from raft_core.node.status import NodeStatus
from raft_core.status import PeerStatus as CorePeer
from raft_kv.explaining import reasons
from raft_kv.picture import PeerView, Picture

__all__ = ["picture_of"]


def picture_of(status: NodeStatus, explanations: Sequence[Explanation]) -> Picture:
    """Return the cluster's half of a picture; the server's half stays empty."""
    core = status.core
    picture = Picture(
        node=status.node,
        cluster=status.identity.cluster,
        phase=status.phase.value,
        role=status.role.value,
        term=status.term,
        leader=status.leader,
        leader_address=status.leader_address,
        peers=_peers(status),
        drops=status.drops,
        waiting=status.waiting_clients,
        reasons=reasons(status, explanations),
    )
    if core is None:
        return picture
    members = core.members
    return attrs.evolve(
        picture,
        commit=core.commit,
        applied=core.applied,
        first_index=core.first_index,
        last_index=core.last_index,
        members_index=core.members_index,
        voters=members.voters,
        outgoing=members.outgoing,
        learners=members.learners,
    )


def _peers(status: NodeStatus) -> tuple[PeerView, ...]:
    """Everybody but us who is a member or connected."""
    known = {} if status.core is None else {peer.node: peer for peer in status.core.peers}
    links = {peer.node: peer for peer in status.peers}
    addresses = dict(status.addresses)
    members = () if status.core is None else status.core.members.nodes
    views = []
    for node in sorted({*known, *links, *members} - {status.node}):
        link = links.get(node)
        view = PeerView(
            node=node,
            address=link.address if link is not None else addresses.get(node, ""),
            connected=link is not None and link.connected,
        )
        views.append(_with_progress(view, known.get(node)))
    return tuple(views)


def _with_progress(view: PeerView, peer: CorePeer | None) -> PeerView:
    if peer is None:
        return view
    return attrs.evolve(
        view,
        state=peer.state,
        match=peer.match,
        next=peer.next,
        in_flight=peer.in_flight,
        paused=peer.paused,
        active=peer.recently_active,
    )
