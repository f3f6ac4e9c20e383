"""One process of an earlier release and two of this one make a cluster that does all that a cluster does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compatibility import RELEASES
from tests.compatibility.processes import NEW, Servers, wait_until


def write(servers: Servers, node: int, first: int, count: int) -> None:
    with servers.client(node) as client:
        for number in range(first, first + count):
            assert client.set(f"key:{number}", number) is True


def agree(servers: Servers, nodes: tuple[int, ...], count: int) -> None:
    for node in nodes:
        with servers.client(node) as client:
            assert client.dbsize() == count
            assert client.get(f"key:{count - 1}") == b"%d" % (count - 1)


@pytest.mark.parametrize("release", RELEASES)
def test_mixed_cluster_forms_replicates_and_changes(release: str, tmp_path: Path) -> None:
    with Servers(tmp_path, (1, 2, 3, 4)) as servers:
        for node, code in ((1, release), (2, NEW), (3, NEW)):
            servers.start(node, code, known=(1, 2, 3))
        servers.wait_ready((1, 2, 3))
        write(servers, 1, 0, 50)
        agree(servers, (1, 2, 3), 50)

        for leader in (1, 2, 1, 3):  # leadership goes from new to old code and back
            servers.wait_leader()
            wait_until(lambda leader=leader: servers.ask(leader, "RAFT", "TRANSFER", leader) is not None, f"{leader}")  # type: ignore[misc]
            wait_until(lambda leader=leader: servers.leader() == leader, f"node {leader} does not lead")  # type: ignore[misc]
            write(servers, 2, 50 * leader, 50)

        servers.kill(1)  # it falls behind the log that the others keep, so it needs a snapshot from them
        for _ in range(5):
            write(servers, 2, 0, 200)
        servers.start(1, release, known=(1, 2, 3))
        servers.wait_ready((1,))
        agree(servers, (1, 2, 3), 200)

        servers.start(4, NEW, join=True)  # a new node needs a snapshot, and is added while old code leads
        wait_until(lambda: servers.ask(1, "RAFT", "TRANSFER", 1) is not None, "1 leads")
        address = f"127.0.0.1:{servers.ports[4][1]}"
        wait_until(lambda: servers.ask(1, "RAFT", "ADD", 4, address) is not None, "node 4 is not added")
        wait_until(lambda: servers.ask(4, "DBSIZE") == 200, servers.report(4))
        wait_until(lambda: servers.ask(2, "RAFT", "REMOVE", 3) is not None, "node 3 is not removed")
        write(servers, 4, 200, 50)
        agree(servers, (1, 2, 4), 250)

        servers.kill(servers.wait_leader())
        left = tuple(node for node in (1, 2, 4) if node in servers.processes)
        servers.wait_ready(left)
        write(servers, left[0], 250, 10)
        agree(servers, left, 260)
