"""Every number that an operator or a test may choose, with the argument for its default.

What lives here: `Settings`, which checks itself. Time is in ticks; the host says how long one is. Sizes are bytes.
All nodes of a cluster should have the same settings; differing ones cost availability, never safety, except
`lease_reads`, whose docstring says what it needs.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from raft_core.entries import Checksum
from raft_core.errors import SettingsError

__all__ = ["LONGEST_LEASE", "Settings"]

LONGEST_LEASE: Final = 1_000_000_000
"""Nanoseconds: no lease is longer. A voter that has just started does not know what it promised before, perhaps with
other settings; so in a cluster with leases it gives no vote away for so long."""

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@final
@attrs.frozen
class Settings:
    """How a core behaves. Raises `SettingsError` where values contradict each other."""

    # Time.
    tick_nanoseconds: int = 10_000_000
    """How long a tick is, to compare this node's promises with others'. A host sets it to its own `tick`."""

    # Elections. One tick is 10 ms in the host by default.
    election_ticks: int = 50
    """T: a follower stands after a random time in [T, 2T) without a leader (§5.2). 0.5 s rides out a slow sync."""
    heartbeat_ticks: int = 5
    """A leader sends a heartbeat this often; a tenth of T, so that several may be lost."""
    short_ticks: int = 4
    """After the connection to the leader broke, stand after 1 to this many ticks: a dead process is answered fast."""
    pre_vote: bool = True
    """Ask before raising the term, so that a node that was cut off disturbs nobody (thesis 9.6)."""
    check_quorum: bool = True
    """A leader that has not heard a quorum for T steps down; with it, voters stay true to a leader they hear."""
    priority: int = 0
    """A node of lower priority draws its election timeout later, by at most T per step, and waits less with every
    try, so that it never blocks an election. 0 is the highest; 1, 2, … stand behind."""

    # Replication.
    max_message_bytes: int = 256 * _KIB
    """Entries of one `AppendEntries`; one larger entry travels alone. Small enough for a heartbeat to slip between."""
    max_entry_bytes: int = 1 * _MIB
    """A larger command is refused as too large."""
    max_inflight_messages: int = 128
    """Unacknowledged appends per follower; enough to fill a fast line at 1 ms round trip."""
    max_inflight_bytes: int = 8 * _MIB
    """The same in bytes; a single larger entry may exceed it once."""
    max_uncommitted_bytes: int = 64 * _MIB
    """Proposals waiting for a quorum; beyond it they are refused, so that retries cannot fill the memory."""
    max_persist_bytes: int = 16 * _MIB
    """Bytes handed to the disk and not yet durable; beyond it, new entries wait for the next `Persist`."""
    max_apply_bytes: int = 1 * _MIB
    """Bytes of one `Apply`, and at most two are under way."""
    max_waiting_reads: int = 10_000
    """Reads that wait for confirmation or for the machine."""
    checksum: Checksum = Checksum.CRC32
    """How entries are sealed where they are made. SHA3-256 also withstands malice on a disk, at ten times the cost."""

    # Reads.
    lease_reads: bool = False
    """Answer linearizable reads from the leader's lease, without a round. Only linearizable while every clock of the
    cluster runs within `clock_drift_percent` of every other and no process is paused without noticing: a suspended
    virtual machine can return a stale read. Needs `Members.leases`, `check_quorum` and `pre_vote`.

    A lease lasts as long as a quorum of voters has promised to give no vote away: each tells its own election timeout
    in its replies, `LONGEST_LEASE` at most. So nodes may differ in `election_ticks` and in the length of a tick; the
    leader says by an alarm where another promises less than it would itself. A voter that promises nothing (an older
    release) counts for no lease: reads then ask a quorum."""
    clock_drift_percent: int = 10
    """How much slower a leader's ticks may run than any voter's; the lease is shortened by it."""

    # Log, snapshots, compaction.
    log_max_bytes: int = 256 * _MIB
    """The log in memory; beyond it a leader refuses proposals and a follower takes no more entries for now, but
    for those that its leader held before its office and could not commit without (§5.4.2)."""
    snapshot_entries: int = 100_000
    """Take a snapshot when this many entries were applied since the last one,"""
    snapshot_bytes: int = 64 * _MIB
    """or this many bytes."""
    keep_entries: int = 10_000
    """Keep at most this many applied entries behind a snapshot, so that a slow follower needs none,"""
    keep_bytes: int = 16 * _MIB
    """and at most this many bytes of them."""
    snapshot_ticks: int = 1000
    """A snapshot transfer that makes no progress for so long has failed. Progress, not duration, counts."""

    # Leadership and membership.
    transfer_ticks: int = 0
    """A transfer that has not succeeded by then is given up; 0 means `election_ticks` (thesis 3.10)."""
    promote_lag: int = 1000
    """A learner this many entries behind, or fewer, has caught up."""
    stall_ticks: int = 300
    """A leader whose oldest write is older hands over to a voter whose disk still answers; 0: never."""
    answer_ticks: int = 0
    """A deposed leader waits this long to learn what became of its clients' entries; 0 means `election_ticks`."""

    @property
    def lease_promise(self) -> int:
        """Nanoseconds for which a voter that has heard a leader gives no vote away."""
        return min(self.election_ticks * self.tick_nanoseconds, LONGEST_LEASE)

    def __attrs_post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.heartbeat_ticks >= self.election_ticks:
            raise SettingsError("heartbeat_ticks must be below election_ticks, best a tenth of it")
        if self.short_ticks > self.election_ticks:
            raise SettingsError("short_ticks must not be above election_ticks")
        if self.lease_reads and not (self.check_quorum and self.pre_vote):
            raise SettingsError("lease_reads needs check_quorum and pre_vote: without them nothing protects a lease")
        if self.clock_drift_percent >= 100:
            raise SettingsError("clock_drift_percent must be below 100")


_LEAST: Final[dict[str, int]] = {
    "tick_nanoseconds": 1,
    "election_ticks": 2,
    "heartbeat_ticks": 1,
    "short_ticks": 1,
    "priority": 0,
    "max_message_bytes": 1,
    "max_entry_bytes": 1,
    "max_inflight_messages": 1,
    "max_inflight_bytes": 1,
    "max_uncommitted_bytes": 1,
    "max_persist_bytes": 1,
    "max_apply_bytes": 1,
    "max_waiting_reads": 1,
    "clock_drift_percent": 0,
    "log_max_bytes": 1,
    "snapshot_entries": 1,
    "snapshot_bytes": 1,
    "keep_entries": 0,
    "keep_bytes": 0,
    "snapshot_ticks": 1,
    "transfer_ticks": 0,
    "promote_lag": 0,
    "stall_ticks": 0,
    "answer_ticks": 0,
}
