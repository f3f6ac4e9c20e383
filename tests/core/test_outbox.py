"""Promises and the writes they rest on: the part that keeps votes and acknowledgements honest."""

from __future__ import annotations

import pytest

from raft_core.effects import Effect, Persist, Send
from raft_core.entries import HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.ids import Index, MessageId, NodeId, Term, WriteId
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.messages import TimeoutNow
from raft_core.outbox import MOST_HELD, Outbox
from tests.core.helpers import entries, finish

HARD = HardState(Term(2), NodeId(3), Index(0))


class Bench:
    """A log and its outbox."""

    def __init__(self, *terms: int, max_bytes: int = 10**9) -> None:
        self.log = Log(entries=entries(*enumerate(terms, 1)))
        self.outbox = Outbox(self.log.last_index, max_bytes)

    def append(self, *pairs: tuple[int, int]) -> None:
        self.log.append(entries(*pairs))
        self.outbox.changed = True

    def truncate(self, first: int) -> None:
        self.log.truncate_from(Index(first))
        self.outbox.truncate(Index(first))

    def finish(self, now: int = 0) -> list[Effect]:
        return finish(self.outbox, self.log, HARD, now)

    def persisted(self, upto: int) -> list[Effect]:
        self.outbox.persisted(WriteId(upto))
        return self.finish()

    def promise(self, number: int, upto: int) -> None:
        self.outbox.promise_entries(NodeId(2), note(number).message, Index(upto))


def note(number: int) -> Send:
    """A message that can be told from others."""
    return Send(NodeId(2), TimeoutNow(Term(1), NodeId(1), MessageId(number)))


def write(number: int, *, hard: bool = False, truncate: int = 0, new: tuple[tuple[int, int], ...] = ()) -> Persist:
    return Persist(WriteId(number), HARD if hard else None, Index(truncate), entries(*new))


# One write per step.


def test_a_step_that_changes_nothing_durable_writes_nothing() -> None:
    bench = Bench(1, 1)

    assert bench.finish() == []


def test_all_that_a_step_changes_goes_into_one_write_in_front_of_its_messages() -> None:
    bench = Bench(1, 1, 1)
    bench.truncate(3)
    bench.append((3, 2), (4, 2))
    bench.outbox.touch_hard()
    bench.outbox.send(NodeId(2), note(1).message)

    effects = bench.finish()

    assert effects == [write(1, hard=True, truncate=3, new=((3, 2), (4, 2))), note(1)]


def test_entries_that_the_disk_never_heard_of_are_truncated_without_a_word() -> None:
    bench = Bench(1)
    bench.append((2, 1), (3, 1))
    bench.truncate(2)
    bench.append((2, 2))

    assert bench.finish() == [write(1, new=((2, 2),))]


# Promises.


def test_a_promise_whose_ground_is_durable_leaves_at_once() -> None:
    bench = Bench(1, 1)

    bench.promise(1, upto=2)
    bench.outbox.promise_term(NodeId(2), note(2).message)
    bench.outbox.promise_all(NodeId(2), note(3).message, bench.log)

    assert bench.finish() == [note(1), note(2), note(3)]


def test_a_promise_of_entries_waits_for_exactly_the_write_that_holds_them() -> None:
    bench = Bench(1)
    bench.append((2, 1))
    bench.promise(1, upto=2)
    bench.finish()
    bench.append((3, 1))
    bench.promise(2, upto=3)
    bench.promise(3, upto=2)
    bench.finish()

    assert bench.persisted(1) == [note(1), note(3)]
    assert bench.persisted(2) == [note(2)]


def test_a_promise_of_the_term_does_not_wait_for_entries_and_one_of_entries_waits_for_the_term() -> None:
    bench = Bench(1)
    bench.append((2, 1))
    bench.finish()
    bench.outbox.promise_term(NodeId(2), note(1).message)
    assert bench.finish() == [note(1)]

    bench.outbox.touch_hard()
    bench.outbox.promise_term(NodeId(2), note(2).message)
    bench.promise(3, upto=1)
    bench.finish()

    assert bench.persisted(1) == []
    assert bench.persisted(2) == [note(2), note(3)]


def test_a_vote_request_waits_for_term_vote_and_the_whole_log() -> None:
    bench = Bench(1)
    bench.outbox.touch_hard()
    bench.finish()
    bench.append((2, 1))
    bench.outbox.promise_all(NodeId(2), note(1).message, bench.log)
    bench.finish()

    assert bench.persisted(1) == []
    assert bench.persisted(2) == [note(1)]


def test_a_snapshot_switch_is_what_later_promises_rest_on() -> None:
    bench = Bench(1, 1)
    meta = SnapshotMeta(Index(9), Term(2), Members.initial([1]))
    bench.log.reset(meta.position)
    bench.outbox.switch(meta, discard=True, cap=Index(1))
    bench.promise(1, upto=9)

    assert bench.finish() == [Persist(WriteId(1), None, Index(0), (), meta)]
    assert bench.outbox.durable_index == 1
    bench.promise(2, upto=5)
    assert bench.finish() == []

    assert bench.persisted(1) == [note(1), note(2)]
    assert bench.outbox.durable_index == 9


# What is durable.


def test_the_durable_index_follows_the_newest_durable_write_of_the_log() -> None:
    bench = Bench(1)
    bench.append((2, 1))
    bench.finish()
    bench.append((3, 1))
    bench.finish()

    assert bench.outbox.durable_index == 1
    bench.persisted(1)
    assert bench.outbox.durable_index == 2
    bench.persisted(2)
    assert bench.outbox.durable_index == 3


def test_what_is_about_to_be_overwritten_does_not_count_although_it_lies_on_the_disk() -> None:
    bench = Bench(1, 1, 1, 1)
    bench.truncate(3)
    bench.append((3, 2))
    bench.finish()

    assert bench.outbox.durable_index == 2
    bench.persisted(1)
    assert bench.outbox.durable_index == 3


def test_the_acknowledgement_of_an_overwritten_write_stabilises_nothing_of_the_newer_one() -> None:
    bench = Bench(1)
    bench.append((2, 2), (3, 2))  # write 1: by one leader
    bench.finish()
    bench.truncate(2)
    bench.append((2, 3))  # write 2: by another, at the same place
    bench.promise(7, upto=2)
    bench.finish()
    bench.truncate(2)
    bench.append((2, 2), (3, 2))  # write 3: the first one's entries again (A, B, A)
    bench.promise(8, upto=3)
    bench.finish()

    assert bench.persisted(1) == []
    assert bench.outbox.durable_index == 1
    assert bench.persisted(2) == [note(7)]
    assert bench.outbox.durable_index == 1
    assert bench.persisted(3) == [note(8)]
    assert bench.outbox.durable_index == 3


def test_many_writes_may_be_acknowledged_at_once() -> None:
    bench = Bench(1)
    for index in range(2, 6):
        bench.append((index, 1))
        bench.promise(index, upto=index)
        bench.finish(now=index)

    assert bench.outbox.oldest_age(12) == 10
    assert bench.persisted(3) == [note(2), note(3), note(4)]
    assert bench.outbox.oldest_since(12) == 5
    assert bench.persisted(4) == [note(5)]
    assert bench.outbox.oldest_age(12) == 0
    assert bench.persisted(2) == []


# Bounds and ends.


def test_beyond_the_bytes_under_way_new_entries_wait_for_the_next_write() -> None:
    bench = Bench(1, max_bytes=30)
    bench.append((2, 1))
    bench.finish()
    bench.append((3, 1))
    bench.promise(1, upto=3)

    assert bench.finish() == []
    assert bench.persisted(1) == [write(2, new=((3, 1),))]
    assert bench.persisted(2) == [note(1)]


def test_a_change_of_term_is_written_however_much_is_under_way() -> None:
    bench = Bench(1, max_bytes=30)
    bench.append((2, 1))
    bench.finish()
    bench.append((3, 1))
    bench.outbox.touch_hard()

    assert bench.finish() == [write(2, hard=True, new=((3, 1),))]


def test_promises_behind_a_hanging_disk_are_bounded() -> None:
    bench = Bench(1)
    bench.append((2, 1))
    bench.finish()

    for number in range(MOST_HELD + 5):
        bench.promise(number, upto=2)

    assert len(bench.outbox.held) == MOST_HELD
    assert bench.persisted(1)[0] == note(5)


def test_after_a_failure_nothing_is_promised_and_nothing_is_written() -> None:
    bench = Bench(1)
    bench.append((2, 1))
    bench.promise(1, upto=2)
    bench.finish()

    bench.outbox.fail()
    bench.append((3, 1))
    bench.promise(2, upto=1)

    assert bench.finish() == []
    assert bench.persisted(1) == []


def test_a_report_of_a_write_that_was_never_ordered_is_the_callers_fault() -> None:
    bench = Bench(1)

    with pytest.raises(CallerError):
        bench.persisted(1)
