"""Locks, semaphores and read-write locks under fire."""

from __future__ import annotations

from typing import final

from raft_objects import Objects, command
from raft_objects.lock_table import MAX_SIZE, LockTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .leased import Client, LeasedWorkload, holdings, overlaps
from .workload import Recipe, Seen

__all__ = ["LOCKS", "READ_WRITE_LOCKS", "SEMAPHORES"]


class SimulatedLocks(LockTable):
    """The table, with a command that confirms a notice and whose bytes never come twice."""

    @command
    def confirm(self, name: str, client: str, owner: str, share: int, size: int, number: int) -> int:
        return self._acquire(name, client, owner, wait=True, share=share, size=size)


@final
class LockWorkload(LeasedWorkload):
    """Clients that take a share of one of these, by size, wait for it, give it back, and sometimes vanish."""

    def __init__(self, objects: Objects, name: str, sizes: dict[str, tuple[int, tuple[int, ...]]]) -> None:
        it = objects.entry(name).instance
        assert isinstance(it, SimulatedLocks)
        super().__init__(objects, it)
        self._sizes = sizes
        self.it = it

    def next(self, rng: Rng, mine: Client, number: int) -> Asked:
        if mine.holds and rng.chance(0.4):
            owner, place = mine.holds.popitem()
            return self.call(self.it.release, place["name"], owner)
        if mine.waits and rng.chance(0.6):
            owner, place = rng.choice(list(mine.waits.items()))
            share, size = place["share"], place["size"]
            return self.call(self.it.confirm, place["name"], mine.lease, owner, share, size, number)
        if mine.waits and rng.chance(0.15):
            owner, place = mine.waits.popitem()
            return self.call(self.it.release, place["name"], owner)
        name = rng.choice(list(self._sizes))
        size, shares = self._sizes[name]
        wait, share = rng.chance(0.7), rng.choice(shares)
        return self.call(self.it.acquire, name, mine.lease, f"o{number}", wait, share=share, size=size)


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return where owners thought that they held more than there is, or did not come in the order of their asking."""
    held = holdings(found, ("acquire", "confirm"), ("release",))
    told = []
    for now, inside in overlaps(held):
        if sum(one.given["share"] for one in inside) > now.given["size"]:
            told.append(f"{now.name}: {sorted(one.owner for one in inside)} held it at {now.begin}")
    tokens = {one.owner: one.result for one in held}
    firsts = sorted((one for one in found if one.kind == "acquire"), key=lambda one: one.asked)
    for place, one in enumerate(firsts):
        for later in firsts[place + 1 :]:
            owners = one.given["owner"], later.given["owner"]
            if one.given["name"] != later.given["name"] or not all(owner in tokens for owner in owners):
                continue
            if one.told is not None and one.told < later.asked and tokens[owners[0]] >= tokens[owners[1]]:
                told.append(f"{owners[1]} asked after {owners[0]} was answered, and has token {tokens[owners[1]]}")
    told += [f"{one.owner} has two tokens" for one in held if tokens[one.owner] != one.result]
    return told


def recipe(name: str, sizes: dict[str, tuple[int, tuple[int, ...]]]) -> Recipe:
    """Return a recipe of locks of these sizes, with the shares that clients ask for."""
    return Recipe(
        name,
        lambda: {name: SimulatedLocks()},
        lambda objects: LockWorkload(objects, name, sizes),
        wrong,
        ("acquire", "confirm", "release"),
    )


LOCKS = recipe("lock", {"l0": (1, (1,)), "l1": (1, (1,))})
SEMAPHORES = recipe("semaphore", {"s0": (2, (1,)), "s1": (3, (1, 2, 3))})
READ_WRITE_LOCKS = recipe("read-write lock", dict.fromkeys(("r0", "r1"), (MAX_SIZE, (1, 1, MAX_SIZE))))
