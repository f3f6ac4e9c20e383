"""A node that is asked to stop serves on, hands over, answers all that wait, and only then ends."""

from __future__ import annotations

import pytest

from raft_core.effects import RefusalReason
from raft_core.errors import OutcomeUnknown, RequestError
from raft_core.node import MILLISECOND, SECOND, NodeLimits
from raft_core.node.events import Call
from raft_core.requests import TransferLeadership
from tests.node.cluster import Cluster, Node, error_of


def started() -> Cluster:
    cluster = Cluster(3)
    cluster.start()
    cluster.elect()
    cluster.run(SECOND)
    return cluster


def test_stopping_follower_waits_for_open_forwards() -> None:
    """Item 21."""
    cluster = started()
    node = cluster.followers()[0]
    tickets = [node.propose(b"%d" % number, timeout=5 * SECOND) for number in range(50)]
    cluster.run(100_000)
    cluster.stop(node.id)
    cluster.run_until(lambda: node.finished is not None, within=SECOND)

    assert [node.answers[ticket] for ticket in tickets] == [b"ok:%d" % number for number in range(50)]


def test_stopping_follower_waits_no_longer_than_drain_timeout() -> None:
    cluster = started()
    leader, node = cluster.elect(), cluster.followers()[0]
    ticket = node.propose(b"a")
    cluster.run(100_000)
    cluster.lose_power(leader.id)
    asked = cluster.now
    cluster.stop(node.id)
    cluster.run_until(lambda: node.finished is not None, within=5 * SECOND)

    assert isinstance(error_of(node, ticket), OutcomeUnknown)
    assert cluster.now - asked <= NodeLimits().drain_timeout + 20 * MILLISECOND


def test_stopping_follower_refuses_what_comes_later() -> None:
    cluster = started()
    node = cluster.followers()[0]
    open_one = node.propose(b"open")
    cluster.run(100_000)
    cluster.stop(node.id)
    late = node.propose(b"late")
    cluster.run_until(lambda: node.finished is not None, within=SECOND)

    assert node.answers[open_one] == b"ok:open"
    assert error_of(node, late).reason == RefusalReason.STOPPING  # type: ignore[attr-defined]


def test_stopping_leader_serves_its_own_clients_until_next_one_leads() -> None:
    """Item 20. They are held while it hands over, and then passed on."""
    cluster = started()
    leader = cluster.elect()
    leader.stall_disk(True)  # so that the hand-over takes a while: the successor must catch up first
    tickets = [leader.propose(b"%d" % number) for number in range(5)]
    cluster.run(MILLISECOND)
    leader.stall_disk(False)
    cluster.stop(leader.id)
    tickets += [leader.propose(b"%d" % number) for number in range(5, 10)]
    reading = leader.ask(b"len")
    cluster.run_until(lambda: leader.finished is not None, within=SECOND)

    assert [leader.answers[ticket] for ticket in tickets] == [b"ok:%d" % number for number in range(10)]
    assert isinstance(leader.answers[reading], bytes)


@pytest.mark.parametrize("seed", [1, 2])
def test_planned_restarts_in_turn_under_load_refuse_nobody_elsewhere(seed: int) -> None:
    """Items 20 and 21: every node is stopped and started in turn, while clients ask each node that lives."""
    cluster = Cluster(3, seed=seed)
    cluster.start()
    cluster.elect()
    cluster.run(SECOND)
    asked: list[tuple[Node, int, int]] = []

    def load(duration: int) -> None:
        for _ in range(duration // (2 * MILLISECOND)):
            for node in cluster.nodes.values():
                if node.alive and node.id != stopping:
                    number = len(asked)
                    asked.append((node, node.propose(b"%d" % number, timeout=5 * SECOND), cluster.now))
                    asked.append((node, node.ask(b"len", timeout=5 * SECOND), cluster.now))
            cluster.run(2 * MILLISECOND)

    stopping = 0
    for number in (1, 2, 3, cluster.elect().id):
        load(40 * MILLISECOND)
        stopping = number
        cluster.stop(number)
        while cluster[number].alive:
            load(10 * MILLISECOND)
        load(20 * MILLISECOND)
        cluster[number].start()
        cluster.run_until(lambda node=cluster[number]: node.leader != 0)  # type: ignore[misc]
        stopping = 0
    for node, ticket, _ in asked:
        cluster.wait(node, ticket)

    outcomes = [node.answers[ticket] for node, ticket, _ in asked]
    assert [str(outcome) for outcome in outcomes if isinstance(outcome, RequestError)] == []
    longest = max(node.answered_at[ticket] - at for node, ticket, at in asked)
    assert longest < 100 * MILLISECOND


def test_leader_that_has_handed_over_before_it_stops_still_refuses_late_requests() -> None:
    """A server hands over first, then stops its node. A peer that does not know yet is refused, not cut off."""
    cluster = started()
    leader = cluster.elect()
    successor = cluster.followers()[0]
    leader.tell(Call(cluster.next_ticket(), TransferLeadership(successor.id)))
    cluster.run_until(lambda: cluster.leader() is successor, within=SECOND)
    cluster.stop(leader.id)
    cluster.run(50 * MILLISECOND)
    assert leader.finished is None
    cluster.run_until(lambda: leader.finished is not None, within=100 * MILLISECOND)


def test_follower_whose_leader_has_just_changed_ends_at_once() -> None:
    cluster = started()
    leader = cluster.elect()
    successor, other = cluster.followers()
    leader.tell(Call(cluster.next_ticket(), TransferLeadership(successor.id)))
    cluster.run_until(lambda: cluster.leader() is successor, within=SECOND)
    cluster.run(5 * MILLISECOND)
    assert other.announced[-1].leader == successor.id
    cluster.stop(other.id)
    cluster.run_until(lambda: other.finished is not None, within=30 * MILLISECOND)
