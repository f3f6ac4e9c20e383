"""Barriers under fire."""

from __future__ import annotations

from typing import final

from raft_objects import Objects, command
from raft_objects.barrier_table import BarrierTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .leased import Client, LeasedWorkload
from .workload import LEASE, Recipe, Seen

__all__ = ["BARRIERS"]

PARTIES = {"b2": 2, "b3": 3}


class SimulatedBarriers(BarrierTable):
    """The table, with a command whose bytes never come twice."""

    @command
    def arrive_numbered(self, name: str, client: str, owner: str, parties: int, number: int) -> int:
        return self._arrive(name, client, owner, parties)


@final
class BarrierWorkload(LeasedWorkload):
    """Clients that wait at one barrier after the other, leave, or vanish."""

    def __init__(self, objects: Objects) -> None:
        it = objects.entry("barrier").instance
        assert isinstance(it, SimulatedBarriers)
        super().__init__(objects, it)
        self.it = it

    def next(self, rng: Rng, mine: Client, number: int) -> Asked:
        if mine.holds:
            owner, place = mine.holds.popitem()
            return self.call(self.it.leave, place["name"], owner)
        if mine.waits and rng.chance(0.1):
            owner, place = mine.waits.popitem()
            return self.call(self.it.leave, place["name"], owner)
        if mine.waits:
            owner, place = rng.choice(list(mine.waits.items()))
            return self.call(self.it.arrive_numbered, place["name"], mine.lease, owner, place["parties"], number)
        name = rng.choice(list(PARTIES))
        return self.call(self.it.arrive_numbered, name, mine.lease, f"o{number}", PARTIES[name], number)


def wrong(found: list[Seen], end: Objects) -> list[str]:
    """Return rounds in which too many passed, or for which too few can have waited at one moment.

    All who pass in a round waited when the last of them came: not before `first`, when the last of those who were told
    had come, and not after `last`, when the first was told, in the log's time. Whoever else is to be counted must have
    come until then, must not have left before or have passed in another round since, and its lease must have lasted.
    """
    steps: dict[tuple[str, str], list[tuple[int, str]]] = {}
    client_of: dict[tuple[str, str], str] = {}
    rounds: dict[tuple[str, int], dict[str, int]] = {}
    passed: dict[tuple[str, str], set[int]] = {}
    told_at: dict[tuple[str, str], list[int]] = {}
    renewed: dict[str, int] = {}
    for one in found:
        if "client" in one.given:
            renewed[one.given["client"]] = max(renewed.get(one.given["client"], 0), one.stamp)
        if one.kind not in ("arrive_numbered", "leave"):
            continue
        key = one.given["name"], one.given["owner"]
        if one.stamp:
            steps.setdefault(key, []).append((one.stamp, one.kind))
        if one.kind == "leave":
            continue
        client_of[key] = one.given["client"]
        if one.told is not None and not isinstance(one.result, Exception) and one.result:
            passed.setdefault(key, set()).add(one.result)
            told_at.setdefault(key, []).append(one.stamp)
            told = rounds.setdefault((key[0], one.result), {})
            told[key[1]] = min(told.get(key[1], one.stamp), one.stamp)
    wrong = [f"{key} passed in rounds {sorted(numbers)}" for key, numbers in passed.items() if len(numbers) > 1]
    for (name, number), told in rounds.items():
        first, last = max(min(steps[name, owner])[0] for owner in told), min(told.values())
        others = {
            owner
            for (where, owner), mine in steps.items()
            if where == name
            and owner not in told
            and any(
                kind == "arrive_numbered"
                and came <= last
                and not any(other == "leave" and came < left < first for left, other in mine)
                and not any(came <= heard for heard in told_at.get((name, owner), ()))
                for came, kind in mine
            )
            and renewed[client_of[name, owner]] + LEASE > first
        }
        if len(told) > PARTIES[name]:
            wrong.append(f"{name}: {sorted(told)} passed in round {number}")
        if len(told) + len(others) < PARTIES[name] or first > last:
            wrong.append(f"{name}: {sorted(told)} passed in round {number}, and others were not there")
    return wrong


BARRIERS = Recipe(
    "barrier", lambda: {"barrier": SimulatedBarriers()}, BarrierWorkload, wrong, ("arrive_numbered", "leave")
)
