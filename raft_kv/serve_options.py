"""The options of `raft-kv serve`, and how they become a `ServeConfig`.

Values come from flags, environment variables `RAFT_KV_*`, or a TOML file, in this order of precedence.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.limits import NodeLimits, check_node
from raft_core.settings import Settings
from raft_kv.config import FASTEST_LOOP, LEADER_WAIT, LOOPS, REDIS_ROLES, TLS_MODES, ServeConfig
from raft_kv.election_timeout import ELECTION_TIMEOUT, take_election_timeout
from raft_kv.log_output import FORMATS, LEVELS
from raft_kv.options import Option, ValueAt, Values, known_names, register, structure, with_variables
from raft_kv.ordinals import fill_in

__all__ = ["OPTIONS", "given_values", "serve_config"]

OPTIONS: Final = with_variables(
    "RAFT_KV_",
    Option(name="config", metavar="FILE", help="a TOML file with any of these names; see below"),
    Option(name="id", metavar="N", help="this node's id: positive, never reused after the node was removed"),
    Option(name="cluster", metavar="NAME", help="the cluster's name, the same on all nodes", default="raft-kv"),
    Option(name="listen", metavar="HOST:PORT", help="address for Redis clients", default="127.0.0.1:6379"),
    Option(name="peer-listen", metavar="HOST:PORT", help="address for the other nodes", default="127.0.0.1:7379"),
    Option(
        name="health",
        metavar="[HOST:]PORT",
        help="address for supervisors, Prometheus and browsers: /livez /readyz /metrics and a page; see"
        " docs/monitoring.md",
    ),
    Option(
        name="health-nodes",
        metavar="URL,URL",
        help="health ports of the other nodes, as http://HOST:PORT: the page shows these nodes too",
    ),
    Option(
        name="users",
        metavar="FILE",
        help="a file of users, read at the start; without it, users are made by ACL SETUSER and kept in the log",
    ),
    Option(
        name="advertise",
        metavar="HOST:PORT",
        help="address at which the other nodes can dial this one",
        default="the address of --peer-listen",
    ),
    Option(name="peer", metavar="ID=HOST:PORT", help="address of another node (repeatable)", repeated=True),
    Option(
        name="data",
        metavar="LOCATION",
        help="the node's data, created if missing: PATH, file:PATH, sqlite:PATH, rocksdb:PATH or mdbx:PATH",
        default="raft-kv-ID",
    ),
    Option(
        name="tls-certificate",
        metavar="FILE",
        help="PEM file with this node's certificate, which names cluster and node: raft://CLUSTER/ID",
    ),
    Option(name="tls-key", metavar="FILE", help="PEM file with its private key"),
    Option(name="tls-authorities", metavar="FILE", help="PEM file with the authorities of the nodes' certificates"),
    Option(
        name="tls-client-authorities",
        metavar="FILE",
        help="PEM file with the authorities of clients' certificates; without it, a client needs no certificate",
    ),
    Option(
        name="tls-peers",
        metavar="|".join(TLS_MODES),
        help="TLS at the port for peers; accept, only while moving to TLS, takes both",
        default="require with a certificate, else off",
    ),
    Option(
        name="tls-clients",
        metavar="|".join(TLS_MODES),
        help="TLS at the port for clients",
        default="require with a certificate, else off",
    ),
    Option(name="tls-minimum", metavar="VERSION", help="lowest version of TLS: 1.3 or 1.2", default="1.3"),
    Option(
        name="insecure",
        help="allow ports without TLS to which other machines can connect: each can read and change the data",
        default="false",
    ),
    Option(
        name="join",
        help="join an existing cluster (see RAFT ADD); without it, the listed peers bootstrap a new cluster",
        default="false",
    ),
    Option(
        name="dns",
        metavar="NAME:PORT",
        help="with --expect: the nodes' domain and peer port, where host NAME-0 is node 1, NAME-1 node 2, and so on",
    ),
    Option(name="expect", metavar="N", help="with --dns: the first N nodes found the cluster, later ones join"),
    Option(name="loop", metavar="LOOP", help=f"the event loop: {', '.join(LOOPS)}", default=FASTEST_LOOP),
    Option(
        name="request-timeout",
        metavar="SECONDS",
        help="a request without an outcome is answered by an error after this time",
        default="5",
    ),
    Option(name="max-clients", metavar="N", help="client connections at any time", default="10000"),
    Option(name="max-clients-per-address", metavar="N", help="the same from one address; 0: no limit", default="0"),
    Option(
        name="max-connection-rate",
        metavar="N",
        help="new connections per second from one address; 0: no limit",
        default="0",
    ),
    Option(
        name="max-memory",
        metavar="SIZE",
        help="memory of keys and values, such as 512mb or 2gb; writes beyond it are refused (OOM)",
    ),
    Option(
        name="redis-role",
        metavar="|".join(REDIS_ROLES),
        help="this node's role for Redis clients: always master; or master on the leader and slave elsewhere",
        default="master",
    ),
    Option(
        name="set",
        metavar="NAME=VALUE",
        help="a setting, such as election_timeout=1.5 (seconds), snapshot_entries=50000 or inline_sync=true"
        " (repeatable); all of them: docs/configuration.md",
        repeated=True,
    ),
    Option(
        name="stop-at-eof",
        help="stop when standard input ends, as on SIGTERM, so that no node outlives its parent process",
        default="false",
    ),
    Option(
        name="log-format",
        metavar="|".join(FORMATS),
        help="form of the log on standard error: lines of text, or one JSON object per line",
        default="text",
    ),
    Option(name="log-level", metavar="|".join(LEVELS), help="lowest level in the log", default="info"),
    Option(name="verbose", help="the same as --log-level debug", default="false"),
)
"""The options of `raft-kv serve`."""


def given_values(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Values:
    """Collect the values of a configuration file, of environment variables and of flags, by rising precedence.

    Settings (`--set`) replace each other one by one, peers all together. Raise `SettingsError` or `OSError`.
    """
    options = {option.name: option for option in OPTIONS}
    values = Values()
    for path, _ in values.given(options["config"], flags, environ):
        values.read_file(Path(path))
    plain = [option for option in OPTIONS if option.name not in ("config", "peer", "set")]
    values.take(plain, flags, environ)
    peers = [(*_pair(text, origin), origin) for text, origin in values.given(options["peer"], flags, environ)]
    if peers:
        values.clear("peers")
    for node, address, origin in peers:
        if ("peers", node) in values.origins:
            raise SettingsError(f"{origin}: peer {node} is named twice, also by {values.origin(('peers', node))}")
        values.put(("peers", node), address, origin)
    sources: tuple[tuple[Mapping[str, Any], Mapping[str, str]], ...] = (({}, environ), (flags, {}))
    for source in sources:
        for text, origin in values.given(options["set"], *source):
            name, value = _pair(text, origin)
            name = name.replace("-", "_")
            values.put((_table_of(name), name), value, origin)
    return values


def _table_of(name: str) -> str:
    """Return the table for a setting; for an unknown one, that of the most similar name."""
    if name == ELECTION_TIMEOUT:
        return "settings"
    limits = known_names(NodeLimits)
    likely = get_close_matches(name, [*known_names(Settings), *limits], 1)
    return "host" if likely and likely[0] in limits else "settings"


def _pair(text: str, origin: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise SettingsError(f"{origin}: NAME=VALUE is expected, not {text!r}")
    return name, value


def serve_config(given: Values | Mapping[str, Any]) -> ServeConfig:
    """Return the configuration. Raise `SettingsError`, with the origin of each value that is wrong."""
    values = given if isinstance(given, Values) else Values(dict(given))
    fill_in(values, socket.gethostname())
    if "id" not in values.tree:
        raise SettingsError("this node's id is missing: give --id, RAFT_KV_ID, or id in the file of --config")
    take_election_timeout(values)
    host = values.tree.setdefault("host", {})
    if isinstance(host, dict):
        host.setdefault("leader_wait", LEADER_WAIT)
    return structure(values, ServeConfig, tables=("settings", "host"))


def _peers(table: object) -> dict[int, str]:
    if not isinstance(table, Mapping):
        raise ValueError("peers is a table of node ids and addresses")
    peers: dict[int, str] = {}
    for key, address in table.items():
        try:
            node = int(str(key))
            check_node(node)
        except (ValueError, SettingsError) as failure:
            raise ValueAt(str(key), f"{key!r} is not a node id: {failure}") from None
        if node in peers:
            raise ValueAt(str(key), f"peer {node} is named twice: at {peers[node]} and at {address}")
        if not isinstance(address, str):
            raise ValueAt(str(key), f"{address!r} is not a text in quotation marks")
        peers[node] = address
    return peers


register(Settings, hidden=("features",))
register(
    NodeLimits,
    hidden=[
        name
        for name in ("address", "peers", "founders", "certificates", "exposed")
        if name in attrs.fields_dict(NodeLimits)
    ],
)
register(ServeConfig, peers=_peers)
