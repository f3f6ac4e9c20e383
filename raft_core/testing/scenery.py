"""The settings and host configurations of one seed: usual ones, and ones that make rare branches common.

What lives here: two functions that draw. All nodes of a seed have the same settings.
"""

from __future__ import annotations

from typing import TypedDict

from raft_core.host.config import MILLISECOND, SECOND
from raft_core.settings import Settings
from raft_core.testing.dice import Dice
from raft_core.testing.faults import Profile

__all__ = ["HostNumbers", "draw_config", "draw_settings"]


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


def draw_settings(dice: Dice, profile: Profile) -> Settings:
    """Messages of one entry, windows of one message, a snapshot after every entry, next to the usual."""
    snapshot_entries = dice.choice((1, 8, 40, 40, 200))
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
    )


def draw_config(dice: Dice, profile: Profile) -> HostNumbers:
    """Short patience, and in some seeds tiny queues and pieces."""
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
        transmit_bytes=dice.choice((1, 300, 1 << 18)),
        chunk_bytes=dice.choice((64, 1000, 1 << 18)),
        chunk_window=dice.choice((1, 4)),
        max_clients=dice.choice((10, 10_000)),
        urgent_frames=dice.choice((4, 4096)),
    )
