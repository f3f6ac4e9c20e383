"""`ServeConfig`: the configuration of one server, and its options.

Values come from flags, environment variables `RAFT_KV_*`, or a TOML file, in this order of precedence.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.address_book import is_everywhere
from raft_core.node.config import NodeConfig, split_address
from raft_core.node.limits import SECOND, NodeLimits, check_node
from raft_core.node.security import TLS, is_loopback
from raft_core.settings import Settings
from raft_kv.election_timeout import ELECTION_TIMEOUT, take_election_timeout
from raft_kv.features import FEATURES
from raft_kv.log_output import FORMATS, LEVELS
from raft_kv.options import Option, ValueAt, Values, known_names, register, structure, with_variables
from raft_kv.ordinals import fill_in
from raft_kv.sizes import bytes_of
from raft_storage.location import parse_location, store_class

__all__ = [
    "FASTEST_LOOP",
    "LOOPS",
    "OPTIONS",
    "REDIS_ROLES",
    "TLS_MODES",
    "ServeConfig",
    "check_name",
    "fastest_loop",
    "given_values",
    "serve_config",
]

LOOPS: Final = ("trio", "asyncio", "uvloop")
FASTEST_LOOP: Final = "uvloop if it is installed, else trio"
REDIS_ROLES: Final = ("master", "raft")
TLS_MODES: Final = ("require", "accept", "off")
_LEADER_WAIT: Final = 1 * SECOND
"""Without a leader a client gets an error after this time, so that it can try another node."""


def fastest_loop() -> str:
    """Return the fastest event loop that is installed."""
    return "trio" if find_spec("uvloop") is None else "uvloop"


@final
@attrs.frozen(kw_only=True)
class ServeConfig:
    """The configuration of one server. Raise `SettingsError` if values are invalid."""

    id: int
    """This node's id in the cluster: positive, and never reused."""
    cluster: str = "raft-kv"
    """The cluster's name, written into the data directory."""
    listen: str = "127.0.0.1:6379"
    """Address for Redis clients. Without users, every client that can connect may read and write."""
    peer_listen: str = "127.0.0.1:7379"
    """Address for the other nodes."""
    health: str = ""
    """Address for supervisors, Prometheus and browsers, "host:port" or a port of this machine; empty: none."""
    health_nodes: str = ""
    """URLs of the health ports of other nodes, separated by commas; the page shows them too."""
    users: str = ""
    """A file of users, one a line as ACL LIST prints them; empty: users are kept in the log (ACL SETUSER)."""
    advertise: str = ""
    """Address at which the other nodes can dial this one; empty: the address it listens on."""
    peers: Mapping[int, str] = attrs.field(factory=dict)
    """The peer addresses of the other nodes."""
    data: str = ""
    """The data directory, or a location such as sqlite:PATH; empty: raft-kv-<id> in the working directory."""
    tls_certificate: str = ""
    """PEM file with this node's certificate, for peers and clients; empty: no TLS. See `raft_core.node.security`."""
    tls_key: str = ""
    """PEM file with its private key."""
    tls_authorities: str = ""
    """PEM file with the authorities that sign the certificates of all nodes."""
    tls_client_authorities: str = ""
    """PEM file with the authorities of clients' certificates; empty: a client needs none."""
    tls_peers: str = ""
    """Mode of TLS at the port for peers, one of `TLS_MODES`; empty: require, if there is a certificate."""
    tls_clients: str = ""
    """The same at the port for clients."""
    tls_minimum: str = "1.3"
    """Lowest version of TLS, 1.3 or 1.2."""
    insecure: bool = False
    """Allow a port without TLS to which other machines can connect."""
    join: bool = False
    """Join an existing cluster (see RAFT ADD). Without it, the peers bootstrap a new cluster."""
    loop: str = attrs.field(factory=fastest_loop)
    """The event loop, one of `LOOPS`."""
    request_timeout: float = 5.0
    """Seconds after which a request without an outcome is answered by an error."""
    max_clients: int = 10_000
    """Client connections at any time."""
    max_clients_per_address: int = 0
    """The same from one address; 0: no limit."""
    max_connection_rate: float = 0.0
    """New connections per second from one address; 0: no limit."""
    max_memory: str = ""
    """Memory of keys and values, such as 512mb or 2gb, above which writes are refused; empty: no limit."""
    stop_at_eof: bool = False
    """Stop when standard input ends, as on SIGTERM, so that no node outlives a parent which holds the other end."""
    redis_role: str = "master"
    """This node's role in replies to Redis clients. "master": always, since every node accepts writes. "raft": a
    master while it leads, otherwise a replica; some clients then send it no writes."""
    log_format: str = "text"
    """Form of the log, one of `FORMATS`."""
    log_level: str = "info"
    """Lowest level in the log, one of `LEVELS`."""
    verbose: bool = False
    """The same as the log level debug."""
    settings: Settings = Settings()
    """Settings of the Raft protocol."""
    host: NodeLimits = NodeLimits(leader_wait=_LEADER_WAIT)
    """Limits of the node around the core."""

    def __attrs_post_init__(self) -> None:
        for name, value, choices in (
            ("loop", self.loop, LOOPS),
            ("redis-role", self.redis_role, REDIS_ROLES),
            ("log-format", self.log_format, FORMATS),
            ("log-level", self.log_level, LEVELS),
            ("tls-peers", self.tls_peers or "off", TLS_MODES),
            ("tls-clients", self.tls_clients or "off", TLS_MODES),
        ):
            if value not in choices:
                raise SettingsError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        if not self.request_timeout > 0:
            raise SettingsError(f"request-timeout must be a positive number of seconds, not {self.request_timeout}")
        if self.max_clients < 1:
            raise SettingsError(f"max-clients must be at least 1, not {self.max_clients}")
        if self.max_clients_per_address < 0 or not self.max_connection_rate >= 0:
            raise SettingsError("max-clients-per-address and max-connection-rate are at least 0")
        bytes_of(self.max_memory)
        if self.join and not self.peers:
            raise SettingsError("join needs the address of at least one peer: --peer ID=HOST:PORT")
        for node in (self.id, *self.peers):
            check_node(node)
        check_name(self.cluster)
        if "\0" in self.data:
            raise SettingsError(f"data must be a location, such as /var/lib/raft-kv or sqlite:PATH, not {self.data!r}")
        store_class(parse_location(self.directory))
        self._check_addresses()
        self._check_security()
        self.node_config()

    def _check_addresses(self) -> None:
        named = {"listen": self.listen, "peer-listen": self.peer_listen, "advertise": self.advertise}
        named |= {"health": self.health_address} if self.health else {}
        named |= {f"the address of peer {node}": address for node, address in self.peers.items()}
        for name, address in named.items():
            if address or name != "advertise":
                _check_address(name, address)
        for url in self.health_urls:
            _check_url(url)
        clients = split_address(self.listen)
        if not clients[1]:
            return
        for name, address in named.items():
            if name != "listen" and address and split_address(address) == clients:
                raise SettingsError(f"{name} cannot be {address}: that is the address for clients (listen)")

    def _check_security(self) -> None:
        """Raise `SettingsError` if a port without TLS would be open to other machines."""
        if not self.tls_certificate:
            for name in ("tls_key", "tls_authorities", "tls_client_authorities", "tls_peers", "tls_clients"):
                if getattr(self, name) not in ("", "off"):
                    raise SettingsError(f"{name.replace('_', '-')} is of no use without tls-certificate")
        elif not self.tls_key:
            raise SettingsError("tls-certificate needs tls-key, the file with its private key")
        for name, address, tls in (
            ("listen", self.listen, self.client_tls()),
            ("peer-listen", self.peer_listen, self.peer_tls()),
            ("health", self.health_address, self.client_tls()),
        ):
            if address and tls is None and not self.insecure and not is_loopback(split_address(address)[0]):
                what = "read the state of this node" if name == "health" else "read and change the data"
                raise SettingsError(
                    f"{name} {address} is open to other machines, and without TLS each of them could {what}: give a "
                    "certificate (--tls-certificate, --tls-key, --tls-authorities; raft-kv certs makes them), listen "
                    "at 127.0.0.1, or say --insecure if the network is trusted"
                )

    def peer_tls(self) -> TLS | None:
        """Return the TLS of the port for peers, None without."""
        return self._tls(self.tls_peers, self.tls_authorities)

    def client_tls(self) -> TLS | None:
        """Return the TLS of the port for clients, None without."""
        return self._tls(self.tls_clients, self.tls_client_authorities)

    def _tls(self, mode: str, authorities: str) -> TLS | None:
        if not self.tls_certificate or mode == "off":
            return None
        return TLS(
            certificate=self.tls_certificate,
            key=self.tls_key,
            authorities=authorities,
            mode=mode or "require",
            minimum=self.tls_minimum,
        )

    @property
    def max_memory_bytes(self) -> int:
        """The limit on memory in bytes, 0 without one."""
        return bytes_of(self.max_memory)

    @property
    def health_address(self) -> str:
        """The address of the health port; a port alone is one of this machine."""
        return f"127.0.0.1:{self.health}" if self.health.isdigit() else self.health

    @property
    def health_uses_tls(self) -> bool:
        """True if the health port speaks TLS: as the port for clients does, but never on a loopback address."""
        return bool(self.health) and self.client_tls() is not None and not self._health_is_local

    @property
    def health_is_protected(self) -> bool:
        """True if other machines can connect to the health port by TLS only, or not at all."""
        tls = self.client_tls()
        return self._health_is_local or (tls is not None and tls.required)

    @property
    def _health_is_local(self) -> bool:
        return is_loopback(split_address(self.health_address)[0])

    @property
    def health_urls(self) -> tuple[str, ...]:
        """The URLs of other nodes' health ports."""
        return tuple(url.strip().rstrip("/") for url in self.health_nodes.split(",") if url.strip())

    @property
    def directory(self) -> str:
        """The location of the data."""
        return self.data or f"raft-kv-{self.id}"

    def node_config(self) -> NodeConfig:
        """Return the configuration for an adapter's `open_node`."""
        others = [node for node in self.peers if node != self.id]
        if self.peers and not others:
            raise SettingsError(
                f"node {self.id} is its own only peer, and would found a cluster alone: name the others, each with its "
                "own number; for a cluster of one, name no peer"
            )
        own = self.advertise or self.peers.get(self.id) or self.peer_listen
        self._check_own_place()
        return NodeConfig(
            self.id,
            {**self.peers, self.id: own},
            cluster=self.cluster,
            join=self.join,
            tls=self.peer_tls(),
            insecure=self.insecure,
            data=self.directory,
            listen=self.peer_listen if own != self.peer_listen or self.advertise else "",
            settings=attrs.evolve(self.settings, features=FEATURES),
            limits=self.host,
        )

    def _check_own_place(self) -> None:
        """Raise `SettingsError` if this node is named among its peers at an address of another node."""
        named = self.peers.get(self.id)
        if not named or named.lower() in (self.peer_listen.lower(), self.advertise.lower()):
            return
        if not (is_everywhere(self.peer_listen) and split_address(named)[1] == split_address(self.peer_listen)[1]):
            raise SettingsError(
                f"node {self.id} is named among its own peers, at {named}, where it does not listen: if that is "
                "another node, give it its own number; if it is this one, let it listen there, or advertise it"
            )


def check_name(cluster: str) -> None:
    """Raise `SettingsError` if `cluster` cannot be written into a data directory."""
    try:
        cluster.encode("utf-8")
    except UnicodeEncodeError:
        raise SettingsError(f"a cluster's name is text in UTF-8, not {cluster!r}") from None


def _check_address(name: str, address: str) -> None:
    try:
        host, _port = split_address(address)
        host.encode("idna")  # as the resolver does first
    except UnicodeError as failure:
        raise SettingsError(f"{name}: {address!r} is not an address: {failure}") from None
    except SettingsError as failure:
        raise SettingsError(f"{name}: {failure}") from None


def _check_url(url: str) -> None:
    scheme, sign, address = url.partition("://")
    if scheme not in ("http", "https") or not sign:
        raise SettingsError(f"health-nodes: {url!r} is no URL like http://10.0.0.7:8379")
    _check_address("health-nodes", address)


# Options.


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
        host.setdefault("leader_wait", _LEADER_WAIT)
    return structure(values, ServeConfig)


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
