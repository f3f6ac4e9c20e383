"""The demo itself, told once, and a few rounds of killing: real processes, real disks."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raft_kv.cli import main
from raft_kv.demo.admin import Operator
from raft_kv.demo.cluster import Cluster, Member
from raft_kv.demo.scenarios import DemoOptions, _Story
from raft_kv.node_client import wait_until
from tests.adapters.kill_rounds import play_round

pytestmark = pytest.mark.slow


def test_the_demo_kills_the_leader_and_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["demo", "--seconds", "4", "--clients", "4", "--data", str(tmp_path / "demo")])
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
    status = main([*arguments, "--data", str(tmp_path / "demo")])
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
    assert main(["demo", "--data", str(tmp_path)]) != 0
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_demo_that_dies_leaves_no_server_and_no_directory(tmp_path: Path, death: signal.Signals) -> None:
    command = [sys.executable, "-m", "raft_kv", "demo", "--seconds", "60", "--clients", "1"]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, start_new_session=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b"was elected" in line:
                break
        (directory,) = tmp_path.glob("raft-kv-demo-*")
        locks = list(directory.glob("node-*/*"))
        assert locks
        demo.send_signal(death)
        demo.wait(20)
    assert wait_until(lambda: not list(tmp_path.iterdir()), 20.0), "the guard removes it when the last server is gone"


def test_node_that_has_restored_nothing_is_shown_as_starting(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.members[1] = Member(1, 1, 2, tmp_path / "node-1")
    story = _Story(DemoOptions(), cluster)
    status = {"role": "follower", "term": 0, "commit": 0, "applied": 0, "keys": 0}
    rows = [story._row(1, status), story._row(1, {**status, "commit": 7, "applied": 7, "term": 2}), story._row(1, None)]

    assert [(row.role, row.known) for row in rows] == [("starting", False), ("follower", True), ("down", False)]


def test_operator_shows_the_nodes_while_it_waits(tmp_path: Path) -> None:
    looks: list[int] = []
    operator = Operator(Cluster(tmp_path), lambda _: None, lambda: looks.append(1))
    operator._wait(lambda: len(looks) > 2, "never")

    assert len(looks) == 3
