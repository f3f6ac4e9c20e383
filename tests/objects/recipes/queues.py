"""Queues and priority queues under fire."""

from __future__ import annotations

from typing import Any, final

from raft_core.node.limits import SECOND
from raft_objects import Objects, command
from raft_objects.queue_table import Message, QueueTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .workload import USABLE, ObjectWorkload, Recipe, Seen

__all__ = ["PRIORITY_QUEUES", "QUEUES"]

VISIBLE = 2.0
NEVER = 1 << 62


class SimulatedQueue(QueueTable[str]):
    """The queue, with a take whose bytes never come twice."""

    @command
    def take_numbered(self, visibility: float, number: int) -> Message[str] | None:
        taken = self._take(visibility)
        return taken if isinstance(taken, Message) else None


@final
class QueueWorkload(ObjectWorkload):
    """Clients that put, take, acknowledge and give back, or forget what they have."""

    def __init__(self, objects: Objects, names: tuple[str, ...], priorities: int) -> None:
        super().__init__(objects)
        self._names = names
        self._priorities = priorities
        self._taken: dict[int, list[tuple[str, Message[str]]]] = {}
        self._asking: dict[int, int] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        mine = self._taken.setdefault(client, [])
        if mine and rng.chance(0.5):
            name, message = mine.pop()
            it = self._queue(name)
            if rng.chance(0.1):
                mine.append((name, message))
                return self.call(it.extend, message.number, message.receipt, VISIBLE + number / 1000)
            method = it.acknowledge if rng.chance(0.8) else it.give_back
            return self.call(method, message.number, message.receipt)
        it = self._queue(rng.choice(self._names))
        if rng.chance(0.5):
            delay = 1.0 if rng.chance(0.1) else 0.0
            return self.call(it.put, f"m{number}", delay=delay, priority=rng.below(self._priorities))
        self._asking[number] = client
        return self.call(it.take_numbered, VISIBLE, number)

    def _queue(self, name: str) -> SimulatedQueue:
        it = self.objects.entry(name).instance
        assert isinstance(it, SimulatedQueue)
        return it

    def answered(self, asked: Asked, result: Any) -> None:
        if isinstance(result, Message):
            client = self._asking[self.arguments(asked.argument)["number"]]
            self._taken[client].append((str(asked.key), result))


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return what is wrong with each queue."""
    told = []
    for name in {one.key: None for one in found}:
        it = last.entry(name).instance
        assert isinstance(it, SimulatedQueue)
        told += [f"{name}: {text}" for text in _wrong([one for one in found if one.key == name], it)]
    return told


def _wrong(found: list[Seen], it: SimulatedQueue) -> list[str]:
    """Return messages that are lost, came to two at a time, again after they were acknowledged, or out of order."""
    put: dict[int, Seen] = {}
    gone: dict[int, int] = {}  # number: told when it was acknowledged
    asked_to_end: dict[tuple[int, int], int] = {}
    open_acknowledgements: set[int] = set()
    out: dict[int, list[Seen]] = {}
    wrong: list[str] = []
    for one in found:
        given = one.given
        if one.kind in ("acknowledge", "give_back", "extend"):
            key = given["number"], given["receipt"]
            if one.kind != "extend":
                asked_to_end[key] = min(asked_to_end.get(key, NEVER), one.asked)
        if one.told is None:
            if one.kind == "acknowledge":
                open_acknowledgements.add(given["number"])
        elif one.kind == "put":
            put[one.result] = one
        elif one.kind == "acknowledge" and one.result:
            if given["number"] in gone:
                wrong.append(f"message {given['number']} was acknowledged twice")
            gone[given["number"]] = one.told
        elif one.kind == "take_numbered" and one.result is not None:
            out.setdefault(one.result.number, []).append(one)
    for number, times in out.items():
        times.sort(key=lambda one: int(one.result.receipt))  # receipts rise with each delivery
        for place, one in enumerate(times):
            if one.asked > gone.get(number, one.asked):
                wrong.append(f"message {number} was delivered after it was acknowledged")
            mine_until = min(
                one.asked + round(USABLE * VISIBLE * SECOND), asked_to_end.get((number, one.result.receipt), NEVER)
            )
            for later in times[place + 1 :]:
                if later.latest < mine_until:
                    wrong.append(f"message {number} was delivered to two at a time")
            if one.result.delivery > it.attempts:
                wrong.append(f"message {number} was delivered {one.result.delivery} times")
    kept = {*it.messages.keys(), *it.dead.keys()}
    for number in put.keys() - gone.keys() - kept - open_acknowledgements:
        wrong.append(f"message {number} is lost")
    return wrong + _out_of_order(put, out)


def _out_of_order(put: dict[int, Seen], out: dict[int, list[Seen]]) -> list[str]:
    """Return messages that waited although another, that comes after them, was delivered.

    A message whose first delivery was answered, and that was put without a delay, was ready from its put until then.
    """
    wrong = []
    for number, times in out.items():
        first = next((one for one in times if one.result.delivery == 1), None)
        if first is None or number not in put or put[number].given["delay"]:
            continue
        ready = put[number].latest
        mine = first.result.priority, number
        for other, others in out.items():
            for one in others:
                if (one.result.priority, other) > mine and ready < one.asked and one.latest < first.asked:
                    wrong.append(f"message {other} was delivered while {number} was ready, which comes before it")
    return wrong


def recipe(name: str, names: tuple[str, ...], priorities: int) -> Recipe:
    """Return a recipe of queues with these names."""
    return Recipe(
        name,
        lambda: {one: SimulatedQueue(attempts=3) for one in names},
        lambda objects: QueueWorkload(objects, names, priorities),
        wrong,
        ("put", "take_numbered", "acknowledge"),
    )


QUEUES = recipe("queue", ("q0", "q1"), 1)
PRIORITY_QUEUES = recipe("priority queue", ("p0", "p1"), 3)
