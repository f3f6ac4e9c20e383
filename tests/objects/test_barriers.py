"""Barriers: nobody passes before all have come; who died is not counted; rounds follow one another."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from raft_core.errors import CallerError
from raft_objects import Objects
from raft_objects.barrier_table import BarrierTable
from raft_objects.barriers import Barrier, Barriers
from raft_objects.lease_table import LeaseEnded
from raft_objects.lock_table import SizeDiffers

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver

SECOND = 1_000_000_000


def table() -> tuple[BarrierTable, Driver]:
    made = BarrierTable()
    driver = Driver(Objects({"barriers": made}, development=True))
    for client in "abc":
        driver.do(made.open_client, client, 10 * SECOND)
    return made, driver


def test_last_party_lets_all_pass_in_one_round() -> None:
    barriers, driver = table()
    assert driver.do(barriers.arrive, "b", "a", "a1", 3) == 0
    assert driver.do(barriers.arrive, "b", "b", "b1", 3) == 0
    assert driver.do(barriers.arrive, "b", "a", "a1", 3) == 0
    assert driver.ask(barriers.waiting, "b") == 2
    assert driver.do(barriers.arrive, "b", "c", "c1", 3) == 1
    assert driver.do(barriers.arrive, "b", "c", "c2", 3) == 0
    assert [driver.do(barriers.arrive, "b", client, f"{client}1", 3) for client in "ab"] == [1, 1]
    assert all(driver.do(barriers.leave, "b", f"{client}1") for client in "abc")
    assert not driver.do(barriers.leave, "b", "c2")
    assert (len(barriers.barriers), len(barriers.places)) == (0, 0)


def test_party_whose_lease_ended_is_not_counted() -> None:
    barriers, driver = table()
    driver.do(barriers.arrive, "b", "a", "a1", 2)
    driver.time += 9 * SECOND
    driver.do(barriers.renew, "b")
    driver.time += 2 * SECOND

    assert driver.do(barriers.arrive, "b", "b", "b1", 2) == 0
    with pytest.raises(LeaseEnded):
        driver.do(barriers.arrive, "b", "a", "a1", 2)
    assert driver.ask(barriers.waiting, "b") == 1


def test_parties_wait_for_the_same_number() -> None:
    barriers, driver = table()
    driver.do(barriers.arrive, "b", "a", "a1", 3)

    with pytest.raises(SizeDiffers):
        driver.do(barriers.arrive, "b", "b", "b1", 2)
    with pytest.raises(ValueError, match="party"):
        driver.do(barriers.arrive, "b", "b", "b1", 0)


@backends
def test_nobody_is_in_a_later_round_than_all_have_reached(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, BarrierTable) as members:
            done = [0, 0, 0]
            rounds: list[list[int]] = [[], [], []]

            async def work(number: int) -> None:
                barrier = Barrier(Barriers(members[number].object), "step", 3)
                for _ in range(4):
                    done[number] += 1
                    rounds[number].append(await barrier.wait())
                    assert min(done) >= len(rounds[number])

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(work, number)
            assert rounds[0] == rounds[1] == rounds[2] == sorted(set(rounds[0]))

    run(backend, test)


def test_party_that_gives_up_is_not_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, BarrierTable, count=1) as members:
            barrier = Barrier(Barriers(members[0].object), "step", 2)
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await barrier.wait(timeout=0.05)
            with pytest.raises(CallerError):
                await Barrier(Barriers(members[0].object), "step", 0).wait()

    run(BACKENDS[0], test)
