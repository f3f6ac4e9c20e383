"""The server: opens the node and the listening socket, and runs until one of them ends.

It runs on anyio, so the same code serves on trio, asyncio and uvloop. A client has no task: `ClientSockets` moves its
bytes, a `Session` understands them, and `ClientConnection` carries its requests to the node and back.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio import to_thread
from anyio.abc import SocketAttribute, SocketStream, TaskGroup
from anyio.streams.stapled import MultiListener

from raft_core.errors import SettingsError
from raft_core.node.config import join_address, split_address
from raft_core.node.reaching import listen_failure
from raft_kv.client_connection import ClientConnection, ClientTable, Turns
from raft_kv.client_sockets import ClientSockets
from raft_kv.config import ServeConfig
from raft_kv.event_loop import EventLoop, event_loop
from raft_kv.garbage import opened, settle
from raft_kv.health.port import HealthPort, health_port
from raft_kv.log_output import LOG
from raft_kv.output_buffer import CHECK_INTERVAL
from raft_kv.service import DRAIN_SECONDS, OBSERVE_SECONDS, QUIET_LOOK, Service
from raft_kv.state_machine import KeyValueMachine
from raft_kv.stopping import stop_signals, transfer_leadership
from raft_kv.users.file import users_of_file
from raft_kv.users.table import UserTable
from raft_tls import LOOK_SECONDS, Credentials

if TYPE_CHECKING:  # each loop imports only its own adapter
    import raft_anyio
    import raft_trio

    Node: TypeAlias = raft_trio.Node | raft_anyio.Node

__all__ = ["run", "serve"]

_HASHING_THREADS: Final = 2
"""Also the bound on memory and processor for hashing passwords: 16 MiB each."""
_Listener: TypeAlias = MultiListener[SocketStream]


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM, SIGINT, SIGHUP or the node's end. Raise as `serve` does.

    Raise `SettingsError` if the loop's package is not installed.
    """
    backend = "trio" if config.loop == "trio" else "asyncio"
    options: dict[str, Any] = {"use_uvloop": config.loop == "uvloop"} if backend == "asyncio" else {}
    if find_spec(config.loop) is None:
        raise SettingsError(f"loop {config.loop} needs a package: pip install {config.loop}")
    _load_adapter(config)  # its modules are there when memory settles
    settle()
    anyio.run(serve, config, backend=backend, backend_options=options)


def _load_adapter(config: ServeConfig) -> None:
    if config.loop == "trio":
        import raft_trio  # noqa: F401
    else:
        import raft_anyio  # noqa: F401


async def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM, SIGINT, SIGHUP (without TLS) or the node's end, then transfer leadership and return.

    Raise `SettingsError`, `DiskError`, and `OSError` if an address cannot be used.
    """
    with anyio.open_signal_receiver(*stop_signals()) as signals:
        users, tls = users_of_file(config.users), config.client_tls()
        credentials = None if tls is None else await to_thread.run_sync(Credentials, tls)
        of_health = credentials if config.health_uses_tls else None
        async with health_port(config.health_address, config.health_urls, of_health) as health:
            await _serve(config, users, signals, health, credentials)


async def _serve(
    config: ServeConfig,
    users: UserTable | None,
    signals: AsyncIterator[signal.Signals],
    health: HealthPort | None,
    credentials: Credentials | None,
) -> None:
    machine = KeyValueMachine()
    async with opened(_open_node(config, machine)) as node:
        listener = await _listener(config.listen)
        bound = listener.extra(SocketAttribute.local_address)
        assert isinstance(bound, tuple)
        service = Service(config, machine, join_address(bound[0], bound[1]), node.address, users)
        service.gate.node = node
        if health is not None:
            service.health = health.address
            health.certificates = service.certificates
            health.attach(service, node)
        async with listener, anyio.create_task_group() as group:
            loop, threads = event_loop(config.loop, group), _Threads(group)
            server = _Server(service, node, loop, listener, credentials, threads)
            group.start_soon(server.stop_on_signal, signals)
            group.start_soon(server.report_alarms)
            group.start_soon(server.report_changes)
            group.start_soon(server.observe_node)
            group.start_soon(server.look_after_clients)
            group.start_soon(server.look_after_certificates)
            group.start_soon(server.report_to_supervisor)
            server.listen()
            service.ready(node)
            service.supervisor.ready(f"clients at {service.listen}, peers at {node.address}")
            await server.serve_until_finished()
            group.cancel_scope.cancel()
        if health is not None:
            health.detach("the node has ended")
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


class _Threads:
    """A few threads for work that takes long, such as hashing a password. Its tasks are in `group`."""

    __slots__ = ("_group", "_limit")

    def __init__(self, group: TaskGroup) -> None:
        self._group: Final = group
        self._limit: Final = anyio.CapacityLimiter(_HASHING_THREADS)

    def do(self, work: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        """Do the work in a thread; call `done` in the loop with its result, b"" if it raised."""
        self._group.start_soon(self._do, work, done)

    async def _do(self, work: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        try:
            data = await to_thread.run_sync(work, limiter=self._limit)
        except Exception:  # a defect that one client meets must not end the node
            LOG.exception("work for a client failed; please report it")
            data = b""
        done(data)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Call `work` in the loop after so many seconds."""
        self._group.start_soon(self._later, seconds, work)

    async def _later(self, seconds: float, work: Callable[[], None]) -> None:
        await anyio.sleep(seconds)
        work()


class _Server:
    """The tasks of one server. Its clients have none."""

    __slots__ = ("_credentials", "_listener", "_loop", "_node", "_service", "_sockets", "_table")

    def __init__(
        self,
        service: Service,
        node: Node,
        loop: EventLoop,
        listener: _Listener,
        credentials: Credentials | None,
        threads: _Threads,
    ) -> None:
        self._credentials: Final = credentials
        self._listener: Final = listener
        self._service: Final = service
        self._node: Final = node
        self._loop: Final = loop
        turns = Turns(loop.soon)
        self._table: Final = ClientTable(node, service, turns, threads)
        connect = partial(ClientConnection, self._table)
        self._sockets: Final = ClientSockets(
            turns, service.admit, connect, loop.later, refused=service.refuse, credentials=credentials
        )

    def listen(self) -> None:
        """Accept clients from now on."""
        self._sockets.listen([one.extra(SocketAttribute.raw_socket) for one in self._listener.listeners])
        self._loop.watch(self._sockets.fileno(), partial(self._node.take, self._sockets.serve))

    async def serve_until_finished(self) -> None:
        """Return once the node has ended, and all requests are answered or have had time for it."""
        try:
            await self._node.wait_finished()
            await self._stop_listening()
            with anyio.move_on_after(DRAIN_SECONDS):
                while not self._service.quiet:
                    await anyio.sleep(QUIET_LOOK)
        finally:
            self._loop.close()
            self._table.close()
            self._sockets.close()

    async def _stop_listening(self) -> None:
        self._sockets.stop_listening()
        await self._listener.aclose()

    # Around the clients.

    async def stop_on_signal(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Stop the server cleanly, in bounded time, at the first signal; later ones change nothing.

        With TLS, SIGHUP has the certificates read anew instead.
        """
        async for number in signals:
            if number.name == "SIGHUP" and self._service.config.tls_certificate:
                await self._read_certificates()
                continue
            self._service.log.stopping(number.name)
            self._service.supervisor.stopping()
            await transfer_leadership(self._node)
            await self._see_clients_off()
            await self._node.stop()
            return

    async def _see_clients_off(self) -> None:
        """Accept no further client; let each have the answers to all that was read from it, and end its connection."""
        self._service.leaving = True
        await self._stop_listening()
        self._table.leave()
        with anyio.move_on_after(DRAIN_SECONDS):
            while self._service.outputs:
                await anyio.sleep(QUIET_LOOK)

    async def report_alarms(self) -> None:
        async for alarm in self._node.alarms():
            self._service.alarm(alarm)

    async def report_changes(self) -> None:
        async for change in self._node.changes():
            self._service.role_changed(change, self._node)
            self._service.supervisor.status(f"{change.role.value} in term {change.term}, leader {change.leader or '?'}")

    async def report_to_supervisor(self) -> None:
        """Say at intervals that the loop turns, if the service manager wants to hear it."""
        supervisor = self._service.supervisor
        while supervisor.watchdog_seconds:
            supervisor.alive()
            await anyio.sleep(supervisor.watchdog_seconds)

    async def observe_node(self) -> None:
        """Log events which the node does not report, and note the rates of each second."""
        slept = 0.0
        while not self._service.leaving:
            self._service.observe(self._node, slept=slept)
            began = anyio.current_time()
            await anyio.sleep(OBSERVE_SECONDS)
            slept = anyio.current_time() - began

    async def _read_certificates(self) -> None:
        self._service.log.certificates_read("SIGHUP")
        await self._node.reread_certificates()
        if self._credentials is not None:
            state = await to_thread.run_sync(partial(self._credentials.look, again=True))
            if state is not None:
                self._service.certificate_read(state)

    async def look_after_certificates(self) -> None:
        """Read the certificate for clients anew when its files change. The node does so with its own."""
        if self._credentials is None:
            return
        self._service.certificate_read(self._credentials.state)
        while True:
            self._service.look_at_certificate()
            await anyio.sleep(LOOK_SECONDS)
            if (state := await to_thread.run_sync(self._credentials.look)) is not None:
                self._service.certificate_read(state)

    async def look_after_clients(self) -> None:
        """Disconnect clients that have stopped reading, and keep garbage collection short."""
        while True:
            self._service.look_after_memory()
            await anyio.sleep(CHECK_INTERVAL)
            self._table.look_after()
            self._sockets.look_after_handshakes()
