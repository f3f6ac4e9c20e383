"""What a node looks like from outside at one moment.

What lives here: frozen pictures, and the names under which a host counts what it drops.
"""

from __future__ import annotations

from enum import StrEnum
from typing import final

import attrs

from raft_core.effects import RoleName
from raft_core.ids import NodeId, Term
from raft_core.recovered import Identity
from raft_core.status import Status

__all__ = ["Drop", "Load", "NodeStatus", "PeerStatus", "Phase"]


class Drop(StrEnum):
    """Why something was thrown away."""

    NOT_CONNECTED = "not_connected"  # a message to a peer without a connection
    URGENT_OVERFLOW = "urgent_overflow"
    BULK_OVERFLOW = "bulk_overflow"
    ANSWER_LOST = "answer_lost"  # the connection that the question came on is gone, or does not take it
    BAD_FRAME = "bad_frame"
    WRONG_VERSION = "wrong_version"
    WRONG_CLUSTER = "wrong_cluster"
    WRONG_PEER = "wrong_peer"
    WRONG_INCARNATION = "wrong_incarnation"
    WRONG_FOUNDING = "wrong_founding"  # other founders, or another founding of the same cluster
    REFUSED_BY_PEER = "refused_by_peer"
    NO_ADDRESS = "no_address"  # a peer that can be heard and not dialled: it does not say where, and nobody else does
    NO_GREETING = "no_greeting"
    SILENT = "silent"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    STRANGER = "stranger"  # a connection of a node that no configuration names, to make room for another such
    NOT_READY = "not_ready"  # a message for a node that is not part of a cluster yet
    PULL_REFUSED = "pull_refused"  # from a node that is no member, more than one may have waiting, or without sense
    STALE_CHUNK = "stale_chunk"


class Phase(StrEnum):
    """Where a node stands in its life."""

    FORMING = "forming"  # a founder that does not know all others yet
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


@final
@attrs.frozen
class PeerStatus:
    """One peer. `connected`: we can send to it; `heard`: it has a connection to us."""

    node: NodeId
    address: str
    connected: bool
    heard: bool
    queued_bytes: int
    last_error: str


@final
@attrs.frozen
class Load:
    """What waits in a node: clients and their bytes, requests that are with the leader, and the bytes for that peer
    for which most wait. Cheap to ask for, unlike the whole picture."""

    clients: int
    client_bytes: int
    forwarded: int
    peer_bytes: int


@final
@attrs.frozen
class NodeStatus:
    """The whole node. `core` is None until it is part of a cluster."""

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
