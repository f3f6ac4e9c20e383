"""Recipes under fire: the promise holds in every history, and planted bugs in each recipe are found.

Many more seeds: `python -m tests.objects.fire` in the simulator, `python -m tests.objects.plain_log` on a log without
Raft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from raft_core.node.limits import SECOND
from raft_objects.barrier_table import BarrierTable
from raft_objects.counters import Counter as ReplicatedCounter
from raft_objects.lease_table import LeaseTable
from raft_objects.lock_table import LockTable
from raft_objects.map_table import MapTable
from raft_objects.queue_table import QueueTable, StoredMessage
from raft_objects.rate_table import RateTable, Turn
from raft_objects.schedule_table import JobState, Run, ScheduleTable
from raft_objects.sets import Set

from .fire import RECIPES, SHORT, fired
from .plain_log import played

LEASED = ["lock", "semaphore", "read-write lock", "barrier", "schedule"]
OTHERS = [name for name in RECIPES if name not in LEASED]


@pytest.mark.parametrize(("names", "seed"), [(LEASED, 1), (OTHERS, 2)])
def test_recipes_keep_their_promises_in_the_simulator(names: list[str], seed: int) -> None:
    recipes = [RECIPES[name] for name in names]
    outcome = fired(recipes, seed, attrs.evolve(SHORT, chaos=10 * SECOND, operations=300), development=seed == 1)

    assert (outcome.violation, outcome.wrong) == ("", [])
    for recipe in recipes:
        assert all(any(f"{key} {kind}" in outcome.kinds for key in recipe.parts()) for kind in recipe.counted)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_keeps_its_promise_on_a_plain_log(name: str) -> None:
    recipe = RECIPES[name]
    kinds = Counter[str]()
    for seed in range(10):
        wrong, done = played([recipe], seed)
        assert wrong == [], seed
        kinds += done
    assert all(sum(kinds[f"{key} {kind}"] for key in recipe.parts()) > 20 for kind in recipe.counted), kinds


# Planted bugs: each is found by the promise alone, for the model runs the same code.

Patch = Callable[[pytest.MonkeyPatch], None]


def on(owner: type, name: str) -> Callable[[Callable[..., Any]], Patch]:
    """Put the decorated function in the place of a method. It gets the method first."""

    def plant(bug: Callable[..., Any]) -> Patch:
        def patch(monkeypatch: pytest.MonkeyPatch) -> None:
            before = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *args, **named: bug(before, *args, **named))

        return patch

    return plant


@on(LeaseTable, "_end_leases")
def lease_ends_too_early(before: Any, it: LeaseTable) -> None:
    for client, lease in list(it.clients.items()):
        if 0 < lease.ends - it.now_ns < lease.length // 2:
            it.ends.discard((lease.ends, client))
            it.ends.add((it.now_ns, client))
            it.clients[client] = attrs.evolve(lease, ends=it.now_ns)
    before(it)


@on(LockTable, "_acquire")
def place_is_stolen(before: Any, it: LockTable, name: str, *given: Any, **named: Any) -> Any:
    if name in it.locks:
        it.locks[name] = attrs.evolve(it.locks[name], free=it.locks[name].size)
    return before(it, name, *given, **named)


@on(LeaseTable, "_next_token")
def tokens_do_not_rise(before: Any, it: LeaseTable) -> int:
    return 1


@on(LockTable, "_acquire")
def last_comer_is_first(before: Any, it: LockTable, name: str, *given: Any, **named: Any) -> Any:
    token = before(it, name, *given, **named)
    state = it.locks.get(name)
    if state is not None and state.waiting:
        last = list(state.waiting)[-1]
        it.locks[name] = attrs.evolve(state, waiting={last: state.waiting[last], **state.waiting})
    return token


@on(BarrierTable, "_arrive")
def one_party_too_few(before: Any, it: BarrierTable, name: str, client: str, owner: str, parties: int) -> Any:
    return before(it, name, client, owner, parties - 1)


@on(BarrierTable, "_clear")
def dead_party_is_counted(before: Any, it: BarrierTable, name: str, owners: list[str]) -> None:
    return


@on(ScheduleTable, "_begin")
def occurrence_is_begun_again(
    before: Any, it: ScheduleTable, name: str, client: str, owner: str, occurrence: int, attempts: int
) -> Any:
    state = it.jobs.get(name)
    if state is not None and not state.running:
        it.jobs[name] = attrs.evolve(state, run=attrs.evolve(state.run, occurrence=0))
    return before(it, name, client, owner, occurrence, attempts)


@on(ScheduleTable, "_end")
def every_run_is_tried_again(before: Any, it: ScheduleTable, name: str, state: JobState, **named: Any) -> None:
    before(it, name, attrs.evolve(state, attempts=9, run=Run(state.run.occurrence, state.run.attempt, 0)), failed=True)


@on(QueueTable, "_end")
def given_back_is_forgotten(before: Any, it: QueueTable[str], number: int, stored: StoredMessage, delay: float) -> None:
    del it.messages[number]


@on(QueueTable, "_take")
def hidden_too_briefly(before: Any, it: QueueTable[str], visibility: float) -> Any:
    return before(it, visibility / 4)


def acknowledged_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: QueueTable[str], number: int, receipt: int) -> bool:
        return self._out(number, receipt) is not None

    monkeypatch.setattr(QueueTable.acknowledge, "function", keep)


@on(QueueTable, "_return")
def priority_is_ignored(before: Any, it: QueueTable[str], number: int, stored: StoredMessage, delay: float) -> None:
    before(it, number, stored, delay)
    if it.ready.discard((stored.priority, number)):
        it.ready.add((0, number))


@on(MapTable, "_set")
def key_ends_too_early(before: Any, it: MapTable[str], key: str, value: str, ttl: float) -> Any:
    return before(it, key, value, ttl / 4)


@on(MapTable, "_remove")
def removal_is_not_in_the_history(before: Any, it: MapTable[str], key: str) -> None:
    before(it, key)
    del it.changes[it.revision]


def version_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: MapTable[str], key: str, value: str, *, expected: int, ttl: float = 0.0) -> int:
        return expected + 1

    monkeypatch.setattr(MapTable.compare_and_set, "function", careless)


def addition_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: ReplicatedCounter, amount: int = 1) -> int:
        self.count += amount if amount % 10 else 0
        return self.count + (0 if amount % 10 else amount)

    monkeypatch.setattr(ReplicatedCounter.add, "function", forgetful)


@on(Set, "_add")
def item_is_put_in_twice(before: Any, it: Set[str], item: str) -> bool:
    before(it, item)
    return True


@on(RateTable, "_take")
def bucket_has_no_bottom(before: Any, it: RateTable, name: str, amount: int, period: int, *given: Any) -> Turn:
    turn: Turn = before(it, name, amount, period // 2, *given)
    return turn


@on(RateTable, "_take")
def wait_is_not_told(before: Any, it: RateTable, name: str, *given: Any) -> Turn:
    turn: Turn = before(it, name, *given)
    return attrs.evolve(turn, wait=0)


BUGS: dict[str, list[Patch]] = {
    "lock": [lease_ends_too_early, place_is_stolen, tokens_do_not_rise, last_comer_is_first],
    "semaphore": [lease_ends_too_early, place_is_stolen],
    "read-write lock": [place_is_stolen, last_comer_is_first],
    "barrier": [one_party_too_few, dead_party_is_counted],
    "schedule": [lease_ends_too_early, occurrence_is_begun_again, every_run_is_tried_again],
    "queue": [given_back_is_forgotten, hidden_too_briefly, acknowledged_comes_again],
    "priority queue": [priority_is_ignored],
    "map": [key_ends_too_early, removal_is_not_in_the_history, version_is_given_twice],
    "counter": [addition_is_lost],
    "set": [item_is_put_in_twice],
    "rate limiter": [bucket_has_no_bottom, wait_is_not_told],
}


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, bugs in BUGS.items() for place in range(len(bugs))]
)
def test_planted_bug_is_found(name: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name][place](monkeypatch)
    assert any(found for seed in range(20) for found in played([RECIPES[name]], seed)[0])


@pytest.mark.parametrize(("name", "bug"), [("lock", place_is_stolen), ("queue", hidden_too_briefly)])
def test_planted_bug_is_found_in_the_simulator(name: str, bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert any(fired([RECIPES[name]], seed, attrs.evolve(SHORT, chaos=8 * SECOND)).wrong for seed in range(10))
