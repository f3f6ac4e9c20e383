"""`LeaseTable`: processes with leases, the base of all tables whose places end with whoever holds them. Pure.

A process is one client with one lease. All that it holds or waits for hangs on that lease, so a thousand waiters cost
one renewal. Every command first ends the leases that are over, so no command sees a place of a dead client.
"""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from raft_objects.declare import Replicated, command
from raft_objects.errors import CommandError

__all__ = ["ClientLease", "LeaseEnded", "LeaseTable"]

_NEVER: Final = (1 << 63) - 1


class LeaseEnded(CommandError):
    """The client's lease has ended or never began: it holds nothing any more."""


@attrs.define
class ClientLease:
    """A process's lease: its length and its end, in nanoseconds of cluster time, and its places by name."""

    length: int
    ends: int
    places: dict[str, int] = attrs.field(factory=dict)


class LeaseTable(Replicated):
    """Clients and their leases. Commands raise before they change anything, so nothing has to be copied.

    `places` of a lease counts, for each name, what the client has there: so the end of a lease costs as much as the
    client had, not as much as the table holds.
    """

    undo = False
    classes: ClassVar[tuple[type, ...]] = (ClientLease,)

    def __init__(self) -> None:
        self.clients: dict[str, ClientLease] = {}
        self.next_end: int = _NEVER  # no lease ends before
        self.tokens: int = 0

    @command
    def open_client(self, client: str, lease_ns: int) -> None:
        """Begin a lease."""
        if lease_ns <= 0:
            raise ValueError("a lease lasts longer than nothing")
        self._end_leases()
        self._end_client(client)
        self._open(client, lease_ns)

    @command
    def renew(self, client: str) -> None:
        """Let the lease begin anew. Raise `LeaseEnded` if it has ended."""
        self._renew(client)

    @command
    def close_client(self, client: str) -> None:
        """End the lease now, with all its places."""
        self._end_leases()
        self._end_client(client)

    def _open(self, client: str, lease_ns: int) -> None:
        ends = self.now_ns + lease_ns
        self.clients[client] = ClientLease(lease_ns, ends)
        self.next_end = min(self.next_end, ends)

    def _renew(self, client: str) -> None:
        """End what is over, then let this lease begin anew. Raise `LeaseEnded` if it is among them."""
        self._end_leases()
        lease = self.clients.get(client)
        if lease is None:
            raise LeaseEnded(client)
        lease.ends = self.now_ns + lease.length

    def _end_leases(self) -> None:
        """End what is over: all places of these clients first, so that none of them is handed over to another."""
        if self.now_ns < self.next_end:
            return
        ended = [client for client, lease in self.clients.items() if lease.ends <= self.now_ns]
        gone = [(client, self.clients.pop(client)) for client in ended]
        self.next_end = min((lease.ends for lease in self.clients.values()), default=_NEVER)
        names = {name: None for _, lease in gone for name in lease.places}
        if names:
            self._clear(list(names), frozenset(ended))

    def _end_client(self, client: str) -> None:
        lease = self.clients.pop(client, None)
        if lease is not None and lease.places:
            self._clear(list(lease.places), frozenset({client}))

    def _clear(self, names: list[str], ended: frozenset[str]) -> None:
        """Remove the places that these clients, whose leases are gone, had under these names."""
        raise NotImplementedError

    def _occupy(self, client: str, name: str) -> None:
        """Count a place of the client."""
        places = self.clients[client].places
        places[name] = places.get(name, 0) + 1

    def _vacate(self, client: str, name: str) -> None:
        """Count a place less; nothing if the lease has ended."""
        lease = self.clients.get(client)
        if lease is None:
            return
        left = lease.places[name] - 1
        if left:
            lease.places[name] = left
        else:
            del lease.places[name]

    def _next_token(self) -> int:
        self.tokens += 1
        return self.tokens
