"""What the service manager is told, by the class and by a server process whose parent speaks systemd's protocol."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft_kv.demo.cluster import free_ports
from raft_kv.supervisor import Supervisor


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd holds it, and its address."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(address)
        received.settimeout(30.0)
        yield received, address


def test_states_are_datagrams_to_the_socket_of_the_manager(manager: tuple[socket.socket, str]) -> None:
    received, address = manager
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 7)

    supervisor.ready("at 1")
    supervisor.alive()
    supervisor.status("leader")
    supervisor.stopping()

    assert [received.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=at 1",
        b"WATCHDOG=1",
        b"STATUS=leader",
        b"STOPPING=1\nSTATUS=stopping",
    ]
    assert supervisor.watchdog_seconds == 1.5
    supervisor.close()
    supervisor.alive()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "3000000"},  # no socket to say it to
        {"NOTIFY_SOCKET": "vsock:1:2", "WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"},  # of another process
    ],
)
def test_nothing_is_said_and_nothing_raised_where_no_manager_listens(environ: dict[str, str]) -> None:
    supervisor = Supervisor(environ, 7)

    supervisor.ready("")
    supervisor.alive()
    supervisor.close()

    assert supervisor.watchdog_seconds == 0.0


def test_abstract_sockets_are_reached() -> None:
    name = f"raft-kv-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(f"\0{name}")
        supervisor = Supervisor({"NOTIFY_SOCKET": f"@{name}"})
        supervisor.alive()
        assert received.recv(100) == b"WATCHDOG=1"
        supervisor.close()


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_server_tells_its_manager_that_it_is_ready_alive_and_stopping(
    loop: str, manager: tuple[socket.socket, str], tmp_path: Path
) -> None:
    received, address = manager
    port, peer_port = free_ports(2)
    command = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--loop", loop, "--data", str(tmp_path / "node")]
    command += ["--listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{peer_port}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAFT_KV_")}
    environ |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
    server = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        seen: list[bytes] = []
        while not any(each.startswith(b"READY=1") for each in seen):
            seen.append(received.recv(1000))
        with socket.create_connection(("127.0.0.1", port), 5.0) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
        while not any(b"leader" in each for each in seen) or seen.count(b"WATCHDOG=1") < 3:
            seen.append(received.recv(1000))
            assert len(seen) < 300

        server.send_signal(signal.SIGSTOP)  # a loop that hangs: the manager hears nothing, and would restart it
        while select.select([received], [], [], 0.5)[0]:
            received.recv(1000)
        begun = time.monotonic()
        assert not select.select([received], [], [], 0.5)[0]
        assert time.monotonic() - begun >= 0.5
        server.send_signal(signal.SIGCONT)

        server.send_signal(signal.SIGTERM)
        while not received.recv(1000).startswith(b"STOPPING=1"):
            pass
        assert server.wait(20.0) == 0
    finally:
        server.kill()
        server.wait()
