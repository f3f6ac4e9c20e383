"""The replies made of a `ServerStatus`: INFO, ROLE and RAFT STATUS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from raft_kv.resp import Encoded, Map, Reply, encode
from raft_kv.status import PeerStatus, ServerStatus

__all__ = ["REDIS_VERSION", "info_text", "role_reply", "status_reply"]

REDIS_VERSION: Final = "7.2.0"
"""The Redis release whose commands and errors this server follows; client libraries choose their commands by it."""


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


def _sections(status: ServerStatus) -> dict[str, list[tuple[str, object]]]:
    leads = status.role == "leader"
    host, _, port = status.leader_address.rpartition(":")
    replica = status.redis_role == "slave"
    link = "up" if status.leader else "down"
    return {
        "server": [
            ("redis_version", REDIS_VERSION),
            ("raft_kv_version", status.version),
            ("redis_mode", "standalone"),
            ("process_id", status.process),
            ("tcp_port", status.listen.rpartition(":")[2]),
            ("event_loop", status.loop),
            ("uptime_in_seconds", status.uptime_seconds),
            ("uptime_in_days", status.uptime_seconds // 86_400),
            ("data_directory", status.data),
        ],
        "clients": [
            ("connected_clients", status.connections),
            ("maxclients", status.max_clients),
            ("blocked_clients", 0),
            ("waiting_requests", status.waiting),
        ],
        "memory": [
            ("used_memory", status.memory),
            ("used_memory_human", _human(status.memory)),
            ("used_memory_rss", status.memory),
            ("used_memory_rss_human", _human(status.memory)),
            ("used_memory_peak", status.memory_peak),
            ("used_memory_peak_human", _human(status.memory_peak)),
            ("used_memory_dataset", status.data_memory),
            ("maxmemory", status.max_memory),
            ("maxmemory_human", _human(status.max_memory)),
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
            ("total_connections_received", status.connections_received),
            ("total_commands_processed", status.commands),
            ("rejected_connections", status.clients_refused),
            ("acl_access_denied_auth", status.logins_failed),
            ("acl_access_denied_cmd", status.commands_denied),
            ("evicted_keys", 0),
            *((f"dropped_{name}", count) for name, count in status.drops),
        ],
        "replication": [
            ("role", status.redis_role),
            *([("master_host", host), ("master_port", port), ("master_link_status", link)] if replica else []),
            ("connected_slaves", sum(peer.connected for peer in status.peers) if leads else 0),
            ("master_repl_offset", status.applied),
        ],
        "raft": [
            ("raft_node", status.node),
            ("raft_cluster", status.cluster),
            ("raft_phase", status.phase),
            ("raft_role", status.role),
            ("raft_term", status.term),
            ("raft_leader", status.leader),
            ("raft_commit", status.commit),
            ("raft_applied", status.applied),
            ("raft_first_index", status.first_index),
            ("raft_last_index", status.last_index),
            ("raft_voters", _numbers(status.voters)),
            ("raft_learners", _numbers(status.learners)),
            ("raft_features", ",".join(status.features)),
        ],
        "settings": [(name, value) for name, value in _settings(status)],
        "cluster": [("cluster_enabled", 0)],
        "keyspace": [("db0", f"keys={status.keys},expires={status.expiring},avg_ttl=0")] if status.keys else [],
    }


def info_text(status: ServerStatus, wanted: Iterable[str]) -> str:
    """Return the reply to INFO: the requested sections; all of them for none, `all`, `default` or `everything`."""
    names = {name.lower() for name in wanted}
    whole = not names or bool(names & {"all", "default", "everything"})
    parts = [
        "\r\n".join([f"# {name.capitalize()}", *(f"{key}:{value}" for key, value in lines), ""])
        for name, lines in _sections(status).items()
        if whole or name in names
    ]
    return "\r\n".join(parts)


def role_reply(status: ServerStatus) -> Reply:
    """Return the reply to ROLE. The applied index stands for Redis's replication offset."""
    if status.redis_role == "master":
        return ("master", status.applied, ())
    host, _, port = status.leader_address.rpartition(":")
    state = "connected" if status.leader else "connect"
    return ("slave", host, int(port) if port.isdigit() else 0, state, status.applied)


def _peer(peer: PeerStatus) -> Reply:
    pairs: list[tuple[Reply, Reply]] = [
        ("node", peer.node),
        ("address", peer.address),
        ("connected", int(peer.connected)),
        ("lacking", peer.lacking),
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


def features_map(status: ServerStatus) -> Reply:
    """Return the reply to RAFT FEATURES: what the cluster uses, what this node has, and who lacks some of that."""
    members = {*status.voters, *status.outgoing, *status.learners}
    lacking = {peer.node: peer.lacking for peer in status.peers if peer.node in members}
    return Map(
        (
            ("used", status.features),
            ("own", status.own_features),
            ("lacking", Map(tuple((node, names) for node, names in lacking.items() if names))),
            ("not_connected", tuple(node for node, names in lacking.items() if names is None)),
        )
    )


def status_reply(status: ServerStatus) -> Reply:
    """Return the reply to RAFT STATUS: in RESP3 names and values, in RESP2 lines, which redis-cli shows one by one."""
    values = _status_map(status)
    return Encoded(encode(tuple(_lines(values)), 2), encode(values, 3))


def _lines(values: Map) -> Iterator[str]:
    """Yield a line for each name, and for each setting and each peer."""
    for name, value in values.pairs:
        if name == "peers":
            for peer in value if isinstance(value, tuple) else ():
                (_, node), *others = peer.pairs if isinstance(peer, Map) else ()
                yield f"peer {_short(node)}: {', '.join(f'{_short(each)} {_short(one)}' for each, one in others)}"
        elif isinstance(value, Map):
            yield from (f"{_short(name)} {_short(each)}: {_short(one)}" for each, one in value.pairs)
        else:
            yield f"{_short(name)}: {_short(value)}"


def _short(value: Reply) -> str:
    """Return a value of the status as text."""
    if value is None or value == "" or value == ():
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _settings(status: ServerStatus) -> Iterator[tuple[str, Reply]]:
    for name, value in status.settings.items():
        yield name, int(value) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value


def _status_map(status: ServerStatus) -> Map:
    return Map(
        (
            ("node", status.node),
            ("cluster", status.cluster),
            ("phase", status.phase),
            ("role", status.role),
            ("term", status.term),
            ("leader", status.leader),
            ("leader_address", status.leader_address),
            ("commit", status.commit),
            ("applied", status.applied),
            ("first_index", status.first_index),
            ("last_index", status.last_index),
            ("snapshot_index", status.snapshot_index),
            ("members_index", status.members_index),
            ("voters", status.voters),
            ("outgoing", status.outgoing),
            ("learners", status.learners),
            ("listen", status.listen),
            ("peer_address", status.peer_address),
            ("version", status.version),
            ("uptime_seconds", status.uptime_seconds),
            ("keys", status.keys),
            ("wall_milliseconds", status.wall),
            ("users", status.users),
            ("max_memory", status.max_memory),
            ("features", status.features),
            ("own_features", status.own_features),
            ("settings", Map(tuple(_settings(status)))),
            ("peers", tuple(_peer(peer) for peer in status.peers)),
        )
    )
