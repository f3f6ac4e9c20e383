"""State machines: what a committed log is for. Bytes in, bytes out; `TypedMachine` puts classes over that.

This module holds the protocol that users implement, two protocols that a machine may implement besides, and `preparer`
and `latest_time`, by which a host asks for them. `Sessions` (exactly-once) wraps any machine, in `sessions.py`. A
machine is driven from one place at a time and needs no locks.

Unless `machine_blocks` is set, the node's loop itself calls `apply` and `query`, a few milliseconds' worth per turn.
One call that takes longer holds up the whole node. A machine for which a few calls do may have one more method,

    def is_long(self, request: bytes) -> bool: ...

which says of a command (as `prepare` made it) or a query, by its bytes alone, that it takes more than a few
milliseconds: such a call happens in a thread, and those behind it wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from raft_core.ids import Index

__all__ = ["KeepsTime", "PreparesWithWallTime", "StateMachine", "latest_time", "preparer"]


@runtime_checkable
class StateMachine(Protocol):
    """A deterministic machine: the same commands at the same indexes give the same state and the same results.

    **An exception in `apply`, `restore` or `init` ends the node with `MachineBroken`**, now and after every restart.
    Every node applies the same commands, so it ends all of them. Give what you do not expect a result instead."""

    def init(self) -> Index:
        """The index up to which this machine durably holds its state already; 0 for one that lives in memory.
        An exception keeps the node from starting. A machine that holds its state durably must keep nothing of an entry
        for which `apply` raised."""
        ...

    def prepare(self, command: bytes, now: int) -> bytes:
        """The command as it shall enter the log; called on the leader. Most return `command` unchanged.
        Where the leader then refuses the command, because it hands over, `prepare` is called again for the next
        leader; at most one of the results enters the log.

        `now` is cluster time in nanoseconds, for machines that stamp time into their commands. It never runs back along
        the log, and goes on as real time does through changes of leader; no step of a wall clock moves it. It looks
        like nanoseconds since 1970, because it began with a wall clock, but count with differences only: what names a
        wall time needs `PreparesWithWallTime`. A machine that stamps should implement `KeepsTime` too.

        An exception refuses this one command (`prepare_failed`); the node lives on."""
        ...

    def apply(self, index: Index, command: bytes) -> bytes:
        """The result of the committed command at `index`. Indexes rise but not by one: no-ops are skipped. A command
        that makes no sense, or that this version does not know, has an error as its deterministic result.

        **An exception stops the node.** The entry is committed, so it is never skipped: every node ends at it, and ends
        there again after a restart, until `apply` is mended. Whoever waits is told `machine_failed`, with the error.
        See "A state machine that raises" in `docs/operations.md`."""
        ...

    def query(self, request: bytes) -> bytes:
        """The answer to a question that changes nothing, from the state as it is now. An exception refuses this one
        question (`query_failed`); the node lives on."""
        ...

    def snapshot(self) -> Iterator[bytes]:
        """Returns at once an iterator of chunks that shows this one moment, while applying goes on. An exception, here
        or in the iterator, is an alarm (`snapshot_stuck`); the node lives on and tries again later."""
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replaces the whole state by a snapshot's. The chunks may be cut elsewhere than they were written.

        **An exception stops the node.** It must therefore read every snapshot that an older version has written."""
        ...


@runtime_checkable
class KeepsTime(Protocol):
    """A machine that knows the latest time that was stamped into its commands. Optional.

    After a restart of a majority nothing but the machines tells where the log's time stands. Where a machine does not
    say it, cluster time begins anew with the leader's wall clock, and may then run back. `Sessions` says it for any
    machine within."""

    def latest_time(self) -> int:
        """Return the latest `now` in any command applied so far, snapshots included; 0 if there is none yet. It is
        called after every batch of commands, so it has to be quick."""
        ...


@runtime_checkable
class PreparesWithWallTime(Protocol):
    """A machine whose commands name wall times, such as "expire at noon". Optional."""

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Return the command as it shall enter the log; called in place of `prepare`.

        `wall`: nanoseconds since 1970 by the leader's wall clock, which may be wrong, and may step at any time. Turn a
        wall time into cluster time at once, by `now + (named - wall)`, and let only cluster time enter the log."""
        ...


def preparer(machine: StateMachine) -> Callable[[bytes, int, int], bytes]:
    """Return what a host calls with a command, cluster time and wall time."""
    if isinstance(machine, PreparesWithWallTime):
        return machine.prepare_with_wall
    prepare = machine.prepare
    return lambda command, now, wall: prepare(command, now)


def latest_time(machine: object) -> int:
    """Return what the machine says of time; 0 if it says nothing. Raises what the machine raises, and `TypeError` where
    that is no time."""
    if not isinstance(machine, KeepsTime):
        return 0
    time = machine.latest_time()
    if not isinstance(time, int) or time < 0:
        raise TypeError(f"latest_time gives nanoseconds, not {time!r}")
    return time
