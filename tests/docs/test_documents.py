"""Documents name what exists: links lead somewhere, names are defined, commands parse, blocks of Python run."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import pkgutil
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import raft_kv.cli
import raft_testing.cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
HISTORY = "CHANGELOG.md"  # it names what is gone
ELSEWHERE = {  # names of other projects, of the operating system and of commands
    "LeaseMachine", "ExpiringMachine", "NoBackoff", "OnceClient", "Counters", "MendedCounters", "Counting",
    "TrioToken", "run_sync_soon",
}  # fmt: skip

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inline(page: Path) -> list[str]:
    """Return what stands in backticks within the prose."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


@cache
def defined() -> frozenset[str]:
    """Return every name that the packages, tests and benchmarks define: classes, functions, fields, constants."""
    sources = (
        path for folder in [*ROOT.glob("raft_*"), ROOT / "tests", ROOT / "benchmarks"] for path in folder.rglob("*.py")
    )
    found = (re.findall(r"\b(?:class|def) (\w+)|\b(\w+)\s*[:=]", path.read_text("utf-8")) for path in sources)
    return frozenset(name for pairs in found for pair in pairs for name in pair)


def commands(page: Path) -> Iterator[str]:
    """Yield the command lines in the blocks of a page."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    yield from re.findall(r"^(?:    |\t)?((?:python -m \w|raft-kv )[^\n]*)$", text, re.MULTILINE)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pages
def test_files_in_the_text_exist(page: Path) -> None:
    if page.name == HISTORY:
        return
    for code in inline(page):
        if re.fullmatch(r"(raft_\w+|tests|docs|examples|benchmarks|\.ci)/[\w/.]*", code):
            assert (ROOT / code).exists(), code
        for test in re.findall(r"\btest_\w+$", code):
            assert test in defined() or (ROOT / code).exists(), code


@pages
def test_names_in_the_text_are_defined(page: Path) -> None:
    if page.name == HISTORY:
        return
    known = defined() | ELSEWHERE | set(dir(builtins))
    for code in inline(page):
        if re.fullmatch(r"raft_\w+(\.\w+)+", code):
            pkgutil.resolve_name(code)
        elif match := re.fullmatch(r"((?:[A-Z][a-z0-9]+){1,}[A-Z]?\w*)((?:\.\w+)*)(\(.*\))?", code):
            parts = [match.group(1), *match.group(2).split(".")[1:]]
            if len(parts) > 1 or len(re.findall("[A-Z]", parts[0])) > 1:
                assert all(part in known for part in parts), code


@pages
def test_commands_parse(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words[:3] == ["python", "-m", "raft_testing"]:
            raft_testing.cli.parser().parse_args([word.replace("FILE", "trace.json") for word in words[3:]])
        elif words[0] == "python":
            assert importlib.util.find_spec(words[2]), line
        elif len(words) > 2:
            raft_kv.cli._parser().parse_args(words[1:])


@pages
def test_blocks_of_python_compile(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pages
def test_blocks_marked_to_run_run(page: Path) -> None:
    text = page.read_text("utf-8")
    for block in re.findall(r"^<!-- run -->\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, page.name, "exec", dont_inherit=True), {})
