"""Semaphores and read-write locks: shares, fairness, tokens, leases. One test per promise."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from raft_core.errors import CallerError
from raft_objects import Objects
from raft_objects.lock_table import MAX_SIZE, LockTable, SizeDiffers
from raft_objects.locks import Election, Held, Lock, Locks, ReadWriteLock, Semaphore

from .cluster import BACKENDS, backends, cluster, run
from .samples import Driver
from .test_locks import SECOND, Cut


def table() -> tuple[LockTable, Driver]:
    made = LockTable()
    driver = Driver(Objects({"locks": made}, development=True))
    for client in "abc":
        driver.do(made.open_client, client, 10 * SECOND)
    return made, driver


# The table.


def test_shares_never_exceed_the_size_and_tokens_rise() -> None:
    locks, driver = table()
    taken = [driver.do(locks.acquire, "s", "a", f"a{n}", True, share=n, size=5) for n in (2, 3, 1)]

    assert taken == [1, 2, 0]
    assert driver.ask(locks.holders, "s") == [(1, 2), (2, 3)]
    assert driver.do(locks.release, "s", "a2")
    assert driver.do(locks.acquire, "s", "a", "a1", True, share=1, size=5) == 3


def test_big_share_is_not_overtaken_by_small_ones() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "s", "a", "a", True, share=1, size=3)
    assert driver.do(locks.acquire, "s", "b", "big", True, share=3, size=3) == 0
    assert driver.do(locks.acquire, "s", "c", "small", True, share=1, size=3) == 0
    assert driver.do(locks.acquire, "s", "c", "try", False, share=1, size=3) == 0
    driver.do(locks.release, "s", "a")

    assert driver.do(locks.acquire, "s", "b", "big", True, share=3, size=3) == 2
    driver.do(locks.release, "s", "big")
    assert driver.do(locks.acquire, "s", "c", "small", True, share=1, size=3) == 3


def test_waiter_that_leaves_lets_those_behind_in() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "s", "a", "a", True, share=1, size=MAX_SIZE)
    driver.do(locks.acquire, "s", "b", "writer", True, share=MAX_SIZE, size=MAX_SIZE)
    driver.do(locks.acquire, "s", "c", "reader", True, share=1, size=MAX_SIZE)
    driver.do(locks.close_client, "b")

    assert driver.do(locks.acquire, "s", "c", "reader", True, share=1, size=MAX_SIZE) == 2


def test_name_is_of_one_size_while_it_is_used() -> None:
    locks, driver = table()
    driver.do(locks.acquire, "s", "a", "a", True, share=1, size=2)
    before = driver.state()
    with pytest.raises(SizeDiffers):
        driver.do(locks.acquire, "s", "b", "b", True)
    with pytest.raises(ValueError, match="share"):
        driver.do(locks.acquire, "s", "b", "b", True, share=3, size=2)
    assert driver.ask(locks.holders, "s") == [(1, 1)]
    driver.do(locks.release, "s", "a")
    assert driver.do(locks.acquire, "s", "b", "b", True) == 2
    assert before


def test_everything_of_an_ended_lease_is_gone() -> None:
    locks, driver = table()
    for name in "lmn":
        driver.do(locks.acquire, name, "a", f"a{name}", True)
        driver.do(locks.acquire, name, "b", f"b{name}", True)
    driver.do(locks.acquire, "l", "a", "again", True)
    driver.time += 9 * SECOND
    driver.do(locks.renew, "b")
    driver.time += 2 * SECOND
    driver.do(locks.renew, "b")

    assert [driver.ask(locks.token, name) for name in "lmn"] == [4, 5, 6]
    assert [place[0] for place in locks.places] == ["b", "b", "b"]
    driver.do(locks.close_client, "b")
    assert (len(locks.locks), len(locks.places), len(locks.clients), len(locks.ends)) == (0, 0, 0, 0)


# In a cluster.


@backends
def test_semaphore_has_so_many_owners_at_once(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, LockTable) as members:
            inside: dict[int, int] = {}
            most: list[int] = []

            async def work(semaphore: Semaphore, share: int) -> None:
                for _ in range(3):
                    async with semaphore.hold(share) as held:
                        inside[held.token] = share
                        most.append(sum(inside.values()))
                        await anyio.sleep(0.01)
                        del inside[held.token]

            async with anyio.create_task_group() as group:
                for member in members:
                    semaphore = Semaphore(Locks(member.object, lease=5.0), "gpu", 3)
                    group.start_soon(work, semaphore, 1)
                    group.start_soon(work, semaphore, 2)
            assert max(most) == 3

    run(backend, test)


def test_readers_share_and_a_writer_is_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1) as members:
            lock = ReadWriteLock(Locks(members[0].object), "index")
            log: list[str] = []

            async def write() -> None:
                async with lock.writing():
                    log.append("written")

            async def read() -> None:
                async with lock.reading():
                    log.append("read")

            async with anyio.create_task_group() as group, lock.reading(), lock.reading():
                group.start_soon(write)
                while len(members[0].object.locks["index"].waiting) < 1:
                    await anyio.sleep(0.001)
                group.start_soon(read)
                while len(members[0].object.locks["index"].waiting) < 2:
                    await anyio.sleep(0.001)
                assert log == []
            assert log == ["written", "read"]  # who reads after a writer came waits for it
            held = await lock.acquire_write(timeout=1.0)
            with pytest.raises(TimeoutError):
                await lock.acquire_read(timeout=0.05)
            await lock.release(held)
            assert len(members[0].object.locks) == 0

    run(BACKENDS[0], test)


def test_reader_whose_lease_is_lost_is_told_before_a_writer_comes(tmp_path: Path) -> None:
    async def test() -> None:
        cuts: list[Cut] = []
        taken: list[Held] = []

        def wrap(node: object) -> Cut:
            cuts.append(Cut(node))  # type: ignore[arg-type]
            return cuts[-1]

        async with cluster(BACKENDS[0], tmp_path, LockTable, wrap=wrap) as members:
            first, second = (ReadWriteLock(Locks(member.object, lease=1.0), "index") for member in members[:2])
            held = await first.acquire_read()

            async def write() -> None:
                taken.append(await second.acquire_write())

            async with anyio.create_task_group() as group:
                group.start_soon(write)
                await anyio.sleep(0.2)
                cuts[0].cut = True
                await held.lost.wait()
                assert not taken
            assert taken[0].token > held.token
            await second.release(taken[0])

    run(BACKENDS[0], test)


def test_election_has_one_leader_and_the_next_candidate_follows(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1) as members:
            first, second = (Election(Locks(members[0].object), "scheduler") for _ in range(2))
            async with first.campaign() as leading:
                with pytest.raises(TimeoutError):
                    async with second.campaign(timeout=0.05):
                        pass
            async with second.campaign(timeout=1.0) as following:
                assert following.token > leading.token

    run(BACKENDS[0], test)


def test_lock_is_taken_at_once_after_the_process_was_idle_for_longer_than_its_lease(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1) as members:
            lock = Lock(Locks(members[0].object, lease=0.2), "l")
            for _ in range(2):
                held = await lock.try_acquire()
                assert held is not None
                await lock.release(held)
                await anyio.sleep(0.5)

    run(BACKENDS[0], test)


def test_try_that_fails_sends_one_command(tmp_path: Path) -> None:
    async def test() -> None:
        cuts: list[Cut] = []

        def wrap(node: object) -> Cut:
            cuts.append(Cut(node))  # type: ignore[arg-type]
            return cuts[-1]

        async with cluster(BACKENDS[0], tmp_path, LockTable, count=1, wrap=wrap) as members:
            lock = Lock(Locks(members[0].object, lease=60.0), "l")
            async with lock.hold():
                before = cuts[0].proposals
                assert await lock.try_acquire() is None
                assert cuts[0].proposals == before + 1

    run(BACKENDS[0], test)


def test_impossible_share_is_refused_at_once() -> None:
    async def test() -> None:
        with pytest.raises(CallerError):
            await Semaphore(Locks(LockTable()), "s", 2).acquire(3)

    run(BACKENDS[0], test)
