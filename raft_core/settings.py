"""The settings of a core, each with the reason for its default.

`Settings` checks itself. Times are in ticks, whose length the node sets; sizes are in bytes. All nodes of a cluster
should have the same settings. Differences cost availability, never safety, except `lease_reads` (see there).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import attrs

from raft_core.entries import Checksum
from raft_core.errors import FeatureUnknown, SettingsError
from raft_core.features import features_problem, missing_features, named
from raft_core.membership import Members
from raft_core.setting_help import with_setting_help
from raft_core.setting_types import check_setting, check_types

__all__ = ["LONGEST_LEASE", "Settings", "check_features", "unfit", "unknown_features"]

LONGEST_LEASE: Final = 1_000_000_000
"""Longest lease in nanoseconds. A restarted voter does not know its earlier promises, perhaps made with other
settings; so in a cluster with leases it grants no vote for this time."""

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


def _sorted(features: Iterable[str]) -> tuple[str, ...]:
    if isinstance(features, str):
        raise SettingsError(f"features is a sequence of names, not one text: write ({features!r},)")
    try:
        found = tuple(features)
    except TypeError:
        raise SettingsError(f"features must be a sequence of names, not {features!r}") from None
    for name in found:
        check_setting("a name in features", name, str)
    return tuple(sorted(found))


@final
@with_setting_help
@attrs.frozen(slots=False)
class Settings:
    """Settings of a core. Raise `SettingsError` if values are out of range or contradict each other."""

    # Time.
    tick_nanoseconds: int = 10_000_000
    """Length of a tick, to compare this node's lease promises with others'. Only who drives a `Raft` of their own sets
    it; a node sets it to its `NodeLimits.tick`, and refuses values but that and this default."""

    # Elections. One tick is 10 ms by default.
    election_ticks: int = 50
    """T: followers campaign in turn, soon after T without a word of their leader, and nodes that know none after a
    random time in [T, 2T) (§5.2). 0.5 s tolerates a slow sync. At least ten round trips of the network."""
    heartbeat_ticks: int = 5
    """Interval of a leader's heartbeats; a tenth of T, so several may be lost."""
    short_ticks: int = 4
    """After losing the connection to the leader, campaign within 1 to this many ticks: a fast failover."""
    pre_vote: bool = True
    """Ask before raising the term, so a node returning from a partition does not depose the leader (thesis 9.6)."""
    check_quorum: bool = True
    """A leader looks once in each T whether it has heard a quorum since it last looked, and steps down if not: T to 2T
    after it is cut off. Voters ignore candidates while they hear a leader.
    """
    priority: int = 0
    """0 is the highest priority; larger numbers campaign later, by at most T per step. The delay halves with every
    failed election, so a low priority never blocks one."""

    # Replication.
    max_message_bytes: int = 256 * _KIB
    """Entries of one `AppendEntries`; a larger entry is sent alone. Small enough not to delay heartbeats."""
    max_entry_bytes: int = 1 * _MIB
    """Commands above this size are refused as too large."""
    max_inflight_messages: int = 128
    """Unacknowledged appends per follower; enough to fill a fast network at 1 ms round trip."""
    max_inflight_bytes: int = 8 * _MIB
    """The same in bytes; a single larger entry may exceed it once."""
    max_uncommitted_bytes: int = 64 * _MIB
    """Uncommitted proposals; beyond it they are refused, so retries cannot fill the memory."""
    max_persist_bytes: int = 16 * _MIB
    """Bytes handed to the disk and not yet durable; beyond it, new entries wait for the next `Persist`."""
    max_apply_bytes: int = 1 * _MIB
    """Bytes of one `Apply`, and at most two are under way."""
    max_waiting_reads: int = 10_000
    """Reads waiting for confirmation or for the machine."""
    checksum: Checksum = Checksum.CRC32
    """Checksum of new entries. SHA3-256 also detects malicious changes on a disk, at ten times the cost."""

    # Reads.
    lease_reads: bool = False
    """Answer linearizable reads from the leader's lease, without a round. They are linearizable only while all clocks
    of the cluster run within `clock_drift_percent` of each other and no process pauses unnoticed: a suspended virtual
    machine can return a stale read. Needs `Members.leases`, `check_quorum` and `pre_vote`.

    A lease lasts as long as a quorum of voters has promised to grant no vote: each sends its own election timeout in
    its replies, `LONGEST_LEASE` at most. So nodes may differ in `election_ticks` and tick length; the leader raises an
    alarm if a voter promises less than it would itself. A voter without a promise (an older release) counts for no
    lease: reads then ask a quorum."""
    clock_drift_percent: int = 10
    """How much slower the leader's clock may run than a voter's; leases are shortened by it."""

    # Log, snapshots, compaction.
    log_max_bytes: int = 256 * _MIB
    """The log in memory; beyond it a leader refuses proposals and a follower refuses entries, except entries from
    earlier terms, which the leader must replicate before it can commit anything (§5.4.2)."""
    snapshot_entries: int = 100_000
    """Take a snapshot when this many entries were applied since the last one,"""
    snapshot_bytes: int = 64 * _MIB
    """or this many bytes."""
    keep_entries: int = 10_000
    """Keep at most this many applied entries before a snapshot, so a slow follower needs no snapshot,"""
    keep_bytes: int = 16 * _MIB
    """and at most this many bytes of them."""
    snapshot_ticks: int = 1000
    """A snapshot transfer without progress for this time has failed, whatever its duration."""

    # Leadership and membership.
    transfer_ticks: int = 0
    """Timeout of a leadership transfer; 0 means `election_ticks` (thesis 3.10)."""
    promote_lag: int = 1000
    """A learner at most this many entries behind counts as caught up."""
    stall_ticks: int = 300
    """If the leader's oldest write is older, it transfers to a voter whose disk still answers; 0: never."""
    features: tuple[str, ...] = attrs.field(default=(), converter=_sorted)
    """Features of the application that this node's code has, such as ("shop-refunds",). The cluster uses one once all
    members have it and an entry of the log says so: see `Members.features` and docs/operations.md."""
    answer_ticks: int = 0
    """Time a deposed leader waits for the outcome of its clients' entries; 0 means `election_ticks`."""

    @property
    def lease_promise(self) -> int:
        """Nanoseconds for which a voter grants no vote after hearing a leader."""
        return min(self.election_ticks * self.tick_nanoseconds, LONGEST_LEASE)

    def __attrs_post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.checksum, Checksum):
            known = ", ".join(f"Checksum.{each.name}" for each in Checksum)
            raise SettingsError(f"checksum must be one of {known}, not {self.checksum!r}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.heartbeat_ticks >= self.election_ticks:
            raise SettingsError(
                f"heartbeat_ticks must be below election_ticks, best a tenth of it: {self.heartbeat_ticks} is not "
                f"below {self.election_ticks}"
            )
        if self.short_ticks > self.election_ticks:
            text = f"{self.short_ticks} is above {self.election_ticks}"
            raise SettingsError(f"short_ticks must not be above election_ticks: {text}")
        if self.lease_reads and not (self.check_quorum and self.pre_vote):
            raise SettingsError("lease_reads needs check_quorum and pre_vote: without them nothing protects a lease")
        if (problem := features_problem(self.features)) is not None:
            raise SettingsError(problem)
        if self.clock_drift_percent >= 100:
            raise SettingsError(f"clock_drift_percent must be below 100, not {self.clock_drift_percent}")


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


def unknown_features(settings: Settings, members: Members) -> str:
    """Return why this node's code cannot take part in a cluster that uses these features; empty if it can."""
    if not (unknown := missing_features(members.features, settings.features)):
        return ""
    return (
        f"this cluster uses {named(unknown)}, which this node's release does not have: it cannot apply what the log "
        "holds. Nothing was changed. Start the node with the release that it ran last, or a newer one"
    )


def check_features(settings: Settings, members: Members) -> None:
    """Raise `FeatureUnknown` if the cluster uses a feature that this node's code does not have."""
    if problem := unknown_features(settings, members):
        raise FeatureUnknown(problem)


def unfit(settings: Settings, members: Members) -> str:
    """Return why a node with these settings cannot join this cluster; empty if it can, or if that is unknown yet."""
    if members.leases and not (settings.check_quorum and settings.pre_vote):
        return "a cluster that is formed with leases needs check_quorum and pre_vote in the settings of every node"
    if settings.lease_reads and not members.empty and not members.leases:
        return "lease_reads needs a cluster that is formed with leases=True; it cannot be added later"
    return ""
