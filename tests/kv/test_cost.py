"""What a command of one among many clients costs the server, in calls of Python functions, whatever the machine's mood.

The calls of 64 clients' SETs or GETs in one pass, from the bytes received to the bytes sent, without the node between.
"""

from __future__ import annotations

import sys
from collections import Counter
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


@pytest.mark.interpreted
def test_write_of_one_among_many_clients_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, world = _calls(monkeypatch, b"*3\r\n$3\r\nSET\r\n$3\r\nk%02d\r\n$1\r\nv\r\n")

    assert len(world.node.asked) == 1
    most = sum(calls.values()) / CLIENTS
    assert most <= 25, f"{most:.1f} calls per SET: {calls.most_common(30)}"


@pytest.mark.interpreted
def test_read_of_one_among_many_clients_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, world = _calls(monkeypatch, b"*2\r\n$3\r\nGET\r\n$3\r\nk%02d\r\n")

    assert len(world.node.asked) == 1  # one request at the node, for all of them
    most = sum(calls.values()) / CLIENTS
    assert most <= 25, f"{most:.1f} calls per GET: {calls.most_common(30)}"


def _calls(monkeypatch: pytest.MonkeyPatch, command: bytes) -> tuple[Counter[str], World]:
    """Return the calls of a pass in which each client sends this command with its number, until all are answered."""
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)
    machine = KeyValueMachine()
    world = World(Node(), Service(ServeConfig(id=NodeId(1), max_clients=80), machine, "127.0.0.1:1", "127.0.0.1:2"))
    clients = [world.connect()[0] for _ in range(CLIENTS)]
    data = [(client, command % n) for n, client in enumerate(clients)]
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "/raft_" in frame.f_code.co_filename:
            calls[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        world.receive(*data)
        for request in list(world.node.asked):
            if isinstance(request, requests.Propose):
                result = machine.apply(Index(1), request.command)
            else:
                assert isinstance(request, requests.Read)
                result = machine.query(request.query or b"")
            world.node.answer(Success(Index(1), (result,)))
    finally:
        sys.setprofile(before)

    assert not any(client.busy for client in clients)
    return calls, world
