"""A node to use from trio: open it, propose to it, read from it, change its cluster.

What lives here: the public face, `open_node` and `Node`. It decides nothing: a call becomes an event for the host
and waits for the host's answer, deadlines included.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio

from raft_core.effects import Alarm, Announce
from raft_core.events import ReadConsistency
from raft_core.host.host import Host
from raft_core.host.node import NodeConfig, deadline_after
from raft_core.host.status import HostStatus
from raft_core.host.values import (
    ClientAsked,
    ClientChanged,
    ClientLeft,
    ClientProposed,
    ClientTransferred,
    StopAsked,
)
from raft_core.ids import NOBODY, Index, NodeId
from raft_core.machine import StateMachine
from raft_core.membership import Change, ChangeMode
from raft_storage.opening import open_disk
from raft_trio.connections import Connections, listening
from raft_trio.loop import Loop, now

__all__ = ["Node", "open_node"]


class Node:
    """A running member of a cluster, made by `open_node`.

    Every request raises one of two errors, and nothing else: `Refused` (with `NotLeader`, `QueueFull`,
    `TransferInProgress` and `MembershipRefused` below it) says that it has not been carried out and never will be;
    `OutcomeUnknown` that nobody can know. `timeout` is in seconds; when it passes, the request ends with one of the
    two as well. A request that is cancelled is not taken back: what was proposed may still be applied.
    """

    def __init__(self, host: Host, loop: Loop, address: str) -> None:
        self._host: Final = host
        self._loop: Final = loop
        self._address: Final = address

    @property
    def address(self) -> str:
        """Where this node listens, "host:port", with the port that it really got."""
        return self._address

    @property
    def status(self) -> HostStatus:
        """A picture of the node at this moment: role, term, leader, log, members, and on a leader every peer."""
        return self._host.status

    def changes(self) -> AsyncIterator[Announce]:
        """Role, term and leader: the last announcement, if there was one, then each new one until the node ends.

        A reader that lags misses the oldest of them, never the newest."""
        return self._loop.changes.read(past=1)

    def alarms(self) -> AsyncIterator[Alarm]:
        """What a person should look at: the last few dozen, then each new one until the node ends."""
        return self._loop.alarms.read(past=64)

    async def propose(self, command: bytes, *, timeout: float | None = None) -> bytes:
        """The machine's result, once `command` is committed and applied here; a follower passes it to the leader."""
        deadline = deadline_after(now(), timeout)
        return await self._loop.ask(lambda ticket: ClientProposed(ticket, command, deadline))

    async def read(
        self,
        query: bytes,
        *,
        consistency: ReadConsistency = ReadConsistency.LINEARIZABLE,
        limit: int = 0,
        timeout: float | None = None,
    ) -> bytes:
        """This node's machine's answer to `query`, as recent as `consistency` promises (`limit` belongs to it:
        ticks or an index; see `ReadConsistency`). Linearizable on every node, by asking the leader where needed."""
        deadline = deadline_after(now(), timeout)
        return await self._loop.ask(lambda ticket: ClientAsked(ticket, query, consistency, limit, deadline))

    async def change_members(
        self,
        changes: Sequence[Change],
        *,
        mode: ChangeMode = ChangeMode.AUTO,
        expected: int = 0,
        timeout: float | None = None,
    ) -> None:
        """The cluster has the members that `changes` lead to, and is joint no more (unless `mode` says explicit).

        `expected`: only if the configuration in force was appended at this index. Raises `MembershipRefused` where
        a rule forbids the change, before anything was appended."""
        deadline = deadline_after(now(), timeout)
        wanted = tuple(changes)
        await self._loop.ask(lambda ticket: ClientChanged(ticket, wanted, mode, Index(expected), deadline))

    async def leave_joint(self, *, timeout: float | None = None) -> None:
        """The joint configuration that an explicit change made has been left."""
        deadline = deadline_after(now(), timeout)
        await self._loop.ask(lambda ticket: ClientLeft(ticket, deadline))

    async def transfer(self, to: int = NOBODY, *, timeout: float | None = None) -> None:
        """Node `to`, or for 0 the voter that fits best, leads instead of the present leader."""
        deadline = deadline_after(now(), timeout)
        await self._loop.ask(lambda ticket: ClientTransferred(ticket, NodeId(to), deadline))

    async def stop(self) -> None:
        """The node has handed over what it led, answered every caller, and ended. Bounded by `stop_timeout`."""
        self._loop.post(StopAsked())
        await self._loop.finished.wait()

    async def wait_finished(self) -> None:
        """The node has ended: stopped, removed from its cluster, or failed, which `open_node` then raises."""
        await self._loop.finished.wait()


@asynccontextmanager
async def open_node(config: NodeConfig, machine: StateMachine, *, seed: int | None = None) -> AsyncIterator[Node]:
    """A running node for the time of the block; leaving it hands over leadership and closes, in bounded time.

    Opening the disk happens in a thread and cannot be interrupted. Raises `SettingsError`, `DiskError` where the
    disk cannot be used, and `OSError` where the address cannot. A node that fails while it runs (a `DiskError`, or
    an exception of the machine) cancels the block and raises its error here. `seed` is the dice's, for tests.
    """
    with trio.CancelScope(shield=True):
        recovered, lanes = await trio.to_thread.run_sync(open_disk, config, machine)
    try:
        async with listening(config.listen) as (listeners, address):
            dice = Random(secrets.randbits(64) if seed is None else seed)
            core_dice = Random(dice.getrandbits(64))
            surroundings = config.host_config(address)
            host = Host(surroundings, config.settings, recovered, machine.prepare, rng=core_dice, dice=dice)
            loop = Loop(host, lanes)
            async with _running(Node(host, loop, address), loop, listeners, config.patience) as node:
                yield node
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lanes.close, config.patience)


@asynccontextmanager
async def _running(
    node: Node, loop: Loop, listeners: list[trio.SocketListener], patience: float
) -> AsyncIterator[Node]:
    """The node's tasks run during the block. They live in a shielded scope of their own, so that a block that is
    cancelled still hands over; and what the block raises leaves as it is, not in a group."""
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        body, tasks = trio.CancelScope(), trio.CancelScope(shield=True)
        nursery.start_soon(_tasks, loop, listeners, body, tasks)
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
    if raised is not None and (loop.error is None or not isinstance(raised, Exception)):
        raise raised
    if loop.error is not None:
        raise loop.error from (loop.error.__cause__ or raised)


async def _tasks(
    loop: Loop, listeners: list[trio.SocketListener], body: trio.CancelScope, tasks: trio.CancelScope
) -> None:
    with tasks:
        async with trio.open_nursery() as nursery:
            connections = Connections(nursery, loop.post)
            nursery.start_soon(connections.serve, listeners)
            nursery.start_soon(loop.keep_time)
            await loop.run(connections)
            nursery.cancel_scope.cancel()
    if loop.error is not None:
        body.cancel()
