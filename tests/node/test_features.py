"""Whole nodes of different releases: who is let in, who is refused, and when a feature may be used."""

from __future__ import annotations

import pytest

from raft_core.effects import AlarmKind, RefusalReason
from raft_core.errors import FeatureUnknown, MembershipRefused
from raft_core.ids import NodeId
from raft_core.membership import AddLearner, AddVoter, RemoveNode
from raft_core.node import SECOND, Drop
from raft_core.node.events import Call
from raft_core.requests import ChangeMembership, NodeRequest, TransferLeadership
from raft_core.settings import Settings
from tests.node.cluster import Cluster, Node

OLD, NEW = Settings(), Settings(features=("red",))


def mixed(count: int = 3, *, old: tuple[int, ...], joiners: tuple[int, ...] = ()) -> Cluster:
    """A cluster whose nodes all have the feature `red`, except the old ones."""
    cluster = Cluster(count, settings=NEW, joiners=joiners)
    for number in old:
        cluster[number].settings = OLD
    return cluster


def request(cluster: Cluster, node: Node, asked: NodeRequest) -> object:
    """The outcome of the request at this node."""
    ticket = cluster.next_ticket()
    node.tell(Call(ticket, asked, cluster.now + 10 * SECOND))
    cluster.run_until(lambda: ticket in node.answers, within=11 * SECOND)
    return node.answers[ticket]


def enable(cluster: Cluster, node: Node, *features: str) -> object:
    return request(cluster, node, ChangeMembership((), features=features))


def upgrade(cluster: Cluster, number: int, settings: Settings = NEW) -> None:
    """Stop the node, and start it with another release."""
    cluster.crash(number)
    cluster[number].settings = settings
    cluster.run(SECOND // 10)
    cluster.start(number)
    cluster.run(3 * SECOND)


def refusal(outcome: object) -> RefusalReason:
    assert isinstance(outcome, MembershipRefused), outcome
    return RefusalReason(outcome.reason)


def used(cluster: Cluster) -> set[tuple[str, ...]]:
    return {node.host.features for node in cluster.nodes.values() if node.alive}


def test_a_new_cluster_uses_what_all_its_founders_have() -> None:
    cluster = mixed(old=())
    cluster.start()
    cluster.elect()

    assert used(cluster) == {("red",)}


def test_a_cluster_uses_nothing_that_one_of_its_founders_lacks_until_it_is_enabled() -> None:
    cluster = mixed(old=(2,))
    cluster.start()
    cluster.elect()
    cluster.run(5 * SECOND)
    assert used(cluster) == {()}

    for node in (1, 2, 3):
        outcome = enable(cluster, cluster[node], "red")
        assert refusal(outcome) in (RefusalReason.FEATURE_MISSING, RefusalReason.UNKNOWN_FEATURE), node
    upgrade(cluster, 2)
    cluster.elect()
    assert used(cluster) == {()}, "not by itself: there may have to be a way back"
    assert enable(cluster, cluster[2], "red") == b""

    cluster.run(SECOND)
    assert used(cluster) == {("red",)}
    assert refusal(enable(cluster, cluster[1], "red")) is RefusalReason.NO_CHANGE


def test_a_follower_refuses_to_forward_what_an_old_leader_cannot_know() -> None:
    cluster = mixed(old=(1,))
    cluster.start()
    cluster.elect()
    if cluster.elect().id != 1:
        leader = cluster.elect()
        request(cluster, leader, TransferLeadership(1))
        cluster.elect()
    assert cluster.elect().id == 1

    outcome = enable(cluster, cluster[2], "red")

    assert refusal(outcome) is RefusalReason.FEATURE_MISSING
    assert isinstance(outcome, MembershipRefused)
    assert outcome.leader == 1


def test_a_member_that_is_not_connected_blocks_the_change_until_it_is_back_or_removed() -> None:
    cluster = mixed(old=(3,))
    cluster.start()
    cluster.elect()
    upgrade(cluster, 3)
    cluster.crash(3)
    cluster.run(SECOND)
    leader = cluster.elect()

    assert refusal(enable(cluster, leader, "red")) is RefusalReason.NOT_HEARD_FROM
    assert request(cluster, leader, ChangeMembership((RemoveNode(3),))) == b""
    assert enable(cluster, leader, "red") == b""


def test_an_old_release_is_refused_after_the_feature_is_enabled_and_told_why() -> None:
    cluster = mixed(old=(3,))
    cluster.start()
    cluster.elect()
    upgrade(cluster, 3)
    leader = cluster.elect()
    assert enable(cluster, leader, "red") == b""
    cluster.run(SECOND)
    cluster.crash(3)
    cluster[3].settings = OLD
    with pytest.raises(FeatureUnknown):
        cluster.start(3)
    before = cluster[3].store.reopened().recover().entries

    stranger = cluster.add(4, (), 3)  # a node of the old release that waits to be added
    stranger.settings = OLD
    stranger.start()
    cluster.run(4 * SECOND)

    assert leader.drops[Drop.FEATURE_MISSING] > 0
    assert any(alarm.kind is AlarmKind.FEATURE_MISSING and "red" in alarm.text for alarm in leader.alarms)
    assert stranger.drops[Drop.REFUSED_BY_PEER] > 0
    assert any("red" in alarm.text for alarm in stranger.alarms)
    assert refusal(request(cluster, leader, ChangeMembership((AddVoter(4),)))) is RefusalReason.NOT_HEARD_FROM
    assert cluster[3].store.reopened().recover().entries == before


def test_a_waiting_node_that_lacks_the_feature_is_cut_off_when_it_is_enabled() -> None:
    cluster = mixed(old=(2,))
    cluster.start()
    cluster.elect()
    stranger = cluster.add(4, (), 3)
    stranger.settings = OLD
    stranger.start()
    upgrade(cluster, 2)
    leader = cluster.elect_among(1, 2, 3)
    assert leader.host.status.peers[-1].node == 4

    assert enable(cluster, leader, "red") == b""
    cluster.run(SECOND)

    assert leader.drops[Drop.FEATURE_MISSING] > 0
    outcome = request(cluster, leader, ChangeMembership((AddLearner(4),)))
    assert refusal(outcome) is RefusalReason.NOT_HEARD_FROM
    stranger.settings = NEW
    upgrade(cluster, 4)
    assert request(cluster, cluster.elect_among(1, 2, 3), ChangeMembership((AddLearner(4),))) == b""
    cluster.run(3 * SECOND)
    assert stranger.host.features == ("red",)


def test_status_tells_who_lacks_what() -> None:
    cluster = mixed(old=(3,))
    cluster.start()
    leader = cluster.elect()
    node = cluster[1] if leader.id != 1 else leader
    cluster.run(SECOND)
    status = node.host.status

    assert status.features == ("red",)
    assert {peer.node: peer.features for peer in status.peers} == {2: ("red",), 3: ()}
    assert status.core is not None
    assert status.core.features == ()
    cluster.crash(3)
    cluster.run(SECOND)
    assert {peer.node: peer.features for peer in node.host.status.peers}[NodeId(3)] is None
