"""The server: accepts clients, and carries bytes between them, their sessions and the node.

It runs on anyio, so the same code serves on trio, asyncio and uvloop. It contains only tasks: a `Session` understands
the bytes of its client, and the node carries out requests. While a request is open, nothing more is read from its
client. A second task writes, so a client which sends much before it reads cannot block itself; its `OutputBuffer`
limits how much waits to be written.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.lowlevel
from anyio import abc
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskGroup
from anyio.streams.stapled import MultiListener

from raft_core.errors import OutcomeUnknown, Refused, SettingsError
from raft_core.node.config import join_address, split_address
from raft_core.node.reaching import listen_failure
from raft_kv.client_session import Session
from raft_kv.client_session_values import (
    ChangeMembers,
    Disconnect,
    Inspect,
    LeaveJoint,
    Pause,
    Propose,
    Read,
    SessionEffect,
    TransferLeadership,
)
from raft_kv.config import ServeConfig
from raft_kv.output_buffer import CHECK_INTERVAL, OutputBuffer
from raft_kv.service import (
    ACCEPT_PAUSE,
    DRAIN_SECONDS,
    KEEPALIVE,
    OBSERVE_SECONDS,
    QUIET_LOOK,
    READ_BYTES,
    TOO_MANY,
    Service,
    cluster_clock,
)
from raft_kv.state_machine import KeyValueMachine
from raft_kv.stopping import end_input, stop_signals, transfer_leadership

if TYPE_CHECKING:  # each loop imports only its own adapter
    import raft_anyio
    import raft_trio

    Node: TypeAlias = raft_trio.Node | raft_anyio.Node

__all__ = ["run", "serve"]

_Listener: TypeAlias = MultiListener[SocketStream]


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM, SIGINT, SIGHUP or the node's end. Raise as `serve` does.

    Raise `SettingsError` if the loop's package is not installed.
    """
    backend = "trio" if config.loop == "trio" else "asyncio"
    options: dict[str, Any] = {"use_uvloop": config.loop == "uvloop"} if backend == "asyncio" else {}
    if find_spec(config.loop) is None:
        raise SettingsError(f"loop {config.loop} needs a package: pip install {config.loop}")
    anyio.run(serve, config, backend=backend, backend_options=options)


async def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM, SIGINT, SIGHUP or the node's end, then transfer leadership and return.

    Raise `SettingsError`, `DiskError`, and `OSError` if an address cannot be used.
    """
    machine = KeyValueMachine()
    with anyio.open_signal_receiver(*stop_signals()) as signals:
        async with _open_node(config, machine) as node:
            listener = await _listener(config.listen)
            bound = listener.extra(SocketAttribute.local_address)
            assert isinstance(bound, tuple)
            service = Service(config, machine, join_address(bound[0], bound[1]), node.address, anyio.Event)
            server = _Server(service, node)
            async with listener, anyio.create_task_group() as group:
                group.start_soon(server.stop_on_signal, signals)
                group.start_soon(server.report_alarms)
                group.start_soon(server.report_changes)
                group.start_soon(server.observe_node)
                group.start_soon(server.look_after_clients)
                service.ready(node)
                await server.accept_until_finished(group, listener)
                group.cancel_scope.cancel()
        service.log.stopped()


def _open_node(config: ServeConfig, machine: KeyValueMachine) -> AbstractAsyncContextManager[Node]:
    """Open the node with the loop's own adapter."""
    if config.loop == "trio":
        from raft_trio import open_node as open_on_trio

        return open_on_trio(config.node_config(), machine)
    from raft_anyio import open_node

    return open_node(config.node_config(), machine)


async def _listener(address: str) -> _Listener:
    host, port = split_address(address)
    try:
        return await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as failure:
        raise listen_failure(address, failure) from failure


class _Server:
    """The tasks of one server."""

    __slots__ = ("_accepting", "_node", "_scopes", "_service", "_streams", "_timeout", "_turns")

    def __init__(self, service: Service, node: Node) -> None:
        self._service: Final = service
        self._node: Final = node
        self._timeout: Final = service.config.request_timeout
        self._turns: Final = anyio.Lock()
        self._scopes: Final[dict[OutputBuffer, anyio.CancelScope]] = {}
        self._streams: Final[dict[OutputBuffer, SocketStream]] = {}
        self._accepting = anyio.CancelScope()

    # Around the clients.

    async def stop_on_signal(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Stop the server cleanly, in bounded time, at the first signal; later ones change nothing."""
        async for number in signals:
            self._service.log.stopping(number.name)
            await transfer_leadership(self._node)
            await self._see_clients_off()
            await self._node.stop()
            return

    async def _see_clients_off(self) -> None:
        """Accept no further client; let each have the answers to all that was read from it, and end its connection."""
        self._service.leaving = True
        self._accepting.cancel()
        for stream in self._streams.values():
            end_input(stream.extra(SocketAttribute.raw_socket).fileno())
        with anyio.move_on_after(DRAIN_SECONDS):
            while self._service.outputs:
                await anyio.sleep(QUIET_LOOK)

    async def report_alarms(self) -> None:
        async for alarm in self._node.alarms():
            self._service.log.alarm(alarm)

    async def report_changes(self) -> None:
        async for change in self._node.changes():
            self._service.log.role_changed(change)
            self._service.log.observe(self._node.status)

    async def observe_node(self) -> None:
        """Log events which the node does not report."""
        while not self._service.leaving:
            self._service.log.observe(self._node.status)
            await anyio.sleep(OBSERVE_SECONDS)

    async def look_after_clients(self) -> None:
        """Disconnect clients that have stopped reading, and keep garbage collection short."""
        while True:
            self._service.look_after_memory()
            await anyio.sleep(CHECK_INTERVAL)
            for output, scope in self._scopes.items():
                if output.stalled():
                    scope.cancel()

    # Clients.

    async def accept_until_finished(self, group: TaskGroup, listener: _Listener) -> None:
        """Serve clients in tasks of `group`. Return once the node has ended and all requests are answered."""
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(self._accept, listener, group)
            await self._node.wait_finished()
            self._accepting.cancel()
        with anyio.move_on_after(DRAIN_SECONDS):
            while not self._service.quiet:
                await anyio.sleep(QUIET_LOOK)

    async def _accept(self, listener: _Listener, group: TaskGroup) -> None:
        async with listener:
            with self._accepting:
                async with anyio.create_task_group() as accepting:
                    for one in listener.listeners:
                        accepting.start_soon(self._accept_from, one, group)

    async def _accept_from(self, listener: abc.Listener[SocketStream], group: TaskGroup) -> None:
        assert isinstance(listener, SocketListener)
        while True:
            try:
                stream = await listener.accept()
            except (OSError, anyio.BrokenResourceError):  # no file descriptor left, or gone before it was accepted
                await anyio.sleep(ACCEPT_PAUSE)
            else:
                group.start_soon(self._client, stream)

    async def _client(self, stream: SocketStream) -> None:
        """Serve one connection until one side ends it."""
        output = self._service.admit(stream.extra(SocketAttribute.raw_socket))
        try:
            if output is None:
                await _refuse(stream)
                return
            _keep_alive(stream)
            async with anyio.create_task_group() as both:
                self._scopes[output], self._streams[output] = both.cancel_scope, stream
                both.start_soon(_write, stream, output, both.cancel_scope)
                await self._read(stream, output)
                output.end()
            if self._service.leaving:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    await stream.send_eof()
        except Exception:  # a defect which one client meets must not end the node
            if output is not None:
                self._service.log.client_defect(output.session.number)
        finally:
            if output is not None:
                self._service.leave(output)
                self._scopes.pop(output, None)
                self._streams.pop(output, None)
            await anyio.aclose_forcefully(stream)

    async def _read(self, stream: SocketStream, output: OutputBuffer) -> None:
        session = output.session
        while not (output.closed or self._service.leaving):
            try:
                data = await stream.receive(READ_BYTES)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
            order = output.take(session.receive(data, cluster_clock(self._node)))
            while order is not None:
                await _until_there_is_room(output)
                order = output.take(await self._carry_out(order, session))
            await _until_there_is_room(output)

    async def _carry_out(self, order: SessionEffect, session: Session) -> list[SessionEffect]:
        """Carry out the session's order. Return its effects."""
        node, timeout = self._node, self._timeout
        data = b""
        try:
            if type(order) is Propose:
                data = await node.propose(order.command, timeout=timeout)
            elif type(order) is Read:
                data = await node.read(order.query, timeout=timeout)
            elif type(order) is Pause:
                return await self._in_turn(lambda: session.resume(cluster_clock(self._node)))
            elif type(order) is Inspect:
                return await self._in_turn(lambda: session.inspected(self._service.status(node), cluster_clock(node)))
            elif type(order) is ChangeMembers:
                await node.change_members(order.changes, expected=order.expected, timeout=timeout)
            elif type(order) is LeaveJoint:
                await node.leave_joint(timeout=timeout)
            elif type(order) is Disconnect:
                for output in self._service.outputs_of(order.clients):
                    if (scope := self._scopes.get(output)) is not None:
                        scope.cancel()
            elif type(order) is TransferLeadership:
                await node.transfer(order.to, timeout=timeout)
            else:
                raise AssertionError(f"{order} is no effect for the server")
        except (Refused, OutcomeUnknown) as failure:
            return session.failed(failure, cluster_clock(self._node))
        return session.answered(data, cluster_clock(self._node))

    async def _in_turn(self, work: Callable[[], list[SessionEffect]]) -> list[SessionEffect]:
        """Do more work for one client, after every other task that is ready; one client at a time, in order."""
        async with self._turns:
            await anyio.lowlevel.checkpoint()
            return work()


async def _until_there_is_room(output: OutputBuffer) -> None:
    while output.over_limit:
        await output.drained().wait()


async def _write(stream: SocketStream, output: OutputBuffer, both: anyio.CancelScope) -> None:
    """Write the queued output until it ends, then end the connection's tasks."""
    while True:
        while not (piece := output.next_piece()):
            if output.ended:
                both.cancel()
                return
            await output.filled().wait()
        try:
            await stream.send(piece)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            both.cancel()
            return
        output.wrote(piece)


def _keep_alive(stream: SocketStream) -> None:
    with suppress(OSError):  # the client is gone already
        connection = stream.extra(SocketAttribute.raw_socket)
        for option in KEEPALIVE:
            connection.setsockopt(*option)


async def _refuse(stream: SocketStream) -> None:
    with anyio.move_on_after(1):
        try:
            await stream.send(TOO_MANY)
        except anyio.BrokenResourceError:
            return
