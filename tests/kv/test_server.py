"""Three real servers and the client library that people use; and what bad input gets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from raft_kv.demo.cluster import Cluster, free_ports
from raft_kv.node_client import NodeConnection, node_status, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("kv")) as running:
        running.found(3)
        running.wait_ready([1, 2, 3])
        yield running


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[list[redis.Redis]]:
    opened = [redis.Redis(*member.address) for member in cluster.members.values()]
    opened[0].flushall()
    yield opened
    for client in opened:
        client.close()


def test_every_node_serves_reads_and_writes_and_sees_the_others_at_once(clients: list[redis.Redis]) -> None:
    for number, client in enumerate(clients):
        assert client.set(f"key{number}", f"value{number}") is True
        for other in clients:
            assert other.get(f"key{number}") == b"value%d" % number
    assert clients[0].mget("key0", "key1", "nope") == [b"value0", b"value1", None]
    assert [client.incr("n") for client in clients] == [1, 2, 3]
    assert sorted(clients[1].scan_iter("key*", count=2)) == [b"key0", b"key1", b"key2"]
    assert clients[2].dbsize() == 4
    assert clients[2].type("n") == b"string"


def test_a_pipeline_keeps_its_order(clients: list[redis.Redis]) -> None:
    for client in clients:
        pipe = client.pipeline(transaction=False)
        for number in range(300):
            pipe.set("p", number)
            pipe.get("p")
        assert pipe.execute() == [answer for number in range(300) for answer in (True, b"%d" % number)]


def test_a_long_pipeline_with_long_answers_does_not_block_itself(clients: list[redis.Redis]) -> None:
    clients[0].set("long", b"x" * 100_000)
    pipe = clients[0].pipeline(transaction=False)
    for _ in range(300):
        pipe.get("long")
        pipe.set("other", b"y" * 20_000)
    answers = pipe.execute()
    assert len(answers) == 600
    assert all(answer == b"x" * 100_000 for answer in answers[::2])


def test_transactions_count_exactly_also_when_they_compete(clients: list[redis.Redis]) -> None:
    def count(client: redis.Redis) -> None:
        for _ in range(20):
            client.transaction(lambda pipe: _count_up(pipe), "counter")

    threads = [threading.Thread(target=count, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients[0].get("counter") == b"60"


def _count_up(pipe: redis.client.Pipeline) -> None:
    value = int(pipe.get("counter") or 0)  # read at once, because the key is watched
    pipe.multi()
    pipe.set("counter", value + 1)


def test_a_key_goes_when_its_time_has_come_on_every_node_and_without_writes(clients: list[redis.Redis]) -> None:
    clients[0].set("short", "1", px=150)
    clients[0].set("long", "1", ex=100)
    assert clients[1].get("short") == b"1"
    assert 99 <= int(clients[2].ttl("long")) <= 100
    assert wait_until(lambda: clients[1].get("short") is None, 5.0)
    assert [client.get("short") for client in clients] == [None] * 3
    assert clients[2].set("short", "2", nx=True) is True


def test_both_protocols_are_spoken(cluster: Cluster) -> None:
    for protocol in (2, 3):
        with redis.Redis(*cluster.members[1].address, protocol=protocol) as client:
            assert client.ping() is True
            assert client.config_get("databases") == {"databases": "1"}
            assert client.info("raft")["raft_cluster"] == "demo"
            assert client.client_setname("me") is True
            assert int(client.command_count()) > 30


def test_errors_are_those_that_client_libraries_know(clients: list[redis.Redis]) -> None:
    clients[0].set("word", "x")
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        clients[0].incr("word")
    with pytest.raises(redis.ResponseError, match="unknown command 'LPUSH'"):
        clients[0].lpush("word", "x")
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        clients[0].execute_command("SELECT", 5)  # type: ignore[no-untyped-call]
    with pytest.raises(redis.ResponseError, match="SELECT 0"):
        clients[0].get("word")
    assert clients[0].select(0)
    assert clients[0].get("word") == b"x"


def test_raft_status_agrees_on_every_node(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    for member in cluster.members.values():
        status = node_status(member.address, 2.0)
        assert status is not None
        assert (status["leader"], status["voters"]) == (leader, [1, 2, 3])


@pytest.mark.parametrize(
    "garbage",
    [
        b"*1\r\n$99999999\r\n",
        b"*999999999\r\n",
        b"*3\r\n$3\r\nSET\r\n+OK\r\n",
        b"GET / HTTP/1.1\r\nPOST x\r\n",
        b"POST / HTTP/1.1\r\n",
        bytes(range(256)) * 400,
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_garbage_closes_the_connection_at_most_and_the_node_lives(cluster: Cluster, garbage: bytes) -> None:
    for member in cluster.members.values():
        for port in (member.port, member.peer_port):
            with socket.create_connection(("127.0.0.1", port), 5.0) as stranger:
                stranger.sendall(garbage)
                stranger.shutdown(socket.SHUT_WR)
                stranger.settimeout(10.0)
                try:
                    while stranger.recv(65536):
                        pass
                except ConnectionResetError:
                    pass
        connection = NodeConnection(member.address)
        assert connection.say("PING") in ("PONG", b"PONG")
        connection.close()


def test_a_client_that_goes_away_in_the_middle_disturbs_nobody(cluster: Cluster, clients: list[redis.Redis]) -> None:
    for data in (b"*3\r\n$3\r\nSET\r\n$1\r\ng\r\n$5\r\nhel", b"INCR gone\r\n" * 50) * 10:
        with socket.create_connection(cluster.members[2].address) as gone:
            gone.sendall(data)
    assert clients[1].ping() is True


# Starting and stopping.


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raft_kv", "serve", *flags], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_second_process_on_the_same_directory_is_refused_in_words(cluster: Cluster) -> None:
    ports = free_ports(2)
    member = cluster.members[1]
    places = ["--listen", f"127.0.0.1:{ports[0]}", "--peer-listen", f"127.0.0.1:{ports[1]}"]
    result = serve("--id", "1", "--cluster", "demo", "--data", str(member.directory), *places)
    assert result.returncode == 1
    assert " ERROR node=1 --data: " in result.stderr
    assert str(member.directory) in result.stderr
    assert "Traceback" not in result.stderr


def test_an_address_in_use_and_a_foreign_directory_are_refused_in_words(cluster: Cluster, tmp_path: Path) -> None:
    member = cluster.members[1]
    taken = serve("--id", "1", "--data", str(tmp_path / "x"), "--peer-listen", member.peer_address)
    assert taken.returncode == 1
    assert "--peer-listen" in taken.stderr
    assert member.peer_address in taken.stderr
    ports = free_ports(2)
    places = ["--listen", f"127.0.0.1:{member.port}", "--peer-listen", f"127.0.0.1:{ports[1]}"]
    clients_taken = serve("--id", "1", "--data", str(tmp_path / "x"), *places)
    assert clients_taken.returncode == 1
    assert "--listen" in clients_taken.stderr
    assert f"127.0.0.1:{member.port}" in clients_taken.stderr
    for loop in ("trio", "asyncio"):
        named = ["--listen", "no.such.machine.invalid:6379", "--loop", loop, "--insecure"]
        unresolved = serve("--id", "1", "--data", str(tmp_path / "x"), *named, "--peer-listen", f"127.0.0.1:{ports[0]}")
        assert unresolved.returncode == 1
        assert "--listen" in unresolved.stderr
        assert "no.such.machine.invalid:6379" in unresolved.stderr
    foreign = serve("--id", "2", "--data", str(tmp_path / "x"), *places)
    assert foreign.returncode == 1
    for result in (taken, clients_taken, foreign):
        assert " ERROR node=" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio", "uvloop"])
def test_a_node_alone_starts_serves_and_ends_in_good_order_on_each_loop(tmp_path: Path, loop: str) -> None:
    with Cluster(tmp_path, loop) as one:
        one.found(1)
        one.wait_ready([1])
        connection = NodeConnection(one.members[1].address)
        assert connection.say("SET", "a", "1") in ("OK", b"OK")
        process = one.members[1].process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = one.members[1].log.read_text()
        assert "Traceback" not in log
        assert f"node 1 of cluster demo is ready: clients at 127.0.0.1:{one.members[1].port}" in log
        connection.close()
        one.start(1)
        one.wait_ready([1])
        with redis.Redis(*one.members[1].address) as client:
            assert client.get("a") == b"1"


@pytest.mark.slow
def test_a_node_that_slept_while_the_log_was_compacted_comes_back_by_a_snapshot(tmp_path: Path) -> None:
    with Cluster(tmp_path, overrides=("snapshot_entries=200", "keep_entries=20", "keep_bytes=2000")) as three:
        three.found(3)
        three.wait_ready([1, 2, 3])
        leader = three.wait_leader()
        sleeper = next(node for node in three.members if node != leader)
        three.kill(sleeper)
        with redis.Redis(*three.members[leader].address) as client:
            for number in range(1000):
                client.set(f"k{number % 300}", number, ex=1000)
            status = node_status(three.members[leader].address, 2.0)
            assert status is not None
            assert isinstance(status["first_index"], int)
            assert status["first_index"] > 500
            three.start(sleeper)
            three.wait_ready([sleeper])
            keys = [f"k{number}" for number in range(300)]
            with redis.Redis(*three.members[sleeper].address) as other:
                assert other.mget(keys) == client.mget(keys)
                assert other.dbsize() == 300
        three.stop([1, 2, 3])
        for node in (1, 2, 3):
            three.start(node)
        three.wait_ready([1, 2, 3])
        for member in three.members.values():
            with redis.Redis(*member.address) as client:
                assert client.dbsize() == 300


@pytest.mark.slow
def test_a_leader_that_is_asked_to_stop_hands_over_first(tmp_path: Path) -> None:
    with Cluster(tmp_path) as three:
        three.found(3)
        three.wait_ready([1, 2, 3])
        leader = three.wait_leader()
        others = [node for node in three.members if node != leader]
        three.stop([leader])
        successor = three.wait_leader(5.0)
        assert successor in others
        with redis.Redis(*three.members[successor].address) as client:
            assert client.set("a", "1") is True
