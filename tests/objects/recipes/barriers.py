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


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return rounds in which too many passed, or for which too few can have waited at one moment.

    All who pass in a round waited when the last of them came: not before `begin`, when the last of those who were told
    had asked first, and not after `end`, when the first was told. Whoever else is to be counted must have asked before
    `end`, must not have left before `begin`, must not have passed in another round, and its lease must have lasted, in
    the cluster time that the log has for its commands.
    """
    arrived: dict[tuple[str, str], int] = {}
    client_of: dict[tuple[str, str], str] = {}
    left: dict[tuple[str, str], int] = {}
    rounds: dict[tuple[str, int], dict[str, int]] = {}
    passed: dict[tuple[str, str], set[int]] = {}
    renewed: dict[str, int] = {}
    came: dict[tuple[str, str], int] = {}
    for one in found:
        if "client" in one.given:
            renewed[one.given["client"]] = max(renewed.get(one.given["client"], 0), one.stamp)
        if one.kind == "leave" and one.told is not None:
            left.setdefault((one.given["name"], one.given["owner"]), one.told)
        if one.kind != "arrive_numbered":
            continue
        key = one.given["name"], one.given["owner"]
        arrived[key] = min(arrived.get(key, one.asked), one.asked)
        if one.stamp:
            came[key] = min(came.get(key, one.stamp), one.stamp)
        client_of[key] = one.given["client"]
        if one.told is not None and not isinstance(one.result, Exception) and one.result:
            passed.setdefault(key, set()).add(one.result)
            told = rounds.setdefault((key[0], one.result), {})
            told[key[1]] = min(told.get(key[1], one.told), one.told)
    wrong = [f"{key} passed in rounds {sorted(numbers)}" for key, numbers in passed.items() if len(numbers) > 1]
    for (name, number), told in rounds.items():
        begin = max(arrived[name, owner] for owner in told)
        end = min(told.values())
        completed = max(came[name, owner] for owner in told)
        others = {
            owner
            for (where, owner), asked in arrived.items()
            if where == name
            and owner not in told
            and asked < end
            and (name, owner) not in passed
            and left.get((name, owner), begin) >= begin
            and renewed[client_of[name, owner]] + LEASE > completed
        }
        if len(told) > PARTIES[name]:
            wrong.append(f"{name}: {sorted(told)} passed in round {number}")
        if len(told) + len(others) < PARTIES[name] or begin > end:
            wrong.append(f"{name}: {sorted(told)} passed in round {number}, and others were not there")
    return wrong


BARRIERS = Recipe(
    "barrier", lambda: {"barrier": SimulatedBarriers()}, BarrierWorkload, wrong, ("arrive_numbered", "leave")
)
