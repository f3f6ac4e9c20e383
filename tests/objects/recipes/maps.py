"""Maps under fire."""

from __future__ import annotations

from typing import Any, final

from raft_core.node.limits import SECOND
from raft_objects import Objects, query
from raft_objects.map_table import Change, Found, MapTable
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .workload import USABLE, ObjectWorkload, Recipe, Seen

__all__ = ["MAPS"]

TTL = 4.0
HISTORY = 5
NAMES = ("m0", "m1")


class SimulatedMap(MapTable[str]):
    """The map, with a look at its history."""

    @query
    def history_now(self) -> tuple[int, list[Change[str]]]:
        return self.revision, list(self.changes.values())


@final
class MapWorkload(ObjectWorkload):
    """Clients that put keys with a time to live, read them, compare and set others, scan, and read the history."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self._keys: dict[str, list[str]] = {"m0": [], "m1": []}
        self._versions: dict[tuple[str, str], int] = {}

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        name = rng.choice(NAMES)
        it = self.objects.entry(name).instance
        assert isinstance(it, SimulatedMap)
        if rng.chance(0.2):
            self._keys[name].append(f"k{number}")
            return self.call(it.put, self._keys[name][-1], f"v{number}", ttl=TTL)
        if rng.chance(0.4):
            key = f"s{rng.below(2)}"
            expected = self._versions.get((name, key), 0)
            return self.call(it.compare_and_set, key, f"v{number}", expected=expected)
        if rng.chance(0.2):
            return self.call(it.history_now)
        if rng.chance(0.2):
            return self.call(it.scan, rng.choice(("k", "s", "")), limit=1000)
        return self.call(it.get, rng.choice(self._keys[name][-3:] or ["k"]))

    def answered(self, asked: Asked, result: Any) -> None:
        if asked.kind == "compare_and_set" and result:
            self._versions[str(asked.key), self.arguments(asked.argument)["key"]] = result


def wrong(found: list[Seen], last: Objects) -> list[str]:
    """Return what is wrong with either map."""
    told = []
    for name in NAMES:
        mine = [one for one in found if one.key == name and one.told is not None]
        for check in (_wrong_times, _wrong_versions, _wrong_history):
            told += [f"{name}: {text}" for text in check(mine)]
    return told


def _wrong_times(found: list[Seen]) -> list[str]:
    """Return keys that ended too early or came back."""
    put = {one.given["key"]: one for one in found if one.kind == "put"}
    reads: dict[str, list[tuple[int, int, bool]]] = {}
    for one in found:
        if one.kind == "get":
            reads.setdefault(one.given["key"], []).append((one.asked, one.latest, isinstance(one.result, Found)))
        if one.kind == "scan" and one.given["prefix"] in ("k", ""):
            scanned = {key for key, _ in one.result}
            for key in put:
                reads.setdefault(key, []).append((one.asked, one.latest, key in scanned))
    wrong: list[str] = []
    for key, times in reads.items():
        written = put.get(key)
        if written is None:
            continue
        after = [(asked, told, there) for asked, told, there in times if asked > written.latest]
        for _, told, there in after:
            if there:
                continue
            if told < written.asked + round(USABLE * TTL * SECOND):
                wrong.append(f"{key} ended too early, at {told}")
            wrong += [f"{key} came back, at {later}" for later, _, seen in after if seen and later > told]
    return wrong


def _wrong_versions(found: list[Seen]) -> list[str]:
    """Return versions that did not rise or were given twice."""
    wrong: list[str] = []
    changes = [one for one in found if one.kind in ("put", "compare_and_set") and one.result]
    if len({one.result for one in changes}) < len(changes):
        wrong.append("one version was given twice")
    for one in changes:
        for later in changes:
            if later.asked > one.latest and later.result <= one.result:
                wrong.append(f"{later.given['key']} got version {later.result} after {one.result}")
    return wrong


def _wrong_history(found: list[Seen]) -> list[str]:
    """Return histories with a gap, and changes that two histories tell differently or that nobody made."""
    wrong: list[str] = []
    known: dict[int, tuple[str, str | None]] = {
        one.result: (one.given["key"], one.given["value"])
        for one in found
        if one.kind in ("put", "compare_and_set") and one.result
    }
    for one in found:
        if one.kind != "history_now":
            continue
        revision, changes = one.result
        if [change.revision for change in changes] != list(range(max(1, revision - HISTORY + 1), revision + 1)):
            wrong.append(f"the history at revision {revision} is {changes}")
        for change in changes:
            if known.setdefault(change.revision, (change.key, change.value)) != (change.key, change.value):
                wrong.append(f"{change} is told, and {known[change.revision]} was known")
    return wrong


MAPS = Recipe(
    "map",
    lambda: {name: SimulatedMap(history=HISTORY) for name in NAMES},
    MapWorkload,
    wrong,
    ("put", "compare_and_set", "get", "scan", "history_now"),
)
