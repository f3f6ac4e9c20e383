"""Recipes under the simulator's fire: `python -m tests.objects.fire lock "rate limiter" --seeds 0:2000`.

The recipes that are named run beside one another in each history, as several objects on one log. The exit status is 1
if a promise was broken. A line for each broken promise names recipe and seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from raft_core.node.limits import SECOND
from raft_objects import Objects
from raft_testing.__main__ import open_file_store
from raft_testing.faults.catalogue import Fault, Profile
from raft_testing.sim.simulation import Simulation

from .recipes.barriers import BARRIERS
from .recipes.counters import COUNTERS, SETS
from .recipes.locks import LOCKS, READ_WRITE_LOCKS, SEMAPHORES
from .recipes.maps import MAPS
from .recipes.queues import PRIORITY_QUEUES, QUEUES
from .recipes.rates import RATES
from .recipes.schedules import SCHEDULES
from .recipes.workload import Mixture, Recipe

__all__ = ["RECIPES", "SHORT", "Outcome", "fired"]

RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        *(LOCKS, SEMAPHORES, READ_WRITE_LOCKS, BARRIERS, SCHEDULES),
        *(QUEUES, PRIORITY_QUEUES, MAPS, COUNTERS, SETS, RATES),
    )
}
FAULTS: Final = frozenset(Fault) - {Fault.CLOCK_RATE, Fault.CLOCK_JUMP}
"""No promise in true time survives a leader whose monotonic clock is wrong. Wall clocks may do what they like."""
SHORT: Final = Profile(chaos=15 * SECOND, operations=100, mean_interval=6 * SECOND)


@attrs.frozen
class Outcome:
    """How a seed ended: the simulator's verdict, broken promises, and how many operations of each kind were seen."""

    violation: str
    wrong: list[str]
    kinds: Counter[str]


def fired(recipes: Sequence[Recipe], seed: int, profile: Profile = SHORT, *, development: bool = False) -> Outcome:
    """Run one seed. `development`: look for clocks and the like in commands, at several times the cost."""
    mixture = Mixture(recipes)
    machines: list[Objects] = []

    def machine() -> Objects:
        machines.append(mixture.machine(development=development))
        return machines[-1]

    simulation = Simulation(
        seed, machine=machine, workload=mixture, open_store=open_file_store, profile=profile, only=FAULTS
    )
    violation = simulation.run()
    found = mixture.seen(simulation.traffic.history())
    kinds = Counter(f"{one.key} {one.kind}" for one in found)
    if violation is not None:
        return Outcome(violation.text, [], kinds)
    last = max(machines, key=lambda one: one.latest_time())
    return Outcome("", mixture.wrong(found, last), kinds)


def main() -> int:
    """Run seeds of the named recipes, and print what they come to."""
    parser = argparse.ArgumentParser(prog="python -m tests.objects.fire", description=__doc__)
    parser.add_argument("recipes", nargs="*", help=f"which (default: all): {', '.join(RECIPES)}")
    parser.add_argument("--seeds", default="0:20", metavar="FIRST:END")
    parser.add_argument("--seconds", type=int, default=15, help="virtual seconds of faults in each seed")
    parser.add_argument("--operations", type=int, default=100)
    parser.add_argument("--limit", type=float, default=1e9, help="begin no seed after so many real seconds")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.recipes if name not in RECIPES]
    if unknown:
        parser.error(f"no such recipe: {', '.join(unknown)}")
    first, end = map(int, chosen.seeds.split(":"))
    profile = attrs.evolve(SHORT, chaos=chosen.seconds * SECOND, operations=chosen.operations)
    failed, ran, kinds, begin = 0, 0, Counter[str](), time.monotonic()
    for seed in range(first, end):
        if time.monotonic() - begin > chosen.limit:
            break
        recipes = [RECIPES[name] for name in chosen.recipes or RECIPES]
        outcome = fired(recipes, seed, profile, development=seed % 50 == 0)
        ran += 1
        kinds += outcome.kinds
        for text in [outcome.violation, *outcome.wrong]:
            if text:
                failed += 1
                print(f"seed {seed}: {text}", flush=True)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"seeds {first} to {first + ran - 1}, {failed} failures; {counts}", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
