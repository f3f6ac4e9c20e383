"""One follower as the leader sees it: Probe, Replicate or Snapshot, and a window in messages and bytes.

What lives here: numbers and the rules that keep them consistent. What to send is the leader's decision.

    PROBE      its log's end is not known: one append under way at a time, until an answer or a heartbeat's reply
    REPLICATE  its log follows ours: appends are sent optimistically, `next` runs ahead of `match`
    SNAPSHOT   it needs what the log no longer holds: no appends until it reconnects, fails or makes no progress
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final, final

from raft_core.ids import NO_INDEX, Incarnation, Index, NodeId, ReadId

__all__ = ["UNMARKED", "Progress", "ProgressState"]

UNMARKED: Final = Index(-1)


class ProgressState(StrEnum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


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
        self.state = ProgressState.PROBE
        self.match: Index = NO_INDEX  # known to be equal to our log up to here, durably
        self.next: Index = following
        self.probe_sent = False  # PROBE: wait for an answer
        self.pending: Index = NO_INDEX  # SNAPSHOT: index of the snapshot under way
        self.idle_ticks = 0  # SNAPSHOT: ticks without progress
        self.active = False  # heard from since the last CheckQuorum
        self.heard_at = -1  # in ticks; never yet
        self.acked_at = -1  # when it last acknowledged anything that rests on its disk
        self.commit_sent: Index = NO_INDEX  # the highest commit index it was told
        self.read_acked = ReadId(0)
        self.lease_from = -1  # when the newest heartbeat that it answered was sent
        self.lease_promised = 0  # nanoseconds for which it gives no vote away after hearing one
        self.inflight: deque[tuple[Index, int]] = deque()
        self.inflight_bytes = 0
        self.match_at_beat: Index = UNMARKED  # its match when the last beat was sent, until that is answered
        self.max_messages = max_messages
        self.max_bytes = max_bytes

    @property
    def full(self) -> bool:
        """The window has no room. A single message may exceed the bytes once (rule 5.4)."""
        return len(self.inflight) >= self.max_messages or self.inflight_bytes >= self.max_bytes

    @property
    def paused(self) -> bool:
        """Nothing may be sent now but a heartbeat."""
        if self.state is ProgressState.REPLICATE:
            return self.full
        if self.state is ProgressState.PROBE:
            return self.probe_sent
        return True

    def heard_within(self, ticks: int, now: int) -> bool:
        """It has spoken lately."""
        return self.heard_at >= 0 and now - self.heard_at <= ticks

    def sent(self, last: Index, size: int) -> None:
        """Entries up to `last` went out in one message."""
        if self.state is ProgressState.PROBE:
            self.probe_sent = True
            return
        self.next = Index(last + 1)
        self.inflight.append((last, size))
        self.inflight_bytes += size

    def acknowledged(self, match: Index) -> bool:
        """`match` is known; true if that is news. Frees the window up to there."""
        while self.inflight and self.inflight[0][0] <= match:
            self.inflight_bytes -= self.inflight.popleft()[1]
        if match <= self.match:
            return False
        self.match = match
        if self.next <= match:
            self.next = Index(match + 1)
        return True

    def rejected(self, at: Index, retry: Index) -> bool:
        """The follower does not hold the place `at`; true if the answer is news and `next` moved to `retry`.

        A stray rejection changes nothing: next never falls to or below match (rule 4.4)."""
        if self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.REPLICATE:
            if at <= self.match:
                return False
        elif at != self.next - 1:
            return False
        self.become_probe()
        self.next = Index(max(self.match + 1, min(retry, at)))
        return True

    def become_probe(self) -> None:
        """Feel for the log's end, one message at a time; after a snapshot, from behind it where it arrived."""
        after = max(self.match, self.pending) if self.state is ProgressState.SNAPSHOT else self.match
        self._enter(ProgressState.PROBE)
        self.next = Index(after + 1)

    def become_replicate(self) -> None:
        """Its log follows ours."""
        self._enter(ProgressState.REPLICATE)
        self.next = Index(self.match + 1)

    def become_snapshot(self, pending: Index) -> None:
        """A snapshot up to `pending` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending = pending
        self.next = Index(pending + 1)

    def snapshot_failed(self) -> None:
        """The pending snapshot did not arrive: feel again from match, but not before the next heartbeat's reply."""
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
