"""`NodeLimits`: a node's behaviour outside the protocol: addresses, timeouts, queue sizes.

Times are nanoseconds, sizes are bytes. Nodes need not agree on anything here except the founders and `leases`, and on
those only until the cluster has formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.ids import MAX_INT63, NodeId
from raft_core.setting_help import with_setting_help
from raft_core.setting_types import check_mapping, check_setting, check_types
from raft_core.settings import Settings
from raft_core.wire.metadata import Metadata, metadata_problem

__all__ = ["MILLISECOND", "SECOND", "NodeLimits", "check_node"]

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
_KIB: Final = 1024
_MIB: Final = 1024 * 1024


def check_node(node: int) -> None:
    """Raise `SettingsError` if `node` is not a valid node id."""
    if not isinstance(node, int) or isinstance(node, bool):
        check_setting("a node id", node, int)
    if not 0 < node <= MAX_INT63:
        raise SettingsError(f"a node id is a positive number below 2**63, not {node}")


def check_metadata(metadata: object) -> None:
    """Raise `SettingsError` if these are no names and values that a greeting can carry."""
    check_mapping("metadata", metadata)
    assert isinstance(metadata, Mapping)
    for text in chain.from_iterable(metadata.items()):
        check_setting("a name or value of metadata", text, str)
    if problem := metadata_problem(tuple(sorted(metadata.items()))):
        raise SettingsError(problem)


def _in_order(nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
    try:
        found = tuple(nodes)
    except TypeError:
        raise SettingsError(f"founders must be a sequence of node ids, not {nodes!r}") from None
    for node in found:
        check_node(node)
    return tuple(sorted(found))


@final
@with_setting_help
@attrs.frozen(slots=False)
class NodeLimits:
    """One node's addresses, timeouts and limits. Raise `SettingsError` if values contradict each other."""

    # Who and where.
    address: str = ""
    """Address at which peers can dial this node, sent in every greeting. Empty: not advertised; peers use their
    configured address.
    """
    peers: Mapping[NodeId, str] = attrs.field(factory=dict)
    """Addresses known from the start. Others are learned from greetings. A greeted address takes precedence until the
    node cannot be reached there.
    """
    founders: tuple[NodeId, ...] = attrs.field(default=(), converter=_in_order)
    """The initial members of a new cluster, including this node; all must name the same. Empty: a joiner, which waits
    to be added. Ignored once the disk has been part of a cluster. A sole founder needs no agreement, so if its disk may
    have been lost after the cluster had grown, start it without founders.
    """
    certificates: bool = False
    """Whether a peer is greeted only on a connection on which it has shown a certificate."""
    exposed: str = ""
    """The address, if this node listens without TLS where other machines reach it; for an alarm at the start."""
    leases: bool = False
    """Whether the new cluster allows lease reads; all founders must agree."""

    metadata: Mapping[str, str] = attrs.field(factory=dict)
    """Names and values that peers are told in every greeting, such as the address of a web server."""

    # Time.
    tick: int = 10 * MILLISECOND
    """Length of the core's tick. Deadlines are noticed at the next tick at the latest."""
    dial_delay: int = 50 * MILLISECOND
    """The first wait before dialling again. It doubles with every failure, and half of it is random."""
    dial_delay_max: int = 2 * SECOND
    """The longest wait before dialling again."""
    hello_timeout: int = 2 * SECOND
    """A connection without a greeting from the other side within this time is closed."""
    ping: int = 1 * SECOND
    """A dialled connection that is silent for this long is pinged."""
    silence: int = 5 * SECOND
    """A connection that is silent for this long is dead. Counted in ticks handled, so a paused process does not blame
    its peers.
    """
    lowest_rate: int = 64 * _KIB
    """Least bandwidth of a line, in bytes per second. A peer heard on another connection may exceed `silence` on this
    one by the time its outgoing data needs at this rate (4 MiB at most).
    """
    leader_wait: int = 0
    """Longest wait of a request for a leader; 0: until its own deadline, or for ever without one. A read with a
    deadline always waits until that deadline.
    """
    settle_wait: int = 1 * SECOND
    """After a leader change, a request sent to the old leader is indeterminate after this long without an answer; after
    a quarter of it if the old leader gives no sign of life.
    """
    drain_timeout: int = 1 * SECOND
    """Time for a stopping node that no longer leads to receive the answers to its forwards and to send its own."""
    stop_timeout: int = 5 * SECOND
    """A stopping node ends after this long, even if leadership was not transferred."""

    # Disk.
    inline_sync: bool = False
    """Whether a follower's loop itself writes and syncs while its disk is fast, which saves it waking a thread. Its
    clients and peers then hear nothing from it while a sync hangs. The cluster goes on meanwhile: leaders never do it.
    """

    # Queues.
    urgent_frames: int = 4096
    """Frames waiting in a connection's urgent lane; beyond it the oldest is dropped."""
    bulk_bytes: int = 0
    """Bytes waiting in a connection's bulk lane; beyond it all are dropped. 0: a full window and some more."""
    request_bytes: int = 32 * _MIB
    """Bytes of forwarded requests, or of their replies, waiting on one connection."""
    transmit_bytes: int = 256 * _KIB
    """Bulk bytes given to the operating system at once: a heartbeat may have to wait behind them."""
    max_connections: int = 256
    """Accepted connections at any time, those without a greeting included; beyond it new ones are closed."""
    max_ungreeted: int = 32
    """Accepted connections that have not received a greeting; beyond it the oldest of them is closed."""

    # Clients.
    max_clients: int = 10_000
    """Requests waiting at any time, including those forwarded by peers."""
    max_client_bytes: int = 64 * _MIB
    """Bytes of waiting commands and queries."""
    max_forwarded: int = 4096
    """Requests with the leader at any time."""

    # Snapshots.
    chunk_bytes: int = 256 * _KIB
    """Bytes of a snapshot requested at once."""
    chunk_window: int = 4
    """Chunks requested and not yet stored."""
    pull_timeout: int = 2 * SECOND
    """An incoming snapshot without progress for this long is requested again; for longer if its chunks have been seen
    to take longer.
    """

    @property
    def told(self) -> Metadata:
        """Return the metadata as a greeting carries it."""
        return tuple(sorted(self.metadata.items()))

    def __attrs_post_init__(self) -> None:
        check_types(self)
        check_metadata(self.metadata)
        check_mapping("peers", self.peers)
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.leader_wait < 0:
            raise SettingsError(f"leader_wait must not be negative, but is {self.leader_wait}")
        if self.bulk_bytes < 0:
            raise SettingsError(f"bulk_bytes must not be negative, but is {self.bulk_bytes}")
        if self.dial_delay_max < self.dial_delay:
            text = f"{self.dial_delay_max} is below {self.dial_delay}"
            raise SettingsError(f"dial_delay_max must not be below dial_delay: {text}")
        if self.silence <= 2 * self.ping:
            raise SettingsError("silence must be more than twice ping, or a healthy connection is taken for dead")
        for node in self.peers:
            check_node(node)
        if len(set(self.founders)) != len(self.founders):
            raise SettingsError("a founder is named twice")

    def settings_of_core(self, settings: Settings) -> Settings:
        """Return `settings` with the length of this node's tick for the core.

        Raise `SettingsError` if they name another length: `tick` is the one that is used.
        """
        if settings.tick_nanoseconds not in (self.tick, attrs.fields(Settings).tick_nanoseconds.default):
            raise SettingsError(
                f"tick_nanoseconds={settings.tick_nanoseconds} of Settings contradicts tick={self.tick} of NodeLimits, "
                "the length of a node's tick: set only NodeLimits(tick=...)"
            )
        return attrs.evolve(settings, tick_nanoseconds=self.tick)

    def bulk_limit(self, settings: Settings) -> int:
        """Return the bytes that one connection's bulk lane may hold.

        At least a full window, or healthy followers overflow.
        """
        if self.bulk_bytes:
            return self.bulk_bytes
        return 2 * settings.max_inflight_bytes + 2 * max(settings.max_message_bytes, settings.max_entry_bytes) + _MIB


_POSITIVE: Final = (
    "tick",
    "dial_delay",
    "hello_timeout",
    "ping",
    "silence",
    "lowest_rate",
    "settle_wait",
    "drain_timeout",
    "stop_timeout",
    "urgent_frames",
    "request_bytes",
    "transmit_bytes",
    "max_connections",
    "max_ungreeted",
    "max_clients",
    "max_client_bytes",
    "max_forwarded",
    "chunk_bytes",
    "chunk_window",
    "pull_timeout",
)
