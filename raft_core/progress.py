"""A follower's progress as the leader sees it: Probe, Replicate or Snapshot, and a window in messages and bytes.

This module keeps the numbers consistent; the leader decides when to send.

    PROBE      its log's end is unknown: one append at a time, until a reply to it or to a heartbeat
    REPLICATE  its log follows ours: appends are pipelined, `next` runs ahead of `match`
    SNAPSHOT   it needs compacted entries: no appends until the transfer arrives, fails or stops making progress
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.ids import NO_INDEX, Incarnation, Index, NodeId, ReadId

__all__ = ["PROBE", "REPLICATE", "SNAPSHOT", "UNMARKED", "Progress", "ProgressState"]

UNMARKED: Final = Index(-1)


class ProgressState(StrEnum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


PROBE: Final = ProgressState.PROBE
REPLICATE: Final = ProgressState.REPLICATE
SNAPSHOT: Final = ProgressState.SNAPSHOT


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Progress:
    """Invariant: match < next. A window entry is (last index of the message, its bytes), oldest first."""

    __slots__ = (
        "acked_at",
        "active",
        "commit_sent",
        "heard_at",
        "idle_ticks",
        "incarnation",
        "inflight",
        "inflight_bytes",
        "lease_from",
        "lease_promised",
        "match",
        "match_at_beat",
        "max_bytes",
        "max_messages",
        "next",
        "node",
        "pending",
        "probe_sent",
        "read_acked",
        "state",
    )

    def __init__(
        self, node: NodeId, incarnation: Incarnation, following: Index, max_messages: int, max_bytes: int
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.state = PROBE
        self.match: Index = NO_INDEX  # its durable log equals ours up to here
        self.next: Index = following
        self.probe_sent = False  # PROBE: wait for the reply
        self.pending: Index = NO_INDEX  # SNAPSHOT: index of the snapshot under way
        self.idle_ticks = 0  # SNAPSHOT: ticks without progress
        self.active = False  # heard from since the last CheckQuorum
        self.heard_at = -1  # in ticks; never yet
        self.acked_at = -1  # tick of its last acknowledgement of a durable write
        self.commit_sent: Index = NO_INDEX  # the highest commit index sent to it
        self.read_acked = ReadId(0)
        self.lease_from = -1  # tick at which the newest heartbeat it answered was sent
        self.lease_promised = 0  # nanoseconds without a vote which it promised in reply
        self.inflight: list[tuple[Index, int]] = []
        self.inflight_bytes = 0
        # Its match when the last heartbeat was sent, until that is answered. Example: B's match is 7 and A has sent it
        # 8 to 10. If B answers the heartbeat and its match is still 7, the appends are probably lost (rule 5.2).
        self.match_at_beat: Index = UNMARKED
        self.max_messages = max_messages
        self.max_bytes = max_bytes

    @property
    def full(self) -> bool:
        """True if the window is full. A single message may exceed the bytes once (rule 5.4)."""
        return len(self.inflight) >= self.max_messages or self.inflight_bytes >= self.max_bytes

    @property
    def paused(self) -> bool:
        """True if only a heartbeat may be sent now."""
        if self.state is REPLICATE:
            return self.full
        if self.state is PROBE:
            return self.probe_sent
        return True

    def heard_within(self, ticks: int, now: int) -> bool:
        """Return whether it was heard within the last `ticks`."""
        return self.heard_at >= 0 and now - self.heard_at <= ticks

    def sent(self, last: Index, size: int) -> None:
        """Note one message sent, with `size` bytes of entries up to `last`."""
        if self.state is PROBE:
            self.probe_sent = True
            return
        self.next = Index(last + 1)
        self.inflight.append((last, size))
        self.inflight_bytes += size

    def acknowledged(self, match: Index) -> bool:
        """Raise match to `match` and free the window up to it. Return whether match rose."""
        done = 0
        for last, size in self.inflight:
            if last > match:
                break
            done += 1
            self.inflight_bytes -= size
        if done == len(self.inflight):
            self.inflight.clear()
        else:
            del self.inflight[:done]
        if match <= self.match:
            return False
        self.match = match
        if self.next <= match:
            self.next = Index(match + 1)
        return True

    def rejected(self, at: Index, retry: Index) -> bool:
        """Move `next` to `retry` after a rejection at `at`. Return False for a stale rejection, which changes nothing.

        `next` never falls to `match` or below (rule 4.4).
        """
        if self.state is SNAPSHOT:
            return False
        if self.state is REPLICATE:
            if at <= self.match:
                return False
        elif at != self.next - 1:
            return False
        self.become_probe()
        self.next = Index(max(self.match + 1, min(retry, at)))
        return True

    def become_probe(self) -> None:
        """Probe for the log's end, one message at a time; after a snapshot, begin after its index."""
        after = max(self.match, self.pending) if self.state is SNAPSHOT else self.match
        self._enter(PROBE)
        self.next = Index(after + 1)

    def become_replicate(self) -> None:
        """Pipeline appends from `match` on."""
        self._enter(REPLICATE)
        self.next = Index(self.match + 1)

    def become_snapshot(self, pending: Index) -> None:
        """Wait for the transfer of the snapshot at `pending`."""
        self._enter(SNAPSHOT)
        self.pending = pending
        self.next = Index(pending + 1)

    def snapshot_failed(self) -> None:
        """Probe again from `match` after a failed transfer, but only after the next heartbeat reply."""
        self.pending = NO_INDEX  # first, so that next falls back to match
        self.become_probe()
        self.probe_sent = True

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self.pending = NO_INDEX
        self.idle_ticks = 0
        self.inflight.clear()
        self.inflight_bytes = 0
