"""Connections to peers on asyncio's protocols: the event loop calls, and no task moves bytes.

`data_received` reports to the loop's inbox, and `transport.write` sends at once. The transport pauses a connection
whose bytes the operating system does not take, and the node sends the next ones only when it resumes. So a peer that
stops reading holds up nothing else. The node decides on everything, as with `connections`, which serves on trio.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, Final, cast

import anyio
from anyio.abc import SocketAttribute

from raft_anyio.connections import Listener
from raft_anyio.dialing import connected_socket
from raft_core.errors import SettingsError
from raft_core.node.config import split_address
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
from raft_core.node.reaching import dial_failure, remote_address
from raft_storage.forks import keep_from_children, let_go

__all__ = ["AsyncioConnections"]

_ACCEPT_PAUSE: Final = 0.1
"""Seconds until accepting is tried again after it failed."""


class _Peer(asyncio.Protocol):
    """One connection. The event loop calls the methods that have asyncio's names."""

    def __init__(self, table: AsyncioConnections, number: ConnectionId, *, accepted: bool) -> None:
        self.number: Final = number
        self.dialling: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self._table: Final = table
        self._accepted: Final = accepted
        self._descriptor = -1
        self._paused = False
        self._owed = False  # the node waits for `Transmitted`
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._over:  # given up while connecting
            cast(asyncio.Transport, transport).abort()
            return
        self.transport = cast(asyncio.Transport, transport)  # uvloop's derives from none of asyncio's
        self._descriptor = transport.get_extra_info("socket").fileno()
        keep_from_children(self._descriptor)
        self.transport.set_write_buffer_limits(high=1, low=0)  # pause as soon as the system does not take everything
        self._table.opened(self, accepted=self._accepted)

    def remote_address(self) -> str:
        """Return the IP address of the other side; "" if it is gone."""
        connected = None if self.transport is None else self.transport.get_extra_info("socket")
        return "" if connected is None else remote_address(connected.getpeername)

    def data_received(self, data: bytes) -> None:
        self._table.post(BytesReceived(self.number, bytes(data)))

    def send(self, data: bytes) -> bool:
        """Send the bytes. Return whether the operating system took them all."""
        if self.transport is None:
            return False
        self.transport.write(data)
        self._owed = self._paused
        return not self._paused

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._owed:
            self._owed = False
            self._table.post(Transmitted(self.number))

    def connection_lost(self, failure: Exception | None) -> None:
        self.release()

    def release(self) -> None:
        """Note that the connection is closed, or will never be open. Harmless if repeated.

        On uvloop a cancelled attempt to connect never calls `connection_lost`.
        """
        if self._over:
            return
        self._over = True
        let_go(self._descriptor)
        self.transport = None
        self._table.lost(self, accepted=self._accepted)

    def end(self) -> None:
        """Close the connection at once, or stop connecting."""
        if self.dialling is not None:
            self.dialling.cancel()
        if self.transport is not None:
            self.transport.abort()


class AsyncioConnections:
    """Every connection of one node, dialled and accepted. They report with `post`."""

    def __init__(self, post: Callable[[NodeEvent], None], limits: NodeLimits) -> None:
        self.post: Final = post
        self._loop: Final = asyncio.get_running_loop()
        self._open: Final = OpenAccepted(limits)
        self._accepted: Final = count(1, 2)  # odd; the node's own are even
        self._known: Final[dict[ConnectionId, _Peer]] = {}
        self._connected: Final[set[_Peer]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()  # that connect
        self._all_lost: Final = asyncio.Event()
        self._closing = False

    # For the loop.

    def dial(self, number: ConnectionId, address: str) -> None:
        """Start a task that connects."""
        peer = self._known[number] = _Peer(self, number, accepted=False)
        peer.dialling = self._start(self._dial(peer, address))

    def transmit(self, number: ConnectionId, data: bytes) -> bool:
        """Send the bytes; return whether the system took them all. Ignore them if the connection has just ended."""
        peer = self._known.get(number)
        return peer is not None and peer.send(data)

    def disconnect(self, number: ConnectionId) -> None:
        """End the connection at once, without a report."""
        if (peer := self._known.pop(number, None)) is not None:
            peer.end()

    # For the connections.

    def opened(self, peer: _Peer, *, accepted: bool) -> None:
        """Report an open connection. Close it again if it was given up while connecting, or the node has ended."""
        self._connected.add(peer)
        if self._closing or (not accepted and peer.number not in self._known):
            peer.end()
            return
        self._known[peer.number] = peer
        self.post(ConnectionOpened(peer.number, accepted, peer.remote_address() if accepted else ""))

    def lost(self, peer: _Peer, *, accepted: bool) -> None:
        """Report the end of a connection, unless it was ordered."""
        self._connected.discard(peer)
        if accepted:
            self._open.leave()
        if self._known.pop(peer.number, None) is not None:
            self.post(ConnectionClosed(peer.number))
        if self._closing and not self._connected:
            self._all_lost.set()

    # Tasks.

    @asynccontextmanager
    async def serving(self, listener: Listener) -> AsyncIterator[None]:
        """Accept connections during the block. Then close all, and wait until their sockets are closed."""
        sockets = [one.extra(SocketAttribute.raw_socket) for one in listener.listeners]
        try:
            for one in sockets:
                self._loop.add_reader(one, self._accept_from, one)
            yield
        finally:
            self._closing = True
            for one in sockets:
                self._loop.remove_reader(one)
            with anyio.CancelScope(shield=True):  # it takes a few passes of the event loop
                for task in list(self._tasks):
                    task.cancel()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                for peer in list(self._connected):
                    peer.end()
                if self._connected:
                    await self._all_lost.wait()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept_from(self, listener: socket.socket) -> None:
        """Accept what waits; the event loop calls it when something does. After a failure, pause."""
        try:
            while True:
                accepted, _ = listener.accept()
                if self._open.enter():
                    peer = _Peer(self, ConnectionId(next(self._accepted)), accepted=True)
                    self._start(self._accept(peer, accepted)).add_done_callback(partial(_cancelled, peer, accepted))
                else:
                    accepted.close()
        except BlockingIOError:
            return
        except OSError:  # no file descriptor left, or gone before the accept
            self._loop.remove_reader(listener)
            self._loop.call_later(_ACCEPT_PAUSE, self._accept_again, listener)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._closing:
            self._loop.add_reader(listener, self._accept_from, listener)

    async def _accept(self, peer: _Peer, accepted: socket.socket) -> None:
        """Make it a connection; `opened` and `lost` do the rest."""
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: peer, accepted)
        except OSError:  # it is gone again
            accepted.close()
            peer.release()

    async def _dial(self, peer: _Peer, address: str) -> None:
        try:
            host, port = split_address(address)
            connection = await connected_socket(host, port)
            await self._loop.create_connection(lambda: peer, sock=connection)
        except (OSError, ValueError, SettingsError) as failure:
            if self._known.pop(peer.number, None) is not None:
                self.post(DialFailed(peer.number, dial_failure(failure)))
        except asyncio.CancelledError:
            peer.release()
            raise
        finally:
            peer.dialling = None


def _cancelled(peer: _Peer, accepted: socket.socket, task: asyncio.Task[None]) -> None:
    """Close a socket whose task was cancelled, even before its first step."""
    if task.cancelled():
        accepted.close()
        peer.release()
