"""Docstrings and documents use the glossary's words, and none that were given up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
FORBIDDEN = {  # the word in bold in the glossary: the pattern of all its forms
    "host": r"\bhosts?\b(?!:port| and port)",  # the computer of an address is a host
    "salvage": r"\bsalvag\w*",
    "loyalty": r"\bloyal\w*",
    "nobody": r"\bnobody\b",
    "somebody": r"\bsomebody\b",
    "everybody": r"\beverybody\b",
    "what lives here": r"\blives? here\b",
}


def texts() -> Iterator[tuple[str, str]]:
    """Yield every docstring of the packages and every page, without code."""
    for package in sorted(ROOT.glob("raft_*")):
        for path in sorted(package.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield str(path.relative_to(ROOT)), re.sub(r"`[^`]*`", "", ast.get_docstring(node) or "")
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        if page not in (GLOSSARY, ROOT / "CHANGELOG.md"):
            text = re.sub(r"^```.*?^```|^    [^\n]*$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
            yield page.name, re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


def test_words_that_were_given_up_do_not_come_back() -> None:
    found = [
        f"{where}: {match.group()}"
        for where, text in texts()
        for pattern in FORBIDDEN.values()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert found == []


def test_glossary_names_the_words_that_were_given_up() -> None:
    text = GLOSSARY.read_text("utf-8")
    table = {cell for row in re.findall(r"^\| .* \| .* \| (.*) \|$", text, re.MULTILINE) for cell in cell_words(row)}
    prose = set(re.findall(r"\*\*([\w ]+)\*\*", text.rpartition("Also not in")[2]))

    assert table | prose == set(FORBIDDEN)


def cell_words(cell: str) -> set[str]:
    return set(re.findall(r"\*\*([\w ]+)\*\*", cell))


def test_glossary_is_in_order() -> None:
    terms = re.findall(r"^\| \*\*([\w -]+)\*\*", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    terms = [term.replace("-", "").lower() for term in terms]

    assert len(terms) > 45
    assert terms == sorted(terms)
