"""A node measures its own work: durations by bucket, requests by outcome, changes of the leader."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

import pytest

from raft_core.effects import Indeterminate, Persist, Refusal, RefusalReason, RoleChanged, RoleName, Success
from raft_core.effects import UnknownReason as Why
from raft_core.ids import NO_INDEX, NO_NODE, Index, NodeId, Term, WriteId
from raft_core.membership import AddLearner
from raft_core.node.jobs import Lane
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.node.measured import BOUNDS, HistogramValue
from raft_core.node.meter import Histogram, Meter
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, Propose, Read, TransferLeadership
from tests.node.cluster import DISK, LATENCY, Cluster


def core(last: int, commit: int) -> Raft:
    """A core as far as a meter looks at it."""
    return cast(Raft, SimpleNamespace(log=SimpleNamespace(last_index=Index(last)), commit=Index(commit)))


def propose(meter: Meter, last: int, now: int) -> None:
    meter.has_proposed = True
    meter.look(core(last, 0), now, leads=True)


def test_duration_falls_into_first_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram()
    for duration in (0, 10_000, 10_001, 60 * SECOND, 60 * SECOND + 1):
        histogram.add(duration)
    counts = [0] * (len(BOUNDS) + 1)
    counts[0], counts[1], counts[-2], counts[-1] = 2, 1, 1, 1
    assert histogram.value == HistogramValue(tuple(counts), 120 * SECOND + 20_002)


def test_quantile_is_within_bucket_of_exact_one() -> None:
    histogram, rng = Histogram(), random.Random(5)
    durations = sorted(int(rng.lognormvariate(14, 1.5)) for _ in range(5000))
    for duration in durations:
        histogram.add(duration)
    value = histogram.value
    assert value.mean == sum(durations) / 5000
    for fraction in (0.1, 0.5, 0.9, 0.99):
        exact = durations[int(fraction * 5000)]
        bucket = next(place for place, bound in enumerate(BOUNDS) if exact <= bound)
        lower = BOUNDS[bucket - 1] if bucket else 0
        assert lower <= value.quantile(fraction) <= BOUNDS[bucket] * 1.0001


@pytest.mark.parametrize(("durations", "fraction", "expected"), [
    ((), 0.5, 0.0),
    ((15_000, 15_000), 0.5, 15_000.0),
    ((61 * SECOND,), 0.5, 60e9),
    ((5_000, 61 * SECOND), 1.0, 60e9),
])  # fmt: skip
def test_quantile_at_the_ends(durations: tuple[int, ...], fraction: float, expected: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    assert histogram.value.quantile(fraction) == expected


def test_since_leaves_what_was_added_later() -> None:
    histogram = Histogram()
    histogram.add(15_000)
    before = histogram.value
    histogram.add(3 * MILLISECOND)
    later = Histogram()
    later.add(3 * MILLISECOND)
    assert histogram.value.since(before) == later.value


def test_one_report_measures_every_write_that_it_covers() -> None:
    meter = Meter()
    for number, now in ((1, 0), (2, 1000), (3, 2000)):
        meter.ordered(Persist(WriteId(number)), now)
    meter.persisted(WriteId(2), 5000)
    assert (meter.value.append.count, meter.value.append.total) == (2, 5000 + 4000)
    meter.persisted(WriteId(3), 5000)
    assert (meter.value.append.count, meter.value.append.total) == (3, 12_000)


def test_proposals_of_lost_leadership_are_not_measured() -> None:
    meter = Meter()
    propose(meter, 5, 0)
    propose(meter, 9, 100)
    meter.look(core(9, 7), 1000, leads=True)
    meter.role_changed(RoleChanged(RoleName.FOLLOWER, Term(2), NO_NODE))
    meter.look(core(9, 9), 2000, leads=False)
    assert (meter.value.commit.count, meter.value.commit.total) == (1, 1000)


def test_room_for_uncommitted_batches_is_bounded() -> None:
    meter = Meter()
    for number in range(1, 10_001):
        propose(meter, number, 0)
    meter.look(core(10_000, 10_000), 1, leads=True)
    assert meter.value.commit.count == 4096


def test_leader_changes_count_terms_and_nodes_but_no_gaps() -> None:
    meter = Meter()
    for term, leader in ((1, 0), (1, 2), (1, 0), (1, 2), (2, 0), (2, 3), (3, 3)):
        meter.role_changed(RoleChanged(RoleName.FOLLOWER, Term(term), NodeId(leader)))
    assert meter.value.leader_changes == 3


def test_requests_are_counted_by_kind_outcome_and_reason() -> None:
    meter = Meter()
    meter.answered(Propose(b"x"), Success(Index(1), (b"",)), 10)
    meter.answered(Propose(b"x"), Refusal(RefusalReason.NO_LEADER), 20)
    meter.answered(Propose(b"x"), Indeterminate(Why.DEADLINE), 30)
    meter.answered(Read(query=b"x"), Success(NO_INDEX, (b"",)), 40)
    meter.answered(ChangeMembership((AddLearner(NodeId(3)),)), Success(NO_INDEX), 50)
    meter.answered(TransferLeadership(), Success(NO_INDEX), 60)
    value = meter.value
    assert value.requests == (
        ("members", "done", "", 1),
        ("read", "done", "", 1),
        ("transfer", "done", "", 1),
        ("write", "done", "", 1),
        ("write", "indeterminate", "deadline", 1),
        ("write", "refused", "no_leader", 1),
    )
    assert (value.writes.total, value.reads.total) == (60, 40)


def test_worker_times_go_to_their_lane() -> None:
    meter = Meter()
    meter.work.took(Lane.WRITE, 5)
    meter.work.took(Lane.APPLY, 7)
    meter.work.took(Lane.CHUNKS, 9)
    meter.work.stored_snapshot(11, 13)
    value = meter.value
    assert (value.sync.total, value.apply.total) == (5, 7)
    assert (value.snapshots, value.snapshot_duration, value.snapshot_bytes) == (1, 11, 13)


def test_leader_and_follower_measure_write_through_cluster() -> None:
    cluster = Cluster(3)
    cluster.start()
    leader = cluster.elect()
    before = {number: node.host.status.measured for number, node in cluster.nodes.items()}
    follower = cluster.followers()[0]
    cluster.wait(follower, follower.propose(b"hello"))
    measured = leader.host.status.measured
    commit = measured.commit.since(before[leader.id].commit)
    append = measured.append.since(before[leader.id].append)
    assert commit.count == 1
    assert commit.mean >= DISK + 2 * LATENCY  # to a follower, its disk, and back
    assert append.count >= 1
    assert append.mean >= DISK
    assert measured.requests == ()  # the caller is with the follower
    asked = follower.host.status.measured
    assert asked.requests == (("write", "done", "", 1),)
    assert asked.writes.mean >= commit.mean + 2 * LATENCY
    assert asked.commit.count == 0
    assert asked.append.since(before[follower.id].append).count >= 1
    assert asked.leader_changes == measured.leader_changes >= 1
