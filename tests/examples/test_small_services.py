"""Counters, locks, feature flags and the scheduler: started, used, and ended by the signals that a service gets."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raft_kv.demo.cluster import free_ports

from .processes import ended, line_with, started


class Client:
    """A connection to a service that speaks lines."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._lines = self._connection.makefile("rb")

    def ask(self, line: str) -> str:
        self.send(line)
        return self.receive()

    def until(self, line: str, answer: str) -> None:
        """Ask until the answer is this one: a replica may be some milliseconds behind."""
        while self.ask(line) != answer:
            pass

    def send(self, line: str) -> None:
        self._connection.sendall(line.encode() + b"\n")

    def receive(self) -> str:
        return self._lines.readline().decode().strip()

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


@contextmanager
def clients(*ports: int) -> Iterator[list[Client]]:
    opened = [Client(port) for port in ports]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asyncio", "trio", "blocking"])
def test_counter_goes_on_after_an_end_in_order(name: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    each = 4 if name == "blocking" else 1
    for total, number in ((each, signal.SIGTERM), (2 * each, signal.SIGINT)):
        node = started(f"counter_{name}.py", "1", str(tmp_path / "data"), address)
        with ended(node):
            assert line_with(node, "total") == f"total {total}"
            node.send_signal(number)
            assert line_with(node, "ended") == "ended in order"
            assert node.wait(20) == 0


@pytest.mark.slow
def test_lock_service_grants_one_owner_at_a_time(tmp_path: Path) -> None:
    raft, port = free_ports(2)
    node = started("lock_service.py", "1", str(tmp_path / "data"), str(port), f"127.0.0.1:{raft}")
    with ended(node):
        line_with(node, "locks at")
        with clients(port, port) as (first, second):
            assert first.ask("acquire report") == "granted report 1"
            assert first.ask("acquire report").startswith("error")
            second.send("acquire report")
            assert first.ask("release report") == "released report"
            assert second.receive() == "granted report 2"
            first.send("acquire report")
            second.close()  # its locks end with its connection
            assert first.receive() == "granted report 3"
            node.send_signal(signal.SIGTERM)
            assert line_with(node, "ended") == "ended in order"
        assert node.wait(20) == 0


@pytest.mark.slow
def test_feature_flag_reaches_another_process(tmp_path: Path) -> None:
    ports = free_ports(4)
    addresses = [f"127.0.0.1:{port}" for port in ports[:2]]
    nodes = [
        started("feature_flags.py", str(node), str(tmp_path / str(node)), str(ports[1 + node]), *addresses)
        for node in (1, 2)
    ]
    with ended(*nodes):
        for node in nodes:
            line_with(node, "flags at")
        with clients(*ports[2:]) as (first, second):
            assert first.ask("ask checkout ada") == "off"
            assert second.ask("set other 50") == "other is on for 50 %"
            second.send("watch")
            told = ""
            while told != "checkout is on for 100 %":  # the watch may begin a moment after it was asked for
                assert first.ask("set checkout 100") == "checkout is on for 100 %"
                told = second.receive()
            first.until("ask checkout ada", "on")
            assert first.ask("set checkout 0") == "checkout is on for 0 %"
            while told != "checkout is on for 0 %":
                told = second.receive()
            first.until("ask checkout ada", "off")
        for node in nodes:
            node.send_signal(signal.SIGTERM)
        assert [line_with(node, "ended") for node in nodes] == 2 * ["ended in order"]


@pytest.mark.slow
def test_scheduled_job_runs_once_in_the_cluster(tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    told = tmp_path / "told"
    with told.open("ab") as out:
        nodes = [
            started("scheduler.py", str(node), str(tmp_path / str(node)), *addresses, out=out.fileno())
            for node in (1, 2)
        ]
    with ended(*nodes):
        deadline = time.monotonic() + 60
        while told.read_text().count("measure of") < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        for node in nodes:
            node.send_signal(signal.SIGTERM)
        assert [node.wait(30) for node in nodes] == [0, 0]
    due = re.findall(r"measure of (\S+) on node \d", told.read_text())
    assert len(due) >= 4
    assert sorted(set(due)) == sorted(due)
