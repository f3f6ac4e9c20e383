"""`metrics_of`: all numbers of a node as metrics, under the names that dashboards and alerts use.

A name, once released, stays. Durations are in seconds and sizes in bytes, as Prometheus asks. Labels have few values:
a peer's id, a state, a reason, a kind of request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from raft_core.effects import RoleName
from raft_core.node.prometheus import Metric, MetricKind, Sample, histogram, number
from raft_core.node.status import Drop, NodeStatus, Phase
from raft_core.progress import ProgressState
from raft_core.status import PeerStatus, Status

__all__ = ["metrics_of"]

_GAUGE: Final = MetricKind.GAUGE
_COUNTER: Final = MetricKind.COUNTER
_SECOND: Final = 1_000_000_000
_KINDS: Final = ("write", "read", "members", "transfer", "backup")


def metrics_of(status: NodeStatus, *, certificates: Mapping[str, float] | None = None) -> list[Metric]:
    """Return the metrics of a node.

    `certificates`: when further certificates expire, by their use ("client"), in seconds since 1970; that for peers is
    part of the status.
    """
    metrics = [*_standing(status), *_peers(status), *_requests(status), *_times(status)]
    if status.core is not None:
        metrics += [*_log(status.core), *_followers(status.core), *_features(status, status.core)]
    expiries = {"peer": float(status.certificate_expires)} if status.certificate_expires else {}
    if expiries := expiries | dict(certificates or {}):
        text = "When the certificate expires, in seconds since 1970."
        metrics.append(number(_GAUGE, "raft_certificate_expiry_timestamp_seconds", text, expiries, "certificate"))
    return metrics


def _one_of(name: str, text: str, label: str, present: str, values: Iterator[str]) -> Metric:
    """Return a gauge that is 1 for the present value of `label` and 0 for all others."""
    return number(_GAUGE, name, text, {value: int(value == present) for value in values}, label)


def _standing(status: NodeStatus) -> Iterator[Metric]:
    labels = (("node", str(status.node)), ("cluster", status.identity.cluster))
    yield Metric("raft_node_info", _GAUGE, "Always 1; the labels name the node and its cluster.", (Sample(1, labels),))
    roles, phases = (each.value for each in RoleName), (each.value for each in Phase)
    yield _one_of("raft_role", "1 for the role of this node.", "role", status.role.value, roles)
    yield _one_of("raft_phase", "1 for the phase of this node's life.", "phase", status.phase.value, phases)
    yield number(_GAUGE, "raft_term", "The term of this node.", status.term)
    yield number(_GAUGE, "raft_leader", "The id of the leader that this node knows; 0 if it knows none.", status.leader)
    changes = status.measured.leader_changes
    yield number(_COUNTER, "raft_leader_changes_total", "Leaders that this node has met, each once per term.", changes)


def _log(core: Status) -> Iterator[Metric]:
    for name, text, index in (
        ("commit", "The last entry known to be committed.", core.commit),
        ("applied", "The last entry applied to the state machine.", core.applied),
        ("last", "The last entry of the log.", core.last_index),
        ("durable", "The last entry durable on this node's disk.", core.durable_index),
        ("first", "The first entry in memory.", core.first_index),
        ("snapshot", "The entry up to which the newest snapshot reaches.", core.snapshot_index),
    ):
        yield number(_GAUGE, f"raft_{name}_index", text, index)
    yield number(_GAUGE, "raft_log_bytes", "Bytes of the log in memory.", core.log_bytes)
    yield number(_GAUGE, "raft_writes_in_flight", "Writes ordered and not yet durable.", core.writes_under_way)
    yield number(_GAUGE, "raft_waiting_reads", "Reads waiting in the core.", core.waiting_reads)
    text = "Members in force, by their part; outgoing voters only while a change is joint."
    members = core.members
    counts = {"voter": len(members.voters), "outgoing": len(members.outgoing), "learner": len(members.learners)}
    yield number(_GAUGE, "raft_members", text, counts, "part")


def _peers(status: NodeStatus) -> Iterator[Metric]:
    peers = status.peers
    connected = {str(peer.node): int(peer.connected) for peer in peers}
    heard = {str(peer.node): int(peer.heard) for peer in peers}
    queued = {str(peer.node): peer.queued_bytes for peer in peers}
    secure = {str(peer.node): int(peer.secure) for peer in peers}
    text = "1 if this node's own connection to the peer is open."
    yield number(_GAUGE, "raft_peer_connected", text, connected, "peer")
    yield number(_GAUGE, "raft_peer_heard", "1 if the peer's connection to this node is open.", heard, "peer")
    yield number(_GAUGE, "raft_peer_queued_bytes", "Bytes waiting to be sent to the peer.", queued, "peer")
    yield number(_GAUGE, "raft_peer_secure", "1 if all open connections with the peer use TLS.", secure, "peer")


def _followers(core: Status) -> Iterator[Metric]:
    """Yield a leader's view of its followers; without samples on other nodes."""

    def of(read: Iterator[tuple[PeerStatus, float]]) -> dict[str, float]:
        return {str(peer.node): value for peer, value in read}

    peers = core.peers
    lag = of((peer, max(0, core.last_index - peer.match)) for peer in peers)
    yield number(_GAUGE, "raft_peer_lag_entries", "Entries that the follower is not known to have.", lag, "peer")
    match = of((peer, peer.match) for peer in peers)
    yield number(_GAUGE, "raft_peer_match_index", "The last entry that the follower is known to have.", match, "peer")
    active = of((peer, int(peer.recently_active)) for peer in peers)
    text = "1 if the follower has answered within an election timeout."
    yield number(_GAUGE, "raft_peer_active", text, active, "peer")
    in_flight = of((peer, peer.in_flight_bytes) for peer in peers)
    text = "Bytes of entries sent to the follower and not acknowledged."
    yield number(_GAUGE, "raft_peer_in_flight_bytes", text, in_flight, "peer")
    samples = [
        Sample(int(state.value == peer.state), (("peer", str(peer.node)), ("state", state.value)))
        for peer in peers
        for state in ProgressState
    ]
    yield Metric("raft_peer_state", _GAUGE, "1 for the state of replication to the follower.", tuple(samples))


def _features(status: NodeStatus, core: Status) -> Iterator[Metric]:
    own = set(status.features)
    used = {feature: int(feature in core.features) for feature in sorted(own.union(core.features))}
    text = "1 if the cluster uses the feature, 0 if this node has it and the cluster does not use it yet."
    yield number(_GAUGE, "raft_feature_enabled", text, used, "feature")
    lacking = {str(peer.node): len(own.difference(peer.features)) for peer in status.peers if peer.features is not None}
    text = "How many of this node's features the connected peer does not have."
    yield number(_GAUGE, "raft_peer_lacking_features", text, lacking, "peer")


def _requests(status: NodeStatus) -> Iterator[Metric]:
    counts = {(kind, "done", ""): 0 for kind in _KINDS}
    counts |= {(kind, outcome, reason): count for kind, outcome, reason, count in status.measured.requests}
    samples = [
        Sample(count, (("kind", kind), ("outcome", outcome), ("reason", reason)))
        for (kind, outcome, reason), count in counts.items()
    ]
    text = "Requests of this node's own callers that were answered, by kind, outcome and reason."
    yield Metric("raft_requests_total", _COUNTER, text, tuple(samples))
    yield number(_GAUGE, "raft_waiting_requests", "Requests that wait for an answer.", status.waiting_clients)
    yield number(_GAUGE, "raft_waiting_request_bytes", "Bytes of the waiting requests.", status.waiting_bytes)
    text = "Requests that wait for a reply of the leader."
    yield number(_GAUGE, "raft_forwarded_requests", text, status.forwarded)
    drops = {each.value: 0 for each in Drop} | dict(status.drops)
    yield number(_COUNTER, "raft_drops_total", "Messages and connections dropped, by reason.", drops, "reason")


def _times(status: NodeStatus) -> Iterator[Metric]:
    measured = status.measured
    text = "Time from the order of a write until it is durable, its wait in the queue included."
    yield histogram("raft_append_duration_seconds", text, measured.append)
    yield histogram("raft_sync_duration_seconds", "Time of one write and sync of the store.", measured.sync)
    text = "On a leader, time from the proposal of a batch until it is committed."
    yield histogram("raft_commit_duration_seconds", text, measured.commit)
    text = "Time of one run of the state machine, over all commands that were ready."
    yield histogram("raft_apply_duration_seconds", text, measured.apply)
    text = "Time of a request of this node's own callers, from its arrival to its answer."
    kinds = {"write": measured.writes, "read": measured.reads}
    yield histogram("raft_request_duration_seconds", text, kinds, "kind")
    yield number(_COUNTER, "raft_snapshots_total", "Snapshots that this node has made.", measured.snapshots)
    text = "Time that the last snapshot took to store; 0 before the first one."
    yield number(_GAUGE, "raft_snapshot_duration_seconds", text, measured.snapshot_duration / _SECOND)
    text = "Size of the last snapshot made; 0 before the first one."
    yield number(_GAUGE, "raft_snapshot_size_bytes", text, measured.snapshot_bytes)
