"""Follows a leader, or waits for one (§5.2, §5.3). Learners and nodes that know of no cluster are followers too.

What lives here: who leads, how long ago it was heard, and how much of our log is known to equal the leader's.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.effects import AlarmKind, ReceiveSnapshot, RefusalReason, RoleName
from raft_core.entries import COMMAND, ENTRY_OVERHEAD, Entry, SnapshotMeta
from raft_core.errors import LogLost
from raft_core.events import ReadRequested
from raft_core.ids import NO_INDEX, NO_NODE, Index, MessageId, NodeId, RequestId
from raft_core.messages import (
    COMMIT_UPDATE,
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_core.roles.transitions import BecomeCandidate, BecomePreCandidate, Transition
from raft_core.server import Server
from raft_core.validation import snapshot_too_far

__all__ = ["Follower"]

LOST_TEXT: Final = (
    "The leader has proof that this node acknowledged entries which its disk no longer holds: a wiped or restored "
    "disk, or a disk that lied about a sync. Do not start this data directory again. Remove the node from the "
    "cluster, and add it with a new id and an empty directory."
)


@final
class Follower:
    """Invariant: `verified` never exceeds the log's end, and the log equals the leader's up to there."""

    name: Final = RoleName.FOLLOWER
    __slots__ = (
        "asked_ticks",
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
        self.leader = leader
        self.elapsed = 0  # ticks since the leader was heard, a vote was given, or this role began
        self.heard = leader != NO_NODE  # a leader was heard within `elapsed`
        self.hurry = hurry
        self.timeout = server.short_timeout() if hurry else server.election_timeout()
        self.suspect = False  # the connection to the leader broke, and it has not been heard since
        self.verified: Index = server.commit  # what is committed equals every later leader's log (§5.4)
        self.reads: list[tuple[MessageId, RequestId]] = []  # asked of the leader, oldest first
        self.asked_ticks = 0
        self.fresh_at = -1  # when the leader was last heard to have committed nothing that is not committed here

    # Time.

    def on_tick(self) -> Transition | None:
        """§5.2: stand when no leader was heard for the whole timeout."""
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
        self.refuse_reads()

    def on_campaign(self) -> Transition | None:
        """An order from outside: stand now."""
        if not self.server.may_campaign or self.server.bound:
            return None
        return BecomePreCandidate() if self.server.settings.pre_vote else BecomeCandidate()

    def on_unreachable(self, peer: NodeId) -> None:
        """The connection to the leader broke: stand soon, by pre-vote, once until it is heard again."""
        server = self.server
        if peer != self.leader or self.suspect or peer == NO_NODE:
            return
        self.suspect = True
        leased = server.loyalty if server.members.leases else 0
        self.timeout = min(self.timeout, self.elapsed + leased + server.short_timeout())

    def on_forget_leader(self) -> None:
        """Votes may be given at once. Where leases rest on our loyalty, nothing happens (rule 8)."""
        if not self.server.members.leases and self.leader != NO_NODE:
            self.heard = False
            self._forget()

    def on_persisted(self) -> Transition | None:
        return None

    def _hear(self, leader: NodeId) -> bool:
        """The leader spoke. False where another leads this term: one of the two is broken."""
        if self.leader != leader:
            if self.leader != NO_NODE:
                kind = AlarmKind.TWO_LEADERS if self.server.knows(leader) else AlarmKind.MALFORMED
                self.server.alarm(kind, leader, "two nodes claim to lead one term; the second is ignored")
                return False
            self.leader = leader
        self.elapsed = 0
        self.heard = True
        self.server.stay_loyal()
        if self.suspect or self.hurry:
            self.suspect = False
            self.hurry = 0
            self.timeout = self.server.election_timeout()
        self.server.hurry_priority = 0
        return True

    # Votes.

    def ignores_vote(self, request: RequestVote) -> bool:
        """Loyalty (rule 2.4, thesis 4.2.3): while a leader was heard within T, nobody else is even answered.

        A broken connection to the leader ends it, but not where leases rest on it."""
        server = self.server
        if request.kind is VoteKind.TRANSFER:
            return False
        if server.bound:
            return True  # whatever our settings: somebody's lease may rest on this node
        loyal = self.elapsed < server.settings.election_ticks and self.leader != NO_NODE
        return server.settings.check_quorum and self.heard and loyal and not self.suspect

    def on_request_vote(self, request: RequestVote) -> Transition | None:
        """Only a vote given starts the timer anew: a refused candidate must not delay a better one (rule 1.3)."""
        leader = NO_NODE if self.suspect and request.kind is VoteKind.PRE else self.leader
        if self.server.answer_vote(request, leader):
            self.elapsed = 0
        return None

    def on_vote_reply(self, reply: VoteReply) -> Transition | None:
        return None  # of a campaign that is over

    # Appends.

    def on_append_entries(self, request: AppendEntries) -> Transition | None:
        """§5.3, figure 2. Raises `LogLost` where the leader proves that our disk forgot what it acknowledged."""
        if request.purpose is HEARTBEAT:
            self._on_heartbeat(request)
            return None
        if not self._hear(request.sender):
            return None
        server, log = self.server, self.server.log
        entries, prev = request.entries, request.prev_index
        verified = Index(prev + len(entries))
        if prev != log.last_index or request.prev_term != log.last_term:
            if prev < server.commit:
                self._overlap_commit(request, verified)
                return None
            if log.term_at(prev) != request.prev_term:
                self._reject(request)  # an announcement too: what went before it is lost, and a heartbeat is saved
                return None
        if entries and not self._store(request):
            return None
        self._accept(request, verified)
        return None

    def _store(self, request: AppendEntries) -> bool:
        """Figure 2, steps 3 and 4: a conflict removes it and all that follow; what is held already stays."""
        server, log, entries = self.server, self.server.log, request.entries
        held = 0 if request.prev_index == log.last_index else log.first_conflict(entries)
        if held == len(entries):
            return True
        entries = entries[held:]
        first = entries[0].index
        if first <= log.last_index:
            if first <= server.commit:
                self._conflict(request)
                return False
            self._truncate(first, request.commit)
        taken = self._room(entries, request.commit)
        if taken:
            server.append(entries[:taken])
        if taken < len(entries):
            place = Index(first + taken - 1)
            if held + taken or place > self.verified:
                self._accept(request, place)  # what is verified may be committed, and then makes room
            return False  # otherwise silence: an answer would only bring the same entries again at once
        return True

    def _room(self, entries: tuple[Entry, ...], committed: Index) -> int:
        """How many of `entries` fit below `log_max_bytes`; the rest comes again when there is room.

        Only commands need room that this term's leader took, or that are committed. What makes room, applying and
        snapshots, waits for a commit; after a change of leader that waits for the leader's no-op, and this for all
        that the leader held before (§5.4.2). A no-op or a configuration is never kept out."""
        server = self.server
        free = server.settings.log_max_bytes - server.log.size
        if free >= server.settings.max_message_bytes + server.settings.max_entry_bytes:
            return len(entries)
        for count, entry in enumerate(entries):
            free -= len(entry.data) + ENTRY_OVERHEAD
            if free < 0 and entry.kind is COMMAND and (entry.term == server.term or entry.index <= committed):
                server.make_room()
                server.alarm(AlarmKind.LOG_FULL, NO_NODE, "the log in memory is full; entries wait at the leader")
                return count
        return len(entries)

    def _truncate(self, first: Index, committed: Index) -> None:
        server = self.server
        server.truncate_from(first)
        self.verified = min(self.verified, Index(first - 1))
        server.requests.truncated_from(first, committed, server.respond)

    def _accept(self, request: AppendEntries, verified: Index) -> None:
        """The log equals the leader's up to `verified`, and no further is claimed (rules 3.4, 3.5)."""
        server = self.server
        if verified > self.verified:
            self.verified = verified
        server.commit_to(request.commit if request.commit < verified else verified)
        if server.commit >= request.commit:
            self.fresh_at = server.now
        if request.purpose is not COMMIT_UPDATE:
            reply = AppendReply(
                server.term,
                server.me,
                server.identity.incarnation,
                request.id,
                request.purpose,
                request.read,
                verified,
            )
            server.outbox.promise_entries(request.sender, reply, verified)

    def _overlap_commit(self, request: AppendEntries, verified: Index) -> None:
        """The append begins below our commit index, where the logs are equal (§5.4): only what lies behind is new."""
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
        if self._store(rest):
            self._accept(rest, verified)

    def _accept_known(self, request: AppendEntries, verified: Index, commit: Index) -> None:
        """Rule 4.1: everything in the append is committed here; the answer tells up to where. Its last place tells
        whether the leader's log is another one: logs that agree there agree before it (§5.3)."""
        server = self.server
        held = server.log.term_at(verified)
        if held is not None and held != (request.entries[-1].term if request.entries else request.prev_term):
            self._conflict(request)
            return
        if request.purpose is COMMIT_UPDATE:
            return
        reply = AppendReply(
            server.term, server.me, server.identity.incarnation, request.id, request.purpose, request.read, commit
        )
        server.outbox.promise_entries(request.sender, reply, commit)

    def _conflict(self, request: AppendEntries) -> None:
        self.server.alarm(
            AlarmKind.COMMITTED_CONFLICT, request.sender, "an append contradicts what is committed here; it is ignored"
        )

    def _reject(self, request: AppendEntries) -> None:
        """§5.3, last paragraph: the answer names the last place where the logs can still be equal."""
        server = self.server
        hint = server.log.last_at_most(request.prev_index, request.prev_term)
        reply = AppendReply(
            server.term,
            server.me,
            server.identity.incarnation,
            request.id,
            request.purpose,
            request.read,
            NO_INDEX,
            request.prev_index,
            hint.index,
            hint.term,
            ok=False,
        )
        server.outbox.promise_term(request.sender, reply)

    def _on_heartbeat(self, request: AppendEntries) -> None:
        """A heartbeat names a place that this node has acknowledged, so that it may overtake appends."""
        server, log = self.server, self.server.log
        prev, term = request.prev_index, log.term_at(request.prev_index)
        lost = prev > log.last_index or (term is not None and request.prev_term not in (0, term))
        lost = lost or request.commit > log.last_index
        if lost and not server.knows(request.sender):
            text = "a stranger says that this node has lost entries; it is not believed"
            server.alarm(AlarmKind.MALFORMED, request.sender, text)
            return
        if not self._hear(request.sender):
            return
        if lost:
            raise LogLost(LOST_TEXT)
        if prev > self.verified:
            self.verified = prev
        if self.verified < server.commit:
            self.verified = server.commit
        server.commit_to(min(request.commit, self.verified))
        if server.commit >= request.tip:
            self.fresh_at = server.now
        durable = server.outbox.durable_index
        reply = AppendReply(
            server.term,
            server.me,
            server.identity.incarnation,
            request.id,
            HEARTBEAT,
            request.read,
            self.verified if self.verified < durable else durable,
            # What a restart keeps it knows from its disk: nothing is promised before that tells of leases.
            lease=server.settings.lease_promise if server.members.leases and durable else 0,
        )
        server.outbox.promise_term(request.sender, reply)

    # Snapshots.

    def on_install_snapshot(self, request: InstallSnapshot) -> Transition | None:
        """§7: not needed where it is committed or held already; otherwise its bytes are fetched, once."""
        if not self._hear(request.sender):
            return None
        server, meta = self.server, request.meta
        if meta.index > server.commit and server.log.matches(meta.index, meta.term):
            server.commit_to(meta.index)  # figure 13 rule 6: what follows in the log stays
            self.verified = max(self.verified, meta.index)
        if meta.index <= server.commit:
            self._answer_snapshot(request.sender, request.id, meta.index, server.commit)
            return None
        if snapshot_too_far(server.log.last_index, meta.index):
            server.alarm(AlarmKind.MALFORMED, request.sender, "a snapshot that leaves the log no room to grow")
            return None
        if server.restoring:
            return None  # one at a time: the file that the machine is being set to must stay; it is offered again
        wanted = ReceiveSnapshot(request.sender, meta)
        if server.receiving != wanted:
            server.receiving = wanted
            server.outbox.effects.append(wanted)
        return None

    def on_snapshot_received(self, meta: SnapshotMeta) -> None:
        """The bytes are here: switch to them, unless the log has caught up meanwhile (rule 6.3). Those of another
        snapshot than the one being received, perhaps of the same index, are nothing to switch to."""
        server = self.server
        if server.receiving is None or server.receiving.meta != meta:
            return
        sender = server.receiving.sender
        server.receiving = None
        if meta.index > server.commit:
            if server.log.matches(meta.index, meta.term):
                server.commit_to(meta.index)
            else:
                server.install(meta)
            self.verified = max(self.verified, meta.index)
        if sender != NO_NODE and sender == self.leader:
            self._answer_snapshot(sender, server.next_message(), meta.index, server.commit)

    def on_snapshot_rejected(self, index: Index) -> None:
        """The bytes will not come: the leader is told, and tries anew."""
        server = self.server
        receiving, server.receiving = server.receiving, None
        if receiving is not None and receiving.sender == self.leader:
            reply = SnapshotReply(
                server.term, server.me, server.identity.incarnation, server.next_message(), index, NO_INDEX, ok=False
            )
            server.outbox.promise_term(self.leader, reply)

    def _answer_snapshot(self, to: NodeId, message: MessageId, index: Index, match: Index) -> None:
        server = self.server
        reply = SnapshotReply(server.term, server.me, server.identity.incarnation, message, index, match, ok=True)
        server.outbox.promise_entries(to, reply, match)

    # Leadership transfer.

    def on_timeout_now(self, request: TimeoutNow) -> Transition | None:
        """The leader hands over: stand at once, without a pre-vote (rule 2.10); or say no (rule 11.3)."""
        if self.leader not in (NO_NODE, request.sender):
            return None  # not from our leader
        if self.leader == NO_NODE and not self.server.knows(request.sender):
            return None  # a stranger leads nobody
        if self.server.may_campaign:
            return BecomeCandidate(transfer=True)
        self.server.outbox.send(request.sender, TransferRefused(self.server.term, self.server.me, request.id))
        return None

    # Reads.

    def on_read(self, event: ReadRequested) -> None:
        """The leader is asked from which index on the read is linearizable; it is done here (thesis 6.4)."""
        server = self.server
        if self.leader == NO_NODE:
            server.refuse(event.request, RefusalReason.NO_LEADER)
            return
        if len(self.reads) + len(server.ready_reads) >= server.settings.max_waiting_reads:
            server.refuse(event.request, RefusalReason.READS_FULL, leader=self.leader)
            return
        message = server.next_message()
        self.reads.append((message, event.request))
        server.outbox.send(self.leader, ReadIndex(server.term, server.me, message))

    def _ask_again(self) -> None:
        """The question or its answer may be lost; an answer to the newest question serves all."""
        self.asked_ticks += 1
        if self.asked_ticks >= self.server.settings.heartbeat_ticks:
            self.asked_ticks = 0
            self.server.outbox.send(self.leader, ReadIndex(self.server.term, self.server.me, self.reads[-1][0]))

    def on_read_index_reply(self, reply: ReadIndexReply) -> None:
        """Do all reads asked before or with this one at its index, or refuse them. An answer to anything else, such as
        a question of an earlier life, concerns none of them."""
        asked = [message for message, _ in self.reads]
        if reply.id not in asked:
            return
        answered = asked.index(reply.id) + 1
        done, self.reads = self.reads[:answered], self.reads[answered:]
        for _, request in done:
            if reply.ok:
                self.server.read_when_applied(reply.index, request)
            else:
                self.server.refuse(request, RefusalReason.LEADERSHIP_LOST, leader=self.leader)

    def refuse_reads(self) -> None:
        """Reads asked of a leader that is gone are refused, those that need entries of it too: asking again is
        harmless, and a node that no leader comes back to would never answer (rule 7.5)."""
        waiting, self.reads = self.reads, []
        for request in [*(request for _, request in waiting), *self.server.reads_beyond_commit()]:
            self.server.refuse(request, RefusalReason.LEADERSHIP_LOST)
