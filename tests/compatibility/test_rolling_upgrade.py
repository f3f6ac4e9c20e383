"""Three nodes of an earlier release are upgraded one by one under load, go back one by one, and are upgraded for good.

No write is lost. What the earlier release would skip is refused until all nodes are upgraded and it is enabled; then
there is no way back, and a node that tries is refused, with its disk as it was.
"""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest
import redis

from raft_storage import FileStore
from tests.compatibility import RELEASES
from tests.compatibility.processes import NEW, Servers, wait_until


class Writer(threading.Thread):
    """Writes one key after the other; a write without an answer is tried again on the next node."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self.servers = servers
        self.acknowledged = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self.stopped.is_set():
            try:
                with self.servers.client(1 + turn % 3) as client:
                    while not self.stopped.is_set():
                        client.set(f"key:{self.acknowledged}", self.acknowledged)
                        self.acknowledged += 1
            except redis.RedisError:
                turn += 1
                self.stopped.wait(0.02)


def restart(servers: Servers, node: int, release: str, writer: Writer) -> None:
    process = servers.processes.pop(node)
    process.terminate()
    assert process.wait(20) == 0
    servers.start(node, release, known=(1, 2, 3))
    servers.wait_ready((node,))
    count = writer.acknowledged
    wait_until(lambda: writer.acknowledged > count + 20, "the writer stands still")


def refused(servers: Servers, node: int, *command: object) -> str:
    """The error that the node answers with."""
    with servers.client(node) as client, pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*command)
    return str(caught.value)


def held(directory: Path) -> tuple[object, ...]:
    """What a stopped node's disk holds, read from a copy: to open a store writes to it."""
    copy = directory.with_suffix(".copy")
    shutil.copytree(directory, copy)
    with closing(FileStore.open(str(copy), node=3, cluster="old")) as store:
        recovered = store.recover()
    shutil.rmtree(copy)
    return recovered.hard, recovered.snapshot, recovered.entries


def stays_as_it_was(servers: Servers, old: int) -> None:
    """While one node has the earlier release, nothing that it does not know is used, and nothing can enable it."""
    assert "kv-compare" in refused(servers, 1, "DELIFEQ", "key:0", "x")
    for node in (1, 2):
        assert f"node {old}" in refused(servers, node, "RAFT", "FEATURES", "ENABLE")
    assert servers.ask(1, "RAFT", "FEATURES")[b"used"] == []


def goes_not_back(servers: Servers, node: int, release: str) -> None:
    """The earlier release neither starts on the node's disk nor changes what it holds; the present one goes on."""
    process = servers.processes.pop(node)
    process.terminate()
    assert process.wait(20) == 0
    before = held(servers.directory / f"node-{node}")
    servers.start(node, release, known=(1, 2, 3))
    assert servers.processes.pop(node).wait(20) != 0
    assert held(servers.directory / f"node-{node}") == before
    servers.start(node, NEW, known=(1, 2, 3))
    servers.wait_ready((node,))


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_upgrade_and_downgrade_under_load_lose_nothing(release: str, tmp_path: Path) -> None:
    with Servers(tmp_path, (1, 2, 3)) as servers:
        for node in (1, 2, 3):
            servers.start(node, release, known=(1, 2, 3))
        servers.wait_ready((1, 2, 3))
        writer = Writer(servers)
        writer.start()
        try:
            for code in (NEW, release):
                for node in (1, 2, 3):
                    restart(servers, node, code, writer)
            for node in (1, 2):
                restart(servers, node, NEW, writer)
            stays_as_it_was(servers, 3)
            restart(servers, 3, NEW, writer)
            assert servers.ask(1, "RAFT", "FEATURES")[b"used"] == [], "not by itself"
            assert "kv-once" in refused(servers, 2, "RAFT", "SESSION")
            assert servers.ask(2, "RAFT", "FEATURES", "ENABLE") == b"OK"
            wait_until(lambda: isinstance(servers.ask(3, "RAFT", "SESSION"), int), "node 3 does not use it")
            assert servers.ask(1, "DELIFEQ", "key:0", "x") == 0
            goes_not_back(servers, 3, release)
        finally:
            writer.stopped.set()
            writer.join(30)
        for node in (1, 2, 3):
            with servers.client(node) as client:
                assert client.mget([f"key:{n}" for n in range(writer.acknowledged)]) == [
                    b"%d" % n for n in range(writer.acknowledged)
                ]
