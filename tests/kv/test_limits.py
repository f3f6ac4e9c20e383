"""Limits of a server: memory of the state, the same on every replica, and connections from one address."""

from __future__ import annotations

import random

import pytest

from raft_core.errors import SettingsError
from raft_core.ids import Index
from raft_kv.admission import Admission
from raft_kv.config import ServeConfig
from raft_kv.keyspace import footprint
from raft_kv.log_format import Bounded, Calls, Transaction, decode_entry, encode_entry
from raft_kv.state_machine import KeyValueMachine

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
MIB = 1 << 20


class Leader:
    """A machine that leads, with its log."""

    def __init__(self, limit: int) -> None:
        self.machine = KeyValueMachine(max_memory=limit)
        self.entries: list[bytes] = []
        self.now = 10**15

    def run(self, *calls: list[bytes], together: bool = False, later: int = 0) -> bytes:
        self.now += later * 1_000_000
        command = Transaction(2, [], list(calls)) if together else Calls(2, list(calls))
        entry = self.machine.prepare_with_wall(encode_entry(command), self.now, self.now)
        self.entries.append(entry)
        return self.machine.apply(Index(len(self.entries)), entry)


def test_writes_beyond_limit_are_refused_and_deletions_make_room() -> None:
    leader = Leader(MIB)
    assert leader.run([b"set", b"a", b"x" * MIB]) == b"+OK\r\n"  # one command may exceed it, as in Redis
    assert leader.run([b"set", b"b", b"y"]) == OOM
    assert leader.run([b"append", b"a", b"y"]) == OOM
    assert leader.run([b"pexpire", b"a", b"100000"]) == b":1\r\n"
    assert leader.run([b"del", b"a"]) == b":1\r\n"
    assert leader.run([b"set", b"b", b"y"]) == b"+OK\r\n"
    assert leader.run([b"flushall"]) == b"+OK\r\n"
    assert leader.machine.keyspace.held_bytes == 0


def test_one_entry_cannot_exceed_limit_by_more_than_one_command() -> None:
    """A few bytes each make values of a mebibyte: the check is made between the commands of the entry."""
    leader = Leader(4 * MIB)
    replies = leader.run(*[[b"setrange", b"k%d" % n, b"1048575", b"x"] for n in range(100)])
    assert replies.count(OOM) == 96
    assert leader.machine.keyspace.held_bytes < 5 * MIB


def test_flush_in_entry_makes_room_for_the_rest() -> None:
    leader = Leader(MIB)
    leader.run([b"set", b"a", b"x" * MIB])
    assert leader.run([b"set", b"b", b"y"], [b"flushall"], [b"set", b"b", b"y"]) == OOM + b"+OK\r\n+OK\r\n"


def test_transaction_has_error_in_place_of_reply() -> None:
    leader = Leader(MIB)
    leader.run([b"set", b"a", b"x" * MIB])
    assert leader.run([b"get", b"z"], [b"set", b"b", b"y"], together=True) == b"*2\r\n$-1\r\n" + OOM


def test_replicas_with_other_limits_and_snapshots_refuse_the_same() -> None:
    """The limit is judged by the leader and written into the entry: a replica's own memory and limit do not count."""
    rng, leader = random.Random(7), Leader(MIB)
    other = KeyValueMachine(max_memory=5)
    late: KeyValueMachine | None = None
    for number in range(600):
        key = b"k%d" % rng.randrange(40)
        call = rng.choice([
            [b"set", key, b"x" * rng.randrange(90_000)],
            [b"set", key, b"x" * 50_000, b"PX", b"%d" % rng.randrange(1, 3000)],
            [b"append", key, b"y" * 9000], [b"del", key], [b"getdel", key], [b"rename", key, b"k1"], [b"incr", b"n"],
        ])  # fmt: skip
        reply = leader.run(call, later=rng.randrange(200))
        index = Index(number + 1)
        assert other.apply(index, leader.entries[-1]) == reply
        if late is not None:
            assert late.apply(index, leader.entries[-1]) == reply
        if number == 300:
            late = KeyValueMachine()
            late.restore(leader.machine.snapshot())
    assert late is not None
    assert b"".join(late.snapshot()) == b"".join(other.snapshot()) == b"".join(leader.machine.snapshot())


def test_held_bytes_are_those_of_the_records() -> None:
    rng, leader = random.Random(11), Leader(0)
    for _ in range(500):
        key = b"k%d" % rng.randrange(20)
        leader.run(rng.choice([
            [b"set", key, b"x" * rng.randrange(500)], [b"set", key, b"x", b"PX", b"%d" % rng.randrange(1, 500)],
            [b"del", key], [b"rename", key, b"k3"], [b"setrange", key, b"7", b"z"], [b"persist", key],
        ]), later=rng.randrange(100))  # fmt: skip
        space = leader.machine.keyspace
        held = sum(footprint(key, record.value) for shard in space._shards for key, record in shard.records.items())
        assert space.held_bytes == held


def test_entry_without_limit_is_as_before() -> None:
    leader = Leader(0)
    leader.run([b"set", b"a", b"1"])
    assert leader.entries[0][0] == 1
    bounded = Leader(MIB)
    bounded.run([b"set", b"a", b"1"])
    _, command = decode_entry(bounded.entries[0])
    assert command == Bounded(MIB, Calls(2, [[b"set", b"a", b"1"]]))


@pytest.mark.parametrize(("text", "size"), [("1mb", MIB), ("2GB", 2 << 30), ("3m", 3_000_000), ("", 0)])
def test_size_is_read_as_redis_does(text: str, size: int) -> None:
    assert ServeConfig(id=1, max_memory=text).max_memory_bytes == size


@pytest.mark.parametrize("text", ["1", "mb", "-1mb", "1tb", "1.5gb", "1mbb"])
def test_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        ServeConfig(id=1, max_memory=text)


# Connections.


def test_address_has_so_many_connections() -> None:
    admission = Admission(2, 0)
    assert [admission.enter(b"a") for _ in range(3)] == [True, True, False]
    assert admission.enter(b"b")
    admission.leave(b"a")
    assert admission.enter(b"a")
    assert admission.refused == 1


def test_address_opens_connections_at_its_rate() -> None:
    now = [0.0]
    admission = Admission(0, 4, lambda: now[0])
    assert [admission.enter(b"a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert admission.enter(b"b")
    now[0] = 0.5
    assert [admission.enter(b"a") for _ in range(3)] == [True, True, False]
    now[0] = 100.0
    assert [admission.enter(b"a") for _ in range(5)] == [True] * 4 + [False]


def test_memory_for_addresses_is_bounded() -> None:
    admission = Admission(1, 1, lambda: 0.0)
    for number in range(10_000):
        admission.enter(b"%d" % number)
        admission.leave(b"%d" % number)
    assert len(admission._tokens) == 4096
    assert not admission._open
