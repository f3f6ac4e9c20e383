"""State machines: what a committed log is for. Bytes in, bytes out; `TypedMachine` puts classes over that.

What lives here: the protocol that users implement. `Sessions` (exactly-once) wraps any of them, in `sessions.py`.
A machine is driven from one place at a time and needs no locks.

Unless `machine_blocks` is set, the node's loop itself calls `apply` and `query`, a few milliseconds' worth per turn.
One call that takes longer holds up the whole node. A machine for which a few calls do may have one more method,

    def is_long(self, request: bytes) -> bool: ...

which says of a command (as `prepare` made it) or a query, by its bytes alone, that it takes more than a few
milliseconds: such a call happens in a thread, and those behind it wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from raft_core.ids import Index

__all__ = ["StateMachine"]


@runtime_checkable
class StateMachine(Protocol):
    """A deterministic machine: the same commands at the same indexes give the same state and the same results."""

    def init(self) -> Index:
        """The index up to which this machine durably holds its state already; 0 for one that lives in memory."""
        ...

    def prepare(self, command: bytes, now: int) -> bytes:
        """The command as it shall enter the log; called once, on the leader. `now`: nanoseconds since 1970, the
        leader's clock, for machines that stamp time into their commands. Most return `command` unchanged."""
        ...

    def apply(self, index: Index, command: bytes) -> bytes:
        """The result of the committed command at `index`. Indexes rise but not by one: no-ops are skipped. A command
        that makes no sense has an error as its deterministic result; an exception stops the node."""
        ...

    def query(self, request: bytes) -> bytes:
        """The answer to a question that changes nothing, from the state as it is now."""
        ...

    def snapshot(self) -> Iterator[bytes]:
        """Returns at once an iterator of chunks that shows this one moment, while applying goes on."""
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replaces the whole state by a snapshot's. The chunks may be cut elsewhere than they were written."""
        ...
