"""The watchmen watched: every check of the simulator has been seen to fail, with words that name what is wrong.

The tests over the table in `planted`. A check that is added to `CHECKS` needs a plant there, or in
`test_simulator_probes`: a check that never failed is only a claim.
"""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from raft_core.effects import RoleName
from raft_core.entries import SnapshotMeta
from raft_core.events import CampaignRequested, Requested, Tick
from raft_core.ids import Incarnation, NodeId, RequestId
from raft_core.membership import AddLearner, Members
from raft_core.messages import AppendEntries, RequestVote
from raft_core.node.limits import MILLISECOND
from raft_core.recovered import Recovered
from raft_core.requests import ChangeMembership, Read
from raft_testing.checkers.cluster_time import ClusterTimeChecker
from raft_testing.checkers.safety import CHECKS, SafetyChecker, Watched
from raft_testing.rng import Rng
from tests.testing import planted_in_clusters, planted_in_cores
from tests.testing import planted_in_durability as planted_in_promises
from tests.testing import planted_in_state_machines as planted_in_machines
from tests.testing import test_simulator_probes as test_simulator_probes
from tests.testing.planted import SHOWN, SHOWN_BY_ONLOOKERS, Spoil
from tests.testing.planted_in_durability import given_a_snapshot, overtaken
from tests.testing.watched_cores import PLAIN, Stage

PLANTED: Final = (planted_in_clusters, planted_in_cores, planted_in_machines, planted_in_promises)
"""Modules that fill the table when they are imported."""

ALL: Final = [
    pytest.param(spoil, says, id=f"{check}: {spoil.__name__}")
    for check, plants in SHOWN.items()
    for spoil, says in plants
]


@pytest.mark.parametrize(("spoil", "says"), ALL)
def test_a_planted_mistake_is_found_by_the_check_for_it(
    spoil: Spoil, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_testing.checkers.safety.check", lambda raft: None)

    assert says in spoil(monkeypatch)


def test_every_check_has_been_seen_to_fail() -> None:
    """A new check needs a plant, or a line in the second table, which names tests of the probes."""
    assert set(SHOWN) | set(SHOWN_BY_ONLOOKERS) == set(CHECKS)
    assert not set(SHOWN) & set(SHOWN_BY_ONLOOKERS)
    for name in [name for names in SHOWN_BY_ONLOOKERS.values() for name in names]:
        assert callable(getattr(test_simulator_probes, name))


def test_cores_that_nobody_tampers_with_are_left_in_peace() -> None:
    stage = Stage(settings=attrs.evolve(PLAIN, snapshot_entries=3), purity=1.0)
    stage.elect(1)
    stage.propose(1, b"x", b"y")
    stage.deliver(lost=[3])
    stage.elect(2)
    stage.propose(2, b"z", request=2)
    stage.step(2, Requested(RequestId(3), ChangeMembership((AddLearner(NodeId(4)),))))
    stage.step(2, Requested(RequestId(4), Read()))
    stage.deliver()
    stage.restart(1)
    stage.elect(3)
    stage.deliver()

    assert stage.text == ""
    assert stage.safety.committed >= 8
    assert stage.safety.seen["elections won"] == 3
    assert stage.safety.seen["steps done twice"] > 20
    assert not stage.watched[2].answers.open


def test_a_log_end_that_was_overwritten_before_it_was_written_may_have_been_claimed() -> None:
    """While the disk has enough to do, an end waits for the next write. If that write has the next leader's entries in
    its place, the claim leaves with it: as if one write had appended both, one after the other."""
    stage = Stage(settings=attrs.evolve(PLAIN, max_persist_bytes=1, pre_vote=True, check_quorum=True))
    stage.elect(1)
    stage.seats[1].held = True
    stage.propose(1, b"fills the disk")
    stage.propose(1, b"waits", request=2)
    claimed = stage.raft(1).log.last
    for node in [1, 2, 3] * 2 * PLAIN.election_ticks:
        stage.step(node, Tick())
        stage.network.clear()
    stage.step(1, CampaignRequested())
    assert stage.raft(1).role.name is RoleName.PRE_CANDIDATE
    assert stage.raft(1).server.outbox.written_last < claimed.index
    stage.step(2, CampaignRequested())
    stage.deliver(to=[2, 3])
    stage.network = [sent for sent in stage.network if isinstance(sent[2], AppendEntries)]
    stage.deliver()
    stage.flush(1)

    claims = [message.last for *_, message in stage.network if isinstance(message, RequestVote)]
    assert claimed in claims
    assert stage.text == ""


def test_a_log_that_is_replaced_by_a_snapshot_as_it_must_be_is_no_violation() -> None:
    stage, meta = overtaken()
    given_a_snapshot(stage, meta)
    stage.flush(3)

    assert stage.text == ""
    assert stage.watched[3].restore_at == meta.index


# Founding.


def founding(*disks: int) -> Recovered:
    """The disk of node 1 once it has written the first entry of a cluster of nodes 1 … with these disks."""
    members = Members.initial(
        range(1, len(disks) + 1), incarnations={NodeId(n): Incarnation(disk) for n, disk in enumerate(disks, 1)}
    )
    return Recovered.fresh(1, members)


def checker_of(*disks: int) -> tuple[SafetyChecker, list[Watched]]:
    safety = SafetyChecker(Rng(1), 0.0)
    return safety, [safety.watch(NodeId(n), Incarnation(disk)) for n, disk in enumerate(disks, 1)]


def written(safety: SafetyChecker, watched: Watched, found: Recovered) -> str:
    watched.stable.load(found)
    safety.founded(watched, found)
    return "" if safety.violation is None else safety.violation.text


def test_founders_write_the_same_first_entry() -> None:
    safety, (one, two) = checker_of(11, 22)
    assert written(safety, one, founding(11, 22)) == ""
    assert written(safety, two, founding(11, 22)) == ""
    assert safety.committed == 1
    assert "node 2 wrote another first entry" in written(safety, two, founding(99, 22))


def test_a_founder_writes_for_its_own_disk() -> None:
    safety, (one, _) = checker_of(11, 22)
    assert "node 1 was founded with another disk" in written(safety, one, founding(99, 22))


def test_a_first_entry_is_forgotten_with_the_only_disk_that_held_it_and_not_with_one_of_two() -> None:
    safety, (one, two) = checker_of(11, 22)
    assert written(safety, one, founding(11, 22)) == ""
    safety.lost(one)
    assert safety.committed == 0
    again = safety.watch(NodeId(1), Incarnation(99))
    assert written(safety, again, founding(99, 22)) == ""
    assert written(safety, two, founding(99, 22)) == ""
    safety.lost(again)
    assert safety.committed == 1
    assert "wrote another first entry" in written(safety, safety.watch(NodeId(1), Incarnation(77)), founding(77, 22))


def test_first_entry_that_a_snapshot_covers_is_not_forgotten() -> None:
    safety, (one, two) = checker_of(11, 22)
    found = founding(11, 22)
    assert written(safety, one, found) == written(safety, two, found) == ""
    first = found.entries[0]
    meta = SnapshotMeta(first.index, first.term, Members.decode(first.data))
    two.stable.load(attrs.evolve(found, entries=(), snapshot=meta))

    safety.lost(one)

    assert safety.committed == 1


def test_time_that_two_leaders_give_at_different_moments_is_no_gain() -> None:
    """The new leader is 5 ms behind the old one, which does not know of it yet and is the first to give 40 ms."""
    said, now = list[str](), [0]
    times = ClusterTimeChecker(lambda: now[0], said.append, lambda: 1)
    times.alike = True
    told = [(0, 10), (20, 25), (30, 40), (35, 40)]
    for moment, time in told:
        now[0] = moment * MILLISECOND
        times.told(time * MILLISECOND)
    for index, time in enumerate((10, 25, 40), 1):
        times.applied(index, b"\0" + (time * MILLISECOND).to_bytes(8, "little"), "node 1")
    assert said == []
