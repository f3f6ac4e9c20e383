"""Commands that a session answers in the loop: one request has little work, and many of them take turns."""

from __future__ import annotations

from typing import Any

import pytest

from raft_kv.client_session import Session
from raft_kv.client_session_values import Pause, Propose, Send
from raft_kv.glob import matcher
from raft_kv.log_format import Calls, decode_entry
from raft_kv.users.rules import RuleError, User, changed


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def reply_to(*words: bytes) -> bytes:
    (sent,) = Session(1).receive(request(*words), 0)
    assert isinstance(sent, Send)
    return sent.data


@pytest.mark.parametrize("words", [
    (b"CONFIG", b"GET", *(b"a%d*" % number for number in range(200))),
    (b"COMMAND", b"INFO", *[b"get"] * 2000),
    (b"SCRIPT", b"EXISTS", *[b"a" * 40] * 2000),
    (b"CLIENT", b"LIST", b"ID", *(b"%d" % number for number in range(1, 2000))),
    (b"CLIENT", b"KILL", *[b"TYPE", b"normal"] * 20),
])  # fmt: skip
def test_command_with_thousands_of_words_is_refused(words: tuple[bytes, ...]) -> None:
    """CONFIG GET with 10,000 patterns held the loop for 2 s, COMMAND INFO with as many names for 3 s."""
    assert reply_to(*words).startswith(b"-ERR")
    assert not reply_to(*words[:5]).startswith(b"-ERR un")


def test_commands_that_take_long_leave_turns_to_others() -> None:
    session = Session(1)
    patterns = [b"%d" % number + b"*a" * 200 for number in range(10)]
    effects = session.receive(b"".join(request(b"CONFIG", b"GET", pattern) for pattern in patterns), 0)
    turns = 0
    while isinstance(effects[-1], Pause):
        turns += 1
        effects = session.resume(0)
    assert turns == 9


def test_long_scripts_leave_turns_to_others() -> None:
    """To recognise a script of 4 KiB takes some milliseconds: 32 of them in one turn held the loop for 0.4 s."""
    scripts = [b"local a%d," % number + b"local," * 600 for number in range(10)]
    session = Session(1)
    effects = session.receive(b"".join(request(b"EVAL", script, b"0") for script in scripts), 0)
    turns = 0
    while isinstance(effects[-1], Pause):
        turns += 1
        effects = session.resume(0)
    assert turns == 9

    known = b"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
    session = Session(1)
    padded = request(b"EVAL", known + b" " * 300, b"1", b"k", b"v")
    (propose,) = session.receive(request(b"EVAL", known, b"1", b"k", b"v") * 2 + padded, 0)
    assert isinstance(propose, Propose)
    _, command = decode_entry(propose.command)
    assert isinstance(command, Calls)
    assert len(command.calls) == 2  # the long one goes alone


EVERY = frozenset(range(256))


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        (b"[^a]", EVERY - {ord("a")}),
        (b"[a-cx-z]", frozenset(b"abcxyz")),
        (b"[z-y0]", frozenset(b"yz0")),
        (b"[\\]]", frozenset(b"]")),
        (b"[^\x00-\xfe]", frozenset(b"\xff")),
        (b"[ac]", frozenset(b"ac")),
    ],
)
def test_class_is_as_short_as_its_pattern(pattern: bytes, fitting: frozenset[int]) -> None:
    """As single letters, `[^a]` took 255 of them, and 128 such classes 0.3 s, again for each SCAN."""
    compiled: Any = matcher(pattern * (512 // len(pattern)))
    assert len(compiled.__self__.pattern) < 16 * 512
    assert {byte for byte in EVERY if matcher(pattern)(bytes([byte]))} == fitting


def test_rules_beyond_the_limit_are_refused_at_once() -> None:
    """Each rule costs as many steps as there were before it: 3000 held the loop for 3 s."""
    taken: list[bytes] = []

    def rules() -> Any:
        for number in range(3000):
            taken.append(b"~key%d" % number)
            yield taken[-1]

    with pytest.raises(RuleError):
        changed(User(b"ann"), rules())
    assert len(taken) < 300
