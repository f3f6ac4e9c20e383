"""`ServerStatus`: the state of one server at one moment, and the reasons for everything that waits in it.

INFO, ROLE, RAFT STATUS and RAFT EXPLAIN are answered from it. Only this module and `node_log` know the fields of a
node's status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import attrs

from raft_core.explain import Explanation, Reason
from raft_core.features import missing_features
from raft_core.node.status import NodeStatus, Phase
from raft_core.node.status import PeerStatus as Connection
from raft_core.status import PeerStatus as Progress
from raft_core.status import Status
from raft_kv.effective import Effective

__all__ = ["PeerStatus", "ServerStatus", "status_of_node"]


@final
@attrs.frozen(kw_only=True)
class PeerStatus:
    """Another member, or a connected node which is no member. Fields from `state` on are known only on the leader."""

    node: int
    address: str = ""
    connected: bool = False
    secure: bool = False
    lacking: tuple[str, ...] | None = None
    """Which of the asked node's features it does not have; None while it is not connected."""
    state: str = ""
    match: int = 0
    next: int = 0
    in_flight: int = 0
    paused: bool = False
    active: bool = False


@final
@attrs.frozen(kw_only=True)
class ServerStatus:
    """One server at one moment: its node in the cluster, and the process around it."""

    # The node.
    node: int
    cluster: str = ""
    phase: str = ""
    role: str = ""
    term: int = 0
    leader: int = 0
    leader_address: str = ""
    commit: int = 0
    applied: int = 0
    first_index: int = 0
    last_index: int = 0
    snapshot_index: int = 0
    members_index: int = 0
    """Index of the entry with the configuration in force."""
    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    peers: tuple[PeerStatus, ...] = ()
    features: tuple[str, ...] = ()
    """Those that the cluster uses."""
    own_features: tuple[str, ...] = ()
    """Those that this node has."""
    reasons: tuple[str, ...] = ()
    """One sentence for each thing that waits."""
    drops: tuple[tuple[str, int], ...] = ()
    certificate_expires: int = 0
    """When the first of the server's certificates expires: seconds since 1970, 0 without TLS."""

    # The process.
    version: str = ""
    loop: str = ""
    process: int = 0
    listen: str = ""
    peer_address: str = ""
    data: str = ""
    settings: Effective = attrs.field(factory=dict)
    """Those in force: see `raft_kv.effective`."""
    uptime_seconds: int = 0
    wall: int = 0
    """The wall clock: milliseconds since 1970."""
    connections: int = 0
    connections_received: int = 0
    commands: int = 0
    waiting: int = 0
    all_masters: bool = True
    """Whether every node is a master for Redis clients, because every node accepts writes."""
    max_clients: int = 0
    refused: tuple[tuple[str, int], ...] = ()
    """Clients refused, by reason."""
    clients_refused: int = 0
    """Connections refused by the limits on one address."""
    logins_failed: int = 0
    commands_denied: int = 0
    """Commands refused because their user had no right to them."""
    users: int = 0
    """Users that are kept in the log."""
    max_memory: int = 0
    data_memory: int = 0
    """Bytes that keys and values take, about."""
    memory: int = 0
    """Bytes of memory in use by the process."""
    memory_peak: int = 0
    keys: int = 0
    expiring: int = 0

    @property
    def redis_role(self) -> str:
        """Return the role for Redis clients, in INFO, HELLO and ROLE."""
        return "master" if self.all_masters or self.role == "leader" else "slave"


def status_of_node(status: NodeStatus, explanations: Sequence[Explanation]) -> ServerStatus:
    """Return the node's half; the process's half has its defaults."""
    core = status.core
    whole = ServerStatus(
        node=status.node,
        cluster=status.identity.cluster,
        phase=status.phase.value,
        role=status.role.value,
        term=status.term,
        leader=status.leader,
        leader_address=status.leader_address,
        peers=_peers(status),
        drops=status.drops,
        own_features=status.features,
        waiting=status.waiting_clients,
        reasons=_reasons(status, explanations),
    )
    if core is None:
        return whole
    return attrs.evolve(
        whole,
        commit=core.commit,
        applied=core.applied,
        first_index=core.first_index,
        last_index=core.last_index,
        snapshot_index=core.snapshot_index,
        members_index=core.members_index,
        voters=core.members.voters,
        outgoing=core.members.outgoing,
        learners=core.members.learners,
        features=core.features,
    )


def _peers(status: NodeStatus) -> tuple[PeerStatus, ...]:
    """Return all other nodes that are members or connected."""
    progress: dict[int, Progress] = {} if status.core is None else {peer.node: peer for peer in status.core.peers}
    connections: dict[int, Connection] = {peer.node: peer for peer in status.peers}
    addresses: dict[int, str] = dict(status.addresses)
    members = () if status.core is None else status.core.members.nodes
    peers = []
    for node in sorted({*progress, *connections, *members} - {status.node}):
        connection, follower = connections.get(node), progress.get(node)
        peer = PeerStatus(
            node=node,
            address=connection.address if connection is not None else addresses.get(node, ""),
            connected=connection is not None and connection.connected,
            secure=connection is not None and connection.secure,
            lacking=None if connection is None else _lacking(status, connection),
        )
        if follower is not None:
            peer = attrs.evolve(
                peer,
                state=follower.state,
                match=follower.match,
                next=follower.next,
                in_flight=follower.in_flight,
                paused=follower.paused,
                active=follower.recently_active,
            )
        peers.append(peer)
    return tuple(peers)


def _lacking(status: NodeStatus, connection: Connection) -> tuple[str, ...] | None:
    return None if connection.features is None else missing_features(status.features, connection.features)


# RAFT EXPLAIN.


def _reasons(status: NodeStatus, explanations: Sequence[Explanation]) -> tuple[str, ...]:
    """Return the core's explanations, and those for the node and its connections, which the core does not know."""
    waits = [_wait(each) for each in explanations if each.reason is not Reason.NOT_A_MEMBER or status.core is None]
    found = [*_about_node(status), *waits, *_about_connections(status)]
    return tuple(found) or ("healthy: leader, all entries committed and applied, no lagging peers",)


def _wait(explanation: Explanation) -> str:
    """Return the explanation in one line. "node 2: leader: node 1 leads" could be read as if node 2 led."""
    about = "does not lead" if explanation.about == "leader" else explanation.about
    return f"{about}: {explanation.text}"


def _about_node(status: NodeStatus) -> Iterator[str]:
    core = status.core
    if status.phase is Phase.FORMING or core is None:
        yield "not part of a cluster yet: a founder waits for the other founders, a joining node for RAFT ADD"
        return
    if status.phase is not Phase.RUNNING:
        yield f"this node is {status.phase.value}"
    members = core.members.nodes
    if not members:
        yield "not part of a cluster yet: it waits for RAFT ADD on a member"
    elif status.node not in members:
        names = ", ".join(map(str, sorted(members)))
        yield (
            f"this node is no member: entry {core.members_index} of the log says that the members are {names}. It was "
            "removed, or has not read yet that it was added"
        )
    if core.transfer_to:
        yield f"transferring leadership to node {core.transfer_to}; writes wait meanwhile"
    if core.members.joint:
        yield "membership change in progress: majorities of both the old and the new voters must agree"
    if core.durable_index < core.last_index:
        yield f"entries {core.durable_index + 1} to {core.last_index} are not on this node's disk yet"


def _about_connections(status: NodeStatus) -> Iterator[str]:
    members = () if status.core is None else status.core.members.nodes
    for peer in status.peers:
        if not peer.connected and (not members or peer.node in members):  # nothing waits for a node that was removed
            error = f": {peer.last_error}" if peer.last_error else ""
            yield f"node {peer.node} at {peer.address or 'an unknown address'} is unreachable{error}"
    if status.core is not None:
        yield from _about_followers(status.core)


def _about_followers(core: Status) -> Iterator[str]:
    for follower in core.peers:
        if not follower.recently_active:
            yield f"node {follower.node} has not answered for an election timeout"
        elif follower.match < core.commit:
            yield f"node {follower.node} is {core.commit - follower.match} committed entries behind"
