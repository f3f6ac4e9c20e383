"""`LockTable`: locks, semaphores and read-write locks by name, with leases, fair, each owner with a higher token. Pure.

All three are one thing: something of a size, of which each owner has a share. A lock has the size 1. A semaphore has as
many as owners may come. A reader has one part of a read-write lock, and a writer all of it. `locks` does the waiting.

Whoever comes stands in line. From the front of the line owners enter as long as their shares fit, within the command
that made room; whoever does not fit holds up those behind, so that readers who keep coming cannot starve a writer.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import attrs

from raft_objects.declare import command, query
from raft_objects.errors import CommandError
from raft_objects.lease_table import LeaseTable
from raft_objects.shards import ShardedDict

__all__ = ["MAX_SIZE", "LockState", "LockTable", "Place", "SizeDiffers"]

MAX_SIZE: Final = 1 << 32
"""Size of a read-write lock: more readers than can be."""


class SizeDiffers(CommandError):
    """Others use this name with another size: a lock, a semaphore and a read-write lock need names of their own."""


@attrs.frozen
class Place:
    """A place of an owner: of which client, for which share; `token`: 0 while it waits."""

    client: str
    share: int
    token: int = 0


@attrs.frozen
class LockState:
    """What is held: its size, how much of it is free, and by owner who is in it and who waits, in order.

    Both dicts are replaced, never changed: a snapshot shares them.
    """

    size: int
    free: int
    inside: dict[str, Place] = attrs.field(factory=dict)
    waiting: dict[str, Place] = attrs.field(factory=dict)


class LockTable(LeaseTable):
    """Locks by name; a name exists while it is held or waited for."""

    classes = (*LeaseTable.classes, LockState, Place)

    def __init__(self) -> None:
        super().__init__()
        self.locks: ShardedDict[str, LockState] = ShardedDict()

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
        if owner not in state.inside and owner not in state.waiting:
            if not wait and (state.waiting or share > state.free):
                return 0
            self.places.add((client, name, owner))
            state = attrs.evolve(state, waiting={**state.waiting, owner: Place(client, share)})
            state = self._let_in(name, state)
        place = state.inside.get(owner)
        return 0 if place is None else place.token

    @command
    def release(self, name: str, owner: str) -> bool:
        """Give the share up, or the place in line. Return whether there was a share."""
        self._end_leases()
        state = self.locks.get(name)
        place = None if state is None else state.inside.get(owner) or state.waiting.get(owner)
        if state is None or place is None:
            return False
        self.places.discard((place.client, name, owner))
        self._let_in(name, _without(state, [owner]))
        return owner in state.inside

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

    def _clear(self, name: str, owners: list[str]) -> None:
        self._let_in(name, _without(self.locks[name], owners))

    def _let_in(self, name: str, state: LockState) -> LockState:
        """Let owners in from the front of the line, as long as their shares fit; keep and return the new state."""
        free, inside, entering = state.free, dict(state.inside), 0
        for owner, place in state.waiting.items():
            if place.share > free:
                break
            free -= place.share
            inside[owner] = attrs.evolve(place, token=self._next_token())
            entering += 1
            self.notify(owner)
        if entering:
            left = dict(islice(state.waiting.items(), entering, None))
            state = attrs.evolve(state, free=free, inside=inside, waiting=left)
        if state.inside:
            self.locks[name] = state
        else:
            self.locks.pop(name, None)
        return state


def _without(state: LockState, owners: list[str]) -> LockState:
    """Return the state without these owners' places."""
    inside, waiting, free = dict(state.inside), dict(state.waiting), state.free
    for owner in owners:
        place = inside.pop(owner, None)
        if place is None:
            del waiting[owner]
        else:
            free += place.share
    return attrs.evolve(state, free=free, inside=inside, waiting=waiting)
