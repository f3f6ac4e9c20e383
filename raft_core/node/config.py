"""`NodeConfig`: the configuration of one node, the same for every adapter.

Also two conversions for adapters: an address into host and port, and a timeout in seconds into a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, Protocol, final

import attrs

from raft_core.errors import CallerError, SettingsError
from raft_core.ids import HIGHEST_FOUNDER, NodeId
from raft_core.membership import Members
from raft_core.node.address_book import is_everywhere
from raft_core.node.limits import SECOND, NodeLimits, check_node
from raft_core.server import unfit
from raft_core.settings import Settings
from raft_core.store import Store

__all__ = ["NodeConfig", "PathLike", "check_timeout", "deadline_after", "join_address", "split_address"]

_HIGHEST_PORT: Final = 65_535


class PathLike(Protocol):
    """A path of the operating system, as made by `pathlib`."""

    def __fspath__(self) -> str: ...


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[::1]:port" into host and port. Raise `SettingsError` if it is neither."""
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


def _names(nodes: Mapping[int, str]) -> dict[NodeId, str]:
    return {NodeId(node): address for node, address in nodes.items()}


def _nodes(nodes: tuple[int, ...]) -> tuple[NodeId, ...]:
    return tuple(NodeId(node) for node in nodes)


@final
@attrs.frozen(kw_only=True)
class NodeConfig:
    """The configuration of one node: identity, listening address, peers, disk. Raise `SettingsError` if invalid."""

    node: int
    """This node's id: positive, and never reused in this cluster after the member was removed."""
    cluster: str
    """The cluster's name. A data directory or a peer of another cluster is refused."""
    listen: str
    """Address to listen on for peers, "host:port"; with port 0 the operating system chooses (see `Node.address`)."""
    peers: Mapping[int, str] = attrs.field(factory=dict)
    """Addresses of the other nodes. They may change at any time; only those of all founders must be present. This node
    may be included, with the address it listens on or advertises.
    """
    founders: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...])
    """The initial members of a new cluster, including this node; the same on all of them. Empty: a node that waits to
    be added. Ignored once the disk has been part of a cluster, so it can stay in place.
    """
    data: str | PathLike | None = None
    """The data directory, created if missing; its store is opened and closed with the node. A prefix selects the kind
    of store: `sqlite:PATH`, `rocksdb:PATH`, `mdbx:PATH`, `file:PATH`; a path alone is a store of plain files.
    """
    store: Store | None = None
    """An open store instead of `data`; it is closed with the node."""
    settings: Settings = Settings()
    """Settings of the Raft protocol."""
    host: NodeLimits = NodeLimits()
    """Limits of the node around the core; its `address`, `peers` and `founders` are replaced by those given here."""
    machine_blocks: bool = False
    """Whether the machine's apply or query can take several milliseconds and so hold up the loop. Both then run in a
    thread, one call at a time, at the cost of a thread switch per command. Restoring always runs in a thread.
    """
    advertise: str | None = None
    """Address at which peers can dial this node; None: the address it listens on. A wildcard address (0.0.0.0, [::]) is
    not advertised, and peers use their configured address; a node in no peer's configuration then needs this.
    """
    recorder_bytes: int = 0
    """Keep a recording of the core's events, of at most this many bytes, for `Node.recording`; 0: none. It costs about
    a microsecond per event.
    """

    def __attrs_post_init__(self) -> None:
        if self.recorder_bytes < 0:
            raise SettingsError(f"recorder_bytes is a number of bytes, not {self.recorder_bytes}")
        for node in (self.node, *self.peers, *self.founders):
            check_node(node)
        if not self.cluster:
            raise SettingsError("a cluster needs a name, so that it is never mixed up with another")
        if (self.data is None) == (self.store is None):
            raise SettingsError("give exactly one of data and store: a node keeps its promises on one disk")
        if self.founders and self.node not in self.founders:
            raise SettingsError(f"node {self.node} is not among the founders; leave them out for a node that joins")
        if self.advertise and is_everywhere(self.advertise):
            raise SettingsError(f"nobody can dial {self.advertise}: advertise an address of this machine, or none")
        for address in (self.listen, *self.peers.values(), *filter(None, [self.advertise])):
            split_address(address)
        self._check_places()
        self._check_founders()

    def _check_places(self) -> None:
        """Raise `SettingsError` if an address cannot be dialled, or two nodes share one."""
        if self.advertise and not split_address(self.advertise)[1]:
            raise SettingsError(f"nobody can dial {self.advertise}: advertise the port that this node listens at")
        own = {_place(address) for address in (self.listen, self.advertise or "") if address}
        found: dict[tuple[str, int], int] = {}
        for node, address in sorted(self.peers.items()):
            place = _place(address)
            if is_everywhere(address) or not place[1]:
                raise SettingsError(f"nobody can dial {address}: name an address and a port of node {node}'s machine")
            if node == self.node:
                if place not in own and not (is_everywhere(self.listen) and place[1] == _place(self.listen)[1]):
                    raise SettingsError(
                        f"node {node} is named among its own peers, at {address}, where it does not listen: if that is "
                        "another node, give it its own number; if it is this one, let it listen there, or advertise it"
                    )
            elif place in own:
                raise SettingsError(f"node {node} cannot be at {address}: that is where this node, {self.node}, is")
            elif place in found:
                raise SettingsError(f"nodes {found[place]} and {node} cannot both be at {address}")
            found[place] = node

    def _check_founders(self) -> None:
        """Raise `SettingsError` if the founders cannot form the intended cluster."""
        if len(set(self.founders)) != len(self.founders):
            raise SettingsError(f"a founder is named twice in {list(self.founders)}")
        if missing := sorted(set(self.founders) - {*self.peers, self.node}):
            names = ", ".join(map(str, missing))
            raise SettingsError(f"no address is known of the founders {names}: give it in peers, or leave them out")
        if max(self.founders, default=0) > HIGHEST_FOUNDER:
            return  # an older release has founded it, or `Members.initial` refuses it where the disk is empty
        if self.founders and (problem := unfit(self.settings, Members.initial(self.founders, leases=self.host.leases))):
            raise SettingsError(problem)

    def node_limits(self, listening_at: str) -> NodeLimits:
        """Return the node's limits once it listens at `listening_at`."""
        peers = {node: address for node, address in self.peers.items() if node != self.node}
        address = self.advertise or ("" if is_everywhere(listening_at) else listening_at)
        return attrs.evolve(self.host, address=address, peers=_names(peers), founders=_nodes(self.founders))

    @property
    def patience(self) -> float:
        """Seconds to wait for a clean stop, a little more than the node's own limit, and again for a hung disk, before
        giving up both.
        """
        return self.host.stop_timeout / SECOND + 1.0
