"""The README's programs do what the README says: they are run as they stand there, as one cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .reader import Reader

SHORT = 20
LONGEST = 1_400
"""Words of two printed pages, with their code."""


def test_the_core_example_elects_a_leader_and_applies_everywhere(tmp_path: Path) -> None:
    example = Reader("embedding.md", tmp_path).block("example: core", "python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert "7 Success(first=3, results=(b'ok', b'ok'))" in done.stdout
    applied = [(3, b"hello"), (4, b"world")]
    assert f"leader {dict.fromkeys((1, 2, 3), applied)}" in done.stdout


def test_quick_starts_on_three_event_loops_are_one_cluster(tmp_path: Path) -> None:
    reader = Reader("../README.md", tmp_path)
    programs = ["on_asyncio.py", "on_trio.py", "on_threads.py"]
    for name in ["counter.py", *programs]:
        reader.save(name)

    with reader.terminals(*(f"python {name} {number}" for number, name in enumerate(programs, 1))) as nodes:
        totals = [nodes.line("total") for _ in programs]

    assert sorted(totals) == ["total 1", "total 2", "total 3"]


def test_quick_starts_and_the_page_are_short(tmp_path: Path) -> None:
    text = Reader("../README.md", tmp_path).text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        assert len(block.splitlines()) <= SHORT
    assert len(text.split()) <= LONGEST


def test_figures_are_those_of_the_page_about_performance(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (.*) \| ([\d.]+x) \| (.* to .*) \|$", Reader("../README.md", tmp_path).text, re.MULTILINE)
    page = Reader("performance.md", tmp_path).text

    assert len(rows) > 2
    for shape, ratio, spread in rows:
        assert re.search(rf"^\| {re.escape(shape)} \|.*\| {re.escape(f'{ratio} ({spread})')} \|", page, re.MULTILINE), (
            shape
        )
