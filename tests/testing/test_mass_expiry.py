"""Keys that die in masses and huge results in the simulator; each check is shown to see a planted mistake."""

from __future__ import annotations

import attrs
import pytest

from raft_core.ids import Index
from raft_core.node import job_runner as work_module
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Profile
from raft_testing.sim.runner import SeedReport, run_seed
from raft_testing.workloads.mass_expiry import ExpiringMachine, ExpiringWorkload
from tests.testing.test_simulator_prepare import SHORT

SEEDS = (1, 2)


def run(seed: int, machine: type[ExpiringMachine] = ExpiringMachine, profile: Profile = SHORT) -> SeedReport:
    return run_seed(seed, open_store=open_file_store, machine=machine, workload=ExpiringWorkload, profile=profile)


def found(machine: type[ExpiringMachine] = ExpiringMachine, profile: Profile = SHORT) -> str:
    """Return the first violation of a few seeds."""
    for seed in range(1, 9):
        report = run(seed, machine, profile)
        if report.failed:
            return report.violation
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_masses_of_keys_that_die_and_huge_results_do_no_harm(seed: int) -> None:
    report = run(seed)

    assert not report.failed, report.violation
    assert report.answered > 20


class CountsTheDead(ExpiringMachine):
    """Items that are dead and not freed yet are counted."""

    def alive(self, group: str) -> int:
        return super().alive(group) + sum(self._dead[:1])


class FreesAtOnce(ExpiringMachine):
    """All dead items are freed in one go."""

    def free(self) -> int:
        freed, self._dead = sum(self._dead), []
        return freed


class FreesByItself(ExpiringMachine):
    """How many are freed depends on how long this process has lived."""

    calls = 0

    def free(self) -> int:
        self.calls += 1
        return super().free() if self.calls % 2 else 0


@pytest.mark.parametrize("machine", [CountsTheDead, FreesAtOnce, FreesByItself])
def test_mistakes_of_a_machine_that_frees_in_portions_are_found(machine: type[ExpiringMachine]) -> None:
    assert found(machine)


def test_a_huge_result_that_is_dropped_although_a_client_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = work_module._Applied.add_wanted

    def dropping(applied: work_module._Applied, index: Index, result: bytes) -> None:
        before(applied, index, result if len(result) < 20_000 else b"")

    monkeypatch.setattr(work_module._Applied, "add_wanted", dropping)
    assert found()


def test_reports_that_hold_more_than_they_may_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "_MOST_RESULT_BYTES", 10**9)
    monkeypatch.setattr("raft_testing.sim.workers.MOST_HELD", 300_000)
    many = attrs.evolve(SHORT, clients=30, operations=600)  # so that one report holds several huge results
    assert found(profile=many)
