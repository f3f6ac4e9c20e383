"""`connected_socket`: connect on asyncio to the first address of a name that answers (RFC 6555, "happy eyeballs")."""

from __future__ import annotations

import asyncio
import socket
from itertools import chain, zip_longest
from typing import Any, Final

import anyio

__all__ = ["connected_socket"]

_STAGGER: Final = 0.25
"""Seconds until the next address is tried beside one that has not answered."""

_Address = tuple[Any, ...]


async def connected_socket(host: str, port: int) -> socket.socket:
    """Return a connected socket that does not block. Raise `OSError` if no address of the name answers."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    winner: list[socket.socket] = []
    failures: list[OSError] = []
    group = anyio.create_task_group()

    async def attempt(family: int, address: _Address, over: anyio.Event) -> None:
        try:
            winner.append(await _connect(loop, family, address))
            group.cancel_scope.cancel()
        except OSError as failure:
            failures.append(failure)
        finally:
            over.set()

    try:
        async with group:
            for family, address in _by_turns([(one[0], one[4]) for one in found]):
                over = anyio.Event()
                group.start_soon(attempt, family, address, over)
                with anyio.move_on_after(_STAGGER):
                    await over.wait()
    except BaseException:  # cancelled
        for connected in winner:
            connected.close()
        raise
    if not winner:
        raise OSError(f"no address of {host} answers") from ExceptionGroup("each attempt failed", failures)
    for late in winner[1:]:
        late.close()
    return winner[0]


def _by_turns(found: list[tuple[int, _Address]]) -> list[tuple[int, _Address]]:
    """Return the addresses with the two families alternating, the resolver's first choice first."""
    first = [one for one in found if one[0] == found[0][0]]
    other = [one for one in found if one[0] != found[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, other)) if one is not None]


async def _connect(loop: asyncio.AbstractEventLoop, family: int, address: _Address) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        # asyncio does this by itself only for sockets that name the protocol TCP, which neither these nor accepted do.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection
