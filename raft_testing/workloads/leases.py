"""A machine that stamps time and grants leases, with a workload.

`LeaseMachine` holds leases by name. A command takes a free lease for its own number; the result is the number of the
holder. When a lease ends is decided by cluster time alone, which `prepare` stamps into each command, so wall clocks
that step must make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast, final

import msgspec

from raft_core.errors import CallerError
from raft_core.ids import NO_INDEX, Index
from raft_core.node.limits import SECOND
from raft_testing.linearizability.history import Datum
from raft_testing.linearizability.models import SequentialModel
from raft_testing.rng import Rng
from raft_testing.workloads.registers import Asked

__all__ = ["LEASE", "LeaseMachine", "LeaseModel", "LeaseWorkload"]

LEASE: Final = 2 * SECOND
"""How long a lease lasts, in nanoseconds of cluster time."""
_FREE: Final = (0, 0)


class LeaseMachine:
    """Leases by name, each with its holder's number and its end.

    A command is (time, name, number) in MessagePack; its result is (number, holder). A query is a name; its answer is
    (name, holder, end).
    """

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, int]] = {}

    def init(self) -> Index:
        """Start without leases."""
        return NO_INDEX

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the command with the time stamped into it."""
        _, name, number = msgspec.msgpack.decode(command, type=tuple[int, str, int])
        return _command(now, name, number)

    def apply(self, index: Index, command: bytes) -> bytes:
        """Take the lease if it is free."""
        now, name, number = msgspec.msgpack.decode(command, type=tuple[int, str, int])
        holder, end = self.held.get(name, _FREE)
        if now >= end:
            holder, end = number, now + LEASE
            self.held[name] = holder, end
        return msgspec.msgpack.encode((number, holder))

    def query(self, request: bytes) -> bytes:
        """Return who took the lease last, and until when."""
        name = request.decode()
        return msgspec.msgpack.encode((name, *self.held.get(name, _FREE)))

    def snapshot(self) -> Iterator[bytes]:
        """Return the leases held."""
        return iter([msgspec.msgpack.encode(sorted(self.held.items()))])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the leases held."""
        self.held = dict(msgspec.msgpack.decode(b"".join(chunks), type=list[tuple[str, tuple[int, int]]]))


@final
class LeaseModel:
    """The model of one lease. Its state is (holder, end); the argument of `take` is (time, number)."""

    def initial(self, key: Datum) -> Datum:
        """Return a free lease."""
        return _FREE

    def step(self, state: Datum, kind: str, argument: Datum) -> tuple[Datum, Datum]:
        """Return the next state and the result. Raise `CallerError` for an unknown request."""
        holder, end = cast("tuple[int, int]", state)
        if kind == "look":
            return state, state
        if kind == "take":
            now, number = cast("tuple[int, int]", argument)
            return (state, holder) if now < end else ((number, now + LEASE), number)
        raise CallerError(f"a lease knows take and look, not {kind}")

    def changed_nothing(self, kind: str, result: Datum) -> bool:
        """Return whether it was a look."""
        return kind == "look"


@final
class LeaseWorkload:
    """Clients that try to take one of a few leases, or look who holds it."""

    def __init__(self, names: int = 3) -> None:
        self._names = names

    @property
    def model(self) -> SequentialModel:
        """The model of one lease."""
        return LeaseModel()

    def ask(self, rng: Rng, client: int, number: int) -> Asked:
        """Return the next operation of a client."""
        name = f"l{rng.below(self._names)}"
        if rng.chance(0.25):
            return Asked("look", name, None, name.encode(), reads=True)
        return Asked("take", name, (0, number), _command(0, name, number))

    def as_logged(self, asked: Asked, command: bytes) -> Datum:
        """Return the argument with the time that was stamped into the command."""
        now, _, number = msgspec.msgpack.decode(command, type=tuple[int, str, int])
        return (now, number)

    def result(self, asked: Asked, answer: bytes) -> Datum:
        """Return who holds the lease. Raise `ValueError` where it is the answer to something else."""
        if asked.reads:
            name, holder, end = msgspec.msgpack.decode(answer, type=tuple[str, int, int])
            if name != asked.key:
                raise ValueError(f"asked about lease {asked.key!r}, answered about {name!r}")
            return (holder, end)
        number, holder = msgspec.msgpack.decode(answer, type=tuple[int, int])
        if not isinstance(asked.argument, tuple) or number != asked.argument[1]:
            raise ValueError(f"this is the result of command {number}, not of {asked.argument!r}")
        return holder


def _command(now: int, name: str, number: int) -> bytes:
    return msgspec.msgpack.encode((now, name, number))
