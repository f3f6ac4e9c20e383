"""The way of a SET through `raft_kv`, without sockets, node and disk: from requests to log entries, and to replies.

Each figure is the processor time of one SET of 256 bytes, the best of several rounds. "Leader" is what only the node
with the client does; each node applies.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from raft_core import requests
from raft_core.effects import Success
from raft_core.ids import Index, NodeId
from raft_core.node.api import NodeApi
from raft_core.node.driver import Caller
from raft_core.node.events import Answered
from raft_core.node.outcomes import result_of
from raft_kv.client_connection import ClientConnection, ClientTable, Turns
from raft_kv.config import ServeConfig
from raft_kv.output_buffer import OutputBuffer
from raft_kv.service import Service
from raft_kv.state_machine import KeyValueMachine

__all__ = ["measure"]

_KEYS = 100_000
_VALUE = b"v" * 256
_DEPTH = 31
_CLIENTS = 64

_Input: TypeAlias = "list[tuple[ClientConnection, bytes]]"


class _Node(NodeApi):
    """Keeps the requests made."""

    def __init__(self) -> None:
        self.requests: list[tuple[requests.NodeRequest, Caller]] = []

    @property
    def cluster_time(self) -> int:
        return 10**9

    def submit(self, request: requests.NodeRequest, caller: Caller, *, timeout: float | None = None) -> None:
        self.requests.append((request, caller))

    def withdraw(self, caller: Caller) -> None:
        pass

    def result(self, outcome: Answered) -> bytes:
        return result_of(outcome)


class _Transport:
    """Takes everything that is sent."""

    def __init__(self, output: OutputBuffer) -> None:
        self._output = output

    def write(self) -> None:
        while piece := self._output.next_piece():
            self._output.wrote(piece)

    def send(self, data: bytes) -> None:
        pass

    def read(self) -> None:
        pass

    def poll(self) -> None:
        pass

    def finish(self) -> None:
        raise AssertionError("the server has closed a connection")

    abort = finish


class _Socket:
    def getpeername(self) -> object:
        return "127.0.0.1", 1

    def getsockname(self) -> object:
        return "127.0.0.1", 2


class _NoThreads:
    def do(self, work: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        raise AssertionError("a SET has taken a thread")

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        raise AssertionError("a SET has waited")


class _Server:
    """A server's connections and its machine, with some clients."""

    def __init__(self, clients: int) -> None:
        self.node = _Node()
        self.machine = KeyValueMachine()
        service = Service(ServeConfig(id=NodeId(1), max_clients=100), self.machine, "127.0.0.1:1", "127.0.0.1:2")
        self._turns = Turns(lambda work: work())
        self._turns.begin()
        self._table = ClientTable(self.node, service, self._turns, _NoThreads())
        self._index = 0
        self.connections: list[ClientConnection] = []
        for _ in range(clients):
            output = service.admit(_Socket())
            assert output is not None
            self.connections.append(ClientConnection(self._table, output, _Transport(output)))

    def serve(self, pass_input: _Input, spent: list[float]) -> None:
        """Take the requests of one pass, apply their entries, and send the replies; add the time that each takes."""
        begin = time.process_time()
        self._turns.begin()
        for connection, data in pass_input:
            connection.received(data)
        self._turns.end()
        asked, self.node.requests = self.node.requests, []
        received = time.process_time()
        outcomes = []
        for request, _ in asked:
            assert isinstance(request, requests.Propose)
            self._index += 1
            entry = self.machine.prepare(request.command, self._index * 1_000_000)
            outcomes.append(Success(Index(self._index), (self.machine.apply(Index(self._index), entry),)))
        applied = time.process_time()
        for (_, caller), outcome in zip(asked, outcomes, strict=True):
            self._turns.begin()
            caller.deliver(outcome)
        answered = time.process_time()
        spent[0] += received - begin
        spent[1] += applied - received
        spent[2] += answered - applied
        assert not any(connection.busy for connection in self.connections)


def _request(dice: random.Random) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$8\r\n%08d\r\n$256\r\n%b\r\n" % (dice.randrange(_KEYS), _VALUE)


def measure(quick: bool = False) -> dict[str, float]:
    """Each figure under its name, in µs per SET."""
    rounds = 3 if quick else 9
    figures: dict[str, float] = {}
    for shape, clients, depth in (("one pipeline of 31", 1, _DEPTH), ("64 clients, one SET each", _CLIENTS, 1)):
        server, dice = _Server(clients), random.Random(1)
        sets = clients * depth
        inputs = [
            [(connection, b"".join([_request(dice) for _ in range(depth)])) for connection in server.connections]
            for _ in range(5_000 // sets)
        ]
        for _ in range(max(1, 100_000 // 5_000 // 4)):
            for each in inputs:
                server.serve(each, [0.0] * 3)
        best = [float("inf")] * 3
        for _ in range(rounds):
            spent = [0.0] * 3
            for each in inputs:
                server.serve(each, spent)
            best = list(map(min, best, spent))
        names = ("leader, bytes to entry", "each node, applied", "leader, results to bytes")
        for name, seconds in zip(names, best, strict=True):
            figures[f"{shape}: {name}, µs per SET"] = seconds / sets / len(inputs) * 1e6
    return figures
