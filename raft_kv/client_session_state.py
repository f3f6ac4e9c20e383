"""`SessionState`: what a client's session remembers, and the short way of its most frequent request through it.

A write of one command in one packet needs no queue, no batch and no effects: `short_write` takes it, `write_answered`
its reply. Both do what `client_session.Session` does, in fewer steps, and take nothing that is not as simple as that.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from raft_kv.client_session_values import SessionEffect, SessionLimits
from raft_kv.client_transaction import TransactionState
from raft_kv.client_users import ClientUser
from raft_kv.clients import Client, RequestBook
from raft_kv.commands import ONE_LINE
from raft_kv.features import FeatureGate
from raft_kv.open_requests import Open, Writing
from raft_kv.resp_parser import Request, RequestParser
from raft_kv.scripts import Scripts
from raft_kv.users.access import Access

__all__ = ["LONG", "SessionState"]

LONG: Final = (0, b"")
"""In place of an item of `ONE_LINE`, for other commands."""
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
    """The calls gathered last may share a log entry with other clients' calls."""

    def __attrs_post_init__(self) -> None:
        self.client = Client(self.number, self.scripts)
        self._parser = RequestParser(self.limits.requests)
        self._user = ClientUser(self.client, self.access)
        self._transactions = TransactionState(self.limits)

    @property
    def commands(self) -> int:
        """Return the number of requests received."""
        return self.client.commands

    def short_write(self, data: bytes) -> list[bytes] | None:
        """Take `data` if it is one short write and nothing waits before it: return the command to be shared.

        None: nothing was taken; `receive` takes it. This is what `receive` does, in fewer steps for the most frequent
        input.
        """
        if self._open is not None or self._queue or self._closed or len(data) > self.limits.shared_bytes:
            return None
        client = self.client
        if self._transactions.queued is not None or client.misplaced or self.access.on:
            return None
        call = self._parser.whole(data)
        if call is None:
            return None
        words, name = ONE_LINE.get(call[0], LONG)
        if len(call) != words:
            return None
        client.seen = self.clients.clock()
        client.commands += 1
        client.last_command = name
        self._open = _ONE_WRITE
        return call

    def write_answered(self) -> bool:
        """Close the open writes if nothing waits behind them: then their replies are all that has to be sent.

        False: nothing was done; `answered` takes the replies.
        """
        if type(self._open) is not Writing or self._queue or self._parser.more:
            return False
        self._open = None
        return True
