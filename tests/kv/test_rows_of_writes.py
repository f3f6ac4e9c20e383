"""What the rows of writing commands say about them is true. Calls are made from their documentation (COMMAND DOCS), so
a new command is tested as soon as it is documented.

`shows`: a user who may only write its keys learns nothing about their values. `grows`: nothing that is let through when
memory is short makes the state larger. `one_line`, `wall_times`, `feature`: see `raft_kv.commands.table.Writes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest

from raft_core.ids import Index
from raft_kv.commands import ONE_LINE, TABLE, WRITE, Command, plain
from raft_kv.commands.comparing import RAFT_SET
from raft_kv.commands.documentation import DOCUMENTATION, arguments_of
from raft_kv.commands.table import INTERNAL, Writes
from raft_kv.feature_names import FEATURES
from raft_kv.keyspace import Keyspace
from raft_kv.log_format import Calls, decode_entry, encode_entry, stamp
from raft_kv.long_values import whole
from raft_kv.resp import OK, CommandError, Reply, encode
from raft_kv.scripts import Scripts, translate
from raft_kv.state_machine import KeyValueMachine
from raft_kv.users.rules import WRITES, _flags_of
from raft_kv.wall_times import in_cluster_time
from tests.kv.test_client_session import Talk

FIRST_RELEASE = frozenset({
    "append", "decr", "decrby", "del", "expire", "expireat", "flushall", "flushdb", "getdel", "getset", "incr",
    "incrby", "mset", "msetnx", "persist", "pexpire", "pexpireat", "psetex", "rename", "renamenx", "set", "setex",
    "setnx", "setrange", "unlink",
})  # fmt: skip
"""The writing commands of release 0.1.0. Others need a feature, because its nodes skip them."""
NOW = 1_700_000_000_000
KEYS = (b"a", b"b", b"c")
NUMBERS = (b"1", b"2", b"9", b"100", b"-3", b"0", b"x")
TIMES = (b"%d" % (NOW // 1000 + 100), b"%d" % (NOW + 50_000), b"%d" % (NOW * 2), b"7")
PAIRS = ((b"1", b"7"), (b"12", b"ab"), (b"ab", b"12"), (b"ab", b"cd"), (b"x", b"y"))
"""Values of the same length."""

WRITING = {name.decode(): command for name, command in TABLE.items() if WRITE in command.flags}
LISTED = sorted(name for name, command in WRITING.items() if INTERNAL not in command.flags)
CALLABLE = [name for name in LISTED if not WRITING[name].counted]
"""Without EVAL: its scripts have tests of their own, and to the machine they are one internal command."""


def words(argument: Any, rng: random.Random) -> Iterator[bytes]:
    """The words of a documented argument, drawn."""
    if argument.optional and rng.random() < 0.4:
        return
    for _ in range(rng.randint(1, 3) if argument.multiple else 1):
        if argument.token:
            yield argument.token.encode()
        if argument.kind == "oneof":
            yield from words(rng.choice(argument.inner), rng)
        elif argument.kind == "block":
            for one in argument.inner:
                yield from words(one, rng)
        elif argument.kind == "key":
            yield rng.choice(KEYS)
        elif argument.kind == "unix-time":
            yield rng.choice(TIMES)
        elif argument.kind == "integer":
            yield rng.choice(NUMBERS)
        elif argument.kind != "pure-token":
            yield rng.choice((*PAIRS[0], *PAIRS[1], b"GET"))


@cache
def calls_of(name: str) -> list[list[bytes]]:
    """Calls of the command as they enter the log, the same at every run."""
    rng = random.Random(name)
    said = arguments_of(DOCUMENTATION[name].arguments)
    drawn = [[name.encode(), *(word for one in said for word in words(one, rng))] for _ in range(150)]
    return [translate(list(call), Scripts()) for call in dict.fromkeys(map(tuple, drawn))]


MACHINES = [KeyValueMachine(), KeyValueMachine()]
"""Used by all tests here, because making one takes long; each use begins with its own keys."""


def machine_with(values: Sequence[bytes], number: int = 0, *, deadline: bool = False) -> KeyValueMachine:
    """Machine `number`, with `a` = the first value, and so on, each with a deadline if wanted."""
    machine = MACHINES[number]
    options = [b"PX", b"60000"] if deadline else []
    sets = [[b"set", key, value, *options] for key, value in zip(KEYS[: len(values)], values, strict=True)]
    machine.apply(Index(1), stamp(encode_entry(Calls(2, [[b"del", *KEYS], *sets])), NOW))
    return machine


def reply_of(machine: KeyValueMachine, call: list[bytes], protocol: int = 2) -> bytes:
    return machine.apply(Index(2), stamp(encode_entry(Calls(protocol, [call])), NOW))


def state_of(machine: KeyValueMachine) -> dict[bytes, tuple[bytes, int]]:
    return {key: (whole(record.value), record.deadline) for key, record in machine.keyspace.everything().items()}


def leak_of(command: Command, calls: Sequence[list[bytes]]) -> list[bytes] | None:
    """A call that needs no right to read, and whose outcome differs by a value; None if there is none."""
    for number, call in enumerate(calls):
        if _flags_of(command, call) != WRITES:
            continue
        one, other = PAIRS[number % len(PAIRS)]
        for count in (1, 3):  # the same key first; the rest is absent, or alike
            left, right = (
                machine_with([value, b"1", b"ab"][:count], place, deadline=count == 3)
                for place, value in enumerate((one, other))
            )
            replies = [reply_of(machine, call) for machine in (left, right)]
            states = [state_of(machine) for machine in (left, right)]
            differ = {key for key in KEYS if states[0].get(key) != states[1].get(key)}
            if replies[0] != replies[1] or not differ <= {b"a"}:
                return call
    return None


# What is shown.


@pytest.mark.parametrize("name", CALLABLE)
def test_write_shows_no_value_without_the_right_to_read(name: str) -> None:
    command = TABLE[calls_of(name)[0][0]]
    assert leak_of(command, calls_of(name)) is None


@pytest.mark.parametrize(
    "name", ["getset", "getdel", "incr", "decrby", "rename", "renamenx", "delifeq", "delex", "set"]
)
def test_row_that_denied_it_would_be_found(name: str) -> None:
    command = TABLE[name.encode()]
    assert command.writes is not None
    wrong = Command(
        name, command.arity, command.flags, command.run, command.first, command.last, command.step,
        Writes(shows=False, grows=command.writes.grows),
    )  # fmt: skip
    raw = [[name.encode(), *call[1:]] for call in calls_of(name)]
    assert leak_of(wrong, raw if name != "set" else calls_of(name)) is not None


# What grows.


@pytest.mark.parametrize("name", CALLABLE)
def test_write_let_through_when_memory_is_short_does_not_grow(name: str) -> None:
    grew = False
    for call in calls_of(name):
        machine = machine_with([b"12", b"ab"])
        before = machine.keyspace.held_bytes, len(state_of(machine))
        reply_of(machine, call)
        grew = grew or machine.keyspace.held_bytes > before[0] or len(state_of(machine)) > before[1]
    writes = WRITING[name].writes
    assert writes is not None
    assert writes.grows or not grew


# One line.


@pytest.mark.parametrize("name", [name for name in CALLABLE if name.encode() in ONE_LINE])
def test_reply_of_a_write_that_shares_entries_is_one_line(name: str) -> None:
    count = 0
    for call in calls_of(name):
        if len(call) != ONE_LINE[name.encode()].words:
            continue
        for values in ([b"12", b"ab", b"9"], []):
            replies = {reply_of(machine_with(values), call, protocol) for protocol in (2, 3)}
            (reply,) = replies
            assert reply.endswith(b"\r\n")
            assert reply.count(b"\n") == 1
        count += 1
    assert count >= 3


# Wall times.


def documented_times(name: str) -> bool:
    return "unix-time" in DOCUMENTATION[name].arguments


@pytest.mark.parametrize("name", [name for name in CALLABLE if documented_times(name)])
def test_every_wall_time_is_turned_into_cluster_time(name: str) -> None:
    """A deadline by the wall clock comes earlier by as much as cluster time is behind; a relative one stays."""
    ahead, moved_some = 20_000, 0
    for call in calls_of(name):
        _, moved = decode_entry(in_cluster_time(encode_entry(Calls(2, [call])), ahead))
        assert isinstance(moved, Calls)
        (after,) = moved.calls
        plain_one, moved_one = machine_with([b"12", b"ab"]), machine_with([b"12", b"ab"], 1)
        replies = reply_of(plain_one, call), reply_of(moved_one, after)
        assert replies[0][:1] == replies[1][:1], call
        names_time = any(time in call for time in TIMES[:3])
        for (key, (_, deadline)), (_, (_, earlier)) in zip(
            state_of(plain_one).items(), state_of(moved_one).items(), strict=True
        ):
            if deadline and names_time:
                assert earlier == deadline - ahead, (call, after, key)
                moved_some += 1
            else:
                assert earlier == deadline
    assert moved_some > 5


def test_rows_name_wall_times_where_the_documentation_does() -> None:
    named = {name for name in LISTED if (writes := WRITING[name].writes) is not None and writes.wall_times is not None}
    assert named == {name for name in LISTED if documented_times(name)}


# Features.


@pytest.mark.parametrize("name", sorted(WRITING))
def test_write_that_the_first_release_lacks_needs_a_feature(name: str) -> None:
    writes = WRITING[name].writes
    assert writes is not None
    assert (writes.feature == "") is (name in FIRST_RELEASE)
    assert writes.feature in ("", *FEATURES)
    if writes.feature:
        assert plain([name.encode(), *[b"1"] * (abs(WRITING[name].arity) - 1)]) is None, "it must pass the gate"


# Rows.


def _nothing(_keyspace: Keyspace, _call: Sequence[bytes]) -> Reply:
    return OK


@pytest.mark.parametrize(
    "row",
    [
        lambda: Command.row("new", 2, "write", _nothing, (1, 1, 1)),
        lambda: Command.row("new", 2, "readonly", _nothing, (1, 1, 1), Writes(shows=True, grows=True)),
        lambda: Command.row(
            "new", 3, "write", _nothing, (1, 1, 1), Writes(shows=True, grows=True, feature="kv-new", one_line=3)
        ),
    ],
)
def test_row_says_what_it_writes_if_it_does(row: Callable[[], Command]) -> None:
    with pytest.raises(TypeError):
        row()


# Internal commands.


@pytest.mark.parametrize(
    "call",
    [
        ["raft.set", "k", "v", "GET"],  # four words: a release without it would skip it
        ["RAFT.SET", "k", "v", "IFEQ", "w"],
        ["raft.script", "delete", "1", "k"],
        ["RAFT", "ONCE", "1", "1", "raft.set", "k", "v"],
    ],
)
def test_client_cannot_send_what_only_the_log_has(call: list[str]) -> None:
    raw = b"*%d\r\n" % len(call) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in call)
    client = Talk()
    for said in (client.say(raw), client.say(b"SET x 1\r\n" + raw)[1:]):
        assert [str(reply)[:20] for reply in said] == ["ERR unknown command "]
    assert client.machine.keyspace.find(b"k") is None
    with pytest.raises(CommandError):
        translate([word.encode() for word in (call if call[0] != "RAFT" else call[4:])], Scripts())


def test_internal_command_in_the_log_is_carried_out() -> None:
    machine = machine_with([b"12"])
    assert reply_of(machine, [RAFT_SET, b"a", b"13", b"IFEQ", b"12"]) == encode(OK, 2)
