"""The conformance driver passes what holds, fails what does not, and says which fact it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import scenarios
from tests.conformance.__main__ import judge, main
from tests.conformance.choices import CHOICES, Choice

EXAMPLES = Path(__file__).parent / "conformance" / "examples"


def lines_of(folder: str, *, everything: bool = False) -> tuple[bool, list[str]]:
    said: list[str] = []
    return judge(EXAMPLES / folder, said.append, everything=everything), said


def test_what_holds_passes_and_what_needs_a_missing_feature_is_skipped_never_passed() -> None:
    passed, said = lines_of("passing")
    assert passed
    assert said == [
        "skipped scenario_out_of_reach.json: needs levitation",
        "passed  scenario_twice_delivered.json (6 facts)",
        "passed  scenario_write_restart_read.json (12 facts)",
        "passed  quorum_cases.json (4 cases)",
        "passed  confchange_cases.json (3 cases)",
        "passed  linearizability_cases.json (1 cases)",
    ]


def test_what_does_not_hold_fails_with_step_node_field_wanted_and_got() -> None:
    passed, said = lines_of("failing", everything=True)
    assert not passed
    assert said[:3] == [
        "FAILED  scenario_wrong_fact.json: step 3 node 1 commit: wanted 99, got 6",
        "        step 3 node 3 role: wanted 'leader', got 'follower'",
        "FAILED  scenario_wrong_outcome.json: step 2 node 1 outcome: wanted None, got 'proposal_dropped'",
    ]
    assert [line.split(":")[0] for line in said[3:]] == [
        "FAILED  quorum_cases.json",
        "FAILED  confchange_cases.json",
    ]


def test_one_line_per_file_tells_how_many_more_facts_fail() -> None:
    _, said = lines_of("failing")
    assert said[0].endswith("wanted 99, got 6 (and 1 more)")
    assert len(said) == 4


def test_the_exit_status_tells_success_failure_and_a_folder_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(EXAMPLES / "passing")]) == 0
    assert main([str(EXAMPLES / "failing")]) == 1
    assert main([str(tmp_path)]) == 1
    assert "passed  quorum_cases.json" in capsys.readouterr().out


def test_a_difference_by_choice_has_to_be_exactly_what_the_choice_makes_it() -> None:
    scenario = scenarios.load(EXAMPLES / "failing" / "scenario_wrong_fact.json")
    ours = Choice("wrong_fact", 3, 1, "commit", 6, "for this test")
    other = Choice("wrong_fact", 3, 3, "role", "candidate", "for this test")
    verdict = scenarios.run(scenario, (ours, other))
    assert verdict.chosen == 1
    assert [str(failure) for failure in verdict.failures] == ["step 3 node 3 role: wanted 'candidate', got 'follower'"]


def test_a_listed_difference_that_is_none_fails_so_that_the_list_stays_true() -> None:
    scenario = scenarios.load(EXAMPLES / "failing" / "scenario_wrong_fact.json")
    needless = Choice("wrong_fact", 3, 2, "commit", 6, "for this test")
    verdict = scenarios.run(scenario, (needless,))
    assert any("unlist it" in str(failure) for failure in verdict.failures)


def test_every_choice_has_a_reason_and_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(choice.reason for choice in CHOICES)
    assert main(["--choices"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(CHOICES)
