"""A machine whose keys expire in masses and whose results are huge, with a workload.

`ExpiringMachine` holds groups of items. A command fills a group with items that share one deadline, or counts those of
a group that are alive; both are stamped with cluster time, and the count comes with a result of up to a few hundred
KiB. Items that are dead are gone for every count at once, and are freed in portions of `PORTION` per command: the
machine raises where it frees more, so that work which is not bounded is a finding like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast, final

import msgspec

from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, Index
from raft_testing.linearizability.history import Datum
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = ["PORTION", "ExpiringGroup", "ExpiringMachine", "ExpiringWorkload"]

PORTION: Final = 16
"""So many dead items are freed with each command."""
_STAMP: Final = 8
_HUGE: Final = 300_000
"""Bytes of the largest result."""
_MILLISECOND: Final = 1_000_000


class ExpiringMachine:
    """Groups of items by name. A command is a stamp of 8 bytes, then (number, kind, group, argument) in MessagePack.

    `fill`: the group holds `argument[0]` new items that live for `argument[1]` ms. `count`: the result is how many are
    alive, and `argument[0]` bytes. A group's time is the latest stamp of its own commands.
    """

    def __init__(self) -> None:
        self._groups: dict[str, tuple[int, int, int]] = {}  # time, deadline, how many items
        self._dead: list[int] = []  # batches of dead items that are still held

    def init(self) -> Index:
        """Start empty."""
        return NO_INDEX

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the command with the time in its stamp."""
        return (now // _MILLISECOND).to_bytes(_STAMP, "big") + command[_STAMP:]

    def apply(self, index: Index, command: bytes) -> bytes:
        """Carry out the command and free some of the dead. Raise `ValueError` if it takes too long."""
        stamp = int.from_bytes(command[:_STAMP], "big")
        number, kind, group, argument = msgspec.msgpack.decode(command[_STAMP:], type=tuple[int, str, str, list[int]])
        time, deadline, items = self._groups.get(group, (0, 0, 0))
        time = max(time, stamp)
        if items and (deadline <= time or kind == "fill"):
            self._dead.append(items)
            items = 0
        if kind == "fill":
            items, deadline = argument[0], time + argument[1]
        self._groups[group] = (time, deadline, items)
        freed = self.free()
        if freed > PORTION:
            raise ValueError(f"{freed} items were freed in one go, at index {index}")
        filler = bytes(argument[0]) if kind == "count" else b""
        return msgspec.msgpack.encode((number, self.alive(group), filler))

    def alive(self, group: str) -> int:
        """How many items of the group are alive, by its own time."""
        return self._groups[group][2]

    def free(self) -> int:
        """Free some dead items; return how many."""
        freed = 0
        while self._dead and freed < PORTION:
            some = min(PORTION - freed, self._dead[0])
            freed += some
            self._dead[0] -= some
            if not self._dead[0]:
                del self._dead[0]
        return freed

    def query(self, request: bytes) -> bytes:
        """Refuse: the living keys depend on the time, which only the log knows."""
        return request

    def snapshot(self) -> Iterator[bytes]:
        """Return the groups and the dead."""
        return iter([msgspec.msgpack.encode((sorted(self._groups.items()), self._dead))])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the groups and the dead."""
        form = tuple[list[tuple[str, tuple[int, int, int]]], list[int]]
        groups, self._dead = msgspec.msgpack.decode(b"".join(chunks), type=form)
        self._groups = dict(groups)


@final
class ExpiringGroup:
    """The model of one group. Its state is (time, deadline, items); each argument ends in the stamp of its command."""

    def initial(self, key: Datum) -> Datum:
        """Return an empty group."""
        return (0, 0, 0)

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Return the next state and the result. Raise `CallerError` for an unknown request."""
        time, deadline, items = cast("tuple[int, int, int]", state)
        *given, stamp = cast("tuple[int, ...]", argument)
        time = max(time, stamp)
        if kind == "fill":
            return (time, time + given[1], given[0]), given[0]
        if kind == "count":
            items = items if time < deadline else 0
            return (time, deadline, items), items
        raise CallerError(f"a group knows fill and count, not {kind}")

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return False: each request may change the group."""
        return False


@final
class ExpiringWorkload:
    """Groups of up to a few hundred items that live for less than a second, and counts with huge results."""

    def __init__(self, groups: int = 3) -> None:
        self._groups = groups

    @property
    def model(self) -> SequentialModel:
        """The model of one group."""
        return ExpiringGroup()

    @property
    def result_bytes(self) -> int:
        """The size of the largest result."""
        return _HUGE

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client."""
        group = f"g{rng.below(self._groups)}"
        if rng.chance(0.4):
            given = (1 + rng.below(300), 1 + rng.below(800))
            return Asked("fill", group, (*given, 0), _command(number, "fill", group, given))
        size = rng.choice((0, 0, 10, 10, 1000, 1000, 20_000, _HUGE))
        return Asked("count", group, (size, 0), _command(number, "count", group, (size,)))

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        """Return the argument with the stamp of the command in the log."""
        assert isinstance(asked.argument, tuple)
        return (*asked.argument[:-1], int.from_bytes(command[:_STAMP], "big"))

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """How many items are alive. Raise `ValueError` where it is the answer to something else, or cut short."""
        number, alive, filler = msgspec.msgpack.decode(answer, type=tuple[int, int, bytes])
        asked_number, kind, _, argument = msgspec.msgpack.decode(
            asked.data[_STAMP:], type=tuple[int, str, str, list[int]]
        )
        if number != asked_number or len(filler) != (argument[0] if kind == "count" else 0):
            raise ValueError(f"the answer to command {number}, of {len(filler)} bytes, to {asked_number}")
        return alive


def _command(number: int, kind: str, group: str, argument: tuple[int, ...]) -> bytes:
    return bytes(_STAMP) + msgspec.msgpack.encode((number, kind, group, argument))
