"""Every waiting caller gets exactly one answer, and the right one of three."""

from __future__ import annotations

import random

import msgspec
import pytest

from raft_core.effects import Indeterminate, ReadReady, Refusal, RefusalReason, Respond, Success, UnknownReason
from raft_core.errors import (
    CallerError,
    MembershipRefused,
    NotLeader,
    OutcomeUnknown,
    QueueFull,
    Refused,
    TransferInProgress,
)
from raft_core.events import Event, Proposed, Requested
from raft_core.ids import MAX_INT63, NO_NODE, ClusterId, Incarnation, Index, NodeId, RequestId
from raft_core.membership import AddLearner, AddVoter, Members, RemoveNode
from raft_core.node.events import (
    Answer,
    BytesReceived,
    Call,
    ConnectionId,
    ConnectionOpened,
    QueryAnswered,
    QueryFailed,
    Run,
    Transmit,
    Transmitted,
)
from raft_core.node.jobs import Lane, Query
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.node.meter import Meter
from raft_core.node.outcomes import error_of, result_of
from raft_core.node.outputs import Outputs
from raft_core.node.peers import Peers
from raft_core.node.requests import RequestBook
from raft_core.recovered import Identity
from raft_core.requests import ChangeMembership, LeaveJoint, Propose, Read, ReadConsistency, TransferLeadership
from raft_core.settings import Settings
from raft_core.wire import Link, PayloadReceived, encode_payload
from raft_core.wire.payloads import WIRE_VERSION, Forward, ForwardReply, Hello
from tests.node.cluster import greet

ME, LEADER = NodeId(1), NodeId(2)


class Desk:
    """`RequestBook` of node 1, with a peer 2 that can be connected. `now` starts at one second."""

    def __init__(self, **config: int) -> None:
        self.config = NodeLimits(address="n1", peers={LEADER: "n2"}, **config)  # type: ignore[arg-type]
        self.orders = Outputs()
        identity = Identity(ME, ClusterId("c"), Incarnation(11))
        self.peers = Peers(self.config, Settings(), identity, self.orders, random.Random(1))
        self.prepared: list[tuple[bytes, int]] = []
        self.time = 7
        settings = Settings(max_entry_bytes=1000)
        self.meter = Meter()
        self.clients = RequestBook(self.config, settings, self.orders, self.peers, self._prepare, self.meter)
        self.link: Link | None = None
        self.at(SECOND)

    def _prepare(self, command: bytes, now: int, wall: int) -> bytes:
        if command == b"bad":
            raise KeyError("bad")
        self.prepared.append((command, now))
        return b"<" + command + b">"

    def at(self, now: int) -> None:
        self.now = self.peers.now = self.clients.now = now

    def connect(self) -> ConnectionId:
        """Node 2 has greeted us on the connection that we dialled."""
        self.peers.dial_due()
        connection = ConnectionId(2)
        self.peers.on_opened(ConnectionOpened(connection, accepted=False))
        hello = Hello(WIRE_VERSION, ClusterId("c"), LEADER, Incarnation(22), to=ME, address="n2")
        greet(self.peers, connection, hello)
        self.link = Link(hello, dialer=False)
        self.sent()
        return connection

    def sent(self) -> list[object]:
        """What node 2 has been sent since the last call."""
        assert self.link is not None
        self.peers.flush()
        said: list[object] = []
        for effect in self.orders.taken():
            if isinstance(effect, Transmit):
                said.extend(e.payload for e in self.link.receive(effect.data) if isinstance(e, PayloadReceived))
                self.peers.on_transmitted(Transmitted(effect.connection))
        return said

    def flush(self, leader: NodeId = NO_NODE, *, leads: bool = False, retry: bool = True) -> list[Event | None]:
        self.orders.events.clear()
        self.clients.flush(self.time, 9, leader, leads=leads, retry=retry, forming=False)
        return list(self.orders.events)

    def client(self, *calls: Call) -> None:
        for call in calls:
            self.clients.on_call(call)

    def queries(self) -> list[Query]:
        runs = [effect for effect in self.orders.taken() if isinstance(effect, Run)]
        assert all(run.lane is Lane.APPLY for run in runs)
        return [run.job for run in runs if isinstance(run.job, Query)]

    def answers(self) -> list[Answer]:
        return [effect for effect in self.orders.taken() if isinstance(effect, Answer)]

    def error(self) -> Exception:
        (answer,) = self.answers()
        return self.error_in(answer)

    def error_in(self, answer: Answer) -> Exception:
        assert not isinstance(answer.outcome, Success)
        return error_of(answer.outcome, self.peers.addresses.of)

    def data(self) -> list[tuple[object, bytes]]:
        return [(a.ticket, result_of(a.outcome)) for a in self.answers() if isinstance(a.outcome, Success)]


def propose(ticket: int, command: bytes = b"x", deadline: int = 0) -> Call:
    return Call(ticket, Propose(command), deadline)


def ask(ticket: int, request: bytes = b"?", deadline: int = 0) -> Call:
    return Call(ticket, Read(query=request), deadline)


def test_a_leader_proposes_everything_that_waits_as_one_batch_prepared_once() -> None:
    desk = Desk()
    desk.client(propose(1, b"a"), propose(2, b"b"))

    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<a>", b"<b>"))]
    assert desk.prepared == [(b"a", 7), (b"b", 7)]
    assert desk.flush(ME, leads=True) == []


def test_answers_are_split_by_ranges() -> None:
    desk = Desk()
    desk.client(propose(1), propose(2), propose(3))
    desk.flush(ME, leads=True)

    desk.clients.on_respond(Respond(RequestId(1), Success(Index(5), (b"r2", b"r3")), 1, 2))
    assert desk.data() == [(2, b"r2"), (3, b"r3")]
    desk.clients.on_respond(Respond(RequestId(1), Indeterminate(UnknownReason.TRUNCATED), 0, 1))
    assert isinstance(desk.error(), OutcomeUnknown)
    assert (desk.clients.count, desk.clients.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (RefusalReason.UNCOMMITTED_FULL, QueueFull),
        (RefusalReason.LOG_FULL, QueueFull),
        (RefusalReason.CHANGE_PENDING, MembershipRefused),
        (RefusalReason.ID_REUSED, MembershipRefused),
        (RefusalReason.CLIENTS_FULL, QueueFull),
        (RefusalReason.TOO_LARGE, Refused),
    ],
)
def test_each_refusal_has_its_exception(reason: RefusalReason, expected: type[Refused]) -> None:
    desk = Desk()
    desk.client(propose(1))
    desk.flush(ME, leads=True)

    desk.clients.on_respond(Respond(RequestId(1), Refusal(reason, LEADER), 0, 1))

    error = desk.error()
    assert type(error) is expected
    assert error.reason == reason
    assert error.leader == LEADER
    assert len(str(error)) > 20, "the text says what to do"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (RefusalReason.TRANSFERRING, TransferInProgress),
        (RefusalReason.SUPERSEDED, Refused),
        (RefusalReason.STOPPING, Refused),
        (RefusalReason.STORAGE_FAILED, Refused),
        (RefusalReason.REMOVED, Refused),
    ],
)
def test_refusal_of_leaving_leader_is_told_when_nobody_follows(reason: RefusalReason, expected: type[Refused]) -> None:
    desk = Desk(leader_wait=SECOND)
    desk.client(propose(1))
    desk.flush(ME, leads=True)

    desk.clients.on_respond(Respond(RequestId(1), Refusal(reason, LEADER), 0, 1))
    assert desk.answers() == []
    desk.at(desk.now + desk.config.leader_wait)
    desk.flush(LEADER)

    error = desk.error()
    assert type(error) is expected
    assert error.reason == reason
    assert error.leader == LEADER
    assert len(str(error)) > 20, "the text says what to do"


def test_every_reason_of_the_core_has_a_text() -> None:
    for reason in RefusalReason:
        assert str(error_of(Refusal(reason))) != reason.value
    for unknown in UnknownReason:
        assert str(error_of(Indeterminate(unknown))) != unknown.value


def test_a_request_waits_for_a_leader_and_is_then_refused_with_where_to_go() -> None:
    desk = Desk(leader_wait=SECOND)
    desk.client(propose(1))

    assert desk.flush() == []
    desk.at(desk.now + desk.config.leader_wait - 1)
    desk.flush(LEADER)
    assert desk.answers() == []
    desk.at(desk.now + 1)
    desk.flush(LEADER)

    error = desk.error()
    assert isinstance(error, NotLeader)
    assert (error.leader, error.address) == (LEADER, "n2")
    assert "n2" in str(error)


def test_a_request_without_a_deadline_waits_for_a_leader_for_ever() -> None:
    desk = Desk()
    desk.client(propose(1), ask(2), Call(3, Read()))
    desk.clients.on_members(Members.initial([1, 2]), ME)
    desk.flush()

    desk.at(desk.now + 1000 * SECOND)
    desk.flush()
    assert desk.answers() == []
    assert desk.clients.count == 3


@pytest.mark.parametrize(
    ("members", "reason"),
    [(Members(), RefusalReason.NOT_A_MEMBER), (Members.initial([2, 3]), RefusalReason.REMOVED)],
)
def test_a_node_that_is_no_member_refuses_what_it_cannot_pass_on_and_may_become_ready(
    members: Members, reason: RefusalReason
) -> None:
    desk = Desk()
    desk.client(propose(1), Call(3, Read()))
    desk.clients.on_members(members, ME)
    desk.flush()

    assert desk.error().reason == reason  # type: ignore[attr-defined]
    assert desk.clients.count == 1


def test_a_held_request_is_proposed_when_this_node_becomes_leader() -> None:
    desk = Desk()
    desk.client(propose(1, b"a"))
    desk.flush()
    desk.client(propose(2, b"b"))

    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<a>", b"<b>"))]


def test_a_follower_passes_a_command_on_once_and_hands_the_answer_back() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1, b"a", deadline=desk.now + 5 * SECOND))

    assert desk.flush(LEADER) == []
    assert desk.sent() == [Forward(1, 5 * SECOND, Propose(b"a"))]
    assert desk.flush(LEADER) == []
    assert desk.sent() == []
    assert desk.prepared == [], "only the leader prepares"

    desk.clients.on_forward_reply(connection, ForwardReply(1, result=b"done"))
    assert desk.data() == [(1, b"done")]


def test_a_forward_that_was_sent_is_unknown_when_the_connection_breaks() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1))
    desk.flush(LEADER)
    desk.orders.taken()

    desk.clients.on_lost(connection, 1)

    error = desk.error()
    assert isinstance(error, OutcomeUnknown)
    assert error.reason == UnknownReason.FORWARD_LOST
    desk.clients.on_forward_reply(connection, ForwardReply(1, result=b"late"))
    assert desk.answers() == []


def test_a_forward_refused_as_not_leader_is_held_and_sent_to_the_next_leader() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1, b"a"))
    desk.flush(LEADER)
    desk.sent()

    desk.clients.on_forward_reply(connection, ForwardReply(1, refused=RefusalReason.NOT_LEADER, leader=NodeId(3)))

    assert desk.answers() == []
    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<a>",))]


def test_more_than_the_leader_shall_have_at_once_follow_when_half_are_answered() -> None:
    desk = Desk(max_forwarded=4)
    connection = desk.connect()
    desk.client(*(propose(n) for n in range(1, 8)))
    desk.flush(LEADER)
    assert len(desk.sent()) == 4
    desk.clients.on_forward_reply(connection, ForwardReply(1, result=b""))
    desk.flush(LEADER, retry=False)
    assert desk.sent() == []
    desk.clients.on_forward_reply(connection, ForwardReply(2, result=b""))
    desk.flush(LEADER, retry=False)

    assert len(desk.sent()) == 2
    assert desk.clients.forwarded == 4


def test_an_answer_on_another_connection_is_not_believed() -> None:
    desk = Desk()
    desk.connect()
    desk.client(propose(1))
    desk.flush(LEADER)
    desk.orders.taken()

    desk.clients.on_forward_reply(ConnectionId(77), ForwardReply(1, result=b"forged"))

    assert desk.answers() == []


def test_a_forwarded_request_is_not_passed_on_again() -> None:
    desk = Desk()
    desk.connect()
    asker = ConnectionId(9)
    desk.peers.on_opened(ConnectionOpened(asker, accepted=True))
    desk.clients.on_forward(asker, Forward(5, 0, Propose(b"a")))
    desk.orders.taken()

    desk.flush(LEADER)
    desk.peers.flush()

    sent = [effect for effect in desk.orders.taken() if isinstance(effect, Transmit)]
    reply = ForwardReply(5, refused=RefusalReason.NOT_LEADER, leader=LEADER)
    assert [(t.connection, t.data) for t in sent] == [(asker, encode_payload(reply))]


def test_a_deadline_before_anything_was_done_is_a_refusal() -> None:
    desk = Desk()
    desk.client(propose(1, deadline=desk.now + 10))
    desk.flush()
    desk.at(desk.now + 10)
    desk.clients.on_time()

    error = desk.error()
    assert type(error) is Refused
    assert error.reason == RefusalReason.DEADLINE
    assert desk.flush(ME, leads=True) == [], "it is never proposed"


def test_a_deadline_after_proposing_is_unknown_and_a_late_answer_is_dropped() -> None:
    desk = Desk()
    desk.client(propose(1, deadline=desk.now + 10))
    desk.flush(ME, leads=True)
    desk.at(desk.now + 10)
    desk.clients.on_time()

    error = desk.error()
    assert isinstance(error, OutcomeUnknown)
    assert error.reason == UnknownReason.DEADLINE
    desk.clients.on_respond(Respond(RequestId(1), Success(Index(4), (b"late",)), 0, 1))
    assert desk.answers() == []


def test_a_deadline_with_the_leader_is_unknown() -> None:
    desk = Desk()
    desk.connect()
    desk.client(propose(1, deadline=desk.now + 10))
    desk.flush(LEADER)
    desk.orders.taken()
    desk.at(desk.now + 10)
    desk.clients.on_time()

    assert isinstance(desk.error(), OutcomeUnknown)


def test_a_deadline_that_has_passed_on_arrival_is_a_refusal() -> None:
    desk = Desk()
    desk.client(propose(1, deadline=desk.now))

    assert type(desk.error()) is Refused


def test_one_read_of_the_core_serves_all_that_wait() -> None:
    desk = Desk()
    desk.client(ask(1, b"q1"), ask(2, b"q2"))

    assert desk.flush() == [Requested(RequestId(1), Read())]
    desk.clients.on_respond(Respond(RequestId(1), ReadReady(Index(3))))
    first, second = desk.queries()
    assert [first.request, second.request] == [b"q1", b"q2"]
    desk.clients.on_query_done(QueryAnswered(second.ticket, b"two"))
    desk.clients.on_query_done(QueryFailed(first.ticket, "the machine raised"))
    assert desk.clients._batches == {}
    answers = desk.answers()
    assert [answer.ticket for answer in answers] == [2, 1]
    assert result_of(answers[0].outcome) == b"two"
    assert "the machine raised" in str(desk.error_in(answers[1]))


@pytest.mark.parametrize("cancelled", [False, True])
def test_late_answer_of_the_machine_is_not_taken_for_that_to_the_next_read_of_the_same_caller(cancelled: bool) -> None:
    desk = Desk()
    late = desk.now + SECOND
    desk.client(ask(1, b"slow", deadline=late))
    desk.flush()
    desk.clients.on_respond(Respond(RequestId(1), ReadReady(Index(3))))
    (slow,) = desk.queries()
    if cancelled:
        desk.clients.cancel(1)
    else:
        desk.at(late)
        desk.clients.on_time()
        assert type(desk.error()) is Refused

    desk.client(ask(1, b"next"))
    desk.flush()
    desk.clients.on_respond(Respond(RequestId(2), ReadReady(Index(3))))
    (following,) = desk.queries()
    desk.clients.on_query_done(QueryAnswered(slow.ticket, b"of slow"))
    assert desk.answers() == []
    desk.clients.on_query_done(QueryAnswered(following.ticket, b"of next"))
    (answer,) = desk.answers()
    assert result_of(answer.outcome) == b"of next"


def test_a_read_refused_for_want_of_a_leader_is_asked_again_until_its_deadline() -> None:
    desk = Desk()
    desk.client(ask(1, deadline=desk.now + 30 * SECOND), ask(2, deadline=desk.now + 20 * SECOND))
    for attempt in range(1, 6):
        assert desk.flush() == [Requested(RequestId(attempt), Read())]
        desk.at(desk.now + 3 * SECOND)
        desk.clients.on_respond(Respond(RequestId(attempt), Refusal(RefusalReason.NO_LEADER)))
        assert desk.answers() == []
    desk.at(desk.now + 20 * SECOND)
    desk.clients.on_time()

    errors = [desk.error_in(answer) for answer in desk.answers()]
    assert [type(e) for e in errors] == [Refused, Refused]


def test_a_cancelled_first_read_does_not_lose_the_others_of_its_batch() -> None:
    desk = Desk()
    desk.client(ask(1), ask(2, deadline=desk.now + SECOND))
    desk.flush()
    desk.clients.cancel(1)

    desk.clients.on_respond(Respond(RequestId(1), Refusal(RefusalReason.LEADERSHIP_LOST)))
    assert desk.flush() == [Requested(RequestId(2), Read())]
    desk.clients.on_respond(Respond(RequestId(2), Refusal(RefusalReason.READS_FULL)))
    assert isinstance(desk.error(), QueueFull)


def test_too_many_clients_are_refused_and_those_that_wait_are_not_harmed() -> None:
    desk = Desk(max_clients=2)
    desk.client(propose(1), propose(2), propose(3))

    error = desk.error()
    assert isinstance(error, QueueFull)
    assert len(desk.flush(ME, leads=True)[0].commands) == 2  # type: ignore[union-attr]


def test_too_many_bytes_are_refused() -> None:
    desk = Desk(max_client_bytes=10)
    desk.client(propose(1, b"x" * 6), propose(2, b"x" * 6))

    assert isinstance(desk.error(), QueueFull)
    assert desk.clients.bytes == 6


def test_a_command_that_is_too_large_is_refused_before_it_is_passed_on() -> None:
    desk = Desk()
    desk.connect()
    desk.client(propose(1, b"x" * 1001))

    assert desk.error().reason == RefusalReason.TOO_LARGE  # type: ignore[attr-defined]


def test_a_command_that_the_machine_cannot_prepare_is_refused_alone() -> None:
    desk = Desk()
    desk.client(propose(1, b"bad"), propose(2, b"b"))

    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<b>",))]
    error = desk.error()
    assert error.reason == RefusalReason.PREPARE_FAILED  # type: ignore[attr-defined]
    assert "KeyError" in str(error)


def test_cancelled_tickets_leave_nothing_behind() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(*(propose(n, b"x" * 100, deadline=desk.now + SECOND) for n in range(1, 301)))
    desk.client(*(ask(n, deadline=desk.now + SECOND) for n in range(1001, 1301)))
    desk.flush(LEADER)
    for n in (*range(1, 301), *range(1001, 1301)):
        desk.clients.cancel(n)
    desk.clients.sweep()

    assert (desk.clients.count, desk.clients.bytes, desk.clients.forwarded) == (0, 0, 0)
    assert len(desk.clients._deadlines) <= 64
    assert desk.clients._tickets == {}
    desk.clients.on_lost(connection, 1)
    desk.at(desk.now + 2 * SECOND)
    desk.clients.on_time()
    assert desk.answers() == []


def test_a_ticket_is_not_used_twice_at_once() -> None:
    desk = Desk()
    desk.client(propose(1))

    with pytest.raises(CallerError, match="ticket 1"):
        desk.client(propose(1))


def test_changes_leave_and_transfer_reach_the_core() -> None:
    desk = Desk()
    ticket = iter(range(1, 9))
    desk.client(
        Call(next(ticket), ChangeMembership((RemoveNode(NodeId(3)),))),
        Call(next(ticket), LeaveJoint()),
        Call(next(ticket), TransferLeadership(LEADER)),
    )

    assert desk.flush(ME, leads=True) == [
        Requested(RequestId(1), ChangeMembership((RemoveNode(NodeId(3)),))),
        Requested(RequestId(2), LeaveJoint()),
        Requested(RequestId(3), TransferLeadership(LEADER)),
    ]
    desk.clients.on_respond(Respond(RequestId(1), Success(Index(9)), 0, 1))
    assert desk.data() == [(1, b"")]


def test_a_new_member_is_added_with_the_disk_that_it_greeted_with() -> None:
    desk = Desk()
    desk.connect()
    desk.clients.on_members(Members.initial([1, 3], incarnations={ME: Incarnation(11), NodeId(3): Incarnation(33)}), ME)
    desk.client(Call(1, ChangeMembership((AddVoter(LEADER),))))

    assert desk.flush(ME, leads=True) == [
        Requested(RequestId(1), ChangeMembership((AddVoter(LEADER, Incarnation(22)),)))
    ]


def test_a_member_stays_with_the_disk_that_it_was_declared_with() -> None:
    """One that was declared without could not be promoted beside others that were not: it was another disk."""
    desk = Desk()
    desk.connect()
    members = Members.initial([1], learners=[2], incarnations={ME: Incarnation(11)})
    desk.clients.on_members(members, ME)
    desk.client(Call(1, ChangeMembership((AddVoter(LEADER),))))

    (asked,) = desk.flush(ME, leads=True)
    change = ChangeMembership((AddVoter(LEADER),))
    assert asked == Requested(RequestId(1), change)
    assert isinstance(members.changed(change.changes), Members)


def test_a_new_member_whose_disk_nobody_knows_is_refused() -> None:
    desk = Desk()
    desk.clients.on_members(Members.initial([1], incarnations={ME: Incarnation(11)}), ME)
    desk.client(Call(1, ChangeMembership((AddLearner(NodeId(4)),))))

    assert desk.flush(ME, leads=True) == []
    desk.clients.now += 3 * SECOND
    assert desk.flush(ME, leads=True) == []
    error = desk.error()
    assert isinstance(error, MembershipRefused)
    assert error.reason is RefusalReason.NOT_HEARD_FROM
    assert "node 4 has not been heard from" in str(error)


def assert_impossible(desk: Desk, text: str) -> None:
    """The one answer is a refusal that says what is wrong with which number."""
    error = desk.error()
    assert isinstance(error, Refused)
    assert error.reason is RefusalReason.BAD_ID
    assert text in str(error)


@pytest.mark.parametrize("node", [0, -1, 1 << 63, 1 << 70])
def test_an_impossible_node_id_is_refused_and_breaks_no_link(node: int) -> None:
    """Wherever in a change it stands."""
    desk = Desk()
    for changes in ((RemoveNode(NodeId(node)),), (RemoveNode(NodeId(7)), RemoveNode(NodeId(node)))):
        desk.client(Call(1, ChangeMembership(changes)))

        assert_impossible(desk, f"a node id is a positive 63-bit number, not {node}")
    assert desk.flush(ME, leads=True) == []


@pytest.mark.parametrize("node", [-1, 1 << 63, 1 << 70])
def test_leadership_is_not_handed_to_an_impossible_node_id_and_no_link_breaks(node: int) -> None:
    """0 is the best one that there is."""
    desk = Desk()
    desk.client(Call(1, TransferLeadership(NodeId(node))))

    assert_impossible(desk, f"a node id is a positive 63-bit number, not {node}")
    assert desk.flush(ME, leads=True) == []


def test_the_lowest_and_the_highest_numbers_that_are_possible_are_left_to_the_core() -> None:
    desk = Desk()
    least = (AddLearner(NodeId(1), Incarnation(0)),)
    most = (AddLearner(NodeId(MAX_INT63), Incarnation(MAX_INT63)),)
    desk.client(Call(1, ChangeMembership(least, expected=Index(0))))
    desk.client(Call(2, ChangeMembership(most, expected=Index(MAX_INT63))))
    desk.client(Call(3, TransferLeadership(NodeId(0))))
    desk.client(Call(4, TransferLeadership(NodeId(MAX_INT63))))

    assert desk.answers() == []


@pytest.mark.parametrize("number", [-1, 1 << 63, 1 << 64])
def test_numbers_that_cannot_be_written_down_are_refused_before_anybody_is_told(number: int) -> None:
    desk = Desk()
    desk.client(Call(1, ChangeMembership((AddLearner(NodeId(7), Incarnation(number)),))))
    assert_impossible(desk, f"an incarnation is a 63-bit number, not {number}")
    desk.client(Call(2, ChangeMembership((RemoveNode(NodeId(7)),), expected=Index(number))))
    assert_impossible(desk, f"the index of a configuration is a 63-bit number, not {number}")

    desk.client(Call(3, Read(ReadConsistency.STALE_BOUNDED, number, b"")))
    (asked,) = desk.flush(ME, leads=False)
    assert asked == Requested(RequestId(1), Read(ReadConsistency.STALE_BOUNDED, 0 if number < 0 else MAX_INT63))


def test_at_the_end_everybody_is_answered_with_what_is_true() -> None:
    desk = Desk()
    desk.client(propose(1))
    desk.flush(ME, leads=True)
    desk.client(propose(2), ask(3))

    desk.clients.answer_all(RefusalReason.STOPPING, UnknownReason.STOPPING)

    errors = {answer.ticket: desk.error_in(answer) for answer in desk.answers()}
    assert isinstance(errors[1], OutcomeUnknown)
    assert type(errors[2]) is Refused
    assert type(errors[3]) is Refused
    assert desk.clients.count == 0
    desk.client(propose(4))
    assert desk.error().reason == RefusalReason.STOPPING  # type: ignore[attr-defined]


def test_a_result_too_large_for_a_frame_is_not_lost_silently() -> None:
    desk = Desk()
    asker = ConnectionId(9)
    desk.peers.on_opened(ConnectionOpened(asker, accepted=True))
    desk.clients.on_forward(asker, Forward(5, MILLISECOND, Propose(b"a")))
    desk.flush(ME, leads=True)
    desk.clients.on_respond(Respond(RequestId(1), Success(Index(2), (b"x" * (64 << 20),)), 0, 1))
    desk.peers.flush()

    (transmit,) = [effect for effect in desk.orders.taken() if isinstance(effect, Transmit)]
    reply = msgspec.msgpack.decode(transmit.data[20:])
    assert len(transmit.data) < 1000
    assert UnknownReason.FORWARD_LOST.value in reply


def test_bytes_from_nowhere_are_ignored() -> None:
    desk = Desk()
    event = BytesReceived(ConnectionId(99), b"x")

    assert desk.peers.on_bytes(event.connection, event.data) == []
