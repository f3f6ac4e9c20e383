"""A linearizability checker: it searches for an order of the operations that one copy of the object allows.

It is Wing and Gong's search with Lowe's memory of failed configurations, key by key (Herlihy and Wing: linearizability
is local).

Speed. The completed operations of a key are numbered by their return. A configuration is then four small things:
`front`, the first return whose operation has no place yet; the set of placed operations that return later, as bits of
the slots of concurrent operations (never more bits than clients); the number of used operations of each open kind; and
the object's state. None grows with the length of the history, so a long history of low concurrency takes time
proportional to its length.

Open operations (unknown outcome) may be placed anywhere after their call, or nowhere. Two open operations with the same
request and key differ only in their call, so the earlier is always used first, and one without effect is never used. Of
two configurations that differ only in operations used up, the one with fewer can do all that the other can; the other
is not followed. A history with many open operations whose effects add up, such as different increments, stays
exponential: `limit` bounds the work there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, TypeAlias, final

import attrs

from raft_testing.linearizability.history import Datum, Fate, Moment, Operation
from raft_testing.linearizability.models import SequentialModel
from raft_testing.linearizability.timeline import draw_timeline

__all__ = ["Decision", "Stuck", "Verdict", "check"]


class Decision(Enum):
    """What the checker found."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "not linearizable"
    UNDECIDED = "undecided"


@final
@attrs.frozen
class Stuck:
    """The reason why one key's history has no order.

    After the longest prefix that has an order, `blocked` must come next, because it returned first, and no candidate
    leads on. `expected` is the object's answer to it in `state`.
    """

    key: Datum
    operations: tuple[Operation, ...]
    prefix: tuple[Operation, ...]
    blocked: Operation
    state: Datum
    expected: Datum

    def picture(self) -> str:
        """Return the neighbourhood of the failure: one line per client, time from left to right."""
        return draw_timeline(self.key, self.operations, self.prefix, self.blocked, self.state, self.expected)


@final
@attrs.frozen
class Verdict:
    """The decision on a whole history: violated as soon as one key is, with the reason for each such key."""

    decision: Decision
    operations: int
    keys: int
    configurations: int
    failures: tuple[Stuck, ...] = ()

    @property
    def linearizable(self) -> bool:
        """True if the history is linearizable."""
        return self.decision is Decision.LINEARIZABLE

    def __str__(self) -> str:
        """Return one line, followed by a picture of every refuted key."""
        line = f"{self.decision.value}: {self.operations} operations on {self.keys} keys"
        return "\n\n".join([line, *[failure.picture() for failure in self.failures]])


def check(history: Iterable[Operation], model: SequentialModel, *, limit: int | None = None) -> Verdict:
    """Return the verdict on a history, each key judged by itself.

    The keys take turns with growing budgets. The first turn with a refuted key is the last; `failures` names the keys
    refuted in it. `limit` bounds the configurations examined per key. Beyond it a key is undecided, which never counts
    as linearizable. Refused operations are left out: an effect of one has no explanation.
    """
    keys: dict[Datum, list[Operation]] = {}
    for operation in history:
        if operation.fate is not Fate.REFUSED:
            keys.setdefault(operation.key, []).append(operation)
    searches = [_Search(key, operations, model) for key, operations in keys.items()]
    failures: list[Stuck] = []
    undecided, budget = list(searches), _FIRST_BUDGET
    while undecided and not failures:
        if limit is not None:
            budget = min(budget, limit)
        decisions = [(search, search.run(budget)) for search in undecided]
        failures = [search.stuck() for search, decision in decisions if decision is Decision.VIOLATED]
        undecided = [search for search, decision in decisions if decision is Decision.UNDECIDED]
        if budget == limit:
            break
        budget *= 8
    decision = Decision.UNDECIDED if undecided else Decision.LINEARIZABLE
    if failures:
        decision = Decision.VIOLATED
    looked_at = sum([search.configurations for search in searches])
    return Verdict(decision, sum(map(len, keys.values())), len(keys), looked_at, tuple(failures))


_FIRST_BUDGET: Final = 10_000
"""Configurations looked at per key before the next key's turn: one key that is easily refuted decides a history
of which another key would keep the search busy for minutes."""

_Path: TypeAlias = "tuple[Operation, _Path] | None"
_Used: TypeAlias = tuple[int, ...]


@final
class _Configuration:
    """A point of the search: the operations placed, the state of the object after them, and the way there."""

    __slots__ = ("front", "path", "placed", "state", "used")

    def __init__(self, front: int, placed: int, used: _Used, state: Datum, path: _Path) -> None:
        self.front = front  # all operations that returned before this one are placed; it is not
        self.placed = placed  # slots of operations that return later and are placed already
        self.used = used  # per group of equal open operations, how many are placed
        self.state = state
        self.path = path  # the last placed operation, and the path before it


_EXHAUSTED: Final = _Configuration(-1, 0, (), None, None)
"""What an iterator of moves is over with."""


@final
class _Search:
    """The search for one order of one key's operations."""

    def __init__(self, key: Datum, operations: list[Operation], model: SequentialModel) -> None:
        self.configurations = 0
        self._key = key
        self._operations = operations
        self._model = model
        closed = [operation for operation in operations if operation.returned_at is not None]
        self._closed = sorted(closed, key=_returned)
        self._groups = _open_groups(operations)
        self._slots: list[int] = [0] * len(self._closed)
        self._candidates: list[tuple[int, ...]] = []
        self._available: list[_Used] = []
        self._sweep()
        start = _Configuration(0, 0, self._none_used(), model.initial(key), None)
        self._best = start
        self._stack = [self._moves(start)] if self._closed else []
        self._dead_ends: dict[tuple[int, int, Datum], list[_Used]] = {}

    def _sweep(self) -> None:
        """Fill in, for each return, the operations in progress, each in a slot of its own.

        And the number of open operations of each group called before it.
        """
        calls = sorted(range(len(self._closed)), key=lambda number: self._closed[number].invoked_at)
        free: list[int] = []
        under_way: list[int] = []
        available = self._none_used()
        next_call, slots = 0, 0
        for number, operation in enumerate(self._closed):
            returned = _returned(operation)
            while next_call < len(calls) and self._closed[calls[next_call]].invoked_at <= returned:
                if not free:
                    free.append(slots)
                    slots += 1
                self._slots[calls[next_call]] = free.pop()
                under_way.append(calls[next_call])
                next_call += 1
            under_way.sort()
            self._candidates.append(tuple(under_way))
            available = self._count_calls(available, returned)
            self._available.append(available)
            under_way.remove(number)
            free.append(self._slots[number])

    def _none_used(self) -> _Used:
        return (0,) * len(self._groups)

    def _count_calls(self, before: _Used, until: Moment) -> _Used:
        counts = list(before)
        for place, group in enumerate(self._groups):
            while counts[place] < len(group) and group[counts[place]].invoked_at <= until:
                counts[place] += 1
        after = tuple(counts)
        return before if after == before else after

    def run(self, budget: int) -> Decision:
        """Search depth first: the operation with the earliest return first, open operations last.

        Return undecided once `budget` configurations have been examined in all; a later call continues from there.
        """
        if not self._closed:
            return Decision.LINEARIZABLE
        stack = self._stack
        while stack:
            if self.configurations >= budget:
                return Decision.UNDECIDED
            following = next(stack[-1], _EXHAUSTED)
            if following is _EXHAUSTED:
                stack.pop()
                continue
            if following is None:
                continue
            if following.front == len(self._closed):
                return Decision.LINEARIZABLE
            if self._leads_nowhere(following):
                continue
            self.configurations += 1
            if _reach(following) > _reach(self._best):
                self._best = following
            stack.append(self._moves(following))
        return Decision.VIOLATED

    def stuck(self) -> Stuck:
        """Return the longest prefix with an order, and the operation unable to follow it."""
        best = self._best
        prefix: list[Operation] = []
        path = best.path
        while path is not None:
            operation, path = path
            prefix.append(operation)
        blocked = self._closed[best.front]
        _, expected = self._model.step(best.state, blocked.kind, blocked.argument)
        return Stuck(self._key, tuple(self._operations), tuple(reversed(prefix)), blocked, best.state, expected)

    def _moves(self, at: _Configuration) -> Iterator[_Configuration | None]:
        """Yield the next placements: one completed operation, after as few open ones as possible. None: searching.

        Between two completed operations only the state after the open ones matters. An order that uses more open
        operations than another to reach the same state is not followed.
        """
        moves = self._completed_moves(at, at.state, at.used, at.path)
        yield from moves
        if len(moves) == 1 and self._is_harmless(moves[0]):
            return  # it fits, and changes nothing wherever it stands: it may as well stand here
        seen: dict[Datum, list[_Used]] = {at.state: [at.used]}
        reached: list[tuple[Datum, _Used, _Path]] = [(at.state, at.used, at.path)]
        for state, used, path in reached:  # grows while it is read: breadth first
            for place, group in enumerate(self._groups):
                count = used[place]
                if count == self._available[at.front][place]:
                    continue
                self.configurations += 1
                after, _ = self._model.step(state, group[count].kind, group[count].argument)
                more = (*used[:place], count + 1, *used[place + 1 :])
                if after != state and not _remember(seen.setdefault(after, []), more):
                    reached.append((after, more, (group[count], path)))
                    yield from self._completed_moves(at, after, more, (group[count], path))
                yield None

    def _completed_moves(self, at: _Configuration, state: Datum, used: _Used, path: _Path) -> list[_Configuration]:
        moves: list[_Configuration] = []
        for number in self._candidates[at.front]:
            if at.placed >> self._slots[number] & 1:
                continue
            operation = self._closed[number]
            after, result = self._model.step(state, operation.kind, operation.argument)
            if operation.fate is Fate.ANSWERED and result != operation.result:
                continue
            front, placed = self._advance(at, number)
            move = _Configuration(front, placed, used, after, (operation, path))
            if self._is_harmless(move):
                return [move]
            moves.append(move)
        return moves

    def _is_harmless(self, move: _Configuration) -> bool:
        assert move.path is not None  # a move has placed something
        operation = move.path[0]
        return operation.fate is Fate.ANSWERED and self._model.changed_nothing(operation.kind, operation.result)

    def _advance(self, at: _Configuration, number: int) -> tuple[int, int]:
        """Where the front stands, and which later operations are placed, once this one is."""
        if number != at.front:
            return at.front, at.placed | 1 << self._slots[number]
        front, placed = at.front + 1, at.placed
        while placed and front < len(self._closed) and placed >> self._slots[front] & 1:
            placed ^= 1 << self._slots[front]
            front += 1
        return front, placed

    def _leads_nowhere(self, at: _Configuration) -> bool:
        """Return whether this was visited with no more used up than here. Otherwise remember it."""
        return _remember(self._dead_ends.setdefault((at.front, at.placed, at.state), []), at.used)


def _remember(known: list[_Used], used: _Used) -> bool:
    """Return whether an equal state with no more used operations was known; if not, remember `used`."""
    for other in known:
        if all(map(int.__le__, other, used)):
            return True
    known.append(used)
    return False


def _returned(operation: Operation) -> Moment:
    assert operation.returned_at is not None  # only completed operations are asked
    return operation.returned_at


def _reach(at: _Configuration) -> tuple[int, int]:
    return at.front, at.placed.bit_count()


def _open_groups(operations: list[Operation]) -> list[list[Operation]]:
    """Return open operations in groups with the same request, each in the order of its calls."""
    groups: dict[tuple[str, Datum], list[Operation]] = {}
    for operation in sorted(operations, key=lambda one: one.invoked_at):
        if operation.returned_at is None:
            groups.setdefault((operation.kind, operation.argument), []).append(operation)
    return list(groups.values())
