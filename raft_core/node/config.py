"""`NodeConfig`: the configuration of one node, the same for every adapter.

Also two conversions for adapters: an address into host and port, and a timeout in seconds into a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, Self, final

import attrs

from raft_core.errors import CallerError, SettingsError
from raft_core.ids import HIGHEST_FOUNDER, NodeId
from raft_core.membership import Members
from raft_core.node.address_book import is_everywhere
from raft_core.node.limits import SECOND, NodeLimits, check_metadata, check_node
from raft_core.node.security import TLS, PathLike, is_loopback
from raft_core.setting_help import with_setting_help
from raft_core.setting_types import check_mapping, check_setting, check_types
from raft_core.settings import Settings, unfit
from raft_core.store import Store

__all__ = ["NodeConfig", "PathLike", "check_timeout", "deadline_after", "join_address", "split_address"]

_HIGHEST_PORT: Final = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[::1]:port" into host and port. Raise `SettingsError` if it is neither."""
    check_setting("an address", address, str)
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
        raise SettingsError(f"an address is host:port, as in 10.0.0.7:7400, not {address!r}")
    if ":" in host or not host.strip("0123456789."):  # not the form of a host name
        try:
            ip_address(host)
        except ValueError:
            text = f"an address is host:port, as in 10.0.0.7:7400, and in {address!r} {host} is no IP address"
            raise SettingsError(text) from None
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Join host and port; the inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_timeout(timeout: float | None) -> None:
    """Raise `CallerError` if `timeout` is neither None nor a positive number of seconds."""
    if timeout is not None and not timeout > 0:
        raise CallerError(f"a timeout is a positive number of seconds or None, not {timeout}")


def deadline_after(now: int, timeout: float | None) -> int:
    """Return the time `timeout` seconds after `now` (nanoseconds); 0, for no deadline, if it is None.

    Raise `CallerError` if `timeout` is not a positive number.
    """
    check_timeout(timeout)
    if timeout is None:
        return 0
    return now + int(min(timeout, _LONGEST_TIMEOUT) * SECOND)


def _place(address: str) -> tuple[str, int]:
    """Return the address in a comparable form."""
    host, port = split_address(address)
    return host.lower(), port


_LONGEST_TIMEOUT: Final = 10**9
"""Seconds, thirty years: it allows `math.inf` as a timeout."""


_OLD_NAMES: Final = {
    "peers": "members={id: address} names every member, this node included; known= adds further addresses",
    "founders": "the ids in members={id: address} are the initial members; a node that joins later has join=True",
    "advertise": "this node's own address in members={id: address} is the one that others dial; listen= may differ",
    "host": "limits=NodeLimits(...)",
}
"""Keywords of release 0.1, each with what takes its place."""


@final
@with_setting_help
@attrs.frozen(slots=False)
class NodeConfig:
    """The configuration of one node: identity, members, disk. Raise `SettingsError` if invalid.

    An initial member, a node added later, and one that listens on another interface:

        NodeConfig(1, {1: "a:7101", 2: "b:7101", 3: "c:7101"}, data="counter-1")
        NodeConfig(4, {1: "a:7101", 2: "b:7101", 4: "d:7101"}, data="counter-4", join=True)
        NodeConfig(1, {1: "a:7101", ...}, data="counter-1", listen="0.0.0.0:7101")
    """

    node: int
    """This node's id: positive, and never reused in this cluster after the member was removed."""
    members: Mapping[int, str] = attrs.field(factory=dict)
    """Id and address ("host:port") of every initial member of a new cluster, the same on all of them. With `join`: of
    some present members, to which a node without an entry here still can be added.

    The own address is where others can dial this node, and where it listens unless `listen` says otherwise. With port 0
    the operating system chooses the port (see `Node.address`). Addresses may change at any time. Once the disk has been
    part of a cluster, the log knows the members and only the addresses are used. A cluster of one forms at once: if
    its disk may have been lost after the cluster had grown, start it with `join`.
    """
    cluster: str = attrs.field(default="raft", kw_only=True)
    """The cluster's name. A data directory or a peer of another cluster is refused."""
    join: bool = attrs.field(default=False, kw_only=True)
    """Wait to be added by `Node.change_members` of a member, instead of forming a new cluster. Ignored once the disk
    has been part of a cluster, so it can stay in place.
    """
    data: str | PathLike | None = attrs.field(default=None, kw_only=True)
    """The data directory, created if missing; its store is opened and closed with the node. A prefix selects the kind
    of store: `sqlite:PATH`, `rocksdb:PATH`, `mdbx:PATH`, `file:PATH`; a path alone is a store of plain files.
    """
    store: Store | None = attrs.field(default=None, kw_only=True)
    """An open store instead of `data`; it is closed with the node."""
    listen: str = attrs.field(default="", kw_only=True)
    """Address to listen on, if it is not the one in `members`. If `members` does not name this node, others are told
    this address, unless it is a wildcard (0.0.0.0, [::]).
    """
    known: Mapping[int, str] = attrs.field(factory=dict, kw_only=True)
    """Addresses of other nodes, not initial members. Optional: a node learns addresses from the greetings of others."""
    tls: TLS | None = attrs.field(default=None, kw_only=True)
    """Mutual TLS with the other nodes: each shows a certificate that names it. See `TLS` and docs/security.md."""
    insecure: bool = attrs.field(default=False, kw_only=True)
    """Whether this node may listen without TLS where other machines reach it. Every machine that reaches the port can
    then read and change everything. Without it, and without `tls`, a node listens on this machine alone (loopback).
    """
    metadata: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """Names and values that the other nodes are told, such as `{"http": "10.0.0.7:8000", "zone": "b"}`. They are in
    `Node.status`: `metadata_of(leader)`. At most 16 names of 64 characters, and values of 256.
    """
    settings: Settings = attrs.field(factory=Settings, kw_only=True)
    """Settings of the Raft protocol."""
    limits: NodeLimits = attrs.field(factory=NodeLimits, kw_only=True)
    """Timeouts and queue sizes of the node around the core.

    Its `address`, `peers`, `founders`, `metadata`, `certificates` and `exposed` are replaced.
    """
    machine_blocks: bool = attrs.field(default=False, kw_only=True)
    """Whether the machine's apply or query can take several milliseconds and so hold up the loop. Both then run in a
    thread, one call at a time, at the cost of a thread switch per command. Restoring always runs in a thread.
    """
    recorder_bytes: int = attrs.field(default=0, kw_only=True)
    """Keep a recording of the core's events, of at most this many bytes, for `Node.recording`; 0: none. It costs about
    a microsecond per event.
    """
    log_alarms: bool = attrs.field(default=True, kw_only=True)
    """Whether the adapter logs each alarm as a warning of the logger `raft`, besides `Node.alarms`."""

    def __new__(cls, *_given: object, **named: object) -> Self:
        """Refuse the keywords of release 0.1 with the new ones."""
        for old in sorted(_OLD_NAMES.keys() & named):
            raise SettingsError(f"NodeConfig has no {old}= any more: {_OLD_NAMES[old]}")
        return super().__new__(cls)

    def __attrs_post_init__(self) -> None:
        check_node(self.node)
        check_types(self)
        check_metadata(self.metadata)
        check_mapping("members", self.members)
        check_mapping("known", self.known)
        for name, value, kind in (("settings", self.settings, Settings), ("limits", self.limits, NodeLimits)):
            if not isinstance(value, kind):
                raise SettingsError(f"{name} must be {kind.__name__}(...), not {value!r}")
        self.limits.settings_of_core(self.settings)  # raises if they contradict each other
        if self.recorder_bytes < 0:
            raise SettingsError(f"recorder_bytes is a number of bytes, not {self.recorder_bytes}")
        for node in (*self.members, *self.known):
            check_node(node)
        if not self.cluster:
            raise SettingsError("a cluster needs a name, so that it is never mixed up with another")
        if (self.data is None) == (self.store is None):
            raise SettingsError("give exactly one of data and store: a node keeps its promises on one disk")
        if self.node not in self.members and not self.join:
            raise SettingsError(
                f"node {self.node} is not among the members {sorted(self.members)}: add it with its address, or pass "
                "join=True for a node that is added to an existing cluster"
            )
        if not self.listening_address:
            raise SettingsError(f"node {self.node} has no address: add it to members, or pass listen=")
        if self.tls is not None and not self.tls.authorities:
            raise SettingsError("TLS between nodes needs authorities=: the file with the certificates that sign theirs")
        for address in (self.listening_address, *self.members.values(), *self.known.values()):
            split_address(address)
        self._check_places()
        self._check_initial_members()

    @property
    def listening_address(self) -> str:
        """The address to listen on."""
        return self.listen or self.members.get(self.node, "")

    @property
    def _others(self) -> dict[int, str]:
        nodes = {**self.known, **self.members}
        return {node: nodes[node] for node in sorted(nodes) if node != self.node}

    def _check_places(self) -> None:
        """Raise `SettingsError` if an address cannot be dialled, or two nodes share one."""
        own = {_place(address) for address in (self.listening_address, self.members.get(self.node)) if address}
        if self.listen and self.node in self.members and not _dialable(self.members[self.node]):
            raise SettingsError(
                f"nobody can dial {self.members[self.node]}: name in members an address and a port of this machine at "
                "which others reach it, and in listen where it listens"
            )
        found: dict[tuple[str, int], int] = {}
        for node, address in self._others.items():
            place = _place(address)
            if not _dialable(address):
                raise SettingsError(f"nobody can dial {address}: name an address and a port of node {node}'s machine")
            if place in own:
                raise SettingsError(f"node {node} cannot be at {address}: that is where this node, {self.node}, is")
            if place in found:
                raise SettingsError(f"nodes {found[place]} and {node} cannot both be at {address}")
            found[place] = node

    def _check_initial_members(self) -> None:
        """Raise `SettingsError` if the members cannot form the intended cluster."""
        if self.join or max(self.members) > HIGHEST_FOUNDER:
            return  # an older release has founded it, or `Members.initial` refuses it where the disk is empty
        if problem := unfit(self.settings, Members.initial(tuple(self.members), leases=self.limits.leases)):
            raise SettingsError(problem)

    @property
    def identity(self) -> tuple[str, int]:
        """Cluster and node, as the node's certificate must name them."""
        return self.cluster, self.node

    def exposed(self, listening_at: str) -> str:
        """Return the address if other machines may reach this node without TLS, else "".

        Raise `SettingsError` if that is not allowed.
        """
        required = self.tls is not None and self.tls.required
        if required or all(is_loopback(split_address(at)[0]) for at in (listening_at, self.listening_address)):
            return ""
        if self.tls is None and not self.insecure:
            text = f"node {self.node} would listen at {listening_at} without TLS"
            raise SettingsError(
                f"{text}, where every machine that reaches it could read and change the data: give it "
                "tls=TLS(certificate=..., key=..., authorities=...), let it listen at 127.0.0.1, or pass insecure=True "
                "if the network is trusted"
            )
        return listening_at

    def node_limits(self, listening_at: str) -> NodeLimits:
        """Return the node's limits once it listens at `listening_at`."""
        own = self.members.get(self.node, "")
        if not (own and _dialable(own)):
            own = "" if is_everywhere(listening_at) else listening_at
        others = {NodeId(node): address for node, address in self._others.items()}
        founders = () if self.join else tuple(NodeId(node) for node in sorted(self.members))
        required = self.tls is not None and self.tls.required
        return attrs.evolve(
            self.limits,
            address=own,
            peers=others,
            founders=founders,
            metadata=self.metadata,
            certificates=required,
        )

    @property
    def shutdown_timeout(self) -> float:
        """Seconds to wait for a clean stop, and again for a hung disk, before giving up both.

        A little more than the node's own limit.
        """
        return self.limits.stop_timeout / SECOND + 1.0


def _dialable(address: str) -> bool:
    """Return whether others can dial the address: it names a machine and a port."""
    return not is_everywhere(address) and bool(split_address(address)[1])
