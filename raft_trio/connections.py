"""Connections to peers: dialling, listening, and one reader and one writer task for each.

The tasks move bytes and report to the loop's inbox. The node decides on the meaning of the bytes, on dialling and on
giving up a connection. A peer that stops reading holds up its own writer and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Final

import trio

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
from raft_core.node.reaching import dial_failure, listen_failure
from raft_storage.forks import kept_from_children

__all__ = ["Connections", "listening"]

_READ_BYTES: Final = 256 * 1024
"""Largest `BytesReceived`, in bytes; bounds one peer's input to the inbox between two turns of the loop."""
_BACKLOG: Final = 128


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[list[trio.SocketListener], str]]:
    """Listen at `address` for the block; yield listeners and actual address. Raise `ListenFailed`, an `OSError`."""
    host, port = split_address(address)
    try:
        listeners = list(await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG))
    except OSError as failure:
        raise listen_failure(address, failure) from failure
    try:
        bound = listeners[0].socket.getsockname()
        with ExitStack() as kept:
            for listener in listeners:
                kept.enter_context(kept_from_children(listener.socket.fileno()))
            yield listeners, join_address(bound[0], bound[1])
    finally:
        for listener in listeners:
            listener.socket.close()


class _Connection:
    """The loop's part of one connection: the channel to its writer, and the scope that ends it."""

    __slots__ = ("number", "outgoing", "scope", "waiting")

    def __init__(self, number: ConnectionId) -> None:
        self.number: Final = number
        self.scope: Final = trio.CancelScope()
        self.outgoing: trio.MemorySendChannel[bytes]
        self.waiting: trio.MemoryReceiveChannel[bytes]
        self.outgoing, self.waiting = trio.open_memory_channel[bytes](1)  # one `Transmit` is under way at most


class Connections:
    """Every connection of one node, dialled and accepted. Tasks run in `nursery` and report with `post`."""

    def __init__(self, nursery: trio.Nursery, post: Callable[[NodeEvent], None], limits: NodeLimits) -> None:
        self._nursery: Final = nursery
        self._open: Final = OpenAccepted(limits)
        self._post: Final = post
        self._accepted: Final = count(1, 2)  # odd; the node's own are even
        self._known: Final[dict[ConnectionId, _Connection]] = {}

    # For the loop.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Start a task that connects and then serves the connection."""
        connection = self._known[number] = _Connection(number)
        self._nursery.start_soon(self._dial, connection, address)

    def transmit(self, number: ConnectionId, data: bytes) -> None:
        """Give the bytes to the writer; ignore them if the connection has just ended."""
        if (connection := self._known.get(number)) is not None:
            connection.outgoing.send_nowait(data)

    def disconnect(self, number: ConnectionId) -> None:
        """End the connection at once, without a report."""
        if (connection := self._known.pop(number, None)) is not None:
            connection.scope.cancel()

    # Tasks.

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Accept connections until cancelled."""
        await trio.serve_listeners(self._accept, listeners, handler_nursery=self._nursery)

    async def _accept(self, stream: trio.SocketStream) -> None:
        if not self._open.enter():
            stream.socket.close()
            return
        try:
            await self._accepted_one(stream)
        finally:
            self._open.leave()

    async def _accepted_one(self, stream: trio.SocketStream) -> None:
        connection = _Connection(ConnectionId(next(self._accepted)))
        self._known[connection.number] = connection
        with self._life_of(connection):
            await self._run(connection, stream, accepted=True)

    async def _dial(self, connection: _Connection, address: str) -> None:
        with self._life_of(connection):
            try:
                host, port = split_address(address)
                stream = await trio.open_tcp_stream(host, port)
            except (OSError, ValueError, SettingsError) as failure:
                if self._known.pop(connection.number, None) is not None:
                    self._post(DialFailed(connection.number, dial_failure(failure)))
                return
            await self._run(connection, stream, accepted=False)

    @contextmanager
    def _life_of(self, connection: _Connection) -> Iterator[None]:
        """Make the connection known, so that it can be ended from outside; forget it after the block."""
        try:
            with connection.scope:
                yield
        finally:
            self._known.pop(connection.number, None)

    async def _run(self, connection: _Connection, stream: trio.SocketStream, *, accepted: bool) -> None:
        async with stream:
            with kept_from_children(stream.socket.fileno()):
                await self._carry(connection, stream, accepted=accepted)
        if self._known.pop(connection.number, None) is not None:
            self._post(ConnectionClosed(connection.number))

    async def _carry(self, connection: _Connection, stream: trio.SocketStream, *, accepted: bool) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # given up while connecting: never opened
        self._post(ConnectionOpened(connection.number, accepted))
        async with trio.open_nursery() as both:
            both.start_soon(self._write, connection, stream, both.cancel_scope)
            await self._read(connection, stream)
            both.cancel_scope.cancel()

    async def _read(self, connection: _Connection, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(_READ_BYTES):
                self._post(BytesReceived(connection.number, bytes(data)))

    async def _write(self, connection: _Connection, stream: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            async for data in connection.waiting:
                await stream.send_all(data)
                self._post(Transmitted(connection.number))
        except trio.BrokenResourceError:
            both.cancel()
