"""Connections on asyncio's protocols, where no peer can show it: a socket that breaks while it is accepted."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from raft_anyio.asyncio_connections import AsyncioConnections
from raft_core.node.events import ConnectionOpened, NodeEvent
from raft_core.node.limits import NodeLimits


class Reset(socket.socket):
    """A connection that its peer has reset: some systems refuse to set options of it."""

    def setsockopt(self, *_: object) -> None:
        raise OSError(22, "Invalid argument")


class Tcp(socket.socket):
    """A socket of a pair, which takes the options of TCP."""

    def __init__(self, of: socket.socket) -> None:
        super().__init__(of.family, of.type, of.proto, of.detach())

    def setsockopt(self, *_: object) -> None:
        pass


class Backlog:
    """A listening socket with these connections waiting."""

    def __init__(self, *waiting: socket.socket) -> None:
        self.waiting = list(waiting)

    def accept(self) -> tuple[socket.socket, str]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0), "somewhere"


def test_connections_that_break_while_they_are_accepted_take_no_place_of_others() -> None:
    async def run() -> list[NodeEvent]:
        heard: list[NodeEvent] = []
        limits = NodeLimits(address="127.0.0.1:1", peers={}, max_connections=1)
        table = AsyncioConnections(heard.append, limits)
        broken = [Reset() for _ in range(100)]
        table._accept_from(cast(socket.socket, Backlog(*broken)))
        await asyncio.sleep(0)
        near, far = socket.socketpair()
        with far:
            async with asyncio.timeout(5):
                table._accept_from(cast(socket.socket, Backlog(Tcp(near))))
                while not heard:
                    await asyncio.sleep(0.001)
        for peer in list(table._connected):
            peer.end()
        await asyncio.sleep(0)
        assert all(each.fileno() < 0 for each in broken), "they are closed"
        return heard

    assert type(asyncio.run(run())[0]) is ConnectionOpened


def test_socket_that_is_accepted_as_the_node_closes_is_closed() -> None:
    async def run() -> None:
        limits = NodeLimits(address="127.0.0.1:1", peers={}, max_connections=1)
        table = AsyncioConnections(lambda _: None, limits)
        near, far = socket.socketpair()
        with far:
            table._accept_from(cast(socket.socket, Backlog(Tcp(near))))
            (task,) = table._tasks
            task.cancel()  # before its first step
            await asyncio.wait([task])
            await asyncio.sleep(0)
            far.settimeout(5)
            assert far.recv(1) == b"", "the other side hears of it"
        assert table._open.enter(), "its place is free"

    asyncio.run(run())
