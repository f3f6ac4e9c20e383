"""Replicated objects on running nodes: any node, once each, errors at the caller, notices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from raft_core.errors import CallerError, MachineBroken, OutcomeUnknown, Refused, RequestError
from raft_core.ids import Index
from raft_core.sessions import SessionLimits
from raft_kv.demo.cluster import free_ports
from raft_objects import Objects, Replicated, SessionExpired, command, query
from raft_objects.lock_table import LockTable
from raft_objects.locks import Held, Locks
from raft_objects.queue_table import QueueTable
from raft_objects.queues import Queue
from raft_objects.running import NodeLike, Running, attach, open_objects

from .cluster import BACKENDS, backends, cluster, config, run
from .samples import Bank, Broke


@backends
def test_commands_and_queries_work_on_every_node(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(backend, tmp_path, Bank) as members:
            for number, member in enumerate(members, 1):
                assert await member.object.deposit("ada", 5) == 5 * number
                for other in members:
                    assert await other.object.balance("ada") == 5 * number
            with pytest.raises(Broke):
                await members[2].object.move("ada", "bob", 99)
            with pytest.raises(KeyError):
                await members[1].object.balance("bob")

    run(backend, test)


@backends
def test_objects_live_on_after_a_restart(backend: tuple[str, str], tmp_path: Path) -> None:
    async def test() -> None:
        ports = free_ports(1)
        for number in (1, 2):
            bank = Bank()
            async with open_objects(config(1, ports, tmp_path), Objects({"bank": bank})):
                assert await bank.deposit("ada", 5) == 5 * number
            with pytest.raises(Refused):
                await bank.deposit("ada", 5)
            with pytest.raises(Refused):
                bank.balance.here("ada")

    run(backend, test)


def test_call_after_the_node_has_failed_is_refused_as_by_the_node(tmp_path: Path) -> None:
    async def test() -> None:
        objects = Objects({"bank": (bank := Bank())})
        locks, jobs = Locks(objects.add("locks", LockTable())), Queue(objects.add("jobs", QueueTable[str]()))
        opened: list[tuple[Running, Held]] = []

        async def fail() -> None:
            async with open_objects(config(1, free_ports(1), tmp_path), objects) as running:
                opened.append((running, await locks.acquire("other")))
                with suppress(RequestError):
                    await bank.bug("ada")
                await anyio.sleep_forever()

        with pytest.raises(MachineBroken):
            await fail()
        running, held = opened[0]
        with pytest.raises(Refused) as expected:
            await running.node.propose(b"")
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(bank.deposit, "ada", 5),
            partial(bank.balance, "ada"),
            partial(objects.enable, 1),
        ]
        for call in calls:
            with pytest.raises(Refused) as caught:
                await call()
            assert (caught.value.reason, str(caught.value)) == (expected.value.reason, str(expected.value))
        for wait in (partial(locks.acquire, "l"), partial(locks.try_acquire, "l"), jobs.take):
            with pytest.raises(Refused):
                await wait()
        await locks.release(held)

    run(BACKENDS[0], test, seconds=15.0)


def test_object_that_left_a_node_that_goes_on_is_refused() -> None:
    async def test() -> None:
        bank, objects, node = lossy("")
        async with attach(node, objects):
            await bank.deposit("ada", 5)
        with pytest.raises(Refused):
            await bank.deposit("ada", 5)
        with pytest.raises(CallerError):
            objects.add("late", Bank())

    run(BACKENDS[0], test)


def test_objects_of_another_node_are_refused_by_their_own_error(tmp_path: Path) -> None:
    async def test() -> None:
        objects = Objects({"bank": (bank := Bank())})
        async with open_objects(config(1, free_ports(1), tmp_path), objects):
            await bank.deposit("ada", 5)
        with pytest.raises(CallerError) as caught:
            async with open_objects(config(1, free_ports(1), tmp_path), objects):
                pass
        assert type(caught.value) is CallerError

    run(BACKENDS[0], test)


def test_new_cluster_begins_with_the_version_of_its_code(tmp_path: Path) -> None:
    async def test() -> None:
        objects = Objects({"bank": (bank := Bank())}, version=3)
        async with open_objects(config(1, free_ports(1), tmp_path), objects) as running:
            await bank.deposit("ada", 5)
            assert objects.enabled == 3
            with pytest.raises(Refused):
                await running.enable(4)

    run(BACKENDS[0], test)


def test_value_that_is_too_large_is_told_at_once_on_every_node(tmp_path: Path) -> None:
    """Of a command, and of a result that has to come from the leader: neither is tried again until the deadline."""

    async def test() -> None:
        async with cluster(BACKENDS[0], tmp_path, Large) as members:
            told: list[str] = []
            for member in members:
                try:
                    assert len(await member.object.give(40_000_000)) == 40_000_000
                except OutcomeUnknown as failure:
                    told.append(failure.reason)
                with pytest.raises(Refused) as refused:
                    await member.object.put(bytes(5_000_000))
                assert refused.value.reason == "too_large"
            assert told == ["result_too_large", "result_too_large"]
            assert await members[0].object.count() == 3

    run(BACKENDS[0], test, seconds=20.0)


class Large(Replicated):
    def __init__(self) -> None:
        self.calls: int = 0

    @command
    def give(self, size: int) -> bytes:
        self.calls += 1
        return bytes(size)

    @command
    def put(self, data: bytes) -> None:
        self.calls += 100

    @query
    def count(self) -> int:
        return self.calls


def test_error_in_the_block_leaves_unchanged(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(ZeroDivisionError):
            async with open_objects(config(1, free_ports(1), tmp_path), Objects({"bank": Bank()})):
                raise ZeroDivisionError

    run(BACKENDS[0], test)


# Exactly once, on a node that loses answers.


class LossyNode:
    """A node in memory. It applies every command; what is lost is decided by `script`, one letter per proposal:

    "." answered, "a" applied, and the outcome unknown, "n" not applied, and the outcome unknown, "r" refused for now.
    """

    def __init__(self, objects: Objects, script: str = "") -> None:
        self.machine = objects.machine
        self.script = script
        self.index = 0
        self.time = 1_000
        self.sent: list[bytes] = []
        self.late: list[bytes] = []

    @property
    def cluster_time(self) -> int:
        return self.time

    def apply(self, command: bytes) -> bytes:
        self.index += 1
        return self.machine.apply(Index(self.index), self.machine.prepare(command, self.time))

    def propose(self, command: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        return self._propose(command)

    async def _propose(self, command: bytes) -> bytes:
        await anyio.lowlevel.checkpoint()
        self.sent.append(command)
        fate, self.script = self.script[:1] or ".", self.script[1:]
        if fate == "r":
            raise Refused("no_leader")
        if fate == "n":
            self.late.append(command)
            raise OutcomeUnknown("leadership_lost")
        reply = self.apply(command)
        if fate == "a":
            raise OutcomeUnknown("forward_lost")
        return reply

    def read(self, query: bytes, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        return self._read(query)

    async def _read(self, query: bytes) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self.machine.query(query)


def lossy(script: str, **settings: Any) -> tuple[Bank, Objects, LossyNode]:
    bank = Bank()
    objects = Objects({"bank": bank}, **settings)
    return bank, objects, LossyNode(objects, script)


@pytest.mark.parametrize("script", [".a.", ".aaa.", ".n.", ".nara.", "a.a.", "r.r.", "rnana."])
def test_command_is_applied_once_whatever_is_lost(script: str) -> None:
    async def test() -> None:
        bank, objects, node = lossy(script)
        async with attach(node, objects):
            assert await bank.deposit("ada", 5) == 5
            for late in node.late:
                node.apply(late)
            assert await bank.balance("ada") == 5

    run(BACKENDS[0], test)


def test_expired_session_is_replaced_if_nothing_is_open() -> None:
    async def test() -> None:
        bank, objects, node = lossy("", sessions=SessionLimits(lifetime=100))
        async with attach(node, objects):
            await bank.deposit("ada", 5)
            node.time += 1_000
            assert await bank.deposit("ada", 5) == 10

    run(BACKENDS[0], test)


def test_session_that_expires_while_the_outcome_is_open_is_an_error_of_its_own() -> None:
    async def test() -> None:
        bank, objects, node = lossy("", sessions=SessionLimits(max_sessions=1))
        async with attach(node, objects):
            await bank.deposit("ada", 5)
            node.script = "a"
            original = node.apply

            def apply(command: bytes) -> bytes:
                from raft_core.sessions import encode_register

                reply = original(command)
                original(encode_register())
                return reply

            node.apply = apply  # type: ignore[method-assign]
            with pytest.raises(SessionExpired):
                await bank.deposit("ada", 5)
            assert bank.accounts == {"ada": 10}

    run(BACKENDS[0], test)


def test_outcome_that_stays_open_until_the_deadline_is_told() -> None:
    async def test() -> None:
        bank, objects, node = lossy("." + 500 * "n")
        async with attach(node, objects):
            with pytest.raises(OutcomeUnknown):
                await bank.deposit.within(0.05)("ada", 5)
            node.script = 500 * "r"
            with pytest.raises(Refused):
                await bank.deposit.within(0.05)("ada", 5)

    run(BACKENDS[0], test)


def test_thousand_commands_at_once_are_applied_once_each() -> None:
    async def test() -> None:
        bank, objects, node = lossy("", sessions=SessionLimits(max_results=10))
        async with attach(node, objects), anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(bank.deposit, "ada", 1)
        assert bank.accounts == {"ada": 1000}

    run(BACKENDS[0], test)


def test_first_command_gets_through_although_many_behind_it_did() -> None:
    """The session keeps ten results. Were more than ten in flight, the first could not be applied any more."""

    async def test() -> None:
        bank, objects, node = lossy("", sessions=SessionLimits(max_results=10))
        async with attach(node, objects):
            await bank.deposit("ada", 1)
            node.script = "nn" + 60 * "."
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(bank.deposit.within(5.0), "ada", 1)
        assert bank.accounts == {"ada": 61}

    run(BACKENDS[0], test)


def test_lossy_node_is_like_a_node() -> None:
    node: NodeLike = lossy("")[2]
    assert node.cluster_time
