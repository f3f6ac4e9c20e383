"""The half of an adapter that needs no event loop: every effect is done, every caller answered, every reader served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Indeterminate,
    Refusal,
    RefusalReason,
    RoleChanged,
    RoleName,
    Success,
    UnknownReason,
)
from raft_core.errors import NotLeader, OutcomeUnknown, Refused, StorageBroken
from raft_core.events import Persisted
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.node.core import NodeCore
from raft_core.node.driver import Driver, Feed
from raft_core.node.events import (
    Answer,
    Answered,
    Call,
    CallCancelled,
    ConnectionId,
    Dial,
    Disconnect,
    NodeEffect,
    NodeEvent,
    Run,
    StopAsked,
    TimerFired,
    Transmit,
    Transmitted,
    WakeAt,
)
from raft_core.node.jobs import DropReceived, Job, Lane
from raft_core.node.meter import Meter, WorkTimes
from raft_core.node.outcomes import result_of
from raft_core.requests import LeaveJoint, Propose

LED = RoleChanged(RoleName.LEADER, Term(3), NodeId(1))
LOST = RoleChanged(RoleName.FOLLOWER, Term(4), NodeId(2))


class SimulatedAdapter:
    """Host, lanes, connections and loop at once; it writes down what it is told."""

    def __init__(self) -> None:
        self.effects: list[NodeEffect] = []
        self.heard: list[list[NodeEvent]] = []
        self.told: list[object] = []
        self.inline: list[NodeEvent] = []
        self.inline_waiting = False
        self.takes = False
        self.tickets: list[Caller] = []
        self.meter = Meter()
        self.driver = Driver(cast(NodeCore, self), self, self)

    def turn(self, *effects: NodeEffect) -> list[object]:
        """What the surroundings were told in a turn with these effects."""
        self.effects, self.told = list(effects), []
        self.driver.turn(self, now=5, wall=7)
        return self.told

    def handle(self, events: Sequence[NodeEvent], now: int, wall: int) -> list[NodeEffect]:
        assert (now, wall) == (5, 7)
        self.heard.append(list(events))
        return self.effects

    def put(self, lane: Lane, job: Job, *, here: bool = False) -> None:
        self.told.append(("put here" if here else "put", lane, job))

    def measure(self, times: WorkTimes) -> None:
        self.times = times

    def now(self) -> int:
        return 5

    def late(self) -> list[NodeEvent]:
        """Return nothing: all reports go through the inbox."""
        return []

    def run_inline(self) -> list[NodeEvent]:
        events, self.inline = self.inline, []
        return events

    def dial(self, number: ConnectionId, address: str) -> None:
        self.told.append(("dial", number, address))

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        self.told.append(("transmit", number, data))
        return self.takes

    def disconnect(self, number: ConnectionId) -> None:
        self.told.append(("disconnect", number))

    def wake(self) -> None:
        self.told.append("wake")

    def wake_at(self, at: int) -> None:
        self.told.append(("wake at", at))

    def tell(self) -> None:
        self.told.append("tell")


def test_every_effect_is_done_in_order() -> None:
    around = SimulatedAdapter()
    connection, job = ConnectionId(2), DropReceived()
    effects: list[NodeEffect] = [
        Dial(connection, "a:1"),
        Transmit(connection, b"x"),
        Run(Lane.CHUNKS, job),
        WakeAt(9),
        Disconnect(connection),
        LED,
    ]
    assert around.turn(*effects) == [
        ("dial", 2, "a:1"),
        ("transmit", 2, b"x"),
        ("put", Lane.CHUNKS, job),
        ("wake at", 9),
        ("disconnect", 2),
        "tell",
    ]


def test_taken_bytes_are_reported_with_the_next_events_and_cost_no_turn() -> None:
    around = SimulatedAdapter()
    around.takes = True
    told = around.turn(Transmit(ConnectionId(2), b"x"))
    assert ("transmit", 2, b"x") in told
    assert "wake" not in told
    around.driver.post(StopAsked())
    around.turn()
    assert around.heard[-1] == [Transmitted(ConnectionId(2)), StopAsked()]


def test_bytes_something_waits_for_are_reported_in_a_turn_of_their_own() -> None:
    around = SimulatedAdapter()
    around.takes = True
    assert "wake" in around.turn(Transmit(ConnectionId(2), b"x", hurry=True))
    assert around.driver.waiting
    around.turn()
    assert around.heard[-1] == [Transmitted(ConnectionId(2))]


def test_bytes_taken_in_a_turn_are_reported_before_the_inline_reports_of_that_turn() -> None:
    """Otherwise the connection counts as busy, and an answer in those reports waits for an event of another cause."""
    around = SimulatedAdapter()
    around.takes = True
    around.inline = [Persisted(WriteId(1))]
    around.turn(Transmit(ConnectionId(2), b"x"))
    assert around.heard[-1] == [Transmitted(ConnectionId(2)), Persisted(WriteId(1))]


def test_bytes_that_are_not_taken_are_reported_by_the_adapter() -> None:
    around = SimulatedAdapter()
    around.turn(Transmit(ConnectionId(2), b"x", hurry=True))
    around.turn()
    assert around.heard[-1] == [TimerFired()]


def test_the_host_hears_first_of_its_start_then_of_what_came_and_otherwise_of_the_timer() -> None:
    around = SimulatedAdapter()
    around.turn()
    around.driver.post(StopAsked())
    around.driver.post_all([Persisted(WriteId(1)), Persisted(WriteId(2))])
    assert around.told == ["wake", "wake"]
    around.turn()
    around.turn()
    assert around.heard == [
        [TimerFired()],
        [StopAsked(), Persisted(WriteId(1)), Persisted(WriteId(2))],
        [TimerFired()],
    ]


def test_reports_of_inline_lanes_are_handled_in_the_same_turn() -> None:
    around = SimulatedAdapter()
    around.inline = [Persisted(WriteId(1))]
    around.turn()
    assert around.heard[1:] == [[Persisted(WriteId(1))]]
    assert not around.driver.waiting


def test_jobs_left_in_inline_lanes_ask_for_another_turn() -> None:
    around = SimulatedAdapter()
    around.turn()
    around.inline_waiting = True
    assert around.driver.waiting


class Caller:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Answered] = []

    def deliver(self, outcome: Answered) -> None:
        self.outcomes.append(outcome)


def done(result: bytes) -> Success:
    return Success(Index(1), (result,))


def test_each_caller_gets_the_answer_to_its_own_call() -> None:
    around, first, second = SimulatedAdapter(), Caller(), Caller()
    around.driver.call(first, LeaveJoint(), 0)
    around.driver.call(second, Propose(b"x"), 9)
    around.turn(Answer(second, done(b"2")), Answer(first, done(b"1")))
    assert (first.outcomes, second.outcomes) == ([done(b"1")], [done(b"2")])
    assert around.heard == [[TimerFired(), Call(first, LeaveJoint()), Call(second, Propose(b"x"), 9)]]


def test_node_hears_of_a_caller_who_leaves() -> None:
    around, leaver = SimulatedAdapter(), Caller()
    around.driver.call(leaver, LeaveJoint(), 0)
    around.driver.leave(leaver)
    around.turn()
    assert around.heard[0][-1] == CallCancelled(leaver)


def test_end_answers_everyone_who_still_waits_and_refuses_later_calls() -> None:
    around, known, unhandled = SimulatedAdapter(), Caller(), Caller()
    around.tickets = [known]
    around.driver.call(unhandled, LeaveJoint(), 0)
    failure = StorageBroken("the disk is gone")
    around.driver.end(failure)
    assert around.driver.ended
    assert around.driver.error is failure
    assert around.driver.changes.ended
    assert around.driver.alarms.ended
    for caller in (known, unhandled):
        assert caller.outcomes == [Indeterminate(UnknownReason.STORAGE_FAILED)]
    with pytest.raises(Refused):
        around.driver.call(Caller(), LeaveJoint(), 0)


def test_turn_that_fails_leaves_no_caller_without_an_answer() -> None:
    class Broken(SimulatedAdapter):
        def dial(self, number: ConnectionId, address: str) -> None:
            raise RuntimeError("no more tasks")

    around, answered = Broken(), Caller()
    with pytest.raises(RuntimeError) as failure:
        around.turn(Dial(ConnectionId(2), "a:1"), Answer(answered, done(b"1")))
    around.driver.end(failure.value)
    assert answered.outcomes == [done(b"1")]


def test_turn_that_fails_gives_no_answer_twice() -> None:
    """A client's connection is the ticket of its every request: the answer to one must not come as that to the next."""

    class Broken(SimulatedAdapter):
        def dial(self, number: ConnectionId, address: str) -> None:
            raise RuntimeError("no more tasks")

    class Persistent(Caller):
        def deliver(self, outcome: Answered) -> None:
            super().deliver(outcome)
            if not around.driver.ended:
                around.driver.call(self, Propose(b"next"), 0)

    around, caller = Broken(), Persistent()
    with pytest.raises(RuntimeError) as failure:
        around.turn(Answer(caller, done(b"1")), Dial(ConnectionId(2), "a:1"))
    around.driver.end(failure.value)
    text = "RuntimeError: no more tasks"
    assert caller.outcomes == [done(b"1"), Indeterminate(UnknownReason.NODE_FAILED, text)]


def test_the_first_error_of_a_node_is_the_one_that_counts() -> None:
    around, first = SimulatedAdapter(), ValueError("first")
    around.driver.end(first)
    around.driver.end(ValueError("second"))
    around.driver.end()
    assert around.driver.error is first


def test_news_go_to_the_feeds_and_the_readers_are_told() -> None:
    around = SimulatedAdapter()
    alarm = Alarm(AlarmKind.DISK_STALL)
    assert around.turn(LED, alarm) == ["tell", "tell"]
    assert around.driver.changes.after(0) == (LED, 1)
    assert around.driver.alarms.after(0) == (alarm, 1)


def test_a_reader_of_a_feed_sees_everything_after_its_place_in_order() -> None:
    feed = Feed[RoleChanged](kept=4)
    feed.put(LED)
    late, early = feed.place(past=0), feed.place(past=1)
    assert feed.after(late) is None
    feed.put(LOST)
    assert feed.after(early) == (LED, early + 1)
    assert feed.after(early + 1) == (LOST, early + 2)
    assert feed.after(late) == (LOST, late + 1)


def test_a_reader_that_lags_misses_the_oldest_items_and_never_the_newest() -> None:
    feed = Feed[int](kept=2)
    place = feed.place(past=5)
    for item in range(10):
        feed.put(item)
    seen = []
    while (found := feed.after(place)) is not None:
        item, place = found
        seen.append(item)
    assert seen == [8, 9]


def test_outcome_is_a_result_or_an_error_to_raise() -> None:
    assert result_of(done(b"data")) == b"data"
    assert result_of(Success(Index(1))) == b""
    with pytest.raises(NotLeader) as refused:
        result_of(Refusal(RefusalReason.NOT_LEADER, NodeId(2)), lambda node: f"n{node}")
    assert (refused.value.leader, refused.value.address) == (2, "n2")
    with pytest.raises(OutcomeUnknown):
        result_of(Indeterminate(UnknownReason.DEADLINE))
