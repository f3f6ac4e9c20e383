"""Replicas that hold at a command which raised what it does not declare, and the two ways on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from raft_core.errors import MachineBroken, Refused, RequestError
from raft_core.ids import Index
from raft_core.node.config import NodeConfig
from raft_core.sessions import encode_plain
from raft_kv.demo.cluster import free_ports
from raft_objects import (
    CommandFailed,
    CommandHeld,
    Objects,
    ReplicasDiffer,
    Replicated,
    command,
    query,
)
from raft_objects.calls import encode_skip
from raft_objects.running import open_objects

from .cluster import BACKENDS, config, run
from .samples import Bank, Driver


class Mended(Bank):
    """The release in which the bug is gone."""

    @command
    def bug(self, account: str) -> None:
        self.accounts[account] = 0


class Ledger(Replicated):
    """Does not take anything back by itself; some additions fail."""

    undo = False

    def __init__(self) -> None:
        self.lines: list[int] = []

    @command
    def add(self, number: int) -> int:
        self.lines.append(number)
        return len(self.lines) // (number % 4)  # raises ZeroDivisionError for every fourth

    @query
    def count(self) -> int:
        return len(self.lines)


def bank(made: Bank | None = None) -> tuple[Bank, Driver]:
    made = made or Bank()
    return made, Driver(Objects({"bank": made}, on_error="hold"))


def held_bank() -> tuple[Bank, Driver]:
    """Holds at index 2, with a deposit of 7 behind it."""
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)
    with pytest.raises(CommandHeld):
        driver.do(made.bug, "ada")
    entry = Driver(Objects({"bank": (other := Bank())})).entry(other.deposit, "ada", 7)
    driver.apply(entry)
    return made, driver


def skip(driver: Driver, index: int) -> None:
    driver.apply(driver.objects.prepare(encode_skip(index), driver.time))


def test_replica_holds_as_it_was_before_the_command() -> None:
    made, driver = held_bank()

    assert made.accounts == {"ada": 5}
    held = driver.objects.held
    assert held is not None
    assert (held.index, held.command, len(held.kept)) == (2, "bank.bug", 1)
    assert held.failure.__traceback__ is not None


def test_replica_that_holds_answers_nothing_and_takes_no_snapshot() -> None:
    made, driver = held_bank()

    for attempt in (
        lambda: driver.entry(made.deposit, "ada", 1),
        lambda: driver.ask(made.balance, "ada"),
        driver.objects.snapshot,
    ):
        with pytest.raises(CommandFailed):
            attempt()


def test_skipped_command_has_no_effect_and_those_behind_it_have() -> None:
    made, driver = held_bank()
    skip(driver, 2)

    assert made.accounts == {"ada": 12}
    assert driver.objects.held is None
    assert driver.do(made.deposit, "ada", 1) == 13


def test_mended_code_finds_the_command_in_the_log() -> None:
    _, driver = held_bank()
    made, mended = bank(Mended())
    for entry in driver.log:
        mended.apply(entry)

    assert made.accounts == {"ada": 7}


def test_replica_that_has_carried_out_the_command_ends_where_it_is_skipped() -> None:
    _, driver = held_bank()
    skip(driver, 2)
    _, mended = bank(Mended())
    for entry in driver.log[:-1]:
        mended.apply(entry)

    with pytest.raises(ReplicasDiffer):
        mended.apply(driver.log[-1])


def test_only_a_leader_that_holds_there_lets_it_be_skipped() -> None:
    made, driver = bank()
    driver.do(made.deposit, "ada", 5)
    with pytest.raises(CommandFailed):
        driver.objects.prepare(encode_skip(1), 0)
    _, driver = held_bank()
    with pytest.raises(CommandFailed):
        driver.objects.prepare(encode_skip(1), 0)


def test_second_entry_that_skips_the_same_command_changes_nothing() -> None:
    made, driver = held_bank()
    again = driver.objects.prepare(encode_skip(2), driver.time)
    skip(driver, 2)
    state = driver.state
    driver.apply(again)
    other, fresh = bank()
    fresh.objects.restore(driver.objects.snapshot())
    fresh.apply(again)  # the snapshot knows it too

    assert made.accounts == other.accounts == {"ada": 12}
    assert driver.state == state


def test_time_does_not_run_back_while_a_replica_holds() -> None:
    made, driver = held_bank()
    other = Driver(Objects({"bank": (twin := Bank())}))
    other.time = 9_000_000_000
    driver.apply(other.entry(twin.deposit, "ada", 1))

    assert driver.objects.latest_time() == 9_000_000_000
    skip(driver, 2)
    assert driver.objects.latest_time() == 9_000_000_000
    assert made.accounts == {"ada": 13}


def test_snapshot_of_another_replica_ends_the_hold() -> None:
    made, driver = held_bank()
    other, fresh = bank(Mended())
    fresh.do(other.deposit, "bob", 1)
    driver.objects.restore(fresh.objects.snapshot())

    assert driver.objects.held is None
    assert made.accounts == {"bob": 1}


@pytest.mark.parametrize("seed", range(30))
def test_replicas_agree_whenever_they_restart(seed: int) -> None:
    """Every fourth number raises. Each replica restarts from snapshots of its own, and skips come late and doubled."""
    rng = Random(seed)
    log: list[bytes] = []
    applied = 0
    leader = Objects({"ledger": (ledger := Ledger())}, on_error="hold").machine
    encode = Driver(Objects({"ledger": (twin := Ledger())}))
    objects = leader._machine  # type: ignore[attr-defined]
    for number in range(40):
        held = objects.held
        if held is not None and rng.random() < 0.5:
            body = encode_skip(held.index)
            for _ in range(rng.choice((1, 1, 2))):
                log.append(leader.prepare(encode_plain(body), number))
        else:
            body = encode.entry(twin.add, rng.randrange(12))
            log.append(encode_plain(body))  # a follower forwarded it to an earlier leader, which did not hold
        while applied < len(log):
            applied += 1
            leader.apply(Index(applied), log[applied - 1])
    while objects.held is not None:
        log.append(leader.prepare(encode_plain(encode_skip(objects.held.index)), 99))
        leader.apply(Index(len(log)), log[-1])

    for _ in range(3):
        replica = Objects({"ledger": (lines := Ledger())}, on_error="hold")
        machine, kept, at = replica.machine, None, 0
        while at < len(log):
            if rng.random() < 0.2:  # a restart
                replica = Objects({"ledger": (lines := Ledger())}, on_error="hold")
                machine, at = replica.machine, 0
                if kept is not None:
                    machine.restore(kept[0])
                    at = kept[1]
            machine.apply(Index(at + 1), log[at])
            at += 1
            if rng.random() < 0.3 and replica.held is None:
                kept = (list(machine.snapshot()), at)
        assert lines.lines == ledger.lines
        assert list(machine.snapshot()) == list(leader.snapshot())


# On nodes.


def test_cluster_that_ended_is_brought_back_by_skipping(tmp_path: Path) -> None:
    """Three nodes end at the command, hold there when they are started so, skip it, and go on."""
    ports = free_ports(3)

    async def node(number: int, on_error: str, told: dict[int, Any], ready: list[anyio.Event]) -> None:
        made = Bank()
        objects = Objects({"bank": made}, on_error=on_error)  # type: ignore[arg-type]
        at: NodeConfig = config(number, ports, tmp_path)
        try:
            async with open_objects(at, objects):
                told[number] = (made, objects)
                ready[number - 1].set()
                await anyio.sleep_forever()
        except MachineBroken as failure:
            told[number] = failure
            ready[number - 1].set()

    async def generation(on_error: str, body: Callable[[dict[int, Any]], Awaitable[None]]) -> None:
        told: dict[int, Any] = {}
        ready = [anyio.Event() for _ in range(3)]
        async with anyio.create_task_group() as group:
            for number in (1, 2, 3):
                group.start_soon(node, number, on_error, told, ready)
            for event in ready:
                await event.wait()
            await body(told)
            group.cancel_scope.cancel()

    async def breaks(told: dict[int, Any]) -> None:
        made = told[1][0]
        await made.deposit("ada", 5)
        with pytest.raises(RequestError):  # refused or unknown, by whoever ended first
            await made.bug("ada")
        while sum(isinstance(one, MachineBroken) for one in told.values()) < 2:
            await anyio.sleep(0.01)

    async def skips(told: dict[int, Any]) -> None:
        pairs: list[tuple[Bank, Objects]] = list(told.values())
        while any(objects.held is None for _, objects in pairs):
            await anyio.sleep(0.01)
        made, objects = pairs[0]
        with pytest.raises(Refused):
            await made.deposit("ada", 1)
        assert made.balance.here("ada") == 5
        assert objects.held is not None
        await objects.skip(objects.held.index)
        for one, _ in pairs:
            assert await one.balance("ada") == 5
        assert await made.deposit("ada", 7) == 12

    async def test() -> None:
        await generation("stop", breaks)
        await generation("hold", skips)

    run(BACKENDS[0], test, seconds=60)
