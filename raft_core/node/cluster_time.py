"""`ClusterTime`: the time given to a machine's `prepare`, so that no wall clock can break a time to live.

It is one node's estimate, kept by the node. `docs/design.md` gives the reasons.

Cluster time is a number of nanoseconds. It advances with the leader's monotonic clock, from the latest time in the log,
and never goes back. Each node stores the latest value it learned together with its own monotonic clock at that moment,
so a follower that becomes leader continues from the last leader's present time, not from its last write. There are two
sources: the leader sends the time in heartbeats and with entries, and a machine reports the stamps in the commands it
applied. Wall time is used once in the life of a cluster: when no other source gives the time.

Late is a nuisance, early breaks a lock. So one rule holds on every node: **its time is never ahead of the clock that
stamped any entry in its log**, applied or not. Stamps of a leader that had restarted and missed some time are in the
log, and a key set by them must not expire early because the next leader has a better estimate. Hence a leader sends its
time with all entries and snapshots, and a node whose log equals its leader's takes that time even if it is smaller.
A node whose log may hold other entries takes the smaller of both times, and a node that gets entries without a time
goes back to the latest stamp it knows. Example: A of term 6 is late and stamps entry 9; B gets it from C, which leads
term 7 and sends what A told it; without that, B would lead term 8 ahead of entry 9.
"""

from __future__ import annotations

from typing import Final, final

import msgspec

from raft_core.ids import MAX_INT63, NO_TERM, Term
from raft_core.messages import HEARTBEAT, AppendEntries, InstallSnapshot, Message
from raft_core.raft import Raft

__all__ = ["ClusterTime"]

_CORRECTION: Final = 8
"""A follower ahead of its leader's value gives up this fraction of the difference. If the value was only delayed, the
next ones show it; if the follower's clock runs fast, the error stays within a few times its gain between two values.
"""


@final
class ClusterTime:
    """The cluster's time as one node knows it: a past value, and this node's own clock at that moment."""

    __slots__ = ("_at", "_by_stamps", "_floor", "_sent", "_term", "_time", "_told_in")

    def __init__(self) -> None:
        self._time = 0  # 0: not known
        self._at = 0
        self._floor = 0  # the latest stamp in the log, a lower bound
        self._by_stamps = 0  # so far stamps moved the clock forward, beyond what the leader has shown since
        self._term = NO_TERM  # of the leader that sent the time last
        self._told_in = NO_TERM  # the last leadership of this node in which it knew the time
        self._sent: tuple[AppendEntries, AppendEntries] | None = None  # an append without and with the time

    def read(self, now: int) -> int:
        """Return the cluster's time when this node's clock shows `now`; 0 if unknown."""
        return min(max(self._time + now - self._at, self._floor), MAX_INT63) if self._time else 0

    def log_shows(self, time: int, now: int) -> None:
        """Record that a command was stamped with `time`: cluster time is not earlier."""
        self._floor = max(self._floor, time)
        if time > 0 and (not self._time or self._time + now - self._at < time):
            # Without a time by itself: where the wall clock shows 1970, our own clock may show more than the stamp.
            moved = time - (self._time + now - self._at) if self._time else 0
            by_stamps = self._by_stamps + moved
            self._set(time, now)
            self._by_stamps = by_stamps

    def hear(self, raft: Raft, message: AppendEntries | InstallSnapshot, now: int) -> None:
        """Take the time of a message the core has just handled, if it came from the leader that this node follows."""
        brings = type(message) is not AppendEntries or bool(message.entries)
        if not (brings or message.time):
            return
        if raft.obeys(message.sender, message.term):
            same = raft.log_verified and type(message) is AppendEntries
            self.leader_says(message.term, message.time, now, same=same, brings=brings)
        elif brings and raft.status.leader == message.sender and raft.log_verified:
            self.leader_says(message.term, 0, now, brings=True)  # not a known member: only its entries count

    def leader_says(self, term: Term, time: int, now: int, *, same: bool = True, brings: bool = False) -> None:
        """Record `time` from the leader of `term`, true when it was sent; 0: it does not know the time.

        `same`: our whole log equals the leader's. `brings`: with the time come entries or a snapshot.

        A smaller time of the same leader may only be delayed. But the clock may also run ahead of the leader's from an
        earlier leader's stamp that was applied here first: that much is given up at once.
        """
        if term < self._term:
            return
        known = self._time + now - self._at if self._time else 0  # without the floor: a stamp is no clock that runs
        if not time:
            if brings and self._floor:
                self._set(min(known, self._floor) if known else self._floor, now)
            return
        if not same:
            if term > self._term and time < known:
                self._set(time, now)
        elif term > self._term or time >= known:
            self._set(time, now)
        else:
            known -= min(self._by_stamps, known - time)
            self._set(known - (known - time) // _CORRECTION, now)
        self._term = term

    def to_stamp(self, leading: Raft | None, now: int, wall: int) -> int:
        """Return the stamp for a leader's commands; 0 while it does not know the time, and if `leading` is None.

        The leader's machine must first have applied an entry of the leader's own term, and so all earlier leaders'
        stamps: its own stamps are never earlier. If there is no other source, the time is `wall`.
        """
        if leading is None:
            return 0
        term = leading.server.term
        if self._told_in != term:
            if leading.log.term_at(leading.server.pipeline.applied) != term:
                return 0
            self._told_in = self._term = term
            if not self._time:
                self._set(wall, now)
        return self.read(now)

    def put_into(self, message: Message, now: int) -> Message:
        """Return a leader's message with the time, if the leader knows it.

        Heartbeats carry it, so that an idle cluster knows the time too. Entries and snapshots do, so that every node
        with a stamp knows its time.

        The time belongs to the message's term: a leader that has heard its successor no longer adds it. Entries for
        several followers stay one shared object, because they are encoded once.
        """
        if not self._time or message.term < self._term:
            return message
        if type(message) is AppendEntries:
            if message.purpose is HEARTBEAT:
                return msgspec.structs.replace(message, time=self.read(now))
            if message.entries:
                if self._sent is None or self._sent[0] is not message:
                    self._sent = (message, msgspec.structs.replace(message, time=self.read(now)))
                return self._sent[1]
        elif type(message) is InstallSnapshot:
            return msgspec.structs.replace(message, time=self.read(now))
        return message

    def _set(self, time: int, now: int) -> None:
        self._time = min(max(1, time), MAX_INT63)
        self._at = now
        self._by_stamps = 0
