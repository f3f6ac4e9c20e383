"""Whole nodes together: they form, elect, answer, survive; over byte pipes and a virtual clock."""

from __future__ import annotations

from raft_core.host import MILLISECOND, SECOND
from tests.host_cluster import Cluster


def test_three_nodes_form_a_cluster_and_elect_a_leader() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    assert cluster.now < 3 * SECOND
    ticket = leader.propose(b"a")
    cluster.run_until(lambda: ticket in leader.answers)
    assert leader.answers[ticket] == b"ok:a"
    cluster.run_until(cluster.converged, within=SECOND)
