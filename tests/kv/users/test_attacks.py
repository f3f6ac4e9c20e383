"""Ways around a user's rights: scripts, RAFT ONCE, odd bytes, remembered passwords, the time that a login takes."""

from __future__ import annotations

import pytest

from raft_core.ids import Index
from raft_kv.commands.comparing import OPERATIONS, RAFT_SCRIPT
from raft_kv.log_format import Calls, encode_entry, on_behalf
from raft_kv.users import passwords
from raft_kv.users.access import Access
from raft_kv.users.categories import is_known
from raft_kv.users.file import read_users
from raft_kv.users.passwords import hash_password
from tests.kv.users.node import ADMIN, Node, Talker
from tests.kv.users.test_users import user

COMPARE_AND_SET = (
    b"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('set', KEYS[1], ARGV[2]) else return 0 end"
)
COMPARE_AND_DELETE = (
    b"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
)


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_COST", 10)


@pytest.fixture
def root() -> Talker:
    node = Node()
    assert node.connect().say(*ADMIN) == b"OK"
    root = node.connect()
    assert root.say(b"AUTH", b"root", b"secret") == b"OK"
    assert root.say(b"SET", b"k", b"v") == b"OK"
    return root


# Scripts.


@pytest.mark.parametrize(("rules", "script", "lacking"), [
    ((b"-@write",), COMPARE_AND_SET, "set"),
    ((b"-@write",), COMPARE_AND_DELETE, "del"),
    ((b"-set",), COMPARE_AND_SET, "set"),
    ((b"-del",), COMPARE_AND_DELETE, "del"),
    ((b"-get",), COMPARE_AND_DELETE, "get"),
])  # fmt: skip
def test_script_does_nothing_that_its_user_may_not(
    rules: tuple[bytes, ...], script: bytes, lacking: str, root: Talker
) -> None:
    """A script was once a way around -@write: only the right to EVAL was looked at."""
    bob = user(root, b"bob", b"~*", b"+@all", *rules)
    entries = len(root.node.entries)
    digest = root.say(b"SCRIPT", b"LOAD", script)
    for call in (
        (b"EVAL", script, b"1", b"k", b"v", b"w"),
        (b"EVALSHA", digest, b"1", b"k", b"v", b"w"),
        (b"RAFT", b"ONCE", b"1", b"1", b"EVAL", script, b"1", b"k", b"v", b"w"),
    ):
        assert bob.say(*call).startswith("NOPERM")
        assert f"'{lacking}'" in bob.say(*call)
    queued = bob.say_all((b"MULTI",), (b"EVAL", script, b"1", b"k", b"v", b"w"), (b"EXEC",))
    assert queued[1].startswith("NOPERM")
    assert queued[2].startswith("EXECABORT")
    assert len(root.node.entries) == entries
    assert root.say(b"GET", b"k") == b"v"


def test_machine_refuses_what_a_script_calls_too(root: Talker) -> None:
    """The client's node may lag, or may have taken the command before the right was taken away."""
    user(root, b"bob", b"~*", b"+@all", b"-@write")
    node = root.node
    call = [RAFT_SCRIPT, b"delete", b"1", b"k", b"v"]
    entry = on_behalf(encode_entry(Calls(2, [call])), b"bob")
    reply = node.machine.apply(Index(len(node.entries) + 1), node.machine.prepare(entry, 10**18))
    assert reply.startswith(b"-NOPERM")
    assert root.say(b"GET", b"k") == b"v"


def test_scripts_are_checked_by_users_of_a_file_too() -> None:
    table = read_users(
        [f"user root on #{hash_password(b'x')} ~* +@all", f"user bob on #{hash_password(b'y')} ~* +eval"]
    )
    bob = Node(file=table).connect()
    assert bob.say(b"AUTH", b"bob", b"y") == b"OK"
    assert bob.say(b"EVAL", COMPARE_AND_SET, b"1", b"k", b"v", b"w").startswith("NOPERM")


def test_user_with_the_rights_runs_scripts(root: Talker) -> None:
    bob = user(root, b"bob", b"~k", b"+eval", b"+get", b"+set")
    assert bob.say(b"EVAL", COMPARE_AND_SET, b"1", b"k", b"v", b"w") == b"OK"
    assert bob.say(b"EVAL", COMPARE_AND_SET, b"1", b"other", b"v", b"w").startswith("NOPERM No permissions to access")
    assert bob.say(b"EVAL", COMPARE_AND_SET, b"+1", b"k", b"w", b"x").startswith("NOPERM"), "then all words are keys"


def test_every_operation_names_commands_that_there_are() -> None:
    for name, operation in OPERATIONS.items():
        assert operation.calls, name
        assert all(is_known(command) for command in operation.calls.split()), name


# RAFT ONCE.


def test_once_in_once_in_once_is_refused_and_no_defect(root: Talker) -> None:
    """The check of rights went down into it, until Python's stack was full."""
    deep = [b"RAFT", b"ONCE", b"1", b"1"] * 5000
    bob = user(root, b"bob", b"~*", b"+@all")
    assert bob.say(*deep, b"SET", b"k", b"w").startswith("ERR")
    assert bob.say(b"GET", b"k") == b"v"


# Keys.


@pytest.mark.parametrize(("pattern", "key", "fits"), [
    (b"a", b"a\n", False), (b"a", b"a\0", False), (b"a", b"A", False), (b"a*", b"a\n\0\xff", True),
    (b"a?", b"a\n", True), (b"\xff*", b"\xffx", True), (b"\xff*", b"\xfex", False), (b"\xc3\xa4", b"\xc3\xa4", True),
    (b"", b"", True), (b"", b"a", False), (b"a.b", b"axb", False), (b"(a|b)", b"a", False), (b"a\\*", b"ab", False),
    (b"a\\*", b"a*", True), (b"[^a]", b"a", False), (b"[^a]", b"\n", True), (b"a$", b"a", False), (b"^a", b"a", False),
])  # fmt: skip
def test_pattern_takes_bytes_as_they_are(pattern: bytes, key: bytes, fits: bool, root: Talker) -> None:
    bob = user(root, b"bob", b"~" + pattern, b"+@all")
    assert str(bob.say(b"GET", key)).startswith("NOPERM") is not fits
    assert str(bob.say(b"MSET", key, b"1")).startswith("NOPERM") is not fits


def test_commands_that_do_not_exist_are_told_apart_from_refused_ones_by_no_right(root: Talker) -> None:
    for word in (b"MONITOR", b"DEBUG", b"SYNC", b"REPLICAOF", b"SHUTDOWN", b"MODULE"):
        assert root.say(word, b"x").startswith("ERR unknown command")
    bob = user(root, b"bob", b"~*", b"+@all", b"-@admin", b"-@dangerous")
    for call in (
        (b"CONFIG", b"GET", b"*"), (b"CLIENT", b"LIST"), (b"CLIENT", b"KILL", b"ID", b"1"), (b"RAFT", b"ReMoVe", b"2"),
        (b"RAFT", b"STATUS"), (b"RAFT", b"BACKUP", b"OPEN"), (b"RAFT", b"BAC\xe2\x84\xaaUP", b"OPEN"), (b"INFO",),
        (b"raft", b"add", b"4", b"h:1"), (b"ACL", b"LOG"), (b"ROLE",),
    ):  # fmt: skip
        assert bob.say(*call).startswith("NOPERM"), call
    assert not root.node.asked


# Passwords.


def test_removed_hash_and_old_password_make_no_password() -> None:
    """What is remembered of right pairs was once put together so that two pairs could look alike."""
    first, second = hash_password(b"x"), hash_password(b"z")
    access = Access(file=read_users([f"user root on #{first} #{second} ~* +@all"]))
    assert access.password_check(b"root", b"x")() == b"1"
    table = read_users([f"user root on #{first} ~* +@all"])
    access.table.grants = table.grants
    assert access.password_check(b"root", second.encode() + b"\0x")() == b""


def test_refusal_comes_at_a_time_that_does_not_tell_what_was_checked(root: Talker) -> None:
    node = root.node
    node.access.confirmed = True  # until then a wrong password also waits for a read
    several = [rule for number in range(3) for rule in (b">pw-%d" % number,)]
    assert root.say(b"ACL", b"SETUSER", b"many", b"on", *several) == b"OK"
    took: list[float] = []
    for name, seconds in ((b"many", 0.15), (b"nobody", 0.05)):  # three hashes, or one
        client = node.connect(b"10.0.0.%d:1" % len(took))
        (order,) = client.session.receive(b"AUTH %b wrong\r\n" % name, 10**12)
        before = sum(node.waited)
        node.waited.append(seconds)  # the check takes this long
        client._carry_out(client._carry_out(order)[-1])
        took.append(sum(node.waited) - before)
    assert took == [pytest.approx(0.2), pytest.approx(0.2)]


def test_made_up_names_do_not_fill_the_log_nor_show(root: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = user(root, b"bob", b"~a", b"+get")
    assert bob.say(b"SET", b"a", b"1").startswith("NOPERM")
    monkeypatch.setattr("raft_kv.users.access.matches", lambda *_: "")  # no time for 200 hashes
    for number in range(200):  # from as many addresses, or each would wait longer than the one before
        root.node.connect(b"10.0.%d.7:1" % number).say(b"AUTH", b"my-secret-%d" % number, b"wrong")
    found = [dict(zip(item[::2], item[1::2], strict=True)) for item in root.say(b"ACL", b"LOG")]
    assert {(item[b"reason"], item[b"username"]) for item in found} == {(b"auth", b"(unknown)"), (b"command", b"bob")}
    assert sum(item[b"count"] for item in found) == 201
    assert len(found) == 2
