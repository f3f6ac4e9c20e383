"""Recipes on a log without Raft: thousands of short histories in minutes. `python -m tests.objects.plain_log`.

One log, and clients in virtual time. A request takes its time, is lost, or arrives seconds later than its client gave
it up; an answer is lost; for some seconds nothing gets through, and cluster time stands still for some of them. A
client with a session sends again, and its command is carried out once; one without leaves it at an unknown outcome. Now
and then the state goes through a snapshot that was taken some commands ago, and the log is replayed from there.

What only a real cluster can do wrong is for `fire`. This finds what a recipe does wrong.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from raft_core.ids import Index
from raft_core.node.limits import MILLISECOND, SECOND
from raft_objects import Objects
from raft_testing.linearizability.history import Fate, Moment, Operation, ProcessId
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

from .fire import RECIPES
from .recipes.workload import Mixture, Recipe

__all__ = ["PlainLog", "played"]

_CLIENTS: Final = 5
_THINK: Final = 500 * MILLISECOND
_PATIENCE: Final = SECOND
_SPAN: Final = 60 * SECOND


@attrs.define(eq=False)
class Request:
    """One operation of a client. `entry`: what is in the log, once it is."""

    client: int
    asked: Asked
    begun: int
    entry: bytes = b""
    answer: bytes = b""
    carried_out: bool = False
    told: int | None = None
    over: bool = False


class PlainLog:
    """One history: `run`, then `history` and `objects`."""

    def __init__(self, recipes: Sequence[Recipe], seed: int, operations: int) -> None:
        self.mixture: Final = Mixture(recipes)
        self.objects = self.mixture.machine(development=False)
        self.requests: list[Request] = []
        self._rng: Final = Rng(seed)
        self._left = operations
        self._now = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._log: list[bytes] = []
        self._held: tuple[int, Iterable[bytes]] | None = None
        self._outages: Final = [
            (begin, begin + self._rng.around(2 * SECOND), self._rng.random.random())
            for begin in (self._rng.below(_SPAN) for _ in range(self._rng.below(6)))
        ]

    def run(self) -> list[str]:
        """Play the history. Return what is wrong."""
        for client in range(_CLIENTS):
            self._at(self._rng.around(_THINK), lambda client=client: self._begin(client))  # type: ignore[misc]
        while self._agenda:
            self._now, _, action = heapq.heappop(self._agenda)
            action()
        wrong = self.mixture.wrong(self.mixture.seen(self.history()), self.objects)
        if b"".join(self._replayed(self.mixture.machine(development=False), 0).snapshot()) != b"".join(
            self.objects.snapshot()
        ):
            wrong.append("two replicas differ")
        return wrong

    def history(self) -> list[Operation]:
        """Return the operations that were or may have been carried out."""
        found = []
        for one in self.requests:
            if one.told is None and (one.asked.reads or not one.carried_out):
                continue
            fate = Fate.UNKNOWN if one.told is None else Fate.ANSWERED
            data = one.entry or one.asked.data
            begun, told = Moment(one.begun), None if one.told is None else Moment(one.told)
            process, asked = ProcessId(one.client), one.asked
            found.append(Operation(process, begun, told, asked.kind, asked.key, data, one.answer, fate))
        return found

    def _at(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, len(self._agenda) + self._rng.below(1 << 30), action))

    def _begin(self, client: int) -> None:
        if not self._left:
            return
        self._left -= 1
        asked = self.mixture.ask(self._rng, client, len(self.requests))
        self.requests.append(Request(client, asked, self._now))
        self._send(self.requests[-1])

    def _send(self, request: Request) -> None:
        rng = self._rng
        delay = rng.around(8 * SECOND) if rng.chance(0.04) else rng.around(10 * MILLISECOND)
        if not rng.chance(0.02):
            self._at(delay, lambda: self._arrive(request))
        self._at(_PATIENCE, lambda: self._give_up(request))

    def _arrive(self, request: Request) -> None:
        if any(begin <= self._now < end for begin, end, _ in self._outages):
            return
        if not request.carried_out:
            request.carried_out = True
            if request.asked.reads:
                request.answer = self.objects.query(request.asked.data)
            else:
                request.entry = self.objects.prepare(request.asked.data, self._cluster_time())
                request.answer = self._apply(request.entry)
        if not self._rng.chance(0.05):
            self._at(self._rng.around(10 * MILLISECOND), lambda: self._tell(request))

    def _tell(self, request: Request) -> None:
        if not request.over:
            request.over, request.told = True, self._now
            self.mixture.result(request.asked, request.answer)
            self._at(self._rng.around(_THINK), lambda: self._begin(request.client))

    def _give_up(self, request: Request) -> None:
        if request.over:
            return
        if request.client % 4 != 3 and not request.asked.reads:  # it has a session
            self._send(request)
            return
        request.over = True
        self._at(self._rng.around(_THINK), lambda: self._begin(request.client))

    def _cluster_time(self) -> int:
        """Return cluster time: in some outages it stood still for a while; it is never ahead of true time."""
        lost = sum(
            round((min(end, self._now) - begin) * share) for begin, end, share in self._outages if begin < self._now
        )
        return max(SECOND + self._now - lost, self.objects.latest_time())

    def _apply(self, entry: bytes) -> bytes:
        self._log.append(entry)
        answer = self.objects.apply(Index(len(self._log)), entry)
        if self._rng.chance(0.05):
            if self._held is None:
                self._held = len(self._log), self.objects.snapshot()
            else:
                place, chunks = self._held
                fresh = self.mixture.machine(development=False)
                fresh.restore(chunks)
                self.objects, self._held = self._replayed(fresh, place), None
        return answer

    def _replayed(self, objects: Objects, place: int) -> Objects:
        for index in range(place, len(self._log)):
            objects.apply(Index(index + 1), self._log[index])
        return objects


def played(recipes: Sequence[Recipe], seed: int, operations: int = 100) -> tuple[list[str], Counter[str]]:
    """Return what is wrong in the history of a seed, and how many operations of each kind were carried out."""
    log = PlainLog(recipes, seed, operations)
    wrong = log.run()
    done = (one.asked for one in log.requests if one.carried_out)
    return wrong, Counter(f"{asked.key!s} {asked.kind.removeprefix('read ')}" for asked in done)


def main() -> int:
    """Play seeds of the named recipes, each recipe alone, and print what they come to."""
    parser = argparse.ArgumentParser(prog="python -m tests.objects.plain_log", description=__doc__)
    parser.add_argument("recipes", nargs="*", help=f"which (default: all): {', '.join(RECIPES)}")
    parser.add_argument("--seeds", default="0:100", metavar="FIRST:END")
    parser.add_argument("--operations", type=int, default=100)
    chosen = parser.parse_args()
    first, end = map(int, chosen.seeds.split(":"))
    failed = 0
    for name in chosen.recipes or RECIPES:
        kinds, begin = Counter[str](), time.process_time()
        for seed in range(first, end):
            wrong, done = played([RECIPES[name]], seed, chosen.operations)
            kinds += done
            for text in wrong:
                failed += 1
                print(f"seed {seed}: {text}", flush=True)
        took = time.process_time() - begin
        print(f"{name}: seeds {first} to {end - 1}, {kinds.total()} operations, {took:.0f} s", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
