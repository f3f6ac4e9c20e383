"""`LockTable`: locks, semaphores and read-write locks by name, with leases, fair, each owner with a higher token. Pure.

All three are one thing: something of a size, of which each owner has a share. A lock has the size 1. A semaphore has as
many as owners may come. A reader has one part of a read-write lock, and a writer all of it. `locks` does the waiting.

Whoever comes stands in line. From the front of the line owners enter as long as their shares fit, within the command
that made room; whoever does not fit holds up those behind, so that readers who keep coming cannot starve a writer.
"""

from __future__ import annotations

from typing import Final

import attrs

from raft_objects.declare import command, query
from raft_objects.errors import CommandError
from raft_objects.lease_table import LeaseTable

__all__ = ["MAX_SIZE", "LockState", "LockTable", "Place", "SizeDiffers"]

MAX_SIZE: Final = 1 << 32
"""Size of a read-write lock: more readers than can be."""


class SizeDiffers(CommandError):
    """Others use this name with another size: a lock, a semaphore and a read-write lock need names of their own."""


@attrs.define
class Place:
    """A place of an owner: of which client, for which share; `token`: 0 while it waits."""

    client: str
    share: int
    token: int = 0


@attrs.define
class LockState:
    """What is held: its size, how much of it is free, and by owner who is in it and who waits, in order."""

    size: int
    free: int
    inside: dict[str, Place] = attrs.field(factory=dict)
    waiting: dict[str, Place] = attrs.field(factory=dict)


class LockTable(LeaseTable):
    """Locks by name; a name exists while somebody is in it or waits."""

    classes = (*LeaseTable.classes, LockState, Place)

    def __init__(self) -> None:
        super().__init__()
        self.locks: dict[str, LockState] = {}

    @command
    def acquire(self, name: str, client: str, owner: str, wait: bool, *, share: int = 1, size: int = 1) -> int:
        """Return the token if `owner` has its share now; else 0, and if `wait` the owner stands in line.

        It is asked again to confirm a notice; an owner keeps its place, or its token. Renew the lease, too. Raise
        `SizeDiffers` if others use the name with another size.
        """
        return self._acquire(name, client, owner, wait=wait, share=share, size=size)

    def _acquire(self, name: str, client: str, owner: str, *, wait: bool, share: int = 1, size: int = 1) -> int:
        if not 1 <= share <= size <= MAX_SIZE:
            raise ValueError(f"a share is from 1 to the size, and that to {MAX_SIZE}; not {share} of {size}")
        self._renew(client)
        state = self.locks.get(name)
        if state is None:
            state = LockState(size, size)
        elif state.size != size:
            raise SizeDiffers(name, state.size, size)
        if (place := state.inside.get(owner)) is not None:
            return place.token
        if owner not in state.waiting:
            enters = not state.waiting and share <= state.free
            if not enters and not wait:
                return 0
            self.locks[name] = state
            state.waiting[owner] = Place(client, share)
            self._occupy(client, name)
            if enters:
                self._let_in(name, state)
        place = state.inside.get(owner)
        return 0 if place is None else place.token

    @command
    def release(self, name: str, owner: str) -> bool:
        """Give the share up, or the place in line. Return whether there was a share."""
        self._end_leases()
        state = self.locks.get(name)
        if state is None:
            return False
        place = state.inside.get(owner) or state.waiting.get(owner)
        if place is None:
            return False
        self._vacate(place.client, name)
        held = owner in state.inside
        self._remove(state, owner)
        self._let_in(name, state)
        return held

    @query
    def token(self, name: str) -> int:
        """Return the highest token of the present owners; 0 if there is none. Their leases may be over."""
        state = self.locks.get(name)
        return 0 if state is None else max((place.token for place in state.inside.values()), default=0)

    @query
    def holders(self, name: str) -> list[tuple[int, int]]:
        """Return token and share of each present owner, the first one first. Their leases may be over."""
        state = self.locks.get(name)
        return [] if state is None else [(place.token, place.share) for place in state.inside.values()]

    def _clear(self, names: list[str], ended: frozenset[str]) -> None:
        for name in names:
            state = self.locks[name]
            for owner in [owner for line in (state.inside, state.waiting) for owner in line]:
                place = state.inside.get(owner) or state.waiting[owner]
                if place.client in ended:
                    self._remove(state, owner)
            self._let_in(name, state)

    @staticmethod
    def _remove(state: LockState, owner: str) -> None:
        place = state.inside.pop(owner, None)
        if place is None:
            del state.waiting[owner]
        else:
            state.free += place.share

    def _let_in(self, name: str, state: LockState) -> None:
        """Let owners in from the front of the line, as long as their shares fit."""
        while state.waiting:
            owner, place = next(iter(state.waiting.items()))
            if place.share > state.free:
                return
            del state.waiting[owner]
            state.free -= place.share
            place.token = self._next_token()
            state.inside[owner] = place
            self.notify(owner)
        if not state.inside:
            self.locks.pop(name, None)
