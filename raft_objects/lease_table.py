"""`LeaseTable`: processes with leases, the base of all tables whose places end with whoever holds them. Pure.

A process is one client with one lease. All that it holds or waits for hangs on that lease, so a thousand waiters cost
one renewal. Every command first ends the leases that are over, so no command sees a place of a dead client.
"""

from __future__ import annotations

from itertools import takewhile
from typing import ClassVar

import attrs

from raft_objects.declare import Replicated, command
from raft_objects.errors import CommandError
from raft_objects.shards import ShardedDict, ShardedSortedList

__all__ = ["ClientLease", "LeaseEnded", "LeaseTable"]


class LeaseEnded(CommandError):
    """The client's lease has ended or never began: it holds nothing any more."""


@attrs.frozen
class ClientLease:
    """A process's lease: its length and its end, in nanoseconds of cluster time."""

    length: int
    ends: int


class LeaseTable(Replicated):
    """Clients and their leases. Commands raise before they change anything, so nothing has to be copied."""

    undo = False
    checks_types = True
    errors: ClassVar[tuple[type[Exception], ...]] = (ArithmeticError,)
    classes: ClassVar[tuple[type, ...]] = (ClientLease,)

    def __init__(self) -> None:
        self.clients: ShardedDict[str, ClientLease] = ShardedDict()
        self.ends: ShardedSortedList[tuple[int, str]] = ShardedSortedList()  # when, client
        self.places: ShardedSortedList[tuple[str, str, str]] = ShardedSortedList()  # client, name, owner
        self.tokens: int = 0

    @command
    def open_client(self, client: str, lease_ns: int) -> None:
        """Begin a lease."""
        if lease_ns <= 0:
            raise ValueError("a lease lasts longer than nothing")
        self._end_leases()
        self._end_client(client)
        self._set_lease(client, lease_ns)

    @command
    def renew(self, client: str) -> None:
        """Let the lease begin anew. Raise `LeaseEnded` if it has ended."""
        self._renew(client)

    @command
    def close_client(self, client: str) -> None:
        """End the lease now, with all its places."""
        self._end_leases()
        self._end_client(client)

    def _set_lease(self, client: str, lease_ns: int) -> None:
        ends = self.now_ns + lease_ns
        self.clients[client] = ClientLease(lease_ns, ends)
        self.ends.add((ends, client))

    def _renew(self, client: str) -> None:
        """End what is over, then let this lease begin anew. Raise `LeaseEnded` if it is among them."""
        self._end_leases()
        lease = self.clients.get(client)
        if lease is None:
            raise LeaseEnded(client)
        self.ends.discard((lease.ends, client))
        self._set_lease(client, lease.length)

    def _end_leases(self) -> None:
        """End what is over: all places of these clients at once, so that none is handed over to another of them."""
        ended = []
        while (first := self.ends.first) is not None and first[0] <= self.now_ns:
            self.ends.pop_first()
            del self.clients[first[1]]
            ended.append(first[1])
        if ended:
            self._end_places(ended)

    def _end_client(self, client: str) -> None:
        lease = self.clients.pop(client, None)
        if lease is not None:
            self.ends.discard((lease.ends, client))
            self._end_places([client])

    def _end_places(self, clients: list[str]) -> None:
        ended: dict[str, list[str]] = {}
        for client in clients:
            for place in self._places_of(client):
                self.places.discard(place)
                ended.setdefault(place[1], []).append(place[2])
        for name, owners in ended.items():
            self._clear(name, owners)

    def _places_of(self, client: str) -> list[tuple[str, str, str]]:
        return list(takewhile(lambda place: place[0] == client, self.places.since((client, "", ""))))

    def _clear(self, name: str, owners: list[str]) -> None:
        """Remove these owners' places, whose leases have ended and which `places` lacks already."""
        raise NotImplementedError

    def _next_token(self) -> int:
        self.tokens += 1
        return self.tokens
