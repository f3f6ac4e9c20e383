"""The examples of `raft_objects`, started as their users start them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from raft_kv.demo.cluster import free_ports

EXAMPLES = Path(__file__).parents[2] / "examples"


def ran(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_typed_bank() -> None:
    assert ran("typed_bank.py", *map(str, free_ports(3))).splitlines() == [
        "ada has 500",
        "refused on every replica: ada",
        "ada 300 bob 200",
        "one node pays interest, with token 1",
        "closed in order",
    ]


@pytest.mark.slow
def test_job_queue_survives_a_killed_worker() -> None:
    told = ran("job_queue.py", "--ports", ",".join(map(str, free_ports(3))))

    assert "node 2 was killed" in told
    assert [told.count(f"node {number} sees all 30 jobs done") for number in (1, 2, 3)] == [1, 1, 1]
    assert told.count("ended in order") == 3


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example_needs_no_other_example_and_no_server(path: Path) -> None:
    """An example is copied as it is, and runs with the extra that the README names for it."""
    tree = ast.parse(path.read_text("utf-8"))
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}

    assert {name.partition(".")[0] for name in named} & {"raft_kv", "raft_testing", "tests", "examples"} == set()
