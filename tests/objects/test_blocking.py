"""Replicated objects from plain threads: calls, locks, fork, interrupts and the end of the interpreter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from raft_core.errors import CallerError, MachineBroken, OutcomeUnknown, RequestError
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects, Replicated, blocking, command, query
from raft_objects.barrier_table import BarrierTable
from raft_objects.barriers import Barrier, Barriers
from raft_objects.counters import Counter
from raft_objects.lock_table import LockTable
from raft_objects.locks import Election, LockLost, Locks, ReadWriteLock, Semaphore
from raft_objects.map_table import MapTable
from raft_objects.maps import Map
from raft_objects.occurrences import Every
from raft_objects.queue_table import QueueTable
from raft_objects.queues import PriorityQueue, Queue
from raft_objects.rate_table import RateTable
from raft_objects.rates import RateLimiter
from raft_objects.schedule_table import Run, ScheduleTable
from raft_objects.schedules import Schedule, Schedules
from raft_objects.sets import Set

from .cluster import config
from .samples import Bank, Broke, Driver

ROOT = Path(__file__).parents[2]


def test_threads_call_commands_and_queries(tmp_path: Path) -> None:
    bank = Bank()
    with blocking.open_objects(config(1, free_ports(1), tmp_path), Objects({"bank": bank})) as cluster:
        cluster.call(bank.deposit, "ada", 1)
        threads = [threading.Thread(target=cluster.call, args=(bank.deposit, "ada", 1)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cluster.call(bank.balance, "ada") == 21
        with pytest.raises(Broke):
            cluster.call(bank.move, "ada", "bob", amount=99)
        cluster.call(cluster.node.ready, timeout=30)
        assert cluster.call(lambda: cluster.node.status.members.voters) == (1,)
        with pytest.raises(CallerError, match=r"cluster\.call"):
            _ = cluster.node.status
    with pytest.raises(CallerError):
        cluster.call(bank.balance, "ada")


def test_lock_is_held_for_a_block_of_a_thread(tmp_path: Path) -> None:
    table = LockTable()
    with blocking.open_objects(config(1, free_ports(1), tmp_path), Objects({"locks": table})) as cluster:
        locks = Locks(table)
        with cluster.using(locks.hold("l")) as held:
            assert held.token == 1
            assert cluster.call(locks.try_acquire, "l") is None
        assert table.locks == {}


def test_object_awaited_in_another_event_loop_says_so(tmp_path: Path) -> None:
    bank = Bank()
    with (
        blocking.open_objects(config(1, free_ports(1), tmp_path), Objects({"bank": bank})),
        pytest.raises(CallerError),
    ):
        anyio.run(bank.deposit, "ada", 1)


def test_one_object_is_enough_and_its_local_replica_is_read(tmp_path: Path) -> None:
    bank = Bank()
    with blocking.open_objects(config(1, free_ports(1), tmp_path), bank) as cluster:
        cluster.call(bank.deposit, "ada", 5)
        assert cluster.call(bank.balance.here, "ada") == 5
        with pytest.raises(CallerError):
            bank.balance.here("ada")  # in this thread, while another one may be applying
        assert cluster.call(lambda: cluster.running.objects.enabled) == 1


def test_close_ends_what_other_threads_wait_for_while_the_node_still_serves(tmp_path: Path) -> None:
    bank = Bank()
    cluster = blocking.connect(config(1, free_ports(1), tmp_path), bank)
    told: list[str] = []
    entered = threading.Semaphore(0)

    @asynccontextmanager
    async def holding() -> AsyncIterator[None]:
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await bank.deposit("released", 1)

    async def for_ever() -> None:
        entered.release()
        await anyio.sleep_forever()

    def wait() -> None:
        try:
            cluster.call(for_ever)
        except OutcomeUnknown:
            told.append("call")

    def hold() -> None:
        try:
            with cluster.using(holding()):
                wait()
        except OutcomeUnknown:
            told.append("block")

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
        entered.acquire()
    cluster.close()
    for thread in threads:
        thread.join(10)
    assert sorted(told) == ["block", "call", "call"]
    assert bank.accounts == {"released": 1}


def test_block_that_still_runs_at_close_has_lost_its_lock(tmp_path: Path) -> None:
    objects = Objects()
    table = objects.add("locks", LockTable())
    locks = Locks(table)
    cluster = blocking.connect(config(1, free_ports(1), tmp_path), objects)

    def block() -> None:
        with cluster.using(locks.hold("a")) as held:
            held.check()
            cluster.close()
            assert table.locks == {}
            assert held.lost.is_set()
            with pytest.raises(LockLost):
                held.check()

    with pytest.raises(OutcomeUnknown):
        block()


def test_message_of_a_block_that_still_runs_at_close_is_given_back(tmp_path: Path) -> None:
    objects = Objects()
    table = objects.add("jobs", QueueTable[str]())
    queue = Queue(table)
    cluster = blocking.connect(config(1, free_ports(1), tmp_path), objects)
    cluster.call(queue.put, "work")
    with pytest.raises(OutcomeUnknown), cluster.using(queue.taking()):
        cluster.close()
    assert (len(table.ready), len(table.hidden)) == (1, 0)


def test_who_waits_to_enter_a_block_at_close_is_told(tmp_path: Path) -> None:
    objects = Objects()
    locks = Locks(objects.add("locks", LockTable()))
    queue = Queue(objects.add("jobs", QueueTable[str]()))
    cluster = blocking.connect(config(1, free_ports(1), tmp_path), objects)
    managers = [locks.hold("a"), locks.hold("a", timeout=60), queue.taking(), queue.taking(timeout=60)]
    told: list[BaseException] = []

    def enter(manager: AbstractAsyncContextManager[object]) -> None:
        try:
            with cluster.using(manager):
                pass
        except BaseException as failure:
            told.append(failure)

    cluster.call(locks.acquire, "a")
    threads = [threading.Thread(target=enter, args=(manager,)) for manager in managers]
    for thread in threads:
        thread.start()
    while len(locks._table.locks["a"].waiting) < 2:  # the lock's two stand in line
        time.sleep(0.005)
    cluster.close()
    for thread in threads:
        thread.join(10)
    assert [type(failure) for failure in told] == [OutcomeUnknown] * 4


def test_entry_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    """`Future.result` is where Ctrl-C arrives. The entry is cancelled, so the lock is not taken later for no block."""
    objects = Objects()
    table = objects.add("locks", LockTable())
    locks = Locks(table)
    with blocking.open_objects(config(1, free_ports(1), tmp_path), objects) as cluster:
        first = cluster.call(locks.acquire, "a")
        timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt), cluster.using(locks.hold("a")):
            pass
        cluster.call(locks.release, first)
        with cluster.using(locks.hold("a", timeout=5.0)):
            pass
        assert table.locks == {}


def test_error_of_a_block_is_raised_unchanged(tmp_path: Path) -> None:
    locks = Locks(table := LockTable())
    with blocking.open_objects(config(1, free_ports(1), tmp_path), table) as cluster:
        with pytest.raises(RuntimeError, match="mine"), cluster.using(locks.hold("a")):
            raise RuntimeError("mine")
        with pytest.raises(asyncio.CancelledError), cluster.using(locks.hold("a")):
            raise asyncio.CancelledError


def test_failed_node_is_told_to_callers_and_by_close(tmp_path: Path) -> None:
    bank = Bank()
    cluster = blocking.connect(config(1, free_ports(1), tmp_path), bank)
    with pytest.raises(RequestError):
        cluster.call(bank.bug, "ada")
    cluster._thread.join(10)
    with pytest.raises(CallerError) as caught:
        cluster.call(bank.deposit, "ada", 1)
    assert isinstance(caught.value.__cause__, MachineBroken)
    with pytest.raises(MachineBroken):
        cluster.close()
    cluster.close()


def test_object_knows_its_command_while_another_thread_asks_it() -> None:
    """With `machine_blocks` a thread applies, and the loop's thread may ask the replica at the same time."""
    objects = Objects({"clock": (clock := Asked())})
    driver = Driver(objects)
    Asked.during = lambda: driver.ask(clock.time)

    assert driver.do(clock.tick) == driver.time


def test_disk_that_cannot_be_opened_is_told_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("no directory")
    with pytest.raises(Exception, match="1"):
        blocking.connect(config(1, free_ports(1), tmp_path), Objects({"bank": Bank()}))
    assert not [thread for thread in threading.enumerate() if thread.name == "raft_objects"]


class Asked(Replicated):
    """Runs `during` in another thread in the middle of its command."""

    during: ClassVar[Callable[[], object]]

    @command
    def tick(self) -> int:
        thread = threading.Thread(target=type(self).during)
        thread.start()
        thread.join()
        return self.now_ns

    @query
    def time(self) -> int:
        return self.now_ns


SCRIPT = """
import os, sys, time
from pathlib import Path
from raft_core.errors import CallerError, MachineBroken, OutcomeUnknown, RequestError
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects, blocking
from tests.objects.cluster import config
from tests.objects.samples import Bank

bank = Bank()
cluster = blocking.connect(config(1, free_ports(1), Path(sys.argv[1])), Objects({"bank": bank}))
cluster.call(bank.deposit, "ada", 1)
"""


def script(body: str, directory: Path) -> subprocess.Popen[str]:
    """Start a Python process that has a node open."""
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning:__main__",
            "-c",
            SCRIPT + textwrap.dedent(body),
            str(directory),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_end_of_the_interpreter_closes_the_node(tmp_path: Path) -> None:
    done = script("print('end')", tmp_path)
    out, err = done.communicate(timeout=60)

    assert (done.returncode, out, err) == (0, "end\n", "")


def test_forked_child_is_told_what_to_do_and_the_parent_goes_on(tmp_path: Path) -> None:
    done = script(
        """
        child = os.fork()
        if child == 0:
            try:
                cluster.call(bank.deposit, "ada", 1)
            except CallerError as failure:
                assert "fork" in str(failure)
                sys.exit(7)
            sys.exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert cluster.call(bank.deposit, "ada", 1) == 2
        print("end")
        """,
        tmp_path,
    )
    out, err = done.communicate(timeout=60)

    assert (done.returncode, out, err) == (0, "end\n", "")


def test_interrupt_ends_the_call_and_the_node_in_order(tmp_path: Path) -> None:
    done = script(
        """
        import anyio
        print("ready", flush=True)
        try:
            cluster.call(anyio.sleep, 60)
        except KeyboardInterrupt:
            print("interrupted", cluster.call(bank.balance, "ada"), flush=True)
        """,
        tmp_path,
    )
    assert done.stdout is not None
    assert done.stdout.readline() == "ready\n"
    time.sleep(0.05)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)

    assert (done.returncode, out, err) == (0, "interrupted 1\n", "")


def test_every_recipe_serves_threads(tmp_path: Path) -> None:
    objects = Objects()
    locks = Locks(objects.add("locks", LockTable()))
    queue = PriorityQueue(objects.add("jobs", QueueTable[str]()))
    settings = Map(objects.add("settings", MapTable[str]()))
    counter = objects.add("counter", Counter())
    tags = objects.add("tags", Set[str]())
    barrier = Barrier(Barriers(objects.add("barriers", BarrierTable())), "b", 2)
    limiter = RateLimiter(objects.add("rates", RateTable()), "r", rate=0.001, burst=1)
    schedule = Schedule(Schedules(objects.add("schedules", ScheduleTable())), "tick", Every(0.05))

    with blocking.open_objects(config(1, free_ports(1), tmp_path), objects) as cluster:
        with cluster.using(Semaphore(locks, "s", 2).hold()), cluster.using(ReadWriteLock(locks, "r").reading()):
            assert len(locks._table.locks) == 2
        with cluster.using(Election(locks, "e").campaign()) as leading:
            assert leading.token == 3
        for priority in (2, 1):
            cluster.call(queue.put, f"job {priority}", priority=priority)
        with cluster.using(queue.taking()) as message:
            assert message.item == "job 1"
        assert cluster.call(settings.compare_and_set, "colour", "red", expected=0) == 1
        assert cluster.call(counter.add, 5) == 5
        assert cluster.call(tags.add, "new")
        other = threading.Thread(target=cluster.call, args=(barrier.wait,))
        other.start()
        assert cluster.call(barrier.wait) == 1
        other.join()
        assert cluster.call(limiter.try_acquire)
        assert not cluster.call(limiter.try_acquire)

        async def once(run: Run) -> None:
            raise LookupError(run.attempt)  # ends `run`

        with pytest.raises(LookupError):
            cluster.call(schedule.run, once)
