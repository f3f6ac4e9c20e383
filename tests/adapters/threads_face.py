"""Lets the conformance suite, which is async, drive the adapter for plain threads.

What lives here: `open_threads_node`, with the face of the real adapters' `open_node` as far as that adapter goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from raft_core.effects import Alarm, RoleChanged
from raft_core.explain import Explanation
from raft_core.membership import Change, ChangeMode
from raft_core.node.config import NodeConfig
from raft_core.node.status import NodeStatus
from raft_core.requests import ReadConsistency
from raft_core.state_machine import StateMachine

from .threads_adapter import ThreadsNode

T = TypeVar("T")


@asynccontextmanager
async def open_threads_node(
    config: NodeConfig, machine: StateMachine, *, seed: int | None = None
) -> AsyncIterator[ThreadsFace]:
    """A running node for the time of the block."""
    with anyio.CancelScope(shield=True):
        node = await anyio.to_thread.run_sync(ThreadsNode, config, machine, _unheard)
    try:
        yield ThreadsFace(node)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(node.stop)


def _unheard(_: RoleChanged | Alarm) -> None:
    """The suite looks at the status instead."""


class ThreadsFace:
    """Calls the node in threads."""

    def __init__(self, node: ThreadsNode) -> None:
        self._node = node
        self._threads = anyio.CapacityLimiter(100)

    @property
    def address(self) -> str:
        return self._node.address

    @property
    def status(self) -> NodeStatus:
        return self._node.status

    def recording(self) -> bytes:
        raise AssertionError("this adapter records nothing")

    def explain(self) -> tuple[Explanation, ...]:
        raise AssertionError("this adapter explains nothing")

    async def ready(self, *, timeout: float | None = None) -> None:
        raise AssertionError("this adapter waits for nothing but answers")

    def changes(self) -> AsyncIterator[RoleChanged]:
        raise AssertionError("this adapter has no streams")

    def alarms(self) -> AsyncIterator[Alarm]:
        raise AssertionError("this adapter has no streams")

    async def propose_with_index(self, command: bytes, *, timeout: float | None = None) -> tuple[int, bytes]:
        raise AssertionError("this adapter has no loop of the library")

    async def propose(self, command: bytes, *, timeout: float | None = None) -> bytes:
        return await self._call(partial(self._node.propose, command, timeout=timeout))

    async def read(
        self,
        query: bytes,
        *,
        consistency: ReadConsistency = ReadConsistency.LINEARIZABLE,
        limit: int = 0,
        timeout: float | None = None,
    ) -> bytes:
        return await self._call(partial(self._node.read, query, consistency, limit, timeout))

    async def change_members(
        self,
        changes: Sequence[Change],
        *,
        mode: ChangeMode = ChangeMode.AUTO,
        expected: int = 0,
        timeout: float | None = None,
    ) -> None:
        raise AssertionError("this adapter changes no members")

    async def leave_joint(self, *, timeout: float | None = None) -> None:
        raise AssertionError("this adapter changes no members")

    async def transfer(self, to: int = 0, *, timeout: float | None = None) -> None:
        raise AssertionError("this adapter transfers nothing by hand")

    async def stop(self) -> None:
        await self._call(self._node.stop)

    async def reread_certificates(self) -> None:
        """The example has no TLS."""

    async def wait_finished(self) -> None:
        raise AssertionError("this adapter only stops")

    async def _call(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._threads)
