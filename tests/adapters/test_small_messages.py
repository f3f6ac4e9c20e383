"""Small messages are sent at once: with Nagle's algorithm a reply may wait 40 ms for an acknowledgement."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from typing import TypeGuard

import anyio
import pytest

import raft_anyio
import raft_trio
from raft_anyio.dialing import connected_socket
from raft_core.node.config import NodeConfig
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects
from tests.objects.samples import Bank

BACKENDS = [(raft_anyio, "asyncio"), (raft_anyio, "trio"), (raft_trio, "trio")]


def has_no_delay(one: socket.socket) -> bool:
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_dialled_socket_sends_at_once() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, await connected_socket(*listener.getsockname()) as it:
            assert has_no_delay(it)

    anyio.run(test)


@pytest.mark.parametrize(("adapter", "backend"), BACKENDS)
def test_accepted_socket_sends_at_once(adapter: object, backend: str, tmp_path: Path) -> None:
    async def test() -> None:
        (port,) = free_ports(1)
        config = NodeConfig(1, {1: f"127.0.0.1:{port}"}, data=tmp_path)
        async with adapter.open_node(config, Objects({"bank": Bank()}).machine) as node:  # type: ignore[attr-defined]
            await node.ready()  # before, connections are closed as soon as they are greeted
            with socket.create_connection(("127.0.0.1", port)) as client:
                mine = client.getsockname()
                with anyio.fail_after(60):
                    while not any(is_peer_of(one, mine) and has_no_delay(one) for one in gc.get_objects()):
                        await anyio.sleep(0.01)

    anyio.run(test, backend=backend)


def is_peer_of(one: object, name: object) -> TypeGuard[socket.socket]:
    try:
        return type(one) is socket.socket and one.getpeername() == name
    except OSError:
        return False
