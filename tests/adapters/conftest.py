"""Runs every test of the conformance suite against both adapters, on every event loop that they support.

The list of loops, and how a plain async function that asks for a `cluster` is run on each of them.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import pytest

import raft_anyio
import raft_trio

from .kit import Cluster, OpenNode
from .threads_face import open_threads_node


@attrs.frozen
class Loop:
    """An adapter on an event loop."""

    name: str
    open_node: OpenNode
    backend: str
    options: dict[str, Any] = attrs.field(factory=dict)


LOOPS: Final = (
    Loop("raft_trio", raft_trio.open_node, "trio"),
    Loop("raft_anyio-asyncio", raft_anyio.open_node, "asyncio"),
    Loop("raft_anyio-uvloop", raft_anyio.open_node, "asyncio", {"use_uvloop": True}),
    Loop("raft_anyio-trio", raft_anyio.open_node, "trio"),
)


THREADS: Final = Loop("threads", open_threads_node, "trio")
"""The example from the documentation, for those tests that are marked for it."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "also_threads: the adapter for plain threads passes this test too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("also_threads") is not None
        loops = (*LOOPS, THREADS) if marked else LOOPS
        metafunc.parametrize("loop", loops, indirect=True, ids=[loop.name for loop in loops])


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Loop:
    """The adapter and event loop under test."""
    chosen = request.param
    assert isinstance(chosen, Loop)
    if chosen.options:
        pytest.importorskip("uvloop")
    return chosen


@pytest.fixture
def cluster(loop: Loop, tmp_path: Path) -> Cluster:
    """A cluster without nodes yet; it is open while the test runs."""
    return Cluster(loop.open_node, tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is an async function runs on its loop, within its cluster."""
    cluster, loop = pyfuncitem.funcargs.get("cluster"), pyfuncitem.funcargs.get("loop")
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or cluster is None:
        return None
    assert isinstance(cluster, Cluster)
    assert isinstance(loop, Loop)
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def within_the_cluster() -> None:
        async with cluster.open():
            await pyfuncitem.obj(**arguments)

    anyio.run(within_the_cluster, backend=loop.backend, backend_options=loop.options)
    return True
