"""Long values: no command copies all of one to change a little of it, and no client can tell how they are kept."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index
from raft_kv import long_values
from raft_kv.client_session import Session
from raft_kv.client_session_values import Read, Send
from raft_kv.commands.strings import MAX_STRING_BYTES
from raft_kv.log_format import Calls, Query, Versions, encode_entry, encode_query, stamp
from raft_kv.long_values import Long, Value, append, cut_out, overwrite, portion, whole
from raft_kv.output_buffer import OutputBuffer
from raft_kv.state_machine import KeyValueMachine

START = 1_700_000_000_000
CHANGE = st.tuples(st.sampled_from(["append", "overwrite"]), st.integers(0, 60), st.binary(max_size=25))


@settings(deadline=None)
@given(st.lists(CHANGE, max_size=12), st.integers(0, 70), st.integers(0, 70))
def test_a_long_value_is_what_plain_bytes_would_be(changes: list[tuple[str, int, bytes]], first: int, end: int) -> None:
    before = long_values.LONG_BYTES, long_values.PIECE_BYTES, long_values._ZEROS
    long_values.LONG_BYTES, long_values.PIECE_BYTES, long_values._ZEROS = 16, 8, bytes(8)  # type: ignore[misc]
    try:
        value: Value = b""
        plain = b""
        for what, offset, data in changes:
            if what == "append":
                value, plain = append(value, data), plain + data
            elif data:
                value = overwrite(value, offset, data)
                plain = plain[:offset].ljust(offset, b"\0") + data + plain[offset + len(data) :]
            assert whole(value) == plain
            assert value == plain
            assert len(value) == len(plain)
            if isinstance(value, Long):
                assert all(len(piece) == 8 for piece in value.pieces[:-1])
        assert portion(value, first, end) == plain[first:end]
        assert whole(cut_out(value, first, end)) == plain[first:end]
        assert len(cut_out(value, first, end)) == len(plain[first:end])
    finally:
        long_values.LONG_BYTES, long_values.PIECE_BYTES, long_values._ZEROS = before  # type: ignore[misc]


def entry(*call: bytes) -> bytes:
    return stamp(encode_entry(Calls(2, [list(call)])), START)


def test_an_append_to_a_value_of_62_mib_makes_few_new_bytes() -> None:
    """8 clients that appended to such values deposed the leader 18 times in 34 s: each append copied all of it."""
    machine = KeyValueMachine()
    size = 62 * 1024 * 1024
    machine.apply(Index(1), entry(b"setrange", b"a", b"%d" % (size - 1), b"x"))
    before = machine.keyspace.records[b"a"].value
    assert isinstance(before, Long)

    machine.apply(Index(2), entry(b"append", b"a", b"y" * 1000))
    machine.apply(Index(3), entry(b"setrange", b"a", b"1000000", b"z" * 1000))
    after = machine.keyspace.records[b"a"].value

    assert isinstance(after, Long)
    known = {id(piece) for piece in before.pieces}
    assert sum(len(piece) for piece in after.pieces if id(piece) not in known) <= 3 * 65536
    assert len(known) == 2  # zeros are one piece
    assert machine.apply(Index(4), entry(b"getrange", b"a", b"999999", b"1000001")) == b"$3\r\n\0zz\r\n"
    assert machine.apply(Index(5), entry(b"strlen", b"a")) == b":%d\r\n" % (size + 1000)
    too_long = machine.apply(Index(6), entry(b"setrange", b"a", b"%d" % MAX_STRING_BYTES, b"x"))
    assert too_long.startswith(b"-ERR string exceeds")


def entry_of(*calls: list[bytes]) -> bytes:
    return stamp(encode_entry(Calls(2, list(calls))), START)


def test_no_short_entry_copies_long_values_again_and_again() -> None:
    """An entry of 10 KiB with 512 INCRs of a string of 62 MiB held every replica for 60 s, also at each restart."""
    machine = KeyValueMachine()
    size = 62 * 1024 * 1024
    machine.apply(Index(1), entry(b"setrange", b"a", b"%d" % (size - 1), b"x"))
    tracemalloc.start()
    try:
        counted = machine.apply(Index(2), entry_of(*[[b"incr", b"a"]] * 512))
        cut = machine.apply(Index(3), entry_of(*[[b"getrange", b"a", b"1", b"-1"]] * 512))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counted == b"-ERR value is not an integer or out of range\r\n" * 512
    replies = cut.splitlines()
    assert len(replies) == 512
    assert [reply[:20] for reply in (replies[0], replies[-1])] == [b"-ERR carried out, bu", b"-ERR not carried out"]
    assert peak < 4 * 1024 * 1024


def test_many_copies_in_one_entry_are_made_in_a_thread() -> None:
    """2000 APPENDs or SETRANGEs to a value of 500 KiB fit into 42 KiB, and held the loop for 300 ms."""
    machine = KeyValueMachine()
    appends = entry_of(*[[b"append", b"a", b"x"]] * 500)
    assert not machine.is_long(appends)
    machine.apply(Index(1), entry(b"set", b"a", b"v" * 500_000))
    assert machine.is_long(appends)
    assert machine.is_long(entry_of(*[[b"SetRange", b"a", b"1", b"x"]] * 500))
    assert machine.is_long(entry_of(*[[b"GETRANGE", b"a", b"1", b"-1"]] * 2000))
    assert not machine.is_long(entry(b"append", b"a", b"x"))
    assert not machine.is_long(entry(b"set", b"a", b"x"))
    assert not machine.is_long(encode_query(Versions([b"append"] * 50), 1))

    short = KeyValueMachine()
    short.apply(Index(1), entry(b"set", b"a", b"v" * 60_000))
    assert short.is_long(entry_of(*[[b"getrange", b"a", b"1", b"-1"]] * 2900))
    assert short.is_long(entry_of(*[[b"append", b"a", b"x"]] * 4000))
    assert not short.is_long(entry_of(*[[b"append", b"a", b"x"]] * 30))


@pytest.mark.parametrize("cut", [1000, 65536, 10**7])
def test_a_snapshot_holds_long_values_piece_by_piece(cut: int) -> None:
    machine, other = KeyValueMachine(), KeyValueMachine()
    machine.apply(Index(1), entry(b"set", b"short", b"v"))
    machine.apply(Index(2), entry(b"set", b"plain", b"p" * 600_000))
    machine.apply(Index(3), entry(b"setrange", b"long", b"3000000", b"end"))
    machine.apply(Index(4), entry(b"set", b"last", b"v"))
    chunks = list(machine.snapshot())
    data = b"".join(chunks)

    assert max(map(len, chunks)) <= 300_000
    other.restore(data[start : start + cut] for start in range(0, len(data), cut))

    assert b"".join(other.snapshot()) == data
    assert {key: whole(record.value) for key, record in other.keyspace.records.items()} == {
        key: whole(record.value) for key, record in machine.keyspace.records.items()
    }
    assert list(other.keyspace.records) == [b"short", b"plain", b"long", b"last"]


def query(*calls: list[bytes]) -> bytes:
    return encode_query(Query(2, [], list(calls), False), START)


def test_many_values_in_one_reply_take_a_thread() -> None:
    """MGET of one key of 60 KB, named a thousand times, copied 180 MB in the loop: 80 ms."""
    machine = KeyValueMachine()
    machine.apply(Index(1), entry_of([b"set", b"a", b"v" * 60_000], [b"set", b"b", b"v" * 1000]))
    assert machine.is_long(query([b"mget", *[b"a"] * 1000]))
    assert machine.is_long(query([b"MGET", *[b"b"] * 8000]))
    assert machine.is_long(encode_query(Query(2, [], [[b"get", b"a"]] * 1000, True), START))
    assert machine.is_long(encode_query(Query(2, [], [[b"get", b"a"]] * 1000, True, b"u" * 128), START))
    assert not machine.is_long(query(*[[b"get", b"a"]] * 500))
    assert not machine.is_long(query([b"mget", b"a", b"b"]))
    assert not machine.is_long(query([b"mget", *[b"b"] * 1000]))


def test_a_question_for_long_values_takes_a_thread_and_its_answer_is_sent_without_another_copy() -> None:
    """GET of 62 MiB held up the loop twice, for 55 and 151 ms: the value was copied in each of two steps."""
    machine = KeyValueMachine()
    size = 3 * 1024 * 1024
    machine.apply(Index(1), entry(b"setrange", b"a", b"%d" % (size - 1), b"x"))
    machine.apply(Index(2), entry(b"set", b"b", b"short"))
    assert machine.is_long(query([b"get", b"a"]))
    assert machine.is_long(query([b"get", b"b"], [b"mget", b"b", b"a"]))
    assert not machine.is_long(query([b"get", b"b"]))

    session = Session(1)
    (order,) = session.receive(b"GET a\r\n", START)
    assert isinstance(order, Read)
    answer = machine.query(order.query)
    effects = session.answered(answer, START)

    (send,) = [effect for effect in effects if isinstance(effect, Send) and effect.data]
    assert send.data is answer
    output = OutputBuffer(session)
    output.take(effects)
    pieces = []
    while piece := output.next_piece():
        pieces.append(piece)
        output.wrote(piece)
    assert b"".join(pieces) == b"$%d\r\n%b\r\n" % (size, bytes(size - 1) + b"x")
    assert max(map(len, pieces)) <= 64 * 1024
    assert not output.busy
