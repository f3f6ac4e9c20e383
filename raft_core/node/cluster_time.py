"""Cluster time: what a machine's `prepare` is told, so that no wall clock can break a time to live.

This module holds `ClusterTime`, one node's idea of it, which the host keeps. `docs/design.md` says why it is as it is.

Cluster time is a number of nanoseconds. It moves with the leader's monotonic clock, from where the log's time stands,
and never back. Each node pairs the latest that it has heard of it with its own monotonic clock at that moment, so that
a follower that becomes leader goes on where the last leader is now, and not where that one last wrote something. It
hears of it in two ways: the leader tells it in heartbeats and with entries, and a machine says what was stamped into
the commands that it has applied. Wall time is looked at once in the life of a cluster: where nothing else tells what
time it is.

What a leader of a later term says replaces what is known, even where that is less: such a leader may have restarted and
know less of the time that has passed, but its stamps are in the log, and a key that was set by them must not go early
because the next leader knows better.
"""

from __future__ import annotations

from typing import Final, final

import msgspec

from raft_core.ids import MAX_INT63, NO_TERM, Term
from raft_core.messages import HEARTBEAT, AppendEntries, Message
from raft_core.raft import Raft

__all__ = ["ClusterTime"]

_CORRECTION: Final = 8
"""Of what a follower is ahead of what its leader said, it gives up this part. If that was merely late on its way the
next ones say so, and if the follower's clock runs too fast it stays within a few times what it gains between two."""


@final
class ClusterTime:
    """The cluster's time as one node knows it: what it was, and this node's own clock at that moment."""

    __slots__ = ("_at", "_floor", "_sent", "_term", "_time", "_told_in")

    def __init__(self) -> None:
        self._time = 0  # 0: not known
        self._at = 0
        self._floor = 0  # the latest stamp in the log: never less than that is said
        self._term = NO_TERM  # of the leader that said it last
        self._told_in = NO_TERM  # the last leadership of this node in which it knew the time
        self._sent: tuple[AppendEntries, AppendEntries] | None = None  # an append without and with the time

    def read(self, now: int) -> int:
        """Return the cluster's time when this node's clock shows `now`; 0 if it is not known."""
        return min(max(self._time + now - self._at, self._floor), MAX_INT63) if self._time else 0

    def log_shows(self, time: int, now: int) -> None:
        """A command was stamped with `time`: it is not earlier than that."""
        self._floor = max(self._floor, time)
        if time > 0 and self._time + now - self._at < time:
            self._set(time, now)

    def leader_says(self, term: Term, time: int, now: int) -> None:
        """The leader of `term` sends `time`, which was true when that left."""
        if term < self._term:
            return
        known = self.read(now)
        if term == self._term and time < known:
            time = known - (known - time) // _CORRECTION
        self._term = term
        self._set(time, now)

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
            self._told_in = self._term = term
            if not self._time:
                self._set(wall, now)
        return self.read(now)

    def put_into(self, message: Message, now: int) -> Message:
        """Return the message with the time in it, where it is of a leader that knows it: a heartbeat, so that an idle
        cluster knows it too, or entries, so that nobody holds a stamp and has not heard of its time.

        Entries that go to several followers are one object before and one after, as they are encoded once."""
        if type(message) is not AppendEntries or message.term != self._told_in:
            return message
        if message.purpose is HEARTBEAT:
            return msgspec.structs.replace(message, time=self.read(now))
        if not message.entries:
            return message
        if self._sent is None or self._sent[0] is not message:
            self._sent = (message, msgspec.structs.replace(message, time=self.read(now)))
        return self._sent[1]

    def _set(self, time: int, now: int) -> None:
        self._time = min(max(1, time), MAX_INT63)
        self._at = now
