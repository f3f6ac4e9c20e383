"""The example of a durable state machine: three processes of SQL, killed in the middle, and put under the simulator."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.replicated_sqlite import SqlMachine
from raft_core.ids import Index
from raft_core.wal.filesystem import Files
from raft_kv.demo.cluster import free_ports
from raft_storage import FileStore
from raft_testing.linearizability.history import Datum
from raft_testing.linearizability.models import KeyValue
from raft_testing.rng import Rng
from raft_testing.sim.runner import simulate
from raft_testing.workloads.registers import Asked

SCRIPT = Path(__file__).parents[2] / "examples" / "replicated_sqlite.py"
NOON = 1_700_000_000 * 10**9


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SqlMachine]:
    found = SqlMachine(str(tmp_path / "state.sqlite"))
    yield found
    found.close()


def do(machine: SqlMachine, index: int, *request: object, now: int = NOON) -> Any:
    return json.loads(machine.apply(Index(index), machine.prepare(json.dumps(request).encode(), now)))


def ask(machine: SqlMachine, *request: object) -> Any:
    return json.loads(machine.query(json.dumps(request).encode()))


def test_statement_and_its_index_are_kept_together(machine: SqlMachine) -> None:
    do(machine, 3, "CREATE TABLE t (a)")
    assert do(machine, 5, "INSERT INTO t VALUES (?), (?)", [1, "x"]) == {"rows": 2}
    assert ask(machine, "SELECT a FROM t ORDER BY rowid") == [[1], ["x"]]
    again = SqlMachine(machine.path)
    assert again.init() == 5
    again.close()


def test_failed_statement_changes_nothing_but_the_index(machine: SqlMachine) -> None:
    do(machine, 1, "CREATE TABLE t (a UNIQUE)")
    do(machine, 2, "INSERT INTO t VALUES (1)")
    assert "error" in do(machine, 3, "INSERT INTO t VALUES (2), (1)")
    assert "error" in do(machine, 4, "no statement at all")
    assert ask(machine, "SELECT a FROM t") == [[1]]
    assert machine.init() == 4


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (random())",
        "INSERT INTO t VALUES (randomblob(4))",
        "INSERT INTO t VALUES (last_insert_rowid())",
        "INSERT INTO t VALUES (datetime('now', 'localtime'))",
        "UPDATE _applied SET upto = 99",
        "DROP TABLE _applied",
        "PRAGMA journal_mode=DELETE",
        "ATTACH 'other' AS other",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT mine",
    ],
)
def test_what_would_differ_from_node_to_node_is_refused(statement: str, machine: SqlMachine) -> None:
    do(machine, 1, "CREATE TABLE t (a)")
    assert "error" in do(machine, 2, statement)
    assert ask(machine, "SELECT a FROM t") == []
    assert machine.init() == 2


def test_time_is_the_one_in_the_command(machine: SqlMachine) -> None:
    do(machine, 1, "CREATE TABLE t (a, b DEFAULT CURRENT_TIMESTAMP, c DEFAULT (date()))")
    do(machine, 2, "INSERT INTO t (a) VALUES (strftime('%s', 'now'))")
    do(machine, 3, "INSERT INTO t (a) VALUES (datetime('now', '+1 day'))", now=NOON + 10**9)
    assert ask(machine, "SELECT * FROM t") == [
        ["1700000000", "2023-11-14 22:13:20", "2023-11-14"],
        ["2023-11-15 22:13:21", "2023-11-14 22:13:21", "2023-11-14"],
    ]


def test_snapshot_shows_its_moment_and_is_restored_with_its_index(machine: SqlMachine, tmp_path: Path) -> None:
    do(machine, 1, "CREATE TABLE t (a)")
    do(machine, 2, "INSERT INTO t VALUES (1)")
    chunks = machine.snapshot()
    do(machine, 3, "INSERT INTO t VALUES (2)")
    other = SqlMachine(str(tmp_path / "other.sqlite"))
    other.restore(list(chunks))
    assert (ask(other, "SELECT a FROM t"), other.init()) == ([[1]], 2)
    other.close()
    assert ask(machine, "SELECT count(*) FROM t") == [[2]]


def test_query_changes_nothing(machine: SqlMachine) -> None:
    do(machine, 1, "CREATE TABLE t (a)")
    assert "error" in ask(machine, "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x")
    assert ask(machine, "SELECT count(*) FROM t") == [[0]]


# Three processes.


@contextmanager
def running(folder: Path) -> Iterator[tuple[dict[int, subprocess.Popen[bytes]], list[int], Callable[[int], None]]]:
    ports = free_ports(6)
    nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(number: int) -> None:
        command = [sys.executable, str(SCRIPT), str(number), *map(str, ports)]
        nodes[number] = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)

    for number in (1, 2, 3):
        start(number)
    try:
        yield nodes, ports[2:], start
    finally:
        for process in nodes.values():
            process.kill()
            process.wait()


def said(port: int, *request: object) -> Any:
    """What a node answers, as soon as it is there and knows a leader."""
    deadline = time.monotonic() + 40
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(connection.makefile("rb").readline())
        except (OSError, ValueError):
            answer = {"error": "no answer"}
        if not (isinstance(answer, dict) and "error" in answer) or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)


def test_three_processes_lose_nothing_when_one_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as (nodes, ports, start):
        said(ports[1], "CREATE TABLE t (node, number, since DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (node, number))")
        for number in range(20):
            node = 1 + number % 3
            if number == 7:
                nodes[2].kill()
                nodes[2].wait()
            if number == 14:
                start(2)
            if nodes[node].poll() is None:
                assert said(ports[node], "INSERT OR REPLACE INTO t (node, number) VALUES (?, ?)", [node, number]) == {
                    "rows": 1
                }
        rows = [said(ports[node], "SELECT * FROM t ORDER BY number") for node in (1, 2, 3)]
        assert rows[0] == rows[1] == rows[2]
        assert {row[1] for row in rows[0]} >= {0, 1, 2, 3, 4, 5, 6, 15, 18}
        for process in nodes.values():
            process.terminate()
        assert [process.wait(30) for process in nodes.values()] == [0, 0, 0]


# Under the simulator.


class TemporaryMachine(SqlMachine):
    """Each start of a simulated node begins with an empty database, as after the loss of this one file."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__(f"{self.folder.name}/state.sqlite")
        do(self, 0, "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, total INTEGER)")

    def __del__(self) -> None:
        self.close()
        self.folder.cleanup()


class Counting:
    """Clients that count and look."""

    model = KeyValue(absent=0)

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        name = rng.choice("abc")
        if rng.chance(0.3):
            look = json.dumps(["SELECT total FROM counters WHERE name = ?", [name]]).encode()
            return Asked("get", name, None, look, reads=True)
        upsert = "INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET total = total + 1 RETURNING total"
        return Asked("incr", name, 1, json.dumps([upsert, [name]]).encode())

    def result(self, asked: Asked, answer: bytes) -> Datum:
        rows = json.loads(answer)
        return rows[0][0] if rows else 0


def open_store(disk: Files, node: int, incarnation: int) -> FileStore:
    return FileStore.open("disk", node=node, cluster="c", files=disk, incarnation=incarnation, segment_bytes=16384)


def test_machine_passes_the_simulator() -> None:
    report = simulate(range(2), machine=TemporaryMachine, workload=Counting, open_store=open_store)
    assert not report.failures, report.table()
