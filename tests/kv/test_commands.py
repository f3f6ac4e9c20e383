"""The table of commands: against a naive model, against the texts that Redis users know, and as a table."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index
from raft_kv.commands import READ, SESSION, TABLE, WRITE, look_up, strings
from raft_kv.glob import matcher
from raft_kv.log_format import Calls, Query, decode_answer, encode_entry, encode_query, stamp
from raft_kv.long_values import whole
from raft_kv.state_machine import KeyValueMachine

START = 1_700_000_000_000


class Replica:
    """A machine that is spoken to in words; every call is an entry of its own."""

    def __init__(self) -> None:
        self.machine = KeyValueMachine()
        self.index = 0
        self.now = START

    def say(self, *words: str | bytes | int) -> object:
        call = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.index += 1
        entry = stamp(encode_entry(Calls(2, [call])), self.now)
        reader = hiredis.Reader()
        reader.feed(self.machine.apply(Index(self.index), entry))
        answer = reader.gets()
        return str(answer) if isinstance(answer, Exception) else answer

    def do(self, line: str) -> object:
        return self.say(*line.split())


_WORDS = st.sampled_from(["a", "b", "c"])
_VALUES = st.sampled_from(["1", "x", "-3", "9223372036854775807", ""])
_ACTIONS = st.one_of(
    st.tuples(st.just("set"), _WORDS, _VALUES),
    st.tuples(st.sampled_from(["get", "del", "exists", "strlen", "incr", "decr", "getdel", "type"]), _WORDS),
    st.tuples(st.sampled_from(["setnx", "getset", "append"]), _WORDS, _VALUES),
    st.tuples(st.just("mset"), _WORDS, _VALUES, _WORDS, _VALUES),
    st.tuples(st.just("mget"), _WORDS, _WORDS),
    st.tuples(st.just("dbsize")),
)


def naive(data: dict[str, str], action: tuple[str, ...]) -> object:
    """The same commands on a plain dictionary, written as plainly as possible."""
    name, *rest = action
    key = rest[0] if rest else ""
    old = data.get(key)
    match name:
        case "set":
            data[key] = rest[1]
            return "OK"
        case "setnx":
            data.setdefault(key, rest[1])
            return int(old is None)
        case "getset":
            data[key] = rest[1]
            return old
        case "append":
            data[key] = (old or "") + rest[1]
            return len(data[key])
        case "getdel":
            data.pop(key, None)
            return old
        case "get":
            return old
        case "del":
            return int(data.pop(key, None) is not None)
        case "exists":
            return int(key in data)
        case "strlen":
            return len(old or "")
        case "type":
            return "none" if old is None else "string"
        case "mset":
            data.update({rest[0]: rest[1]} | {rest[2]: rest[3]})
            return "OK"
        case "mget":
            return [data.get(word) for word in rest]
        case "dbsize":
            return len(data)
        case "incr" | "decr":
            step = 1 if name == "incr" else -1
            try:
                total = int(old or "0") if old != "" else int("not a number")
            except ValueError:
                return "ERR value is not an integer or out of range"
            if not -(2**63) <= total < 2**63:
                return "ERR value is not an integer or out of range"
            if not -(2**63) <= total + step < 2**63:
                return "ERR increment or decrement would overflow"
            data[key] = str(total + step)
            return total + step
    raise AssertionError(name)


def as_bytes(answer: object) -> object:
    if isinstance(answer, list):
        return [as_bytes(item) for item in answer]
    return answer.encode() if isinstance(answer, str) and not answer.startswith("ERR") else answer


@settings(max_examples=150, deadline=None)
@given(st.lists(_ACTIONS, max_size=30))
def test_the_commands_do_what_a_plain_dictionary_does(actions: list[tuple[str, ...]]) -> None:
    replica, model = Replica(), dict[str, str]()
    for action in actions:
        assert replica.say(*action) == as_bytes(naive(model, action)), action
    assert {
        key.decode(): whole(record.value).decode() for key, record in replica.machine.keyspace.records.items()
    } == model


@pytest.mark.parametrize(
    ("lines", "answers"),
    [
        (["set a 1 nx", "set a 2 nx", "get a"], [b"OK", None, b"1"]),
        (["set a 1 xx", "set a 1", "set a 2 xx", "get a"], [None, b"OK", b"OK", b"2"]),
        (["set a 1 get", "set a 2 get", "set a 3 nx get", "get a"], [None, b"1", b"2", b"2"]),
        (["set a 1 ex 10", "set a 2 keepttl", "ttl a", "set a 3", "ttl a"], [b"OK", b"OK", 10, b"OK", -1]),
        (["set a 1 px 1500", "pttl a", "ttl a"], [b"OK", 1500, 2]),
        ([f"set a 1 exat {START // 1000 + 7}", "ttl a"], [b"OK", 7]),
        ([f"set a 1 pxat {START + 70}", "pttl a", "pexpiretime a"], [b"OK", 70, START + 70]),
        ([f"set a 1 pxat {START + 70}", "expiretime a"], [b"OK", START // 1000]),
        (["set a 1 pxat 5", "exists a"], [b"OK", 0]),
        (["setex a 5 v", "ttl a", "psetex a 50 v", "pttl a"], [b"OK", 5, b"OK", 50]),
        (["set a 1 ex 5", "incr a", "append a x", "ttl a"], [b"OK", 2, 2, 5]),
        (["set a 1 ex 5", "getset a 2", "ttl a"], [b"OK", b"1", -1]),
        (["expire a 5", "set a 1", "expire a 5", "ttl a"], [0, b"OK", 1, 5]),
        (["set a 1 ex 5", "persist a", "persist a", "ttl a"], [b"OK", 1, 0, -1]),
        (["set a 1", "expire a 0", "exists a"], [b"OK", 1, 0]),
        (["set a 1", "expire a -5", "exists a"], [b"OK", 1, 0]),
        (["set a 1 ex 5", "expire a 9 nx", "expire a 9 lt", "expire a 4 gt", "expire a 9 gt"], [b"OK", 0, 0, 0, 1]),
        (["set a 1", "expire a 9 xx", "expire a 9 gt", "expire a 9 lt"], [b"OK", 0, 0, 1]),
        (["ttl a", "pttl a", "expiretime a"], [-2, -2, -2]),
        (["incrby a 5", "decrby a 7", "incrby a -1"], [5, -2, -3]),
        (["msetnx a 1 b 2", "msetnx b 3 c 4", "mget a b c"], [1, 0, [b"1", b"2", None]]),
        (["set a hello", "getrange a 1 3", "getrange a -3 -1", "getrange a 9 20", "getrange a 0 -9"],
         [b"OK", b"ell", b"llo", b"", b""]),
        (["setrange a 2 x", "get a", "setrange a 0 yy", "get a"], [3, b"\0\0x", 3, b"yyx"]),
        (["set a 1 ex 9", "rename a b", "ttl b", "exists a", "renamenx b b"], [b"OK", b"OK", 9, 0, 0]),
        (["mset a 1 b 2", "del a a b c", "dbsize"], [b"OK", 2, 0]),
        (["mset a 1 b 2", "exists a a c", "touch a c", "unlink a", "flushall", "dbsize"], [b"OK", 2, 1, 1, b"OK", 0]),
        (["mset a1 1 a2 2 b 3", "keys a?", "keys [^a]*"], [b"OK", [b"a1", b"a2"], [b"b"]]),
        (["mset a1 1 a2 2 b 3", "keys *"], [b"OK", [b"a1", b"a2", b"b"]]),
        (["ping", "ping hi", "echo hi", "select 0"], [b"PONG", b"hi", b"hi", b"OK"]),
    ],
)  # fmt: skip
def test_commands_answer_as_redis_does(lines: list[str], answers: list[object]) -> None:
    replica = Replica()
    assert [replica.do(line) for line in lines] == answers


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("get", "ERR wrong number of arguments for 'get' command"),
        ("GeT a b", "ERR wrong number of arguments for 'get' command"),
        ("mset a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("ping a b", "ERR wrong number of arguments for 'ping' command"),
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("set a 1 nx xx", "ERR syntax error"),
        ("set a 1 ex", "ERR syntax error"),
        ("set a 1 ex 5 px 5", "ERR syntax error"),
        ("set a 1 ex 5 keepttl", "ERR syntax error"),
        ("set a 1 keepttl ex 5", "ERR syntax error"),
        ("set a 1 ex x", "ERR value is not an integer or out of range"),
        ("set a 1 ex 0", "ERR invalid expire time in 'set' command"),
        ("set a 1 px -1", "ERR invalid expire time in 'set' command"),
        ("set a 1 ex 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("setex a 0 1", "ERR invalid expire time in 'setex' command"),
        ("expire a 9223372036854775807", "ERR invalid expire time in 'expire' command"),
        ("expire a 5 nx gt", "ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("expire a 5 gt lt", "ERR GT and LT options at the same time are not compatible"),
        ("expire a 5 foo", "ERR Unsupported option foo"),
        ("incrby a 1.5", "ERR value is not an integer or out of range"),
        ("incrby a 01", "ERR value is not an integer or out of range"),
        ("incrby a 9223372036854775808", "ERR value is not an integer or out of range"),
        ("decrby a -9223372036854775808", "ERR decrement would overflow"),
        ("setrange a -1 x", "ERR offset is out of range"),
        ("setrange a 999999999 x", "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("rename a b", "ERR no such key"),
        ("scan x", "ERR invalid cursor"),
        ("scan -1", "ERR invalid cursor"),
        ("scan 0 count 0", "ERR syntax error"),
        ("scan 0 match", "ERR syntax error"),
        ("flushall now", "ERR syntax error"),
        ("select 1", "ERR DB index is out of range"),
        ("select x", "ERR invalid DB index"),
        ("watch a", "ERR WATCH is not allowed inside a transaction"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_words_that_redis_users_know(line: str, error: str) -> None:
    replica = Replica()
    assert replica.do(line) == error
    assert not replica.machine.keyspace.records


def test_a_failed_command_changes_nothing() -> None:
    replica = Replica()
    replica.do("set a x ex 5")
    before = dict(replica.machine.keyspace.records)
    for line in ("incr a", "set a 1 ex 0", "set a 1 foo", "msetnx b 1 c", "rename nope a"):
        assert str(replica.do(line)).startswith("ERR")
    assert replica.machine.keyspace.records == before


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 60), max_size=40), st.data())
def test_a_scan_gives_every_key_that_stays_exactly_once(numbers: set[int], data: st.DataObject) -> None:
    replica = Replica()
    for number in numbers:
        replica.say("set", f"k{number}", number)
    stay, found, cursor = set(numbers), list[bytes](), b"0"
    while True:
        answer = replica.say("scan", cursor, "count", data.draw(st.integers(1, 7)))
        assert isinstance(answer, list)
        cursor, page = answer
        found += page
        if cursor == b"0":
            break
        for number in data.draw(st.lists(st.integers(0, 60), max_size=4)):
            if data.draw(st.booleans()):
                replica.say("del", f"k{number}")
                stay.discard(number)
            else:
                replica.say("set", f"k{number}", "again")
    assert all(found.count(b"k%d" % number) == 1 for number in stay)


def test_a_scan_can_be_narrowed() -> None:
    replica = Replica()
    replica.do("mset a1 1 a2 2 b 3")
    assert replica.do("scan 0 match a*") == [b"0", [b"a1", b"a2"]]
    assert replica.do("scan 0 type string count 100") == [b"0", [b"a1", b"a2", b"b"]]
    assert replica.do("scan 0 type list") == [b"0", []]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("h?llo", ["hello", "hxllo"], ["hllo", "heello"]),
        ("h*llo", ["hllo", "heeello", "h\nllo"], ["hello!"]),
        ("h[ae]llo", ["hallo", "hello"], ["hillo"]),
        ("h[^e]llo", ["hallo"], ["hello"]),
        ("h[a-c]llo", ["hbllo"], ["hdllo"]),
        ("h[c-a]llo", ["hbllo"], ["hdllo"]),
        ("h\\*llo", ["h*llo"], ["hello"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba"]),
        ("a**b", ["ab", "axb"], ["abx"]),
        ("a[", [], ["a", "a["]),
        ("", [""], ["a"]),
        ("*", ["", "x"], []),
        (".+", [".+"], ["xx"]),
    ],
)
def test_a_pattern_matches_as_in_redis(pattern: str, yes: list[str], no: list[str]) -> None:
    match = matcher(pattern.encode())
    assert all(match(text.encode()) for text in yes)
    assert not any(match(text.encode()) for text in no)


def test_a_hostile_pattern_costs_no_more_than_a_kind_one() -> None:
    assert not matcher(b"*a" * 30 + b"b")(b"a" * 5000)  # would take longer than the universe has, if it backtracked


def test_a_pattern_has_a_bound() -> None:
    replica = Replica()
    too_long = "ERR a pattern has at most 512 bytes"
    assert replica.say("keys", "a" * 512) == []
    assert replica.say("keys", "a" * 513) == too_long
    assert replica.say("scan", 0, "match", "a" * 513) == too_long


def test_one_command_gives_no_more_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "MAX_REPLY_BYTES", 100)
    replica = Replica()
    replica.say("set", "a", "x" * 50)
    assert replica.say("mget", "a", "a", "nope") == [b"x" * 50, b"x" * 50, None]
    query = Query(2, [], [[b"mget", b"a", b"a", b"a"]], False)
    answer = decode_answer(replica.machine.query(encode_query(query, START)))
    assert answer.replies == b"-ERR the reply would be too long; ask for fewer keys at once\r\n"


def test_every_row_of_the_table_makes_sense() -> None:
    for name, command in TABLE.items():
        assert command.name.encode() == name == name.lower()
        assert len({READ, WRITE, SESSION} & command.flags) <= 1
        assert bool(command.first) == bool(command.step)
    assert look_up([b"gEt", b"a"]) is TABLE[b"get"]
    assert look_up([b"mset", b"a", b"1", b"b", b"2"]).keys_of([b"mset", b"a", b"1", b"b", b"2"]) == [b"a", b"b"]
    assert look_up([b"watch", b"a", b"b"]).keys_of([b"watch", b"a", b"b"]) == [b"a", b"b"]
