"""How a node behaves outside the protocol: whom it dials, how long it waits, how much it holds.

What lives here: `NodeLimits`, which checks itself. Times are nanoseconds, sizes are bytes. Nothing here is agreed
between nodes except the founders and `leases`, and those only until the cluster has formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, final

import attrs

from raft_core.errors import SettingsError
from raft_core.ids import MAX_INT63, NodeId
from raft_core.settings import Settings

__all__ = ["MILLISECOND", "SECOND", "NodeLimits", "check_node"]

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
_KIB: Final = 1024
_MIB: Final = 1024 * 1024


def check_node(node: int) -> None:
    """Raises `SettingsError` where `node` is no node's number."""
    if not 0 < node <= MAX_INT63:
        raise SettingsError(f"a node id is a positive number below 2**63, not {node}")


def _in_order(nodes: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(nodes))


@final
@attrs.frozen
class NodeLimits:
    """One node's surroundings and limits. Raises `SettingsError` where values contradict each other."""

    # Who and where.
    address: str = ""
    """Where peers can dial this node; told to them in every greeting. Empty: nobody is told anything, and peers use
    what they were configured with."""
    peers: Mapping[NodeId, str] = attrs.field(factory=dict)
    """Addresses known from the start. Others are learned from greetings; a greeting wins over what stands here,
    until the node cannot be reached where its greeting said."""
    founders: tuple[NodeId, ...] = attrs.field(default=(), converter=_in_order)
    """The first members of a new cluster, this node among them; all must name the same. Empty: a joiner, which
    waits to be added. Looked at only while the disk has never been part of a cluster. One that is to found alone asks
    nobody, so if its disk may have been lost while the cluster has grown, start it without founders."""
    leases: bool = False
    """Whether the cluster being founded allows lease reads; all founders must agree."""

    # Time.
    tick: int = 10 * MILLISECOND
    """How long the core's tick is. Deadlines are noticed at the next tick at the latest."""
    dial_delay: int = 50 * MILLISECOND
    """The first wait before dialling again; it doubles with every failure, and half of it is left to chance."""
    dial_delay_max: int = 2 * SECOND
    """The longest such wait."""
    hello_timeout: int = 2 * SECOND
    """A connection on which the other side has not been greeted by then is closed."""
    ping: int = 1 * SECOND
    """A dialled connection on which nothing was heard for so long is asked for a sign of life."""
    silence: int = 5 * SECOND
    """A connection on which nothing was heard for so long is dead; counted in ticks handled, so that a paused
    process does not blame its peers."""
    lowest_rate: int = 64 * _KIB
    """Bytes a second that a line carries at least: so much longer than `silence` a peer that is otherwise heard may
    be silent on a connection, for what is under way to it (but for 4 MiB at most)."""
    leader_wait: int = 0
    """A request waits at most so long for a leader to appear; 0: until its own deadline, and without one for ever. A
    read that has a deadline always waits until then."""
    settle_wait: int = 1 * SECOND
    """Once another node leads, what was sent to the old leader is unknown after so long without an answer; after a
    quarter of it where the old leader gives no sign of life."""
    drain_timeout: int = 1 * SECOND
    """A stopping node that leads no more waits so long for the answers to what it passed on, and for its own to leave.
    """
    stop_timeout: int = 5 * SECOND
    """A stopping node ends after so long, whether or not somebody took over."""

    # Queues.
    urgent_frames: int = 4096
    """Frames waiting in a connection's urgent lane; beyond it the oldest is dropped."""
    bulk_bytes: int = 0
    """Bytes waiting in a connection's bulk lane; beyond it all are thrown away. 0: a full window and some more."""
    request_bytes: int = 32 * _MIB
    """Bytes of forwarded requests, or of answers to them, waiting on one connection."""
    transmit_bytes: int = 256 * _KIB
    """Bulk bytes handed to the operating system at once: what a heartbeat may have to wait behind."""
    max_connections: int = 256
    """Accepted connections at any time; beyond it new ones are closed."""

    # Clients.
    max_clients: int = 10_000
    """Requests waiting at any time, forwarded ones from peers included."""
    max_client_bytes: int = 64 * _MIB
    """Bytes of their commands and queries."""
    max_forwarded: int = 4096
    """Requests that may be with the leader at any time."""

    # Snapshots.
    chunk_bytes: int = 256 * _KIB
    """Bytes of a snapshot asked for at once."""
    chunk_window: int = 4
    """Chunks asked for and not yet stored."""
    pull_timeout: int = 2 * SECOND
    """A snapshot being received that made no progress for so long is asked for again; for longer where its pieces are
    seen to take longer."""

    def __attrs_post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.leader_wait < 0:
            raise SettingsError(f"leader_wait must not be negative, but is {self.leader_wait}")
        if self.bulk_bytes < 0:
            raise SettingsError(f"bulk_bytes must not be negative, but is {self.bulk_bytes}")
        if self.dial_delay_max < self.dial_delay:
            raise SettingsError("dial_delay_max must not be below dial_delay")
        if self.silence <= 2 * self.ping:
            raise SettingsError("silence must be more than twice ping, or a healthy connection is taken for dead")
        for node in (*self.peers, *self.founders):
            check_node(node)
        if len(set(self.founders)) != len(self.founders):
            raise SettingsError("a founder is named twice")

    def settings_of_core(self, settings: Settings) -> Settings:
        """Return `settings` as the core needs them: it has to know how long a tick is."""
        return attrs.evolve(settings, tick_nanoseconds=self.tick)

    def bulk_limit(self, settings: Settings) -> int:
        """What one connection's bulk lane may hold: at least a full window, or a healthy follower overflows it."""
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
    "max_clients",
    "max_client_bytes",
    "max_forwarded",
    "chunk_bytes",
    "chunk_window",
    "pull_timeout",
)
