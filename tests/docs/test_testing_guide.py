"""The guide to testing does what it says: its example finds the planted bug, and the mended one passes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.blocks import fragment


def test_the_example_of_the_guide_finds_the_planted_bug(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    names = ("machine", "fire", "mended", "smaller", "own object", "mended object")
    machine, fire, mended, smaller, own_object, mended_object = (fragment("testing.md", name) for name in names)

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
    exec(compile(fragment("testing.md", "ticks"), "ticks", "exec"), {})
