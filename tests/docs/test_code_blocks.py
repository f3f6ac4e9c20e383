"""Every block of code in the README and the guides is run by a test, or a mark says why not; every command is parsed.

A mark is a comment on the line before a block. `run`: `test_documents` runs it. `checked: NAME`, `cluster: NAME`,
`diff: NAME`, `example: NAME`, `file: NAME`, `fragment: NAME`, `output: NAME`, `ours`, `shell`: the test that names it
runs it. `not run: REASON`: nothing does.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache

import pytest

import benchmarks.__main__
import benchmarks.compare
import raft_kv.cli
import raft_testing.cli
from tests.docs.blocks import PAGES, ROOT, Block, blocks, simple_commands

CODE = {"python", "sh", "diff", "yaml"}
"""Languages of blocks that are run. The others show what is printed, or what is on a disk or a wire."""
NAMED = ("checked", "cluster", "diff", "example", "file", "fragment", "output")
PROGRAMS = {".", "NODE_PATH", "curl", "echo", "grep", "npm", "pip", "pytest", "redis-cli", "sleep"}
"""Programs of others that the pages call."""

ALL = [block for page in PAGES for block in blocks(page)]
code = pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.language in CODE],
    ids=lambda block: f"{block.page.stem}-{block.text.splitlines()[0][:40]}",
)
shell = pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.language == "sh"],
    ids=lambda block: f"{block.page.stem}-{block.text.splitlines()[0][:40]}",
)


@cache
def literals() -> frozenset[str]:
    """Return every text that stands in the tests."""
    files = [file for folder in ("docs", "objects", "kv") for file in (ROOT / "tests" / folder).rglob("test_*.py")]
    trees = [ast.walk(ast.parse(file.read_text("utf-8"))) for file in files if file.name != "test_code_blocks.py"]
    return frozenset(node.value for tree in trees for node in tree
                     if isinstance(node, ast.Constant) and isinstance(node.value, str))  # fmt: skip


def named(block: Block) -> bool:
    """Whether a test names the block: `file: bank.py` by "bank.py", `diff: jobs.py as clock` by both names."""
    kind, _, name = block.mark.partition(": ")
    if block.mark in ("run", "ours", "shell"):
        return any(block.mark in text for text in literals())
    whole = {block.mark, name} & literals()
    parts = [part.removeprefix("python ").split(" ")[0] for part in name.split(" as ")]
    return kind in NAMED and bool(whole or all(part in literals() for part in parts))


def test_pages_have_blocks() -> None:
    assert len([block for block in ALL if block.language in CODE]) > 60
    assert {block.page.name for block in ALL} >= {"README.md", "tutorial.md", "objects.md", "adapters.md"}


@code
def test_block_is_run_by_a_test_or_says_why_not(block: Block) -> None:
    where = f"{block.page.name}, line {block.line}"
    assert block.mark, f"{where}: mark the block with the test that runs it, or `<!-- not run: why -->`"
    if block.mark.startswith("not run: "):
        assert len(block.mark.split()) > 4, f"{where}: say why it is not run"
    else:
        assert named(block), f"{where}: no test names {block.mark!r}"


def test_mark_without_a_block_behind_it_is_a_mistake() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        marks = re.findall(rf"^ *<!-- ((?:{'|'.join(NAMED)}): .*|run|ours|shell|not run.*) -->\n(?! *```)", text, re.M)
        assert marks == [], page.name


# Commands.


def check_command(words: list[str], block: Block) -> None:
    """Fail if the program would refuse its arguments."""
    program, arguments = words[0].rpartition("/")[2], words[1:]
    if program == "raft-kv":
        raft_kv.cli._parser().parse_args(arguments)
    elif program in ("python", "python3") and arguments[0] == "-m":
        match arguments[1]:
            case "raft_testing":
                raft_testing.cli.parser().parse_args(arguments[2:])
            case "benchmarks" if arguments[2:3] == ["compare"]:
                benchmarks.compare.command_line().parse_args(arguments[3:])
            case "benchmarks":
                benchmarks.__main__.command_line().parse_args(arguments[2:])
            case module:
                assert importlib.util.find_spec(module) is not None, module
    elif program == "python":
        assert any(other.mark == f"file: {arguments[0]}" for other in ALL if other.page == block.page), arguments[0]
    else:
        assert program in PROGRAMS or words[0] in PROGRAMS, f"which program is {program}?"


@shell
def test_commands_of_a_block_are_accepted_by_their_programs(block: Block) -> None:
    found = list(simple_commands(block.text))

    assert found
    for words in found:
        check_command(words, block)


def test_commands_are_taken_apart() -> None:
    text = "A=1 python3 -m venv .venv && .venv/bin/raft-kv demo  # so\n"
    text += 'echo "$(raft-kv hash-password) x" > file | grep \\\n y'

    assert [words[0] for words in simple_commands(text)] == ["python3", ".venv/bin/raft-kv", "echo", "grep", "raft-kv"]


@pytest.mark.parametrize("command", ["raft-kv serve --no-such-flag", "python -m raft_testing nothing", "unknown -x"])
def test_wrong_command_is_found(command: str) -> None:
    block = Block(PAGES[0], 1, "sh", "", command)
    (words,) = simple_commands(command)
    with pytest.raises((SystemExit, AssertionError)):
        check_command(words, block)
