"""One real server on each adapter, and what Redis's own client library expects of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.test_kv_clients import Server, serving


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
