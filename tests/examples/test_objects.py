"""The examples of `raft_objects`, started as their users start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def ran(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_typed_bank() -> None:
    assert ran("typed_bank.py").splitlines() == [
        "ada has 500",
        "refused on every replica: ada",
        "ada 300 bob 200",
        "one node pays interest, with token 1",
        "closed in order",
    ]


@pytest.mark.slow
def test_job_queue_survives_a_killed_worker() -> None:
    told = ran("job_queue.py")

    assert "node 2 was killed" in told
    assert [told.count(f"node {number} sees all 30 jobs done") for number in (1, 2, 3)] == [1, 1, 1]
    assert told.count("ended in order") == 3
