"""`open_node` and `Node`: a node for trio. Its requests are in `NodeApi`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from raft_core.node.config import NodeConfig
from raft_core.node.core import NodeCore
from raft_core.node.driver import host_at
from raft_core.node.limits import NodeLimits
from raft_core.node.loop import LoopNode
from raft_core.node.opening import Openable, opening_of
from raft_core.state_machine import StateMachine
from raft_storage.open import open_disk
from raft_tls import LOOK_SECONDS, Credentials, credentials_of, with_tls
from raft_trio.connections import Connections, listening
from raft_trio.loop import Loop

__all__ = ["Node", "open_node"]

_LOG: Final = logging.getLogger("raft")


class Node(LoopNode):
    """A running member of a cluster, made by `open_node`.

    Every request is awaited, and raises one of two errors. `Refused`: it was not carried out and never will be.
    `OutcomeUnknown`: it may or may not be carried out. See `NodeApi`.
    """

    def __init__(self, host: NodeCore, loop: Loop, address: str, credentials: Credentials | None = None) -> None:
        super().__init__(host, loop, address)
        self.credentials: Final = credentials

    async def reread_certificates(self) -> None:
        """Read the files of `NodeConfig.tls` now; changed ones are read by themselves within some seconds.

        Problems are alarms. Connections that exist are not affected.
        """
        self._loop.require_loop()
        if self.credentials is not None:
            state = await trio.to_thread.run_sync(partial(self.credentials.look, again=True))
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
    with trio.CancelScope(shield=True):
        credentials = await trio.to_thread.run_sync(credentials_of, config)
        recovered, lanes = await trio.to_thread.run_sync(open_disk, config, opening.machine)
    try:
        async with listening(config.listening_address) as (listeners, address):
            seed = secrets.randbits(64) if seed is None else seed
            exposed = config.exposed(address)
            host = host_at(address, config, recovered, opening.machine, seed, exposed=exposed)
            loop = Loop(host, lanes)
            async with (
                _running(Node(host, loop, address, credentials), loop, listeners, config) as node,
                opening.attach(node),
            ):
                yield node
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lanes.close, config.shutdown_timeout)


@asynccontextmanager
async def _running(
    node: Node, loop: Loop, listeners: list[trio.SocketListener], config: NodeConfig
) -> AsyncIterator[Node]:
    """Run the node's tasks during the block, in a shielded scope, so that a cancelled block still transfers leadership.

    The block's exception leaves unchanged, not in a group.
    """
    raised: BaseException | None = None
    patience = config.shutdown_timeout
    async with trio.open_nursery() as nursery:
        body, tasks = trio.CancelScope(), trio.CancelScope(shield=True)
        nursery.start_soon(loop.log_alarms, config, _LOG.warning)
        nursery.start_soon(_tasks, loop, listeners, config.limits, node.credentials, body, tasks)
        try:
            with body:
                yield node
        except BaseException as failure:
            raised = failure
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + patience):
                await node.stop()
        finally:
            tasks.cancel()
    loop.leave_block(raised)


async def _tasks(
    loop: Loop,
    listeners: list[trio.SocketListener],
    limits: NodeLimits,
    credentials: Credentials | None,
    body: trio.CancelScope,
    tasks: trio.CancelScope,
) -> None:
    with tasks:
        async with trio.open_nursery() as nursery:
            make = partial(Connections, nursery, limits=limits, take=loop.take)
            connections, table = with_tls(
                credentials, loop.driver.post, make, lambda work: nursery.start_soon(_call, work)
            )
            if credentials is not None:
                nursery.start_soon(_watch, credentials, loop)
            nursery.start_soon(connections.serve, listeners)
            nursery.start_soon(connections.read)
            nursery.start_soon(loop.keep_time)
            await loop.run(table)
            nursery.cancel_scope.cancel()
    if loop.driver.error is not None:
        body.cancel()


async def _call(work: Callable[[], None]) -> None:
    work()


async def _watch(credentials: Credentials, loop: Loop) -> None:
    """Read certificates anew when their files change, in a thread, until cancelled."""
    while True:
        await trio.sleep(LOOK_SECONDS)
        if (state := await trio.to_thread.run_sync(credentials.look)) is not None:
            loop.driver.post(state)
