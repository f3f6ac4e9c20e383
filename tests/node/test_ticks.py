"""An idle node sleeps through quiet ticks: few turns, nothing late, and a sleep that was not planned counts once."""

from __future__ import annotations

import pytest

from raft_core.effects import RoleName
from raft_core.node.core import NodeCore
from raft_core.node.limits import SECOND
from raft_core.node.ticks import MOST_QUIET, Ticks

from .cluster import Cluster

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


def test_idle_cluster_takes_few_turns_and_nothing_happens_in_quiet_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    cluster.run(SECOND)
    turns = dict.fromkeys(cluster.nodes, 0)
    handle, pass_quiet = NodeCore.handle, NodeCore._pass_quiet

    def counted(host: NodeCore, *given: object) -> object:
        turns[host.status.node] += 1
        return handle(host, *given)  # type: ignore[arg-type]

    def checked(host: NodeCore, ticks: int) -> None:
        before = host.status
        pass_quiet(host, ticks)
        assert not host._orders.effects, "something happened in a quiet tick"
        assert (host.status.role, host.status.term) == (before.role, before.term)

    monkeypatch.setattr(NodeCore, "handle", counted)
    monkeypatch.setattr(NodeCore, "_pass_quiet", checked)
    cluster.run(10 * SECOND)

    assert cluster.leader() is leader
    assert leader.role is RoleName.LEADER
    beats = 10 * SECOND // (leader.settings.heartbeat_ticks * leader.config.tick)
    # A heartbeat costs its leader a turn, one for each reply, and one for each report of `Transmitted`.
    assert max(turns.values()) <= 6 * beats, f"turns of each node for {beats} heartbeats: {turns}"
