"""Old and new releases of a replicated class on one log: they refuse alike until a version is enabled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import anyio
import anyio.abc
import pytest

from raft_core.errors import Refused
from raft_kv.demo.cluster import free_ports
from raft_objects import CommandFailed, CommandRefused, Objects, Replicated, Since, VersionUnknown, command
from raft_objects.calls import ReplyKind, encode_enable, encode_reply
from raft_objects.running import attach, open_objects

from .cluster import BACKENDS, config, run
from .samples import Driver, Orders
from .test_running import LossyNode


class Old(Replicated):
    """The first release."""

    def __init__(self) -> None:
        self.total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    @command
    def clear(self) -> None:
        self.total = 0


class New(Replicated):
    """The second: another parameter, another command, another field; one command is removed."""

    def __init__(self) -> None:
        self.total: int = 0
        self.notes: list[str] = []

    @command
    def add(self, amount: int, note: Annotated[str, Since(2)] = "") -> int:
        self.total += amount
        if note:
            self.notes.append(note)
        return self.total

    @command(since=2)
    def double(self) -> int:
        self.total *= 2
        return self.total

    @command(until=2)
    def clear(self) -> None:
        self.total = 0


def both() -> tuple[Old, Driver, New, Driver]:
    old, new = Old(), New()
    return old, Driver(Objects({"counter": old})), new, Driver(Objects({"counter": new}, version=2))


def enable(driver: Driver, version: int) -> bytes:
    return driver.apply(driver.objects.prepare(encode_enable(version), driver.time))


def test_what_is_not_enabled_is_refused_alike_by_old_and_new() -> None:
    old, first, new, second = both()
    for entry in (second.entry(new.double), second.entry(new.add, 5, "gift"), second.entry(new.add, 5)):
        assert first.apply(entry) == second.apply(entry)

    assert old.total == new.total == 5
    with pytest.raises(CommandRefused):
        second.do(new.double)


def test_argument_at_its_default_is_understood_by_the_old_release() -> None:
    old, first, new, second = both()
    first.apply(second.entry(new.add, 5))

    assert old.total == 5


def test_enabled_version_brings_the_new_and_ends_the_removed() -> None:
    _, _, new, second = both()
    second.do(new.add, 5)
    second.do(new.clear)
    enable(second, 2)

    assert second.do(new.add, 5, note="gift") == 5
    assert second.do(new.double) == 10
    assert new.notes == ["gift"]
    with pytest.raises(CommandRefused):
        second.do(new.clear)
    assert new.total == 10


def test_old_release_ends_at_a_version_that_it_does_not_know() -> None:
    _, first, _, _ = both()

    with pytest.raises(VersionUnknown):
        enable(first, 2)


def test_old_release_does_not_read_a_newer_snapshot() -> None:
    _, first, _, second = both()
    enable(second, 2)

    with pytest.raises(VersionUnknown):
        first.objects.restore(second.objects.snapshot())


def test_new_release_reads_an_older_snapshot_with_defaults() -> None:
    old, first, new, second = both()
    first.do(old.add, 5)
    second.objects.restore(first.objects.snapshot())

    assert (new.total, new.notes) == (5, [])


def test_command_that_says_less_than_it_needs_is_refused_alike() -> None:
    _, first, new, second = both()
    for entry in (second.entry(new.double), second.entry(new.add, 5, "gift")):
        lying = entry[:9] + b"\1\0" + entry[11:]
        for leader in (first, second):
            logged = leader.objects.prepare(lying, leader.time)
            assert first.apply(logged) == second.apply(logged)

    assert new.total == 0


class Unmarked(Old):
    """A next release whose author forgot `since=` and `version=`."""

    @command
    def triple(self) -> int:
        self.total *= 3
        return self.total

    @command
    def add(self, amount: int, note: str = "") -> int:
        self.total += amount
        return self.total


@pytest.mark.parametrize("change", ["command", "parameter"])
def test_forgotten_since_ends_the_old_process_and_loses_nothing(change: str) -> None:
    old, first, _, _ = both()
    new = Unmarked()
    second = Driver(Objects({"counter": new}))
    second.do(new.add, 5)
    entry = second.entry(new.triple) if change == "command" else second.entry(new.add, 5, "gift")
    second.apply(entry)
    first.apply(second.log[0])

    with pytest.raises(VersionUnknown, match=r"counter\.(triple|add)"):
        first.apply(entry)
    assert old.total == 5
    assert first.apply(first.objects.prepare(entry, first.time)) == encode_reply(ReplyKind.UNKNOWN)  # it leads


def test_call_of_a_version_that_the_leader_does_not_know_ends_no_process_later() -> None:
    """A forged call without sense: once its version is enabled, it is still what no leader has understood."""
    _, first, new, second = both()
    forged = second.entry(new.add, 5)[:9] + b"\2\0" + b"nonsense"
    logged = first.objects.prepare(forged, first.time)
    not_enabled = second.apply(logged)
    enable(second, 2)

    assert not_enabled == encode_reply(ReplyKind.NOT_ENABLED, 1)
    assert second.apply(logged) == encode_reply(ReplyKind.UNKNOWN)


class Deletes(Old):
    @command
    def forget(self) -> None:
        del self.total


def test_deleted_field_would_be_back_in_a_restored_replica_and_is_refused() -> None:
    one = Deletes()
    driver = Driver(Objects({"it": one}))

    with pytest.raises(CommandFailed, match="total"):
        driver.do(one.forget)
    assert one.total == 0


class Renamed(Replicated):
    """The first release, with its field renamed."""

    def __init__(self) -> None:
        self.sum: int = 0

    @command
    def add(self, amount: int) -> int:
        self.sum += amount
        return self.sum


def test_snapshot_with_a_field_that_the_class_lacks_is_not_read() -> None:
    old, first, _, _ = both()
    first.do(old.add, 5)
    new = Renamed()
    objects = Objects({"counter": new})

    with pytest.raises(VersionUnknown, match="total"):
        objects.restore(first.objects.snapshot())
    assert new.sum == 0


@pytest.mark.parametrize(("to", "expected"), [("sum", 5), (None, 0)])
def test_field_is_renamed_or_dropped_as_the_class_says(to: str | None, expected: int) -> None:
    class Mended(Renamed):
        old_fields: ClassVar[dict[str, str | None]] = {"total": to}

    old, first, _, _ = both()
    first.do(old.add, 5)
    new = Mended()
    objects = Objects({"counter": new})
    objects.restore(first.objects.snapshot())

    assert new.sum == expected
    again = Renamed()
    Objects({"counter": again}).restore(objects.snapshot())
    assert again.sum == expected


class Defaults(Replicated):
    """Fields of a class body, and one that no snapshot would bring back."""

    total = 0
    name: str

    @command
    def set(self, name: str) -> None:
        self.total += 1
        self.name = name

    @command
    def invent(self) -> None:
        self.invented = 1


def test_fields_of_the_class_body_are_restored_and_others_are_refused_at_once() -> None:
    one, other = Defaults(), Defaults()
    driver = Driver(Objects({"it": one}))
    driver.do(one.set, "ada")
    Objects({"it": other}).restore(driver.objects.snapshot())

    assert (other.total, other.name) == (1, "ada")
    with pytest.raises(CommandFailed, match="invented"):
        driver.do(one.invent)


def test_fresh_cluster_begins_with_its_version_and_a_used_one_does_not() -> None:
    _, _, new, second = both()
    second.do(new.add, 1)
    second.apply(encode_enable(2, only_first=True))
    fresh = both()[3]
    fresh.apply(encode_enable(2, only_first=True))

    assert second.objects.enabled == 1
    assert fresh.objects.enabled == 2


def test_leader_refuses_to_enable_what_it_does_not_know_and_goes_on() -> None:
    old, first, _, second = both()
    for entry in (encode_enable(2), encode_enable(2, only_first=True)):
        with pytest.raises(VersionUnknown):
            first.objects.prepare(entry, first.time)
        second.objects.prepare(entry, second.time)

    assert first.do(old.add, 5) == 5


def test_new_process_beside_an_old_leader_begins_with_the_first_version() -> None:
    """The leader of a cluster that ran no command yet is an old process. It does not end by what a new one sends."""

    class Led(LossyNode):
        async def _propose(self, command: bytes) -> bytes:
            try:
                return await super()._propose(command)
            except VersionUnknown as failure:
                raise Refused("prepare_failed") from failure

    async def test() -> None:
        objects = Objects({"counter": (new := New())}, version=2)
        leader = Objects({"counter": (old := Old())})
        async with attach(Led(leader), objects):
            assert await new.add(5) == 5
            with pytest.raises(CommandRefused):
                await new.double()
        assert old.total == 5

    run(BACKENDS[0], test)


def test_new_object_waits_for_its_version() -> None:
    new, orders = New(), Orders()
    objects = Objects({"counter": new}, version=2)
    objects.add("orders", orders, since=2)
    driver = Driver(objects)

    with pytest.raises(CommandRefused):
        driver.do(orders.dice)
    enable(driver, 2)
    assert driver.do(orders.dice)


def test_object_that_code_lacks_is_kept_in_snapshots() -> None:
    new, orders = New(), Orders()
    objects = Objects({"counter": new}, version=2)
    objects.add("orders", orders)
    Driver(objects).do(orders.dice)
    without = Objects({"counter": New()}, version=2)
    without.restore(objects.snapshot())

    assert b"".join(without.snapshot()).count(b"orders") >= 1


def test_nodes_are_upgraded_one_by_one_while_all_serve(tmp_path: Path) -> None:
    """Old and new nodes in one cluster: what is new is refused everywhere until all run it and it is enabled."""
    ports = free_ports(3)
    leave = {number: anyio.Event() for number in (1, 2, 3)}
    left = {number: anyio.Event() for number in (1, 2, 3)}

    async def node(number: int, counter: Old | New, *, task_status: anyio.abc.TaskStatus[Objects]) -> None:
        objects = Objects({"counter": counter}, version=2 if isinstance(counter, New) else 1)
        async with open_objects(config(number, ports, tmp_path), objects):
            task_status.started(objects)
            await leave[number].wait()
        left[number].set()

    async def test() -> None:
        async with anyio.create_task_group() as group:
            for number in (1, 2, 3):
                await group.start(node, number, old := Old())
            assert await old.add(0) == 0
            for number in (1, 2, 3):
                leave[number].set()
                await left[number].wait()
                leave[number] = anyio.Event()
                counter = New()
                objects = await group.start(node, number, counter)
                assert await counter.add(1) == number
                with pytest.raises(CommandRefused):
                    await counter.double()
            await objects.enable(2)
            assert await counter.double() == 6
            with pytest.raises(CommandRefused):
                await counter.clear()
            group.cancel_scope.cancel()

    run(BACKENDS[0], test)
