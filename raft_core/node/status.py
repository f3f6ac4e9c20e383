"""The node's state at one moment: `NodeStatus` and its parts, and `Drop`, the reasons for dropped messages."""

from __future__ import annotations

from enum import StrEnum
from typing import final

import attrs

from raft_core.effects import RoleName
from raft_core.ids import NodeId, Term
from raft_core.membership import Members
from raft_core.node.limits import NodeLimits
from raft_core.node.measured import Measured
from raft_core.recovered import Identity
from raft_core.settings import Settings
from raft_core.status import Status
from raft_core.wire.metadata import Metadata

__all__ = ["Drop", "Load", "NodeStatus", "PeerStatus", "Phase"]


class Drop(StrEnum):
    """Reasons for a dropped message or connection."""

    NOT_CONNECTED = "not_connected"  # a message to a peer without a connection
    URGENT_OVERFLOW = "urgent_overflow"
    BULK_OVERFLOW = "bulk_overflow"
    ANSWER_LOST = "answer_lost"  # the connection of the question is gone, or does not take it
    BAD_FRAME = "bad_frame"
    WRONG_VERSION = "wrong_version"
    WRONG_CLUSTER = "wrong_cluster"
    WRONG_PEER = "wrong_peer"
    WRONG_INCARNATION = "wrong_incarnation"
    FEATURE_MISSING = "feature_missing"  # a node of a release without a feature that the cluster uses
    WRONG_FOUNDING = "wrong_founding"  # other founders, or another bootstrap of the same cluster
    REFUSED_BY_PEER = "refused_by_peer"
    WRONG_CERTIFICATE = "wrong_certificate"  # another node's certificate, or one that names no node
    BAD_CERTIFICATE = "bad_certificate"  # none, expired, or of an unknown authority
    NOT_TLS = "not_tls"  # bytes without TLS where it is required
    TLS_FAILED = "tls_failed"  # any other failure of a TLS handshake or connection
    NO_ADDRESS = "no_address"  # the peer has no known address: it advertises none and none is configured
    NO_GREETING = "no_greeting"
    SILENT = "silent"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    STRANGER = "stranger"  # a connection of an unknown node, closed to make room for another one
    NOT_READY = "not_ready"  # a message for a node that is not part of a cluster yet
    PULL_REFUSED = "pull_refused"  # from a non-member, beyond the limit of waiting pulls, or malformed
    STALE_CHUNK = "stale_chunk"


class Phase(StrEnum):
    """A node's phase of life."""

    FORMING = "forming"  # a founder that does not know all others yet
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


@final
@attrs.frozen
class PeerStatus:
    """One peer. `connected`: we can send to it; `heard`: it has a connection to us.

    `secure`: both use TLS, as far as they exist. `features`: those of its last greeting, None while it has not greeted.
    """

    node: NodeId
    address: str
    connected: bool
    heard: bool
    queued_bytes: int
    last_error: str
    secure: bool = False
    features: tuple[str, ...] | None = None
    metadata: Metadata = ()
    """What it said about itself in its last greeting (its `NodeConfig.metadata`), also while it is away."""


@final
@attrs.frozen
class Load:
    """Waiting work of a node.

    Clients and their bytes, requests with the leader, and the bytes for the peer with the most. Cheap, unlike the whole
    status.
    """

    clients: int
    client_bytes: int
    forwarded: int
    peer_bytes: int


@final
@attrs.frozen
class NodeStatus:
    """The state of the whole node. `core` is None until it is part of a cluster."""

    node: NodeId
    identity: Identity
    phase: Phase
    role: RoleName
    term: Term
    leader: NodeId
    leader_address: str
    core: Status | None
    peers: tuple[PeerStatus, ...]
    addresses: tuple[tuple[NodeId, str], ...]
    waiting_clients: int
    waiting_bytes: int
    forwarded: int
    drops: tuple[tuple[str, int], ...]
    measured: Measured = Measured()
    certificate_expires: int = 0
    """When this node's certificate for peers expires: seconds since 1970, 0 without TLS."""
    features: tuple[str, ...] = ()
    """The features that this node's code has. Those that the cluster uses are in `core.features`."""
    metadata: Metadata = ()
    """This node's own `NodeConfig.metadata`."""
    settings: Settings = Settings()
    """The settings in force. An election timeout of `election_ticks` takes `election_ticks * limits.tick` ns."""
    limits: NodeLimits = NodeLimits()
    """The limits in force."""

    @property
    def members(self) -> Members:
        """The voters and learners of the cluster; empty until this node is part of one."""
        return Members() if self.core is None else self.core.members

    def metadata_of(self, node: int) -> dict[str, str]:
        """Return what that node, this one or a peer, says about itself; empty if it says nothing, or is not known.

        With `leader`, a web service can name the address to try next.
        """
        if node == self.node:
            return dict(self.metadata)
        return {name: value for peer in self.peers if peer.node == node for name, value in peer.metadata}
