"""Shared by all tests: hypothesis profiles, a time limit, and which tests stay in one process under `pytest -n`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from raft_core import COMPILED
from tests import profiles

_TIMED: Final = ("adapters", "compatibility", "examples", "kv")
"""Folders whose tests start processes and wait for them: two such tests at a time would wait for each other."""

_LONGEST: Final = float(os.environ.get("LONGEST_TEST", "900"))
"""Seconds after which a test that waits is ended: far more than any takes, so that none hangs for ever."""

profiles.register()


class TooLong(BaseException):
    """A test waits for something that does not come. Not an `Exception`, so that no code under test handles it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End each test, its fixtures included, after `LONGEST_TEST` seconds: the failure shows where it waits."""
    if threading.current_thread() is not threading.main_thread():
        return (yield)

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"{item.nodeid} takes more than {_LONGEST:g} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _ProcessesTogether(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Sends the tests that start processes to one worker, one after the other; all others go where there is room."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.removeprefix("tests/").partition("/")[0]
        return "processes" if folder in _TIMED else nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need interpreted modules where these are compiled."""
    if COMPILED:
        for item in items:
            if item.get_closest_marker("interpreted"):
                item.add_marker(pytest.mark.skip(reason="the modules of logic are compiled here"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ProcessesTogether:
    """Distribute the tests of `pytest -n` so that no two that start processes run at a time."""
    return _ProcessesTogether(config, log)
