"""The leader: append proposals, replicate, commit, confirm reads, transfer the leadership (§5.3, §5.4, §8).

All its state ends with the leadership, including a transfer. Sending is in `replication`, membership changes in
`membership_change`.
"""

from __future__ import annotations

from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import AlarmKind, RefusalReason, RoleName
from raft_core.entries import Entry
from raft_core.events import Proposed, SnapshotProgress
from raft_core.ids import NO_NODE, Index, NodeId, RequestId
from raft_core.messages import (
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    AppendReplyFields,
    InstallSnapshot,
    ReadIndex,
    RequestVote,
    SnapshotReply,
    TransferRefused,
    VoteKind,
)
from raft_core.progress import PROBE, REPLICATE, SNAPSHOT, UNMARKED, Progress
from raft_core.quorum import NO_LIMIT, committed_index, quorum_reached
from raft_core.requests import ChangeMembership, LeaveJoint, Read, TransferLeadership
from raft_core.roles.leadership_transfer import LeadershipTransfer
from raft_core.roles.membership_change import MembershipChange
from raft_core.roles.proposals import append_commands, uncommitted_bytes
from raft_core.roles.read_index import Reading
from raft_core.roles.replication import Replication
from raft_core.roles.role import Role
from raft_core.roles.transitions import StepDown, Transition
from raft_core.server import Server
from raft_core.structs import fields_of

__all__ = ["Leader"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_HEARTBEAT: Final = HEARTBEAT
_NO_LIMIT: Final = NO_LIMIT
_fields_of: Final = fields_of


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Leader(Role):
    """The leader of one term. Invariant: it only appends, and in its own term (fig. 3, Leader Append-Only)."""

    name: Final = RoleName.LEADER
    __slots__ = (
        "beat_ticks",
        "change",
        "leader",
        "quorum_ticks",
        "reading",
        "replication",
        "server",
        "stall_told",
        "succession",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.leader: NodeId = server.me
        self.replication = Replication(server)
        self.reading = Reading(server, self.replication)
        self.change = MembershipChange(server, self.replication)
        self.succession = LeadershipTransfer(server, self.replication)
        self.beat_ticks = 0
        self.quorum_ticks = 0
        self.stall_told = False

    @property
    def log_hold(self) -> Index:
        """The oldest snapshot in transfer: the log after it is kept. 0: none."""
        return self.replication.log_hold

    @property
    def uncommitted(self) -> int:
        """Bytes of uncommitted entries; derived from the log, so correct from the start of a leadership (rule 14.1)."""
        return uncommitted_bytes(self.server)

    @property
    def settled(self) -> bool:
        """True once an entry of this term is committed; before, the true commit index is unknown (§8)."""
        return self.reading.settled

    def begin(self) -> Transition | None:
        """Append a no-op: its commit also commits all entries before it (§8, §5.4.2)."""
        server = self.server
        server.hurry_priority = 0
        server.give_up_at = -1
        server.append((Entry.make(server.log.last_index + 1, server.term, algorithm=server.settings.checksum),))
        self.replication.fill_all()
        return None

    # Proposals.

    def on_proposed(self, event: Proposed) -> None:
        """Append the commands for which there is room, send them at once, refuse the rest (§5.3, thesis 10.2.1)."""
        request, commands = RequestId(event.request), event.commands
        server = self.server
        if server.stopping or self.succession.handover is not None or not self.replication.leader_votes:
            reason = self._closed()
            assert reason is not None
            server.refuse(request, reason, leader=self.succession.target, count=len(commands))
            return
        append_commands(server, request, commands)
        self.replication.fill_all()

    def _closed(self) -> RefusalReason | None:
        """Return the reason to reject new proposals, or None."""
        if self.server.stopping:
            return RefusalReason.STOPPING
        if self.succession.handover is not None:
            return RefusalReason.TRANSFERRING
        if not self.replication.leader_votes:
            return RefusalReason.REMOVED  # thesis 4.2.2: it commits its own removal and takes no proposals
        return None

    # Replies.

    def _not_counted(self, peer: Progress | None, sender: NodeId) -> None:
        """Ignore a reply of a non-member; raise an alarm at one from another disk under a member's id."""
        if peer is not None:
            self.server.alarm(AlarmKind.WRONG_INCARNATION, sender, "an answer from another disk than the member's")

    def on_append_reply(self, reply: AppendReply) -> Transition | None:
        """Advance match and next on success, move next back by whole terms on rejection (§5.3)."""
        server = self.server
        fields: AppendReplyFields = _fields_of(reply)
        _, sender, incarnation, _, purpose, read, match, _, _, _, ok, _ = fields
        peer = self.replication.progress.get(sender)
        if peer is None or peer.incarnation != incarnation:
            self._not_counted(peer, sender)
            return None
        peer.active = True
        peer.heard_at = server.now
        if match > server.log.last_index or read > self.reading.queue.last_round:
            server.alarm(AlarmKind.MALFORMED, sender, "an acknowledgement of what we have not sent")
            return None
        if not ok:
            self._rejected(peer, reply)
            return None
        news = peer.acknowledged(match)
        if purpose is _HEARTBEAT:
            self._heartbeat_answered(peer, reply, news=news)
        else:
            peer.acked_at = server.now
            if peer.state is PROBE:
                peer.become_replicate()
        return self._advanced(peer, news=news)

    def _advanced(self, peer: Progress, *, news: bool) -> Transition | None:
        """Act on a follower's progress: end its snapshot state, commit, send more, continue a transfer."""
        if news:
            if peer.state is SNAPSHOT:
                self._maybe_arrived(peer)
            if peer.match > self.server.commit:
                arrow = self._commit()
                if arrow is not None:
                    return arrow
        self.replication.follow_up(peer)
        if news and self.succession.handover is not None and self.succession.target == peer.node:
            self.succession.order_if_ready()
            self._spend_lease()
        return None

    def _maybe_arrived(self, peer: Progress) -> None:
        """Leave the snapshot state once the follower reaches our log, or has the offered snapshot (rule 6.2)."""
        if peer.match >= self.server.log.base_index:
            peer.become_replicate()
        elif peer.match >= peer.pending:
            peer.become_probe()

    def _rejected(self, peer: Progress, reply: AppendReply) -> None:
        log = self.server.log
        retry = log.last_at_most(reply.hint_index, reply.hint_term).index
        if reply.hint_index < log.base_index:
            retry = reply.hint_index  # its log ends before our base: only a snapshot helps
        if peer.rejected(reply.rejected, Index(retry + 1)):
            self.replication.fill(peer)

    def _heartbeat_answered(self, peer: Progress, reply: AppendReply, *, news: bool) -> None:
        if peer.state is PROBE:
            peer.probe_sent = False  # rules 5.1, 5.3: one more probe, empty if there is nothing new
        elif peer.state is REPLICATE and peer.match_at_beat != UNMARKED:
            match_then, peer.match_at_beat = peer.match_at_beat, UNMARKED
            if peer.inflight and peer.match == match_then:
                self.replication.empty_append(peer)  # rule 5.2: the whole window may be lost
            elif news and match_then < peer.commit_sent:
                peer.commit_sent = match_then  # rule 5.6: acknowledgements were lost, perhaps commit updates too
        self.reading.answered(peer, reply)

    def on_snapshot_reply(self, reply: SnapshotReply) -> Transition | None:
        """Continue with appends after an installed or unneeded snapshot; offer a failed one again later (§7)."""
        peer = self.replication.progress.get(reply.sender)
        if peer is None or peer.incarnation != reply.incarnation:
            self._not_counted(peer, reply.sender)
            return None
        peer.active = True
        peer.heard_at = self.server.now
        if reply.match > self.server.log.last_index:
            self.server.alarm(AlarmKind.MALFORMED, reply.sender, "an acknowledgement of what we have not sent")
            return None
        if not reply.ok:
            if peer.state is SNAPSHOT and peer.pending == reply.index:
                peer.snapshot_failed()
            return None
        news = peer.acknowledged(reply.match)
        peer.acked_at = self.server.now
        if peer.state is SNAPSHOT and peer.match >= self.server.log.base_index:
            peer.become_replicate()  # its log end is known: no probe needed
        return self._advanced(peer, news=news)

    def on_snapshot_progress(self, event: SnapshotProgress) -> None:
        """Note that the peer's transfer advances (rule 6.2)."""
        peer = self.replication.progress.get(NodeId(event.peer))
        if peer is not None:
            peer.idle_ticks = 0

    def on_unreachable(self, peer: NodeId) -> Transition | None:
        """Probe again, since messages in flight may be lost (rule 5.1), and offer a snapshot again.

        A restarted receiver has forgotten the offer, a running one continues. End a leadership transfer to the peer.
        """
        progress = self.replication.progress.get(peer)
        if progress is not None and progress.state is REPLICATE:
            progress.become_probe()
        elif progress is not None and progress.state is SNAPSHOT:
            progress.snapshot_failed()
        if self.succession.target == peer:
            return self.succession.failed()  # rule 11.3: at once, not after a timeout
        return None

    def on_connected(self, peer: NodeId) -> None:
        """Send again the message lost with the broken connection."""
        progress = self.replication.progress.get(peer)
        if progress is None:
            return
        if progress.state is SNAPSHOT:
            self.replication.repeat_offer(progress)
        elif progress.state is PROBE:
            progress.probe_sent = False
            self.replication.fill(progress)

    def on_persisted(self) -> Transition | None:
        """Count our own entries as acknowledged, now durable (rule 3.2)."""
        if self.replication.offers_wait:
            self.replication.offer_when_durable()
        if self.server.outbox.durable_index > self.server.commit:
            return self._commit()
        return None

    # Commit.

    def acked(self, node: NodeId) -> Index:
        """Return the index up to which `node` durably holds our log."""
        if node == self.server.me:
            return self.server.outbox.durable_index
        peer = self.replication.progress.get(node)
        return peer.match if peer is not None else Index(0)

    def quorum_index(self) -> Index:
        """Return the highest index that a quorum durably holds; `NO_LIMIT` without voters."""
        server, replication = self.server, self.replication
        if replication.joint:
            return committed_index(server.members, self.acked)
        acked = [server.outbox.durable_index] if replication.leader_votes else []  # without a call per voter
        for peer in replication.voting:
            acked.append(peer.match)
        if not acked:
            return _NO_LIMIT
        acked.sort()
        return acked[(len(acked) - 1) // 2]  # as `majority_index`

    def _commit(self) -> Transition | None:
        """Commit entries of our own term by counting, and older ones with them (§5.4.2, figure 8)."""
        server, index = self.server, self.quorum_index()
        if index <= server.commit or index == _NO_LIMIT or server.log.term_at(index) != server.term:
            return None
        return self._commit_to(index)

    def _commit_to(self, index: Index) -> Transition | None:
        server = self.server
        server.commit_to(index)
        self.reading.settled = True
        arrow: Transition | None = None
        if self.replication.joint:
            may_leave = self.succession.handover is None  # else the successor leaves it, or we do after a failure
            arrow = self._members_moved() if may_leave and self.change.leave_if_committed() else None
        self.replication.announce_all()
        if self.reading.queue.waiting:
            self.reading.begin_if_wanted()
        if arrow is None and not self.replication.leader_votes and not self.change.pending:
            return self._leave()  # thesis 4.2.2: our removal is committed
        return arrow

    def _leave(self) -> Transition | None:
        arrow = self.succession.leave()
        self.quorum_ticks = 0
        self._spend_lease()
        return arrow

    def _members_moved(self) -> Transition | None:
        """Adopt the configuration now in force (rule 3.3).

        Probe all members, confirm reads with its quorum, and commit the entries this quorum already holds.
        """
        self.replication.heartbeat_all(self.reading.queue.last_round)
        self.reading.confirm()  # the remaining voters may already be a quorum
        self.replication.fill_all()
        target = self.succession.target
        if target != NO_NODE and not self.server.members.is_voter(target):
            arrow = self.succession.failed()  # rule 9.12
            if arrow is not None:
                return arrow
        return self._commit()

    # Time.

    def on_tick(self, elapsed: int) -> Transition | None:
        """Send heartbeats, check the quorum, and end transfers that take too long.

        An idle leader passes a hundred ticks a second: nothing is called that would find nothing to do.
        """
        server, succession = self.server, self.succession
        settings = server.settings
        self.beat_ticks += elapsed  # all of it: a slow loop must still send heartbeats in time
        if self.beat_ticks >= settings.heartbeat_ticks:
            self.beat_ticks = 0
            self.reading.beat()
        self.quorum_ticks += 1
        if self.quorum_ticks >= settings.election_ticks:
            self.quorum_ticks = 0
            if settings.check_quorum and not self._quorum_active():
                return StepDown()
            for peer in self.replication.progress.values():
                peer.active = False
        for peer in self.replication.progress.values():
            if peer.state is SNAPSHOT:
                self.replication.tick_snapshots(elapsed)
                break
        if self.replication.departing:
            self.replication.drop_departed()
        arrow: Transition | None = None
        members = server.members
        changes = bool(members.outgoing or members.promotable)
        if changes and self.change.on_tick(may_change=self.settled and succession.handover is None):
            arrow = self._members_moved()
            if arrow is not None:
                return arrow
        if server.outbox.issued_at:
            self._watch_disk()
        else:
            self.stall_told = False
        if succession.handover is not None:
            self._spend_lease()  # at once: the transfer may end in this very tick, its order is obeyed all the same
            arrow = succession.on_tick(elapsed)
            self._spend_lease()
        return arrow

    def _spend_lease(self) -> None:
        """Void the lease for this leadership from the moment a successor may campaign (thesis 6.4.1)."""
        handover = self.succession.handover
        if handover is not None and handover.order_sent:
            self.reading.lease_spent = True

    def _quorum_active(self) -> bool:
        """Return whether a majority of each half was heard since the last check (rule 2.8)."""
        progress, me = self.replication.progress, self.server.me
        return quorum_reached(self.server.members, lambda n: n == me or (n in progress and progress[n].active))

    def _watch_disk(self) -> None:
        """If our disk stalls, transfer the leadership to a voter whose disk still answers; without one, stay."""
        server, limit = self.server, self.server.settings.stall_ticks
        if not limit or server.outbox.oldest_age(server.now) < limit:
            self.stall_told = False
            return
        if not self.stall_told:
            self.stall_told = True
            server.alarm(AlarmKind.DISK_STALL, NO_NODE, "a write has been under way for too long")
        if self.succession.handover is None:
            self.succession.flee_stall(server.outbox.oldest_since(server.now))

    # The end of a leadership.

    def on_stop(self) -> Transition | None:
        """Transfer the leadership before the node stops, if another voter is available (rule 11.5)."""
        return self._leave()

    def resign(self) -> None:
        """End the leadership: answer the requests only a leader can answer."""
        server = self.server
        self.succession.resign()
        self.reading.refuse_all()
        self.change.resign()
        server.give_up_at = server.now + (server.settings.answer_ticks or server.settings.election_ticks)

    def on_transfer(self, request: RequestId, to: NodeId) -> None:
        """Transfer the leadership on an operator's request (thesis 3.10)."""
        before = self.succession.handover
        self.succession.request(request, to)
        if self.succession.handover is not before:
            self.quorum_ticks = 0  # the transfer has its own timeout
        self._spend_lease()

    def on_transfer_refused(self, reply: TransferRefused) -> Transition | None:
        """End the transfer if its target refused (rule 11.3)."""
        return self.succession.refused(reply)

    # Reads.

    def on_read(self, number: RequestId, read: Read) -> None:
        """Take a read of this node's clients; refuse it while leaving."""
        self.reading.on_read(number, leaving=self.succession.handover is not None)

    def on_read_index(self, message: ReadIndex) -> None:
        """Take a read of a follower or learner; refuse it while leaving."""
        self.reading.on_read_index(message, leaving=self.succession.handover is not None)

    # Members.

    def on_requested(
        self, number: RequestId, request: ChangeMembership | LeaveJoint | TransferLeadership
    ) -> Transition | None:
        """Carry out an operator's request, or refuse it with a type."""
        if type(request) is ChangeMembership:
            return self.on_change(number, request)
        if type(request) is LeaveJoint:
            return self.on_leave_joint(number)
        if type(request) is TransferLeadership:
            self.on_transfer(number, NodeId(request.to))
        return None

    def on_change(self, request: RequestId, change: ChangeMembership) -> Transition | None:
        """Append a membership change, or refuse it with a type (rule 9.1)."""
        reason = self._closed()
        if reason is not None:
            self.server.refuse(request, reason, leader=self.succession.target)
        elif self.change.request(request, change, settled=self.settled):
            return self._members_moved()
        return None

    def on_leave_joint(self, request: RequestId) -> Transition | None:
        """Leave the joint configuration, or refuse with a type."""
        reason = self._closed()
        if reason is not None:
            self.server.refuse(request, reason, leader=self.succession.target)
        elif self.change.leave(request, settled=self.settled):
            return self._members_moved()
        return None

    # Messages for followers and candidates.

    def ignores_vote(self, request: RequestVote) -> bool:
        """Ignore candidates if CheckQuorum is on, which ends a lost leadership, except in a transfer (rule 2.4)."""
        return self.server.settings.check_quorum and request.kind is not VoteKind.TRANSFER

    def on_request_vote(self, request: RequestVote) -> Transition | None:
        """Answer the request; our vote of this term is our own."""
        self.server.answer_vote(request, self.server.me)
        return None

    def on_append_entries(self, request: AppendEntries) -> Transition | None:
        """Raise an alarm: another node claims to lead this term."""
        self._other_leader(request.sender)
        return None

    def on_install_snapshot(self, request: InstallSnapshot) -> Transition | None:
        """Raise an alarm: another node claims to lead this term."""
        self._other_leader(request.sender)
        return None

    def _other_leader(self, sender: NodeId) -> None:
        """Raise an alarm: two leaders in one term if `sender` is a member, else a malformed message."""
        kind = AlarmKind.TWO_LEADERS if self.server.knows(sender) else AlarmKind.MALFORMED
        self.server.alarm(kind, sender, "another node claims to lead our term; it is ignored")
