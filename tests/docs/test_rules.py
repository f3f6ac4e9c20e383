"""The table of the rules names functions and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
TEXT = (ROOT / "docs" / "rules.md").read_text()


def test_every_test_that_the_rules_name_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)

    assert len(named) > 80
    for file, test in named:
        assert re.search(rf"^def {test}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_rule_has_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| **", "| rule"))]

    assert len(rows) > 80
    for row in rows:
        assert "::test_" in row, row


def test_every_function_that_the_rules_name_exists() -> None:
    functions = re.findall(r"^\| .*? \| (.*?) \| ", TEXT, re.MULTILINE)
    named = [name for cell in functions for name in re.findall(r"`([\w.]+)`", cell)]
    assert len(named) > 30

    sources = {path: ast.parse(path.read_text()) for path in (ROOT / "raft_core").rglob("*.py")}
    defined = {
        node.name
        for tree in sources.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    for name in named:
        assert name.rpartition(".")[2] in defined, name
