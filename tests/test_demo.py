"""The demo itself, told once, and a few rounds of killing: real processes, real disks."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from raft_kv.cli import main
from tests.kill_rounds import play_round

pytestmark = pytest.mark.slow


def test_the_demo_kills_the_leader_and_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["demo", "--seconds", "4", "--clients", "4", "--data-dir", str(tmp_path / "demo")])
    told = capsys.readouterr().out
    assert status == 0, told
    for sentence in ("SIGKILL to node", "has caught up to entry", "after stopping and starting all nodes"):
        assert sentence in told
    assert re.search(r"^lost +0$", told, re.MULTILINE)
    assert int(re.findall(r"writes acknowledged +(\d+)", told)[0]) > 100
    assert re.search(r"^failover +\d+ ms$", told, re.MULTILINE)


def test_the_members_can_all_change_under_load_without_a_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--story", "membership", "--seconds", "4", "--clients", "2"]
    status = main([*arguments, "--data-dir", str(tmp_path / "demo")])
    told = capsys.readouterr().out
    assert status == 0, told
    assert told.count("was removed") == 3
    assert re.search(r"^lost +0$", told, re.MULTILINE)


@pytest.mark.parametrize("seed", [11, 12])
def test_a_killed_node_comes_back_with_every_acknowledged_write(tmp_path: Path, seed: int) -> None:
    result = play_round(tmp_path / "round", random.Random(seed))
    assert result.acknowledged > 0
    assert result.lost == 0


def test_a_demo_that_makes_no_sense_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--nodes", "2"]) != 0
    assert "at least 3 nodes" in capsys.readouterr().err
    (tmp_path / "something").touch()
    assert main(["demo", "--data-dir", str(tmp_path)]) != 0
    assert "not empty" in capsys.readouterr().err
