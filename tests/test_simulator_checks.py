"""The watchmen watched: every check of the simulator has been seen to fail, with words that name what is wrong.

What lives here: the tests over the table in `planted`. A check that is added to `CHECKS` needs a plant there, or in
`test_simulator_onlookers`: a check that nobody has seen fail is only a claim.
"""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from raft_core.events import (
    ChangeRequested,
    ReadRequested,
)
from raft_core.ids import NodeId, RequestId
from raft_core.membership import AddLearner
from raft_core.testing.checks import CHECKS
from tests import (
    planted_in_clusters,
    planted_in_cores,
    planted_in_machines,
    planted_in_promises,
    test_simulator_onlookers,
)
from tests.planted import SHOWN, SHOWN_BY_ONLOOKERS, Spoil
from tests.watched_cores import PLAIN, Stage

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
    monkeypatch.setattr("raft_core.testing.checks.check", lambda raft: None)

    assert says in spoil(monkeypatch)


def test_every_check_has_been_seen_to_fail() -> None:
    """A new check needs a plant, or a line in the second table, which names tests of the onlookers."""
    assert set(SHOWN) | set(SHOWN_BY_ONLOOKERS) == set(CHECKS)
    assert not set(SHOWN) & set(SHOWN_BY_ONLOOKERS)
    for name in [name for names in SHOWN_BY_ONLOOKERS.values() for name in names]:
        assert callable(getattr(test_simulator_onlookers, name))


def test_cores_that_nobody_tampers_with_are_left_in_peace() -> None:
    stage = Stage(settings=attrs.evolve(PLAIN, snapshot_entries=3), purity=1.0)
    stage.elect(1)
    stage.propose(1, b"x", b"y")
    stage.deliver(lost=[3])
    stage.elect(2)
    stage.propose(2, b"z", request=2)
    stage.step(2, ChangeRequested(RequestId(3), (AddLearner(NodeId(4)),)))
    stage.step(2, ReadRequested(RequestId(4)))
    stage.deliver()
    stage.restart(1)
    stage.elect(3)
    stage.deliver()

    assert stage.text == ""
    assert stage.overseer.committed >= 8
    assert stage.overseer.seen["elections won"] == 3
    assert stage.overseer.seen["steps done twice"] > 20
    assert not stage.watched[2].answers.open
