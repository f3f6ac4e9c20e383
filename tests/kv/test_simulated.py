"""The key-value machine in the simulator, with its shorter way for `SET`s without an answer (`plain_sets`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import pytest

from raft_core.ids import Index
from raft_core.node.limits import SECOND
from raft_kv.log_format import ANSWER_HEAD, Calls, Query, encode_entry, encode_query
from raft_kv.state_machine import KeyValueMachine
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Profile
from raft_testing.linearizability.history import Datum
from raft_testing.linearizability.models import KeyValue, SequentialModel
from raft_testing.rng import Rng
from raft_testing.sim.runner import simulate
from raft_testing.workloads.registers import Asked

SHORT: Final = Profile(chaos=40 * SECOND, operations=300, clients=8)


@final
class Keys:
    """GET, SET, APPEND and DEL of a few keys. No value is written twice, and APPEND's reply depends on the last SET."""

    @property
    def model(self) -> SequentialModel:
        return KeyValue()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        key, fate = f"k{rng.below(4)}", rng.random.random()
        if fate < 0.25:
            query = Query(2, [], [[b"GET", key.encode()]], together=False)
            return Asked("get", key, None, encode_query(query, 0), reads=True)
        value = f"v{number}" + "x" * rng.choice((0, 0, 40, 400))
        if fate < 0.8:
            return Asked("put", key, value, _entry(b"SET", key.encode(), value.encode()))
        if fate < 0.95:
            return Asked("append", key, value, _entry(b"APPEND", key.encode(), value.encode()))
        return Asked("delete", key, None, _entry(b"DEL", key.encode()))

    def result(self, asked: Asked, answer: bytes) -> Datum:
        reply = answer[ANSWER_HEAD:] if asked.reads else answer
        if reply == b"+OK\r\n" or reply == b"$-1\r\n":
            return None
        if reply[:1] == b":":
            return bool(int(reply[1:])) if asked.kind == "delete" else int(reply[1:])
        if reply[:1] == b"$":
            return reply.partition(b"\r\n")[2][:-2].decode()
        raise ValueError(f"no reply to {asked.kind}: {reply!r}")


def _entry(*call: bytes) -> bytes:
    return encode_entry(Calls(2, [list(call)]))


def test_runs_of_sets_without_an_answer_are_simulated() -> None:
    report = simulate(range(3), open_store=open_file_store, machine=KeyValueMachine, workload=Keys, profile=SHORT)

    assert not report.failures, report.table()
    assert report.seen["command applied without a result"] > 100


def test_shorter_way_with_another_effect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = KeyValueMachine.apply_unanswered

    def loses_the_last(machine: KeyValueMachine, commands: Sequence[tuple[Index, bytes]]) -> int:
        count = right(machine, commands[:-1])
        return len(commands) if count == len(commands) - 1 else count

    monkeypatch.setattr(KeyValueMachine, "apply_unanswered", loses_the_last)
    report = simulate(range(3), open_store=open_file_store, machine=KeyValueMachine, workload=Keys, profile=SHORT)

    assert any("two machines" in seed.violation for seed in report.failures), report.table()
