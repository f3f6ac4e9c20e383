"""Schedules under fire."""

from __future__ import annotations

from typing import Any, final

from raft_objects import Objects, command
from raft_objects.lease_table import LeaseEnded
from raft_objects.schedule_table import Run, ScheduleTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .leased import Client, LeasedWorkload, holdings, overlaps
from .workload import Recipe, Seen

__all__ = ["SCHEDULES"]

ATTEMPTS = {"once": 1, "thrice": 3}


class SimulatedSchedules(ScheduleTable):
    """The table, with a command whose bytes never come twice."""

    @command
    def begin_numbered(
        self, name: str, client: str, owner: str, occurrence: int, attempts: int, number: int
    ) -> Run | None:
        return self._begin(name, client, owner, occurrence, attempts)


@final
class ScheduleWorkload(LeasedWorkload):
    """Clients whose clocks differ a little and that begin what is due, end it, fail, or vanish."""

    def __init__(self, objects: Objects) -> None:
        it = objects.entry("schedule").instance
        assert isinstance(it, SimulatedSchedules)
        super().__init__(objects, it)
        self.it = it

    def next(self, rng: Rng, mine: Client, number: int) -> Asked:
        if mine.holds and rng.chance(0.4):
            owner, place = mine.holds.popitem()
            return self.call(self.it.finish, place["name"], owner, failed=rng.chance(0.3))
        if mine.holds and rng.chance(0.4):
            owner, place = rng.choice(list(mine.holds.items()))
            return self._begin(mine, owner, place["name"], place["occurrence"], number)
        occurrence = (number + rng.below(5)) // 5
        return self._begin(mine, f"o{number}", rng.choice(list(ATTEMPTS)), occurrence, number)

    def _begin(self, mine: Client, owner: str, name: str, occurrence: int, number: int) -> Asked:
        return self.call(self.it.begin_numbered, name, mine.lease, owner, occurrence, ATTEMPTS[name], number)

    def answered(self, asked: Asked, result: Any) -> None:
        super().answered(asked, result)
        given = self.arguments(asked.argument)
        if not result and not isinstance(result, LeaseEnded) and "client" in given and "owner" in given:
            self.by_lease[given["client"]].waits.pop(given["owner"], None)  # nobody waits for a place of its own


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return runs that overlap, attempts that nobody asked for, and occurrences that were begun twice or too late."""
    held = holdings(found, ("begin_numbered",), ("finish",))
    told = [
        f"{now.name}: {sorted(one.owner for one in inside)} ran it at {now.begin}"
        for now, inside in overlaps(held)
        if len(inside) > 1
    ]
    begun: dict[tuple[str, int, int], str] = {}
    for one in held:
        run: Run = one.result
        if run.attempt > ATTEMPTS[one.name]:
            told.append(f"{one.name}: {run} is an attempt too many")
        if begun.setdefault((one.name, run.occurrence, run.attempt), one.owner) != one.owner:
            told.append(f"{one.name}: {run} was begun by two")
        for later in held:
            if later.name == one.name and later.asked > one.begin and later.owner != one.owner:
                if later.given["owner"] in {other.owner for other in held if other.begin < one.begin}:
                    continue  # it confirms what it had before
                next_run: Run = later.result
                if (next_run.occurrence, next_run.attempt, next_run.token) <= (run.occurrence, run.attempt, run.token):
                    told.append(f"{one.name}: {next_run} after {run}")
    return told


SCHEDULES = Recipe(
    "schedule", lambda: {"schedule": SimulatedSchedules()}, ScheduleWorkload, wrong, ("begin_numbered", "finish")
)
