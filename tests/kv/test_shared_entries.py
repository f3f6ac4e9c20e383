"""Short writes of many clients share a log entry, and each client hears what became of its own."""

from __future__ import annotations

import pytest

from raft_core import requests
from raft_core.effects import Indeterminate, Refusal, RefusalReason, Success, UnknownReason
from raft_core.ids import Index, NodeId
from raft_kv import client_connection
from raft_kv.client_connection import ClientConnection
from raft_kv.client_session import Session
from raft_kv.client_session_values import Send, SessionLimits, Share, ShareRead
from raft_kv.commands import ONE_LINE, SHORT_READS, TABLE
from raft_kv.config import ServeConfig
from raft_kv.log_format import Calls, encode_entry
from raft_kv.service import Service
from raft_kv.sharing import SHARED_BYTES
from raft_kv.state_machine import KeyValueMachine
from tests.kv.test_client_connection import Node, Wire, World, calls_of

NOW = 1_700_000_000_000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)
    config = ServeConfig(id=NodeId(1), max_clients=80)
    return World(Node(), Service(config, KeyValueMachine(), "127.0.0.1:1", "127.0.0.1:2"))


def connected(world: World, count: int) -> tuple[list[ClientConnection], list[Wire]]:
    pairs = [world.connect() for _ in range(count)]
    return [connection for connection, _ in pairs], [wire for _, wire in pairs]


def array(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def test_writes_of_one_pass_become_one_entry(world: World) -> None:
    clients, wires = connected(world, 40)

    world.receive(*((client, array(b"SET", b"k%d" % n, b"v")) for n, client in enumerate(clients)))

    (request,) = world.node.asked
    assert calls_of(request) == [[b"SET", b"k%d" % n, b"v"] for n in range(40)]
    world.node.answer(Success(Index(1), (b"+OK\r\n" * 40,)))
    assert [wire.written for wire in wires] == [[b"+OK\r\n"]] * 40
    assert not any(client.busy for client in clients)


def test_each_client_gets_the_replies_to_its_own_commands(world: World) -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), encode_entry(Calls(2, [[b"set", b"text", b"x"]])))
    clients, wires = connected(world, 4)

    inputs = [array(b"INCR", b"n"), array(b"INCR", b"text"), array(b"INCR", b"n") * 3, array(b"DEL", b"text")]
    world.receive(*zip(clients, inputs, strict=True))
    (request,) = world.node.asked
    assert isinstance(request, requests.Propose)
    world.node.answer(Success(Index(2), (machine.apply(Index(2), request.command),)))

    replies = [b"".join(wire.written) for wire in wires]
    assert replies[0] == b":1\r\n"
    assert replies[1].startswith(b"-ERR")
    assert replies[2:] == [b":2\r\n:3\r\n:4\r\n", b":1\r\n"]


def test_refusal_and_unknown_outcome_reach_every_client(world: World) -> None:
    clients, wires = connected(world, 3)
    for outcome in (Refusal(RefusalReason.NO_LEADER), Indeterminate(UnknownReason.DEADLINE)):
        world.receive(*((client, array(b"SET", b"k", b"v")) for client in clients))
        world.node.answer(outcome)

    assert [len(wire.written) for wire in wires] == [2, 2, 2]
    assert all(reply.startswith(b"-") for wire in wires for reply in wire.written)
    assert not any(client.busy for client in clients)


def test_replies_that_cannot_be_told_apart_end_the_connections(world: World) -> None:
    clients, wires = connected(world, 2)
    world.receive(*((client, array(b"SET", b"k", b"v")) for client in clients))

    world.node.answer(Success(Index(1), (b"+OK\r\n",)))

    assert all(wire.aborted and not wire.written for wire in wires)


def test_client_that_is_gone_takes_nothing_from_the_others(world: World) -> None:
    (gone, stays), (_, wire) = connected(world, 2)
    world.receive((gone, array(b"INCR", b"a")), (stays, array(b"INCR", b"b")))
    gone.lost()

    world.node.answer(Success(Index(1), (b":1\r\n:2\r\n",)))

    assert wire.written == [b":2\r\n"]


def test_entry_stays_below_the_size_that_needs_a_thread(world: World) -> None:
    clients, _ = connected(world, 30)

    world.receive(*((client, array(b"SET", b"k", bytes(4096))) for client in clients))

    sizes = [len(request.command) for request in world.node.asked if isinstance(request, requests.Propose)]
    assert len(sizes) == 3
    assert max(sizes) < SHARED_BYTES
    assert not any(KeyValueMachine().is_long(bytes(size)) for size in sizes)


def test_long_replies_and_other_commands_have_entries_of_their_own(world: World) -> None:
    clients, _ = connected(world, 3)

    world.receive(
        (clients[0], array(b"SET", b"k", b"v", b"GET")),
        (clients[1], array(b"GETDEL", b"k")),
        (clients[2], array(b"APPEND", b"k", b"v")),
    )

    assert [len(calls_of(request)) for request in world.node.asked] == [1, 1, 1]


def test_short_path_does_the_same_as_the_long_one() -> None:
    """The commands in `ONE_LINE` and `SHORT_READS`, and their neighbours, in every spelling and cut."""
    limits = SessionLimits(shared_bytes=1000)
    inputs = [array(*call) for call in _calls()]
    inputs += [b"SET a 1\r\n", inputs[0][:5], inputs[0] * 2, inputs[0] + b"*", b"", b"\r\n", b"*0\r\n", b"*3\r\n" * 3]
    for call in ([b"SET", b"k", b"v"], [b"GET", b"k"], [b"SET", b"k", b"x\r\ny"], [b"SET", b"k", bytes(1024)]):
        one, empty = array(*call), array(*call[:-1], b"")
        inputs += [one * 2, one + empty + one, one * 2 + b"*", one + one[:-1], one + b"PING\r\n", b"\r\n" + one * 2]
        inputs += [one + empty.replace(b"$0", b"$1"), one + array(*call[:-1]), one + array(b"GET", *call[1:]), one * 99]
        inputs += [one + array(call[0].lower(), *call[1:]), one + b"\r\n" + one, one + array(b"*3", b"SET", b"$1")]
    for data in inputs:
        short, long = Session(1, limits), Session(1, limits)
        taken = short.short_calls(data)
        expected = long.receive(data, NOW)
        if taken is None:
            assert short.receive(data, NOW) == expected
        else:
            calls, protocol = taken
            shared = ShareRead(calls, len(data), protocol) if protocol else Share(calls, len(data))
            assert expected == [shared]
            assert short.client.last_command == long.client.last_command
        assert short.client.commands == long.client.commands
        if expected and isinstance(expected[-1], Share | ShareRead):
            replies = b":1\r\n" * len(expected[-1].calls)
            if short.short_answered():
                assert long.answered(replies, NOW) == [Send(replies)]
            else:
                assert taken is None
                assert short.answered(replies, NOW) == long.answered(replies, NOW)
            assert short.receive(b"PING\r\n", NOW) == long.receive(b"PING\r\n", NOW)


def _calls() -> list[list[bytes]]:
    words = [b"1", b"2", b"3", b"x\r\ny"]
    return [[name, *words[:count]] for name in [*ONE_LINE, *SHORT_READS, b"Set", b"NOPE"] for count in range(1, 5)]


@pytest.mark.parametrize("name", sorted({known.name for known in ONE_LINE.values()}))
def test_commands_that_share_entries_reply_in_one_line(name: bytes) -> None:
    count = ONE_LINE[name].words
    machine = KeyValueMachine()
    machine.apply(Index(1), encode_entry(Calls(2, [[b"set", b"text", b"x"]])))
    assert "write" in TABLE[name].flags
    for protocol in (2, 3):
        for key in (b"text", b"absent", b"\r\n"):
            call = [name, key, *([b"7\r\n"] * (count - 2))]
            reply = machine.apply(Index(2), encode_entry(Calls(protocol, [call])))
            assert reply.count(b"\r\n") == 1
            assert reply[:1] in b"+-:"
