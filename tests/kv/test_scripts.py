"""Compare and delete, expire, set: the commands for it, and the scripts of lock libraries that stand for them."""

from __future__ import annotations

from hashlib import sha1

import pytest
import redis.lock
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index
from raft_kv import log_format as entries
from raft_kv.client_session import Session
from raft_kv.commands.comparing import OPERATIONS
from raft_kv.log_format import Calls
from raft_kv.long_values import whole
from raft_kv.scripts import _BY_NORMAL_FORM, _BY_SHA1, Scripts, normal_form, operation_of
from raft_kv.state_machine import KeyValueMachine
from tests.kv.test_client_session import Talk
from tests.kv.test_state_machine import START, replies

RELEASE = 'if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end'
REPLACE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2]) else return 0 end"
LOCK = redis.lock.Lock


def array(*words: str | bytes) -> bytes:
    given = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(given) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in given)


def code(reply: object) -> object:
    """An error's first word, any other reply as it is."""
    return reply.split()[0] if isinstance(reply, str) else reply


# Commands.


def test_delifeq_deletes_only_the_value_it_names() -> None:
    talk = Talk()
    assert talk.say("set a 1; delifeq a 2; get a; delifeq a 1; get a; delifeq a 1") == [b"OK", 0, b"1", 1, None, 0]


def test_delex_deletes_under_its_condition() -> None:
    talk = Talk()
    assert talk.say("set a 1; delex a ifeq 2; delex a ifne 1; delex a ifne 2; delex a ifne 2; set a 1; delex a") == [
        b"OK", 0, 0, 1, 0, b"OK", 1,
    ]  # fmt: skip
    assert [code(reply) for reply in talk.say("delex a ifeq; delex a foo 1; delifeq a")] == ["ERR"] * 3


def test_set_with_ifeq_replaces_only_the_value_it_names() -> None:
    talk = Talk()
    assert talk.say("set a 1 ifeq 1; exists a; set a 1; set a 2 ifeq 0; set a 2 ifeq 1; get a") == [
        None, 0, b"OK", None, b"OK", b"2",
    ]  # fmt: skip
    assert talk.say("set a 3 get ifeq 9; set a 3 ifeq 2 get px 100; pttl a; set a 4 ifeq 3 keepttl; pttl a") == [
        b"2", b"2", 100, b"OK", 100,
    ]  # fmt: skip
    assert talk.say("set b 1 ifne 1; set b 2 ifne 1; set b 2 ifne 0; get b") == [b"OK", None, b"OK", b"2"]


def test_contradicting_conditions_are_refused() -> None:
    talk = Talk()
    lines = ("set a 1 nx ifeq 1", "set a 1 ifeq 1 xx", "set a 1 ifeq 1 ifne 2", "set a 1 ifeq", "set a 1 ifeq 1 ifeq 1")
    assert [code(reply) for reply in talk.say("; ".join(lines))] == ["ERR"] * len(lines)


def test_an_old_log_with_a_set_that_named_ifeq_replays_as_the_syntax_error_it_was() -> None:
    machine = KeyValueMachine()
    words = [b"set a 1".split(), b"set a 2 ifeq 1".split(), b"get a".split()]
    entry = entries.stamp(entries.encode_entry(Calls(2, words)), START)
    assert [code(reply) for reply in replies(machine.apply(Index(1), entry))] == [b"OK", "ERR", b"1"]


# Recognition.


def test_the_scripts_of_the_installed_client_library_are_known_by_their_sha1() -> None:
    scripts = Scripts()
    texts = {"delete": LOCK.LUA_RELEASE_SCRIPT, "extend": LOCK.LUA_EXTEND_SCRIPT, "pexpire": LOCK.LUA_REACQUIRE_SCRIPT}
    for operation, text in texts.items():
        assert scripts.operation(sha1(text.encode()).hexdigest().encode()) == operation
        assert operation_of(text.encode()) == operation


def test_every_digest_names_an_operation() -> None:
    assert {*_BY_SHA1.values(), *_BY_NORMAL_FORM.values()} == set(OPERATIONS)
    assert all(len(digest) == 40 for digest in (*_BY_SHA1, *_BY_NORMAL_FORM))


@pytest.mark.parametrize(
    "text",
    [
        RELEASE,
        RELEASE.replace('"', "'").replace("get", "GET").replace("del", "Unlink"),
        RELEASE.replace(" then", "\n-- mine?\n\tthen --[[ still\nmine ]] ").replace("0 end", "0;\nend"),
        "local v = redis.call('get', KEYS[1]); if v == ARGV[1] then return redis.call('del', KEYS[1]) end return 0",
        LOCK.LUA_RELEASE_SCRIPT.replace("token", "t"),
    ],
)
def test_a_script_is_recognised_however_it_is_written(text: str) -> None:
    assert operation_of(text.encode()) == "delete"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "return 1",
        RELEASE.replace("return 0", "return 1"),
        RELEASE.replace("==", "~="),
        RELEASE.replace("KEYS[1])\n", "KEYS[2])").replace('del",KEYS[1]', 'del",KEYS[2]'),
        RELEASE + " return 1",
        "--[==[\n" + RELEASE + "\n--]==]",
        RELEASE.replace("ARGV[1]", "'ARGV[1]'"),
        RELEASE + " " * 5000,
    ],
)
def test_a_script_that_does_something_else_is_not_taken_for_a_known_one(text: str) -> None:
    assert operation_of(text.encode()) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*"'\"-[]=.();\n\\ ", "local", "for", "a", ",", "redis.call(", "--[[", "]]"])).map("".join)
)
def test_any_bytes_have_a_normal_form(text: str) -> None:
    assert operation_of(text.encode()) is None
    assert normal_form(normal_form(text.encode()).replace(b"\\", b"")) is not None


# Carrying out.


def evaluate(talk: Talk, script: str, keys: list[str], arguments: list[str]) -> object:
    (reply,) = talk.say(array("EVAL", script, str(len(keys)), *keys, *arguments))
    return reply


def test_a_known_script_is_carried_out_as_one_replicated_command() -> None:
    talk = Talk()
    talk.say("set a t")
    talk.orders.clear()
    assert evaluate(talk, RELEASE, ["a"], ["other"]) == 0
    assert evaluate(talk, REPLACE, ["a"], ["t", "u"]) == b"OK"
    assert evaluate(talk, REPLACE, ["a"], ["t", "v"]) == 0
    assert evaluate(talk, RELEASE, ["a"], ["u"]) == 1
    assert len(talk.orders) == 4
    assert talk.say("exists a") == [0]


def test_scripts_of_the_client_library_extend_and_reacquire() -> None:
    talk = Talk()
    talk.say("set a t px 1000")
    assert evaluate(talk, LOCK.LUA_EXTEND_SCRIPT, ["a"], ["t", "500", "0"]) == 1
    assert talk.say("pttl a") == [1500]
    assert evaluate(talk, LOCK.LUA_EXTEND_SCRIPT, ["a"], ["t", "700", "1"]) == 1
    assert talk.say("pttl a") == [700]
    assert evaluate(talk, LOCK.LUA_EXTEND_SCRIPT, ["a"], ["x", "500", "0"]) == 0
    assert evaluate(talk, LOCK.LUA_REACQUIRE_SCRIPT, ["a"], ["t", "2000"]) == 1
    assert talk.say("pttl a; persist a") == [2000, 1]
    assert evaluate(talk, LOCK.LUA_EXTEND_SCRIPT, ["a"], ["t", "500", "0"]) == 0
    assert code(evaluate(talk, LOCK.LUA_REACQUIRE_SCRIPT, ["a"], ["t", "1.5"])) == "ERR"


def run(operation: str, keys: list[str], arguments: list[str], before: str = "") -> tuple[object, dict[str, str]]:
    """The operation's reply, and what the keys hold afterwards."""
    machine = KeyValueMachine()
    words = [text.encode().split() for text in before.split("; ") if text]
    call = [word.encode() for word in ("raft.script", operation, str(len(keys)), *keys, *arguments)]
    entry = entries.stamp(entries.encode_entry(Calls(2, [*words, call])), START)
    reply = replies(machine.apply(Index(1), entry))[-1]
    held = {}
    for key, record in machine.keyspace.records.items():
        left = f" {record.deadline - START}" if record.deadline else ""
        held[key.decode()] = whole(record.value).decode() + left
    return reply, held


@pytest.mark.parametrize(
    ("operation", "keys", "arguments", "before", "reply", "after"),
    [
        ("expire", "a", "t 2", "set a t", 1, {"a": "t 2000"}),
        ("expire", "a", "u 2", "set a t", 0, {"a": "t"}),
        ("pexpire", "a", "t -1", "set a t", 1, {}),
        ("extend-to", "a", "t 5", "set a t px 9", 1, {"a": "t 5"}),
        ("extend-to", "a", "t 5", "set a t", 0, {"a": "t"}),
        ("pttl", "a", "t", "set a t px 9", 9, {"a": "t 9"}),
        ("pttl", "a", "u", "set a t px 9", 0, {"a": "t 9"}),
        ("pttl", "a", "t", "set a t", 0, {"a": "t"}),
        ("lock-release", "a s", "t 1", "set a t", 0, {}),
        ("lock-release", "a s", "u 1", "set a t", 1, {"a": "t"}),
        ("lock-extend", "a s", "t 2", "set a t px 9", 0, {"a": "t 2000"}),
        ("lock-extend", "a", "u 2", "set a t px 9", 1, {"a": "t 9"}),
        ("lock-extend", "a", "t 2", "set a t", 2, {"a": "t"}),
        ("lock-reset", "a s", "", "set a t", 1, {}),
        ("lock-reset", "a s", "", "", 0, {}),
        ("take", "a", "t 5", "", b"OK", {"a": "t 5"}),
        ("take", "a", "t 5", "set a t", b"OK", {"a": "t 5"}),
        ("take", "a", "t 5", "set a u", "ERROR", {"a": "u"}),
        ("give-back", "a", "t", "set a t", 1, {}),
        ("give-back", "a", "t", "", b"OK", {}),
        ("give-back", "a", "t", "set a u", "ERROR", {"a": "u"}),
        ("ttl", "a", "t", "set a t px 2000", 2, {"a": "t 2000"}),
        ("ttl", "a", "t", "set a t", -1, {"a": "t"}),
        ("ttl", "a", "t", "", "ERROR", {}),
        ("acquire", "a", "t 2", "", 1, {"a": "t 2000"}),
        ("acquire", "a", "t 2", "set a u", 0, {"a": "u"}),
        ("set-nx", "a", "t 5", "", b"OK", {"a": "t 5"}),
        ("set-nx", "a", "t 5", "set a u", None, {"a": "u"}),
        ("acquire-all", "a b", "t 5", "", 2, {"a": "t 5", "b": "t 5"}),
        ("acquire-all", "a b", "t 5", "set b u", 0, {"b": "u"}),
        ("extend-all", "a b", "t 5", "mset a t b t", 2, {"a": "t 5", "b": "t 5"}),
        ("extend-all", "a b", "t 5", "mset a t b u", 0, {"a": "t", "b": "u"}),
        ("release-all", "a b", "t", "mset a t b u", 1, {"b": "u"}),
    ],
)
def test_an_operation_does_what_its_script_does(
    operation: str, keys: str, arguments: str, before: str, reply: object, after: dict[str, str]
) -> None:
    assert run(operation, keys.split(), arguments.split(), before) == (reply, after)


@pytest.mark.parametrize(
    ("operation", "keys", "arguments"),
    [
        ("lock-release", "a", "t"),
        ("delete", "a", ""),
        ("nonsense", "a", "t"),
        ("acquire-all", "", "t 5"),
        ("take", "a", "t x"),
    ],
)
def test_an_operation_with_wrong_keys_or_arguments_changes_nothing(operation: str, keys: str, arguments: str) -> None:
    reply, held = run(operation, keys.split(), arguments.split(), "mset a t b t")
    assert code(reply) == "ERR"
    assert held == {"a": "t", "b": "t"}


# Scripts by name, and unknown ones.


def test_an_unknown_script_is_refused_and_nothing_is_changed() -> None:
    talk = Talk()
    talk.say("set a t")
    assert code(evaluate(talk, "return redis.call('del', KEYS[1])", ["a"], ["t"])) == "ERR"
    heard = talk.say(array("SCRIPT", "LOAD", "return 1") + array("EVALSHA", "0" * 40, "1", "a", "t") + b"get a\r\n")
    assert [code(reply) for reply in heard] == ["ERR", "NOSCRIPT", b"t"]


def test_a_loaded_script_is_found_by_every_connection_of_the_node_until_it_is_flushed() -> None:
    scripts = Scripts()
    first, second = Talk(Session(1, scripts=scripts)), Talk(Session(2, scripts=scripts))
    text = RELEASE.replace(" ", "  ")
    digest = sha1(text.encode()).hexdigest()
    call = array("EVALSHA", digest.upper(), "1", "a", "t")

    assert [code(reply) for reply in second.say(call)] == ["NOSCRIPT"]
    assert first.say(array("SCRIPT", "LOAD", text) + call) == [digest.encode(), 0]
    assert second.say(b"set a t\r\n" + call + array("SCRIPT", "EXISTS", digest, "0" * 40)) == [b"OK", 1, [1, 0]]
    assert first.say(b"script flush\r\n") == [b"OK"]
    assert [code(reply) for reply in second.say(call)] == ["NOSCRIPT"]


def test_loaded_scripts_take_a_bounded_amount_of_memory() -> None:
    scripts = Scripts()
    digests = [scripts.load((RELEASE + " " * number).encode()) for number in range(1, 1500)]
    assert [scripts.knows(digest.encode()) for digest in (digests[0], digests[-1])] == [False, True]


def test_a_script_may_be_part_of_a_transaction_and_of_a_pipeline() -> None:
    talk = Talk()
    release = array("EVAL", RELEASE, "1", "a", "t")
    assert talk.say(b"multi\r\nset a t\r\n" + release + b"set a u ifeq t\r\nexec\r\n")[-1] == [b"OK", 1, None]
    talk.orders.clear()
    assert talk.say(b"set a t\r\nset a u ifne t\r\n" + release + release + b"set b 1\r\n") == [b"OK", None, 1, 0, b"OK"]
    assert len(talk.orders) == 1


@pytest.mark.parametrize("counts", ["-1", "2", "x"])
def test_a_wrong_number_of_keys_is_refused(counts: str) -> None:
    talk = Talk()
    assert [code(reply) for reply in talk.say(array("EVAL", RELEASE, counts, "a") + b"ping\r\n")] == ["ERR", b"PONG"]
