"""The settings and host configurations of one seed: usual ones, and ones that make rare branches common.

What lives here: functions that draw. In most seeds all nodes have the same settings; in some each has its own, and
others after every restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypedDict

import attrs

from raft_core.entries import Checksum
from raft_core.host.config import MILLISECOND, SECOND, HostConfig
from raft_core.host.node import NodeConfig, join_address
from raft_core.ids import NodeId
from raft_core.sessions import SessionLimits
from raft_core.settings import Settings
from raft_core.testing.dice import Dice
from raft_core.testing.faults import Profile

__all__ = [
    "HostNumbers",
    "address_of",
    "draw_config",
    "draw_leases",
    "draw_limits",
    "draw_settings",
    "host_config",
    "unlike",
]

_LEASED_SHARE: Final = 0.25
_PORT: Final = 7400
_MOST_PIECES: Final = 40
"""That a message goes out in: its line takes them one after the other, well within an election timeout."""


class HostNumbers(TypedDict):
    """What all hosts of a seed have in common."""

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
    max_client_bytes: int
    max_forwarded: int


def draw_leases(dice: Dice, profile: Profile) -> Profile:
    """The same, or with leases: in a share of seeds, whose clocks then have to run alike."""
    return attrs.evolve(profile, leases=profile.leases or dice.chance(_LEASED_SHARE))


def draw_settings(dice: Dice, profile: Profile) -> Settings:
    """Messages of one entry, windows of one message, a snapshot after every entry, next to the usual."""
    snapshot_entries = dice.choice((1, 8, 40, 40, 200))
    more = dice.fork("more")
    return Settings(
        election_ticks=10,
        heartbeat_ticks=2,
        short_ticks=2,
        pre_vote=dice.chance(0.9) or profile.leases,
        check_quorum=dice.chance(0.9) or profile.leases,
        lease_reads=profile.leases,
        max_message_bytes=dice.choice((1, 200, 200_000)),
        max_inflight_messages=dice.choice((1, 3, 128)),
        max_inflight_bytes=dice.choice((1, 2000, 1 << 20)),
        max_uncommitted_bytes=dice.choice((3000, 1 << 20)),
        max_persist_bytes=dice.choice((1, 500, 1 << 20)),
        max_apply_bytes=dice.choice((1, 500, 1 << 20)),
        log_max_bytes=dice.choice((60_000, 1 << 24, 1 << 24)) if snapshot_entries < 100 else 1 << 24,
        snapshot_entries=snapshot_entries,
        keep_entries=dice.choice((0, 0, 5, 50)),
        snapshot_ticks=dice.choice((20, 60)),
        promote_lag=dice.choice((0, 10)),
        stall_ticks=dice.choice((0, 15)),
        max_waiting_reads=dice.choice((2, 1000)),
        max_entry_bytes=more.choice((1 << 16, 1 << 20)),
        checksum=more.choice((Checksum.CRC32, Checksum.CRC32, Checksum.SHA3_256)),
        snapshot_bytes=more.choice((4000, 1 << 26, 1 << 26)),
        keep_bytes=more.choice((500, 1 << 24)),
        priority=more.choice((0, 0, 0, 1)),
        transfer_ticks=more.choice((0, 0, 3)),
        answer_ticks=more.choice((0, 0, 2)),
    )


def unlike(dice: Dice, settings: Settings) -> Settings:
    """Return other settings for one life of one node: patience, windows, sizes, whether it reads by lease. What an
    entry or a message may measure stays, for a larger one would break the links of whoever takes only smaller ones."""
    return attrs.evolve(
        settings,
        election_ticks=dice.choice((6, 10, 10, 20)),
        heartbeat_ticks=dice.choice((1, 2)),
        short_ticks=dice.choice((1, 2, 4)),
        lease_reads=settings.lease_reads and dice.chance(0.8),
        max_inflight_messages=dice.choice((1, 3, 128)),
        max_inflight_bytes=dice.choice((1, 2000, 1 << 20)),
        max_uncommitted_bytes=dice.choice((3000, 1 << 20)),
        max_persist_bytes=dice.choice((1, 500, 1 << 20)),
        max_apply_bytes=dice.choice((1, 500, 1 << 20)),
        keep_entries=dice.choice((0, 5, 50)),
        promote_lag=dice.choice((0, 10)),
        priority=dice.choice((0, 0, 1)),
        checksum=dice.choice((Checksum.CRC32, Checksum.SHA3_256)),
    )


def draw_config(dice: Dice, profile: Profile, settings: Settings) -> HostNumbers:
    """Short patience, and in some seeds tiny queues and pieces."""
    more = dice.fork("more")
    return HostNumbers(
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
        bulk_bytes=dice.choice((0, 0, 3000)),
        transmit_bytes=max(dice.choice((100, 300, 1 << 18)), settings.max_message_bytes // _MOST_PIECES),
        chunk_bytes=dice.choice((64, 1000, 1 << 18)),
        chunk_window=dice.choice((1, 4)),
        max_clients=dice.choice((10, 10_000)),
        urgent_frames=dice.choice((4, 4096)),
        request_bytes=more.choice((20_000, 1 << 25)),
        max_connections=more.choice((12, 256)),
        max_client_bytes=more.choice((20_000, 1 << 26)),
        max_forwarded=more.choice((2, 4096)),
    )


def draw_limits(dice: Dice) -> SessionLimits:
    """The usual, or so few sessions and results that clients lose them."""
    if dice.chance(0.8):
        return SessionLimits()
    return SessionLimits(max_sessions=3, max_results=dice.choice((1, 3)), lifetime=30 * SECOND)


def address_of(node: NodeId) -> str:
    """Where the node can be dialled."""
    return join_address(f"n{node}", _PORT)


def host_config(
    node: NodeId, known: Iterable[NodeId], founders: tuple[NodeId, ...], settings: Settings, numbers: HostNumbers
) -> HostConfig:
    """What a node is given that has been started by a person who knows these nodes."""
    config = NodeConfig(
        node=node,
        cluster="simulated",
        listen=address_of(node),
        peers={peer: address_of(peer) for peer in known},
        founders=founders,
        data="disk",
        settings=settings,
        host=HostConfig(**numbers),
    )
    return config.host_config(config.listen)
