"""An earlier release's machine and this one's come to the same replies and the same state by the same entries."""

from __future__ import annotations

import importlib
import sys
from random import Random
from typing import Any

import msgspec
import pytest

from raft_core.ids import Index
from raft_kv import keyspace, long_values, snapshot_format, state_machine
from raft_kv.commands import TABLE, WRITE
from raft_kv.log_format import Calls, Clock, Once, OpenSession, Transaction, encode_entry, stamp
from raft_kv.state_machine import KeyValueMachine
from tests.compatibility import RELEASES, wheel

START = 1_700_000_000_000


def _imported(release: str) -> Any:
    """Return the module of the earlier release's machine. This release's modules are as before afterwards."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in {"raft_kv", "raft_core"}}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, str(wheel(release)))
    try:
        module = importlib.import_module("raft_kv.machine")
        machine = module.KeyValueMachine()
        machine.restore(machine.snapshot())  # msgspec looks up the names of types when they are used first
        return module
    finally:
        sys.path.remove(str(wheel(release)))
        for name in [name for name in sys.modules if name.partition(".")[0] in {"raft_kv", "raft_core"}]:
            del sys.modules[name]
        sys.modules.update(ours)


@pytest.fixture(scope="module", params=RELEASES)
def old(request: pytest.FixtureRequest) -> Any:
    return _imported(request.param)


def _state(machine: Any) -> tuple[list[Any], list[Any]]:
    """The head of a snapshot, as far as both releases know it, and its records."""
    data = b"".join(machine.snapshot())[len(b"raft-kv snapshot 1\n") :]
    blocks = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        blocks.append(msgspec.msgpack.decode(data[4:end]))
        data = data[end:]
    return blocks[0][:5], [pair for block in blocks[1:] for pair in block]


def _call(rng: Random) -> list[bytes]:
    key, other, time = (rng.choice("abcdef") for _ in range(2)), rng.choice("abcdef"), rng.randint(-5, 60)
    first, second = key
    text = rng.choice(
        [
            f"set {first} {rng.randint(-5, 5)}",
            f"set {first} v px {time}",
            f"set {first} v pxat {START + rng.randint(0, 400)} get",
            f"set {first} w keepttl xx",
            f"set {first} w nx get",
            f"set {first} w ifeq v",
            f"setex {first} 0 v",
            f"psetex {first} {time} v",
            f"getset {first} 7",
            f"msetnx {first} 1 {second} 2",
            f"mset {first} 1 {second} 2",
            f"mget {first} {second} {other}",
            f"append {first} xyz",
            f"append {first} {'long' * rng.randint(0, 9)}",
            f"setrange {first} {rng.randint(0, 50)} abc",
            f"getrange {first} {rng.randint(-9, 50)} {rng.randint(-9, 50)}",
            f"incr {first}",
            f"decrby {first} 3",
            f"del {first} {second}",
            f"getdel {first}",
            f"exists {first} {second} {first}",
            f"type {first}",
            f"strlen {first}",
            f"get {first}",
            f"rename {first} {second}",
            f"renamenx {first} {second}",
            f"copy {first} {second} replace",
            f"expire {first} 0",
            f"pexpire {first} {time} {rng.choice(['nx', 'xx', 'gt', 'lt'])}",
            f"pexpireat {first} {START + rng.randint(0, 400)}",
            f"persist {first}",
            f"pttl {first}",
            f"pexpiretime {first}",
            "keys *",
            f"scan {rng.randint(0, 9)} count {rng.randint(1, 5)}",
            "dbsize",
            "nonsense",
            "flushall" if rng.random() < 0.2 else "dbsize",
        ]
    )
    return text.encode().split()


def _entry(rng: Random, machine: KeyValueMachine, now: int) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return stamp(encode_entry(Clock()), now)
    calls = [_call(rng) for _ in range(rng.randint(1, 6))]
    if kind < 0.3:
        keys = [rng.choice("abcdefgh").encode() for _ in range(2)]
        watched = [(key, machine.keyspace.version(key) - (rng.random() < 0.1)) for key in keys]
        return stamp(encode_entry(Transaction(rng.choice([2, 3]), watched, calls)), now)
    return stamp(encode_entry(Calls(rng.choice([2, 3]), calls)), now)


@pytest.mark.parametrize("seed", range(6))
def test_machine_of_earlier_release_agrees_on_every_entry(old: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(seed)
    monkeypatch.setattr(keyspace, "_PORTION", rng.choice([0, 1, 2]))
    monkeypatch.setattr(keyspace, "_PER_KEY", rng.choice([0, 1]))
    for module in (long_values, snapshot_format):
        monkeypatch.setattr(module, "LONG_BYTES", 24)
    monkeypatch.setattr(long_values, "PIECE_BYTES", 8)
    monkeypatch.setattr(long_values, "_ZEROS", bytes(8))
    work = rng.choice([200, 4000])
    for module in (old, state_machine):
        monkeypatch.setattr(module, "_WORK", work)
        monkeypatch.setattr(module, "_RESULT_BYTES", 150)
    restored: Any
    earlier, ours, restored = old.KeyValueMachine(), KeyValueMachine(), KeyValueMachine()
    now = START
    for index in range(1, 400):
        now += rng.choice([0, 0, 1, 5, 20, -3])
        entry = _entry(rng, ours, now)
        answer = earlier.apply(index, entry)
        assert ours.apply(Index(index), entry) == answer, (index, entry)
        assert restored.apply(index, entry) == answer, (index, entry)
        if index % 7 == 0:
            assert _state(ours) == _state(restored) == _state(earlier)
            snapshots = [b"".join(machine.snapshot()) for machine in (earlier, ours)]
            restored = rng.choice([KeyValueMachine, old.KeyValueMachine])()
            restored.restore([rng.choice(snapshots)])


def _both(old: Any, *entries: list[str]) -> tuple[Any, Any]:
    """Both machines after these entries, each with some calls."""
    earlier, ours = old.KeyValueMachine(), KeyValueMachine()
    for index, texts in enumerate(entries, 1):
        data = stamp(encode_entry(Calls(2, [text.encode().split() for text in texts])), START)
        earlier.apply(index, data)
        ours.apply(Index(index), data)
    return earlier, ours


def test_long_mget_in_the_log_counts_as_much_work_as_it_did(old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (old, state_machine):
        monkeypatch.setattr(module, "_WORK", 100 * 1024 * 1024)
    size = 33 * 1024 * 1024
    earlier, ours = _both(old, [f"setrange k {size - 1} x"], ["mget k k", "mget k k", "set a 1"])
    assert ours.keyspace.version(b"a") == earlier.keyspace.version(b"a") == 0


def test_wide_scan_in_the_log_counts_as_much_work_as_it_did(old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (old, state_machine):
        monkeypatch.setattr(module, "_WORK", 400_000)
    keys = " ".join(f"key:{number} v" for number in range(2000))
    earlier, ours = _both(old, [f"mset {keys}"], ["scan 0 count 5000", "set a 1"])
    assert ours.keyspace.version(b"a") == earlier.keyspace.version(b"a") == 0


def test_commands_that_an_earlier_release_answers_otherwise_are_those_that_are_documented(old: Any) -> None:
    """A name that is added here belongs into "A cluster of two releases" in docs/raft-kv.md."""
    new = {name for name, command in TABLE.items() if WRITE in command.flags} - set(old.look_up.__globals__["TABLE"])
    never_logged = {b"eval", b"evalsha"}
    assert new - never_logged == {b"delifeq", b"delex", b"raft.set", b"raft.once", b"raft.script"}
    for entry in (OpenSession(), Once(1, 1, 2, False, [], [[b"set", b"a", b"1"]])):
        earlier = old.KeyValueMachine()
        before = _state(earlier)
        assert earlier.apply(1, stamp(encode_entry(entry), START)).startswith(b"-ERR")
        assert _state(earlier) == before
