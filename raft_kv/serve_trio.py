"""The server on trio: accepts clients and carries bytes between them, their sessions and the node.

What lives here: tasks. What a client's bytes mean is its `Session`'s business; what a request comes to, the node's.
While a request is open nothing more is read from its client; a second task writes, so that a client which sends
much before it reads cannot block itself.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from raft_core.errors import OutcomeUnknown, Refused
from raft_core.host.node import join_address, split_address
from raft_kv.config import ServeConfig
from raft_kv.machine import KeyValueMachine
from raft_kv.service import MAX_UNSENT_BYTES, READ_BYTES, TOO_MANY, Service, wall_clock
from raft_kv.session import Session
from raft_kv.session_values import (
    Ask,
    ChangeMembers,
    Close,
    HandOver,
    Inspect,
    LeaveJoint,
    Propose,
    Send,
    SessionEffect,
)
from raft_trio import Node, open_node

__all__ = ["run", "serve"]


def run(config: ServeConfig) -> None:
    """Serves until SIGTERM, SIGINT or the node's end. Raises what `serve` raises."""
    trio.run(serve, config)


async def serve(config: ServeConfig, ready: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM, SIGINT or the node's end, then hands over and returns.

    Raises `SettingsError`, `DiskError`, and `OSError` where an address cannot be had."""
    machine = KeyValueMachine()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_node(config.node_config(), machine) as node:
            host, port = split_address(config.listen)
            listeners = await trio.open_tcp_listeners(port, host=host)
            bound = listeners[0].socket.getsockname()
            service = Service(config, machine, join_address(bound[0], bound[1]), node.address)
            server = _Server(service, node)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.stop_on_signal, signals)
                nursery.start_soon(server.report_alarms)
                nursery.start_soon(server.report_changes)
                nursery.start_soon(trio.serve_listeners, server.client, listeners)
                (ready or _say)(service.ready_line())
                await node.wait_finished()
                nursery.cancel_scope.cancel()


def _say(line: str) -> None:
    print(line, flush=True)


class _Unsent:
    """What waits to be written to one client."""

    __slots__ = ("chunks", "ended", "size", "wake")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.ended = False
        self.wake = trio.Event()

    def put(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)
        self.wake.set()

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class _Server:
    """The tasks of one server."""

    __slots__ = ("_node", "_service", "_timeout")

    def __init__(self, service: Service, node: Node) -> None:
        self._service: Final = service
        self._node: Final = node
        self._timeout: Final = service.config.request_timeout

    # Around the clients.

    async def stop_on_signal(self, signals: AsyncIterator[int]) -> None:
        """The first signal ends the node in good order, within `stop_timeout`; later ones change nothing."""
        async for number in signals:
            name = signal.Signals(number).name
            print(f"node {self._service.config.id}: {name}, handing over", file=sys.stderr, flush=True)
            await self._node.stop()
            return

    async def report_alarms(self) -> None:
        async for alarm in self._node.alarms():
            print(self._service.alarm_line(alarm), file=sys.stderr, flush=True)

    async def report_changes(self) -> None:
        if self._service.config.verbose:
            async for change in self._node.changes():
                print(self._service.change_line(change), file=sys.stderr, flush=True)

    # One client.

    async def client(self, stream: trio.SocketStream) -> None:
        """Serves one connection until one side ends it."""
        session = self._service.admit()
        if session is None:
            await _refuse(stream)
            return
        try:
            unsent = _Unsent()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write, stream, unsent, nursery.cancel_scope)
                await self._read(stream, session, unsent)
                unsent.end()
        except Exception:  # a defect met by one client must not take the node from all others
            print(self._service.defect_line(session), traceback.format_exc(), file=sys.stderr, flush=True)
        finally:
            self._service.leave(session)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _read(self, stream: trio.SocketStream, session: Session, unsent: _Unsent) -> None:
        while True:
            try:
                data = await stream.receive_some(READ_BYTES)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            effects = session.receive(bytes(data), wall_clock())
            while effects:
                order: SessionEffect | None = None
                for effect in effects:
                    if type(effect) is Send:
                        unsent.put(effect.data)
                    elif type(effect) is Close:
                        return
                    else:
                        order = effect
                if unsent.size > MAX_UNSENT_BYTES:
                    unsent.chunks.clear()
                    return
                effects = [] if order is None else await self._carry_out(order, session)

    async def _carry_out(self, order: SessionEffect, session: Session) -> list[SessionEffect]:
        """What the session says to the outcome of its order."""
        node, timeout = self._node, self._timeout
        data = b""
        try:
            if type(order) is Propose:
                data = await node.propose(order.command, timeout=timeout)
            elif type(order) is Ask:
                data = await node.read(order.question, timeout=timeout)
            elif type(order) is Inspect:
                return session.inspected(self._service.picture(node), wall_clock())
            elif type(order) is ChangeMembers:
                await node.change_members(order.changes, expected=order.expected, timeout=timeout)
            elif type(order) is LeaveJoint:
                await node.leave_joint(timeout=timeout)
            elif type(order) is HandOver:
                await node.transfer(order.to, timeout=timeout)
            else:
                assert type(order) is Send or type(order) is Close
                raise AssertionError("these are done by the reader")
        except (Refused, OutcomeUnknown) as failure:
            return session.failed(failure, wall_clock())
        return session.answered(data, wall_clock())


async def _write(stream: trio.SocketStream, unsent: _Unsent, both: trio.CancelScope) -> None:
    """Writes what waits until it ends, then ends the connection's tasks."""
    while True:
        while not unsent.chunks:
            if unsent.ended:
                both.cancel()
                return
            unsent.wake = trio.Event()
            await unsent.wake.wait()
        data = b"".join(unsent.chunks)
        unsent.chunks.clear()
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            both.cancel()
            return
        unsent.size -= len(data)


async def _refuse(stream: trio.SocketStream) -> None:
    with trio.move_on_after(1):
        try:
            await stream.send_all(TOO_MANY)
        except trio.BrokenResourceError:
            return
