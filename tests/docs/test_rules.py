"""docs/rules.md names functions and tests that exist, and has every rule that the code cites."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PACKAGES = [path.parent for path in sorted(ROOT.glob("raft_*/__init__.py"))]
TEXT = (ROOT / "docs" / "rules.md").read_text()
CITATION = re.compile(r"\brules?\s*\(?(\d[\d.]*(?:(?:,| and| or| to)+\s+\d+(?:\.\d+)*)*)", re.IGNORECASE)
NUMBERED = [line.split(" | ") for line in TEXT.splitlines() if re.match(r"\| \d+\.\d+ \|", line)]
NUMBERS = {row[0].removeprefix("| ") for row in NUMBERED}


def _cited(text: str) -> list[str]:
    """Return the numbers of all rules that `text` cites: "rules 3.3, 5.1" gives two. Figures have their own."""
    text = re.sub(r"\n\s*#?\s*", " ", text)  # a citation may go on in the next line
    return [
        number.rstrip(".")
        for match in CITATION.finditer(text)
        if not re.search(r"(figure|fig\.) \d+,?\s*$", text[: match.start()])
        for number in re.findall(r"[\d.]+", match.group(1))
    ]


def _prose(path: Path) -> Iterator[str]:
    """Yield the comments, one after the other in one text, and the strings of a module."""
    source = path.read_text()
    if "rule" not in source.lower():
        return
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    yield "\n".join(token.string for token in tokens if token.type == tokenize.COMMENT)
    for token in tokens:
        if token.type == tokenize.STRING:
            yield token.string


def test_every_rule_that_is_cited_exists() -> None:
    modules = [path for folder in [*PACKAGES, TESTS, ROOT / "examples"] for path in folder.rglob("*.py")]
    cited = {
        (number, str(path.relative_to(ROOT)))
        for path in modules
        if path != Path(__file__)
        for text in _prose(path)
        for number in _cited(text)
    }
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    cited |= {(number, page.name) for page in pages for number in _cited(page.read_text())}

    assert len(cited) > 40
    assert sorted((number, where) for number, where in cited if number not in NUMBERS) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(rule 2.10)", ["2.10"]),
        ("rules 3.4, 3.5.", ["3.4", "3.5"]),
        ("# as rule\n    # 4.1 has it", ["4.1"]),
        ("Rules 5.1 and 5.3", ["5.1", "5.3"]),
        ("figure 13 rule 7", []),
        ("a rule of 2015", []),
        ("rule 14", ["14"]),
    ],
)
def test_citations_are_found(text: str, numbers: list[str]) -> None:
    assert _cited(text) == numbers


def test_rules_are_numbered_in_order_and_say_what_taught_them() -> None:
    numbers = [tuple(map(int, row[0].removeprefix("| ").split("."))) for row in NUMBERED]

    assert len(numbers) > 80
    assert numbers == sorted(set(numbers))
    for row in NUMBERED:
        assert len(row) == 5, row
        assert all(len(cell) > 8 for cell in (row[1], row[2], row[4])), row


def test_every_test_that_the_rules_name_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)

    assert len(named) > 180
    for file, test in named:
        assert re.search(rf"^(async )?def {test}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_rule_has_a_test() -> None:
    heads = ("| **", "| rule", "| mistake")
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(heads)]

    assert len(rows) > 120
    for row in rows:
        assert "::test_" in row, row


def test_every_function_that_the_rules_name_exists() -> None:
    figure_2 = TEXT.partition("## Numbered rules")[0]
    functions = re.findall(r"^\| .*? \| (.*?) \| ", figure_2, re.MULTILINE)
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
