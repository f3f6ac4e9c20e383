"""Garbage collection in a server: rare, and blind to what existed at its start."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from raft_kv.garbage import YOUNG, settle


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_nothing_that_exists_at_the_start_is_visited_later() -> None:
    before = len(gc.get_objects())
    settle()
    assert before > 10_000
    assert len(gc.get_objects()) < before / 10
    assert gc.get_freeze_count() > before / 2


def test_a_thousand_requests_in_flight_cause_no_collection() -> None:
    """Each is a list of words, as a client's pipeline makes them."""
    settle()
    seen: list[str] = []
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    try:
        for _ in range(20):
            requests = [[b"SET", b"key", b"value"] for _ in range(YOUNG // 4)]
            del requests
    finally:
        gc.callbacks.pop()
    assert not seen
