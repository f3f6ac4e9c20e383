"""`SessionState`: what a client's session remembers, and the short way of its most frequent requests through it.

A short command alone in one packet, or a pipeline of such, needs no queue, no batch and no effects: `short_calls` takes
it, `short_answered` its replies. Both do what `client_session.Session` does, in fewer steps, and take nothing that is
not as simple as that.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from raft_kv.client_session_values import SessionEffect, SessionLimits
from raft_kv.client_transaction import TransactionState
from raft_kv.client_users import ClientUser
from raft_kv.clients import Client, RequestBook
from raft_kv.commands import ONE_LINE, SHORT_READS, ShortCall
from raft_kv.features import FeatureGate
from raft_kv.open_requests import Open, SharedReading, Writing
from raft_kv.resp_parser import Request, RequestParser
from raft_kv.scripts import Scripts
from raft_kv.users.access import Access

__all__ = ["APART", "SessionState"]

APART: Final = 15
"""So many reads a client makes by itself after one that could not be answered together with those of others."""
_SHORT: Final[dict[bytes, ShortCall]] = ONE_LINE | SHORT_READS
_ONE_WRITE: Final = Writing(1)


@attrs.define(eq=False)
class SessionState:
    """A client's state between two of its commands. `number` names it to people."""

    number: int
    limits: SessionLimits = attrs.field(factory=SessionLimits)
    scripts: Scripts = attrs.field(factory=Scripts)
    """Scripts loaded by clients of this node."""
    clients: RequestBook = attrs.field(factory=RequestBook)
    """All clients of this node."""
    access: Access = attrs.field(factory=Access)
    """The users of this node."""
    gate: FeatureGate = attrs.field(factory=FeatureGate)
    client: Client = attrs.field(init=False)
    _parser: RequestParser = attrs.field(init=False)
    _queue: deque[Request] = attrs.field(factory=deque, init=False)
    _queued_bytes: int = attrs.field(default=0, init=False)
    """Upper bound on the bytes of the requests in the queue."""
    _open: Open | None = attrs.field(default=None, init=False)
    _transactions: TransactionState = attrs.field(init=False)
    _said: list[SessionEffect] = attrs.field(factory=list, init=False)
    """Effects to be returned before `_replies`."""
    _replies: list[bytes] = attrs.field(factory=list, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _user: ClientUser = attrs.field(init=False)
    _checks: bool = attrs.field(default=False, init=False)
    """There are users, so rights are checked."""
    _one_line: bool = attrs.field(default=False, init=False)
    """The calls gathered last may share a log entry, or a query, with other clients' calls."""
    _worked: int = attrs.field(default=0, init=False)
    """Cost of the last command, besides the usual one and that of its reply."""
    _apart: int = attrs.field(default=0, init=False)
    """So many of the next reads are not shared."""

    def __attrs_post_init__(self) -> None:
        self.client = Client(self.number, self.scripts)
        self._parser = RequestParser(self.limits.requests)
        self._user = ClientUser(self.client, self.access)
        self._transactions = TransactionState(self.limits)

    @property
    def commands(self) -> int:
        """Return the number of requests received."""
        return self.client.commands

    def short_calls(self, data: bytes) -> tuple[list[list[bytes]], int] | None:
        """Take `data` if it is one short command, or a pipeline of the same one, and nothing waits before it.

        Return the commands to be shared, and for reads the client's protocol, for writes 0. None: nothing was taken;
        `receive` takes it. This is what `receive` does, in fewer steps for the most frequent input.
        """
        if self._open is not None or self._queue or self._closed or len(data) > self.limits.shared_bytes:
            return None
        client = self.client
        if self._transactions.queued is not None or client.misplaced or self.access.on:
            return None
        calls = self._parser.alike(data, self.limits.batch_calls)
        if calls is None:
            return None
        known = _SHORT.get(calls[0][0])
        if known is None or len(calls[0]) != known.words or (known.reads and self._apart):
            return None
        client.seen = self.clients.clock()
        client.commands += len(calls)
        client.last_command = known.name
        if known.reads:
            self._open = SharedReading(calls)
            return calls, client.protocol
        self._open = _ONE_WRITE if len(calls) == 1 else Writing(len(calls))
        return calls, 0

    def short_answered(self) -> bool:
        """Close the open shared request if nothing waits behind it: then its replies are all that has to be sent.

        False: nothing was done; `answered` takes the replies.
        """
        kind = type(self._open)
        if (kind is not Writing and kind is not SharedReading) or self._queue or self._parser.more:
            return False
        self._open = None
        return True
