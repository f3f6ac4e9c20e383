"""Every script happens as it was recorded; the language says where a script is wrong; recordings excuse nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import __main__ as command
from tests.scenarios import language
from tests.scenarios.language import perform, scripts


@pytest.mark.parametrize("file", scripts(), ids=lambda file: file.stem)
def test_the_script_happens_as_it_was_recorded(file: Path) -> None:
    difference = command.compare(file)
    assert not difference, (
        f"{file.name} happens otherwise than recorded. If that is right, record it again with "
        f"`python -m tests.scenarios --record {file.stem}` and review the diff:\n{difference}"
    )


def test_there_are_enough_scripts_and_each_tells_its_point_and_expects_something() -> None:
    files = scripts()
    assert len(files) >= 40
    for file in files:
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# "), f"{file.name} does not say what it shows"
        assert any(line.startswith("expect ") for line in lines), f"{file.name} expects nothing"


def test_a_failed_expectation_names_its_line_and_what_was_found() -> None:
    with pytest.raises(AssertionError, match=r"line 3, 'expect 1 leader'.*follower"):
        perform("# nobody asked anybody\ncluster 3\nexpect 1 leader\n")


@pytest.mark.parametrize(
    "wrong",
    [
        "expect 1 term 2",
        "expect 1 machine x",
        "expect 2 voters 1 2",
        "expect one leader",
        "expect request 1 applied",
        "expect 1 sees 2 replicate",
        "expect 1 stopped log_lost",
        "expect 1 alarm disk_stall",
        "expect 1 asked 2",
        "expect 1 brilliant",
    ],
)
def test_every_expectation_can_fail(wrong: str) -> None:
    with pytest.raises(AssertionError, match="line 2"):
        perform(f"cluster 3\n{wrong}\n")


def test_unequal_nodes_are_not_the_same_and_a_busy_network_is_not_silent() -> None:
    with pytest.raises(AssertionError, match="expect same"):
        perform("cluster 3 pre_vote=no\ncampaign 1\ndeliver\npropose 1 x\nexpect same 1 2\n")
    with pytest.raises(AssertionError, match="expect silence"):
        perform("cluster 3\ncampaign 1\nexpect silence\n")


def test_performing_twice_tells_the_same_and_old_narration_is_replaced() -> None:
    once = perform("cluster 3\ncampaign 1\n    an old and wrong line\ndeliver\nshow\n")
    assert "an old and wrong line" not in once
    assert perform(once) == once
    assert "now leader in term 2" in once


def test_the_command_shows_differences_records_them_and_never_records_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("# x\ncluster 1\ncampaign 1\nexpect 1 leader\n")
    bad.write_text("# x\ncluster 1\nexpect 1 leader\n")
    monkeypatch.setattr(command, "scripts", lambda: language.scripts(tmp_path))

    assert command.main(["good"]) == 1
    assert "+    1 asked to campaign" in capsys.readouterr().out
    assert command.main(["--record"]) == 1
    assert "bad.txt: line 3" in capsys.readouterr().out
    assert bad.read_text() == "# x\ncluster 1\nexpect 1 leader\n"
    assert "1 asked to campaign" in good.read_text()
    assert command.main(["good"]) == 0
