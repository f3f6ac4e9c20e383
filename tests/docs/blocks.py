"""The fenced blocks of a page, each with the mark that says who runs it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
_MADE: Final = ROOT / "docs" / "reference"
"""Pages that the site is built with: signatures from docstrings, which nothing runs."""
PAGES: Final = (
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if _MADE not in page.parents),
)
_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>[\w{}]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_KEYWORDS: Final = ("do", "until")
"""Words of the shell that stand before a command."""
_OF_THE_SHELL: Final = ("done", "export", "for")
_MARK: Final = re.compile(r"<!-- (.*) -->\n\Z")


@attrs.frozen
class Block:
    """A block. `mark` is the comment on the line before it; empty without one."""

    page: Path
    line: int
    language: str
    mark: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    whole = page.read_text("utf-8")
    for found in _FENCE.finditer(whole):
        before = whole[: found.start()]
        mark = _MARK.search(before)
        text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.M)
        yield Block(page, before.count("\n") + 1, found["language"], mark[1] if mark else "", text)


def fragment(page: str, name: str) -> str:
    """Return the block of a page of `docs` with the mark `fragment: NAME`."""
    (found,) = [block.text for block in blocks(ROOT / "docs" / page) if block.mark == f"fragment: {name}"]
    return found


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command: also those behind `&&` and `|`, and within `$(...)`."""
    for line in text.replace("\\\n", " ").splitlines():
        inner = re.findall(r"\$\(([^)]*)\)", line)
        for part in [re.sub(r"\$\([^)]*\)", "X", line), *inner]:
            lexer = shlex.shlex(part.replace(" 2> ", " > "), posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word not in (";", "&&", "|", "||", "&"):
                    words.append(word)
                    continue
                words = list(takewhile(lambda each: each not in ("<", ">", ">>", "2>"), words))
                while words and (words[0] in _KEYWORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
                    words.pop(0)
                if words and words[0] not in _OF_THE_SHELL:
                    yield words
                words = []
