"""Users: nothing changes without them; with them, every client is held to its rights, on every way into the state."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import scrypt

import msgspec
import pytest

from raft_core.effects import RefusalReason
from raft_core.errors import Refused
from raft_core.ids import Index
from raft_kv.client_session_values import OffLoop, Propose, Read, Send, TransferLeadership, Wait
from raft_kv.log_format import Calls, Query, encode_entry, encode_query, on_behalf
from raft_kv.resp import CommandError, encode
from raft_kv.state_machine import KeyValueMachine
from raft_kv.users import passwords
from raft_kv.users.file import read_users
from raft_kv.users.passwords import hash_password, is_hash, matches
from raft_kv.users.table import VOUCHED
from tests.kv.users.node import ADMIN, Node, Talker


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_COST", 10)


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with an administrator, root."""
    node = Node()
    assert node.connect().say(*ADMIN) == b"OK"
    yield node
    assert all(b"secret" not in entry for entry in node.entries)  # nor any other password that is spelled so


@pytest.fixture
def root(node: Node) -> Talker:
    root = node.connect()
    assert root.say(b"AUTH", b"root", b"secret") == b"OK"
    return root


def user(root: Talker, name: bytes, *rules: bytes) -> Talker:
    """A client that has authenticated as a new user with these rules."""
    assert root.say(b"ACL", b"SETUSER", name, b"on", b">pw-secret", *rules) == b"OK"
    client = root.node.connect()
    assert client.say(b"AUTH", name, b"pw-secret") == b"OK"
    return client


# Without users.


@pytest.mark.parametrize("applied", [0, 1, 2])
@pytest.mark.parametrize("words", [(b"AUTH", b"root", b"secret"), (b"HELLO", b"2", b"AUTH", b"root", b"secret")])
def test_node_that_has_just_started_reads_the_users_of_the_log_before_it_refuses_one(
    words: tuple[bytes, ...], applied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log has user and password, and not all of it is applied: a client that is back must not be refused."""
    before = Node()
    first, password = before.connect(), (b"ACL", b"SETUSER", b"root", b"resetpass", b">secret")
    assert first.say(*ADMIN[:4], b">an-older-one", *ADMIN[5:]) == b"OK"
    assert first.say_all((b"AUTH", b"root", b"an-older-one"), (b"ACL", b"SETUSER", b"bob"), password) == [b"OK"] * 3
    node = Node()
    for entry in before.entries[:applied]:
        node.entries.append(entry)
        node.machine.apply(Index(len(node.entries)), entry)
    query = node.machine.query

    def catch_up(data: bytes) -> bytes:  # a linearizable read is answered once all earlier entries are applied
        while len(node.entries) < len(before.entries):
            entry = before.entries[len(node.entries)]
            node.entries.append(entry)
            node.machine.apply(Index(len(node.entries)), entry)
        return query(data)

    monkeypatch.setattr(node.machine, "query", catch_up)
    client = node.connect()
    assert client.say(*words) == (b"OK" if words[0] == b"AUTH" else client.say(b"HELLO", b"2"))
    assert client.say(b"ACL", b"WHOAMI") == b"root"
    assert node.connect().say(*words[:-1], b"wrong").startswith("WRONGPASS")


def test_wrong_password_at_a_node_that_cannot_read_its_log_is_told_late_and_noted(root: Talker) -> None:
    """Else a node that was cut off would be the place to try passwords at."""
    node = root.node
    node.access.confirmed = False
    session = node.connect().session
    (checked,) = session.receive(encode([b"AUTH", b"root", b"wrong"], 2), 10**12)
    assert isinstance(checked, OffLoop)
    (read,) = session.answered(checked.work(), 10**12)
    assert isinstance(read, Read)
    (late,) = session.failed(Refused(RefusalReason.NO_LEADER, "no leader"), 10**12)
    assert isinstance(late, Wait)
    assert late.seconds > 0
    (told,) = session.answered(b"", 10**12)
    assert isinstance(told, Send)
    assert told.data.startswith(b"-CLUSTERDOWN")
    assert node.access.failures == 1
    assert not node.access.confirmed
    assert node.connect().say(b"AUTH", b"root", b"secret") == b"OK", "the right one needs no majority"


def test_unknown_user_is_refused_once_the_log_was_read() -> None:
    client = Node().connect()
    assert client.say_all((b"AUTH", b"bob", b"x"), (b"SET", b"k", b"v"), (b"AUTH", b"bob", b"x")) == [
        "WRONGPASS invalid username-password pair or user is disabled.",
        b"OK",
        "WRONGPASS invalid username-password pair or user is disabled.",
    ]


def test_server_without_users_is_as_it_was() -> None:
    node = Node()
    client = node.connect()
    assert client.say(b"SET", b"k", b"v") == b"OK"
    assert client.say(b"AUTH", b"default", b"any") == b"OK"
    assert client.say(b"AUTH", b"any").startswith("ERR AUTH <password> called without any password")
    assert client.say(b"ACL", b"WHOAMI") == b"default"
    assert client.say(b"ACL", b"LIST") == [b"user default on nopass ~* +@all"]
    assert client.say(b"RAFT", b"TRANSFER") == b"OK"
    assert node.asked == [TransferLeadership()]
    assert node.entries[0] == node.machine.prepare(encode_entry(Calls(2, [[b"SET", b"k", b"v"]])), 10**18)


@pytest.mark.parametrize("rules", [
    (b"alice", b"on", b">pw", b"~*", b"+get"),  # no administrator
    (b"alice", b"on", b"~*", b"+@all"),  # without a password it cannot authenticate
    (b"alice", b">pw", b"~*", b"+@all"),  # off
    (b"default", b"on", b">pw", b"~*", b"+@all", b"-raft"),
])  # fmt: skip
def test_first_user_must_be_administrator(rules: tuple[bytes, ...]) -> None:
    node = Node()
    client = node.connect()
    assert "administrator" in client.say(b"ACL", b"SETUSER", *rules)
    assert not node.machine.users.grants
    assert client.say(b"SET", b"k", b"v") == b"OK"


def test_default_user_is_off_once_there_are_users(node: Node) -> None:
    stranger = node.connect()
    for call in (
        (b"GET", b"k"),
        (b"SET", b"k", b"v"),
        (b"RAFT", b"STATUS"),
        (b"ACL", b"WHOAMI"),
        (b"MULTI",),
        (b"INFO",),
    ):
        assert stranger.say(*call) == "NOAUTH Authentication required."
    assert stranger.say(b"HELLO", b"3").startswith("NOAUTH HELLO must be called")
    assert stranger.say(b"RESET") == b"RESET"


def test_default_user_works_as_requirepass_does() -> None:
    node = Node()
    node.connect().say(b"ACL", b"SETUSER", b"default", b"on", b">secret", b"~*", b"+@all")
    client = node.connect()
    assert client.say(b"GET", b"k") == "NOAUTH Authentication required."
    assert client.say(b"AUTH", b"secret") == b"OK"
    assert client.say(b"GET", b"k") is None


def test_default_user_without_password_serves_strangers(root: Talker) -> None:
    assert root.say(b"ACL", b"SETUSER", b"default", b"on", b"nopass", b"~public:*", b"+get") == b"OK"
    stranger = root.node.connect()
    assert stranger.say(b"GET", b"public:1") is None
    assert stranger.say(b"GET", b"private").startswith("NOPERM")
    assert stranger.say(b"SET", b"public:1", b"x").startswith("NOPERM")
    assert stranger.say(b"ACL", b"SETUSER", b"eve", b"on").startswith("NOPERM")


# AUTH and HELLO.


def test_wrong_password_and_unknown_user_get_the_same_answer_late(node: Node) -> None:
    client = node.connect()
    answers = [client.say(b"AUTH", b"root", b"wrong"), client.say(b"AUTH", b"nobody", b"wrong")]
    assert answers == ["WRONGPASS invalid username-password pair or user is disabled."] * 2
    assert node.waited == [0.2, 0.4]
    assert client.say(b"GET", b"k") == "NOAUTH Authentication required."
    assert node.access.failures == 2


def test_delay_grows_for_an_address_and_is_bounded(node: Node) -> None:
    for number in range(8):
        node.connect(b"10.0.0.9:%d" % number).say(b"AUTH", b"root", b"wrong")
    assert node.waited == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0]
    node.connect(b"10.0.0.7:1").say(b"AUTH", b"root", b"wrong")
    assert node.waited[-1] == 0.2
    node.connect(b"10.0.0.9:9").say(b"AUTH", b"root", b"secret")
    node.connect(b"10.0.0.9:9").say(b"AUTH", b"root", b"wrong")
    assert node.waited[-1] == 0.2


def test_failed_logins_are_reported_once_a_second_without_passwords(node: Node) -> None:
    told: list[tuple[str, str, int]] = []
    node.access.report = lambda user, address, others: told.append((user, address, others))
    for name in (b"root", b"root", b"typed-password", b"root", b"root"):
        assert node.connect().say(b"AUTH", name, b"wrong").startswith("WRONGPASS")
    waited = [0.2, 0.4, 0.8, 1.6, 2.0]
    assert node.waited == pytest.approx(waited)
    assert told == [("root", "10.0.0.9", 0), ("root", "10.0.0.9", 2), ("root", "10.0.0.9", 0)]
    node.waited.append(1.0)
    node.connect().say(b"AUTH", b"typed-password", b"wrong")
    assert told[3:] == [("", "10.0.0.9", 0)]


def test_disabled_user_cannot_authenticate(root: Talker) -> None:
    user(root, b"bob", b"+get", b"~*")
    assert root.say(b"ACL", b"SETUSER", b"bob", b"off") == b"OK"
    assert root.node.connect().say(b"AUTH", b"bob", b"pw-secret").startswith("WRONGPASS")


def test_hello_authenticates_and_names(node: Node) -> None:
    client = node.connect()
    assert client.say(b"HELLO", b"2", b"AUTH", b"root", b"wrong", b"SETNAME", b"me").startswith("WRONGPASS")
    reply = client.say(b"HELLO", b"2", b"SETNAME", b"me", b"AUTH", b"root", b"secret")
    assert reply[:2] == [b"server", b"redis"]
    assert client.say(b"CLIENT", b"GETNAME") == b"me"
    assert client.say(b"ACL", b"WHOAMI") == b"root"
    assert client.say(b"RESET") == b"RESET"
    assert client.say(b"GET", b"k") == "NOAUTH Authentication required."


def test_commands_sent_behind_auth_are_held_to_its_outcome(node: Node) -> None:
    first = node.connect().say_all((b"AUTH", b"root", b"secret"), (b"SET", b"k", b"1"), (b"GET", b"k"))
    assert first == [b"OK", b"OK", b"1"]
    second = node.connect().say_all((b"AUTH", b"root", b"wrong"), (b"SET", b"k", b"2"), (b"GET", b"k"))
    assert [str(reply).split()[0] for reply in second] == ["WRONGPASS", "NOAUTH", "NOAUTH"]


def test_password_that_was_right_costs_one_hash(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.connect().say(b"AUTH", b"root", b"secret") == b"OK"
    monkeypatch.setattr("raft_kv.users.access.matches", lambda *_: pytest.fail("hashed again"))
    assert node.connect().say(b"AUTH", b"root", b"secret") == b"OK"


def test_password_that_was_changed_is_not_remembered(root: Talker) -> None:
    assert root.say(b"ACL", b"SETUSER", b"root", b">new-secret", b"<secret") == b"OK"
    assert root.node.connect().say(b"AUTH", b"root", b"secret").startswith("WRONGPASS")
    assert root.node.connect().say(b"AUTH", b"root", b"new-secret") == b"OK"
    assert "does not exist" in root.say(b"ACL", b"SETUSER", b"root", b"<secret")


def test_hashes_are_salted_and_checked() -> None:
    one, other = hash_password(b"x"), hash_password(b"x")
    assert one != other
    assert matches(b"x", [other, one]) == one
    assert matches(b"y", [one, other]) == ""
    assert matches(b"", []) == ""


# Commands and keys.


@pytest.mark.parametrize(("rules", "call", "allowed"), [
    ((b"+get", b"~a*"), (b"GET", b"a1"), True),
    ((b"+get", b"~a*"), (b"GET", b"b1"), False),
    ((b"+get", b"~a*"), (b"SET", b"a1", b"x"), False),
    ((b"+@read", b"~*"), (b"MGET", b"a", b"b"), True),
    ((b"+@read", b"~a"), (b"MGET", b"a", b"b"), False),
    ((b"+@write", b"~a*"), (b"MSET", b"a", b"b", b"a2", b"c"), True),
    ((b"+@write", b"~a*"), (b"MSET", b"a", b"b", b"b", b"c"), False),
    ((b"+@all", b"-@write", b"~*"), (b"DEL", b"a"), False),
    ((b"+@all", b"-@dangerous", b"~*"), (b"FLUSHALL",), False),
    ((b"+@all", b"-@dangerous", b"~*"), (b"KEYS", b"*"), False),
    ((b"+@all", b"-@dangerous", b"~*"), (b"RAFT", b"TRANSFER"), False),
    ((b"+@all", b"-@dangerous", b"~*"), (b"RAFT", b"SESSION"), True),
    ((b"+@all", b"-@admin", b"~*"), (b"RAFT", b"BACKUP", b"OPEN"), False),
    ((b"+@all", b"-@admin", b"~*"), (b"ACL", b"LIST"), False),
    ((b"+@all", b"-@admin", b"~*"), (b"ACL", b"WHOAMI"), True),
    ((b"+raft|status",), (b"RAFT", b"STATUS"), True),
    ((b"+raft|status",), (b"RAFT", b"REMOVE", b"2"), False),
    ((b"+raft", b"-raft|remove"), (b"RAFT", b"EXPLAIN"), True),
    ((b"+raft", b"-raft|remove"), (b"RAFT", b"REMOVE", b"2"), False),
    ((b"+@all", b"%R~a*"), (b"GET", b"a"), True),
    ((b"+@all", b"%R~a*"), (b"SET", b"a", b"x"), False),
    ((b"+@all", b"%W~a*"), (b"SET", b"a", b"x"), True),
    ((b"+@all", b"%W~a*"), (b"SET", b"a", b"x", b"GET"), False),
    ((b"+@all", b"%W~a*"), (b"GET", b"a"), False),
    ((b"+@all", b"%W~a*"), (b"INCR", b"a"), False),
    ((b"+@all", b"%R~a*", b"%W~a"), (b"INCR", b"a"), True),
    ((b"+@all", b"%W~a*"), (b"GETDEL", b"a"), False),
    ((b"+@all", b"%R~a", b"%W~b"), (b"RENAME", b"a", b"b"), False),
    ((b"+@all", b"%R~*"), (b"WATCH", b"a"), True),
    ((b"+@all", b"~b"), (b"WATCH", b"a"), False),
    ((b"+@all", b"~a"), (b"EVALSHA", b"0" * 40, b"1", b"b"), False),
    ((b"+@all", b"~a"), (b"RAFT", b"ONCE", b"1", b"1", b"SET", b"b", b"x"), False),
    ((b"+@all", b"-set", b"~*"), (b"RAFT", b"ONCE", b"1", b"1", b"SET", b"b", b"x"), False),
])  # fmt: skip
def test_rules_decide(rules: tuple[bytes, ...], call: tuple[bytes, ...], allowed: bool, root: Talker) -> None:
    client = user(root, b"bob", *rules)
    entries = len(root.node.entries)
    reply = client.say(*call)
    assert str(reply).startswith("NOPERM") is not allowed
    if not allowed:
        assert len(root.node.entries) == entries


def test_refused_command_leaves_its_batch_in_order(root: Talker) -> None:
    client = user(root, b"bob", b"~a*", b"+set", b"+get")
    replies = client.say_all(
        (b"SET", b"a", b"1"), (b"SET", b"b", b"1"), (b"SET", b"a", b"2"), (b"GET", b"b"), (b"GET", b"a")
    )
    assert [str(reply).split()[0] for reply in replies] == ["b'OK'", "NOPERM", "b'OK'", "NOPERM", "b'2'"]


def test_refused_command_spoils_transaction(root: Talker) -> None:
    client = user(root, b"bob", b"~a*", b"+@all")
    replies = client.say_all((b"MULTI",), (b"SET", b"a", b"1"), (b"SET", b"b", b"1"), (b"EXEC",))
    assert replies[2].startswith("NOPERM")
    assert replies[3].startswith("EXECABORT")
    assert root.say(b"EXISTS", b"a", b"b") == 0


def test_deleted_user_can_do_nothing_more(root: Talker) -> None:
    client = user(root, b"bob", b"~*", b"+@all", b"-@admin")
    assert client.say(b"SET", b"a", b"1") == b"OK"
    assert root.say(b"ACL", b"DELUSER", b"bob", b"nobody") == 1
    assert client.say(b"GET", b"a") == "NOAUTH Authentication required."
    assert "last administrator" in root.say(b"ACL", b"DELUSER", b"root")


def test_new_user_of_deleted_ones_name_is_another_user(root: Talker) -> None:
    """Who knew only the password of the deleted one kept its connection, with the rights of the new one."""
    client = user(root, b"bob", b"~a*", b"+@all", b"-@admin")
    session = client.say(b"RAFT", b"SESSION")
    assert client.say(b"RAFT", b"ONCE", b"%d" % session, b"1", b"SET", b"a", b"1") == b"OK"
    assert root.say(b"ACL", b"SETUSER", b"bob", b"reset", b"on", b">other", b"~*", b"+@all", b"-@admin") == b"OK"
    assert client.say(b"GET", b"a") == b"1"  # changed, not deleted
    root.say(b"ACL", b"DELUSER", b"bob")
    root.say(b"ACL", b"SETUSER", b"bob", b"on", b">third", b"~*", b"+@all", b"-@admin")
    assert client.say(b"GET", b"a") == "NOAUTH Authentication required."
    assert client.say(b"AUTH", b"bob", b"third") == b"OK"
    assert client.say(b"GET", b"a") == b"1"
    assert client.say(b"RAFT", b"ONCE", b"%d" % session, b"1", b"SET", b"a", b"1").startswith("NOSESSION")
    assert b"".join(root.node.replay().snapshot()) == b"".join(root.node.machine.snapshot())


def test_read_of_deleted_user_that_goes_on_has_no_rights(root: Talker) -> None:
    """Its first part waits for the clock of the log while the user is deleted; the second part read the value."""
    client = user(root, b"bob", b"~*", b"+@all", b"-@admin")
    machine = root.node.machine
    root.say(b"SET", b"gone", b"v", b"PX", b"1")
    root.say(b"SET", b"a", b"treasure")
    (read,) = client.session.receive(b"GET gone\r\nGET a\r\n", 10**12 + 5)
    assert isinstance(read, Read)
    due = machine.query(read.query)
    root.say(b"ACL", b"DELUSER", b"bob")
    *_, clock = client.session.answered(due, 10**12 + 5)
    assert isinstance(clock, Propose)
    root.node.apply(clock.command)
    *_, again = client.session.answered(b"", 10**12 + 5)
    assert isinstance(again, Read)
    reply = machine.query(again.query)
    assert b"NOAUTH" in reply
    assert b"treasure" not in reply


def test_password_of_deleted_user_does_not_log_in_to_new_one(root: Talker) -> None:
    """The user is deleted, and another one of its name made, while its password is being checked."""
    user(root, b"bob", b"~*", b"+@all", b"-@admin")
    session = root.node.connect().session
    (order,) = session.receive(b"AUTH bob pw-secret\r\n", 10**12)
    assert isinstance(order, OffLoop)
    right = order.work()
    assert right == b"1"
    root.say(b"ACL", b"DELUSER", b"bob")
    root.say(b"ACL", b"SETUSER", b"bob", b"on", b">third", b"~*", b"+@all", b"-@admin")
    session.answered(right, 10**12)
    (refused,) = session.receive(b"GET a\r\n", 10**12)
    assert isinstance(refused, Send)
    assert refused.data.startswith(b"-NOAUTH")


# The machine decides too.


def test_entry_of_node_that_does_not_know_the_users_yet_is_refused(node: Node) -> None:
    """The node lags: it takes a command of a stranger, or of a user that is deleted, and proposes it."""
    machine = node.machine
    for entry in (
        encode_entry(Calls(2, [[b"SET", b"k", b"v"]])),
        on_behalf(encode_entry(Calls(2, [[b"SET", b"k", b"v"]])), b"bob"),
        on_behalf(encode_entry(Calls(2, [[b"SET", b"k", b"v"]])), b""),
    ):
        assert machine.apply(Index(5), machine.prepare(entry, 10**18)).startswith(b"-NOAUTH")
    for who in (b"", b"bob"):
        reply = machine.query(encode_query(Query(2, [], [[b"GET", b"k"]], False, who), 0))
        assert b"-NOAUTH" in reply
    assert machine.keyspace.size == 0


def test_right_taken_away_before_entry_applies_refuses_it(root: Talker) -> None:
    client = user(root, b"bob", b"~*", b"+@all", b"-@admin")
    proposed = client.session.receive(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", 10**12)[0]
    assert root.say(b"ACL", b"SETUSER", b"bob", b"-set") == b"OK"
    reply = root.node.apply(proposed.command)  # type: ignore[union-attr]
    assert reply.startswith(b"-NOPERM")


def test_operators_command_waits_until_users_are_known(node: Node) -> None:
    """A node that has just started has no users yet; the log may have some."""
    fresh = Node()
    client = fresh.connect()
    effects = client.session.receive(b"*2\r\n$4\r\nRAFT\r\n$8\r\nTRANSFER\r\n", 10**12)
    assert not fresh.asked
    fresh.machine.users = node.machine.users  # the read returns after the log is applied
    while (order := client._take(effects)) is not None:
        effects = client._carry_out(order)
    assert str(client.reader.gets()) == "NOAUTH Authentication required."
    assert not fresh.asked


def test_replicas_and_snapshot_have_the_same_users(root: Talker) -> None:
    user(root, b"bob", b"~a*", b"%R~b*", b"+@read", b"-keys")
    node = root.node
    assert node.replay().users.users == node.machine.users.users
    other = KeyValueMachine()
    other.restore(node.machine.snapshot())
    assert other.users.users == node.machine.users.users
    assert b"".join(other.snapshot()) == b"".join(node.machine.snapshot())


# ACL.


def test_acl_shows_users_without_passwords(root: Talker) -> None:
    user(root, b"bob", b"~a*", b"%W~b", b"+@read", b"-keys")
    assert root.say(b"ACL", b"USERS") == [b"bob", b"root"]
    found = root.say(b"ACL", b"GETUSER", b"bob")
    shown = dict(zip(found[::2], found[1::2], strict=True))
    assert shown[b"flags"] == [b"on"]
    assert shown[b"commands"] == b"-@all +@read -keys"
    assert shown[b"keys"] == b"~a* %W~b"
    assert root.say(b"ACL", b"GETUSER", b"eve") is None
    listed = root.say(b"ACL", b"LIST")
    assert [line.split()[1] for line in listed] == [b"root", b"bob"]
    again = read_users([line.decode() for line in listed])
    assert again.users == [msgspec.structs.replace(one, made=0) for one in root.node.machine.users.users]


def test_log_names_refusals(root: Talker) -> None:
    client = user(root, b"bob", b"~a*", b"+get")
    for _ in range(3):
        client.say(b"GET", b"b")
    client.say(b"SET", b"a", b"1")
    root.node.connect().say(b"AUTH", b"bob", b"wrong-secret")
    found = [dict(zip(item[::2], item[1::2], strict=True)) for item in root.say(b"ACL", b"LOG")]
    assert [(item[b"reason"], item[b"object"], item[b"username"], item[b"count"]) for item in found] == [
        (b"auth", b"AUTH", b"bob", 1), (b"command", b"set", b"bob", 1), (b"key", b"b", b"bob", 3),
    ]  # fmt: skip
    assert b"secret" not in repr(found).encode()
    assert root.say(b"ACL", b"LOG", b"RESET") == b"OK"
    assert root.say(b"ACL", b"LOG") == []


def test_categories_hold_commands(root: Talker) -> None:
    assert b"write" in root.say(b"ACL", b"CAT")
    assert {b"set", b"del", b"expire"} <= set(root.say(b"ACL", b"CAT", b"write"))
    assert b"raft|session" not in root.say(b"ACL", b"CAT", b"admin")
    assert {b"raft|remove", b"acl|setuser"} <= set(root.say(b"ACL", b"CAT", b"admin"))
    assert "Unknown category" in root.say(b"ACL", b"CAT", b"nothing")
    one, other = root.say(b"ACL", b"GENPASS"), root.say(b"ACL", b"GENPASS")
    assert len(one) == len(other) == 64
    assert one != other
    assert len(root.say(b"ACL", b"GENPASS", b"5")) == 2


def test_command_info_and_acl_agree_on_categories() -> None:
    client = Node().connect()
    held: dict[bytes, set[bytes]] = {}
    for row in client.say(b"COMMAND"):
        for name, categories in [(row[0], row[6]), *((each[0], each[6]) for each in row[9])]:
            held[name] = set(categories)

    every = client.say(b"ACL", b"CAT")
    for category in every:
        members = set(client.say(b"ACL", b"CAT", category))
        assert members == {name for name, categories in held.items() if b"@" + category in categories}
        listed = client.say(b"COMMAND", b"LIST", b"FILTERBY", b"ACLCAT", category)
        assert set(listed) == {name for name in members if b"|" not in name}
    assert client.say(b"COMMAND", b"LIST", b"FILTERBY", b"ACLCAT", b"all") == []
    assert held[b"get"] == {b"@read", b"@string", b"@fast"}
    assert held[b"raft|add"] == {b"@admin", b"@dangerous", b"@slow"}


@pytest.mark.parametrize("rules", [
    (b"+nothing",), (b"+@nothing",), (b"-raft|nothing",), (b"%X~a",), (b"%R",), (b"(+get)",), (b"hello",), (b"#abc",),
    (b"",),
    (b">",), (b"~" + b"a" * 600,), (b">a", b">b", b">c", b">d", b">e"), tuple(b"~%d" % n for n in range(300)),
])  # fmt: skip
def test_wrong_rules_change_nothing(rules: tuple[bytes, ...], root: Talker) -> None:
    entries = len(root.node.entries)
    assert root.say(b"ACL", b"SETUSER", b"bob", b"on", *rules).startswith("ERR")
    assert len(root.node.entries) == entries
    assert b"bob" not in root.say(b"ACL", b"USERS")


def test_errors_show_no_password(root: Talker) -> None:
    reply = root.say(b"ACL", b"SETUSER", b"bob", b">my-secret", b"+nothing")
    assert "secret" not in reply
    assert "secret" not in root.say(b"ACL", b"SETUSER", b"bob", b"#my-secret")


def test_users_of_file_cannot_be_changed_by_commands() -> None:
    table = read_users(["# users", "", f"user root on #{hash_password(b'secret')} ~* +@all", "user default off"])
    node = Node(file=table)
    client = node.connect()
    assert client.say(b"AUTH", b"root", b"secret") == b"OK"
    assert "file" in client.say(b"ACL", b"SETUSER", b"bob", b"on")
    assert client.say(b"SET", b"k", b"v") == b"OK"
    assert client.say(b"RAFT", b"TRANSFER") == b"OK"


def test_file_of_users_is_the_way_back_to_lost_passwords(root: Talker) -> None:
    """A node with a file serves the file's users, not the log's. Its administrator gives those new passwords."""
    node = root.node
    assert root.say(b"SET", b"k", b"v") == b"OK"
    table = read_users(
        [f"user rescue on #{hash_password(b'found')} ~* +@all", f"user app on #{hash_password(b'x')} ~* +get"]
    )
    rescuing = Node(file=table, machine=node.machine, entries=node.entries)

    rescue, app = rescuing.connect(), rescuing.connect()
    assert rescue.say(b"AUTH", b"root", b"secret").startswith("WRONGPASS")
    assert rescue.say(b"AUTH", b"rescue", b"found") == b"OK"
    assert rescue.say_all([b"GET", b"k"], [b"SET", b"k", b"w"], [b"GET", b"k"]) == [b"v", b"OK", b"w"]
    assert rescue.say_all([b"MULTI"], [b"SET", b"k", b"x"], [b"EXEC"])[-1] == [b"OK"]
    assert rescue.say_all([b"MULTI"], [b"GET", b"k"], [b"EXEC"])[-1] == [b"x"]
    assert app.say(b"AUTH", b"app", b"x") == b"OK"
    assert app.say(b"GET", b"k") == b"x"
    assert app.say(b"SET", b"k", b"y").startswith("NOPERM")
    assert app.say(b"ACL", b"SETUSER", b"root", b">stolen").startswith("NOPERM")
    assert rescue.say(b"ACL", b"SETUSER", b"root", b"resetpass", b">new") == b"OK"

    for machine in (node.machine, node.replay()):
        there = Node(machine=machine).connect()
        assert there.say(b"AUTH", b"root", b"secret").startswith("WRONGPASS")
        assert there.say(b"AUTH", b"root", b"new") == b"OK"
        assert there.say_all([b"GET", b"k"], [b"ACL", b"USERS"]) == [b"x", [b"root"]]


def test_no_client_can_be_vouched_for_by_its_name(root: Talker) -> None:
    assert root.say(b"ACL", b"SETUSER", VOUCHED, b"on", b"nopass", b"+@all", b"~*").startswith("ERR")
    assert root.node.connect().say(b"AUTH", VOUCHED, b"").startswith("WRONGPASS")


@pytest.mark.parametrize("lines", [
    ["user root on >plain ~* +@all"], ["user"], ["root on ~* +@all"], ["user a on nopass ~* +@all", "user a"],
    ["user a on nopass ~* +get"], ["user a on nopass ~* +nothing"],
])  # fmt: skip
def test_wrong_file_is_refused(lines: list[str]) -> None:
    with pytest.raises(CommandError):
        read_users(lines)


# Commands applied once.


@pytest.mark.parametrize("log_has_users", [False, True])
def test_users_of_a_file_own_their_sessions(*, log_has_users: bool) -> None:
    lines = [f"user {name} on #{hash_password(b'x')} ~* +@all" for name in ("alice", "bob", "root")]
    one = Node(file=read_users(lines))
    if log_has_users:
        assert Node(machine=one.machine, entries=one.entries).connect().say(*ADMIN) == b"OK"
    other = Node(file=read_users(lines), machine=one.machine, entries=one.entries)
    alice, bob, again = one.connect(), one.connect(), other.connect()
    for client, name in ((alice, b"alice"), (bob, b"bob"), (again, b"alice")):
        assert client.say(b"AUTH", name, b"x") == b"OK"
    session = b"%d" % alice.say(b"RAFT", b"SESSION")

    assert alice.say(b"RAFT", b"ONCE", session, b"1", b"SET", b"a", b"treasure") == b"OK"
    assert alice.say(b"RAFT", b"ONCE", session, b"2", b"GETDEL", b"a") == b"treasure"
    for number in (b"2", b"3"):
        assert bob.say(b"RAFT", b"ONCE", session, number, b"SET", b"b", b"1").startswith("NOSESSION")
        queued = bob.say_all([b"MULTI"], [b"RAFT", b"ONCE", session, number], [b"SET", b"b", b"1"], [b"EXEC"])
        assert queued[-1].startswith("NOSESSION")
    assert again.say(b"RAFT", b"ONCE", session, b"2", b"GETDEL", b"a") == b"treasure", "at a node with the same file"
    assert again.say(b"GET", b"b") is None
    assert one.replay().once.sessions == one.machine.once.sessions
    if log_has_users:  # a user of the log with the same name is another one
        talker = Node(machine=one.machine, entries=one.entries).connect()
        assert talker.say(b"AUTH", b"root", b"secret") == b"OK"
        assert talker.say(b"ACL", b"SETUSER", b"alice", b"on", b">y", b"~*", b"+@all") == b"OK"
        assert talker.say(b"AUTH", b"alice", b"y") == b"OK"
        assert talker.say(b"RAFT", b"ONCE", session, b"2", b"GETDEL", b"a").startswith("NOSESSION")


def test_session_of_one_user_is_of_no_use_to_another(node: Node, root: Talker) -> None:
    """Its kept replies may be secret, and a number spent by another would keep a write of its owner from being applied.

    Example: Alice's session is 7, as anyone may guess. Bob sends `RAFT ONCE 7 2 SET b 1`, and Alice's own number 2
    would be answered by Bob's `OK`.
    """
    alice = user(root, b"alice", b"~a*", b"+@all")
    bob = user(root, b"bob", b"~b*", b"+@all")
    session = b"%d" % alice.say(b"RAFT", b"SESSION")
    alice.say(b"SET", b"a", b"treasure")
    assert alice.say(b"RAFT", b"ONCE", session, b"1", b"GETSET", b"a", b"gone") == b"treasure"

    for number in (b"1", b"2"):
        assert bob.say(b"RAFT", b"ONCE", session, number, b"SET", b"b", b"1").startswith("NOSESSION")
    assert alice.say(b"RAFT", b"ONCE", session, b"2", b"SET", b"a", b"mine") == b"OK"
    assert alice.say(b"GET", b"a") == b"mine"
    assert bob.say(b"GET", b"b") is None

    again = KeyValueMachine()
    again.restore(node.machine.snapshot())
    assert again.once.sessions == node.machine.once.sessions
    assert again.once.sessions[int(session)].owner == b"alice"


def test_session_opened_before_there_were_users_is_for_everyone() -> None:
    node = Node()
    client = node.connect()
    session = b"%d" % client.say(b"RAFT", b"SESSION")
    assert client.say(*ADMIN) == b"OK"
    assert client.say(b"AUTH", b"root", b"secret") == b"OK"
    assert client.say(b"RAFT", b"ONCE", session, b"1", b"INCR", b"n") == 1


def test_hash_of_the_highest_cost_is_checked() -> None:
    """Such a hash may come from ACL SETUSER or a file. Its memory was once a little more than was allowed."""
    salt = bytes(16)
    derived = scrypt(b"x", salt=salt, n=1 << 16, r=8, p=1, maxmem=1 << 27, dklen=32)
    highest = f"scrypt:16:8:1:{salt.hex()}:{derived.hex()}"
    assert is_hash(highest)
    assert matches(b"x", [hash_password(b"y"), highest]) == highest
    assert matches(b"z", [highest]) == ""


def test_password_that_cannot_be_hashed_is_an_error(root: Talker) -> None:
    """The thread's work has failed, so it has no result."""
    effects = root.session.receive(encode([b"ACL", b"SETUSER", b"bob", b">secret"], 2), 10**12)
    assert isinstance(effects[-1], OffLoop)
    (sent,) = root.session.answered(b"", 10**12)
    assert isinstance(sent, Send)
    assert sent.data.startswith(b"-ERR the password could not be hashed")
    assert root.say(b"ACL", b"USERS") == [b"root"]
