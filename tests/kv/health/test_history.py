"""What a server remembers for its page: rates of each second, within bounds."""

from __future__ import annotations

import attrs

from raft_core.effects import Alarm, AlarmKind, RoleChanged, RoleName
from raft_core.ids import ClusterId, Incarnation, NodeId, Term
from raft_core.node.limits import MILLISECOND
from raft_core.node.measured import Measured
from raft_core.node.meter import Histogram
from raft_core.node.status import NodeStatus, Phase
from raft_core.recovered import Identity
from raft_kv.health.history import KEPT_SECONDS, History, Moment

NODE = NodeId(1)
STATUS = NodeStatus(
    node=NODE, identity=Identity(NODE, ClusterId("c"), Incarnation(1)), phase=Phase.RUNNING, role=RoleName.FOLLOWER,
    term=Term(1), leader=NodeId(0), leader_address="", core=None, peers=(), addresses=(), waiting_clients=0,
    waiting_bytes=0, forwarded=0, drops=(),
)  # fmt: skip


def test_second_has_rates_and_quantiles_of_itself_alone() -> None:
    history, writes = History(), Histogram()
    writes.add(900 * MILLISECOND)
    history.observe(100.0, attrs.evolve(STATUS, measured=Measured(writes=writes.value)), commands=50, memory=7)
    writes.add(2 * MILLISECOND)
    history.observe(102.0, attrs.evolve(STATUS, measured=Measured(writes=writes.value)), commands=250, memory=9)
    assert len(history.moments) == 1
    moment = history.moments[0]
    assert attrs.evolve(moment, writes_p99=0.0) == Moment(102.0, 100.0, 0.0, 0.0, 0.0, 0.0, 9)
    assert 1.0 < moment.writes_p99 <= 2.0  # not the 900 ms of the second before


def test_clock_that_goes_back_gives_no_rate() -> None:
    history = History()
    for time in (100.0, 90.0, 91.0):
        history.observe(time, STATUS, commands=5, memory=0)
    assert [moment.time for moment in history.moments] == [91.0]


def test_only_last_minutes_are_kept() -> None:
    history = History()
    for second in range(1000):
        history.observe(float(second), STATUS, commands=second, memory=0)
        history.role_changed(float(second), RoleChanged(RoleName.FOLLOWER, Term(second), NodeId(2)))
    assert len(history.moments) == KEPT_SECONDS
    assert history.moments[-1].time == 999.0
    assert len(history.notes) == 20
    assert history.notes[-1].term == 999


def test_alarm_is_noted() -> None:
    history = History()
    history.alarm(5.0, Alarm(AlarmKind.DISK_STALL, NodeId(3), "slow"))
    note = history.notes[0]
    assert (note.time, note.kind) == (5.0, "alarm")
    assert "node 3" in note.text
