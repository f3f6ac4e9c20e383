"""Which node lacks a feature: the checks of a leader's node before a feature is enabled, or a node is added.

Only a greeting tells what another node's code can do, so the core cannot check it. The check and the append happen in
one call of the node: no greeting comes between them. A node that is restarted later with an older release is refused
by its greeting, once the entry that enables the feature is known to be committed.
"""

from __future__ import annotations

from typing import final

from raft_core.features import missing_features, named
from raft_core.ids import NodeId
from raft_core.membership import AddLearner, AddVoter, Members
from raft_core.node.peer_table import PeerTable
from raft_core.node.peers import Peers
from raft_core.node.status import Drop
from raft_core.requests import ChangeMembership
from raft_core.structs import Value
from raft_core.wire.handshake import lacking_text

__all__ = ["Lacking", "lacking_member", "refuse_lacking"]


@final
class Lacking(Value, frozen=True):
    """A node that may not be in a cluster with certain features. `heard`: it has greeted, and lacks one of them."""

    heard: bool
    text: str


def lacking_member(change: ChangeMembership, members: Members, me: NodeId, table: PeerTable) -> Lacking | None:
    """Return the first node that would be a member without a feature that the cluster would use, or None."""
    if change.features:
        required, nodes = change.features, members.nodes
    elif members.features:
        required = members.features
        added = [NodeId(each.node) for each in change.changes if isinstance(each, AddVoter | AddLearner)]
        nodes = tuple(node for node in added if not members.is_member(node))
    else:
        return None
    for node in nodes:
        if node != me and (found := _judged(node, required, table.features_of(node))) is not None:
            return found
    return None


def refuse_lacking(peers: Peers, features: tuple[str, ...]) -> None:
    """Have the node talk to no peer without these features from now on: the cluster uses them."""
    peers.required[:] = features
    for connection, greeting in peers.table.greeted():
        if lacking := missing_features(features, greeting.features):
            peers.refuse(connection, Drop.FEATURE_MISSING, lacking_text(greeting.sender, lacking))


def _judged(node: NodeId, required: tuple[str, ...], features: tuple[str, ...] | None) -> Lacking | None:
    if features is None:
        text = f"node {node} is not connected, so it is not known whether it has {named(required)}"
        return Lacking(heard=False, text=f"{text}: start it with a release that has; a node without is refused")
    if lacking := missing_features(required, features):
        return Lacking(heard=True, text=f"node {node} does not have {named(lacking)}; start it with a newer release")
    return None
