"""No client holds up the others: what is done for it in one turn is bounded by its cost."""

from __future__ import annotations

import pytest

from raft_kv.client_session import Session
from raft_kv.client_session_values import Pause, Propose, Read, Send, SessionEffect, SessionLimits
from raft_kv.log_format import encode_versions
from raft_kv.resp_parser import RequestParser, split_inline

NOW = 1_700_000_000_000


def turns_of(session: Session, data: bytes) -> list[list[SessionEffect]]:
    """What the session says to `data` in each of its turns."""
    turns = [session.receive(data, NOW)]
    while turns[-1] and turns[-1][-1] == Pause():
        turns.append(session.resume(NOW))
    return turns


def sent(effects: list[SessionEffect]) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Send))


@pytest.mark.parametrize(
    "line", [b"COMMAND\n", b"PING\n", b"*1\r\n$4\r\nPING\r\n", b"NONSENSE\n", b"ECHO " + bytes(4000) + b"\n"]
)
def test_what_is_done_for_a_client_in_one_turn_is_bounded_by_its_cost(line: bytes) -> None:
    count = 8 * 1024 // len(line)
    (alone,) = turns_of(Session(1), line)
    reply = sent(alone)

    turns = turns_of(Session(1), line * count)

    assert b"".join(map(sent, turns)) == reply * count
    most = max(len(sent(effects)) // len(reply) for effects in turns)
    assert most <= 512
    assert most * len(reply) <= SessionLimits().turn_cost * 16 + len(reply)
    assert len(turns) >= count // 512


def test_blank_lines_and_empty_requests_count_too() -> None:
    parser = RequestParser()

    assert parser.feed(b"\n" * 1000 + b"*0\r\n" * 1000 + b"PING\n", 512) == []
    calls = 1
    while parser.more:
        calls += 1
        found = parser.feed(b"", 512)
    assert found == [[b"PING"]]
    assert calls == 4


def test_commands_that_arrive_together_stay_in_order_over_many_turns() -> None:
    turns = turns_of(Session(1), b"".join(b"ECHO %d\n" % number for number in range(5000)))

    assert b"".join(map(sent, turns)) == b"".join(b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(5000))


def test_writes_that_wait_unparsed_are_proposed_after_those_before_them() -> None:
    session = Session(1)
    limit = session.limits.batch_calls
    effects = session.receive(b"INCR a\n" * (limit + 3), NOW)
    assert [type(effect) for effect in effects] == [Propose]

    effects = session.answered(b":1\r\n" * limit, NOW)

    assert [type(effect) for effect in effects] == [Send, Propose]
    assert session.commands == limit + 3


def test_a_line_of_many_words_costs_no_more_than_its_bytes() -> None:
    assert split_inline(b" a\tb  c\r\n") == [b"a", b"b", b"c"]
    assert split_inline(b"a 'b c' \"\\x41\"\n") == [b"a", b"b c", b"A"]
    assert split_inline(b"'a' " * 5000) is None


def test_watched_keys_are_bounded_in_bytes_too() -> None:
    """EXEC has to carry all of them in one log entry."""
    session = Session(1, SessionLimits(transaction_bytes=100))

    def watch(key: str) -> bytes:
        effects = session.receive(f"WATCH {key}\r\n".encode(), 0)
        if isinstance(effects[-1], Read):
            effects = session.answered(encode_versions([7]), 0)
        (sent,) = effects
        assert isinstance(sent, Send)
        return sent.data

    assert [watch("a" * 60), watch("a" * 40), watch("a" * 60)] == [b"+OK\r\n"] * 2 + [
        b"-ERR the watched keys are too large for one log entry\r\n"
    ]
    session.receive(b"UNWATCH\r\n", 0)
    assert watch("b" * 60) == b"+OK\r\n"


@pytest.mark.parametrize("command", ["CLIENT SETNAME", "CLIENT SETINFO LIB-NAME", "CLIENT SETINFO LIB-VER"])
def test_names_of_clients_are_bounded(command: str) -> None:
    """CLIENT LIST gives those of all connections in one reply."""
    session = Session(1)
    assert session.receive(f"{command} {'x' * 1024}\r\n".encode(), 0) == [Send(b"+OK\r\n")]
    (refused,) = session.receive(f"{command} {'x' * 1025}\r\n".encode(), 0)
    assert isinstance(refused, Send)
    assert refused.data.startswith(b"-ERR")
