"""Three nodes of an earlier release are upgraded one by one under load, and go back one by one: no write is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import redis

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
        finally:
            writer.stopped.set()
            writer.join(30)
        for node in (1, 2, 3):
            with servers.client(node) as client:
                assert client.mget([f"key:{n}" for n in range(writer.acknowledged)]) == [
                    b"%d" % n for n in range(writer.acknowledged)
                ]
