"""Membership changes on the leader (§6, thesis ch. 4): one change at a time, in force once appended.

It holds the rules which need the log and the term; those of a configuration alone are in `membership`. A change is
refused before any entry is appended.
"""

from __future__ import annotations

from typing import final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Indeterminate, Refusal, RefusalReason, Respond, UnknownReason
from raft_core.entries import MEMBERS, Entry
from raft_core.features import missing_features, named
from raft_core.ids import NO_INDEX, RequestId
from raft_core.membership import AddVoter, ChangeError, ChangeMode, Members
from raft_core.requests import ChangeMembership
from raft_core.roles.replication import Replication
from raft_core.server import Server
from raft_core.state_values import PendingProposal

__all__ = ["MembershipChange"]


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class MembershipChange:
    """`waiting` is the request for a joint change, answered when the joint configuration is left."""

    __slots__ = ("replication", "server", "waiting")

    def __init__(self, server: Server, replication: Replication) -> None:
        self.server = server
        self.replication = replication
        self.waiting: RequestId | None = None

    @property
    def pending(self) -> bool:
        """True while the configuration in force is not committed (thesis 4.1: one change at a time)."""
        return self.server.configurations.index > self.server.commit

    def request(self, request: RequestId, change: ChangeMembership, *, settled: bool) -> bool:
        """Append the changed configuration and return True, or refuse the request and return False."""
        server = self.server
        refusal = self._forbidden(settled=settled)
        if refusal is None and change.expected != NO_INDEX and change.expected != server.configurations.index:
            text = f"the configuration in force was appended at {server.configurations.index}, not {change.expected}"
            refusal = Refusal(RefusalReason.CONFIGURATION_DIFFERS, server.me, text)
        if refusal is None and server.members.joint:
            refusal = Refusal(RefusalReason.CHANGE_WHILE_JOINT, server.me, "leave the joint configuration first")
        if refusal is not None:
            server.respond(Respond(request, refusal))
            return False
        if change.features:
            return self._enable(request, change)
        target = server.members.changed(change.changes, change.mode)
        if isinstance(target, ChangeError):
            server.refuse(request, RefusalReason(target.kind.value), leader=server.me, text=target.text)
            return False
        if target == server.members:
            server.refuse(request, RefusalReason.NO_CHANGE, leader=server.me, text="this is already so")
            return False
        answer_now = not target.joint or not target.auto_leave
        self._append(target, request if answer_now else None)
        if not answer_now:
            self.waiting = request
        return True

    def _enable(self, request: RequestId, change: ChangeMembership) -> bool:
        """Append the configuration with these features enabled and return True, or refuse and return False.

        The node has checked that all members have them.
        """
        server = self.server
        if unknown := missing_features(change.features, server.settings.features):
            text = f"this node, {server.me}, does not have {named(unknown)}"
            server.refuse(request, RefusalReason.UNKNOWN_FEATURE, leader=server.me, text=text)
            return False
        if change.changes:
            text = "enable features in a change of its own, without a change of members"
            server.refuse(request, RefusalReason.CONTRADICTORY_CHANGE, leader=server.me, text=text)
            return False
        target = server.members.enabling(change.features)
        if isinstance(target, ChangeError):
            server.refuse(request, RefusalReason(target.kind.value), leader=server.me, text=target.text)
            return False
        self._append(target, request)
        return True

    def leave(self, request: RequestId, *, settled: bool) -> bool:
        """Leave the joint configuration on request and return True, or refuse and return False."""
        server = self.server
        refusal = self._forbidden(settled=settled)
        if refusal is not None:
            server.respond(Respond(request, refusal))
            return False
        target = server.members.left()
        if isinstance(target, ChangeError):
            server.refuse(request, RefusalReason.NOT_JOINT, leader=server.me, text=target.text)
            return False
        self._append(target, request)
        return True

    def _forbidden(self, *, settled: bool) -> Refusal | None:
        me = self.server.me
        if not settled:  # rule 9.2: Ongaro's amendment of 2015 to single-server changes
            text = "this leader has not committed an entry of its term yet; try again in a moment"
            return Refusal(RefusalReason.NO_COMMIT_IN_TERM, me, text)
        if self.pending:
            return Refusal(RefusalReason.CHANGE_PENDING, me, "a change is under way; wait until it is committed")
        return None

    def _append(self, members: Members, request: RequestId | None, *, half_done: bool = False) -> None:
        server = self.server
        index = server.log.last_index + 1
        entry = Entry.make(index, server.term, members.encode(), MEMBERS, server.settings.checksum)
        server.append((entry,))
        if request is not None:
            server.requests.wait(PendingProposal(request, 0, entry.index, entry.index, half_done))
        self.replication.follow_members()

    def leave_if_committed(self) -> bool:
        """Leave a joint configuration committed by both halves (rules 9.7, 3.3). Return whether it was left."""
        server = self.server
        members = server.members
        if self.pending or not members.joint or not members.auto_leave:
            return False
        target = members.left()
        assert isinstance(target, Members)
        request, self.waiting = self.waiting, None
        self._append(target, request, half_done=True)  # the joint configuration is committed and will be left
        return True

    def on_tick(self, *, may_change: bool) -> bool:
        """Leave a joint configuration delayed by a transfer, or promote a learner once caught up (rule 9.11)."""
        server = self.server
        members = server.members
        if not may_change or self.pending or server.stopping:
            return False
        if members.joint:
            return self.leave_if_committed()
        for node in members.promotable:
            peer = self.replication.progress.get(node)
            if peer is None or not peer.active:
                continue
            if server.log.last_index - peer.match <= server.settings.promote_lag and peer.match > NO_INDEX:
                target = members.changed((AddVoter(node),), ChangeMode.AUTO)
                if isinstance(target, Members):
                    self._append(target, None)
                    return True
        return False

    def resign(self) -> None:
        """Answer the waiting change as indeterminate: the next leader completes it or not."""
        request, self.waiting = self.waiting, None
        if request is not None:
            self.server.respond(Respond(request, Indeterminate(UnknownReason.LEADERSHIP_LOST)))
