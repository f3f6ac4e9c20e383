"""What was passed on to a leader that dies, is deposed or leaves: soon answered, or sent anew where that is safe."""

from __future__ import annotations

import pytest

from raft_core.effects import Refusal, RefusalReason, Respond, UnknownReason
from raft_core.errors import OutcomeUnknown, RequestError
from raft_core.events import Proposed
from raft_core.ids import NodeId, RequestId
from raft_core.node import MILLISECOND, SECOND
from raft_core.node.events import Call
from raft_core.requests import Propose, TransferLeadership
from raft_core.wire.payloads import Forward, ForwardReply
from tests.node.cluster import Cluster, Node
from tests.node.test_requests import LEADER, ME, Desk, propose

LEAVING = (
    RefusalReason.TRANSFERRING,
    RefusalReason.STOPPING,
    RefusalReason.STORAGE_FAILED,
    RefusalReason.REMOVED,
    RefusalReason.SUPERSEDED,
)


def started() -> tuple[Cluster, Node, Node]:
    """A cluster of three, its leader, and a follower that hears it."""
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.run(SECOND)
    return cluster, leader, cluster.followers()[0]


def test_forward_to_vanished_leader_is_answered_once_another_leads() -> None:
    """Item 18. The machine says nothing of its end, so only the new leader tells that no answer will come."""
    cluster, leader, node = started()
    cluster.lose_power(leader.id)
    ticket = node.propose(b"lost", timeout=30 * SECOND)
    cluster.run_until(lambda: node.leader not in (leader.id, 0))
    settled = cluster.now
    (outcome,) = cluster.wait(node, ticket)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == UnknownReason.FORWARD_LOST
    assert cluster.now - settled <= 300 * MILLISECOND


def test_new_request_never_enters_connection_to_vanished_leader() -> None:
    """Item 18. A leader that misses heartbeats is sent nothing more; its successor is, at once."""
    cluster, leader, node = started()
    cluster.lose_power(leader.id)
    cluster.run(200 * MILLISECOND)
    assert node.leader == leader.id
    ticket = node.propose(b"held", timeout=30 * SECOND)
    cluster.run_until(lambda: node.leader not in (leader.id, 0))
    settled = cluster.now

    assert cluster.wait(node, ticket) == [b"ok:held"]
    assert cluster.now - settled <= 50 * MILLISECOND
    assert cluster.wait(node, node.propose(b"new")) == [b"ok:new"]


def test_forward_whose_frame_has_not_left_is_sent_to_next_leader() -> None:
    desk = Desk()
    desk.connect()
    desk.client(propose(1, b"a"))
    desk.flush(LEADER)

    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<a>",))]
    assert desk.sent() == []
    assert desk.clients.forwarded == 0


def test_forward_whose_frame_has_not_left_survives_its_connection() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1, b"sent"))
    desk.flush(LEADER)
    assert desk.sent() == [Forward(1, 0, Propose(b"sent"))]
    desk.client(propose(2, b"waits"))
    desk.flush(LEADER)

    desk.clients.on_lost(connection, 1)

    assert isinstance(desk.error(), OutcomeUnknown)
    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<waits>",))]


def test_deposed_leader_that_lives_still_answers() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1))
    desk.flush(LEADER)
    desk.sent()

    desk.flush(NodeId(3))
    desk.clients.on_forward_reply(connection, ForwardReply(1, result=b"done"))

    assert desk.data() == [(1, b"done")]


def test_deposed_leader_that_never_answers_leaves_request_unknown() -> None:
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1))
    desk.flush(LEADER)
    desk.sent()
    desk.flush(NodeId(3))
    desk.at(desk.now + desk.config.settle_wait - 1)
    desk.clients.on_time()
    assert desk.answers() == []
    desk.at(desk.now + 1)
    desk.clients.on_time()

    error = desk.error()
    assert isinstance(error, OutcomeUnknown)
    assert error.reason == UnknownReason.LEADERSHIP_LOST
    desk.clients.on_forward_reply(connection, ForwardReply(1, result=b"late"))
    assert desk.answers() == []


@pytest.mark.parametrize("reason", LEAVING)
def test_request_refused_by_leaving_leader_goes_to_next_one(reason: RefusalReason) -> None:
    """Item 20, for a forward."""
    desk = Desk()
    connection = desk.connect()
    desk.client(propose(1, b"a"))
    desk.flush(LEADER)
    desk.sent()

    desk.clients.on_forward_reply(connection, ForwardReply(1, refused=reason, leader=NodeId(3)))

    assert desk.answers() == []
    assert desk.flush(ME, leads=True) == [Proposed(RequestId(1), (b"<a>",))]


@pytest.mark.parametrize("reason", LEAVING)
def test_request_refused_by_own_leaving_core_goes_to_next_leader(reason: RefusalReason) -> None:
    """Item 20, for a client of the leader itself; also when it has waited for its commit for long."""
    desk = Desk()
    desk.connect()
    desk.client(propose(1, b"a"))
    desk.flush(ME, leads=True)
    desk.at(desk.now + 10 * desk.config.leader_wait)

    desk.clients.on_respond(Respond(RequestId(1), Refusal(reason, LEADER), 0, 1))

    assert desk.answers() == []
    assert desk.flush(LEADER) == []
    assert desk.sent() == [Forward(1, 0, Propose(b"a"))]


@pytest.mark.parametrize("reason", LEAVING)
def test_wished_hand_over_is_not_asked_of_next_leader(reason: RefusalReason) -> None:

    desk = Desk()
    connection = desk.connect()
    desk.client(Call(1, TransferLeadership(NodeId(0))))
    desk.flush(LEADER)
    desk.sent()

    desk.clients.on_forward_reply(connection, ForwardReply(1, refused=reason))

    assert desk.error().reason == reason  # type: ignore[attr-defined]


def test_hand_over_under_load_refuses_nobody() -> None:
    """Clients of every node keep asking while leadership goes round."""
    cluster, leader, _ = started()
    asked = [(node, node.propose(b"before %d" % node.id, timeout=5 * SECOND)) for node in cluster.nodes.values()]
    for _round in range(3):
        ticket = cluster.next_ticket()
        leader.tell(Call(ticket, TransferLeadership(NodeId(0))))
        for number in range(40):
            for node in cluster.nodes.values():
                command = b"%d %d %d" % (_round, number, node.id)
                asked.append((node, node.propose(command, timeout=5 * SECOND)))
                asked.append((node, node.ask(b"len", timeout=5 * SECOND)))
            cluster.run(MILLISECOND)
        cluster.wait(leader, ticket)
        leader = cluster.elect()
    for node, ticket in asked:
        cluster.wait(node, ticket)

    outcomes = [node.answers[ticket] for node, ticket in asked]
    assert [str(outcome) for outcome in outcomes if isinstance(outcome, RequestError)] == []
