"""Connections to peers: dialling, listening, and one task that reads from all of them.

The sockets are in a selector, whose own descriptor is readable when one of them is. So one task waits, in one place,
and what several peers have sent is handled together. The loop itself sends; a task waits only for a peer that stops
reading, which so holds up nothing else. Tasks report to the loop's inbox. The node decides on the meaning of the bytes,
on dialling and on giving up a connection.
"""

from __future__ import annotations

import selectors
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
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
from raft_core.node.reaching import dial_failure, listen_failure, remote_address
from raft_storage.forks import keep_from_children, kept_from_children, let_go
from raft_trio.sockets import PeerSocket, PlainSocket

__all__ = ["Connections", "listening"]

_BACKLOG: Final = 128
_READ: Final = selectors.EVENT_READ


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
    """The loop's part of one connection: its socket once it is open, and the scope of its task."""

    __slots__ = ("_selector", "_socket", "number", "scope")

    def __init__(self, number: ConnectionId, selector: selectors.BaseSelector) -> None:
        self.number: Final = number
        self._selector: Final = selector
        self.scope: Final = trio.CancelScope()
        self._socket: PeerSocket | None = None

    @property
    def socket(self) -> PeerSocket | None:
        """The open socket; None while dialling and after the end."""
        return self._socket

    def opened(self, peer: PeerSocket) -> None:
        """Adopt the open socket."""
        self._socket = peer
        keep_from_children(peer.descriptor)

    def watch(self) -> None:
        """Be read from now on."""
        if self._socket is not None:
            self._selector.register(self._socket.descriptor, _READ, self)

    def end(self) -> None:
        """Close the socket, and end the task. Harmless if repeated."""
        peer, self._socket = self._socket, None
        if peer is not None:
            let_go(peer.descriptor)
            with suppress(KeyError):  # not watched yet
                self._selector.unregister(peer.descriptor)
            peer.close()
        self.scope.cancel()


class Connections:
    """Every connection of one node, dialled and accepted. Tasks run in `nursery` and report with `post`.

    `take` is called with a function that reads what has come, and returns from how many connections.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        post: Callable[[NodeEvent], None],
        limits: NodeLimits,
        take: Callable[[Callable[[], int]], None],
    ) -> None:
        self._nursery: Final = nursery
        self._take: Final = take
        self._selector: Final = selectors.DefaultSelector()
        self._open: Final = OpenAccepted(limits)
        self._post: Final = post
        self._accepted: Final = count(1, 2)  # odd; the node's own are even
        self._known: Final[dict[ConnectionId, _Connection]] = {}

    # For the loop.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Start a task that connects and then serves the connection."""
        connection = self._known[number] = _Connection(number, self._selector)
        self._nursery.start_soon(self._dial, connection, address)

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Send the bytes at once. If the system does not take all, return False, and let a task send the rest."""
        connection = self._known.get(number)
        if connection is None or connection.socket is None:  # it has just ended
            return False
        try:
            if connection.socket.send(data):
                return True
        except OSError:
            self._lost(connection)
        else:
            self._nursery.start_soon(self._drain, connection, connection.socket)
        return False

    def disconnect(self, number: ConnectionId) -> None:
        """End the connection at once, without a report."""
        if (connection := self._known.pop(number, None)) is not None:
            connection.end()

    def _lost(self, connection: _Connection) -> None:
        """End the connection and report it, unless its end was ordered."""
        if self._known.pop(connection.number, None) is not None:
            self._post(ConnectionClosed(connection.number))
        connection.end()

    def _receive(self) -> int:
        """Report what has come; return from how many connections."""
        ready = self._selector.select(0)
        for key, _ in ready:
            self._read(key.data)
        return len(ready)

    def _read(self, connection: _Connection) -> None:
        if connection.socket is None:  # ended by what another one had sent
            return
        try:
            data = connection.socket.receive()
        except BlockingIOError:  # reported readable without need
            return
        except OSError:
            data = b""
        if data:
            self._post(BytesReceived(connection.number, data))
        else:
            self._lost(connection)

    # Tasks.

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Accept connections until cancelled."""
        await trio.serve_listeners(self._accept, listeners, handler_nursery=self._nursery)

    async def read(self) -> None:
        """Read from all connections until cancelled."""
        watched = self._selector.fileno()
        try:
            with kept_from_children(watched):
                while True:
                    await trio.lowlevel.wait_readable(watched)
                    self._take(self._receive)
        finally:
            trio.lowlevel.notify_closing(watched)
            self._selector.close()

    async def _accept(self, stream: trio.SocketStream) -> None:
        if not self._open.enter():
            stream.socket.close()
            return
        try:
            connection = _Connection(ConnectionId(next(self._accepted)), self._selector)
            self._known[connection.number] = connection
            with connection.scope:
                await self._run(connection, stream, accepted=True, address=remote_address(stream.socket.getpeername))
        finally:
            self._open.leave()

    async def _dial(self, connection: _Connection, address: str) -> None:
        with connection.scope:
            try:
                host, port = split_address(address)
                stream = await trio.open_tcp_stream(host, port)
            except (OSError, ValueError, SettingsError) as failure:
                if self._known.pop(connection.number, None) is not None:
                    self._post(DialFailed(connection.number, dial_failure(failure)))
                return
            await self._run(connection, stream, accepted=False)

    async def _run(
        self, connection: _Connection, stream: trio.SocketStream, *, accepted: bool, address: str = ""
    ) -> None:
        """Report the connection, have it read until it ends, and close it."""
        connection.opened(PlainSocket(stream))
        try:
            await trio.lowlevel.checkpoint_if_cancelled()  # given up while connecting: never opened
            self._post(ConnectionOpened(connection.number, accepted, address))
            connection.watch()
            await trio.sleep_forever()  # until it is ended
        finally:
            self._known.pop(connection.number, None)
            connection.end()

    async def _drain(self, connection: _Connection, peer: PeerSocket) -> None:
        try:
            await peer.drain()
        except (OSError, trio.ClosedResourceError):
            self._lost(connection)
        else:
            self._post(Transmitted(connection.number))
