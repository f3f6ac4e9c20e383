"""Wall times that commands name become cluster time before they enter the log."""

from __future__ import annotations

import pytest

from raft_core.ids import Index
from raft_core.state_machine import preparer
from raft_kv import log_format as entries
from raft_kv.client_session import Session
from raft_kv.client_session_values import Propose
from raft_kv.log_format import Calls, Clock, Once, Transaction
from raft_kv.state_machine import KeyValueMachine
from raft_kv.wall_times import in_cluster_time

START = 1_700_000_000_000
MILLION = 1_000_000
HOUR = 3_600_000


def call(text: str) -> list[bytes]:
    return text.encode().split()


def entry(*texts: str) -> bytes:
    return entries.encode_entry(Calls(2, [call(text) for text in texts]))


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("expireat k 20000 NX", "pexpireat k 16400000 NX"),
        ("PEXPIREAT k 4000000", "pexpireat k 400000"),
        ("set k v EXAT 20000 GET", "set k v PXAT 16400000 GET"),
        ("set k exat pxat 4000000", "set k exat PXAT 400000"),
        ("set k v IFEQ exat EXAT 20000", "set k v IFEQ exat PXAT 16400000"),
        ("raft.set k v IFEQ exat EXAT 20000", "raft.set k v IFEQ exat PXAT 16400000"),
        ("set k v exat 5", "set k v PXAT 1"),
        ("expireat k 5", "pexpireat k -3595000"),
        ("expire expireat 20", "expire expireat 20"),
        ("set k v ex 20", "set k v ex 20"),
        ("set expireat exat", "set expireat exat"),
        ("expireat k soon", "expireat k soon"),
        ("expireat k", "expireat k"),
        ("set k v exat", "set k v exat"),
        ("set k v exat -1", "set k v exat -1"),
        ("expireat k 9223372036854775807", "expireat k 9223372036854775807"),
    ],
)
def test_wall_times_of_commands_are_moved(text: str, moved: str) -> None:
    assert in_cluster_time(entry("ping", text), HOUR) == entry("ping", moved)


def test_wall_times_of_every_kind_of_entry_are_moved() -> None:
    named, moved = [call("pexpireat k 4000000")], [call("pexpireat k 400000")]
    for one, other in (
        (Transaction(2, [(b"k", 5)], named), Transaction(2, [(b"k", 5)], moved)),
        (Once(7, 1, 2, False, [], named), Once(7, 1, 2, False, [], moved)),
    ):
        assert in_cluster_time(entries.encode_entry(one), HOUR) == entries.encode_entry(other)


@pytest.mark.parametrize("data", [b"", b"expireat", b"\1" + bytes(8) + b"expireat", entries.encode_entry(Clock())])
def test_what_is_no_command_stays_as_it_is(data: bytes) -> None:
    assert in_cluster_time(data, HOUR) == data


def test_small_difference_leaves_commands_as_they_are() -> None:
    assert in_cluster_time(entry("expireat k 20"), 1000) == entry("expireat k 20")


@pytest.mark.parametrize("ahead", [-START, -HOUR, 0, HOUR])
def test_key_goes_when_the_leaders_wall_clock_says_so_whatever_the_log_thinks(ahead: int) -> None:
    machine = KeyValueMachine()
    prepare = preparer(machine)

    def apply(index: int, text: str, elapsed: int) -> bytes:
        now = START + elapsed
        return machine.apply(Index(index), prepare(entry(text), now * MILLION, (now + ahead) * MILLION))

    assert apply(1, f"set k v pxat {START + ahead + 5000}", 0) == b"+OK\r\n"
    assert apply(2, "pttl k", 1000) == b":4000\r\n"
    assert apply(3, "get k", 4999) == b"$1\r\nv\r\n"
    assert apply(4, "get k", 5000) == b"$-1\r\n"


def test_wall_times_of_every_command_that_names_one_are_moved_as_a_client_sends_it() -> None:
    for text in ("expireat k 20000", "pexpireat k 20000000", "set k v exat 20000", "SET k v IFEQ w PXAT 20000000 GET"):
        sent = Session(1).receive(text.encode() + b"\r\n", 0)
        assert isinstance(sent[-1], Propose)
        assert in_cluster_time(sent[-1].command, HOUR) != sent[-1].command
