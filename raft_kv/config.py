"""`ServeConfig`: the configuration of one server. `serve_options` reads it from a command line, variables or a file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.address_book import is_everywhere
from raft_core.node.config import NodeConfig, split_address
from raft_core.node.limits import SECOND, NodeLimits, check_node
from raft_core.node.security import TLS, is_loopback
from raft_core.settings import Settings
from raft_kv.features import FEATURES
from raft_kv.log_output import FORMATS, LEVELS
from raft_kv.options import check_all
from raft_kv.sizes import bytes_of
from raft_storage.location import parse_location, store_class

__all__ = [
    "FASTEST_LOOP",
    "LEADER_WAIT",
    "LOOPS",
    "REDIS_ROLES",
    "TLS_MODES",
    "ServeConfig",
    "check_name",
    "fastest_loop",
]

LOOPS: Final = ("trio", "asyncio", "uvloop")
FASTEST_LOOP: Final = "uvloop if it is installed, else trio"
REDIS_ROLES: Final = ("master", "raft")
TLS_MODES: Final = ("require", "accept", "off")
LEADER_WAIT: Final = 1 * SECOND
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
    host: NodeLimits = NodeLimits(leader_wait=LEADER_WAIT)
    """Limits of the node around the core."""

    def __attrs_post_init__(self) -> None:
        check_all(
            self._check_choices,
            self._check_numbers,
            lambda: check_name(self.cluster),
            self._check_location,
            self._check_ports,
        )
        self.node_config()

    def _check_choices(self) -> None:
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

    def _check_numbers(self) -> None:
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

    def _check_location(self) -> None:
        if "\0" in self.data:
            raise SettingsError(f"data must be a location, such as /var/lib/raft-kv or sqlite:PATH, not {self.data!r}")
        store_class(parse_location(self.directory))

    def _check_ports(self) -> None:
        self._check_addresses()
        self._check_security()

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
            log_alarms=False,  # the server logs them, with more
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
