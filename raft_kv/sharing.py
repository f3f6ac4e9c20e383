"""`Sharing`: short commands of many clients, which arrive in one pass of the loop, as one request to the node.

A request costs more than the `SET` or the `GET` in it: at the node, and for a log entry also in the log, on the wire
and on each replica. So what a pipeline of one client has always been, one request with many commands, the commands of
many clients become here. Nothing waits for others: what is there at the end of a pass goes out together.

If the node refuses the request, or its outcome is unknown, that is the outcome of each command in it. What a request
is, and how its answer is told apart, is in `shared_entries` for writes and in `shared_reads` for reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, final

from raft_core import requests
from raft_core.effects import Success
from raft_core.errors import Refused
from raft_core.node.events import Answered

__all__ = ["MOST_CALLS", "SHARED_BYTES", "SharedRequest", "Sharer", "Sharing"]

SHARED_BYTES: Final = 48 * 1024
"""Bytes of the commands in one request. A longer one would be carried out in a thread (`KeyValueMachine.is_long`)."""
MOST_CALLS: Final = 512
"""Commands in one request."""


class Sharer(Protocol):
    """A client's connection whose commands are in a shared request."""

    def share_answered(self, replies: bytes) -> None:
        """Take the replies to its commands."""
        ...

    def share_declined(self) -> None:
        """Make a request of its own: its reads were not answered, since they are not as short as they looked."""
        ...

    def share_failed(self, outcome: Answered | Refused) -> None:
        """Take note that the request was not carried out, or that its outcome is unknown."""
        ...

    def share_damaged(self) -> None:
        """Take note that the replies cannot be told apart, which is a defect."""
        ...


class SharedRequest(ABC):
    """One request, while it is filled; then it is the ticket of itself at the node.

    `deliver` is called with it and its outcome.
    """

    __slots__ = ("_deliver", "_done", "calls", "sharers", "size")

    def __init__(self, deliver: Callable[[SharedRequest, Answered], None]) -> None:
        self._deliver: Final = deliver
        self.calls: Final[list[list[bytes]]] = []
        self.sharers: Final[list[tuple[Sharer, int]]] = []  # each with the number of its commands
        self.size = 0
        self._done = False

    @abstractmethod
    def request(self) -> requests.Propose | requests.Read:
        """Return the request to the node."""

    @abstractmethod
    def give(self, data: bytes) -> None:
        """Give all clients their part of the answer."""

    def deliver(self, outcome: Answered) -> None:
        """Take the outcome from the node. Only the first one counts."""
        if not self._done:
            self._done = True
            self._deliver(self, outcome)

    def settle(self, outcome: Answered) -> None:
        """Give all clients their part of the outcome."""
        if type(outcome) is Success:
            self.give(outcome.results[0] if outcome.results else b"")
        else:
            self.fail(outcome)

    def fail(self, outcome: Answered | Refused) -> None:
        """Give all clients this failure."""
        for sharer, _ in self.sharers:
            sharer.share_failed(outcome)

    def damaged(self) -> None:
        """Tell all clients that their replies cannot be told apart."""
        for sharer, _ in self.sharers:
            sharer.share_damaged()


@final
class Sharing:
    """The request that is being filled. `make` makes an empty one; `submit` submits it or returns why it is refused."""

    __slots__ = ("_make", "_request", "_submit")

    def __init__(self, make: Callable[[], SharedRequest], submit: Callable[[SharedRequest], Refused | None]) -> None:
        self._make: Final = make
        self._submit: Final = submit
        self._request: SharedRequest | None = None

    def add(self, sharer: Sharer, calls: list[list[bytes]], size: int) -> bool:
        """Add the commands of a client, `size` bytes at most. Return whether a request was begun, to be flushed."""
        request = self._request
        if request is not None and (request.size + size > SHARED_BYTES or len(request.calls) + len(calls) > MOST_CALLS):
            self.flush()
            request = None
        begins = request is None
        if request is None:
            request = self._request = self._make()
        request.calls.extend(calls)
        request.sharers.append((sharer, len(calls)))
        request.size += size
        return begins

    def flush(self) -> None:
        """Submit what was added."""
        request, self._request = self._request, None
        if request is not None:
            refused = self._submit(request)
            if refused is not None:
                request.fail(refused)
