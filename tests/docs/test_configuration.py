"""The page about configuration names settings that exist, with the defaults of the classes."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from raft_core.node.config import NodeConfig
from raft_core.node.limits import MILLISECOND, SECOND, NodeLimits
from raft_core.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
TEXT = PAGE.read_text("utf-8")
CLASSES = {kind.__name__: kind for kind in (NodeConfig, NodeLimits, Settings)}
UNITS = {"KiB": 1024, "MiB": 1024**2, "s": SECOND, "ms": MILLISECOND}
ROWS = re.findall(r"^\|[^|]*\| `(\w+)\.(\w+)` \| `([^`]+)` \|", TEXT, re.MULTILINE)


def test_page_has_the_table_of_defaults() -> None:
    assert len(ROWS) > 10


@pytest.mark.parametrize(("kind", "field", "shown"), ROWS)
def test_default_is_that_of_the_class(kind: str, field: str, shown: str) -> None:
    number, _, unit = shown.partition(" ")
    wanted = {"True": True, "False": False}.get(number)

    default = getattr(attrs.fields(CLASSES[kind]), field).default

    assert default == (int(number) * UNITS.get(unit, 1) if wanted is None else wanted)


@pytest.mark.parametrize(("kind", "field"), sorted(set(re.findall(r"`(Node\w+|Settings)\.(\w+)`", TEXT))))
def test_named_setting_exists(kind: str, field: str) -> None:
    assert hasattr(CLASSES[kind], field) or field in {one.name for one in attrs.fields(CLASSES[kind])}
