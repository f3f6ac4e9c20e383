"""Connections to peers on anyio's streams: dialling, listening, and one reader and one writer task for each.

They serve on trio. On asyncio, `asyncio_connections` does the same without tasks.

The tasks move bytes and report to the loop's inbox. The node decides on the meaning of the bytes, on dialling and on
giving up a connection. A peer that stops reading holds up its own writer and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Final, TypeAlias

import anyio
import anyio.lowlevel
from anyio import abc
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.streams.stapled import MultiListener

from raft_core.errors import SettingsError
from raft_core.node.config import join_address, split_address
from raft_core.node.descriptors import OpenAccepted
from raft_core.node.events import (
    BytesReceived,
    ConnectionClosed,
    ConnectionId,
    ConnectionOpened,
    DialFailed,
    NodeEvent,
    Transmitted,
)
from raft_core.node.limits import NodeLimits
from raft_core.node.reaching import dial_failure, listen_failure, remote_address
from raft_storage.forks import kept_from_children

__all__ = ["Connections", "Listener", "listening"]

Listener: TypeAlias = MultiListener[SocketStream]
_READ_BYTES: Final = 256 * 1024
"""Largest `BytesReceived`, in bytes; bounds one peer's input to the inbox between two turns of the loop."""
_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.1
"""Seconds. Anyio gives up at the first failed accept; `trio.serve_listeners` retries, as this does."""


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[Listener, str]]:
    """Open a listener at `address` for the block; also yield its actual address. Raise `ListenFailed`, an `OSError`."""
    host, port = split_address(address)
    try:
        opened = await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=_BACKLOG)
    except OSError as failure:
        raise listen_failure(address, failure) from failure
    async with opened as listener:
        bound = listener.extra(SocketAttribute.local_address)
        with ExitStack() as kept:
            for one in listener.listeners:
                kept.enter_context(kept_from_children(one.extra(SocketAttribute.raw_socket).fileno()))
            yield listener, join_address(str(bound[0]), int(bound[1]))


class _Connection:
    """The loop's part of one connection: the stream to its writer, and the scope that ends it."""

    __slots__ = ("number", "outgoing", "scope", "waiting")

    def __init__(self, number: ConnectionId) -> None:
        self.number: Final = number
        self.scope: Final = anyio.CancelScope()
        self.outgoing: MemoryObjectSendStream[bytes]
        self.waiting: MemoryObjectReceiveStream[bytes]
        self.outgoing, self.waiting = anyio.create_memory_object_stream[bytes](1)  # one `Transmit` is under way at most


class Connections:
    """Every connection of one node, dialled and accepted. Tasks run in `group` and report with `post`."""

    def __init__(self, group: TaskGroup, post: Callable[[NodeEvent], None], limits: NodeLimits) -> None:
        self._group: Final = group
        self._open: Final = OpenAccepted(limits)
        self._post: Final = post
        self._accepted: Final = count(1, 2)  # odd; the node's own are even
        self._known: Final[dict[ConnectionId, _Connection]] = {}

    # For the loop.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Start a task that connects and then serves the connection."""
        connection = self._known[number] = _Connection(number)
        self._group.start_soon(self._dial, connection, address)

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Give the bytes to the writer, which reports later; ignore them if the connection has just ended."""
        if (connection := self._known.get(number)) is not None:
            connection.outgoing.send_nowait(data)
        return False

    def disconnect(self, number: ConnectionId) -> None:
        """End the connection at once, without a report."""
        if (connection := self._known.pop(number, None)) is not None:
            connection.scope.cancel()

    # Tasks.

    async def serve(self, listener: Listener) -> None:
        """Accept connections until cancelled."""
        async with anyio.create_task_group() as group:
            for one in listener.listeners:
                group.start_soon(self._accept_from, one)

    async def _accept_from(self, listener: abc.Listener[SocketStream]) -> None:
        assert isinstance(listener, SocketListener)
        while True:
            try:
                stream = await listener.accept()
            except (OSError, anyio.BrokenResourceError):  # no file descriptor left, or gone before the accept
                await anyio.sleep(_ACCEPT_PAUSE)
            else:
                self._group.start_soon(self._accept, stream)

    async def _accept(self, stream: SocketStream) -> None:
        if not self._open.enter():
            await anyio.aclose_forcefully(stream)
            return
        try:
            await self._accepted_one(stream)
        finally:
            self._open.leave()

    async def _accepted_one(self, stream: SocketStream) -> None:
        connection = _Connection(ConnectionId(next(self._accepted)))
        self._known[connection.number] = connection
        with self._life_of(connection):
            await self._run(connection, stream, accepted=True)

    async def _dial(self, connection: _Connection, address: str) -> None:
        with self._life_of(connection):
            try:
                host, port = split_address(address)
                stream = await anyio.connect_tcp(host, port)
            except (OSError, ValueError, SettingsError) as failure:
                if self._known.pop(connection.number, None) is not None:
                    self._post(DialFailed(connection.number, dial_failure(failure)))
                return
            await self._run(connection, stream, accepted=False)

    @contextmanager
    def _life_of(self, connection: _Connection) -> Iterator[None]:
        """Make the connection known, so that it can be ended from outside; close and forget it after the block."""
        with connection.outgoing, connection.waiting:
            try:
                with connection.scope:
                    yield
            finally:
                self._known.pop(connection.number, None)

    async def _run(self, connection: _Connection, stream: SocketStream, *, accepted: bool) -> None:
        async with stream:
            with kept_from_children(stream.extra(SocketAttribute.raw_socket).fileno()):
                await self._carry(connection, stream, accepted=accepted)
        if self._known.pop(connection.number, None) is not None:
            self._post(ConnectionClosed(connection.number))

    async def _carry(self, connection: _Connection, stream: SocketStream, *, accepted: bool) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()  # given up while connecting: never opened
        address = remote_address(stream.extra(SocketAttribute.raw_socket).getpeername) if accepted else ""
        self._post(ConnectionOpened(connection.number, accepted, address))
        async with anyio.create_task_group() as both:
            both.start_soon(self._write, connection, stream, both.cancel_scope)
            await self._read(connection, stream)
            both.cancel_scope.cancel()

    async def _read(self, connection: _Connection, stream: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                self._post(BytesReceived(connection.number, await stream.receive(_READ_BYTES)))

    async def _write(self, connection: _Connection, stream: SocketStream, both: anyio.CancelScope) -> None:
        try:
            async for data in connection.waiting:
                await stream.send(data)
                self._post(Transmitted(connection.number))
        except anyio.BrokenResourceError:
            both.cancel()
