"""A state machine that raises now and then, as users' machines do.

`FailingStateMachine` surrounds a node's machine. Calls in which it does not raise pass unchanged, so the machine inside
never sees half a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final

from raft_core.ids import Index
from raft_core.state_machine import ApplyUnanswered, StateMachine, latest_time, preparer, unanswered

__all__ = ["TROUBLES", "FailingStateMachine"]

TROUBLES: Final = ("prepare", "apply", "query", "snapshot", "chunks", "restore", "no bytes", "no bytes from prepare")
"""The call in which it raises; in the last two it returns a value of the wrong type."""


@final
class FailingStateMachine:
    """The machine within, with `troubles` to come, each once. `struck` is called when one does."""

    def __init__(self, machine: StateMachine, troubles: list[str], struck: Callable[[str], None]) -> None:
        self._machine = machine
        self._prepare = preparer(machine)
        self._unanswered = unanswered(machine)
        self._troubles = troubles
        self._struck = struck

    def _strikes(self, trouble: str) -> bool:
        if trouble not in self._troubles:
            return False
        self._troubles.remove(trouble)
        self._struck(trouble)
        return True

    def _may_raise(self, trouble: str) -> None:
        if self._strikes(trouble):
            raise RuntimeError(f"this machine has trouble in {trouble}")

    def init(self) -> int:
        """Start the machine inside."""
        return self._machine.init()

    def latest_time(self) -> int:
        """Return the latest time known to the machine inside."""
        return latest_time(self._machine)

    def prepare(self, command: bytes, now: int) -> bytes:
        """Prepare without a wall time of its own."""
        return self.prepare_with_wall(command, now, now)

    def prepare_with_wall(self, command: bytes, now: int, wall: int) -> bytes:
        """Prepare the command, raise, or return a value that is not bytes."""
        self._may_raise("prepare")
        if self._strikes("no bytes from prepare"):
            return "text"  # type: ignore[return-value]
        return self._prepare(command, now, wall)

    def apply(self, index: Index, command: bytes) -> bytes:
        """Apply the command, or raise."""
        self._may_raise("apply")
        return self._machine.apply(index, command)

    @property
    def apply_unanswered(self) -> ApplyUnanswered | None:
        """The machine's shorter way, if it has one. It must not raise, so trouble in `apply` waits for `apply`."""
        return None if self._unanswered is None else self._apply_unanswered

    def _apply_unanswered(self, commands: Sequence[tuple[Index, bytes]]) -> int:
        assert self._unanswered is not None
        return 0 if "apply" in self._troubles else self._unanswered(commands)

    def query(self, request: bytes) -> bytes:
        """Answer, raise, or return a value that is not bytes."""
        self._may_raise("query")
        if self._strikes("no bytes"):
            return "text"  # type: ignore[return-value]
        return self._machine.query(request)

    def snapshot(self) -> Iterator[bytes]:
        """Return the chunks, raise at once, or raise between two chunks."""
        self._may_raise("snapshot")
        chunks = iter(self._machine.snapshot())
        return self._broken(chunks) if self._strikes("chunks") else chunks

    @staticmethod
    def _broken(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from (next(chunks, b""),)
        raise RuntimeError("this machine has trouble in the middle of a snapshot")

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Restore the machine inside, or raise."""
        self._may_raise("restore")
        self._machine.restore(chunks)
