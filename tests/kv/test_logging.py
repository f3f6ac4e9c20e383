"""Lines are written by a thread: the caller never waits, and what is not read is dropped and counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft_kv.demo.cluster import free_ports
from raft_kv.log_output import LineWriter
from raft_kv.node_client import Failed, NodeConnection, wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(descriptor: int) -> None:
    """The pipe takes no byte more."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    assert writer.put("one")
    assert writer.put("two\udce9")
    assert writer.flush(10.0)

    assert os.read(pipe[0], 100) == b"one\ntwo\\udce9\n"


def test_full_pipe_drops_lines_counts_them_and_blocks_nobody(pipe: tuple[int, int]) -> None:
    fill(pipe[1])
    writer = LineWriter(pipe[1], most_waiting=200_000)
    taken = [writer.put("x" * 9_999) for _ in range(100)]

    assert taken == [True] * 20 + [False] * 80
    assert writer.dropped == 80
    assert not writer.flush(0.01)
    read = b""
    while not read.endswith(b")\n"):
        read += os.read(pipe[0], 200_000)
    assert writer.flush(10.0)
    assert b"80 lines were dropped" in read.splitlines()[-1]
    assert writer.dropped == 0


def test_stream_that_cannot_be_written_to_holds_up_nothing() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = LineWriter(descriptor)
    assert writer.put("lost")
    assert writer.flush(10.0)
    os.close(descriptor)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_server_whose_log_is_not_read_serves_on_and_ends_in_good_order(tmp_path: Path, loop: str) -> None:
    """Its standard output and error are a pipe that is full from the beginning."""
    reader, writer = os.pipe()
    fill(writer)
    port, peer_port = free_ports(2)
    places = ["--listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{peer_port}"]
    command = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--data", str(tmp_path / "d"), "--loop", loop]
    process = subprocess.Popen([*command, *places, "--verbose"], stdout=writer, stderr=writer)
    try:
        assert wait_until(lambda: _writes(port), 20.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("loop", "way"), [("trio", "hangup"), ("asyncio", "hangup"), ("trio", "end of input")])
def test_closed_terminal_and_dead_parent_end_a_server_in_good_order(tmp_path: Path, loop: str, way: str) -> None:
    port, peer_port = free_ports(2)
    places = ["--listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{peer_port}"]
    command = [sys.executable, "-m", "raft_kv", "serve", "--id", "1", "--data", str(tmp_path / "d"), "--loop", loop]
    with subprocess.Popen([*command, *places, "--stop-at-eof"], stdin=subprocess.PIPE, text=True) as process:
        try:
            assert wait_until(lambda: _writes(port), 20.0)
            if way == "hangup":
                process.send_signal(signal.SIGHUP)
            else:
                assert process.stdin is not None
                process.stdin.close()
            assert process.wait(10) == 0
        finally:
            process.kill()


def _writes(port: int) -> bool:
    try:
        connection = NodeConnection(("127.0.0.1", port), timeout=2.0)
        try:
            return connection.say("SET", "a", "1") in ("OK", b"OK")
        finally:
            connection.close()
    except Failed:
        return False
