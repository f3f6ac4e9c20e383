"""Random settings and node limits of one seed: usual ones, and ones that make rare branches common.

In most seeds all nodes have the same settings; in some each has its own, and others after every restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypedDict

import attrs

from raft_core.entries import Checksum
from raft_core.ids import NodeId
from raft_core.node.config import NodeConfig, join_address
from raft_core.node.descriptors import share_descriptors
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.sessions import SessionLimits
from raft_core.settings import Settings
from raft_testing.faults.catalogue import Profile
from raft_testing.rng import Rng

__all__ = [
    "RandomLimits",
    "address_of",
    "draw_config",
    "draw_leases",
    "draw_limits",
    "draw_settings",
    "node_limits",
    "unlike",
]

_LEASED_SHARE: Final = 0.25
_PORT: Final = 7400
_MOST_PIECES: Final = 40
"""That a message goes out in: its line takes them one after the other, well within an election timeout."""


class RandomLimits(TypedDict):
    """The limits that all nodes of a seed share."""

    leases: bool
    tick: int
    dial_delay: int
    dial_delay_max: int
    hello_timeout: int
    ping: int
    silence: int
    leader_wait: int
    stop_timeout: int
    pull_timeout: int
    bulk_bytes: int
    transmit_bytes: int
    chunk_bytes: int
    chunk_window: int
    max_clients: int
    urgent_frames: int
    request_bytes: int
    max_connections: int
    max_ungreeted: int
    max_client_bytes: int
    max_forwarded: int


def draw_leases(rng: Rng, profile: Profile) -> Profile:
    """Return the profile, with leases in a share of seeds, whose clocks then run alike."""
    return attrs.evolve(profile, leases=profile.leases or rng.chance(_LEASED_SHARE))


def draw_settings(rng: Rng, profile: Profile) -> Settings:
    """Messages of one entry, windows of one message, a snapshot after every entry, next to the usual."""
    snapshot_entries = rng.choice((1, 8, 40, 40, 200))
    more = rng.fork("more")
    return Settings(
        election_ticks=10,
        heartbeat_ticks=2,
        short_ticks=2,
        pre_vote=rng.chance(0.9) or profile.leases,
        check_quorum=rng.chance(0.9) or profile.leases,
        lease_reads=profile.leases,
        max_message_bytes=rng.choice((1, 200, 200_000)),
        max_inflight_messages=rng.choice((1, 3, 128)),
        max_inflight_bytes=rng.choice((1, 2000, 1 << 20)),
        max_uncommitted_bytes=rng.choice((3000, 1 << 20)),
        max_persist_bytes=rng.choice((1, 500, 1 << 20)),
        max_apply_bytes=rng.choice((1, 500, 1 << 20)),
        log_max_bytes=rng.choice((60_000, 1 << 24, 1 << 24)) if snapshot_entries < 100 else 1 << 24,
        snapshot_entries=snapshot_entries,
        keep_entries=rng.choice((0, 0, 5, 50)),
        snapshot_ticks=rng.choice((20, 60)),
        promote_lag=rng.choice((0, 10)),
        stall_ticks=rng.choice((0, 15)),
        max_waiting_reads=rng.choice((2, 1000)),
        max_entry_bytes=more.choice((1 << 16, 1 << 20)),
        checksum=more.choice((Checksum.CRC32, Checksum.CRC32, Checksum.SHA3_256)),
        snapshot_bytes=more.choice((4000, 1 << 26, 1 << 26)),
        keep_bytes=more.choice((500, 1 << 24)),
        priority=more.choice((0, 0, 0, 1)),
        transfer_ticks=more.choice((0, 0, 3)),
        answer_ticks=more.choice((0, 0, 2)),
    )


def unlike(rng: Rng, settings: Settings) -> Settings:
    """Return other settings for one life of one node: timeouts, windows, sizes, reads by lease.

    The limits of an entry and of a message stay, because larger ones would break the links of nodes with smaller
    limits.
    """
    return attrs.evolve(
        settings,
        election_ticks=rng.choice((6, 10, 10, 20)),
        heartbeat_ticks=rng.choice((1, 2)),
        short_ticks=rng.choice((1, 2, 4)),
        lease_reads=settings.lease_reads and rng.chance(0.8),
        max_inflight_messages=rng.choice((1, 3, 128)),
        max_inflight_bytes=rng.choice((1, 2000, 1 << 20)),
        max_uncommitted_bytes=rng.choice((3000, 1 << 20)),
        max_persist_bytes=rng.choice((1, 500, 1 << 20)),
        max_apply_bytes=rng.choice((1, 500, 1 << 20)),
        keep_entries=rng.choice((0, 5, 50)),
        promote_lag=rng.choice((0, 10)),
        priority=rng.choice((0, 0, 1)),
        checksum=rng.choice((Checksum.CRC32, Checksum.SHA3_256)),
    )


def draw_config(rng: Rng, profile: Profile, settings: Settings, result_bytes: int = 0) -> RandomLimits:
    """Return short timeouts, and in some seeds tiny queues and pieces.

    `result_bytes`: the size of the machine's largest result. Pieces, chunks and queues have room for it; a snapshot
    holds several, those of the sessions.
    """
    more = rng.fork("more")
    least = result_bytes // _MOST_PIECES
    drawn = RandomLimits(
        leases=profile.leases,
        tick=profile.tick,
        dial_delay=50 * MILLISECOND,
        dial_delay_max=SECOND,
        hello_timeout=SECOND,
        ping=SECOND,
        silence=3 * SECOND,
        leader_wait=SECOND,
        stop_timeout=3 * SECOND,
        pull_timeout=SECOND,
        bulk_bytes=rng.choice((0, 0, 3000)),
        transmit_bytes=max(rng.choice((100, 300, 1 << 18)), settings.max_message_bytes // _MOST_PIECES, least),
        chunk_bytes=max(rng.choice((64, 1000, 1 << 18)), least),
        chunk_window=rng.choice((1, 4)),
        max_clients=rng.choice((10, 10_000)),
        urgent_frames=rng.choice((4, 4096)),
        request_bytes=max(more.choice((20_000, 1 << 25)), 2 * result_bytes),
        max_connections=more.choice((12, 256)),
        max_ungreeted=rng.fork("ungreeted").choice((4, 32)),
        max_client_bytes=more.choice((20_000, 1 << 26)),
        max_forwarded=more.choice((2, 4096)),
    )
    files = rng.fork("files").choice((70, 1024))  # that a process may have open: hardly enough, and usual
    fitting = share_descriptors(files, profile.clients, NodeLimits(**drawn)).limits
    drawn["max_connections"], drawn["max_ungreeted"] = fitting.max_connections, fitting.max_ungreeted
    return drawn


def draw_limits(rng: Rng) -> SessionLimits:
    """Return the usual limits, or so few sessions and results that clients lose them."""
    if rng.chance(0.8):
        return SessionLimits()
    return SessionLimits(max_sessions=3, max_results=rng.choice((1, 3)), lifetime=30 * SECOND)


def address_of(node: NodeId) -> str:
    """Where the node can be dialled."""
    return join_address(f"n{node}", _PORT)


def node_limits(
    node: NodeId, known: Iterable[NodeId], founders: tuple[NodeId, ...], settings: Settings, numbers: RandomLimits
) -> NodeLimits:
    """Return the limits of a node started by a person who knows these nodes."""
    config = NodeConfig(
        node,
        {member: address_of(member) for member in founders or {node, *known}},
        cluster="simulated",
        join=not founders,
        known={other: address_of(other) for other in known},
        data="disk",
        settings=settings,
        limits=NodeLimits(**numbers),
    )
    return config.node_limits(address_of(node))
