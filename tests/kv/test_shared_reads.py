"""Short reads of many clients share a query, and each client hears what became of its own."""

from __future__ import annotations

import pytest

from raft_core import requests
from raft_core.effects import Indeterminate, Refusal, RefusalReason, Success, UnknownReason
from raft_core.ids import NO_INDEX, Index, NodeId
from raft_core.node.outcomes import result_of
from raft_kv import client_connection
from raft_kv.client_session_state import APART
from raft_kv.commands import SHORT_READS, TABLE
from raft_kv.config import ServeConfig
from raft_kv.log_format import (
    QUERY,
    Calls,
    ChangeUser,
    Query,
    decode_answer,
    decode_short_reads,
    decode_short_replies,
    encode_entry,
    encode_query,
    encode_short_reads,
    stamp,
)
from raft_kv.log_format import SHORT_READS as TOGETHER
from raft_kv.service import Service
from raft_kv.sharing import MOST_CALLS, SHARED_BYTES
from raft_kv.short_reads import SHORT_VALUE
from raft_kv.state_machine import KeyValueMachine
from tests.kv.test_client_connection import Node, Wire, World
from tests.kv.test_shared_entries import array, connected


@pytest.fixture
def machine() -> KeyValueMachine:
    return KeyValueMachine()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, machine: KeyValueMachine) -> World:
    monkeypatch.setattr(client_connection, "PASS_SECONDS", 3600.0)
    return World(Node(), Service(ServeConfig(id=NodeId(1), max_clients=80), machine, "127.0.0.1:1", "127.0.0.1:2"))


def wrote(machine: KeyValueMachine, *calls: list[bytes], time: int = 1) -> None:
    machine.apply(Index(machine.keyspace.index + 1), stamp(encode_entry(Calls(2, list(calls))), time))


def queries(world: World) -> list[bytes]:
    """Return the queries at the node so far."""
    return [request.query or b"" for request in world.node.asked if isinstance(request, requests.Read)]


def answer_next(world: World, machine: KeyValueMachine) -> None:
    """Answer the oldest open request as a node does, then let everything that waits have its turn."""
    open_one = world.node.asked[len(world.node.asked) - len(world.node.callers)]
    if isinstance(open_one, requests.Read):
        result = machine.query(open_one.query or b"")
    else:
        assert isinstance(open_one, requests.Propose)
        prepared = machine.prepare(open_one.command, world.node.cluster_time)
        result = machine.apply(Index(machine.keyspace.index + 1), prepared)
    world.node.answer(Success(NO_INDEX, (result,)))
    world.next_pass()
    world.next_pass()


def said(wire: Wire) -> bytes:
    return b"".join(wire.written)


def test_reads_of_one_pass_become_one_query(world: World, machine: KeyValueMachine) -> None:
    clients, wires = connected(world, 40)
    wrote(machine, *([b"SET", b"k%d" % n, b"v%d" % n] for n in range(40)))

    world.receive(*((client, array(b"GET", b"k%d" % n)) for n, client in enumerate(clients)))

    (query,) = queries(world)
    assert decode_short_reads(query)[1].calls == [[b"GET", b"k%d" % n] for n in range(40)]
    answer_next(world, machine)
    assert [wire.written for wire in wires] == [[b"$%d\r\nv%d\r\n" % (len(b"v%d" % n), n)] for n in range(40)]
    assert not any(client.busy for client in clients)


def test_each_client_gets_the_replies_to_its_own_commands(world: World, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"text", b"a\r\n$-1\r\n"], [b"SET", b"empty", b""], [b"SET", b"n", b"12", b"PX", b"5000"])
    clients, wires = connected(world, 5)
    inputs = [
        array(b"GET", b"text"),
        array(b"GET", b"absent") + array(b"STRLEN", b"text") + array(b"GET", b"empty"),
        b"GET n\r\n",
        array(b"ttl", b"n"),
        array(b"TYPE", b"text") + array(b"EXISTS", b"absent"),
    ]

    world.receive(*zip(clients, inputs, strict=True))
    assert len(queries(world)) == 1
    answer_next(world, machine)

    replies = [b"$8\r\na\r\n$-1\r\n\r\n", b"$-1\r\n:8\r\n$0\r\n\r\n", b"$2\r\n12\r\n", b":4\r\n", b"+string\r\n:0\r\n"]
    assert [said(wire) for wire in wires] == replies


def test_clients_of_both_protocols_have_replies_of_their_own(world: World, machine: KeyValueMachine) -> None:
    clients, wires = connected(world, 4)
    for wire in wires[2:]:
        wire.output.session.client.protocol = 3  # as after HELLO 3

    world.receive(*((client, array(b"GET", b"absent")) for client in clients))
    assert [decode_short_reads(query)[1].protocol for query in queries(world)] == [2, 3]
    answer_next(world, machine)
    answer_next(world, machine)

    assert [said(wire) for wire in wires] == [b"$-1\r\n", b"$-1\r\n", b"_\r\n", b"_\r\n"]


@pytest.mark.parametrize(
    "outcome", [Refusal(RefusalReason.NO_LEADER), Indeterminate(UnknownReason.DEADLINE)], ids=["refused", "unknown"]
)
def test_failure_reaches_every_client_once_for_each_command(world: World, outcome: Refusal | Indeterminate) -> None:
    clients, wires = connected(world, 3)
    world.receive(*((client, array(b"GET", b"k") * (n + 1)) for n, client in enumerate(clients)))

    world.node.answer(outcome)

    assert [said(wire).count(b"\r\n") for wire in wires] == [1, 2, 3]
    assert all(reply.startswith(b"-") for wire in wires for reply in wire.written)
    assert not any(client.busy for client in clients)


def test_node_that_refuses_at_once_fails_every_client(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clients, wires = connected(world, 3)
    monkeypatch.setattr(Node, "submit", lambda *_, **__: result_of(Refusal(RefusalReason.READS_FULL)))

    world.receive(*((client, array(b"GET", b"k")) for client in clients))

    assert [said(wire).count(b"\r\n") for wire in wires] == [1, 1, 1]
    assert not any(client.busy for client in clients)


def test_only_first_outcome_counts(world: World, machine: KeyValueMachine) -> None:
    (client,), (wire,) = connected(world, 1)
    world.receive((client, array(b"GET", b"k")))
    (caller,) = world.node.callers

    answer_next(world, machine)
    caller.deliver(Refusal(RefusalReason.NO_LEADER))

    assert wire.written == [b"$-1\r\n"]


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x00\x00\x00\x01$-1\r\n", b"\x91\xc4\x05$-1\r\n"], ids=["no", "other", "few"]
)
def test_replies_that_cannot_be_told_apart_end_the_connections(world: World, data: bytes) -> None:
    clients, wires = connected(world, 2)
    world.receive(*((client, array(b"GET", b"k")) for client in clients))

    world.node.answer(Success(NO_INDEX, (data,)))

    assert all(wire.aborted and not wire.written for wire in wires)


def test_client_that_is_gone_takes_nothing_from_the_others(world: World, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"a", b"1"], [b"SET", b"b", b"2"])
    (gone, stays), (silent, wire) = connected(world, 2)
    world.receive((gone, array(b"GET", b"a")), (stays, array(b"GET", b"b")))
    gone.lost()

    answer_next(world, machine)

    assert (silent.written, wire.written) == ([], [b"$1\r\n2\r\n"])
    assert world.node.withdrawn == []


def test_queries_stay_below_size_and_number(world: World) -> None:
    clients, _ = connected(world, 30)
    world.receive(*((client, array(b"GET", bytes(4096))) for client in clients))
    sizes = [len(query) for query in queries(world)]
    assert len(sizes) == 3
    assert max(sizes) < SHARED_BYTES
    assert not any(KeyValueMachine().is_long(query) for query in queries(world))

    world.node.asked.clear()
    clients, _ = connected(world, 50)
    world.receive(*((client, array(b"GET", b"k") * 20) for client in clients))
    counts = [len(decode_short_reads(query)[1].calls) for query in queries(world)]
    assert (sum(counts), len(counts)) == (1000, 2)
    assert max(counts) <= MOST_CALLS


def test_long_value_is_read_by_its_client_alone_and_for_a_while(world: World, machine: KeyValueMachine) -> None:
    value = bytes(SHORT_VALUE + 1)
    wrote(machine, [b"SET", b"long", value], [b"SET", b"short", value[1:]])
    (one, other), (wire, second) = connected(world, 2)

    world.receive((one, array(b"GET", b"long")), (other, array(b"GET", b"short")))
    answer_next(world, machine)

    assert said(second) == b"$%d\r\n%b\r\n" % (SHORT_VALUE, value[1:])
    assert not wire.written
    assert [query[:1] for query in queries(world)] == [TOGETHER, QUERY]
    answer_next(world, machine)
    assert said(wire) == b"$%d\r\n%b\r\n" % (SHORT_VALUE + 1, value)
    kinds = []
    for _ in range(APART + 1):
        world.receive((one, array(b"GET", b"short")))
        kinds.append(queries(world)[-1][:1])
        answer_next(world, machine)
    assert kinds == [QUERY] * APART + [TOGETHER]


def test_refused_share_leaves_the_order_of_a_clients_replies(world: World, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"long", bytes(SHORT_VALUE + 1)])
    (client,), (wire,) = connected(world, 1)

    world.receive(
        (client, array(b"STRLEN", b"long") + array(b"GET", b"long") + array(b"SET", b"long", b"x") + b"PING\r\n")
    )
    while world.node.callers:
        answer_next(world, machine)

    assert said(wire) == b":%d\r\n$%d\r\n%b\r\n+OK\r\n+PONG\r\n" % (
        SHORT_VALUE + 1, SHORT_VALUE + 1, bytes(SHORT_VALUE + 1)
    )  # fmt: skip


def test_key_that_should_have_expired_is_not_shown(world: World, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"k", b"v", b"PX", b"10"], [b"SET", b"other", b"v"], time=1)
    (one, other), (wire, second) = connected(world, 2)  # the node's clock is at a second

    world.receive((one, array(b"GET", b"k")), (other, array(b"GET", b"other")))
    answer_next(world, machine)

    assert (wire.written, second.written) == ([], [b"$1\r\nv\r\n"])
    while world.node.callers:
        answer_next(world, machine)
    assert said(wire) == b"$-1\r\n"


def test_users_that_come_into_force_meanwhile_are_obeyed(world: World, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"k", b"secret"])
    (client,), (wire,) = connected(world, 1)
    world.receive((client, array(b"GET", b"k")))
    machine.apply(Index(2), encode_entry(ChangeUser(b"ann", [b"on", b"nopass", b"+@all", b"~*"])))

    while world.node.callers:
        answer_next(world, machine)

    assert said(wire).startswith(b"-NO")


def test_read_waits_for_the_write_before_it(world: World, machine: KeyValueMachine) -> None:
    clients, wires = connected(world, 2)
    world.receive(
        *((client, array(b"SET", b"k%d" % n, b"v") + array(b"GET", b"k%d" % n)) for n, client in enumerate(clients))
    )
    assert not queries(world)

    answer_next(world, machine)

    assert len(queries(world)) == 1
    answer_next(world, machine)
    assert [said(wire) for wire in wires] == [b"+OK\r\n$1\r\nv\r\n"] * 2


def test_other_reads_have_queries_of_their_own(world: World) -> None:
    clients, _ = connected(world, 5)
    other = [(b"MGET", b"a", b"b"), (b"GETRANGE", b"a", b"0", b"1"), (b"EXISTS", b"a", b"b"), (b"GET",), (b"DBSIZE",)]

    world.receive(*((client, array(*call)) for client, call in zip(clients, other, strict=True)))

    assert [query[:1] for query in queries(world)] == [QUERY] * 4  # GET without a key is answered at once


def test_query_that_cannot_be_read_is_answered() -> None:
    machine = KeyValueMachine()
    for broken in (TOGETHER, TOGETHER + bytes(8) + b"\xff", TOGETHER + b"\xff" * 8 + b"\x92\x02\x90"):
        assert machine.query(broken) == b"\x90"
    calls = [[], [b"SET", b"k", b"v"], [b"NOPE", b"x"], [b"GET", b"a", b"b"]]
    assert machine.query(encode_short_reads(2, calls, 0)) == b"\x94" + b"\xc0" * 4


@pytest.mark.parametrize("name", sorted({known.name for known in SHORT_READS.values()}))
def test_short_reads_answer_as_queries_of_their_own_do(name: bytes, machine: KeyValueMachine) -> None:
    wrote(machine, [b"SET", b"text", b"x" * 300], [b"SET", b"dying", b"1", b"PX", b"5000"])
    assert "readonly" in TABLE[name].flags
    for protocol in (2, 3):
        for key in (b"text", b"absent", b"dying", b"\r\n", b""):
            call = [name.upper(), key]
            own = decode_answer(machine.query(encode_query(Query(protocol, [], [call], False), 1000)))
            together = machine.query(encode_short_reads(protocol, [call], 1000))
            assert decode_short_replies(together) == [own.replies]
