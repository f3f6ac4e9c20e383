"""An idle node sleeps through quiet ticks: few turns, nothing late, and a sleep that was not planned counts once."""

from __future__ import annotations

import pytest

from raft_core.events import Tick
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.node.ticks import MOST_QUIET, Ticks

from .cluster import Cluster, Node

TICK = 10


def test_quiet_ticks_that_have_passed_are_counted_first() -> None:
    ticks = Ticks(TICK)
    ticks.start(100)
    assert ticks.plan(4) == 150
    assert ticks.pass_quiet(135) == 3
    assert not ticks.due(135)
    assert ticks.due(140)
    assert ticks.pass_all(140) == 1
    assert ticks.count == 4


def test_tick_that_is_due_is_not_quiet() -> None:
    ticks = Ticks(TICK)
    ticks.start(0)
    assert ticks.plan(4) == 50
    assert ticks.pass_quiet(58) == 4
    assert ticks.pass_all(58) == 1


def test_unplanned_sleep_is_not_time_awake() -> None:
    ticks = Ticks(TICK)
    ticks.start(0)
    ticks.plan(4)
    assert ticks.pass_quiet(110) == 0
    assert ticks.pass_all(110) == 11


def test_plan_is_good_for_one_turn_and_bounded() -> None:
    ticks = Ticks(TICK)
    ticks.start(0)
    assert ticks.plan(1000) == (MOST_QUIET + 1) * TICK
    assert ticks.pass_quiet(30) == 3
    assert ticks.pass_quiet(60) == 0


def test_idle_cluster_takes_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.run(SECOND)
    turns = dict.fromkeys(cluster.nodes, 0)
    handle = Node._handle

    def counted(node: Node) -> None:
        turns[node.id] += 1
        handle(node)

    monkeypatch.setattr(Node, "_handle", counted)
    cluster.run(10 * SECOND)

    assert cluster.leader() is leader
    beats = 10 * SECOND // (leader.settings.heartbeat_ticks * leader.config.tick)
    # A heartbeat costs its leader a turn, one for each reply, and one for each report of `Transmitted`.
    assert max(turns.values()) <= 6 * beats, f"turns of each node for {beats} heartbeats: {turns}"


@pytest.mark.parametrize("seed", range(10))
def test_nothing_happens_in_quiet_ticks(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    cluster.start()
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"a"))
    cluster.run(SECOND + seed * 7 * MILLISECOND)
    for node in cluster.nodes.values():
        raft = node.host._raft
        assert raft is not None
        quiet = raft.quiet_ticks
        assert quiet or node is leader, "a follower that has just heard its leader has nothing to do"
        assert [raft.step(Tick()) for _ in range(quiet)] == [[]] * quiet
