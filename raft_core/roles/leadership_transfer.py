"""A leader on its way out: leadership transfer (thesis 3.10), at an operator's wish, before stopping, after its
removal, or because its disk has stalled.

What lives here: one transfer. It dies with the leadership, because only the leader holds it (rule 11.4).
"""

from __future__ import annotations

from typing import final

from raft_core.effects import Indeterminate, RefusalReason, Respond, Success, UnknownReason
from raft_core.events import TransferRequested
from raft_core.ids import NO_NODE, MessageId, NodeId, RequestId
from raft_core.messages import TimeoutNow, TransferRefused
from raft_core.roles.replication import Replication
from raft_core.roles.transitions import StepDown
from raft_core.server import Server

__all__ = ["LeadershipTransfer", "TransferAttempt"]


@final
class TransferAttempt:
    """A transfer to `target`: first it catches up, then it is told to stand at once. `age` in ticks."""

    __slots__ = ("age", "order_sent", "orders", "requests", "target")

    def __init__(self, target: NodeId, requests: list[RequestId]) -> None:
        self.target = target
        self.requests = requests  # who waits for it; usually one, none for causes of our own
        self.age = 0
        self.order_sent = False  # TimeoutNow went out: from then on no lease is valid in this leadership
        self.orders: list[MessageId] = []  # which of them, oldest first


@final
class LeadershipTransfer:
    """At most one handover is under way. `leaving`: it has to go, so that a failure ends in stepping down."""

    __slots__ = ("handover", "leaving", "replication", "server", "term")

    def __init__(self, server: Server, replication: Replication) -> None:
        self.server = server
        self.replication = replication
        self.term = server.term  # the leadership's
        self.handover: TransferAttempt | None = None
        self.leaving = False

    @property
    def target(self) -> NodeId:
        """Who is to take over; 0 where nobody is."""
        return self.handover.target if self.handover is not None else NO_NODE

    def request(self, event: TransferRequested) -> None:
        """Thesis 3.10: nothing new is taken, the target catches up, then it stands. Asked again, it is one transfer."""
        server, target = self.server, event.to or self.best_voter()
        if server.stopping:
            server.refuse(event.request, RefusalReason.STOPPING)
        elif event.to == server.me:
            server.respond(Respond(event.request, Success(server.commit)))  # it leads already
        elif target == NO_NODE:
            server.refuse(event.request, RefusalReason.TARGET_UNREACHABLE, text="no other voter has been heard lately")
        elif target not in server.members.voters:
            server.refuse(event.request, RefusalReason.NOT_A_VOTER, text=f"node {target} is no voter")
        elif self.handover is not None and self.handover.target == target:
            self.handover.requests.append(event.request)
        else:
            self._end(RefusalReason.TRANSFER_FAILED)
            self._begin(target, [event.request])

    def leave(self) -> StepDown | None:
        """The leadership has to end: handing over first, where there is anybody (rule 11.5, thesis 4.2.2)."""
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
        """Our disk has stalled since then: a voter whose disk has answered later takes over; without one, we stay."""
        target = self.best_voter(answered_since=since + 1)
        if target != NO_NODE:
            self._begin(target, [])

    def best_voter(self, answered_since: int = 0) -> NodeId:
        """The voter with the most of our log, among those heard lately; 0 where there is none."""
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
        """Rule 11.2: only one that holds our whole log is told to stand."""
        server, handover = self.server, self.handover
        assert handover is not None
        if self.replication.progress[handover.target].match < server.log.last_index:
            return
        handover.order_sent = True
        order = server.next_message()
        handover.orders.append(order)
        server.outbox.send(handover.target, TimeoutNow(server.term, server.me, order))

    def on_tick(self, elapsed: int) -> StepDown | None:
        """The order is repeated, for it may be lost; after an election timeout the transfer is given up."""
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
        """The target says no to one of our orders; to one of an earlier transfer it may have said so long ago. If it
        was ordered more than once, the other orders may still be obeyed."""
        handover = self.handover
        if handover is None or handover.target != reply.sender or reply.id not in handover.orders:
            return None
        return self.failed(answered=len(handover.orders) == 1)

    def failed(self, *, answered: bool = False) -> StepDown | None:
        """Work is taken up again, unless there is no choice but to go. `answered`: the target itself said no."""
        self._end(RefusalReason.TRANSFER_FAILED, answered=answered)
        return StepDown() if self.leaving else None

    def _end(self, reason: RefusalReason, *, answered: bool = False) -> None:
        server, handover, self.handover = self.server, self.handover, None
        if handover is None:
            return
        for request in handover.requests:
            if handover.order_sent and not answered:  # the order may still arrive, and would be obeyed
                server.respond(Respond(request, Indeterminate(UnknownReason.TRANSFER_UNANSWERED)))
            else:
                server.refuse(request, reason, text=f"node {handover.target} did not take over")

    def resign(self) -> None:
        """The leadership has ended: by the successor's election, as was wished, or by something else."""
        server, handover, self.handover = self.server, self.handover, None
        if handover is not None:
            followed = handover.order_sent and server.term > self.term
            outcome = Success(server.commit) if followed else Indeterminate(UnknownReason.LEADERSHIP_LOST)
            for request in handover.requests:
                server.respond(Respond(request, outcome))
