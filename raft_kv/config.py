"""What a person says to start a server: flags, or a TOML file, or both.

What lives here: `ServeConfig`, which checks itself, and the reading of a file. Flags win over the file. Reading a
file is the only I/O; parsing flags is `cli`'s.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs

from raft_core.errors import SettingsError
from raft_core.node.address_book import is_everywhere
from raft_core.node.config import NodeConfig, split_address
from raft_core.node.limits import SECOND, NodeLimits, check_node
from raft_core.settings import Settings
from raft_storage.location import parse_location, store_class

__all__ = ["LOOPS", "REDIS_ROLES", "ServeConfig", "check_name", "override", "read_file", "serve_config"]

LOOPS: Final = ("trio", "asyncio", "uvloop")
REDIS_ROLES: Final = ("master", "raft")
T = TypeVar("T", Settings, NodeLimits)
HOST: Final = NodeLimits(leader_wait=1 * SECOND)
"""A client is told after a second that no leader is there, so that it can try another node."""


@final
@attrs.frozen(kw_only=True)
class ServeConfig:
    """One server. Raises `SettingsError` where values make no sense."""

    id: int
    """This node's number in the cluster; positive, and never used again."""
    cluster: str = "raft-kv"
    """The cluster's name, written into the data directory."""
    listen: str = "127.0.0.1:6379"
    """Where Redis clients connect. There are no passwords: listen only where everybody may write."""
    peer_listen: str = "127.0.0.1:7379"
    """Where the other nodes connect."""
    advertise: str = ""
    """Where the other nodes can dial this one; empty: where it listens."""
    peers: Mapping[int, str] = attrs.field(factory=dict)
    """The peer addresses of the other nodes."""
    data: str = ""
    """The data directory, or a location such as sqlite:DIR; empty: raft-kv-<id> in the working directory."""
    join: bool = False
    """Wait to be added with RAFT ADD, instead of founding a cluster with the peers."""
    loop: str = "trio"
    """Which event loop carries the server."""
    request_timeout: float = 5.0
    """Seconds until a client is told that nothing was done, or that nobody knows."""
    max_clients: int = 10_000
    """Client connections at any time."""
    stop_at_eof: bool = False
    """Stop when standard input ends, as on SIGTERM, so that no node outlives a parent that holds the other end."""
    redis_role: str = "master"
    """What this node calls itself to Redis clients. "master": a master on every node, since every node takes writes.
    "raft": a master where it leads, otherwise a replica; some clients then send it no writes."""
    verbose: bool = False
    """Print every change of role, term and leader."""
    settings: Settings = Settings()
    """The protocol's numbers."""
    host: NodeLimits = HOST
    """The numbers of what surrounds it."""

    def __attrs_post_init__(self) -> None:
        if self.loop not in LOOPS:
            raise SettingsError(f"loop is one of {', '.join(LOOPS)}, not {self.loop!r}")
        if self.redis_role not in REDIS_ROLES:
            raise SettingsError(f"redis-role is one of {', '.join(REDIS_ROLES)}, not {self.redis_role!r}")
        if not self.request_timeout > 0:
            raise SettingsError(f"request-timeout is a positive number of seconds, not {self.request_timeout}")
        if self.max_clients < 1:
            raise SettingsError(f"max-clients must be at least 1, not {self.max_clients}")
        if self.join and not self.peers:
            raise SettingsError("a node that joins needs the address of at least one peer: --peer ID=HOST:PORT")
        for node in (self.id, *self.peers):
            check_node(node)
        check_name(self.cluster)
        if "\0" in self.data:
            raise SettingsError(f"--data is a directory, not {self.data!r}")
        store_class(parse_location(self.directory))
        self._check_addresses()
        self.node_config()

    def _check_addresses(self) -> None:
        flags = {"--listen": self.listen, "--peer-listen": self.peer_listen, "--advertise": self.advertise}
        flags |= {f"--peer {node}": address for node, address in self.peers.items()}
        for flag, address in flags.items():
            if address or flag != "--advertise":
                _check_address(flag, address)
        clients = split_address(self.listen)
        if not clients[1]:
            return
        for flag, address in flags.items():
            if flag != "--listen" and address and split_address(address) == clients:
                raise SettingsError(f"{flag} cannot be {address}: clients connect there (--listen), not other nodes")

    @property
    def directory(self) -> str:
        """The data directory."""
        return self.data or f"raft-kv-{self.id}"

    def node_config(self) -> NodeConfig:
        """What the adapter's `open_node` is given."""
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
            data=self.directory,
            listen=self.peer_listen if own != self.peer_listen or self.advertise else "",
            settings=self.settings,
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
    """Raises `SettingsError` where `cluster` cannot be written into a data directory."""
    try:
        cluster.encode("utf-8")
    except UnicodeEncodeError:
        raise SettingsError(f"a cluster's name is text in UTF-8, not {cluster!r}") from None


def _check_address(flag: str, address: str) -> None:
    try:
        host, _port = split_address(address)
        host.encode("idna")  # what looking the name up begins with
    except UnicodeError as failure:
        raise SettingsError(f"{flag}: {address!r} is not an address: {failure}") from None
    except SettingsError as failure:
        raise SettingsError(f"{flag}: {failure}") from None


def read_file(path: Path) -> dict[str, Any]:
    """The values of a TOML file under the names of `ServeConfig`'s fields. Raises `SettingsError`, `OSError`."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise SettingsError(f"{path} is not a TOML file: {failure}") from None
    values = {name.replace("-", "_"): value for name, value in raw.items()}
    known = {field.name for field in attrs.fields(ServeConfig)}
    if unknown := sorted(set(values) - known):
        raise SettingsError(f"{path}: unknown names {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return values


def serve_config(values: Mapping[str, Any]) -> ServeConfig:
    """The configuration that values from a file and from flags make. Raises `SettingsError`.

    The values are `Any` because they come from a file; each is brought into its field's type here."""
    given = dict(values)
    if "id" not in given:
        raise SettingsError("which node is this? Give --id, or id in the file")
    fields = {field.name: field for field in attrs.fields(ServeConfig)}
    for name in given.keys() - {"peers", "settings", "host"}:
        default = 0 if name == "id" else fields[name].default
        given[name] = _as_type_of(default, given[name], name)
    given["peers"] = _peers(given.get("peers", {}))
    given["settings"] = override(Settings(), given.get("settings", {}))
    given["host"] = override(HOST, given.get("host", {}))
    return ServeConfig(**given)


def _peers(table: object) -> dict[int, str]:
    if not isinstance(table, Mapping):
        raise SettingsError("peers is a table from a node's number to its address")
    peers: dict[int, str] = {}
    for name, address in table.items():
        node: int = _as_type_of(0, name, "a peer's number")
        if node in peers:
            raise SettingsError(f"the address of peer {node} is given twice: {peers[node]} and {address}")
        peers[node] = str(address)
    return peers


def override(defaults: T, values: object) -> T:
    """The defaults with some fields replaced, each brought into its default's type. Raises `SettingsError`."""
    if not isinstance(values, Mapping):
        raise SettingsError("settings and host are tables of names and values")
    known = {field.name for field in attrs.fields(type(defaults))} - {"address", "peers", "founders"}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        field = str(name).replace("-", "_")
        if field not in known:
            raise SettingsError(f"there is no setting {name!r}; known are {', '.join(sorted(known))}")
        changes[field] = _as_type_of(getattr(defaults, field), value, field)
    return attrs.evolve(defaults, **changes)


def _as_type_of(default: object, value: object, name: str) -> Any:
    """`value`, which a person has typed, in the type of `default`."""
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else _TRUTH[str(value).lower()]
        if isinstance(default, Enum):
            return type(default)(str(value))
        if isinstance(default, float):
            return float(str(value))
        if isinstance(default, int):
            return int(str(value).replace("_", ""))
    except (ValueError, KeyError):
        raise SettingsError(f"{name} cannot be {value!r}; its default is {default!r}") from None
    return str(value)


_TRUTH: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
