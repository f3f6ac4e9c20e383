"""Cluster time: what a machine's `prepare` is told, so that no wall clock can break a time to live.

What lives here: `ClusterTime`, one node's idea of it, which the host keeps. `docs/design.md` says why it is as it is.

Cluster time is a number of nanoseconds. It moves with the leader's monotonic clock, from where the log's time stands,
and never back. Each node pairs the latest that it has heard of it with its own monotonic clock at that moment, so that
a follower that becomes leader goes on where the last leader is now, and not where that one last wrote something. It
hears of it in two ways: the leader tells it in every heartbeat, and a machine says what was stamped into the commands
that it has applied. Wall time is looked at once in the life of a cluster: where nothing else tells what time it is.
"""

from __future__ import annotations

from typing import Final, final

import msgspec

from raft_core.ids import HIGHEST_NUMBER, NO_TERM
from raft_core.messages import HEARTBEAT, AppendEntries, Message
from raft_core.raft import Raft

__all__ = ["ClusterTime"]

_CORRECTION: Final = 8
"""Of what a follower is ahead of a leader's heartbeat, it gives up this part. If the heartbeat was merely late the next
ones say so, and if the follower's clock runs too fast it stays within a few times what it gains between two of them."""


@final
class ClusterTime:
    """The cluster's time as one node knows it: what it was, and this node's own clock at that moment."""

    __slots__ = ("_at", "_time", "_told_in")

    def __init__(self) -> None:
        self._time = 0  # 0: not known
        self._at = 0
        self._told_in = NO_TERM  # of the last leadership of this node in which it knew the time

    def read(self, now: int) -> int:
        """Return the cluster's time when this node's clock shows `now`; 0 if it is not known."""
        return min(self._time + now - self._at, HIGHEST_NUMBER) if self._time else 0

    def log_shows(self, time: int, now: int) -> None:
        """A command was stamped with `time`: it is not earlier than that."""
        if time > self.read(now):
            self._set(time, now)

    def leader_says(self, time: int, now: int) -> None:
        """The leader's heartbeat carries `time`, which was true when it left."""
        known = self.read(now)
        self._set(time if time >= known else known - (known - time) // _CORRECTION, now)

    def to_stamp(self, leading: Raft | None, now: int, wall: int) -> int:
        """Return what a leader stamps into commands; 0 while it does not know it, and where `leading` is None.

        Its machine must have applied an entry of the leader's own term first, and with it all that earlier leaders have
        stamped: what it stamps is never earlier than that. Where nothing tells what time it is, it is `wall`."""
        if leading is None:
            return 0
        term = leading.server.term
        if self._told_in != term:
            if leading.log.term_at(leading.server.applied) != term:
                return 0
            self._told_in = term
            if not self._time:
                self._set(wall, now)
        return self.read(now)

    def put_into(self, message: Message, now: int) -> Message:
        """Return the message with the time in it, where it is the heartbeat of a leader that knows it."""
        if type(message) is not AppendEntries or message.purpose is not HEARTBEAT or message.term != self._told_in:
            return message
        return msgspec.structs.replace(message, time=self.read(now))

    def _set(self, time: int, now: int) -> None:
        self._time = min(max(1, time), HIGHEST_NUMBER)
        self._at = now
