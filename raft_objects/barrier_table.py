"""`BarrierTable`: barriers by name, for parties with leases. Pure; `barriers` does the waiting.

A party that arrives waits, and the last one lets all of them pass within its command. Until then a party whose lease
ends is no longer counted. Each round has a number; numbers rise.
"""

from __future__ import annotations

import attrs

from raft_objects.declare import command, query
from raft_objects.lease_table import LeaseTable
from raft_objects.lock_table import SizeDiffers
from raft_objects.shards import ShardedDict

__all__ = ["BarrierState", "BarrierTable"]


@attrs.frozen
class BarrierState:
    """How many must come, which owners of which clients wait, and who passed in which round and has not left yet."""

    parties: int
    waiting: dict[str, str] = attrs.field(factory=dict)
    passed: dict[str, tuple[str, int]] = attrs.field(factory=dict)


class BarrierTable(LeaseTable):
    """Barriers by name; a name exists while an owner is there."""

    classes = (*LeaseTable.classes, BarrierState)

    def __init__(self) -> None:
        super().__init__()
        self.barriers: ShardedDict[str, BarrierState] = ShardedDict()

    @command
    def arrive(self, name: str, client: str, owner: str, parties: int) -> int:
        """Return the number of the round in which `owner` has passed; 0 if others have to come first.

        It is asked again to confirm a notice. Renew the lease, too. Raise `SizeDiffers` if others wait for another
        number of parties.
        """
        return self._arrive(name, client, owner, parties)

    def _arrive(self, name: str, client: str, owner: str, parties: int) -> int:
        if parties < 1:
            raise ValueError("a barrier has one party at least")
        self._renew(client)
        state = self.barriers.get(name, BarrierState(parties))
        if owner in state.passed:
            return state.passed[owner][1]
        if state.waiting and state.parties != parties:
            raise SizeDiffers(name, state.parties, parties)
        self.places.add((client, name, owner))
        waiting, passed = {**state.waiting, owner: client}, state.passed
        if len(waiting) >= parties:
            number = self._next_token()
            passed = {**passed, **{one: (its, number) for one, its in waiting.items()}}
            self.notify(*waiting)
            waiting = {}
        self.barriers[name] = BarrierState(parties, waiting, passed)
        return passed[owner][1] if owner in passed else 0

    @command
    def leave(self, name: str, owner: str) -> bool:
        """Wait no longer. Return whether the owner had passed."""
        self._end_leases()
        state = self.barriers.get(name)
        if state is None:
            return False
        passed = owner in state.passed
        client = state.passed[owner][0] if passed else state.waiting.get(owner)
        if client is None:
            return False
        self.places.discard((client, name, owner))
        self._clear(name, [owner])
        return passed

    @query
    def waiting(self, name: str) -> int:
        """Return how many wait. Their leases may be over."""
        state = self.barriers.get(name)
        return 0 if state is None else len(state.waiting)

    def _clear(self, name: str, owners: list[str]) -> None:
        state = self.barriers[name]
        waiting = {owner: client for owner, client in state.waiting.items() if owner not in owners}
        passed = {owner: found for owner, found in state.passed.items() if owner not in owners}
        if waiting or passed:
            self.barriers[name] = BarrierState(state.parties, waiting, passed)
        else:
            del self.barriers[name]
