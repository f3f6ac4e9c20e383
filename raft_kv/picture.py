"""How a node stands, as a client may see it: INFO, RAFT STATUS and RAFT EXPLAIN are drawn from this.

What lives here: `Picture`, a plain value, and the texts made of it. Where its fields come from is `snapshot_of`'s
business in `node_view`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import attrs

from raft_kv.resp import Map, Reply

__all__ = ["PeerView", "Picture", "info_text", "role_reply", "status_map"]

REDIS_VERSION: Final = "7.2.0"
"""The Redis whose commands and errors this server follows; client libraries look at it to know what they may use."""


@final
@attrs.frozen(kw_only=True)
class PeerView:
    """Another member, or a node that is connected without being one. `state` and `match` are known on a leader."""

    node: int
    address: str = ""
    connected: bool = False
    state: str = ""
    match: int = 0
    next: int = 0
    in_flight: int = 0
    paused: bool = False
    active: bool = False


@final
@attrs.frozen(kw_only=True)
class Picture:
    """One node at one moment."""

    # The cluster.
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
    members_index: int = 0
    """The entry that made the members what they are."""
    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    peers: tuple[PeerView, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why things wait or are as they are, one sentence each."""
    drops: tuple[tuple[str, int], ...] = ()

    # This server.
    version: str = ""
    loop: str = ""
    process: int = 0
    listen: str = ""
    peer_address: str = ""
    data: str = ""
    uptime_seconds: int = 0
    connections: int = 0
    connections_received: int = 0
    commands: int = 0
    waiting: int = 0
    all_masters: bool = True
    """Every node calls itself a master to Redis clients, because every node takes writes."""
    max_clients: int = 0
    memory: int = 0
    """Bytes that the process occupies."""
    memory_peak: int = 0
    keys: int = 0
    expiring: int = 0

    @property
    def redis_role(self) -> str:
        """The role that Redis clients hear in INFO, HELLO and ROLE."""
        return "master" if self.all_masters or self.role == "leader" else "slave"

    @property
    def joint(self) -> bool:
        """The members are changing: two majorities decide."""
        return bool(self.outgoing)


def _numbers(nodes: Iterable[int]) -> str:
    return ",".join(map(str, nodes))


def _human(size: int) -> str:
    """Return a size as Redis writes it for people."""
    amount, unit = float(size), "B"
    for larger in "KMGT":
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size}B" if unit == "B" else f"{amount:.2f}{unit}"


def _sections(picture: Picture) -> dict[str, list[tuple[str, object]]]:
    leads = picture.role == "leader"
    host, _, port = picture.leader_address.rpartition(":")
    replica = picture.redis_role == "slave"
    link = "up" if picture.leader else "down"
    return {
        "server": [
            ("redis_version", REDIS_VERSION),
            ("raft_kv_version", picture.version),
            ("redis_mode", "standalone"),
            ("process_id", picture.process),
            ("tcp_port", picture.listen.rpartition(":")[2]),
            ("event_loop", picture.loop),
            ("uptime_in_seconds", picture.uptime_seconds),
            ("uptime_in_days", picture.uptime_seconds // 86_400),
            ("data_directory", picture.data),
        ],
        "clients": [
            ("connected_clients", picture.connections),
            ("maxclients", picture.max_clients),
            ("blocked_clients", 0),
            ("waiting_requests", picture.waiting),
        ],
        "memory": [
            ("used_memory", picture.memory),
            ("used_memory_human", _human(picture.memory)),
            ("used_memory_rss", picture.memory),
            ("used_memory_rss_human", _human(picture.memory)),
            ("used_memory_peak", picture.memory_peak),
            ("used_memory_peak_human", _human(picture.memory_peak)),
            ("maxmemory", 0),
            ("maxmemory_human", "0B"),
            ("maxmemory_policy", "noeviction"),
        ],
        "persistence": [
            ("loading", 0),
            ("rdb_bgsave_in_progress", 0),
            ("aof_enabled", 1),
            ("aof_rewrite_in_progress", 0),
            ("aof_last_write_status", "ok"),
        ],
        "stats": [
            ("total_connections_received", picture.connections_received),
            ("total_commands_processed", picture.commands),
            ("evicted_keys", 0),
            *((f"dropped_{name}", count) for name, count in picture.drops),
        ],
        "replication": [
            ("role", picture.redis_role),
            *([("master_host", host), ("master_port", port), ("master_link_status", link)] if replica else []),
            ("connected_slaves", sum(peer.connected for peer in picture.peers) if leads else 0),
            ("master_repl_offset", picture.applied),
        ],
        "raft": [
            ("raft_node", picture.node),
            ("raft_cluster", picture.cluster),
            ("raft_phase", picture.phase),
            ("raft_role", picture.role),
            ("raft_term", picture.term),
            ("raft_leader", picture.leader),
            ("raft_commit", picture.commit),
            ("raft_applied", picture.applied),
            ("raft_first_index", picture.first_index),
            ("raft_last_index", picture.last_index),
            ("raft_voters", _numbers(picture.voters)),
            ("raft_learners", _numbers(picture.learners)),
        ],
        "cluster": [("cluster_enabled", 0)],
        "keyspace": [("db0", f"keys={picture.keys},expires={picture.expiring},avg_ttl=0")] if picture.keys else [],
    }


def info_text(picture: Picture, wanted: Iterable[str]) -> str:
    """Return the reply to INFO: the requested sections; all of them for none, `all`, `default` or `everything`."""
    names = {name.lower() for name in wanted}
    whole = not names or bool(names & {"all", "default", "everything"})
    parts = [
        "\r\n".join([f"# {name.capitalize()}", *(f"{key}:{value}" for key, value in lines), ""])
        for name, lines in _sections(picture).items()
        if whole or name in names
    ]
    return "\r\n".join(parts)


def role_reply(picture: Picture) -> Reply:
    """Return the reply to ROLE. The applied index stands for Redis's replication offset."""
    if picture.redis_role == "master":
        return ("master", picture.applied, ())
    host, _, port = picture.leader_address.rpartition(":")
    state = "connected" if picture.leader else "connect"
    return ("slave", host, int(port) if port.isdigit() else 0, state, picture.applied)


def _peer(peer: PeerView) -> Reply:
    pairs: list[tuple[Reply, Reply]] = [
        ("node", peer.node),
        ("address", peer.address),
        ("connected", int(peer.connected)),
    ]
    if peer.state:
        pairs += [
            ("state", peer.state),
            ("match", peer.match),
            ("next", peer.next),
            ("in_flight", peer.in_flight),
            ("paused", int(peer.paused)),
            ("active", int(peer.active)),
        ]
    return Map(tuple(pairs))


def status_map(picture: Picture) -> Reply:
    """Return the reply to RAFT STATUS: names and values."""
    return Map(
        (
            ("node", picture.node),
            ("cluster", picture.cluster),
            ("phase", picture.phase),
            ("role", picture.role),
            ("term", picture.term),
            ("leader", picture.leader),
            ("leader_address", picture.leader_address),
            ("commit", picture.commit),
            ("applied", picture.applied),
            ("first_index", picture.first_index),
            ("last_index", picture.last_index),
            ("members_index", picture.members_index),
            ("voters", picture.voters),
            ("outgoing", picture.outgoing),
            ("learners", picture.learners),
            ("peer_address", picture.peer_address),
            ("keys", picture.keys),
            ("peers", tuple(_peer(peer) for peer in picture.peers)),
        )
    )
