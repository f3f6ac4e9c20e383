"""RAFT SESSION and RAFT ONCE: a write that is sent several times is applied once, wherever and whenever."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import msgspec
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import UnknownReason
from raft_core.errors import OutcomeUnknown
from raft_core.ids import Index
from raft_kv import log_format as entries
from raft_kv import once
from raft_kv.client_session import Session
from raft_kv.client_session_values import Propose
from raft_kv.demo.cluster import Cluster
from raft_kv.log_format import Calls, Once, OpenSession
from raft_kv.once import AppliedOnce
from raft_kv.snapshot_format import SnapshotHead
from raft_kv.state_machine import KeyValueMachine
from tests.kv.test_client_session import Talk
from tests.kv.test_state_machine import START, replies, state


def code(reply: object) -> object:
    """An error's first word, any other reply as it is."""
    return reply.split()[0] if isinstance(reply, str) else reply


class Log:
    """Entries in order, on one machine or several."""

    def __init__(self, *machines: KeyValueMachine) -> None:
        self.machines = machines or (KeyValueMachine(),)
        self.index = 0
        self.now = START

    def add(self, command: entries.Command) -> list[object]:
        self.index += 1
        entry = entries.stamp(entries.encode_entry(command), self.now)
        answers = {machine.apply(Index(self.index), entry) for machine in self.machines}
        assert len(answers) == 1
        return replies(answers.pop())

    def open(self) -> int:
        (number,) = self.add(OpenSession())
        assert isinstance(number, int)
        return number

    def once(self, session: int, sequence: int, *texts: str, together: bool = False) -> object:
        (reply,) = self.add(Once(session, sequence, 2, together, [], [text.encode().split() for text in texts]))
        return reply

    def get(self, key: str) -> object:
        return self.add(Calls(2, [[b"get", key.encode()]]))[0]


# The machine.


def test_a_repeated_command_is_applied_once_and_answered_alike() -> None:
    log = Log()
    session = log.open()
    assert [log.once(session, 1, "incr a") for _ in range(3)] == [1, 1, 1]
    assert [log.once(session, 2, "incr a") for _ in range(2)] == [2, 2]
    assert log.get("a") == b"2"


def test_numbers_may_come_in_any_order_and_earlier_ones_again() -> None:
    log = Log()
    session = log.open()
    assert [log.once(session, number, "incr a") for number in (7, 5, 7, 6, 5, 8)] == [1, 2, 1, 3, 2, 4]


def test_an_error_is_a_result_too() -> None:
    log = Log()
    session = log.open()
    log.add(Calls(2, [b"set a x".split()]))
    assert code(log.once(session, 1, "incr a")) == "ERR"
    log.add(Calls(2, [b"set a 1".split()]))
    assert code(log.once(session, 1, "incr a")) == "ERR"
    assert log.once(session, 2, "incr a") == 2


def test_a_transaction_is_applied_once_as_a_whole() -> None:
    log = Log()
    session = log.open()
    texts = ("raft.once", "incr a", "get a")
    assert [log.once(session, 1, *texts, together=True) for _ in range(2)] == [[b"OK", 1, b"1"]] * 2


def test_a_session_that_never_was_or_has_ended_is_refused() -> None:
    log = Log()
    session = log.open()
    assert code(log.once(session + 5, 1, "incr a")) == "NOSESSION"
    log.now += once.LIFETIME - 1
    assert log.once(session, 1, "incr a") == 1
    log.now += once.LIFETIME
    assert code(log.once(session, 1, "incr a")) == "NOSESSION"
    assert log.get("a") == b"1"


def test_the_least_recently_used_session_ends_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_SESSIONS", 2)
    log = Log()
    first, second = log.open(), log.open()
    log.once(first, 1, "incr a")
    third = log.open()
    assert code(log.once(second, 1, "incr a")) == "NOSESSION"
    assert [log.once(session, 2, "incr a") for session in (first, third)] == [2, 3]


def test_a_number_far_below_the_highest_is_refused_and_not_applied() -> None:
    log = Log()
    session = log.open()
    log.once(session, once.WINDOW + 5, "incr a")
    assert code(log.once(session, 5, "incr a")) == "STALE"
    assert log.once(session, 6, "incr a") == 2


def test_what_a_session_keeps_is_bounded_and_a_repetition_is_never_applied() -> None:
    log = Log()
    session = log.open()
    long = "x" * (once.KEPT_BYTES // 3)
    for number in range(1, 300):
        log.once(session, number, "incr n")
    log.add(Calls(2, [f"set a {long}".encode().split()]))
    for number in range(300, 310):
        log.once(session, number, f"getset a {long}")
    log.once(session, 310, "set b 1")
    held = log.machines[0].once.sessions[session]
    assert sum(len(reply or b"") for _, reply in held.applied) <= once.KEPT_BYTES
    assert len(held.applied) <= once.WINDOW

    assert log.once(session, 309, "getset a y") == long.encode()
    assert code(log.once(session, 300, "getset a y")) == "APPLIED"
    assert log.get("a") == long.encode()
    assert log.once(session, 310, "set b 2") == b"OK"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300)), max_size=60), st.data())
def test_replicas_agree_also_when_one_starts_from_a_snapshot(
    commands: list[tuple[int, int]], data: st.DataObject
) -> None:
    first, second, restored = KeyValueMachine(), KeyValueMachine(), KeyValueMachine()
    cut = data.draw(st.integers(0, len(commands)))
    log = Log(first, second)
    sessions = [log.open(), log.open(), 99]
    done: dict[tuple[int, int], object] = {}
    for place, (which, number) in enumerate(commands):
        if place == cut:
            restored.restore(first.snapshot())
            log.machines = (first, second, restored)
        reply = log.once(sessions[which], number, "incr a")
        if isinstance(reply, int):
            assert done.setdefault((which, number), reply) == reply
    if cut == len(commands):
        restored.restore(first.snapshot())
    assert state(first) == state(second) == state(restored)
    assert len(set(map(str, done.values()))) == len(done)


def test_a_snapshot_of_a_release_without_sessions_is_read() -> None:
    head = msgspec.msgpack.encode([START, 7, 1, [0] * 1024, 1])
    pairs = msgspec.msgpack.encode([(b"a", (1, b"v", 7, 0, 1))])
    blocks = [len(block).to_bytes(4, "big") + block for block in (head, pairs)]
    machine = KeyValueMachine()
    machine.restore([b"raft-kv snapshot 1\n", *blocks])
    assert machine.keyspace.records[b"a"].value == b"v"
    assert machine.once.sessions == {}


def test_a_snapshot_with_sessions_is_read_by_a_release_without() -> None:
    """Such a release decodes the head's first five fields, and passes over the sixth."""

    class OldHead(msgspec.Struct, frozen=True, array_like=True):
        time: int
        index: int
        keys_created: int
        tombstones: list[int]
        count: int

    log = Log()
    log.once(log.open(), 1, "set a 1")
    data = state(log.machines[0])
    start = len(b"raft-kv snapshot 1\n") + 4
    head = data[start : start + int.from_bytes(data[start - 4 : start], "big")]
    assert msgspec.msgpack.decode(head, type=OldHead).count == 1
    assert len(msgspec.msgpack.decode(head, type=SnapshotHead).sessions) == 1


def test_a_taken_snapshot_does_not_change_with_later_commands() -> None:
    log = Log()
    session = log.open()
    log.once(session, 1, "set a 1")
    expected = state(log.machines[0])
    taken = log.machines[0].snapshot()
    log.once(session, 2, "set a 2")
    assert b"".join(taken) == expected


def test_sessions_that_have_ended_are_refused_at_once_and_forgotten_in_portions() -> None:
    table = AppliedOnce()
    for number in range(1, 101):
        table.open(number, number)
    now = once.LIFETIME + 80
    table.advance(now)
    assert len(table.sessions) > 50
    assert table.recall(79, 1, now) is not None
    assert table.recall(81, 1, now) is None
    for _ in range(5):
        table.advance(now)
    assert sorted(table.sessions) == list(range(81, 101))


# The client's side.


def test_a_client_opens_a_session_and_repeats_a_command_on_another_connection() -> None:
    talk = Talk()
    (session,) = talk.say("raft session")
    assert isinstance(session, int)
    line = f"raft once {session} 1 incr a"
    assert talk.say(f"{line}; get a") == [1, b"1"]
    talk.session = Session(6)
    assert talk.say(f"{line}; get a") == [1, b"1"]


def test_a_transaction_is_named_by_a_command_of_its_own() -> None:
    talk = Talk()
    (session,) = talk.say("raft session")
    lines = f"multi; raft once {session} 1; incr a; get a; exec"
    expected = [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [b"OK", 1, b"1"]]
    assert talk.say(lines) == expected
    assert talk.say(lines) == expected
    assert talk.say("get a") == [b"1"]


@pytest.mark.parametrize(
    "words",
    [
        "1",
        "1 1",
        "0 1 incr a",
        "1 0 incr a",
        "1 x incr a",
        "1 1 get a",
        "1 1 ping",
        "1 1 multi",
        "1 1 nonsense",
        "1 1 incr",
        "1 1 raft once 1 1 incr a",
    ],
)
def test_what_cannot_be_applied_once_is_refused(words: str) -> None:
    talk = Talk()
    talk.say("raft session")
    talk.orders.clear()
    assert [code(reply) for reply in talk.say(f"raft once {words}; ping")] == ["ERR", b"PONG"]
    assert talk.orders == []


def test_a_transaction_that_is_named_badly_is_discarded() -> None:
    talk = Talk()
    heard = talk.say("multi; raft once 1 1 incr a; incr a; exec; multi; raft once 1 1; raft once 1 2; exec; exists a")
    assert [code(reply) for reply in heard] == [
        b"OK", "ERR", b"QUEUED", "EXECABORT", b"OK", b"QUEUED", "ERR", "EXECABORT", 0,
    ]  # fmt: skip


def test_an_unknown_outcome_may_be_settled_by_repeating_the_command() -> None:
    talk = Talk()
    (session,) = talk.say("raft session")
    order = talk.start(f"raft once {session} 1 incr a")
    assert isinstance(order, Propose)
    lost = talk.machine.prepare(order.command, talk.now * 1_000_000)
    talk.take(talk.session.failed(OutcomeUnknown(UnknownReason.STOPPING), talk.now))
    assert [code(reply) for reply in talk.heard()] == ["UNKNOWN"]

    talk.index += 1
    talk.machine.apply(Index(talk.index), lost)  # it was in the log after all
    assert talk.say(f"raft once {session} 1 incr a; get a") == [1, b"1"]


@pytest.mark.slow
def test_the_documented_client_counts_exactly_through_the_death_of_the_leader(tmp_path: Path) -> None:
    """Four threads count at the leader with the client library's own retries on; it is killed and comes back."""
    text = (Path(__file__).parents[2] / "docs" / "raft-kv.md").read_text("utf-8")
    found = re.search(r"<!-- example: once -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    example: dict[str, type] = {}
    exec(found.group(1), example)

    with Cluster(tmp_path) as three:
        three.found(3)
        three.wait_ready([1, 2, 3])
        leader = three.wait_leader()
        with redis.Redis(*three.members[leader].address) as client:
            counter = example["OnceClient"](client)
            counts: list[int] = []

            def count() -> None:
                for _ in range(50):
                    counts.append(int(counter.write("INCR", "n")))

            threads = [threading.Thread(target=count) for _ in range(4)]
            for thread in threads:
                thread.start()
            while len(counts) < 40:
                threads[0].join(0.01)
            three.kill(leader)
            three.start(leader)
            for thread in threads:
                thread.join(100)
            assert sorted(counts) == list(range(1, 201))
            assert client.get("n") == b"200"

        three.stop([1, 2, 3])
        for node in three.members:
            three.start(node)
        three.wait_ready([1, 2, 3])
        with redis.Redis(*three.members[1].address) as again:
            last = again.execute_command("RAFT", "ONCE", counter.session, 200, "INCR", "n")
            assert last in counts
            assert again.get("n") == b"200"
