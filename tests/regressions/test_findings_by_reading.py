"""Faults found by reading the code: each of these tests failed before."""

from __future__ import annotations

import random
from collections import deque

import pytest

from raft_core.effects import Indeterminate, RefusalReason, Respond, UnknownReason
from raft_core.entries import COMMAND, MEMBERS, Entry, HardState
from raft_core.errors import CallerError
from raft_core.events import Applied, MachineFailed, Requested
from raft_core.ids import BootNumber, ClusterId, Incarnation, Index, NodeId, RequestId, Term
from raft_core.membership import AddVoter, ChangeMode, Members, RemoveNode
from raft_core.messages import Message, VoteKind
from raft_core.node.bootstrap import Bootstrap
from raft_core.node.config import NodeConfig
from raft_core.node.events import QueryFailed
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Job, Query
from raft_core.node.outputs import Outputs
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership, Propose
from raft_core.settings import LONGEST_LEASE
from raft_core.validation import FAR_TERM, TERM_LEAP
from raft_core.wire.payloads import Forward, ForwardReply
from tests.core.cluster import SMALL, Cluster
from tests.core.helpers import (
    append,
    apply_of,
    asks,
    core,
    everybody_has_all,
    heartbeat,
    leader,
    only,
    persist,
    step,
    tick,
)
from tests.node.test_requests import LEADER, ME, Desk, ask, propose
from tests.testing.test_leases_among_unlike_nodes import LEASED, MILLISECOND, leases

TICK = 100 * MILLISECOND


def test_heartbeat_does_not_shorten_what_a_restarted_voter_may_have_promised() -> None:
    """Its leader may never hear the answer with the new promise, and then reads by the old one."""
    held = core(members=LEASED).log.entries()
    recovered = Recovered(Identity(NodeId(1)), HardState(Term(1)), entries=held, boot=BootNumber(2))
    raft = Raft(leases(4, tick=TICK), recovered, random.Random(1))
    step(raft)
    step(raft, heartbeat(1, 2))

    tick(raft, LONGEST_LEASE // TICK)
    assert step(raft, asks(2, 3, (9, 1))) == []


def test_tick_that_was_due_before_the_leader_was_heard_shortens_no_promise() -> None:
    """A late loop hears first and is told afterwards of the time that has passed; the next tick may follow at once."""
    raft = core(members=LEASED, settings=leases(4, tick=TICK))
    raft.server.loyalty = 0
    step(raft, heartbeat(1, 2))
    tick(raft)  # was due before
    tick(raft)  # follows at once

    tick(raft, 3)  # of the four that were promised
    assert step(raft, asks(2, 3, (9, 1))) == []
    tick(raft)
    assert step(raft, asks(2, 3, (9, 1))) != []


@pytest.mark.parametrize("message", [heartbeat(3 * TERM_LEAP, 2), asks(3 * TERM_LEAP, 2, (9, 1))])
def test_member_that_was_away_catches_up_in_terms(message: Message) -> None:
    """A stranger has raised the cluster's term by more than a leap meanwhile."""
    raft = core()
    for _ in range(4):
        step(raft, message)

    assert raft.server.term == message.term


def test_joiner_catches_up_in_terms() -> None:
    raft = Raft(SMALL, Recovered.fresh(4), random.Random(1))
    step(raft)
    for _ in range(4):
        step(raft, append(3 * TERM_LEAP, 2, (0, 0)))

    assert raft.server.term == 3 * TERM_LEAP
    assert raft.role.leader == 2


def test_cluster_takes_member_back_whose_term_a_stranger_has_raised() -> None:
    """It only answers, for its log is behind and no node elects it; and its leader did not believe what it said."""
    cluster = Cluster(3)
    cluster.elect(1)
    for leap in (1, 2, 3):
        cluster.nodes[3].step(asks(leap * TERM_LEAP, 99, (9, 1), kind=VoteKind.TRANSFER))
    cluster.propose(1, b"a")
    cluster.tick(200)

    assert {node.raft.role.leader for node in cluster.nodes.values()} == {cluster.leader.id}
    assert len(set(map(tuple, cluster.logs().values()))) == 1


def test_no_term_near_the_end_of_the_range_is_approached() -> None:
    raft = core()
    step(raft, heartbeat(FAR_TERM + 1, 2))

    assert raft.server.term == 1


def test_no_stranger_leads_anybody_out_of_reach() -> None:
    raft = core()
    step(raft, heartbeat(3 * TERM_LEAP, 99))

    assert raft.server.term == 1


def test_change_that_is_half_done_is_not_certainly_undone() -> None:
    """Its joint configuration is committed, and the leader that superseded its end leaves it all the same."""
    raft = leader(core(), settled=True)
    change = (AddVoter(NodeId(4)), RemoveNode(NodeId(3)))
    step(raft, Requested(RequestId(5), ChangeMembership(change, ChangeMode.AUTO)))
    persist(raft)
    everybody_has_all(raft)
    persist(raft)
    assert (raft.server.commit, raft.log.last_index) == (3, 4)

    effects = step(raft, append(4, 2, (3, 2), (4, 4), (5, 4), commit=5))

    assert only(Respond, effects) == [Respond(RequestId(5), Indeterminate(UnknownReason.TRUNCATED))]


def test_reads_hear_that_the_machine_failed() -> None:
    raft = leader(core(), settled=True)
    raft.server.pipeline.read_when_applied(raft.server.commit, RequestId(9))

    (answer,) = only(Respond, step(raft, MachineFailed("KeyError: 'x'")))

    assert isinstance(answer, Respond)
    assert answer.outcome.reason is RefusalReason.MACHINE_FAILED  # type: ignore[union-attr]
    assert answer.outcome.text == "KeyError: 'x'"  # type: ignore[union-attr]


def test_change_of_a_peer_that_waits_for_a_greeting_is_refused_when_the_node_stops() -> None:
    """It was never with the core, so its asker may ask the next leader."""
    desk = Desk()
    connection = desk.connect()
    members = Members.initial([1, 2], incarnations={NodeId(1): Incarnation(11), NodeId(2): Incarnation(22)})
    desk.peers.on_members(members)
    desk.clients.on_members(members, ME)
    change = ChangeMembership((AddVoter(NodeId(7)),), ChangeMode.AUTO, Index(0))
    desk.clients.on_forward(connection, Forward(9, 0, change))
    assert desk.flush(ME, leads=True) == []

    desk.clients.answer_all(RefusalReason.STOPPING, UnknownReason.STOPPING)

    assert desk.sent() == [ForwardReply(9, refused=RefusalReason.STOPPING)]
    assert desk.clients.count == 0


class Hasty:
    """A machine whose `is_long` looks at a first byte that may not be there."""

    def is_long(self, request: bytes) -> bool:
        return request[0] == 255

    def apply(self, index: Index, command: bytes) -> bytes:
        return b"ok"

    def query(self, request: bytes) -> bytes:
        raise KeyError("no")


def test_is_long_that_raises_ends_nothing() -> None:
    """It is called in the loop, for every entry again after every start."""
    work = JobRunner(None, Hasty())  # type: ignore[arg-type]
    entries = (Entry.make(Index(1), Term(1), b"", COMMAND), Entry.make(Index(2), Term(1), b"", COMMAND))
    jobs: deque[Job] = deque([apply_of(entries), Query(1, b"")])

    assert work.take_blocking(jobs) is None
    done, failed = work.run_machine(jobs, lambda: False, in_loop=True)
    assert done == Applied(Index(2), ())
    assert isinstance(failed, QueryFailed)


class Stalled:
    """A core whose disk hangs."""

    reads_wait_for_disk = True


@pytest.mark.interpreted
def test_reads_refused_for_a_hanging_disk_leave_nothing_to_look_through() -> None:
    """Every turn of the loop looked at all of them again, for as long as the disk hung."""
    desk = Desk()
    for ticket in range(1, 20):
        desk.client(ask(ticket))
        desk.flush(ME, leads=True)
        desk.clients.look_at_disk(Stalled())  # type: ignore[arg-type]
        desk.orders.taken()

    assert desk.clients.batches == 0


def test_held_requests_are_not_tried_in_every_turn_while_the_leader_cannot_be_asked() -> None:
    """Ten thousand of them took 20 ms of each turn of the loop. The host says when there is reason to: `retry`."""
    desk = Desk()
    desk.client(propose(1))
    desk.flush(LEADER)
    desk.connect()

    desk.flush(LEADER, retry=False)
    assert desk.sent() == []
    desk.flush(LEADER)
    assert desk.sent() == [Forward(1, 0, Propose(b"x"))]


def test_cluster_that_an_older_release_has_founded_under_high_ids_starts_as_before() -> None:
    """Only a new cluster has to leave room for the ids of later members."""
    node = 1 << 60
    config = NodeConfig(node, {node: "127.0.0.1:7400"}, cluster="c", data="d")
    entry = Entry.make(1, 1, Members(voters=(NodeId(node),), highest_id=NodeId(node)).encode(), MEMBERS)
    formed = Recovered(Identity(NodeId(node), ClusterId("c")), HardState(Term(1)), entries=(entry,))
    outputs, limits = Outputs(), config.node_limits(config.listening_address)

    assert Bootstrap(limits, config.settings, formed, outputs).ready
    with pytest.raises(CallerError):
        Bootstrap(limits, config.settings, Recovered(formed.identity), outputs)
