"""Clusters of two releases: nodes change theirs at any restart, and an operator enables what only the newer one has."""

from __future__ import annotations

from collections import Counter

import pytest

from raft_core import raft
from raft_core.node import features
from raft_core.node.limits import SECOND
from raft_core.validation import malformed
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.releases import FEATURE
from raft_testing.sim.runner import run_seed

FAULTS = frozenset({Fault.RELEASES, Fault.KILL, Fault.PARTITION, Fault.GROW, Fault.SHRINK, Fault.FORMING})
PROFILE = Profile(chaos=50 * SECOND, operations=60, fault_chance=1.0, mean_interval=6 * SECOND)


def ran(*seeds: int) -> tuple[list[str], Counter[str]]:
    """The violations of these seeds, and what happened in all of them."""
    seen: Counter[str] = Counter()
    violations = []
    for seed in seeds:
        report = run_seed(seed, open_store=open_file_store, profile=PROFILE, faults=FAULTS)
        seen.update(report.seen)
        violations += [report.violation] if report.violation else []
    return violations, seen


def test_no_node_meets_a_feature_that_it_lacks_whatever_happens() -> None:
    violations, seen = ran(2, 8)

    assert violations == []
    for event in (
        "feature enabled",
        "feature not enabled",
        "started with an older release",
        "older release did not start on its disk",
    ):
        assert seen[event] > 0, event


def test_a_node_that_takes_what_it_lacks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node of the leader asks nobody, and followers take any feature. One of the two checks would be enough."""
    monkeypatch.setattr(features, "missing_features", lambda required, known: ())
    monkeypatch.setattr(raft, "malformed", lambda message, _known=(): malformed(message, (FEATURE,)))

    violations, _ = ran(29)

    assert any("rule 9.14" in violation for violation in violations)
