"""Shared by the whole suite: hypothesis profiles, and the tests that stay in one process under `pytest -n`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests import profiles

_TIMED: Final = ("adapters", "compatibility", "examples", "kv")
"""Folders whose tests start processes and wait for them: two such tests at a time would wait for each other."""

profiles.register()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that start processes on one worker, one after the other; all others go where there is room."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if folder in _TIMED:
            item.add_marker(pytest.mark.xdist_group("processes"))
