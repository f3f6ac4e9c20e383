"""`SharedEntries`: the short writes of many clients, which arrive in one pass of the loop, as one log entry.

A log entry costs more than the `SET` in it: at the node, in the log, on the wire, on each replica. So what a pipeline
of one client has always been, one entry with many commands, the writes of many clients become here. Each command still
succeeds or fails on its own. Nothing waits for others: what is there at the end of a pass goes out together.

Only commands whose reply is one line take part (`ONE_LINE`), so an entry's replies are told apart at their line breaks,
and no client's long reply or long work takes room from another's. If the node refuses the entry, or its outcome is
unknown, that is the outcome of each command in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

from raft_core.effects import Success
from raft_core.errors import Refused
from raft_core.node.events import Answered
from raft_kv import log_format as entries
from raft_kv.log_format import Calls

__all__ = ["SHARED_BYTES", "SharedEntries", "SharedEntry", "Sharer"]

SHARED_BYTES: Final = 48 * 1024
"""Bytes of the commands in one entry. A longer one would be carried out in a thread (`KeyValueMachine.is_long`)."""
_MOST_CALLS: Final = 512
_OK: Final = b"+OK\r\n"
_LINE_BREAK: Final = b"\r\n"


class Sharer(Protocol):
    """A client's connection whose commands are in a shared entry."""

    def share_answered(self, replies: bytes) -> None:
        """Take the replies to its commands."""
        ...

    def share_failed(self, outcome: Answered | Refused) -> None:
        """Take note that the entry was not carried out, or that its outcome is unknown."""
        ...

    def share_damaged(self) -> None:
        """Take note that the replies cannot be told apart, which is a defect."""
        ...


@final
class SharedEntry:
    """One entry, while it is filled; then it is the ticket of its request at the node."""

    __slots__ = ("_deliver", "_done", "calls", "sharers", "size")

    def __init__(self, deliver: Callable[[SharedEntry, Answered], None]) -> None:
        self._deliver: Final = deliver
        self.calls: Final[list[list[bytes]]] = []
        self.sharers: Final[list[tuple[Sharer, int]]] = []  # each with the number of its commands
        self.size = 0
        self._done = False

    def encoded(self) -> bytes:
        """Return the entry, not yet stamped. One-line replies are the same bytes in RESP2 and RESP3."""
        return entries.encode_entry(Calls(2, self.calls))

    def deliver(self, outcome: Answered) -> None:
        """Take the outcome from the node. Only the first one counts."""
        if not self._done:
            self._done = True
            self._deliver(self, outcome)

    def settle(self, outcome: Answered) -> None:
        """Give all clients their part of the outcome."""
        if type(outcome) is not Success:
            self.fail(outcome)
            return
        data = outcome.results[0] if outcome.results else b""
        if data == _OK * len(self.calls):
            for sharer, count in self.sharers:
                sharer.share_answered(_OK if count == 1 else _OK * count)
            return
        lines = data.split(_LINE_BREAK)
        if lines.pop() or len(lines) != len(self.calls):
            for sharer, _ in self.sharers:
                sharer.share_damaged()
            return
        place = 0
        for sharer, count in self.sharers:
            sharer.share_answered(_LINE_BREAK.join(lines[place : place + count]) + _LINE_BREAK)
            place += count

    def fail(self, outcome: Answered | Refused) -> None:
        """Give all clients this failure."""
        for sharer, _ in self.sharers:
            sharer.share_failed(outcome)


@final
class SharedEntries:
    """The entry that is being filled.

    `submit` makes the request, or returns why the node refuses it. `deliver` is called with an entry's outcome.
    """

    __slots__ = ("_deliver", "_entry", "_submit")

    def __init__(
        self, submit: Callable[[SharedEntry], Refused | None], deliver: Callable[[SharedEntry, Answered], None]
    ) -> None:
        self._submit: Final = submit
        self._deliver: Final = deliver
        self._entry: SharedEntry | None = None

    def add(self, sharer: Sharer, calls: list[list[bytes]], size: int) -> bool:
        """Add the commands of a client, `size` bytes at most. Return whether an entry was begun, to be flushed."""
        entry = self._entry
        if entry is not None and (entry.size + size > SHARED_BYTES or len(entry.calls) + len(calls) > _MOST_CALLS):
            self.flush()
            entry = None
        begins = entry is None
        if entry is None:
            entry = self._entry = SharedEntry(self._deliver)
        entry.calls.extend(calls)
        entry.sharers.append((sharer, len(calls)))
        entry.size += size
        return begins

    def flush(self) -> None:
        """Submit what was added."""
        entry, self._entry = self._entry, None
        if entry is not None:
            refused = self._submit(entry)
            if refused is not None:
                entry.fail(refused)
