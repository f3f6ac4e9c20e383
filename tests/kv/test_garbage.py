"""Garbage collection in a server: rare, and blind to what existed at its start."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from raft_core.errors import DiskError
from raft_kv.garbage import MANY, YOUNG, opened, settle


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


@pytest.mark.parametrize(("entries", "excluded"), [(MANY, True), (MANY - 1, False)])
def test_a_long_log_is_never_visited(entries: int, excluded: bool) -> None:
    log: list[object] = []
    seen: list[str] = []

    @asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        log.extend([[] for _ in range(YOUNG * 4)])
        node = SimpleNamespace(status=SimpleNamespace(core=None))
        async with anyio.create_task_group() as group:
            group.start_soon(begin, node)
            yield node

    async def begin(node: SimpleNamespace) -> None:
        node.status.core = SimpleNamespace(first_index=1, last_index=1 + entries)

    async def serve() -> None:
        async with opened(opening()):
            assert gc.isenabled()
            assert not seen
            assert (gc.get_freeze_count() >= len(log)) == excluded

    gc.callbacks.append(lambda phase, info: seen.append(phase))
    try:
        anyio.run(serve)
    finally:
        gc.callbacks.pop()


def test_collections_go_on_if_the_node_does_not_open() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        raise DiskError
        yield

    async def serve() -> None:
        async with opened(opening()):
            pass

    with pytest.raises(DiskError):
        anyio.run(serve)
    assert gc.isenabled()
