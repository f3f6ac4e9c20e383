"""The loop and the write lane's thread meet: no report is lost, none comes twice, and their order is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import cast

import pytest

from raft_core.effects import Persist
from raft_core.events import Persisted
from raft_core.ids import WriteId
from raft_core.node.events import NodeEvent, TimerFired
from raft_core.node.job_runner import JobRunner
from raft_core.node.jobs import Lane
from raft_core.node.sync_patience import SyncPatience
from raft_core.store import Store
from raft_storage.short_wait import ShortWait
from raft_storage.workers import Workers

from ..node.cluster import LogMachine

MICROSECOND = 1_000


def reports(*numbers: int) -> list[NodeEvent]:
    return [Persisted(WriteId(number)) for number in numbers]


def fast() -> SyncPatience:
    patience = SyncPatience()
    for _ in range(100):
        patience.took(100 * MICROSECOND)
    return patience


def workers(store: object) -> Workers:
    return Workers(cast(Store, store), JobRunner(cast(Store, store), LogMachine()), "test", fast())


def test_report_that_comes_in_time_is_taken_in_the_same_turn() -> None:
    meeting = ShortWait(fast())
    meeting.begin()
    assert meeting.give(reports(1), 1, 100 * MICROSECOND)
    assert meeting.take() == reports(1)


def test_second_job_of_a_turn_begins_after_the_first_is_done() -> None:
    meeting = ShortWait(fast())
    for number in (1, 2):
        meeting.begin()
        assert meeting.give(reports(number), 1, 100 * MICROSECOND)
    assert meeting.take() == reports(1, 2)
    meeting.begin()
    assert meeting.give(reports(3), 1, 100 * MICROSECOND)
    assert meeting.take() == reports(3)


def test_write_that_comes_after_the_wait_of_its_turn_brings_about_another_turn() -> None:
    meeting = ShortWait(fast())
    assert not meeting.waiting
    meeting.begin()
    assert meeting.waiting
    assert meeting.give(reports(1), 1, 100 * MICROSECOND), "the thread wakes nothing"
    assert meeting.waiting
    assert meeting.take() == reports(1)
    assert not meeting.waiting


def test_loop_that_does_not_wait_is_woken_and_finds_the_reports_in_order() -> None:
    meeting = ShortWait(SyncPatience())
    meeting.begin()
    meeting.begin()
    assert meeting.take() == []
    assert not meeting.give(reports(1), 1, 1)
    assert not meeting.give(reports(2), 1, 1)
    assert meeting.late() == reports(1, 2)
    assert meeting.late() == []


def test_loop_gives_up_and_the_thread_wakes_it_later() -> None:
    meeting = ShortWait(fast())
    meeting.begin()
    assert meeting.take() == []
    assert not meeting.give(reports(1), 1, 100 * MICROSECOND)
    assert meeting.late() == reports(1)


def test_busy_disk_is_not_waited_for() -> None:
    meeting = ShortWait(fast())
    meeting.begin()
    meeting.take()
    begun = time.monotonic()
    meeting.begin()
    assert meeting.take() == []
    assert time.monotonic() - begun < 0.05


class HangingStore:
    """A store whose writes hang while `free` is not set."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.written: list[int] = []

    def write(self, batch: Sequence[Persist]) -> None:
        self.free.wait()
        self.written += [job.write for job in batch]

    def close(self) -> None:
        pass


def test_every_write_is_reported_once_and_in_order_while_the_disk_hangs_and_recovers() -> None:
    store, woken = HangingStore(), threading.Event()
    lanes = workers(store)

    def wake(events: list[NodeEvent]) -> None:
        assert events == [TimerFired()]
        woken.set()

    lanes.start(wake)
    seen: list[int] = []
    longest = 0.0

    def turn(*numbers: int) -> None:
        nonlocal longest
        seen.extend(event.upto for event in lanes.late() if isinstance(event, Persisted))
        for number in numbers:
            lanes.put(Lane.WRITE, Persist(WriteId(number)))
        begun = time.monotonic()
        seen.extend(event.upto for event in lanes.run_inline() if isinstance(event, Persisted))
        longest = max(longest, time.monotonic() - begun)

    for number in range(1, 400):
        if number == 200:
            store.free.clear()
        if number == 210:
            store.free.set()
        turn(number)
    deadline = time.monotonic() + 10
    while not seen or seen[-1] < 399:
        assert time.monotonic() < deadline
        woken.wait(0.01)
        woken.clear()
        turn()
    lanes.close(5.0)

    assert store.written == list(range(1, 400))
    assert seen == sorted(set(seen))
    assert longest < 0.5, "the loop waited for a disk that hangs"


def test_lanes_ask_for_a_turn_for_a_write_that_was_queued_after_their_last_one() -> None:
    lanes = workers(HangingStore())
    lanes.start(lambda _events: None)
    assert not lanes.inline_waiting
    lanes.put(Lane.WRITE, Persist(WriteId(1)))
    assert lanes.inline_waiting
    lanes.close(5.0)


def test_disk_failure_reaches_a_loop_that_waits() -> None:
    class Broken:
        def write(self, batch: Sequence[Persist]) -> None:
            raise OSError("no disk")

        def close(self) -> None:
            pass

    store = Broken()
    lanes = workers(store)
    lanes.start(lambda _events: None)
    lanes.put(Lane.WRITE, Persist(WriteId(1)))
    found: list[NodeEvent] = []
    deadline = time.monotonic() + 10
    while not found:
        assert time.monotonic() < deadline
        found += lanes.run_inline()
    assert [type(event).__name__ for event in found] == ["JobFailed"]
    lanes.close(5.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_lane_whose_thread_dies_ends_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(*_: object) -> bool:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(ShortWait, "give", give)
    lanes = workers(HangingStore())
    told: list[NodeEvent] = []
    lanes.start(told.extend)
    lanes.put(Lane.WRITE, Persist(WriteId(1)))
    deadline = time.monotonic() + 10
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert [type(event).__name__ for event in told] == ["JobFailed"]
    lanes.close(5.0)
