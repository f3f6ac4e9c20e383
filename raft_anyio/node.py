"""`open_node` and `Node`: a node for asyncio or trio, by anyio. Its requests are in `NodeApi`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from raft_anyio.asyncio_connections import AsyncioConnections
from raft_anyio.asyncio_loop import AsyncioLoop
from raft_anyio.connections import Connections, Listener, listening
from raft_anyio.loop import Loop
from raft_core.node.config import NodeConfig
from raft_core.node.core import NodeCore
from raft_core.node.driver import host_at
from raft_core.node.limits import NodeLimits
from raft_core.node.loop import LoopNode, NodeLoop
from raft_core.node.opening import Openable, opening_of
from raft_core.state_machine import StateMachine
from raft_storage.open import open_disk
from raft_tls import LOOK_SECONDS, Credentials, credentials_of, with_tls

__all__ = ["Node", "open_node"]

_LOG: Final = logging.getLogger("raft")


class Node(LoopNode):
    """A running member of a cluster, made by `open_node`.

    Every request is awaited, and raises one of two errors. `Refused`: it was not carried out and never will be.
    `OutcomeUnknown`: it may or may not be carried out. See `NodeApi`.
    """

    def __init__(self, host: NodeCore, loop: NodeLoop, address: str, credentials: Credentials | None = None) -> None:
        super().__init__(host, loop, address)
        self.credentials: Final = credentials

    async def reread_certificates(self) -> None:
        """Read the files of `NodeConfig.tls` now; changed ones are read by themselves within some seconds.

        Problems are alarms. Connections that exist are not affected.
        """
        self._loop.require_loop()
        if self.credentials is not None:
            state = await anyio.to_thread.run_sync(partial(self.credentials.look, again=True))
            self._loop.driver.post_all([] if state is None else [state])


@asynccontextmanager
async def open_node(
    config: NodeConfig, machine: StateMachine | Openable, *, seed: int | None = None
) -> AsyncIterator[Node]:
    """Run a node for the block. On leaving the block, transfer leadership and close, in bounded time.

    `machine` is a state machine, or replicated objects: a `Replicated`, or `Objects` with several.

    A thread opens the disk, which cannot be interrupted. Raise `SettingsError`, `DiskError` if the disk cannot be used,
    and `OSError` if the address cannot. A node that fails while it runs (a `DiskError`, or an exception of the machine)
    cancels the block and raises its error here. `seed` seeds the random generator, for tests.
    """
    opening = opening_of(machine)
    with anyio.CancelScope(shield=True):
        credentials = await anyio.to_thread.run_sync(credentials_of, config)
        recovered, lanes = await anyio.to_thread.run_sync(open_disk, config, opening.machine)
    try:
        async with listening(config.listening_address) as (listener, address):
            seed = secrets.randbits(64) if seed is None else seed
            exposed = config.exposed(address)
            host = host_at(address, config, recovered, opening.machine, seed, exposed=exposed)
            loop = AsyncioLoop(host, lanes) if _on_asyncio() else Loop(host, lanes)
            async with (
                _running(Node(host, loop, address, credentials), loop, listener, config) as node,
                opening.attach(node),
            ):
                yield node
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lanes.close, config.shutdown_timeout)


@asynccontextmanager
async def _running(node: Node, loop: Loop | AsyncioLoop, listener: Listener, config: NodeConfig) -> AsyncIterator[Node]:
    """Run the node's tasks during the block, in a shielded scope, so that a cancelled block still transfers leadership.

    The block's exception leaves unchanged, not in a group.
    """
    raised: BaseException | None = None
    patience = config.shutdown_timeout
    async with anyio.create_task_group() as group:
        body, tasks = anyio.CancelScope(), anyio.CancelScope(shield=True)
        group.start_soon(loop.log_alarms, config, _LOG.warning)
        group.start_soon(_tasks, loop, listener, config.limits, node.credentials, body, tasks)
        try:
            with body:
                yield node
        except BaseException as failure:
            raised = failure
        try:
            with anyio.move_on_after(patience, shield=True):
                await node.stop()
        finally:
            tasks.cancel()
    loop.leave_block(raised)


async def _tasks(
    loop: Loop | AsyncioLoop,
    listener: Listener,
    limits: NodeLimits,
    credentials: Credentials | None,
    body: anyio.CancelScope,
    tasks: anyio.CancelScope,
) -> None:
    with tasks:
        async with anyio.create_task_group() as group:
            if credentials is not None:
                group.start_soon(_watch, credentials, loop)
            if isinstance(loop, AsyncioLoop):
                make = partial(AsyncioConnections, limits=limits)
                protocols, above = with_tls(credentials, loop.driver.post, make, loop.later)
                async with protocols.serving(listener):
                    await loop.run(above)
            else:
                grouped = partial(Connections, group, limits=limits)
                streams, table = with_tls(
                    credentials, loop.driver.post, grouped, lambda work: group.start_soon(_call, work)
                )
                group.start_soon(streams.serve, listener)
                group.start_soon(loop.keep_time)
                await loop.run(table)
            group.cancel_scope.cancel()
    if loop.driver.error is not None:
        body.cancel()


async def _call(work: Callable[[], None]) -> None:
    work()


def _on_asyncio() -> bool:
    """Return whether the caller is a task of asyncio; otherwise it is one of trio."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def _watch(credentials: Credentials, loop: NodeLoop) -> None:
    """Read certificates anew when their files change, in a thread, until cancelled."""
    while True:
        await anyio.sleep(LOOK_SECONDS)
        if (state := await anyio.to_thread.run_sync(credentials.look)) is not None:
            loop.driver.post(state)
