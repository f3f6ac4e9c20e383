"""One real server on each adapter, and what Redis's own client library expects of it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import LockError, LockNotOwnedError

from raft_kv.node_client import wait_until
from tests.kv.test_clients import Server, serving


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("kv"), request.param) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(*server.clients) as opened:
        opened.flushall()
        yield opened


@pytest.mark.parametrize("megabytes", [2, 20])
def test_a_value_that_is_too_large_fails_alone_in_its_pipeline(client: redis.Redis, megabytes: int) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.set("a", "1")
    pipe.set("big", b"x" * (megabytes << 20))
    pipe.incr("a")
    pipe.set("b", "2")
    answers = pipe.execute(raise_on_error=False)

    assert isinstance(answers[1], redis.ResponseError)
    assert [answers[0], *answers[2:]] == [True, 2, True]
    assert client.exists("big") == 0


def test_a_value_that_fits_an_argument_and_no_entry_fails_alone_too(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.incr("a")
    pipe.set("big", b"x" * ((1 << 20) - 5))
    pipe.incr("a")
    answers = pipe.execute(raise_on_error=False)

    assert isinstance(answers[1], redis.ResponseError)
    assert answers[::2] == [1, 2]


def test_a_transaction_with_a_value_that_is_too_large_is_not_carried_out(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=True)
    pipe.set("a", "1")
    pipe.set("big", b"x" * (2 << 20))
    with pytest.raises(redis.ResponseError):
        pipe.execute()

    assert client.exists("a", "big") == 0


def test_a_node_that_takes_writes_calls_itself_a_master_everywhere(server: Server) -> None:
    for protocol in (2, 3):
        with redis.Redis(*server.clients, protocol=protocol) as client:
            assert client.info("replication")["role"] == "master"
            assert client.role()[0] == b"master"
            hello = client.execute_command("HELLO", protocol)
            pairs = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
            assert pairs[b"role"] == b"master"


# The client library's own lock.


def test_a_lock_is_acquired_once_released_and_acquired_again(client: redis.Redis) -> None:
    mine, other = client.lock("a", timeout=10), client.lock("a", timeout=10)
    assert mine.acquire()
    assert not other.acquire(blocking=False)
    with pytest.raises(LockError):
        other.release()
    mine.release()
    assert client.exists("a") == 0
    assert other.acquire(blocking=False)
    other.release()


def test_a_lock_that_another_holds_is_not_released(client: redis.Redis) -> None:
    mine = client.lock("a", timeout=10)
    assert mine.acquire()
    client.set("a", "somebody else")
    with pytest.raises(LockNotOwnedError):
        mine.release()
    assert client.get("a") == b"somebody else"


def test_a_lock_is_extended_and_reacquired(client: redis.Redis) -> None:
    lock = client.lock("a", timeout=10)
    assert lock.acquire()
    assert lock.extend(100)
    assert 100_000 < client.pttl("a") <= 110_000
    assert lock.extend(50, replace_ttl=True)
    assert 40_000 < client.pttl("a") <= 50_000
    assert lock.reacquire()
    assert 0 < client.pttl("a") <= 10_000
    lock.release()
    with pytest.raises(LockError):
        lock.extend(1)


def test_a_lock_expires_and_its_holder_hears_of_it(client: redis.Redis) -> None:
    lock, next_lock = client.lock("a", timeout=0.1), client.lock("a", timeout=10, blocking_timeout=10, sleep=0.02)
    assert lock.acquire()
    assert next_lock.acquire()
    with pytest.raises(LockNotOwnedError):
        lock.extend(5)
    with pytest.raises(LockNotOwnedError):
        lock.release()
    assert next_lock.owned()
    next_lock.release()


def test_who_waits_for_a_lock_gets_it_when_it_is_released(client: redis.Redis) -> None:
    lock = client.lock("a", timeout=30)
    assert lock.acquire()
    order: list[str] = []

    def wait() -> None:
        with client.lock("a", timeout=30, blocking_timeout=30, sleep=0.01):
            order.append("second")

    waiting = threading.Thread(target=wait)
    waiting.start()
    order.append("first")
    lock.release()
    waiting.join(30)
    assert order == ["first", "second"]


def test_a_lock_works_by_scripts_that_the_server_was_not_shown(client: redis.Redis) -> None:
    client.script_flush()
    with client.lock("a", timeout=10):
        assert client.exists("a") == 1
    assert client.exists("a") == 0


def test_compare_and_set_by_command_and_by_script(client: redis.Redis) -> None:
    client.set("a", "1")
    script = (
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('set', KEYS[1], ARGV[2]) else return 0 end"
    )
    replace = client.register_script(script)
    assert replace(keys=["a"], args=["0", "2"]) == 0
    assert replace(keys=["a"], args=["1", "2"]) in (b"OK", "OK")
    assert client.execute_command("SET", "a", "3", "IFEQ", "2") in (True, b"OK")  # type: ignore[no-untyped-call]
    assert client.execute_command("DELIFEQ", "a", "3") == 1  # type: ignore[no-untyped-call]
    with pytest.raises(redis.ResponseError):
        client.eval("return redis.call('incr', KEYS[1])", 1, "a")
    assert client.exists("a") == 0


# Tools.


def test_all_connections_are_listed_and_one_is_closed_by_its_number(server: Server, client: redis.Redis) -> None:
    with server.client() as victim, server.client() as other:
        numbers = []
        for connection in (victim, other):
            connection.sendall(b"CLIENT ID\r\n")
            numbers.append(int(connection.recv(100)[1:-2]))
        listed = {int(one["id"]): one for one in client.client_list()}
        assert {*numbers, client.client_id()} <= set(listed)
        assert listed[numbers[0]]["addr"] == "{}:{}".format(*victim.getsockname())

        assert client.client_kill_filter(_id=str(numbers[0])) == 1
        assert victim.recv(100) == b""
        assert client.client_kill(listed[numbers[1]]["addr"]) is True
        assert other.recv(100) == b""
        assert wait_until(lambda: not {*numbers} & {int(one["id"]) for one in client.client_list()}, 10.0)


def test_info_says_how_much_memory_is_used_and_how_many_commands_were_processed(client: redis.Redis) -> None:
    before, after = client.info(), client.info()
    assert before["used_memory"] > 1_000_000
    assert after["total_commands_processed"] > before["total_commands_processed"]
    assert after["connected_clients"] >= 1


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_redis_cli_shows_help_for_a_command_that_only_this_server_has(server: Server) -> None:
    host, port = server.clients
    command = ["redis-cli", "-h", host, "-p", str(port)]
    said = subprocess.run(command, input="help raft once\n", capture_output=True, text=True, timeout=30, check=True)
    assert "RAFT ONCE" in said.stdout
    assert "session number" in said.stdout


@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed")
def test_redis_benchmark_runs_the_tests_that_there_are_commands_for(server: Server) -> None:
    host, port = server.clients
    tests = ["-n", "50", "-c", "2", "-q", "-t", "ping,set,get,incr,mset"]
    command = ["redis-benchmark", "-h", host, "-p", str(port), *tests]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).returncode == 0
