"""The commit index rides in every write that is made anyway, and a disk that comes back can contradict others by it."""

from __future__ import annotations

import random

from raft_core.effects import Alarm, AlarmKind, Apply, Effect, Persist, Send, Stop, StopReason
from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.events import Proposed
from raft_core.ids import Index, NodeId, RequestId, Term, WriteId
from raft_core.membership import Members
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered, formation
from raft_storage import MemoryStore
from tests.core.cluster import SMALL
from tests.core.helpers import accepted, append, apply_of, core, entries, leader, only, persist, step, tick

THREE = Members.initial([1, 2, 3])
FOUNDING = Entry.make(1, 1, THREE.encode(), MEMBERS)


def hards(effects: list[Effect]) -> list[HardState | None]:
    return [effect.hard for effect in effects if isinstance(effect, Persist)]


def test_commit_index_rides_in_a_write_of_entries() -> None:
    raft = core()
    step(raft, append(1, 2, (1, 1), (2, 1)))
    persist(raft)
    step(raft, append(1, 2, (2, 1), commit=2))

    effects = step(raft, append(1, 2, (2, 1), (3, 1), commit=2))

    assert only(Persist, effects) == [
        Persist(WriteId(2), HardState(Term(1), NodeId(0), Index(2)), entries=entries((3, 1)))
    ]


def test_commit_index_causes_no_write() -> None:
    raft = core(log=[1, 1], applied=1)

    effects = step(raft, append(1, 2, (3, 1), commit=3))

    assert hards(effects) == []
    assert only(Apply, effects) == [apply_of(entries((2, 1), (3, 1)))]
    assert hards(tick(raft, 3)) == []


def test_commit_index_that_was_written_is_not_written_again() -> None:
    raft = core(log=[1], commit=2)

    assert hards(step(raft, append(1, 2, (2, 1), (3, 1), commit=2))) == [None]


def test_commit_index_on_disk_never_exceeds_the_entries_there() -> None:
    """An append that brings an entry and its commit is one write, and the commit index is within it."""
    raft = core()

    effects = step(raft, append(1, 2, (1, 1), (2, 1), (3, 1), commit=9))

    assert only(Persist, effects) == [
        Persist(WriteId(1), HardState(Term(1), NodeId(0), Index(3)), entries=entries((2, 1), (3, 1)))
    ]


def test_promise_does_not_wait_for_a_write_that_carries_the_commit_index_only() -> None:
    """Term and vote rest where they rested: a later passenger holds no answer back."""
    raft = core(log=[1])
    step(raft, append(1, 2, (2, 1), (3, 1), commit=2, ident=8))

    assert Send(NodeId(2), accepted(1, 1, 2)) in step(raft, append(1, 2, (2, 1)))


def test_old_leader_contradicts_a_majority_restored_from_backups() -> None:
    """The case: 50 acknowledged writes were gone without an alarm."""
    old = leader(core(), settled=True)
    for request in range(50):
        step(old, Proposed(RequestId(request), (b"x",)))
        persist(old)
        step(old, accepted(2, 2, old.log.last_index))
    disk = MemoryStore(1)
    hard, founding = formation(THREE)
    disk.write([Persist(WriteId(0), hard=hard, entries=(founding,))])
    held = old.log.entries()[1:]
    disk.write([Persist(WriteId(1), HardState(old.server.term, NodeId(1), Index(old.server.commit - 1)), entries=held)])
    back = Raft(SMALL, disk.reopened().recover(), random.Random(1))
    back.step()

    effects = back.step(append(5, 2, (1, 1), (2, 5)))

    assert [(a.kind, a.peer) for a in effects if isinstance(a, Alarm)] == [(AlarmKind.COMMITTED_CONFLICT, NodeId(2))]
    assert back.log.last_index == old.log.last_index, "nothing committed is overwritten"


def test_last_write_of_a_leader_says_what_was_committed_before_it() -> None:
    raft = leader(core(), settled=True)
    step(raft, Proposed(RequestId(1), (b"x",)))
    persist(raft)
    step(raft, accepted(2, 2, 3))

    assert hards(step(raft, Proposed(RequestId(2), (b"y",)))) == [HardState(Term(2), NodeId(1), Index(3))]


def test_disk_that_lacks_what_it_knows_to_be_committed_is_refused() -> None:
    lost = Recovered(Identity(NodeId(1)), HardState(Term(1), NodeId(0), Index(3)), entries=(FOUNDING, *entries((2, 1))))
    raft = Raft(SMALL, lost, random.Random(1))

    assert [e.reason for e in raft.step() if isinstance(e, Stop)] == [StopReason.LOG_LOST]
