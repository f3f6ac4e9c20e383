"""Users on three real servers, by a client library and redis-cli: on every node, and after a restart of all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from raft_kv.demo.cluster import Cluster
from raft_kv.node_client import node_status, wait_until
from raft_kv.users.passwords import hash_password

ONCE = Retry(NoBackoff(), 0)
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("users")) as running:
        running.found(3)
        running.wait_ready([1, 2, 3])
        yield running


def works(call: Callable[[], object]) -> bool:
    """Whether a call succeeds, on a node that may lag or have no leader yet."""
    try:
        call()
    except redis.RedisError:
        return False
    return True


def test_users_of_a_cluster(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(node: int, user: str = "", password: str = SECRET) -> redis.Redis:
        address = cluster.members[node].address
        return redis.Redis(*address, username=user or None, password=password if user else None, protocol=3, retry=ONCE)

    with client(1) as first:
        first.set("a:1", "x")
        rules = {"enabled": True, "passwords": f"+{SECRET}"}
        assert first.acl_setuser("root", categories=["+@all"], keys=["*"], **rules)
        with pytest.raises(redis.AuthenticationError):
            first.get("a:1")
    with client(2, "root") as root:
        assert wait_until(lambda: works(root.ping), 10.0)
        assert root.acl_whoami() == b"root"
        assert root.acl_setuser("app", keys=["a:*"], categories=["+@read", "+@write", "-@dangerous"], **rules)

    def check() -> None:
        for node in (1, 2, 3):
            with client(node, "app") as app:
                assert wait_until(partial(works, app.dbsize), 20.0)
                assert app.set(f"a:{node}", "y")
                assert app.get("a:1") is not None
                with pytest.raises(redis.exceptions.NoPermissionError):
                    app.get("b")
                with pytest.raises(redis.exceptions.NoPermissionError):
                    app.flushall()
                with pytest.raises(redis.exceptions.NoPermissionError):
                    app.execute_command("RAFT", "TRANSFER")
            with client(node) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.get("a:1")
            with client(node, "app", "wrong") as wrong, pytest.raises(redis.AuthenticationError):
                wrong.ping()

    check()
    assert "login as 'app' from 127.0.0.1 failed" in cluster.members[1].log.read_text()
    for node in (1, 2, 3):
        cluster.kill(node)
    for node in (1, 2, 3):
        cluster.start(node)
    check()

    monkeypatch.setenv("REDISCLI_AUTH", SECRET)
    monkeypatch.setenv("REDISCLI_USER", "root")
    status = node_status(cluster.members[3].address)
    assert status is not None
    assert status["node"] == 3
    if shutil.which("redis-cli"):
        host, port = cluster.members[2].address
        command = ["redis-cli", "-h", host, "-p", str(port), "--user", "app", "get", "a:3"]
        assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"y"

    # All passwords are lost: a file of users on one node is the way back.
    rescue = tmp_path / "rescue.acl"
    rescue.write_text(f"user rescue on #{hash_password(b'found')} ~* +@all\n")
    cluster.kill(3)
    cluster.flags = {3: ("--users", str(rescue))}
    cluster.start(3)
    with client(3, "rescue", "found") as helper:
        assert wait_until(partial(works, helper.dbsize), 20.0)
        assert helper.get("a:3") == b"y"
        assert helper.execute_command("ACL", "SETUSER", "root", "resetpass", ">new") == b"OK"
    with client(1, "root", "new") as root:
        assert wait_until(partial(works, root.ping), 10.0)
        assert root.set("a:3", "z")
    for member in cluster.members.values():
        files = [member.log, *(path for path in member.directory.rglob("*") if path.is_file())]
        assert files
        assert all(SECRET.encode() not in path.read_bytes() for path in files)


def test_password_is_hashed_on_the_command_line() -> None:
    command = [sys.executable, "-m", "raft_kv", "hash-password"]
    made = subprocess.run(command, input=SECRET.encode() + b"\n", capture_output=True, check=True, env=dict(os.environ))
    assert made.stdout.startswith(b"#scrypt:14:8:1:")
    assert SECRET.encode() not in made.stdout
