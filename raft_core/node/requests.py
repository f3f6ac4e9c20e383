"""`RequestBook`: all requests that wait for an answer, from local callers and from peers that forwarded them.

It batches requests for the core, forwards those that the leader must handle, and answers each exactly once, with one of
three outcomes: done, refused, indeterminate.

A request is *held* while neither the core nor a peer has it; refusing it then is safe. It is forwarded one hop: a node
that received it from a peer and does not lead answers `NOT_LEADER` and does not forward again. `NOT_LEADER` is a
definite refusal, and so is the refusal of a leader that is transferring leadership, stopping or failing: the request is
held again for the next leader. `forwards` decides the fate of sent requests when their leader is lost. Reads have no
effect, so they are repeated until their caller's deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from raft_core.effects import Indeterminate, ReadReady, Refusal, RefusalReason, Respond, Success, UnknownReason
from raft_core.errors import CallerError
from raft_core.events import Proposed, Requested
from raft_core.features import missing_features, named
from raft_core.ids import MAX_INT63, NO_INDEX, NO_NODE, Index, NodeId, RequestId
from raft_core.membership import Members
from raft_core.node.backups import Backups
from raft_core.node.events import Answer, Answered, Call, ConnectionId, QueryAnswered, QueryFailed
from raft_core.node.features import lacking_member
from raft_core.node.forwards import Forwards
from raft_core.node.jobs import Lane, Query, Ticket
from raft_core.node.limits import SECOND, NodeLimits
from raft_core.node.meter import Meter
from raft_core.node.outcomes import deadline_text
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.pending_request import Batch, Deadlines, PendingRequest, Place, impossible
from raft_core.node.raising import described
from raft_core.node.replies import outcome_of, reply_of
from raft_core.node.retries import leader_goes, may_ask_again, read_refusal
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, LeaveJoint, OpenBackup, Propose, Read, ReadBackup, ReadConsistency
from raft_core.settings import Settings
from raft_core.wire.handshake import Limits
from raft_core.wire.payloads import Forward, ForwardReply

__all__ = ["RequestBook"]

_GREETING_WAIT: Final = 3 * SECOND
_REPLY_ROOM: Final = 4096
"""Bytes in an answer's frame besides the machine's result."""


@final
class RequestBook:
    """All waiting requests of one node, bounded in number and bytes. The node sets `now` first in each call."""

    def __init__(
        self,
        config: NodeLimits,
        settings: Settings,
        orders: Outputs,
        peers: Peers,
        prepare: Callable[[bytes, int, int], bytes],
        meter: Meter,
    ) -> None:
        self._config = config
        self._settings = settings
        self._orders = orders
        self._peers = peers
        self._prepare = prepare
        self._meter = meter
        self.backups: Final = Backups(orders)
        self._largest_result = Limits.of(settings).max_frame - _REPLY_ROOM
        self._tickets: dict[Ticket, PendingRequest] = {}
        self.new: list[PendingRequest] = []  # to be moved by `flush`
        self._held: list[PendingRequest] = []  # could not be moved at the last attempt
        self._batches: dict[RequestId, Batch] = {}
        self.reads = 0  # of the batches
        self._forwards = Forwards(config, peers)
        self._deadlines = Deadlines()
        self._last_request = 0
        self._leader = NO_NODE  # the newest known leader
        self.full = False  # a request is held because the leader has `max_forwarded` already
        self._closed: RefusalReason | None = None
        self.count = 0
        self.bytes = 0
        self.now = 0
        self._members = Members()  # the configuration in force; fills in missing incarnations
        self._me = NO_NODE
        self._removed = ""  # why callers are no longer served
        self._outside: RefusalReason | None = None  # why a request cannot wait for a leader here

    @property
    def forwarded(self) -> int:
        """The number of requests that wait for a reply of the leader."""
        return len(self._forwards)

    @property
    def tickets(self) -> list[Ticket]:
        """Return the tickets of all waiting callers."""
        return list(self._tickets)

    @property
    def busy(self) -> bool:
        """True while a request or a backup waits for something: deadlines and retries are looked at in every tick."""
        return self.count > 0 or self._outside is not None or self.backups.open_or_waiting

    @property
    def batches(self) -> int:
        """Return the number of requests with the core."""
        return len(self._batches)

    def on_members(self, members: Members, node: NodeId) -> None:
        """Adopt the new configuration in force.

        A node outside it does not wait for a leader: it refuses requests that it cannot forward.
        """
        self._members, self._me = members, node
        self._outside, self._removed = None, ""
        if not members.is_member(node):
            new = members.empty or node > members.highest_id
            self._outside = RefusalReason.NOT_A_MEMBER if new else RefusalReason.REMOVED

    def on_removed(self, text: str) -> None:
        """Refuse all callers from now on, with `text`: this node was removed from the cluster for good."""
        if text == self._removed:
            return
        self._removed = text
        for item in [item for item in self._held if item.ticket is not None and item.place is Place.HELD]:
            self._refuse(item, RefusalReason.REMOVED, text=text)

    # Requests come in.

    def on_call(self, call: Call) -> None:
        """Admit the caller's request, or refuse it at once."""
        if call.ticket in self._tickets:
            raise CallerError(f"ticket {call.ticket} is already waiting; give every caller its own")
        request = call.request
        if type(request) is OpenBackup or type(request) is ReadBackup:
            waiting = PendingRequest(_READY, deadline=call.deadline, held_since=self.now, ticket=call.ticket)
            waiting.backup = request
        else:
            waiting = PendingRequest(request, deadline=call.deadline, held_since=self.now, ticket=call.ticket)
        self._tickets[call.ticket] = waiting
        self._admit(waiting)

    def on_forward(self, connection: ConnectionId, forward: Forward, *, member: bool = True) -> None:
        """Admit a peer's request until its budget is spent, or refuse it at once.

        Refuse it from a node that is no `member`: we cannot be its leader, and the room is for clients.
        """
        if not member:
            self._reply(connection, forward.id, Refusal(RefusalReason.NOT_LEADER))
            return
        deadline = self.now + forward.budget if forward.budget else 0
        waiting = PendingRequest(forward.request, deadline=deadline, held_since=self.now)
        waiting.connection, waiting.forward = connection, forward.id
        self._admit(waiting)

    def _admit(self, waiting: PendingRequest) -> None:
        full = self.count >= self._config.max_clients or self.bytes + waiting.size > self._config.max_client_bytes
        self.count += 1
        self.bytes += waiting.size
        if self._closed is not None:
            self._refuse(waiting, self._closed)
        elif self._removed and waiting.ticket is not None:
            self._refuse(waiting, RefusalReason.REMOVED, text=self._removed)
        elif waiting.size > self._settings.max_entry_bytes and not waiting.is_read:
            self._refuse(waiting, RefusalReason.TOO_LARGE)  # first: one that never fits is not to be tried again
        elif full:
            self._refuse(waiting, RefusalReason.CLIENTS_FULL)
        elif wrong := impossible(waiting.request):
            self._refuse(waiting, RefusalReason.BAD_ID, text=wrong)
        elif waiting.deadline and waiting.deadline <= self.now:
            self._refuse(waiting, RefusalReason.DEADLINE)
        else:
            self._deadlines.add(waiting)
            if type(waiting.backup) is ReadBackup:
                self._back_up(waiting)
            else:
                self.new.append(waiting)

    def cancel(self, ticket: Ticket) -> None:
        """Drop the caller. A proposal already made is not taken back."""
        waiting = self._tickets.get(ticket)
        if waiting is not None:
            self._finish(waiting)

    # Requests move on.

    def flush(self, time: int, wall: int, leader: NodeId, *, leads: bool, retry: bool, forming: bool) -> None:
        """Move everything new (with `retry`, also everything held) to the core or to the leader, or hold it.

        `forming`: no core exists yet, and reads need one even if another node leads. `time`: cluster time, 0 while a
        new leader does not know it; commands wait here until then.
        """
        if leader not in (NO_NODE, self._leader):
            self._leader = leader
            self._on_leader(leader)
        if self._held and (retry or (self.full and 2 * len(self._forwards) <= self._config.max_forwarded)):
            self.full = False
            waiting, self._held = self._held + self.new, []
        elif self.new:
            waiting = self.new
        else:
            return
        self.new = []
        waiting = [item for item in waiting if item.place is Place.HELD]
        reads = [item for item in waiting if item.is_read]
        writes = [item for item in waiting if not item.is_read]
        if forming:
            for item in reads:
                self._hold(item, leader)
        else:
            self._ask_core_to_read(reads)
        if leads and not time:
            self.new = [item for item in writes if type(item.request) is Propose]
            writes = [item for item in writes if type(item.request) is not Propose]
        if leads:
            self._give_to_core(writes, time, wall)
            return
        for item in writes:
            self._forward(item, leader)

    def _give_to_core(self, waiting: list[PendingRequest], time: int, wall: int) -> None:
        commands: list[bytes] = []
        items: list[PendingRequest] = []
        for item in waiting:
            request = item.request
            if type(request) is not Propose:
                self._give_rare(item)
                continue
            try:
                command = self._prepare(request.command, time, wall)
                if not isinstance(command, bytes):
                    raise TypeError(f"prepare gives bytes, not {type(command).__name__}")
            except Exception as failure:  # user code: a bad command must not end the node
                text = f"the state machine's prepare raised {described(failure)}"
                self._refuse(item, RefusalReason.PREPARE_FAILED, text=text)
                continue
            commands.append(command)
            items.append(item)
        if items:
            self._orders.events.append(Proposed(self._batch(items), tuple(commands)))
            self._meter.has_proposed = True

    def _give_rare(self, item: PendingRequest) -> None:
        request = item.request
        assert not isinstance(request, Propose)
        if isinstance(request, ChangeMembership):
            changes = self._peers.addresses.with_disks(request.changes, self._members)
            if isinstance(changes, str):
                self._await_greeting(item, changes)
                return
            request = ChangeMembership(changes, request.mode, request.expected, request.features)
            lacking = lacking_member(request, self._members, self._me, self._peers.table)
            if lacking is not None and lacking.heard:
                self._refuse(item, RefusalReason.FEATURE_MISSING, text=lacking.text)
                return
            if lacking is not None:
                self._await_greeting(item, lacking.text)
                return
        self._orders.events.append(Requested(self._batch([item]), request))

    def number_anew(self) -> RequestId:
        """Return a request number that is not in use."""
        self._last_request += 1
        return RequestId(self._last_request)

    def _await_greeting(self, item: PendingRequest, text: str) -> None:
        """Hold a change that needs the greeting of a node: one just started may greet within a moment."""
        if self.now - item.held_since >= _GREETING_WAIT:
            self._refuse(item, RefusalReason.NOT_HEARD_FROM, text=text)
            return
        item.held_for = RefusalReason.NOT_HEARD_FROM
        item.place = Place.HELD
        self._held.append(item)

    def _batch(self, items: list[PendingRequest]) -> RequestId:
        number = self.number_anew()
        self._batches[number] = Batch(items)
        for item in items:
            item.place = Place.CORE
        return number

    def _ask_core_to_read(self, waiting: list[PendingRequest]) -> None:
        """Ask the core for one read per kind, on behalf of all requests of that kind."""
        groups: dict[tuple[ReadConsistency, int], list[PendingRequest]] = {}
        for item in waiting:
            request = item.request
            assert type(request) is Read
            limit = min(max(request.limit, 0), MAX_INT63)  # larger values mean the same, and could not be recorded
            groups.setdefault((request.consistency, limit), []).append(item)
        for (consistency, limit), items in groups.items():
            self._orders.events.append(Requested(self._batch(items), Read(consistency, limit)))
            self.reads += 1

    def _forward(self, item: PendingRequest, leader: NodeId) -> None:
        if item.ticket is None:  # a peer's request: forwarded one hop only
            self._refuse(item, RefusalReason.NOT_LEADER, leader)
            return
        if isinstance(item.request, ChangeMembership) and item.request.features:
            theirs = self._peers.table.features_of(leader)
            if theirs is not None and (lacking := missing_features(item.request.features, theirs)):
                text = f"node {leader}, which leads, does not have {named(lacking)}; start it with a newer release"
                self._refuse(item, RefusalReason.FEATURE_MISSING, leader, text)
                return
        if leader != NO_NODE and self._forwards.send(item, leader, self.now):
            return
        self.full = leader != NO_NODE and len(self._forwards) >= self._config.max_forwarded
        self._hold(item, leader)

    def _hold(self, item: PendingRequest, leader: NodeId) -> None:
        """Hold the request for a leader until its deadline; on a node outside the configuration, refuse it."""
        item.held_for = RefusalReason.NO_LEADER if leader == NO_NODE else RefusalReason.NOT_LEADER
        if self._outside is not None and not item.is_barrier:
            self._refuse(item, self._outside, leader, self._removed)
        elif self._has_waited(item):
            self._refuse(item, item.refused or item.held_for, leader)
        else:
            item.place = Place.HELD
            self._held.append(item)

    def _has_waited(self, item: PendingRequest) -> bool:
        """Return whether `leader_wait` has passed. It never shortens a read's own deadline."""
        limit = self._config.leader_wait
        return (
            bool(limit)
            and not (item.is_read and (item.deadline or item.is_barrier))
            and self.now - item.held_since >= limit
        )

    # Answers come back.

    def on_respond(self, effect: Respond) -> None:
        """Answer these requests of a batch, or hold them again if repeating is safe."""
        batch = self._batches.get(effect.request)
        if batch is None:
            return
        batch.unanswered -= effect.count
        if batch.unanswered <= 0:
            del self._batches[effect.request]
            self.reads -= batch.items[0].is_read
        outcome = effect.outcome
        items = batch.items
        if type(outcome) is ReadReady:
            for item in items:
                self._query(item)
            return
        selected = items[effect.offset : effect.offset + effect.count]
        if type(outcome) is Success:
            results = outcome.results
            for at, item in enumerate(selected):
                self._answer(item, Success(Index(outcome.first + at), results[at : at + 1]))
            return
        for item in items if items[0].is_read else selected:
            self._fail(item, outcome)

    def _fail(self, item: PendingRequest, outcome: Refusal | Indeterminate) -> None:
        """Answer a request that the core did not carry out, or hold it again for the next leader."""
        if item.is_read and type(outcome) is Indeterminate:
            outcome = read_refusal(outcome)
        if item.ticket is None or type(outcome) is not Refusal or not may_ask_again(item.request, outcome.reason):
            self._answer(item, outcome)
        elif item.place is not Place.DONE:
            if leader_goes(outcome.reason) and not item.is_read:
                item.held_since, item.refused = self.now, outcome.reason
            self._hold(item, outcome.leader)

    def look_at_disk(self, raft: Raft | None) -> None:
        """Refuse reads of a core whose disk hangs: they could only wait for their deadlines."""
        if raft is None or not raft.reads_wait_for_disk:
            return
        reads = [number for number, batch in self._batches.items() if batch.items[0].is_read]
        for number in reads:
            self.reads -= 1
            for item in self._batches.pop(number).items:
                self._refuse(item, RefusalReason.DISK_STALLED)

    def _query(self, item: PendingRequest) -> None:
        request = item.request
        if item.backup is not None:
            self._back_up(item)
        elif item.is_barrier:
            self._answer(item, Success(NO_INDEX))
        elif (
            item.place is Place.CORE and item.ticket is not None and type(request) is Read and request.query is not None
        ):
            item.place = Place.MACHINE
            self._orders.run(Lane.APPLY, Query(item, request.query))

    def _back_up(self, item: PendingRequest) -> None:
        """Pass on a request about a backup; it is answered like a query."""
        if item.place is Place.DONE or item.ticket is None:
            return
        item.place, backup = Place.MACHINE, item.backup
        if type(backup) is ReadBackup:
            self.backups.read(item, backup)
        elif type(backup) is OpenBackup:
            self.backups.open(item, backup)

    def look_at_backups(self, raft: Raft | None) -> None:
        """Begin the backups that waited for a snapshot, or have one taken."""
        if raft is not None and self.backups.waiting:
            self.backups.look(raft)

    def on_query_done(self, event: QueryAnswered | QueryFailed) -> None:
        """Give the machine's answer, or its exception, to the caller.

        A query's ticket is its request: a caller that was answered at its deadline may have a further one here by now.
        """
        waiting = event.ticket
        if type(waiting) is PendingRequest and waiting.place is Place.MACHINE:
            if type(event) is QueryAnswered:
                self._answer(waiting, Success(NO_INDEX, (event.data,)))
            elif type(event) is QueryFailed:
                self._refuse(waiting, RefusalReason.QUERY_FAILED, text=event.text)

    def on_forward_reply(self, connection: ConnectionId, reply: ForwardReply) -> None:
        """Give the leader's answer to the caller. If another leader may answer differently, hold the request again."""
        item = self._forwards.answered(connection, reply.id)
        if item is None or item.place is Place.DONE:
            return  # its deadline answered it first, or the reply names no request of ours
        outcome = outcome_of(reply)
        if type(outcome) is Refusal and may_ask_again(item.request, outcome.reason):
            item.refused = outcome.reason if leader_goes(outcome.reason) else None
            self._hold_anew(item, outcome.leader)
        else:
            self._answer(item, outcome)

    def on_lost(self, connection: ConnectionId, left: int) -> None:
        """Handle a lost connection.

        Sent requests without an answer are indeterminate; those beyond the first `left` frames were never sent and are
        held again. A peer's own requests go on without a receiver for the answer.
        """
        unsent, unknown = self._forwards.lost(connection, left)
        for item in unsent:
            self._hold_anew(item)
        for item in unknown:
            self._answer(item, Indeterminate(UnknownReason.FORWARD_LOST))

    def _on_leader(self, leader: NodeId) -> None:
        """Redirect unsent forwards to the new leader; set a deadline for the sent ones."""
        for item in self._forwards.on_leader(leader, self.now):
            self._hold_anew(item, leader)

    def _hold_anew(self, item: PendingRequest, leader: NodeId = NO_NODE) -> None:
        if item.place is not Place.DONE:
            item.held_since = self.now
            self._hold(item, leader)

    # Time, and the end.

    def on_time(self) -> None:
        """Answer every request whose deadline has passed, with the outcome known at that moment."""
        now = self.now
        if 0 < self._forwards.overdue_at <= now:
            for item in self._forwards.overdue(now):
                self._answer(item, Indeterminate(UnknownReason.LEADERSHIP_LOST))
        for item in self._deadlines.passed(now) if 0 < self._deadlines.next_at <= now else ():
            if item.place in _UNCERTAIN and not item.is_read:
                self._answer(item, Indeterminate(UnknownReason.DEADLINE))
            else:
                held_for = (item.refused or item.held_for) if item.place is Place.HELD else None
                self._refuse(item, RefusalReason.DEADLINE, text=deadline_text(held_for))

    def sweep(self) -> None:
        """Release the room of answered requests."""
        self._deadlines.sweep(self.count)
        if self._held:
            self._held = [item for item in self._held if item.place is Place.HELD]
        self._forwards.sweep()

    def close(self, refused: RefusalReason) -> None:
        """Refuse new requests from now on; waiting ones go on waiting."""
        self._closed = refused

    def answer_all(self, refused: RefusalReason, unknown: UnknownReason, text: str = "") -> None:
        """Answer everyone: requests in flight become indeterminate. `text`: more detail than the reasons give."""
        self.close(refused)
        batches = [item for batch in self._batches.values() for item in batch.items]
        for item in [*self._tickets.values(), *self.new, *self._held, *batches]:
            if item.place in _UNCERTAIN and not item.is_read:
                self._answer(item, Indeterminate(unknown, text))
            else:
                self._refuse(item, refused, text=text)
        self._batches.clear()
        self.reads = 0
        self._forwards.clear()
        self._held.clear()
        self.new.clear()
        self.sweep()

    # One answer each.

    def _finish(self, item: PendingRequest) -> bool:
        """Release the request's room. Return False if it was answered already."""
        if item.place is Place.DONE:
            return False
        item.place = Place.DONE
        item.request = _NOTHING  # drop the bytes, even if the core still knows the request
        self.count -= 1
        self.bytes -= item.size
        if item.ticket is not None:
            self._tickets.pop(item.ticket, None)
        return True

    def _refuse(self, item: PendingRequest, reason: RefusalReason, leader: NodeId = NO_NODE, text: str = "") -> None:
        self._answer(item, Refusal(reason, leader, text))

    def _answer(self, item: PendingRequest, outcome: Answered) -> None:
        request = item.request
        if not self._finish(item):
            return
        if item.ticket is None:
            self._reply(item.connection, item.forward, outcome)
        else:
            self._meter.answered(request, outcome, self.now - item.since)
            self._orders.effects.append(Answer(item.ticket, outcome))

    def _reply(self, connection: ConnectionId, number: int, outcome: Answered) -> None:
        self._peers.answer(connection, reply_of(number, outcome, self._largest_result))


_UNCERTAIN: Final = frozenset({Place.CORE, Place.LEADER})
_READY: Final = Read()
_NOTHING: Final = LeaveJoint()
