"""The follower: follows a leader or waits for one (§5.2, §5.3). Learners and nodes without a cluster are followers too.

It keeps the leader's id, the time since it was heard, and the index up to which our log equals the leader's.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import AlarmKind, ReceiveSnapshot, RefusalReason, RoleName
from raft_core.entries import COMMAND, ENTRY_OVERHEAD, Entry, SnapshotMeta
from raft_core.errors import LogLost
from raft_core.ids import NO_INDEX, NO_NODE, Index, MessageId, NodeId, RequestId
from raft_core.messages import (
    COMMIT_UPDATE,
    HEARTBEAT,
    AppendEntries,
    AppendFields,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    TimeoutNow,
    TransferRefused,
    VoteKind,
)
from raft_core.requests import Read, ReadConsistency
from raft_core.roles.role import Role
from raft_core.roles.transitions import BecomeCandidate, BecomePreCandidate, Transition
from raft_core.server import Server
from raft_core.structs import fields_of
from raft_core.validation import snapshot_too_far

__all__ = ["Follower"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_COMMIT_UPDATE: Final = COMMIT_UPDATE
_HEARTBEAT: Final = HEARTBEAT
_fields_of: Final = fields_of

LOST_TEXT: Final = (
    "The leader has proof that this node acknowledged entries which its disk no longer holds: a wiped or restored "
    "disk, or a disk that lied about a sync. Do not start this data directory again. Remove the node from the "
    "cluster, and add it with a new id and an empty directory."
)


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Follower(Role):
    """Invariant: `verified` is at most the last index, and the log equals the leader's up to `verified`."""

    name: Final = RoleName.FOLLOWER
    __slots__ = (
        "asked_ticks",
        "drawn_for",
        "elapsed",
        "fresh_at",
        "heard",
        "hurry",
        "leader",
        "reads",
        "server",
        "suspect",
        "timeout",
        "verified",
    )

    def __init__(self, server: Server, leader: NodeId, hurry: int = 0) -> None:
        self.server = server
        self.leader: NodeId = leader
        self.elapsed = 0  # ticks since the leader was heard, a vote was granted, or this role began
        self.heard = leader != NO_NODE  # a leader was heard within `elapsed`
        self.hurry = hurry
        self.drawn_for = server.members  # the configuration in which `timeout` was drawn
        if hurry:
            self.timeout = server.short_timeout()
        else:
            self.timeout = server.timeout_after(leader) if self.heard else server.election_timeout()
        self.suspect = False  # the connection to the leader broke and it was not heard since
        self.verified: Index = server.commit  # committed entries are in every later leader's log (§5.4)
        self.reads: list[tuple[MessageId, RequestId]] = []  # asked of the leader, oldest first
        self.asked_ticks = 0
        self.fresh_at = -1  # tick at which our commit index was last known to equal the leader's

    # Time.

    def on_tick(self, elapsed: int) -> Transition | None:
        """Campaign if no leader was heard for the whole timeout (§5.2). Count one tick, however many have passed."""
        self.elapsed += 1
        if self.reads:
            self._ask_again()
        if self.elapsed < self.timeout or self.server.bound:
            return None
        if self.server.may_campaign:
            return self._stand()
        self.elapsed = 0
        self.heard = False
        if self.leader != NO_NODE:
            self._forget()
        return None

    def _stand(self) -> Transition:
        hurry = 2 if self.suspect else max(0, self.hurry - 1)
        return BecomePreCandidate(hurry) if self.server.settings.pre_vote else BecomeCandidate(hurry=hurry)

    def _forget(self) -> None:
        self.leader = NO_NODE
        self.server.role_touched = True
        self.refuse_reads()

    def on_campaign(self) -> Transition | None:
        """Campaign now, on an operator's order."""
        if not self.server.may_campaign or self.server.bound:
            return None
        return BecomePreCandidate() if self.server.settings.pre_vote else BecomeCandidate()

    def on_unreachable(self, peer: NodeId) -> Transition | None:
        """Campaign soon after losing the connection to the leader, once until it is heard again."""
        server = self.server
        if peer != self.leader or self.suspect or peer == NO_NODE:
            return None
        self.suspect = True
        leased = server.loyalty if server.members.leases else 0
        self.timeout = min(self.timeout, self.elapsed + leased + server.turn_to_stand(peer))
        return None

    def on_forget_leader(self) -> None:
        """Forget the leader, so that votes can be granted at once. Do nothing in a cluster with leases (rule 8.1)."""
        if not self.server.members.leases and self.leader != NO_NODE:
            self.heard = False
            self._forget()

    def _hear(self, leader: NodeId) -> bool:
        """Note contact with the leader. Return False if another node leads this term: one of the two is faulty."""
        server = self.server
        if self.leader != leader:
            if self.leader != NO_NODE:
                kind = AlarmKind.TWO_LEADERS if server.knows(leader) else AlarmKind.MALFORMED
                server.alarm(kind, leader, "two nodes claim to lead one term; the second is ignored")
                return False
            self.leader = leader
            server.role_touched = True
            self._draw()
        self.elapsed = 0
        self.heard = True
        if server.loyalty < server.loyal_ticks:
            server.loyalty = server.loyal_ticks
        if self.suspect or self.hurry:
            self.suspect = False
            self.hurry = 0
            self._draw()
        server.hurry_priority = 0
        return True

    def _draw(self) -> None:
        """Draw the timeout until this node stands if the leader falls silent."""
        self.drawn_for = self.server.members
        self.timeout = self.server.timeout_after(self.leader)

    # Votes.

    def ignores_vote(self, request: RequestVote) -> bool:
        """Stickiness (rule 2.4, thesis 4.2.3): ignore other candidates while a leader was heard within T.

        A broken connection to the leader ends stickiness, except in a cluster with leases.
        """
        server = self.server
        if request.kind is VoteKind.TRANSFER:
            return False
        if server.bound:
            return True  # whatever our settings: a lease may depend on this node
        loyal = self.elapsed < server.settings.election_ticks and self.leader != NO_NODE
        return server.settings.check_quorum and self.heard and loyal and not self.suspect

    def on_request_vote(self, request: RequestVote) -> Transition | None:
        """Restart the timer only on a granted vote: a refused candidate must not delay a better one (rule 1.3)."""
        leader = NO_NODE if self.suspect and request.kind is VoteKind.PRE else self.leader
        if self.server.answer_vote(request, leader):
            self.elapsed = 0
        return None

    # Appends.

    def on_append_entries(self, request: AppendEntries) -> Transition | None:
        """Handle an append (§5.3, figure 2). Raise `LogLost` if our disk has lost entries it acknowledged."""
        fields: AppendFields = _fields_of(request)
        _, sender, message_id, purpose, prev, prev_term, commit, read, entries, _, _ = fields
        if purpose is _HEARTBEAT:
            self._on_heartbeat(request)
            return None
        if not self._hear(sender):
            return None
        server = self.server
        log = server.log
        verified = Index(prev + len(entries))
        if prev != log.last_index or prev_term != log.last_term:
            if prev < server.commit:
                self._overlap_commit(request, verified)
                return None
            if log.term_at(prev) != prev_term:
                self._reject(request)  # an announcement too: what went before it is lost, and a heartbeat is saved
                return None
        if entries and not self._store(request, prev, entries):
            return None
        self._advance(verified, commit)
        if purpose is not _COMMIT_UPDATE:
            reply = server.append_reply(message_id, purpose, read, verified)
            server.outbox.promise_entries(sender, reply, verified)
        return None

    def _store(self, request: AppendEntries, prev: Index, entries: tuple[Entry, ...]) -> bool:
        """Remove a conflicting entry and all after it, keep entries held already, append the rest (fig. 2, steps 3, 4).

        Return whether all entries are now in the log.
        """
        server, log = self.server, self.server.log
        held = 0
        if prev != log.last_index:
            held = log.first_conflict(entries)
            if held == len(entries):
                return True
            entries = entries[held:]
            first = entries[0].index
            if first <= log.last_index:
                if first <= server.commit:
                    self._conflict(request)
                    return False
                self._truncate(first, request.commit)
        if log.size <= server.log_free_below:
            server.append(entries)
            return True
        first = entries[0].index
        taken = self._room(entries, request.commit)
        if taken:
            server.append(entries[:taken])
        if taken < len(entries):
            place = Index(first + taken - 1)
            if held + taken or place > self.verified:
                self._accept(request, place)  # verified entries may commit, and committed ones make room
            return False  # no reply: it would only bring the same entries again at once
        return True

    def _room(self, entries: tuple[Entry, ...], committed: Index) -> int:
        """Return how many of `entries` fit below `log_max_bytes`; the leader sends the rest again later.

        Never refuse no-ops, configurations, or uncommitted commands of earlier terms: only a commit makes room, since
        snapshots need applied entries. Example: A's log is full and C leads the new term. C may commit only its no-op
        at index 9 (§5.4.2), so A must take C's older entries 7 and 8 first; refusing them would block A for ever.
        """
        server = self.server
        free = server.settings.log_max_bytes - server.log.size
        for count, entry in enumerate(entries):
            free -= len(entry.data) + ENTRY_OVERHEAD
            if free < 0 and entry.kind is COMMAND and (entry.term == server.term or entry.index <= committed):
                server.snapshots.make_room(server.now)
                server.alarm(AlarmKind.LOG_FULL, NO_NODE, "the log in memory is full; entries wait at the leader")
                return count
        return len(entries)

    def _truncate(self, first: Index, committed: Index) -> None:
        server = self.server
        server.truncate_from(first)
        self.verified = min(self.verified, Index(first - 1))
        server.requests.truncated_from(first, committed, server.respond)

    def _advance(self, verified: Index, commit: Index) -> None:
        """Note that our log equals the leader's up to `verified`, and that the leader has committed `commit`."""
        server = self.server
        if verified > self.verified:
            self.verified = verified
        if server.commit < commit:
            server.commit_to(commit if commit < verified else verified)
        if server.commit >= commit:
            self.fresh_at = server.now

    def _accept(self, request: AppendEntries, verified: Index) -> None:
        """Note that our log equals the leader's up to `verified`, and acknowledge no more (rules 3.4, 3.5)."""
        self._advance(verified, request.commit)
        self._acknowledge(request, verified)

    def _acknowledge(self, request: AppendEntries, match: Index) -> None:
        """Acknowledge the entries up to `match` once they are durable; a commit update asks for no reply."""
        if request.purpose is not COMMIT_UPDATE:
            reply = self.server.append_reply(request.id, request.purpose, request.read, match)
            self.server.outbox.promise_entries(request.sender, reply, match)

    def _overlap_commit(self, request: AppendEntries, verified: Index) -> None:
        """Handle an append which begins below our commit index, where the logs are equal (§5.4).

        Example: A committed index 7; B, just elected, sends entries 5 to 9 after index 4. Entries 5 to 7 are known to
        be equal and may be compacted here, so A checks the term of 7 only and goes on as if B had sent 8 and 9.
        """
        server = self.server
        commit = server.commit
        if verified <= commit:
            self._accept_known(request, verified, commit)
            return
        place = commit - request.prev_index - 1
        if request.entries[place].term != server.log.term_at(commit):
            self._conflict(request)
            return
        rest = AppendEntries(
            request.term,
            request.sender,
            request.id,
            request.purpose,
            commit,
            request.entries[place].term,
            request.commit,
            request.read,
            request.entries[place + 1 :],
        )
        if self._store(rest, commit, rest.entries):
            self._accept(rest, verified)

    def _accept_known(self, request: AppendEntries, verified: Index, commit: Index) -> None:
        """Answer an append of committed entries only with our commit index (rule 4.1).

        Comparing the last entry is enough: logs equal there are equal before it (§5.3).
        """
        server = self.server
        held = server.log.term_at(verified)
        if held is not None and held != (request.entries[-1].term if request.entries else request.prev_term):
            self._conflict(request)
            return
        self._acknowledge(request, commit)

    def _conflict(self, request: AppendEntries) -> None:
        self.server.alarm(
            AlarmKind.COMMITTED_CONFLICT, request.sender, "an append contradicts what is committed here; it is ignored"
        )

    def _reject(self, request: AppendEntries) -> None:
        """Reject, with the last position at which the logs can still be equal as the hint (end of §5.3)."""
        server = self.server
        hint = server.log.last_at_most(request.prev_index, request.prev_term)
        reply = server.append_rejection(request, hint)
        server.outbox.promise_term(request.sender, reply)

    def _on_heartbeat(self, request: AppendEntries) -> None:
        """Handle a heartbeat. Its prev index was acknowledged by this node, so it may safely overtake appends."""
        server, log = self.server, self.server.log
        prev, term = request.prev_index, log.term_at(request.prev_index)
        lost = prev > log.last_index or (term is not None and request.prev_term not in (0, term))
        lost = lost or request.commit > log.last_index
        fresh = server.members.empty and server.boot == 1  # on its first start a disk has acknowledged nothing
        if lost and (fresh or not server.knows(request.sender)):
            text = "a stranger says that this node has lost entries; it is not believed"
            server.alarm(AlarmKind.MALFORMED, request.sender, text)
            return
        if not self._hear(request.sender):
            return
        if lost:
            raise LogLost(LOST_TEXT)
        if self.drawn_for is not server.members and self.drawn_for != server.members:  # another turn, perhaps
            self._draw()
        if prev > self.verified:
            self.verified = prev
        if self.verified < server.commit:
            self.verified = server.commit
        server.commit_to(min(request.commit, self.verified))
        if server.commit >= request.tip:
            self.fresh_at = server.now
        durable = server.outbox.durable_index
        match = self.verified if self.verified < durable else durable
        # After a restart a node learns from its disk of leases: with an empty one it promises nothing.
        lease = server.settings.lease_promise if server.members.leases and durable else 0
        reply = server.heartbeat_reply(request, match, lease)
        server.outbox.promise_term(request.sender, reply)

    # Snapshots.

    def on_install_snapshot(self, request: InstallSnapshot) -> Transition | None:
        """Fetch the offered snapshot once, unless its index is committed or in our log already (§7)."""
        if not self._hear(request.sender):
            return None
        server, meta = self.server, request.meta
        if meta.index > server.commit and server.log.matches(meta.index, meta.term):
            server.commit_to(meta.index)  # figure 13 rule 6: keep the entries after it
            self.verified = max(self.verified, meta.index)
        if meta.index <= server.commit:
            self._answer_snapshot(request.sender, request.id, meta.index, server.commit)
            return None
        if snapshot_too_far(server.log.last_index, meta.index):
            server.alarm(AlarmKind.MALFORMED, request.sender, "a snapshot that leaves the log no room to grow")
            return None
        if server.snapshots.restoring:
            return None  # one at a time: the machine still reads the earlier file; the leader offers again
        wanted = ReceiveSnapshot(request.sender, meta)
        if server.snapshots.receiving != wanted:
            server.snapshots.receiving = wanted
            server.outbox.effects.append(wanted)
        return None

    def on_snapshot_received(self, meta: SnapshotMeta) -> None:
        """Switch to the received snapshot, unless the log has caught up meanwhile (rule 6.3).

        Ignore any snapshot other than the expected one, even at the same index.
        """
        server = self.server
        if server.snapshots.receiving is None or server.snapshots.receiving.meta != meta:
            return
        sender = server.snapshots.receiving.sender
        server.snapshots.receiving = None
        if meta.index > server.commit:
            if server.log.matches(meta.index, meta.term):
                server.commit_to(meta.index)
            else:
                server.install(meta)
            self.verified = max(self.verified, meta.index)
        if sender != NO_NODE and sender == self.leader:
            self._answer_snapshot(sender, server.next_message(), meta.index, server.commit)

    def on_snapshot_rejected(self, index: Index) -> None:
        """Tell the leader about the failed transfer; it tries again."""
        server = self.server
        receiving, server.snapshots.receiving = server.snapshots.receiving, None
        if receiving is not None and receiving.sender == self.leader:
            reply = server.snapshot_reply(server.next_message(), index, NO_INDEX, ok=False)
            server.outbox.promise_term(self.leader, reply)

    def _answer_snapshot(self, to: NodeId, message: MessageId, index: Index, match: Index) -> None:
        server = self.server
        server.outbox.promise_entries(to, server.snapshot_reply(message, index, match, ok=True), match)

    # Leadership transfer.

    def on_timeout_now(self, request: TimeoutNow) -> Transition | None:
        """Campaign at once, without a pre-vote (rule 2.10), or refuse (rule 11.3)."""
        if self.leader not in (NO_NODE, request.sender):
            return None  # not from our leader
        if self.leader == NO_NODE and not self.server.knows(request.sender):
            return None  # not a member
        if self.server.may_campaign:
            return BecomeCandidate(transfer=True)
        self.server.outbox.send(request.sender, TransferRefused(self.server.term, self.server.me, request.id))
        return None

    # Reads.

    def on_read(self, number: RequestId, read: Read) -> None:
        """Ask the leader for the read index (thesis 6.4); the read is done here. A bounded one needs no leader."""
        server = self.server
        if read.consistency is ReadConsistency.STALE_BOUNDED:
            if self.fresh_at >= 0 and server.now - self.fresh_at <= read.limit:
                server.pipeline.read_when_applied(server.commit, number)
            else:
                server.refuse(number, RefusalReason.STALE, leader=self.leader)
            return
        if self.leader == NO_NODE:
            server.refuse(number, RefusalReason.NO_LEADER)
            return
        if len(self.reads) + len(server.pipeline.reads) >= server.settings.max_waiting_reads:
            server.refuse(number, RefusalReason.READS_FULL, leader=self.leader)
            return
        message = server.next_message()
        self.reads.append((message, number))
        server.outbox.send(self.leader, ReadIndex(server.term, server.me, message))

    def _ask_again(self) -> None:
        """Repeat the newest read index request, as it or its reply may be lost; one reply serves all reads."""
        self.asked_ticks += 1
        if self.asked_ticks >= self.server.settings.heartbeat_ticks:
            self.asked_ticks = 0
            self.server.outbox.send(self.leader, ReadIndex(self.server.term, self.server.me, self.reads[-1][0]))

    def on_read_index_reply(self, reply: ReadIndexReply) -> None:
        """Complete or refuse this read and all older ones.

        Ignore a reply to an unknown request, such as one from before a restart.
        """
        asked = [message for message, _ in self.reads]
        if reply.sender != self.leader or reply.id not in asked:
            return
        answered = asked.index(reply.id) + 1
        done, self.reads = self.reads[:answered], self.reads[answered:]
        for _, request in done:
            if reply.ok:
                self.server.pipeline.read_when_applied(reply.index, request)
            else:
                self.server.refuse(request, RefusalReason.LEADERSHIP_LOST, leader=self.leader)

    def resign(self) -> None:
        """Refuse the reads that wait for the leader."""
        self.refuse_reads()

    def refuse_reads(self) -> None:
        """Refuse the reads waiting for a lost leader's reply or entries.

        Repeating a read is harmless, and without a leader they would wait for ever (rule 7.5).
        """
        waiting, self.reads = self.reads, []
        for request in [*(request for _, request in waiting), *self.server.pipeline.reads_beyond(self.server.commit)]:
            self.server.refuse(request, RefusalReason.LEADERSHIP_LOST)
