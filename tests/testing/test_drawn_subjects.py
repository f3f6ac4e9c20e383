"""Seeds draw their machine and workload, unless the caller names one, and draw the same ones again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest

from raft_core.node.limits import SECOND
from raft_core.sessions import SessionLimits
from raft_testing.__main__ import main, open_file_store
from raft_testing.faults.catalogue import Profile
from raft_testing.rng import Rng
from raft_testing.sim.random_config import draw_config, draw_settings
from raft_testing.sim.report import Report, explain
from raft_testing.sim.runner import SeedReport, run_seed
from raft_testing.sim.simulation import Simulation
from raft_testing.workloads.drawn import REGISTERS, SUBJECTS, Subject, draw_subject
from raft_testing.workloads.leases import LeaseMachine, LeaseWorkload
from raft_testing.workloads.mass_expiry import ExpiringMachine, ExpiringWorkload
from raft_testing.workloads.registers import RegisterMachine, RegisterWorkload

BRIEF = Profile(chaos=5 * SECOND, operations=20)


def brief(seed: int, **options: Any) -> SeedReport:
    return run_seed(seed, **{"open_store": open_file_store, "profile": BRIEF, "faults": frozenset(), **options})


def first_seed(subject: Subject) -> int:
    return next(seed for seed in range(1000) if draw_subject(seed) is subject)


def test_each_subject_has_its_share_of_seeds() -> None:
    drawn = Counter(draw_subject(seed).name for seed in range(2000))

    assert sum(subject.share for subject in SUBJECTS) == pytest.approx(1)
    assert {subject.name: drawn[subject.name] / 2000 for subject in SUBJECTS} == pytest.approx(
        {subject.name: subject.share for subject in SUBJECTS}, abs=0.03
    )
    assert {subject.machine for subject in SUBJECTS} >= {RegisterMachine, LeaseMachine, ExpiringMachine}


@pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
def test_drawn_run_is_the_run_with_that_subject_named(subject: Subject) -> None:
    seed = first_seed(subject)
    drawn = brief(seed, digest=True)
    named = brief(seed, digest=True, machine=subject.machine, workload=subject.workload)

    assert not drawn.failed, drawn.violation
    assert (drawn.drawn, named.drawn) == (subject.name, "")
    assert drawn.digest == named.digest == brief(seed, digest=True).digest


def test_named_machine_or_workload_is_not_replaced() -> None:
    seed = first_seed(SUBJECTS[1])

    registers = brief(seed, digest=True, machine=RegisterMachine, workload=RegisterWorkload)
    assert brief(seed, digest=True, machine=RegisterMachine).digest == registers.digest
    assert brief(seed, digest=True, workload=RegisterWorkload).digest == registers.digest
    assert registers.digest != brief(seed, digest=True).digest


def test_command_of_a_failure_draws_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    report = brief(first_seed(SUBJECTS[2]))
    failed = attrs.evolve(report, violation="planted")

    assert "--machine" not in failed.command
    assert report.drawn in explain(failed)
    assert main([*failed.command.split()[3:], "--workers", "1", "--details"]) == 0
    assert f"run with {report.drawn}" in capsys.readouterr().out


def test_subject_that_no_seed_drew_is_told_of_as_never_seen() -> None:
    report = Report((brief(first_seed(REGISTERS)),))
    named = Report((brief(3, machine=RegisterMachine, workload=RegisterWorkload),))

    missing = {f"run with {subject.name}" for subject in SUBJECTS} - {f"run with {REGISTERS.name}"}
    assert {what for what in report.never_seen if what.startswith("run with")} == missing
    assert not any(what.startswith("run with") for what in named.never_seen)


def test_pieces_are_not_too_small_for_huge_results() -> None:
    """A snapshot holds the results of all sessions: in chunks of 64 bytes it never arrives."""
    for seed in range(50):
        settings = draw_settings(Rng(seed), BRIEF)
        config = draw_config(Rng(seed), BRIEF, settings, ExpiringWorkload().result_bytes)
        assert min(config["chunk_bytes"], config["transmit_bytes"]) >= 7500
        assert config["request_bytes"] >= 600_000


def test_model_is_given_the_command_that_was_carried_out_after_a_full_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is told to say which answers it has sends its command in another form."""
    monkeypatch.setattr("raft_testing.sim.simulation.draw_limits", lambda rng: SessionLimits(max_results=1))
    simulation = Simulation(
        first_seed(SUBJECTS[1]),
        machine=LeaseMachine,
        workload=LeaseWorkload(),
        open_store=open_file_store,
        profile=attrs.evolve(BRIEF, operations=60),
        only=frozenset(),
    )

    assert simulation.run() is None
    assert simulation.world.seen["client told which answers it has"] > 5
