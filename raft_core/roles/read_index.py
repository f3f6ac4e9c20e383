"""Linearizable reads on a leader, by read rounds or by its lease (§8, thesis 6.4).

A round is a heartbeat that a majority answers; many reads share it.

Rules:

1. A read joins the next round, never one under way: the round must begin after the read was requested.
2. The leader numbers the rounds, always rising. So one reply confirms all earlier rounds, and a delayed or repeated
   reply confirms no later one (elsewhere, numbers chosen by clients once led to stale reads).
3. A round's index is the commit index at its sending. The leader sends none before it has committed an entry of its
   own term: its commit index may be too low until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

from raft_core.compiled import mypyc_attr
from raft_core.effects import AlarmKind, RefusalReason
from raft_core.ids import NO_NODE, Index, MessageId, NodeId, ReadId, RequestId
from raft_core.messages import AppendReply, ReadIndex, ReadIndexReply
from raft_core.progress import Progress
from raft_core.quorum import quorum_reached
from raft_core.roles.replication import Replication
from raft_core.server import Server
from raft_core.state_values import ReadRound, WaitingRead

__all__ = ["ReadQueue", "Reading"]


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class ReadQueue:
    """The reads waiting for the next round, and the round under way."""

    __slots__ = ("last_round", "rounds", "waiting")

    def __init__(self) -> None:
        self.waiting: list[WaitingRead] = []
        self.rounds: deque[ReadRound] = deque()
        self.last_round = ReadId(0)  # sent with every heartbeat

    def __len__(self) -> int:
        return len(self.waiting) + sum([len(sent.reads) for sent in self.rounds])

    def ask(self, read: WaitingRead) -> None:
        """Add `read` to the next round."""
        self.waiting.append(read)

    @property
    def wants_round(self) -> bool:
        """True if reads wait and no round is under way."""
        return bool(self.waiting) and not self.rounds

    def begin(self, index: Index) -> ReadId:
        """Begin a round with all waiting reads. Return its number."""
        self.last_round = ReadId(self.last_round + 1)
        self.rounds.append(ReadRound(self.last_round, index, tuple(self.waiting)))
        self.waiting.clear()
        return self.last_round

    def confirmed(self, upto: ReadId) -> list[ReadRound]:
        """Remove and return the rounds up to `upto`."""
        done: list[ReadRound] = []
        while self.rounds and self.rounds[0].id <= upto:
            done.append(self.rounds.popleft())
        return done

    def drain(self) -> list[WaitingRead]:
        """Remove and return all reads, oldest first."""
        reads = [read for sent in self.rounds for read in sent.reads] + self.waiting
        self.rounds.clear()
        self.waiting = []
        return reads


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Reading:
    """`settled`: an entry of this term is committed; before, the true commit index is unknown (§8)."""

    __slots__ = ("beats", "lease_spent", "queue", "replication", "server", "settled")

    def __init__(self, server: Server, replication: Replication) -> None:
        self.server = server
        self.replication = replication
        self.queue = ReadQueue()
        self.settled = False
        self.lease_spent = False  # TimeoutNow was sent: no more leases in this leadership
        self.beats: deque[tuple[MessageId, int]] = deque()  # heartbeats and when they were sent, for leases

    def on_read(self, request: RequestId, *, leaving: bool) -> None:
        """Answer from a valid lease, otherwise with the next read round (§8)."""
        server = self.server
        if len(self.queue) + len(server.pipeline.reads) >= server.settings.max_waiting_reads:
            server.refuse(request, RefusalReason.READS_FULL)
        elif self._lease_valid(leaving=leaving):
            server.pipeline.read_when_applied(server.commit, request)
        else:
            self._ask(WaitingRead(NO_NODE, request))

    def on_read_index(self, message: ReadIndex, *, leaving: bool) -> None:
        """Answer a follower's or learner's read. Refuse a removed node, or it would wait for ever (rule 7.5)."""
        server = self.server
        read = WaitingRead(message.sender, RequestId(0), message.id)
        known = server.members.is_member(message.sender)
        if not known or len(self.queue) >= server.settings.max_waiting_reads:
            self.refuse(read, RefusalReason.READS_FULL)
        elif self._lease_valid(leaving=leaving):
            reply = ReadIndexReply(server.term, server.me, message.id, server.commit, ok=True)
            server.outbox.send(message.sender, reply)
        else:
            self._ask(read)

    def _ask(self, read: WaitingRead) -> None:
        self.queue.ask(read)
        self.begin_if_wanted()

    def begin_if_wanted(self) -> None:
        """Begin a round for waiting reads, once an entry of our term is committed."""
        if self.settled and self.queue.wants_round:
            self.replication.heartbeat_all(self.queue.begin(self.server.commit))
            self.confirm()

    def beat(self) -> None:
        """Send the periodic heartbeat, which repeats the newest round in case its first message was lost."""
        server = self.server
        message = self.replication.heartbeat_all(self.queue.last_round)
        self.replication.mark_beat()
        if server.settings.lease_reads:
            self.beats.append((message, server.now))
            while server.now - self.beats[0][1] > server.settings.election_ticks:
                self.beats.popleft()

    def answered(self, peer: Progress, reply: AppendReply) -> None:
        """Note a heartbeat reply: it may confirm a round, and renews a lease as of the sending of the heartbeat."""
        for message, sent_at in self.beats:
            if message == reply.id and sent_at > peer.lease_from:
                peer.lease_from = sent_at
                self._note_promise(peer, reply.lease)
        if reply.read > peer.read_acked:
            peer.read_acked = reply.read
            self.confirm()

    def _note_promise(self, peer: Progress, promise: int) -> None:
        server = self.server
        if promise != peer.lease_promised and promise < server.settings.lease_promise and server.members.leases:
            text = f"node {peer.node} gives no vote away for {promise} ns, this leader would for "
            text += f"{server.settings.lease_promise}: a lease that rests on it is as short as that (election_ticks)"
            server.alarm(AlarmKind.SETTINGS, peer.node, text)
        peer.lease_promised = promise

    def confirm(self) -> None:
        """Release the reads of rounds answered by a majority of each half (thesis 6.4)."""
        queue = self.queue
        while queue.rounds:
            wanted = queue.rounds[0].id
            if not quorum_reached(self.server.members, self._has_answered(wanted)):
                return
            for done in queue.confirmed(wanted):
                for read in done.reads:
                    self._release(read, done.index)
            if queue.wants_round:
                self.replication.heartbeat_all(queue.begin(self.server.commit))

    def _has_answered(self, wanted: ReadId) -> Callable[[NodeId], bool]:
        progress, me = self.replication.progress, self.server.me
        return lambda node: node == me or (node in progress and progress[node].read_acked >= wanted)

    def _release(self, read: WaitingRead, index: Index) -> None:
        server = self.server
        if read.origin == NO_NODE:
            server.pipeline.read_when_applied(index, read.request)
        else:
            server.outbox.send(read.origin, ReadIndexReply(server.term, server.me, read.message, index, ok=True))

    def refuse(self, read: WaitingRead, reason: RefusalReason) -> None:
        """Refuse the read, whether requested here or by another node."""
        server = self.server
        if read.origin == NO_NODE:
            server.refuse(read.request, reason)
        else:
            reply = ReadIndexReply(server.term, server.me, read.message, server.commit, ok=False)
            server.outbox.promise_term(read.origin, reply)

    def refuse_all(self) -> None:
        """Refuse all reads at the end of the leadership; repeating a read is harmless."""
        for read in self.queue.drain():
            self.refuse(read, RefusalReason.LEADERSHIP_LOST)

    def _lease_valid(self, *, leaving: bool) -> bool:
        """Return whether a quorum's lease promises, less the clock drift, are still in force (thesis 6.4.1).

        The lease begins at the sending of the heartbeat and ends at once when a successor may campaign.
        """
        server, settings = self.server, self.server.settings
        allowed = settings.lease_reads and server.members.leases and self.settled
        if not allowed or self.lease_spent or leaving:
            return False
        progress, me = self.replication.progress, server.me
        return quorum_reached(server.members, lambda n: n == me or (n in progress and self._lends(progress[n])))

    def _lends(self, peer: Progress) -> bool:
        """Return whether the promise of `peer` to grant no vote is in force by our clock."""
        settings = self.server.settings
        ticks = min(peer.lease_promised // settings.tick_nanoseconds, settings.election_ticks)
        lasts = ticks * (100 - settings.clock_drift_percent) // 100
        return peer.lease_from > self.server.now - lasts
