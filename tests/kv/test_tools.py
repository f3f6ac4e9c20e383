"""What redis-cli and other tools ask of a server: its commands, its clients, its one database."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from raft_kv.client_session import Session
from raft_kv.client_session_values import Disconnect
from raft_kv.clients import RequestBook
from raft_kv.commands import LISTED
from raft_kv.commands.documentation import DOCUMENTATION, arguments_of
from raft_kv.local import _HANDLERS
from tests.kv.test_client_session import PICTURE, START, Talk


def code(reply: object) -> object:
    """An error's first word, any other reply as it is."""
    return reply.split()[0] if isinstance(reply, str) else reply


def as_dict(pairs: object) -> dict[bytes, object]:
    """A map as RESP2 shows it."""
    assert isinstance(pairs, list)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


# COMMAND.


def test_every_command_is_documented_and_nothing_else_is() -> None:
    assert set(DOCUMENTATION) == {name.decode() for name in LISTED}
    for said in DOCUMENTATION.values():
        for one in (said, *said.subcommands.values()):
            arguments_of(one.arguments)
            assert one.summary.endswith(".")


@pytest.mark.parametrize(
    "name", [name for name, said in DOCUMENTATION.items() if not said.subcommands and name != "quit"]
)
def test_documented_arguments_agree_with_the_arity(name: str) -> None:
    arguments = arguments_of(DOCUMENTATION[name].arguments)
    least = 1 + sum(
        (len(one.inner) if one.kind == "block" else 1) + bool(one.token and one.kind != "pure-token")
        for one in arguments
        if not one.optional
    )
    exact = not any(one.optional or one.multiple for one in arguments)
    assert LISTED[name.encode()].arity == (least if exact else -least)


def test_command_docs_says_what_help_needs() -> None:
    talk = Talk()
    docs = as_dict(talk.say("command docs set client nonsense set")[0])
    assert list(docs) == [b"set", b"client"]
    said = as_dict(docs[b"set"])
    assert (said[b"group"], said[b"since"]) == (b"string", b"1.0.0")
    arguments = said[b"arguments"]
    assert isinstance(arguments, list)
    names = [as_dict(argument)[b"name"] for argument in arguments]
    assert names[:2] == [b"key", b"value"]
    condition = as_dict(arguments[2])
    assert (condition[b"type"], condition[b"flags"]) == (b"oneof", [b"optional"])
    assert b"client|kill" in as_dict(as_dict(docs[b"client"])[b"subcommands"])
    whole = as_dict(talk.say("command docs")[0])
    assert set(whole) == set(LISTED)


def test_command_lists_counts_and_describes() -> None:
    talk = Talk()
    count, names, strings, prefixed, none = talk.say(
        "command count; command list; command list filterby aclcat string; command list filterby pattern GET*; "
        "command list filterby module x"
    )
    assert isinstance(names, list)
    assert count == len(names) == len(LISTED)
    assert isinstance(strings, list)
    assert b"append" in strings
    assert b"del" not in strings
    assert prefixed == [name for name in names if name.startswith(b"get")]
    assert b"getrange" in prefixed
    assert none == []
    (rows,) = talk.say("command info get nonsense mset")
    assert isinstance(rows, list)
    assert [None if row is None else len(row) for row in rows] == [10, None, 10]


def test_command_getkeys_knows_scripts_too() -> None:
    talk = Talk()
    assert talk.say("command getkeys mset a 1 b 2; command getkeys eval s 2 a b c") == [[b"a", b"b"], [b"a", b"b"]]
    refused = talk.say("command getkeys ping; command getkeys eval s 3 a; command list filterby; command count x")
    assert [code(reply) for reply in refused] == ["ERR"] * 4


@pytest.mark.parametrize("name", sorted(name for name, said in DOCUMENTATION.items() if said.subcommands))
def test_every_documented_subcommand_is_known(name: str) -> None:
    talk = Talk()
    for word in DOCUMENTATION[name].subcommands:
        (reply,) = talk.say(f"{name} {word}")[:1] or [b""]
        assert "unknown subcommand" not in str(reply)
    assert code(talk.say(f"{name} nonsense")[0]) == "ERR"


def test_every_local_command_is_in_the_table() -> None:
    assert set(_HANDLERS) <= set(LISTED)


# AUTH and SELECT.


def test_authentication_is_answered_in_redis_words() -> None:
    talk = Talk()
    said = talk.say("auth x; auth default x; auth someone x; auth a b c; hello 3 auth default x; hello 2 auth a b")
    assert [code(reply) for reply in said[:4]] == ["ERR", b"OK", "WRONGPASS", "ERR"]
    assert "without any password configured" in str(said[0])
    assert code(said[-1]) == "WRONGPASS"


@pytest.mark.parametrize("words", ["auth root secret", "hello 3 auth root secret"])
@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"voters": (), "members_index": 0, "leader": 0, "role": "follower"}, "CLUSTERDOWN"),  # waits for RAFT ADD
        ({"leader": 0, "role": "follower"}, "CLUSTERDOWN"),  # may have users in its log
        ({}, "WRONGPASS"),
    ],
)
def test_node_that_may_lack_the_users_of_its_cluster_blames_no_password(
    words: str, changes: dict[str, Any], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.kv.test_client_session.PICTURE", attrs.evolve(PICTURE, **changes))
    assert [code(reply) for reply in Talk().say(words)] == [answer]


def test_a_connection_whose_select_failed_carries_nothing_out_until_it_is_mended() -> None:
    talk = Talk()
    said = talk.say(
        "set a 0; select 1; set a 1; get a; multi; watch a; ping; client id; select x; incr a; select 0; get a"
    )
    assert [code(reply) for reply in said] == [
        b"OK", "ERR", "ERR", "ERR", "ERR", "ERR", b"PONG", 5, "ERR", "ERR", b"OK", b"0",
    ]  # fmt: skip
    assert [code(reply) for reply in talk.say("select 1; reset; get a")] == ["ERR", b"RESET", b"0"]


def test_a_transaction_that_selects_another_database_is_discarded() -> None:
    talk = Talk()
    said = talk.say("multi; set a 1; select 1; set a 2; exec; select 0; exists a; multi; select 0; set a 3; exec")
    assert [code(reply) for reply in said] == [
        b"OK", b"QUEUED", "ERR", "ERR", "EXECABORT", b"OK", 0, b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"],
    ]  # fmt: skip


def test_a_named_write_is_refused_in_another_database_too() -> None:
    talk = Talk()
    assert [code(reply) for reply in talk.say("raft session; select 2; raft once 1 1 incr a; select 0; exists a")] == [
        1, "ERR", "ERR", b"OK", 0,
    ]  # fmt: skip


# CLIENT.


def room(count: int) -> list[Talk]:
    """So many connections to one node, numbered from 1."""
    clients = RequestBook(lambda: START)
    talks = []
    for number in range(1, count + 1):
        talk = Talk(Session(number, clients=clients))
        client = talk.session.client
        client.address, client.local_address, client.since = b"h:%d" % number, b"n:6379", START - number * 10_000
        clients.by_number[number] = client
        talks.append(talk)
    return talks


def lines(reply: object) -> list[dict[str, str]]:
    assert isinstance(reply, bytes)
    return [dict(pair.split("=", 1) for pair in line.split()) for line in reply.decode().splitlines()]


def test_client_list_shows_all_connections_of_the_node() -> None:
    first, second, _third = room(3)
    second.say("client setname two")
    shown = lines(first.say("client list")[0])
    assert [(one["id"], one["addr"], one["name"], one["age"]) for one in shown] == [
        ("1", "h:1", "", "10"),
        ("2", "h:2", "two", "20"),
        ("3", "h:3", "", "30"),
    ]
    assert shown[0]["cmd"] == "client"
    assert [one["id"] for one in lines(first.say("client list id 3 1 9")[0])] == ["1", "3"]
    assert len(lines(first.say("client list type normal")[0])) == 3
    assert lines(first.say("client list type pubsub")[0]) == []
    assert [one["id"] for one in lines(first.say("client info")[0])] == ["1"]
    refused = first.say("client list type x; client list id; client list id 0; client list foo bar")
    assert [code(reply) for reply in refused] == ["ERR"] * 4


@pytest.mark.parametrize(
    ("words", "reply", "others", "closes"),
    [
        ("id 2", 1, (2,), False),
        ("id 9", 0, (), False),
        ("addr h:3", 1, (3,), False),
        ("laddr n:6379", 2, (2, 3), False),
        ("type normal", 2, (2, 3), False),
        ("type normal skipme no", 3, (2, 3), True),
        ("type pubsub", 0, (), False),
        ("user default", 2, (2, 3), False),
        ("user nobody", 0, (), False),
        ("maxage 25", 1, (3,), False),
        ("id 1 skipme no", 1, (), True),
        ("id 2 addr h:3", 0, (), False),
        ("h:2", b"OK", (2,), False),
        ("h:1", b"OK", (), True),
    ],
)
def test_client_kill_closes_those_that_fit(words: str, reply: object, others: tuple[int, ...], closes: bool) -> None:
    talk = room(3)[0]
    assert talk.say(f"client kill {words}") == [reply]
    assert talk.orders == [Disconnect(others)]
    assert talk.closed is closes


def test_client_kill_refuses_what_it_does_not_know() -> None:
    talk = room(2)[0]
    refused = talk.say("client kill h:9; client kill id x; client kill id 0; client kill foo 1; client kill id 1 addr")
    assert [code(reply) for reply in refused] == ["ERR"] * 5
    assert talk.orders == []


def test_what_comes_after_a_client_has_killed_itself_is_not_carried_out() -> None:
    talk = room(2)[0]
    assert talk.say("client kill id 1 skipme no; set a 1") == [1]
    assert talk.closed
    assert talk.orders == [Disconnect(())]


def test_small_client_commands_are_taken() -> None:
    talk = room(1)[0]
    said = talk.say("client no-touch on; client no-evict off; client tracking off; client getredir; client help")
    assert said[:4] == [b"OK", b"OK", b"OK", -1]
    assert isinstance(said[4], list)
    assert [code(reply) for reply in talk.say("client no-touch; client kill; client id 1")] == ["ERR"] * 3


def test_info_has_what_tools_read() -> None:
    text = Talk().say("info")[0]
    assert isinstance(text, bytes)
    fields = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line)
    assert {
        b"used_memory", b"used_memory_human", b"used_memory_rss", b"used_memory_peak", b"maxmemory_policy",
        b"connected_clients", b"blocked_clients", b"maxclients", b"total_commands_processed", b"uptime_in_days",
        b"total_connections_received", b"role", b"connected_slaves", b"master_repl_offset", b"loading", b"db0",
    } <= set(fields)  # fmt: skip
