"""The replicated machine: every replica the same, time by entries only, snapshots of one moment."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index
from raft_core.node.cluster_time import ClusterTime
from raft_core.state_machine import StateMachine
from raft_kv import log_format as entries
from raft_kv import state_machine as machine_module
from raft_kv.keyspace import Record
from raft_kv.log_format import Answered, Calls, Clock, Query, Transaction, Versions
from raft_kv.snapshot_format import SnapshotUnreadable
from raft_kv.state_machine import Census, KeyValueMachine

START = 1_700_000_000_000
MILLION = 1_000_000


def calls(*texts: str, at: int = START, protocol: int = 2) -> bytes:
    entry = entries.encode_entry(Calls(protocol, [text.encode().split() for text in texts]))
    return KeyValueMachine().prepare(entry, at * MILLION)


def replies(data: bytes) -> list[object]:
    """What a client makes of the bytes; errors as their texts."""
    reader = hiredis.Reader()
    reader.feed(data)
    found: list[object] = []
    while (item := reader.gets()) is not False:
        found.append(plain(item))
    return found


def plain(item: object) -> object:
    if isinstance(item, list):
        return [plain(inner) for inner in item]
    return str(item) if isinstance(item, Exception) else item


def ask(machine: KeyValueMachine, *texts: str, now: int = 0, together: bool = False) -> tuple[list[object], bool]:
    query = Query(2, [], [text.encode().split() for text in texts], together)
    answer = entries.decode_answer(machine.query(entries.encode_query(query, now)))
    return replies(answer.replies), answer.due


def state(machine: KeyValueMachine) -> bytes:
    return b"".join(machine.snapshot())


_KEYS = st.sampled_from(["a", "b", "c", "d"])
_CALL = st.one_of(
    st.tuples(st.just("set"), _KEYS, st.integers(-5, 5).map(str)).map(" ".join),
    st.tuples(st.just("set"), _KEYS, st.just("v px"), st.integers(1, 300).map(str)).map(" ".join),
    st.tuples(st.just("set"), _KEYS, st.just("w keepttl")).map(" ".join),
    st.tuples(st.sampled_from(["incr", "del", "persist", "getdel", "decr"]), _KEYS).map(" ".join),
    st.tuples(st.just("pexpire"), _KEYS, st.integers(-5, 300).map(str)).map(" ".join),
    st.tuples(st.just("append"), _KEYS, st.just("x")).map(" ".join),
    st.tuples(st.just("rename"), _KEYS, _KEYS).map(" ".join),
    st.sampled_from(["flushall", "nonsense a", "get", "mset a 1 b 2"]),
)
_ENTRY = st.tuples(st.lists(_CALL, min_size=1, max_size=4), st.integers(-100, 200))


def entry_bytes(history: list[tuple[list[str], int]]) -> Iterator[tuple[Index, bytes]]:
    now = START
    for number, (texts, step) in enumerate(history, 1):
        now += step
        yield Index(number), calls(*texts, at=now)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ENTRY, max_size=25), st.data())
def test_replicas_stay_byte_equal_also_when_one_starts_from_a_snapshot(
    history: list[tuple[list[str], int]], data: st.DataObject
) -> None:
    first, second, restored = KeyValueMachine(), KeyValueMachine(), KeyValueMachine()
    cut = data.draw(st.integers(0, len(history)))
    for index, entry in entry_bytes(history):
        answer = first.apply(index, entry)
        assert second.apply(index, entry) == answer
        if index > cut:
            assert restored.apply(index, entry) == answer
        if index == cut:
            size = data.draw(st.integers(1, 50))
            whole = state(first)
            restored.restore([whole[place : place + size] for place in range(0, len(whole), size)])
        assert all(not record.deadline or record.deadline > first.keyspace.time for record in _records(first))
        assert first.census() == Census(len(_records(first)), sum(bool(record.deadline) for record in _records(first)))
    assert state(first) == state(second)
    if cut:
        assert restored.census() == first.census()
        assert state(restored) == state(first)
        assert ask(restored, "scan 0 count 2") == ask(first, "scan 0 count 2")


def _records(machine: KeyValueMachine) -> list[Record]:
    return list(machine.keyspace.records.values())


def test_a_machine_fits_the_protocol_of_state_machines() -> None:
    machine: StateMachine = KeyValueMachine()
    assert isinstance(machine, StateMachine)
    assert machine.init() == 0


def test_the_leaders_clock_is_stamped_in_and_decides() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 ex 10", at=START))
    assert replies(machine.apply(Index(2), calls("pttl a", at=START + 4000))) == [6000]
    assert replies(machine.apply(Index(3), calls("get a", at=START + 9999))) == [b"1"]
    assert replies(machine.apply(Index(4), calls("get a", "exists a", "dbsize", at=START + 10_000))) == [None, 0, 0]


def test_time_never_runs_back_when_a_new_leader_has_a_slower_clock() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 px 100", at=START))
    machine.apply(Index(2), calls("set b 1", at=START + 100))
    assert replies(machine.apply(Index(3), calls("get a", "set c 1 px 100", at=START - 5000))) == [None, b"OK"]
    assert machine.keyspace.records[b"c"].deadline == START + 200


def test_a_question_never_moves_the_clock_but_says_when_it_should_be_moved() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 px 100", "set b 2", at=START))
    before = state(machine)
    assert ask(machine, "get b", "get a", "get b", now=START + 99) == ([b"2", b"1", b"2"], False)
    assert ask(machine, "get b", "get a", "get b", now=START + 100) == ([b"2"], True)
    assert ask(machine, "dbsize", now=START + 100) == ([], True)
    assert ask(machine, "get b", "get a", now=START + 100, together=True) == ([], True)
    assert ask(machine, "get b", "get a", "dbsize", now=0) == ([b"2", b"1", 2], False)
    assert state(machine) == before
    machine.apply(Index(2), machine.prepare(entries.encode_entry(Clock()), (START + 100) * MILLION))
    assert ask(machine, "get a", "dbsize", now=START + 100) == ([None, 1], False)


def test_a_question_cannot_write_whatever_its_bytes_say() -> None:
    machine = KeyValueMachine()
    before = state(machine)
    answer, _ = ask(machine, "set a 1", "dbsize")
    assert "unknown command" in str(answer[0])
    assert answer[1] == 0
    assert state(machine) == before


def test_a_question_with_a_long_answer_is_answered_in_parts() -> None:
    machine = KeyValueMachine()
    entry = entries.encode_entry(Calls(2, [[b"set", b"a", b"x" * 1_500_000]]))
    machine.apply(Index(1), machine.prepare(entry, START * MILLION))
    answer = entries.decode_answer(machine.query(entries.encode_query(Query(2, [], [[b"get", b"a"]] * 9, False), 0)))
    assert (answer.count, answer.due) == (3, False)


def test_bytes_that_are_no_entry_have_an_error_as_their_result_on_every_replica() -> None:
    for garbage in (b"", b"x", b"\x01" + b"\0" * 8 + b"\xc1", b"\x09" + b"\0" * 8, b"\x01" + b"\xff" * 9):
        one, two = KeyValueMachine(), KeyValueMachine()
        answer = one.apply(Index(1), one.prepare(garbage, START))
        assert answer == two.apply(Index(1), two.prepare(garbage, START))
        assert answer.startswith(b"-ERR this log entry could not be read")
        assert state(one) == state(two) == state(KeyValueMachine())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_never_raises(data: bytes) -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), machine.prepare(data, START * MILLION))
    machine.query(data)
    for kind in (1, 2, 3, 4, 5):
        machine.apply(Index(2), bytes([kind]) + bytes(8) + data)
        machine.query(bytes([kind]) + bytes(8) + data)


# Transactions.


def transaction(machine: KeyValueMachine, index: int, watched: list[tuple[bytes, int]], *texts: str) -> list[object]:
    entry = entries.encode_entry(Transaction(2, watched, [text.encode().split() for text in texts]))
    return replies(machine.apply(Index(index), machine.prepare(entry, START * MILLION)))


def versions(machine: KeyValueMachine, *keys: bytes, at: int = START) -> list[tuple[bytes, int]]:
    answer = machine.query(entries.encode_query(Versions(list(keys)), at))
    return list(zip(keys, entries.decode_versions(answer), strict=True))


def test_a_transaction_is_carried_out_where_nothing_watched_has_changed() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1"))
    seen = versions(machine, b"a", b"absent")
    machine.apply(Index(2), calls("set b 1"))
    unknown = "ERR unknown command 'lpush', with args beginning with: 'a' "
    assert transaction(machine, 3, seen, "incr a", "lpush a", "get a") == [[2, unknown, b"2"]]
    assert machine.keyspace.records[b"a"].value == b"2"


@pytest.mark.parametrize("change", [["set a 2"], ["set a 1"], ["del a"], ["del a", "set a 1"], ["pexpire a 100"]])
def test_a_transaction_is_not_carried_out_where_something_watched_has_changed(change: list[str]) -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1"))
    seen = versions(machine, b"a")
    machine.apply(Index(2), calls(*change))
    assert transaction(machine, 3, seen, "set b 1") == [None]
    assert b"b" not in machine.keyspace.records


def test_replies_that_would_not_fit_into_one_frame_become_errors_and_the_rest_is_still_done() -> None:
    machine = KeyValueMachine()
    entry = entries.encode_entry(Calls(2, [[b"set", b"a", b"x" * 3_000_000]]))
    machine.apply(Index(1), machine.prepare(entry, START * MILLION))
    (answers,) = transaction(machine, 2, [], "get a", "get a", "set b 1")
    assert isinstance(answers, list)
    assert [type(answer) for answer in answers] == [bytes, str, bytes]
    assert answers[1] == "ERR carried out, but the replies to one log entry would be too long to be sent"
    assert machine.keyspace.records[b"b"].value == b"1"


def test_watching_an_absent_key_notices_one_that_came_and_went() -> None:
    machine = KeyValueMachine()
    seen = versions(machine, b"a")
    machine.apply(Index(1), calls("set a 1"))
    machine.apply(Index(2), calls("del a"))
    assert transaction(machine, 3, seen, "set b 1") == [None]


def test_watching_notices_an_expired_key() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 px 100", at=START - 200))
    seen = versions(machine, b"a", at=START - 101)
    assert transaction(machine, 2, seen, "set b 1") == [None]


# Snapshots.


def test_a_snapshot_shows_its_moment_while_applying_goes_on() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 px 500", "set b 2"))
    before = state(machine)
    chunks = machine.snapshot()
    machine.apply(Index(2), calls("set a 9", "del b", "set c 3", at=START + 5000))
    assert b"".join(chunks) == before
    assert state(machine) != before


def test_a_restored_machine_goes_on_with_deadlines_cursors_and_watches() -> None:
    machine, other = KeyValueMachine(), KeyValueMachine()
    machine.apply(Index(1), calls("set a 1 px 500", "set b 2", "set c 3", "del b"))
    other.apply(Index(9), calls("set old 1"))
    other.restore(machine.snapshot())
    assert versions(other, b"a", b"b") == versions(machine, b"a", b"b")
    assert ask(other, "scan 0 count 1") == ask(machine, "scan 0 count 1") == ([[b"1", [b"a"]]], False)
    assert ask(other, "scan 1 count 1") == ([[b"0", [b"c"]]], False)
    other.apply(Index(10), calls("set z 1", at=START + 500))
    assert sorted(other.keyspace.records) == [b"c", b"z"]


@pytest.mark.interpreted
def test_an_entry_that_takes_too_much_work_carries_out_only_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "_WORK", 1000)
    machine = KeyValueMachine()
    refused = b"-ERR not carried out: the commands before it took too much work; send fewer at once\r\n"

    appended = machine.apply(Index(1), calls("setrange a 499 x", *["append a y"] * 4, "set b 1"))
    assert appended == b":500\r\n:501\r\n" + refused * 4
    assert machine.apply(Index(2), calls("append a y", "append a y")) == b":502\r\n:503\r\n"  # each entry anew

    machine.apply(Index(4), calls("set long " + "x" * 600))
    query = Query(2, [], [[b"get", b"long"]] * 4, True)
    replies = entries.decode_answer(machine.query(entries.encode_query(query, 0))).replies
    assert replies.count(b"x" * 600) == 2
    assert replies.endswith(refused * 2)
    sweeping = Query(2, [], [[b"keys", b"x*"], [b"scan", b"0"], [b"keys", b"x*"]], True)
    swept = entries.decode_answer(machine.query(entries.encode_query(sweeping, 0))).replies
    assert swept.count(refused) == 1  # three keys and two are looked at, which is more than 1000 bytes


@pytest.mark.parametrize("cut", [0, 5, 19, 21, 30, -1])
def test_a_snapshot_that_is_not_whole_is_refused_and_changes_nothing(cut: int) -> None:
    machine, other = KeyValueMachine(), KeyValueMachine()
    machine.apply(Index(1), calls("set a 1", "set b 2"))
    other.apply(Index(1), calls("set kept 1"))
    with pytest.raises(SnapshotUnreadable):
        other.restore([state(machine)[:cut]])
    assert list(other.keyspace.records) == [b"kept"]


def test_a_snapshot_without_its_last_block_is_refused() -> None:
    machine = KeyValueMachine()
    machine.apply(Index(1), calls("set a 1"))
    head, *_rest = machine.snapshot()
    with pytest.raises(SnapshotUnreadable, match=r"1.*0"):
        KeyValueMachine().restore([head])


def test_renewing_a_deadline_again_and_again_takes_no_memory() -> None:
    machine = KeyValueMachine()
    for number in range(1, 1000):
        machine.apply(Index(number), calls("set a 1 px 60000", "set b 1 px 60000", at=START + number))
    space = machine.keyspace
    assert sum(len(shard.due) for shard in space._shards) == 2
    assert len(space._due) < 100


def test_an_answer_survives_its_encoding() -> None:
    answer = Answered(True, 3, b"abc")
    assert entries.decode_answer(entries.encode_answer(answer)) == answer


# Time.


def test_lock_that_was_set_after_a_clock_ran_back_lives_as_long_as_it_should() -> None:
    """The stamps of issue 11, as an old leader wrote them; then a new one goes on from the log's time."""
    machine, second = KeyValueMachine(), 1000
    for index, at in enumerate((START, START + 3600 * second, START + 1 * second), 1):
        machine.apply(Index(index), calls("incr n", at=at))
    time = ClusterTime()
    time.log_shows(machine.latest_time(), 0)

    def apply(index: int, text: str, elapsed: int) -> list[object]:
        return replies(machine.apply(Index(index), calls(text, at=time.read(elapsed * MILLION) // MILLION)))

    assert apply(4, "set lock x px 2000", 0) == [b"OK"]
    assert apply(5, "pttl lock", 1500) == [500]
    assert apply(6, "get lock", 1999) == [b"x"]
    assert apply(7, "get lock", 2000) == [None]


def test_restored_machine_knows_the_latest_time() -> None:
    machine, restored = KeyValueMachine(), KeyValueMachine()
    assert machine.latest_time() == 0
    machine.apply(Index(1), calls("set a 1"))
    restored.restore(machine.snapshot())
    assert restored.latest_time() == START * MILLION
