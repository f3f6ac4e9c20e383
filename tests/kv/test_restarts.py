"""Planned restarts of every node in turn: clients of healthy nodes notice nothing (items 20 and 21)."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from raft_kv.demo.cluster import Cluster
from tests.adapters.restart_rounds import restart_all


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_planned_restarts_under_load_end_no_request_with_error(loop: str, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", loop) as cluster:
        cluster.found(3)
        cluster.wait_ready([1, 2, 3])
        outcome = restart_all(cluster, clients=2, leader_first=True)

    assert outcome.errors == ()
    assert outcome.answered > 100
    assert outcome.longest < 2.0, "half a second at the very most, but for a machine that is busy"


@pytest.mark.parametrize("loop", ["trio", "asyncio", "uvloop"])
def test_idle_client_of_stopping_server_sees_end_and_no_reset(loop: str, tmp_path: Path) -> None:
    """A transaction that was begun and what is half received do not keep the server."""
    with Cluster(tmp_path / "cluster", loop) as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        member = cluster.members[1]
        with socket.create_connection(member.address, timeout=10) as idle:
            idle.sendall(b"PING\r\nSET a")
            assert idle.recv(100) == b"+PONG\r\n"
            assert member.process is not None
            member.process.send_signal(signal.SIGTERM)
            assert idle.recv(100) == b""
            assert member.process.wait(10) == 0
            cluster.stop([1])  # closes the pipe to it
