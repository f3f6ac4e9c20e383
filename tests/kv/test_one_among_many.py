"""One client's flood against a real server: the others go on being served meanwhile."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from raft_kv.demo.cluster import Cluster
from raft_kv.node_client import NodeConnection

FLOOD = b"PING\r\n" * (4 * 1024 * 1024 // 6)
ANSWERS = len(FLOOD) // 6 * len(b"+PONG\r\n")


def drain(connection: socket.socket, sizes: list[int]) -> None:
    """Read until every PING has its answer."""
    left = ANSWERS
    while left > 0 and (data := connection.recv(1 << 20)):
        left -= len(data)
        sizes.append(len(data))


def test_four_mib_of_pings_from_one_client_leave_turns_to_another(tmp_path: Path) -> None:
    """All other clients waited for 0.6 s. Answers are counted and not timed, so that a busy machine changes nothing."""
    with Cluster(tmp_path) as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        address = cluster.members[1].address
        other = NodeConnection(address, timeout=30)
        assert other.say("PING") == b"PONG"
        sizes: list[int] = []
        with socket.create_connection(address, timeout=30) as flooding:
            tasks = [
                threading.Thread(target=drain, args=(flooding, sizes)),
                threading.Thread(target=flooding.sendall, args=(FLOOD,)),
            ]
            for task in tasks:
                task.start()
            answered = 0
            while tasks[0].is_alive():
                assert other.say("PING") == b"PONG"
                answered += 1
            for task in tasks:
                task.join()
        other.close()

    assert sum(sizes) == ANSWERS
    assert answered >= 50
