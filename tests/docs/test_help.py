"""`help()` of the main classes is short enough to be read, and names every setting."""

from __future__ import annotations

import pydoc

import attrs
import pytest

import raft_anyio
import raft_core
import raft_trio
from raft_core.node.limits import NodeLimits
from raft_core.settings import Settings
from raft_objects import Objects, Replicated

TWO_SCREENS = 150
CLASSES: list[type] = [
    raft_anyio.Node,
    raft_trio.Node,
    raft_anyio.NodeConfig,
    NodeLimits,
    Settings,
    raft_core.Raft,
    raft_core.StateMachine,
    Objects,
    Replicated,
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_help_fits_on_two_screens_and_shows_every_setting(kind: type) -> None:
    text = pydoc.plain(pydoc.render_doc(kind))
    assert len(text.splitlines()) <= TWO_SCREENS
    if attrs.has(kind):
        for field in attrs.fields(kind):
            if field.init:
                assert f"{field.alias}: " in text
