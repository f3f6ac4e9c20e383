"""Rate limiters under fire."""

from __future__ import annotations

from typing import final

from raft_core.node.limits import MILLISECOND, SECOND
from raft_objects import Objects, command
from raft_objects.rate_table import RateTable, Turn
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .workload import USABLE, ObjectWorkload, Recipe, Seen

__all__ = ["RATES"]

RATE = {"slow": (800 * MILLISECOND, 2), "fast": (150 * MILLISECOND, 4)}
"""By name: the period and the burst."""


class SimulatedRates(RateTable):
    """The table, with a command whose bytes never come twice."""

    @command
    def take_numbered(self, name: str, amount: int, patience: int, number: int) -> Turn:
        period, burst = RATE[name]
        return self._take(name, amount, period, burst, patience)


@final
class RateWorkload(ObjectWorkload):
    """Clients that take permits of two rates, now or a little later."""

    def __init__(self, objects: Objects) -> None:
        it = objects.entry("rate limiter").instance
        assert isinstance(it, SimulatedRates)
        super().__init__(objects)
        self.it = it

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        name = rng.choice(list(RATE))
        patience = rng.choice((0, 0, SECOND))
        return self.call(self.it.take_numbered, name, 1 + rng.below(2), patience, number)


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return spans of true time in which more permits were granted than there were.

    A permit was granted between the question and the answer; it may be used `wait` later. Cluster time may run up to a
    tenth faster than true time.
    """
    told = []
    for name, (period, burst) in RATE.items():
        granted = [
            (one.asked + one.result.wait, one.told + one.result.wait, one.given["amount"])
            for one in found
            if one.given["name"] == name and one.told is not None and one.result.granted
        ]
        for begin, *_ in granted:
            inside = sorted((end, amount) for asked, end, amount in granted if asked >= begin)
            total = 0
            for end, amount in inside:
                total += amount
                if total > burst + (end - begin) / USABLE / period + 1e-6:
                    told.append(f"{name}: {total} permits in {(end - begin) / SECOND:.3f} s, from {begin}")
    return told


RATES = Recipe("rate limiter", lambda: {"rate limiter": SimulatedRates()}, RateWorkload, wrong, ("take_numbered",))
