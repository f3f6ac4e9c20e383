"""A client's connection without a loop: its requests at the node, its turns, what waits to be written, its end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import cast

import attrs
import pytest

from raft_core import requests
from raft_core.effects import Refusal, RefusalReason, Success
from raft_core.ids import Index, NodeId
from raft_core.node.api import NodeApi
from raft_core.node.driver import Caller
from raft_core.node.events import Answered
from raft_core.node.outcomes import result_of
from raft_kv import client_connection
from raft_kv.client_connection import ClientConnection, ClientTable, Threads, Turns
from raft_kv.client_session import Session
from raft_kv.client_sockets import ClientSockets
from raft_kv.config import ServeConfig
from raft_kv.log_format import Calls, decode_entry
from raft_kv.output_buffer import MAX_UNSENT_BYTES, OutputBuffer
from raft_kv.service import TOO_MANY, Service
from raft_kv.state_machine import KeyValueMachine

DONE = Success(Index(1), (b"+OK\r\n",))


class Node(NodeApi):
    """Keeps requests until the test answers them."""

    def __init__(self) -> None:
        self.asked: list[requests.NodeRequest] = []
        self.callers: list[Caller] = []
        self.withdrawn: list[Caller] = []

    @property
    def cluster_time(self) -> int:
        return 10**9

    def submit(self, request: requests.NodeRequest, caller: Caller, *, timeout: float | None = None) -> None:
        self.asked.append(request)
        self.callers.append(caller)

    def withdraw(self, caller: Caller) -> None:
        self.withdrawn.append(caller)

    def result(self, outcome: Answered) -> bytes:
        return result_of(outcome)

    def answer(self, outcome: Answered = DONE) -> None:
        self.callers.pop(0).deliver(outcome)


@attrs.define(eq=False)
class Wire:
    """A transport that writes when the test says so, into a list."""

    output: OutputBuffer
    stuck: bool = False
    written: list[bytes] = attrs.field(factory=list)
    arrived: list[bytes] = attrs.field(factory=list)
    reads: int = 0
    finished: bool = False
    aborted: bool = False
    connection: ClientConnection | None = None

    def write(self) -> None:
        while not self.stuck and (piece := self.output.next_piece()):
            self.written.append(piece)
            self.output.wrote(piece)

    def send(self, data: bytes) -> None:
        self.output.put(data)
        self.write()

    def read(self) -> None:
        self.reads += 1

    def poll(self) -> None:
        if self.arrived:
            assert self.connection is not None
            self.connection.received(self.arrived.pop())

    def finish(self) -> None:
        self.finished = True
        self.write()

    def abort(self) -> None:
        self.aborted = True


@attrs.define(eq=False)
class World:
    node: Node
    service: Service
    due: list[Callable[[], None]] = attrs.field(factory=list)
    table: ClientTable = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        turns = Turns(self.due.append)
        turns.begin()
        self.table = ClientTable(self.node, self.service, turns, cast(Threads, None))  # no password here

    def connect(self) -> tuple[ClientConnection, Wire]:
        output = self.service.admit(_Ends())
        assert output is not None
        wire = Wire(output)
        wire.connection = ClientConnection(self.table, output, wire)
        return wire.connection, wire

    def receive(self, *inputs: tuple[ClientConnection, bytes]) -> None:
        """Hand these bytes in, within one pass."""
        self.table.turns.begin()
        for connection, data in inputs:
            connection.received(data)
        self.table.turns.end()

    def next_pass(self) -> None:
        due, self.due[:] = list(self.due), []
        for work in due:
            work()


class _Ends:
    def getpeername(self) -> object:
        return "127.0.0.1", 1

    def getsockname(self) -> object:
        return "127.0.0.1", 2


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)  # only the tests of turns run out of time
    config = ServeConfig(id=NodeId(1), max_clients=80)
    return World(Node(), Service(config, KeyValueMachine(), "127.0.0.1:1", "127.0.0.1:2"))


def calls_of(request: requests.NodeRequest) -> list[list[bytes]]:
    assert isinstance(request, requests.Propose)
    _, command = decode_entry(request.command)
    assert isinstance(command, Calls)
    return command.calls


def test_outcome_that_comes_twice_is_written_once(world: World) -> None:
    """A node that fails in the middle of a turn answers everyone who may wait, some twice."""
    connection, wire = world.connect()
    world.receive((connection, b"SET a 1\r\n"))
    (caller,) = world.node.callers
    caller.deliver(DONE)
    caller.deliver(DONE)
    assert wire.written == [b"+OK\r\n"]
    assert not wire.aborted


def test_request_is_submitted_at_once_and_its_outcome_written_at_once(world: World) -> None:
    connection, wire = world.connect()

    world.receive((connection, b"SET a 1\r\n"))

    assert calls_of(world.node.asked[0]) == [[b"SET", b"a", b"1"]]
    assert connection.busy
    world.node.answer()
    assert wire.written == [b"+OK\r\n"]
    assert not connection.busy
    assert wire.reads == 1


def test_refused_request_is_answered_with_error_and_next_goes_on(world: World) -> None:
    connection, wire = world.connect()

    world.receive((connection, b"SET a 1\r\nGET a\r\n"))
    world.node.answer(Refusal(RefusalReason.NO_LEADER))

    assert wire.written[0].startswith(b"-")
    assert isinstance(world.node.asked[1], requests.Read)
    assert connection.busy


def test_node_that_has_ended_refuses_without_endless_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, wire = world.connect()

    def ended(*_: object, **__: object) -> None:
        result_of(Refusal(RefusalReason.STOPPING))

    monkeypatch.setattr(Node, "submit", ended)
    world.receive((connection, b"SET a 1\r\nGET a\r\nSET a 2\r\n"))

    for _ in range(2):  # the read, and the write behind it, each at the end of a pass
        world.next_pass()

    assert b"".join(wire.written).count(b"\r\n") == 3
    assert not connection.busy


def test_next_order_waits_while_too_much_is_unsent(world: World) -> None:
    connection, wire = world.connect()
    wire.stuck = True
    wire.output.unsent = MAX_UNSENT_BYTES

    world.receive((connection, b"PING\r\nSET a 1\r\n"))
    assert connection.busy
    assert world.node.asked == []
    connection.drained()
    assert world.node.asked == []

    wire.output.unsent -= MAX_UNSENT_BYTES
    wire.stuck = False
    connection.drained()
    world.next_pass()
    assert len(world.node.asked) == 1


def test_client_that_is_lost_withdraws_its_request_once(world: World) -> None:
    connection, _ = world.connect()
    world.receive((connection, b"MGET a\r\n"))  # a query of its own

    connection.lost()
    connection.lost()

    assert world.node.withdrawn == [connection]
    assert world.table.connections == {}
    assert world.service.outputs == set()
    world.node.answer()  # it was on its way already


def test_defect_which_one_client_meets_ends_its_connection_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, wire = world.connect()
    other, _ = world.connect()

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "receive", broken)
        world.receive((connection, b"PING\r\n"))

    assert wire.aborted
    assert list(world.table.connections.values()) == [other]


def test_leaving_connection_answers_what_has_arrived_then_ends(world: World) -> None:
    busy, busy_wire = world.connect()
    idle, idle_wire = world.connect()
    late, late_wire = world.connect()
    world.receive((busy, b"SET a 1\r\n"))
    late_wire.arrived.append(b"SET b 2\r\n")

    world.service.leaving = True
    world.table.leave()

    assert [busy_wire.finished, idle_wire.finished, late_wire.finished] == [False, True, False]
    assert idle.busy
    world.node.answer()
    world.node.answer()
    assert busy_wire.written == late_wire.written == [b"+OK\r\n"]
    assert busy_wire.finished
    assert late_wire.finished
    assert late.busy


def test_client_kill_closes_connection_of_another(world: World) -> None:
    killer, wire = world.connect()
    victim, victim_wire = world.connect()

    world.receive((killer, b"CLIENT KILL ID %d\r\n" % victim.output.session.number))

    assert wire.written == [b":1\r\n"]
    assert victim_wire.aborted
    assert not killer.busy


def test_clients_of_crowded_pass_have_their_turns_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wires = [world.connect() for _ in range(3)]
    monkeypatch.setattr(client_connection, "PASS_SECONDS", -1.0)
    world.table.turns.begin()

    for connection, _ in wires:
        connection.received(b"PING\r\n")
    assert all(connection.busy for connection, _ in wires)

    for done in range(1, 4):  # one in each pass, because a pass has no time for a second
        world.next_pass()
        assert [len(wire.written) for _, wire in wires] == [1] * done + [0] * (3 - done)
    assert world.due == []
    assert not any(connection.busy for connection, _ in wires)


# Real sockets, without a loop.


@pytest.fixture
def sockets(world: World) -> Iterator[tuple[ClientSockets, tuple[str, int], list[tuple[float, Callable[[], None]]]]]:
    later: list[tuple[float, Callable[[], None]]] = []
    found = ClientSockets(
        world.table.turns,
        world.service.admit,
        lambda output, transport: ClientConnection(world.table, output, transport),
        lambda seconds, work: later.append((seconds, work)),
        refused=world.service.refuse,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        found.listen([listener])
        yield found, listener.getsockname(), later
        world.table.close()
        found.close()


def test_many_clients_that_come_at_once_are_accepted_in_few_passes(
    world: World, sockets: tuple[ClientSockets, tuple[str, int], object]
) -> None:
    served, address, _ = sockets
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, 5.0)) for _ in range(81)]
        served.serve()
        served.serve()
        assert len(world.table.connections) == 80
        assert clients[80].recv(100) == TOO_MANY

        for client in clients[:80]:
            client.sendall(b"PING\r\n")
        served.serve()
        assert {client.recv(100) for client in clients[:80]} == {b"+PONG\r\n"}


def test_what_the_system_does_not_take_waits_until_the_client_reads(
    world: World, sockets: tuple[ClientSockets, tuple[str, int], object]
) -> None:
    served, address, _ = sockets
    with socket.create_connection(address, 5.0) as client:
        served.serve()
        (connection,) = world.table.connections.values()
        reply = b"$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        answered = 0
        while not connection.output.unsent:  # the system takes no more, until the client reads
            client.sendall(b"MGET a\r\n")
            while not world.node.callers:
                served.serve()
            world.node.answer(Success(Index(1), (b"\0\0\0\0\1" + reply,)))
            answered += 1
            served.serve()
            served.serve()

        received = 0
        while received < answered * len(reply):
            served.serve()
            received += len(client.recv(1 << 20))
        served.serve()
        assert received == answered * len(reply)
        assert not connection.output.busy


def test_client_that_ends_its_input_has_its_last_answer(
    world: World, sockets: tuple[ClientSockets, tuple[str, int], object]
) -> None:
    served, address, _ = sockets
    with socket.create_connection(address, 5.0) as client:
        served.serve()
        client.sendall(b"SET a 1\r\n")
        client.shutdown(socket.SHUT_WR)
        served.serve()
        served.serve()
        assert world.node.withdrawn == []

        world.node.answer()
        served.serve()

        assert client.recv(100) == b"+OK\r\n"
        assert client.recv(100) == b""
        assert world.table.connections == {}


def test_listener_rests_while_no_descriptor_is_left(
    world: World,
    sockets: tuple[ClientSockets, tuple[str, int], list[tuple[float, Callable[[], None]]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served, address, later = sockets

    def exhausted(_: socket.socket) -> None:
        raise OSError(24, "too many open files")

    with socket.create_connection(address, 5.0):
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", exhausted)
            served.serve()
            served.serve()
        assert [seconds > 0 for seconds, _ in later] == [True]

        later[0][1]()
        served.serve()
        assert len(world.table.connections) == 1
