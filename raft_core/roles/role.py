"""`Role`, the defaults of all roles: ignore what another role waits for, refuse what another role carries out.

`Raft` calls these methods without asking which role it has. A role overrides what it handles, and returns the arrow to
follow, or None.
"""

from __future__ import annotations

from raft_core.compiled import mypyc_attr
from raft_core.effects import RefusalReason
from raft_core.entries import SnapshotMeta
from raft_core.events import Proposed, SnapshotProgress
from raft_core.ids import NO_INDEX, Index, NodeId, RequestId
from raft_core.messages import (
    AppendReply,
    ReadIndex,
    ReadIndexReply,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteReply,
)
from raft_core.requests import ChangeMembership, LeaveJoint, Read, TransferLeadership
from raft_core.roles.transitions import Transition
from raft_core.server import Server

__all__ = ["Role"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Role:
    """What a role does unless it says otherwise."""

    __slots__ = ()
    server: Server
    leader: NodeId
    """The leader of our term as far as known, or `NO_NODE`."""

    @property
    def log_hold(self) -> Index:
        """The oldest snapshot in transfer: the log after it is kept. 0: none."""
        return NO_INDEX

    def begin(self) -> Transition | None:
        """Begin the role."""
        return None

    def resign(self) -> None:
        """End the role: answer the requests that only it can answer."""

    # Messages.

    def on_append_reply(self, reply: AppendReply) -> Transition | None:
        """Ignore a reply to a leadership that is over."""
        return None

    def on_snapshot_reply(self, reply: SnapshotReply) -> Transition | None:
        """Ignore a reply to a leadership that is over."""
        return None

    def on_transfer_refused(self, reply: TransferRefused) -> Transition | None:
        """Ignore a reply to a leadership that is over."""
        return None

    def on_vote_reply(self, reply: VoteReply) -> Transition | None:
        """Ignore a reply to a campaign that is over."""
        return None

    def on_timeout_now(self, request: TimeoutNow) -> Transition | None:
        """Ignore an order to campaign: this node leads, or campaigns already."""
        return None

    def on_read_index(self, message: ReadIndex) -> None:
        """Refuse a read of another node: only a leader can confirm it."""
        self.server.refuse_read_index(message)

    def on_read_index_reply(self, reply: ReadIndexReply) -> None:
        """Ignore a reply that no read waits for any more."""

    # Reports.

    def on_persisted(self) -> Transition | None:
        """Do nothing: only leaders and candidates count their own copies."""
        return None

    def on_snapshot_received(self, meta: SnapshotMeta) -> None:
        """Drop it: only a follower installs a snapshot; our log suffices (§7)."""
        self.server.snapshots.receiving = None

    def on_snapshot_rejected(self, index: Index) -> None:
        """Note that the transfer is over."""
        self.server.snapshots.receiving = None

    def on_snapshot_progress(self, event: SnapshotProgress) -> None:
        """Do nothing: no transfer of ours."""

    def on_connected(self, peer: NodeId) -> None:
        """Do nothing: only a leader has something to send again."""

    def on_unreachable(self, peer: NodeId) -> Transition | None:
        """Do nothing: a campaign repeats its requests anyway."""
        return None

    # Requests.

    def on_proposed(self, event: Proposed) -> None:
        """Refuse the commands: only a leader appends."""
        self._refuse_as_no_leader(RequestId(event.request), len(event.commands))

    def on_requested(
        self, number: RequestId, request: ChangeMembership | LeaveJoint | TransferLeadership
    ) -> Transition | None:
        """Refuse the request: only a leader carries it out."""
        self._refuse_as_no_leader(number, 1)
        return None

    def _refuse_as_no_leader(self, request: RequestId, count: int) -> None:
        reason = RefusalReason.STOPPING if self.server.stopping else RefusalReason.NOT_LEADER
        self.server.refuse(request, reason, leader=self.leader, count=count)

    def on_read(self, number: RequestId, read: Read) -> None:
        """Refuse the read: no leader is known."""
        self.server.refuse(number, RefusalReason.NO_LEADER)

    def on_campaign(self) -> Transition | None:
        """Do nothing: a leader needs no election."""
        return None

    def on_forget_leader(self) -> None:
        """Do nothing: no leader is followed."""

    def on_stop(self) -> Transition | None:
        """Do nothing: a follower may stop at any time."""
        return None
