"""What a command costs the server, in calls of Python functions, whatever the machine's mood.

From the bytes received to the log entry or query, and from that to the replies and the bytes sent, without the node
between: of 64 clients in one pass, and of a pipeline.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from raft_core import requests
from raft_core.effects import Success
from raft_core.ids import Index, NodeId
from raft_kv import client_connection
from raft_kv.config import ServeConfig
from raft_kv.service import Service
from raft_kv.state_machine import KeyValueMachine
from tests.kv.test_client_connection import Node, World

CLIENTS = 64
DEPTH = 31
SET = b"*3\r\n$3\r\nSET\r\n$3\r\nk%02d\r\n$1\r\nv\r\n"
GET = b"*2\r\n$3\r\nGET\r\n$3\r\nk%02d\r\n"


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls of functions of our packages, by their names."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "/raft_" in frame.f_code.co_filename:
            calls[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


@pytest.fixture
def machine() -> KeyValueMachine:
    return KeyValueMachine()


@pytest.fixture
def world(machine: KeyValueMachine, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)
    config = ServeConfig(id=NodeId(1), max_clients=80)
    return World(Node(), Service(config, machine, "127.0.0.1:1", "127.0.0.1:2"))


@pytest.mark.interpreted
@pytest.mark.parametrize(("command", "most"), [(SET, 22), (GET, 25)], ids=["SET", "GET"])
def test_command_of_one_among_many_clients_takes_few_calls(
    command: bytes, most: float, world: World, machine: KeyValueMachine
) -> None:
    clients = [world.connect()[0] for _ in range(CLIENTS)]
    data = [(client, command % number) for number, client in enumerate(clients)]
    with counted() as calls:
        world.receive(*data)
        answer_all(world, machine)

    assert len(world.node.asked) == 1  # one request at the node, for all of them
    assert not any(client.busy for client in clients)
    assert per(CLIENTS, calls) <= most, calls.most_common(30)


@pytest.mark.interpreted
def test_pipelined_write_takes_few_calls(world: World, machine: KeyValueMachine) -> None:
    """In the leader's session, and in each node's machine."""
    client, wire = world.connect()
    pipeline = b"".join([SET % number for number in range(DEPTH)])
    with counted() as taken:
        world.receive((client, pipeline))
    (request,) = world.node.asked
    assert isinstance(request, requests.Propose)
    machine.apply(Index(1), request.command)
    with counted() as applied:
        replies = machine.apply(Index(2), request.command)
    with counted() as answered:
        world.node.answer(Success(Index(2), (replies,)))

    assert wire.written == [b"+OK\r\n" * DEPTH]
    assert per(DEPTH, taken + answered) <= 1.2, (taken + answered).most_common(30)
    assert per(DEPTH, applied) <= 0.6, applied.most_common(30)


def answer_all(world: World, machine: KeyValueMachine) -> None:
    """Carry out what the clients have asked of the node."""
    for request in list(world.node.asked):
        if isinstance(request, requests.Propose):
            result = machine.apply(Index(1), request.command)
        else:
            assert isinstance(request, requests.Read)
            result = machine.query(request.query or b"")
        world.node.answer(Success(Index(1), (result,)))


def per(commands: int, calls: Counter[str]) -> float:
    return sum(calls.values()) / commands
