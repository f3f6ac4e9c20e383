"""Operating real servers: nodes that move, that wait for others, that were removed, that do not belong together."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from raft_kv.cli import main
from raft_kv.demo.admin import Operator
from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.doctor.finding import Level
from raft_kv.doctor.nodes import Examined, check_nodes
from raft_kv.node_client import NodeConnection, report_of, wait_until
from raft_kv.version import version
from tests.docs.blocks import blocks


def said(cluster: Cluster, node: int, *words: str) -> bool:
    """The node's log has a line with all of these words."""
    lines = cluster.members[node].log.read_text("utf-8", "replace").splitlines()
    return any(all(word in line for word in words) for line in lines)


@pytest.mark.slow
def test_two_nodes_that_moved_find_each_other_when_the_third_is_dead(tmp_path: Path) -> None:
    with Cluster(tmp_path) as three:
        three.found(3)
        three.wait_ready([1, 2, 3])
        old = three.members[1].peer_port
        for node in (1, 2):
            three.stop([node])
            (three.members[node].peer_port,) = free_ports(1)
            three.start(node)
            three.members[1].peer_port = old  # so node 2 is told where node 1 was
            three.wait_ready([node])
        three.kill(3)
        three.wait_ready([1, 2], timeout=20.0)
        with redis.Redis(*three.members[1].address) as client:
            assert client.set("a", "1") is True


@pytest.mark.slow
def test_nodes_say_what_they_wait_for_and_one_that_was_removed_answers_at_once(tmp_path: Path) -> None:
    with Cluster(tmp_path) as three:
        three.founders = (1, 2, 3)
        for node in three.founders:
            three._add(node)
        three.start(1)
        assert wait_until(lambda: said(three, 1, "waiting", "node 2 (", "node 3 (", "refused"), 20.0)
        three.start(2)
        three.start(3)
        three.wait_ready([1, 2, 3])
        joiner = three.join(4)
        assert wait_until(lambda: said(three, 4, "is ready"), 20.0)
        with redis.Redis(*three.members[1].address) as client:
            assert client.execute_command("RAFT", "ADD", 4, joiner.peer_address) == b"OK"
        three.wait_ready([4])
        Operator(three, print).remove(4)
        assert wait_until(lambda: said(three, 4, "removed", "entry"), 20.0)
        with redis.Redis(*joiner.address) as client:
            began = time.monotonic()
            with pytest.raises(redis.RedisError, match="removed from the cluster by entry"):
                client.set("a", "1")
            assert time.monotonic() - began < 2.0
        three.kill(4)  # nothing waits for a node that was removed, although the others still know its address
        reports = [report_of(three.members[node].address, 5.0) for node in (1, 2, 3)]
        assert not [reason for report in reports for reason in report.reasons if "node 4" in reason]
        judged = check_nodes([Examined(str(node), report) for node, report in enumerate(reports, 1)], version())
        assert {each.level for each in judged if each.check != "clock"} == {Level.RIGHT}


class Routine:
    """The commands of a page's blocks, on this machine: `10.0.0.N` stands for the ports of node N."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = free_ports(10)
        self.clients = dict(enumerate(ports[:5], 1))
        self.peers = dict(enumerate(ports[5:], 1))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def here(self, word: str) -> str:
        """The word with addresses of this machine."""
        word = re.sub(r"10\.0\.0\.(\d):6379", lambda found: f"127.0.0.1:{self.clients[int(found[1])]}", word)
        return re.sub(r"10\.0\.0\.(\d):7379", lambda found: f"127.0.0.1:{self.peers[int(found[1])]}", word)

    def serve(self, words: list[str]) -> None:
        node = int(words[words.index("--id") + 1])
        words = [self.here(word).replace("/var/lib/raft-kv", str(self.directory / f"node-{node}")) for word in words]
        with (self.directory / f"log-{node}").open("wb") as log:
            command = [sys.executable, "-m", "raft_kv", *words[1:]]
            self.processes[node] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until(["ping", f"10.0.0.{node}:6379"])

    def until(self, words: list[str]) -> None:
        """Repeat the command until it succeeds."""
        assert wait_until(lambda: main([self.here(word) for word in words], {}) == 0, 20.0, 0.2), words

    def line(self, line: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Do what the line says; a comment behind `status`, `ping` and `doctor` is a part of what they show."""
        command, _, shown = line.partition(" #")
        words = shlex.split(command)
        if words[:2] == ["raft-kv", "serve"]:
            self.serve(words)
        elif words[0] == "raft-kv":
            capfd.readouterr()
            words = [self.here(word) for word in words[1:]]
            assert wait_until(lambda: main(words, {}) == 0 and shown.strip() in capfd.readouterr().out, 20.0, 0.2), line
        else:
            assert words[:2] == ["redis-cli", "-h"], line
            address = self.here(f"{words[2]}:6379").rpartition(":")
            with closing(NodeConnection((address[0], int(address[2])), 10.0)) as node:
                assert node.say(*map(self.here, words[3:])) == b"OK", line


@pytest.mark.slow
def test_routine_of_members_is_as_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """docs/operations.md, "Members": every command, in the order of the page."""
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    lines = [
        line
        for block in blocks(page)
        if block.mark == "cluster: members"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    assert len(lines) > 12
    routine = Routine(tmp_path)
    try:
        peers = [word for node in (1, 2, 3) for word in ("--peer", f"{node}=10.0.0.{node}:7379")]
        for node in (1, 2, 3):
            own = ["--listen", f"10.0.0.{node}:6379", "--peer-listen", f"10.0.0.{node}:7379"]
            routine.serve(["raft-kv", "serve", "--id", str(node), "--cluster", "shop", *own, *peers,
                           "--data", "/var/lib/raft-kv"])  # fmt: skip
        routine.until(["ping", "--ready", "10.0.0.1:6379"])
        for line in lines:
            routine.line(line, capfd)
    finally:
        for process in routine.processes.values():
            process.kill()
            process.wait()


@pytest.mark.slow
def test_node_that_founded_alone_and_its_peers_name_both_clusters(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.found(1)
        cluster.wait_ready([1])
        cluster.stop([1])
        cluster.founders = (1, 2)
        cluster._add(2)
        cluster.start(1)
        cluster.start(2)
        assert wait_until(lambda: said(cluster, 2, "two_clusters", "node 1 alone", "nodes 1, 2"), 20.0)
        assert wait_until(lambda: said(cluster, 1, "two_clusters", "node 1 alone", "nodes 1, 2"), 20.0)
        cluster.wait_ready([1])
        with redis.Redis(*cluster.members[1].address) as client:
            two = cluster.members[2].peer_address
            assert client.execute_command("RAFT", "ADD", 2, two) == b"OK"
        cluster.wait_ready([2])


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server of another protocol: it answers a line. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5.0)
                    data = b""
                    try:
                        while b"\r\n" not in data:
                            if not (piece := connection.recv(4096)):
                                break
                            data += piece
                        connection.sendall(answer)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_log_says_what_answers_in_place_of_a_node_and_what_does_not_resolve(tmp_path: Path, loop: str) -> None:
    with answering(b"-ERR unknown command\r\n") as port, Cluster(tmp_path, loop) as cluster:
        cluster.founders = (1, 2)
        cluster._add(1)
        cluster._add(2).peer_port = port
        cluster.start(1)
        assert wait_until(lambda: said(cluster, 1, "malformed", f"127.0.0.1:{port}", "Redis"), 20.0)
        process = cluster.members[1].process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
