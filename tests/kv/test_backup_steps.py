"""No step of the loop takes long while a backup streams, however many keys there are.

By hand, with ten times as many keys: `KEYS=1000000 pytest tests/kv/test_backup_steps.py -s` prints the longest steps.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest
import trio

from raft_core.backup_format import BackupHeader
from raft_kv import server
from raft_kv.backup import BackupOptions, run_backup
from raft_kv.demo.cluster import free_ports
from raft_kv.keyspace import STRING
from raft_kv.node_client import Failed, NodeConnection, wait_until
from raft_kv.options import Values
from raft_kv.serve_options import serve_config
from raft_kv.state_machine import KeyValueMachine
from raft_storage import verify_backup

KEYS = int(os.environ.get("KEYS", "100000"))
MOST_SECONDS = 0.020


class Steps(trio.abc.Instrument):
    """The processor time of each step of each task, with its garbage collections, while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.taken: list[tuple[float, str]] = []
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.on:
            self.taken.append((time.thread_time() - self._began, task.name))


def test_no_step_of_the_loop_is_long_while_a_backup_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, steps = KeyValueMachine(), Steps()
    for number in range(KEYS):
        machine.keyspace.put(b"key:%d" % number, STRING, b"%d" % number + b"." * 50)
    monkeypatch.setattr(server, "KeyValueMachine", lambda: machine)
    port, peer_port = free_ports(2)
    values = Values()
    given = {"listen": f"127.0.0.1:{port}", "peer_listen": f"127.0.0.1:{peer_port}", "data": str(tmp_path / "data")}
    for name, value in {"id": "1", "loop": "trio", **given}.items():
        values.put((name,), value, name)
    config = serve_config(values)
    headers: list[BackupHeader] = []

    def serves() -> bool:
        try:
            with closing(NodeConnection(("127.0.0.1", port), 5.0)) as node:
                return node.say("DBSIZE") == KEYS
        except Failed:
            return False

    def back_up() -> None:
        assert wait_until(serves, 30.0)
        steps.on = True
        status = run_backup(BackupOptions(source=f"127.0.0.1:{port}", file=[str(tmp_path / "backup")], quiet=True))
        steps.on = False
        assert status == 0
        headers.append(verify_backup(tmp_path / "backup"))

    async def serve_and_back_up() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, config)
            await trio.to_thread.run_sync(back_up)
            nursery.cancel_scope.cancel()

    trio.run(serve_and_back_up, instruments=[steps])
    longest = sorted(steps.taken, reverse=True)[:5]
    print(f"{KEYS:,} keys, {len(steps.taken):,} steps, the longest:", longest)
    assert len(steps.taken) > headers[0].pieces
    assert longest[0][0] < MOST_SECONDS, longest
