"""An SQL database that survives the loss of any minority of its nodes: one file, three processes.

    python replicated_sqlite.py 1        (and 2, and 3, each in a terminal of its own)
    echo '["CREATE TABLE users (name TEXT, since TEXT DEFAULT CURRENT_TIMESTAMP)"]' | nc 127.0.0.1 7301
    echo '["INSERT INTO users (name) VALUES (?)", ["ada"]]'                         | nc 127.0.0.1 7302
    echo '["SELECT * FROM users"]'                                                  | nc 127.0.0.1 7303

A line is a statement and its values, as JSON; so is the answer. What changes something goes through the log and is
carried out on every node in the same order; a SELECT is linearizable on every node. Each node's state is a real SQLite
database on its own disk, which notes up to which entry it has come: after a restart only the rest is carried out.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio

from raft_trio import Node, NodeConfig, OutcomeUnknown, Refused, StateMachine, serve

DATES = ("date", "time", "datetime", "julianday", "strftime", "unixepoch")
REFUSED = ("random", "randomblob", "changes", "total_changes", "last_insert_rowid", "load_extension")
FORBIDDEN = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_TRANSACTION,
             sqlite3.SQLITE_SAVEPOINT}  # fmt: skip
CHUNK = 64 * 1024


def text_of(value: object) -> bytes:
    return json.dumps(value, default=lambda blob: blob.hex()).encode()


class SqlMachine(StateMachine):
    """A state machine that keeps its state in the SQLite database `path`. Commands are [time, statement, values]."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = "1970-01-01 00:00:00"  # the time of the command that is being carried out
        self.ours = False  # a statement of this class is being prepared, not a client's
        self.plain = sqlite3.connect(":memory:", check_same_thread=False)  # the date functions as SQLite has them
        self.database = self._open()
        with self._own() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")  # never torn; what it loses, the log carries out again
            database.execute("CREATE TABLE IF NOT EXISTS _applied (upto INTEGER)")
            if database.execute("SELECT count(*) FROM _applied").fetchone() == (0,):
                database.execute("INSERT INTO _applied VALUES (0)")

    def _open(self) -> sqlite3.Connection:
        """A connection on which every statement has the same effect on every node, or is refused."""
        # Without a cache of statements, for what is in it is not authorized again.
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=0)
        for name in REFUSED:
            database.create_function(name, -1, partial(self._refuse, name))
        for name in DATES:
            database.create_function(name, -1, partial(self._date, name))
        for name, length in (
            ("current_timestamp", slice(19)),
            ("current_date", slice(10)),
            ("current_time", slice(11, 19)),
        ):
            database.create_function(name, 0, lambda length=length: self.stamp[length])
        database.set_authorizer(self._authorize)
        return database

    def _refuse(self, name: str, *_: object) -> None:
        raise ValueError(f"{name}() would differ from node to node")

    def _date(self, name: str, *values: Any) -> Any:
        """A date function, in which "now" is the time that the leader put into the command."""
        place = 1 if name == "strftime" else 0
        given = [*values, "now"] if len(values) <= place else list(values)
        if any(str(value).lower() in ("localtime", "utc", "subsec", "subsecond") for value in given[place + 1 :]):
            raise ValueError("the time zone would differ from node to node")
        if str(given[place]).lower() == "now":
            given[place] = self.stamp
        return self.plain.execute(f"SELECT {name}({','.join('?' * len(given))})", given).fetchone()[0]

    def _authorize(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        touches_ours = "_applied" in (first, second)
        return sqlite3.SQLITE_DENY if not self.ours and (action in FORBIDDEN or touches_ours) else sqlite3.SQLITE_OK

    def _own(self) -> _Own:
        return _Own(self)

    # What the node asks of a state machine.

    def init(self) -> int:
        with self._own() as database:
            return int(database.execute("SELECT upto FROM _applied").fetchone()[0])

    def prepare(self, command: bytes, now: int) -> bytes:
        return text_of([datetime.fromtimestamp(now // 10**9, UTC).strftime("%F %T"), *json.loads(command)])

    def apply(self, index: int, command: bytes) -> bytes:
        with self._own() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SAVEPOINT statement")
        try:
            self.stamp, statement, *values = json.loads(command)
            cursor = self.database.execute(statement, values[0] if values else ())
            answer: object = cursor.fetchall() or {"rows": max(0, cursor.rowcount)}
        except (sqlite3.Error, ValueError, TypeError) as failure:  # on every node alike
            answer = {"error": f"{type(failure).__name__}: {failure}"}
            with self._own() as database:
                database.execute("ROLLBACK TO statement")
        with self._own() as database:  # the statement and its index: both or neither
            database.execute("UPDATE _applied SET upto = ?", (index,))
            database.execute("COMMIT")
        return text_of(answer)

    def query(self, request: bytes) -> bytes:
        statement, *values = json.loads(request)
        try:
            with closing(sqlite3.connect(self.path)) as reader:
                reader.execute("PRAGMA query_only=ON")
                return text_of(reader.execute(statement, values[0] if values else ()).fetchall())
        except sqlite3.Error as failure:
            return text_of({"error": f"{type(failure).__name__}: {failure}"})

    def snapshot(self) -> Iterator[bytes]:
        """A read transaction holds this one moment; SQLite's own backup copies it while writing goes on."""
        moment = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        moment.execute("BEGIN")
        moment.execute("SELECT upto FROM _applied").fetchone()
        return self._copied(moment)

    def _copied(self, moment: sqlite3.Connection) -> Iterator[bytes]:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self.path) or ".") as folder:
            copy = sqlite3.connect(os.path.join(folder, "copy"))
            moment.backup(copy)
            moment.close()
            copy.close()
            with open(os.path.join(folder, "copy"), "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def restore(self, chunks: Iterable[bytes]) -> None:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self.path) or ".") as folder:
            with open(os.path.join(folder, "copy"), "wb") as file:
                file.writelines(chunks)
            copy = sqlite3.connect(os.path.join(folder, "copy"))
            with self._own() as database:
                copy.backup(database)
            copy.close()

    def close(self) -> None:
        """Free the database; what was applied stays."""
        self.database.close()
        self.plain.close()


class _Own:
    """While it is entered, statements are the machine's own and may do everything."""

    def __init__(self, machine: SqlMachine) -> None:
        self.machine = machine

    def __enter__(self) -> sqlite3.Connection:
        self.machine.ours = True
        return self.machine.database

    def __exit__(self, *_: object) -> None:
        self.machine.ours = False


async def answer_lines(node: Node, stream: trio.SocketStream) -> None:
    """Answer one client, line by line."""
    pending = b""
    async with stream:
        while received := await stream.receive_some():
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                try:
                    statement = json.loads(line)[0].lstrip().upper()
                    ask = node.read if statement.startswith(("SELECT", "WITH", "VALUES", "EXPLAIN")) else node.propose
                    answer = await ask(line, timeout=10)
                except (Refused, OutcomeUnknown) as failure:
                    answer = text_of({"error": str(failure), "may be carried out": isinstance(failure, OutcomeUnknown)})
                except (ValueError, LookupError, AttributeError) as failure:
                    answer = text_of({"error": f"a line is [statement, [values]]: {failure}"})
                await stream.send_all(answer + b"\n")


async def main(number: int, folder: Path, *ports: int) -> None:
    members = {node: f"127.0.0.1:{ports[node - 1]}" for node in (1, 2, 3)}
    port = ports[number + 2]
    folder.mkdir(exist_ok=True)
    config = NodeConfig(number, members, cluster="sql", data=f"sqlite:{folder / 'raft'}", machine_blocks=True)
    machine = SqlMachine(str(folder / "state.sqlite"))

    async def app(node: Node) -> None:
        print(f"node {number} is here; clients connect to 127.0.0.1:{port}", flush=True)
        await trio.serve_tcp(partial(answer_lines, node), port, host="127.0.0.1")

    await serve(config, machine, app)
    machine.close()
    print(f"node {number} ended in order", flush=True)


if __name__ == "__main__":
    chosen = [int(argument) for argument in sys.argv[2:]] or [7201, 7202, 7203, 7301, 7302, 7303]
    trio.run(main, int(sys.argv[1]), Path(f"sql-{sys.argv[1]}"), *chosen)
