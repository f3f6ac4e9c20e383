"""Leadership transfer (thesis 3.10): on an operator's request, before stopping, after removal, or for a stalled disk.

Only the leader keeps its state, so a transfer ends with the leadership (rule 11.4).
"""

from __future__ import annotations

from typing import final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Indeterminate, RefusalReason, Respond, Success, UnknownReason
from raft_core.ids import NO_NODE, MessageId, NodeId, RequestId
from raft_core.messages import TimeoutNow, TransferRefused
from raft_core.roles.replication import Replication
from raft_core.roles.transitions import StepDown
from raft_core.server import Server

__all__ = ["LeadershipTransfer", "TransferAttempt"]


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class TransferAttempt:
    """One transfer to `target`: first it catches up, then it gets TimeoutNow. `age` in ticks."""

    __slots__ = ("age", "order_sent", "orders", "requests", "target")

    def __init__(self, target: NodeId, requests: list[RequestId]) -> None:
        self.target = target
        self.requests = requests  # requests waiting for it; none if we began it ourselves
        self.age = 0
        self.order_sent = False  # TimeoutNow was sent: no more leases in this leadership
        self.orders: list[MessageId] = []  # ids of the TimeoutNow messages, oldest first


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class LeadershipTransfer:
    """At most one transfer is under way. `leaving`: this leader must go, so a failed transfer means stepping down."""

    __slots__ = ("handover", "leaving", "replication", "server", "term")

    def __init__(self, server: Server, replication: Replication) -> None:
        self.server = server
        self.replication = replication
        self.term = server.term  # the leadership's
        self.handover: TransferAttempt | None = None
        self.leaving = False

    @property
    def target(self) -> NodeId:
        """The transfer's target; 0 if no transfer is under way."""
        return self.handover.target if self.handover is not None else NO_NODE

    def request(self, request: RequestId, to: NodeId) -> None:
        """Begin a transfer (thesis 3.10), or join the one under way to the same target."""
        server, target = self.server, to or self.best_voter()
        if server.stopping:
            server.refuse(request, RefusalReason.STOPPING)
        elif to == server.me:
            server.respond(Respond(request, Success(server.commit)))  # already the leader
        elif target == NO_NODE:
            server.refuse(request, RefusalReason.TARGET_UNREACHABLE, text="no other voter has been heard lately")
        elif target not in server.members.voters:
            server.refuse(request, RefusalReason.NOT_A_VOTER, text=f"node {target} is no voter")
        elif self.handover is not None and self.handover.target == target:
            self.handover.requests.append(request)
        else:
            self._end(RefusalReason.TRANSFER_FAILED)
            self._begin(target, [request])

    def leave(self) -> StepDown | None:
        """End the leadership, after a transfer if a voter is available (rule 11.5, thesis 4.2.2)."""
        if self.leaving:
            return None
        self.leaving = True
        if self.handover is not None:
            return None
        target = self.best_voter()
        if target == NO_NODE:
            return StepDown()
        self._begin(target, [])
        return None

    def flee_stall(self, since: int) -> None:
        """Transfer to a voter whose disk answered after `since`, when ours stalled; else stay."""
        target = self.best_voter(answered_since=since + 1)
        if target != NO_NODE:
            self._begin(target, [])

    def best_voter(self, answered_since: int = 0) -> NodeId:
        """Return the voter with the highest match, among those heard lately; 0 if none."""
        best, match = NO_NODE, -1
        for node in self.server.members.voters:
            peer = self.replication.progress.get(node)
            if peer is None or not peer.heard_within(self.server.settings.election_ticks, self.server.now):
                continue
            answered = peer.acked_at >= answered_since or peer.match >= self.server.outbox.stalled_end
            if peer.match > match and (not answered_since or answered):
                best, match = node, peer.match
        return best

    def _begin(self, target: NodeId, requests: list[RequestId]) -> None:
        self.handover = TransferAttempt(target, requests)
        self.order_if_ready()
        if not self.handover.order_sent:
            self.replication.fill(self.replication.progress[target])

    def order_if_ready(self) -> None:
        """Send TimeoutNow if the target holds our whole log (rule 11.2)."""
        server, handover = self.server, self.handover
        assert handover is not None
        if self.replication.progress[handover.target].match < server.log.last_index:
            return
        handover.order_sent = True
        order = server.next_message()
        handover.orders.append(order)
        server.outbox.send(handover.target, TimeoutNow(server.term, server.me, order))

    def on_tick(self, elapsed: int) -> StepDown | None:
        """Repeat TimeoutNow in case it was lost; give up after the transfer timeout."""
        handover, settings = self.handover, self.server.settings
        if handover is None:
            return None
        before, handover.age = handover.age, handover.age + elapsed
        late = handover.age >= (settings.transfer_ticks or settings.election_ticks)
        if late or handover.target not in self.replication.progress:
            return self.failed()
        if handover.age // settings.heartbeat_ticks != before // settings.heartbeat_ticks:
            self.order_if_ready()
        return None

    def refused(self, reply: TransferRefused) -> StepDown | None:
        """Fail the transfer if the target refuses one of its orders; ignore a refusal to an earlier transfer.

        If several orders were sent, the target may still obey another.
        """
        handover = self.handover
        if handover is None or handover.target != reply.sender or reply.id not in handover.orders:
            return None
        return self.failed(answered=len(handover.orders) == 1)

    def failed(self, *, answered: bool = False) -> StepDown | None:
        """End the transfer: resume work, or step down if leaving. `answered`: the target itself refused."""
        self._end(RefusalReason.TRANSFER_FAILED, answered=answered)
        return StepDown() if self.leaving else None

    def _end(self, reason: RefusalReason, *, answered: bool = False) -> None:
        server, handover, self.handover = self.server, self.handover, None
        if handover is None:
            return
        for request in handover.requests:
            if handover.order_sent and not answered:  # the order may still arrive
                server.respond(Respond(request, Indeterminate(UnknownReason.TRANSFER_UNANSWERED)))
            else:
                server.refuse(request, reason, text=f"node {handover.target} did not take over")

    def resign(self) -> None:
        """Answer the requests at the end of the leadership: success if it followed our order, else unknown."""
        server, handover, self.handover = self.server, self.handover, None
        if handover is not None:
            followed = handover.order_sent and server.term > self.term
            outcome = Success(server.commit) if followed else Indeterminate(UnknownReason.LEADERSHIP_LOST)
            for request in handover.requests:
                server.respond(Respond(request, outcome))
