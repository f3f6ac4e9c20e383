"""`LockTable`: named locks with leases, fair, each owner with a higher token. Pure; `locks` does the waiting.

A process is one client with one lease. All its locks, held or waited for, end with the lease, so a thousand waiters
cost one renewal. Every command first ends the leases that are over, so no command sees a lock of a dead client. A lock
that becomes free goes to the first who waits, within the same command.
"""

from __future__ import annotations

import attrs

from raft_objects.declare import Replicated, command, query
from raft_objects.errors import CommandError

__all__ = ["ClientLease", "LeaseEnded", "LockState", "LockTable"]


class LeaseEnded(CommandError):
    """The client's lease has ended or never began: it holds nothing any more."""


@attrs.define
class ClientLease:
    """A process's lease: its length and its end, in nanoseconds of cluster time."""

    length: int
    ends: int


@attrs.define
class LockState:
    """One lock that is held: by which owner of which client, with which token, and who waits."""

    client: str
    owner: str
    token: int
    waiting: list[tuple[str, str]]


class LockTable(Replicated):
    """Locks by name. Commands raise before they change anything, so nothing has to be copied."""

    undo = False
    classes = (ClientLease, LockState)

    def __init__(self) -> None:
        self.clients: dict[str, ClientLease] = {}
        self.locks: dict[str, LockState] = {}
        self.tokens: int = 0

    @command
    def open_client(self, client: str, lease_ns: int) -> None:
        """Begin a lease."""
        if lease_ns <= 0:
            raise ValueError("a lease lasts longer than nothing")
        self._end_leases()
        self.clients[client] = ClientLease(lease_ns, self.now_ns + lease_ns)

    @command
    def renew(self, client: str) -> None:
        """Let the lease begin anew. Raise `LeaseEnded` if it has ended."""
        self._end_leases()
        self._renew(client)

    @command
    def close_client(self, client: str) -> None:
        """End the lease now, with all its locks."""
        self.clients.pop(client, None)
        self._end_leases(client)

    @command
    def acquire(self, name: str, client: str, owner: str, wait: bool) -> int:
        """Return the token if `owner` holds the lock now; else 0, and if `wait` the owner stands in line.

        It is asked again to confirm a notice; an owner keeps its place, or its token. Renew the lease, too.
        """
        return self._acquire(name, client, owner, wait=wait)

    def _acquire(self, name: str, client: str, owner: str, *, wait: bool) -> int:
        self._end_leases()
        self._renew(client)
        state = self.locks.get(name)
        if state is None:
            self.locks[name] = state = LockState(client, owner, self._next_token(), [])
        if (state.client, state.owner) == (client, owner):
            return state.token
        if wait and (client, owner) not in state.waiting:
            state.waiting.append((client, owner))
        return 0

    @command
    def release(self, name: str, owner: str) -> bool:
        """Give the lock up, or the place in line. Return whether the lock was held."""
        self._end_leases()
        state = self.locks.get(name)
        if state is None:
            return False
        state.waiting = [one for one in state.waiting if one[1] != owner]
        if state.owner != owner:
            return False
        self._pass_on(name, state)
        return True

    @query
    def token(self, name: str) -> int:
        """Return the token of the present owner; 0 if the lock is free. Its lease may be over."""
        state = self.locks.get(name)
        return 0 if state is None else state.token

    def _next_token(self) -> int:
        self.tokens += 1
        return self.tokens

    def _renew(self, client: str) -> None:
        lease = self.clients.get(client)
        if lease is None:
            raise LeaseEnded(client)
        lease.ends = self.now_ns + lease.length

    def _end_leases(self, also: str = "") -> None:
        """End what is over: first all places of these clients, then hand over what they held."""
        ended = {name for name, lease in self.clients.items() if lease.ends <= self.now_ns}
        for client in ended:
            del self.clients[client]
        if also:
            ended.add(also)
        if not ended:
            return
        for state in self.locks.values():
            state.waiting = [one for one in state.waiting if one[0] not in ended]
        for name, state in [(name, state) for name, state in self.locks.items() if state.client in ended]:
            self._pass_on(name, state)

    def _pass_on(self, name: str, state: LockState) -> None:
        if not state.waiting:
            del self.locks[name]
            return
        state.client, state.owner = state.waiting.pop(0)
        state.token = self._next_token()
        self.notify(state.owner)
