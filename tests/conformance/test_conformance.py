"""The conformance driver passes what holds, fails what does not, and says which fact it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raft_core.entries import Entry, LogPosition
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.messages import (
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteKind,
    VoteReply,
)
from tests.conformance import scenarios
from tests.conformance.__main__ import judge, main
from tests.conformance.choices import CHOICES, Choice
from tests.conformance.driver import Driver

ONE, ANY = NodeId(1), MessageId(0)
EXAMPLES = Path(__file__).parent / "examples"


def lines_of(folder: str, *, everything: bool = False) -> tuple[bool, list[str]]:
    said: list[str] = []
    return judge(EXAMPLES / folder, said.append, everything=everything), said


def test_what_holds_passes_and_what_needs_a_missing_feature_is_skipped_never_passed() -> None:
    passed, said = lines_of("passing")
    assert passed
    assert said == [
        "passed  scenario_apply_in_order.json (8 facts)",
        "passed  scenario_apply_with_the_batch.json (5 facts)",
        "passed  scenario_hand_made_messages.json (14 facts)",
        "passed  scenario_one_entry_at_a_time.json (9 facts)",
        "passed  scenario_one_job_at_a_time.json (8 facts)",
        "skipped scenario_out_of_reach.json: needs levitation",
        "passed  scenario_restart_after_compaction.json (7 facts)",
        "passed  scenario_restart_from_the_log.json (7 facts)",
        "skipped scenario_sizes_in_bytes.json: needs sizes counted as the scenario does",
        "passed  scenario_twice_delivered.json (6 facts)",
        "passed  scenario_write_restart_read.json (12 facts)",
        "passed  quorum_cases.json (4 cases)",
        "passed  confchange_cases.json (3 cases)",
        "passed  linearizability_cases.json (1 cases)",
    ]


def test_what_does_not_hold_fails_with_step_node_field_wanted_and_got() -> None:
    passed, said = lines_of("failing", everything=True)
    assert not passed
    assert said[0].startswith("FAILED  scenario_breaks_the_driver.json: step 2 node 0 exception: wanted None, got ")
    assert said[1].startswith("FAILED  scenario_cut_short.json: ")
    assert said[2:5] == [
        "FAILED  scenario_wrong_fact.json: step 3 node 1 commit: wanted 99, got 6",
        "        step 3 node 3 role: wanted 'leader', got 'follower'",
        "FAILED  scenario_wrong_outcome.json: step 2 node 1 outcome: wanted None, got 'proposal_dropped'",
    ]
    assert [line.split(":")[0] for line in said[5:]] == [
        "FAILED  quorum_cases.json",
        "FAILED  confchange_cases.json",
    ]


def test_one_line_per_file_tells_how_many_more_facts_fail() -> None:
    _, said = lines_of("failing")
    assert said[2].endswith("wanted 99, got 6 (and 1 more)")
    assert len(said) == 6


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"type": "append", "entries": ["1/7 x"]},
            AppendEntries(Term(1), ONE, ANY, DATA, Index(6), Term(1), Index(6), ReadId(0), (Entry.make(7, 1, b"x"),)),
        ),
        ({"type": "append"}, AppendEntries(Term(1), ONE, ANY, DATA, Index(6), Term(1), Index(6), ReadId(0))),
        (
            {"type": "append", "term": 3, "prev": {"index": 5, "term": 1}, "commit": 0},
            AppendEntries(Term(3), ONE, ANY, DATA, Index(5), Term(0), Index(0), ReadId(0)),
        ),
        (
            {"type": "heartbeat"},
            AppendEntries(Term(1), ONE, ANY, HEARTBEAT, Index(6), Term(1), Index(6), ReadId(0), (), Index(6)),
        ),
        ({"type": "vote"}, RequestVote(Term(2), ONE, ANY, VoteKind.REAL, LogPosition(Index(6), Term(1)))),
        (
            {"type": "prevote", "term": 7, "last": {"index": 5, "term": 1}},
            RequestVote(Term(7), ONE, ANY, VoteKind.PRE, LogPosition(Index(5), Term(0))),
        ),
        ({"type": "vote_resp", "reject": True}, VoteReply(Term(1), ONE, Incarnation(0), ANY, VoteKind.REAL, False)),
        ({"type": "append_resp"}, AppendReply(Term(1), ONE, Incarnation(0), ANY, DATA, ReadId(0), Index(6))),
        ({"type": "timeout_now"}, TimeoutNow(Term(1), ONE, ANY)),
    ],
)
def test_fields_that_an_injected_message_leaves_out_are_those_of_a_correct_peer(
    fields: dict[str, object], message: Message
) -> None:
    driver = Driver()
    driver.add_nodes(3, [1, 2, 3], snapshot={"index": 5, "term": 1})
    driver.campaign(1)
    driver.stabilize("all")
    driver.inject({"from": 1, "to": 2, **fields})
    [packet] = driver.flight
    assert (packet.sender, packet.to) == (1, 2)
    assert msgspec.structs.replace(packet.payload, id=ANY) == message  # type: ignore[type-var]
