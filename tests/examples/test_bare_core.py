"""The example of the bare core: a kill, a restart, snapshots and a fourth node, in real processes."""

from __future__ import annotations

import pytest

from .processes import ended, line_with, started


@pytest.mark.slow
def test_bare_core_in_a_loop_of_selectors() -> None:
    story = started("bare_core.py")
    with ended(story):
        assert line_with(story, "thirty boxes:").endswith("stored total 465")
        assert line_with(story, "killed:").endswith("stored total 565")
        assert line_with(story, "a fourth node:").endswith("(1, 2, 3, 4)")
        assert line_with(story, "asked on each:").count("total 565") == 4
        assert line_with(story, "ended with").endswith("[0]")
        assert story.wait(20) == 0
