"""Counters and sets under fire."""

from __future__ import annotations

from typing import final

from raft_objects import Objects, command
from raft_objects.counters import Counter
from raft_objects.sets import Set
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .workload import ObjectWorkload, Recipe, Seen

__all__ = ["COUNTERS", "SETS"]

COUNTERS_BY_NAME = ("c0", "c1")


@final
class CounterWorkload(ObjectWorkload):
    """Clients that add amounts that never come twice, and read."""

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        counter = self.objects.entry(rng.choice(COUNTERS_BY_NAME)).instance
        assert isinstance(counter, Counter)
        if rng.chance(0.3):
            return self.call(counter.value)
        if rng.chance(0.2):
            return self.call(counter.add_within, 1000 + number, high=rng.below(50_000))
        return self.call(counter.add, 1000 + number)


def wrong_counts(found: list[Seen], last: Objects) -> list[str]:
    """Return values that are not the sum of what was added."""
    told = []
    for name in COUNTERS_BY_NAME:
        mine = [one for one in found if one.key == name]
        adds = [one for one in mine if one.kind != "value"]
        done = [one for one in adds if one.told is not None and one.result is not None]
        unknown = sum(one.given["amount"] for one in adds if one.told is None)
        counter = last.entry(name).instance
        assert isinstance(counter, Counter)
        sure = sum(one.given["amount"] for one in done)
        if not sure <= counter.count <= sure + unknown:
            told.append(f"{name} is {counter.count} in the end: {sure} were added, and perhaps {unknown}")
        if len({one.result for one in done}) < len(done):
            told.append(f"{name} had one value twice")
        for one in mine:
            if one.told is None or one.result is None:
                continue
            own = one.given.get("amount", 0)
            before = sum(other.given["amount"] for other in done if other is not one and other.latest < one.asked)
            most = sum(
                other.given["amount"]
                for other in adds
                if other is not one and other.asked < one.told and not (other.told is not None and other.result is None)
            )
            if not before + own <= one.result <= most + own:
                told.append(f"{name} was {one.result} at {one.told}, and not from {before + own} to {most + own}")
    return told


class SimulatedSet(Set[str]):
    """The set, with commands whose bytes never come twice."""

    @command
    def put_in(self, item: str, number: int) -> bool:
        return self._add(item)

    @command
    def take_out(self, item: str, number: int) -> bool:
        return self._discard(item)


SETS_BY_NAME = ("s0", "s1")
ITEMS = ("x", "y", "z")


@final
class SetWorkload(ObjectWorkload):
    """Clients that put a few items in and take them out."""

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        it = self.objects.entry(rng.choice(SETS_BY_NAME)).instance
        assert isinstance(it, SimulatedSet)
        item = rng.choice(ITEMS)
        if rng.chance(0.2):
            return self.call(it.contains, item)
        return self.call(it.put_in if rng.chance(0.5) else it.take_out, item, number)


def wrong_members(found: list[Seen], last: Objects) -> list[str]:
    """Return items that two callers put in, or took out, with nothing of the contrary between them."""
    told = []
    contrary = {"put_in": "take_out", "take_out": "put_in"}
    for name in SETS_BY_NAME:
        for item in ITEMS:
            mine = [one for one in found if one.key == name and one.given["item"] == item]
            changes = [one for one in mine if one.kind in contrary and (one.told is None or one.result)]
            sure = sorted((one for one in changes if one.told is not None), key=lambda one: one.latest)
            for place, one in enumerate(sure):
                for later in sure[place + 1 :]:
                    if later.kind == one.kind and one.latest < later.asked and not _between(one, later, changes):
                        told.append(f"{name}: {one.kind} of {item} at {one.told} and again at {later.told}")
                for read in mine:
                    if read.kind != "contains" or read.told is None or read.asked < one.latest:
                        continue
                    if read.result != (one.kind == "put_in") and not _between(one, read, changes):
                        told.append(f"{name}: {item} was read at {read.told}, against {one.kind} at {one.told}")
            unknown = sum(one.told is None for one in changes)
            there = sum(1 if one.kind == "put_in" else -1 for one in sure)
            it = last.entry(name).instance
            assert isinstance(it, SimulatedSet)
            if not there - unknown <= (item in it.items) <= there + unknown:
                told.append(f"{name}: {item} is {'' if item in it.items else 'not '}there in the end, after {there}")
    return told


def _between(one: Seen, later: Seen, changes: list[Seen]) -> bool:
    """Return whether a change to the contrary can have come after `one` and before `later`."""
    return any(other.kind != one.kind and other.asked < later.latest and other.latest > one.asked for other in changes)


COUNTERS = Recipe(
    "counter",
    lambda: {name: Counter() for name in COUNTERS_BY_NAME},
    CounterWorkload,
    wrong_counts,
    ("add", "add_within", "value"),
)
SETS = Recipe(
    "set",
    lambda: {name: SimulatedSet() for name in SETS_BY_NAME},
    SetWorkload,
    wrong_members,
    ("put_in", "take_out", "contains"),
)
