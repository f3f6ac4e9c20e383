"""State machines: the class users derive from, with commands and results as bytes, and two optional protocols.

`preparer` and `latest_time` are the node's access to the optional ones. `TypedMachine` offers classes instead of bytes
(`typed_state_machine`), `Sessions` wraps any machine for exactly-once commands. A machine is called from one thread
at a time and needs no locks.

Unless `machine_blocks` is set, the node's loop itself calls `apply` and `query`, for a few milliseconds per turn. A
longer call blocks the whole node. If only a few calls are long, a machine may have one more method,

    def is_long(self, request: bytes) -> bool: ...

which returns True for a command (as returned by `prepare`) or a query of more than a few milliseconds, judged by its
bytes alone. Such a call runs in a thread, and later calls wait for it. The same holds for `snapshot`, if the copy that
it makes takes long, and a method of this name says so:

    def snapshot_is_long(self) -> bool: ...

After a restart, and on a follower, no client waits for results. A machine may have a shorter way for commands whose
results are not wanted, and for many of them at once:

    def apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int: ...

which applies the first ones, pairs of index and command, with the same effect as `apply`, and returns how many: as many
as it knows the shorter way for, but no more than fit into a few milliseconds, so none that `is_long` is true of. The
next one is applied by `apply`. It must not raise: what `apply` would raise for is not for it. None in its place, as in
a machine around another one, says that there is no shorter way.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias, runtime_checkable

from raft_core.errors import CallerError
from raft_core.ids import Index

__all__ = [
    "ApplyUnanswered",
    "KeepsTime",
    "PreparesWithWallTime",
    "StateMachine",
    "latest_time",
    "preparer",
    "require_machine",
    "unanswered",
]

ApplyUnanswered: TypeAlias = Callable[[Sequence[tuple[Index, bytes]]], int]
"""A machine's shorter way for the first of these commands, whose results are not wanted. Returns how many it took."""


@runtime_checkable
class StateMachine(Protocol):
    """A deterministic machine: the same commands at the same indexes give the same state and the same results.

    Derive from it and define `apply`, `query`, `snapshot` and `restore`; the other methods have defaults:

        class Counter(StateMachine):
            total = 0

            def apply(self, index: int, command: bytes) -> bytes:
                self.total += int(command)
                return b"%d" % self.total

            def query(self, request: bytes) -> bytes:
                return b"%d" % self.total

            def snapshot(self) -> Iterable[bytes]:
                return [b"%d" % self.total]

            def restore(self, chunks: Iterable[bytes]) -> None:
                self.total = int(b"".join(chunks))

    A class that is not derived from it may be used as well if it has all six methods.

    **An exception in `apply`, `restore` or `init` ends the node with `MachineBroken`**, now and after every restart.
    All nodes apply the same commands, so all of them end. Return an error as the result instead.
    """

    def init(self) -> int:
        """Return the index up to which this machine durably holds its state; 0, the default, for one in memory.

        An exception prevents the node's start. A durable machine must keep no change of an entry if `apply` raised.
        """
        return 0

    def prepare(self, command: bytes, now: int) -> bytes:
        """Return the command to write to the log; called on the leader. The default returns `command` unchanged.

        If the leader then refuses the command during a leadership transfer, `prepare` is called again for the next
        leader; at most one of the results enters the log.

        `now` is cluster time in nanoseconds, to be stamped into commands. It never runs back along
        the log, and goes on as real time does through changes of leader; no step of a wall clock moves it. It looks
        like nanoseconds since 1970, because it began with a wall clock, but use differences only: wall times in
        commands need `PreparesWithWallTime`. A machine which stamps time should implement `KeepsTime` too.

        An exception refuses this one command (`prepare_failed`); the node continues.
        """
        return command

    @abstractmethod
    def apply(self, index: Index, command: bytes) -> bytes:
        """Apply the committed command at `index` and return its result.

        Indexes rise, but not always by one: no-ops are skipped. Return a deterministic error for an invalid or unknown
        command.

        **An exception stops the node.** The entry is committed, so it is never skipped: every node ends at it, and ends
        there again after a restart, until `apply` is mended. Whoever waits is told `machine_failed`, with the error.
        See "A state machine that raises" in `docs/operations.md`.
        """
        ...

    def query(self, request: bytes) -> bytes:
        """Return the answer to a read-only query of the present state.

        An exception refuses this one query (`query_failed`); the node continues. The default knows no query and refuses
        them all.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} answers no queries: define its query()")

    @abstractmethod
    def snapshot(self) -> Iterable[bytes]:
        """Return at once the chunks of the state at this moment, as a list or an iterator of a copy.

        They are read in another thread, and commands are applied meanwhile.

        An exception, here or in the iterator, raises the alarm `snapshot_stuck`; the node tries again later.
        """
        ...

    @abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a snapshot's. The chunks may have other boundaries than when written.

        **An exception stops the node.** So it must read the snapshots of all older versions.
        """
        ...


@runtime_checkable
class KeepsTime(Protocol):
    """A machine which knows the latest time stamped into its commands. Optional.

    After a restart of a majority only the machines know the log's time. Without it, cluster time begins again with the
    leader's wall clock and may run back. `Sessions` implements this for any inner machine.
    """

    def latest_time(self) -> int:
        """Return the latest `now` in any command applied so far, snapshots included; 0 if there is none yet.

        It is called after every batch of commands, so it has to be quick.
        """
        ...


@runtime_checkable
class PreparesWithWallTime(Protocol):
    """A machine with wall times in its commands, such as "expire at noon". Optional."""

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Return the command to write to the log; called in place of `prepare`.

        `wall`: nanoseconds since 1970 by the leader's wall clock, which may be wrong, and may step at any time. Turn a
        wall time into cluster time at once, by `now + (named - wall)`, and let only cluster time enter the log.
        """
        ...


_METHODS: Final = ("init", "prepare", "apply", "query", "snapshot", "restore")


def require_machine(machine: object) -> None:
    """Raise `CallerError` if the object lacks a method of a state machine."""
    missing = [name for name in _METHODS if not callable(getattr(machine, name, None))]
    if missing:
        names = " and ".join(f"{name}()" for name in missing)
        raise CallerError(
            f"{type(machine).__name__} is no state machine: it lacks {names}. Derive it from StateMachine, which has"
            " defaults for init(), prepare() and query()"
        )


def preparer(machine: StateMachine) -> Callable[[bytes, int, int], bytes]:
    """Return the function to call with a command, cluster time and wall time."""
    if isinstance(machine, PreparesWithWallTime):
        return machine.prepare_with_wall
    prepare = machine.prepare
    return lambda command, now, wall: prepare(command, now)


def unanswered(machine: object) -> ApplyUnanswered | None:
    """Return the machine's shorter way for commands whose results are not wanted; None if it has none."""
    shorter: ApplyUnanswered | None = getattr(machine, "apply_unanswered", None)
    return shorter


def latest_time(machine: object) -> int:
    """Return the machine's latest time; 0 if it does not implement `KeepsTime`.

    Raise the machine's exceptions, and `TypeError` for an invalid time.
    """
    read = getattr(
        machine, "latest_time", None
    )  # isinstance of a protocol costs 20 µs, and this comes with every entry
    if read is None:
        return 0
    time = read()
    if not isinstance(time, int) or time < 0:
        raise TypeError(f"latest_time gives nanoseconds, not {time!r}")
    return time
