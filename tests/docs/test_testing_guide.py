"""The guide to testing does what it says: its example finds the planted bug, and the mended one passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_example_of_the_guide_finds_the_planted_bug(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    space: dict[str, Any] = {}
    machine, fire, mended, smaller, own_object, mended_object, _ = blocks

    exec(compile(machine, "machine", "exec"), space)
    exec(compile(fire, "fire", "exec"), space)
    assert space["report"].failures
    assert capsys.readouterr().out
    exec(compile(mended, "mended", "exec"), space)
    exec(compile(smaller, "smaller", "exec"), space)
    assert space["small"].failed
    assert "<html" in space["page"]
    exec(compile(own_object, "own object", "exec"), space)
    exec(compile(mended_object, "mended object", "exec"), space)


def test_core_in_the_guide_is_stepped_tick_by_tick() -> None:
    section = GUIDE.read_text(encoding="utf-8").partition("## Test your loop tick by tick")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)

    exec(compile(block, "ticks", "exec"), {})
