"""Rate limiters: never more than the burst and the rate; in order; what cannot be had in time is not taken."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from raft_core.errors import CallerError
from raft_objects import Objects
from raft_objects.rate_table import RateTable, Turn
from raft_objects.rates import RateLimiter

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver

SECOND = 1_000_000_000


def table() -> tuple[RateTable, Driver]:
    made = RateTable()
    return made, Driver(Objects({"rates": made}, development=True))


def test_burst_comes_at_once_and_the_rest_in_turn() -> None:
    rates, driver = table()

    def take(amount: int = 1, patience: int = 10 * SECOND) -> Turn:
        turn: Turn = driver.do(rates.take, "r", amount, period=SECOND, burst=3, patience=patience)
        return turn

    assert [take(), take(2), take(), take(2)] == [
        Turn(True, 0),
        Turn(True, 0),
        Turn(True, SECOND),
        Turn(True, 3 * SECOND),
    ]
    driver.time += 2 * SECOND
    assert take(1, 0) == Turn(False, 2 * SECOND)
    assert take(1, 2 * SECOND) == Turn(True, 2 * SECOND)


def test_rested_bucket_is_full_and_forgotten() -> None:
    rates, driver = table()
    for name in "abc":
        driver.do(rates.take, name, 2, period=SECOND, burst=2, patience=0)
    driver.time += 3600 * SECOND

    assert driver.do(rates.take, "a", 2, period=SECOND, burst=2, patience=0) == Turn(True, 0)
    assert driver.do(rates.take, "a", 1, period=SECOND, burst=2, patience=0) == Turn(False, SECOND)
    assert driver.ask(rates.in_use) == 1


def test_more_than_the_burst_is_refused() -> None:
    rates, driver = table()
    with pytest.raises(ValueError, match="permits"):
        driver.do(rates.take, "r", 4, period=SECOND, burst=3, patience=0)


@backends
def test_cluster_keeps_the_rate(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, RateTable) as members:
            given: list[float] = []

            async def work(limiter: RateLimiter) -> None:
                for _ in range(6):
                    await limiter.acquire()
                    given.append(time.monotonic())

            for member in members:
                await RateLimiter(member.object, "other", rate=1.0).try_acquire()
            begin = time.monotonic()
            async with anyio.create_task_group() as group:
                for member in members:
                    group.start_soon(work, RateLimiter(member.object, "mail", rate=50.0, burst=5))
            assert len(given) == 18
            assert given[-1] - begin >= 0.95 * (18 - 5) / 50
            limiter = RateLimiter(members[0].object, "slow", rate=0.1)
            assert await limiter.try_acquire()
            assert not await limiter.try_acquire()
            with pytest.raises(TimeoutError):
                await limiter.acquire(timeout=2.0)

    run(backend, test)


def test_impossible_rate_is_refused_at_once() -> None:
    async def test() -> None:
        with pytest.raises(CallerError):
            RateLimiter(RateTable(), "r", rate=0.0)
        with pytest.raises(CallerError):
            await RateLimiter(RateTable(), "r", rate=1.0).acquire(2)

    run(BACKENDS[0], test)
