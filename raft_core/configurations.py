"""The configurations that the log still speaks of, and the one in force: always the last one appended (thesis 4.1).

What lives here: positions and members. A truncated configuration is taken back by forgetting it; the newest one at
or before what is applied is kept, because a snapshot needs the configuration at its own index.
"""

from __future__ import annotations

from typing import final

from raft_core.ids import NO_INDEX, Index, NodeId
from raft_core.membership import Members

__all__ = ["MembershipHistory"]


@final
class MembershipHistory:
    """Never empty. The last item is in force."""

    __slots__ = ("_held", "index", "members")

    def __init__(self, index: Index = NO_INDEX, members: Members | None = None) -> None:
        self._held: list[tuple[Index, Members]] = []
        self.index = index  # where the configuration in force was appended
        self.members = members if members is not None else Members()
        self._held.append((self.index, self.members))

    def held(self) -> tuple[tuple[Index, Members], ...]:
        """All that are remembered, oldest first."""
        return tuple(self._held)

    def append(self, index: Index, members: Members) -> None:
        """`members` are in force from their place in the log on."""
        self._held.append((index, members))
        self.index, self.members = index, members

    def truncate_from(self, index: Index) -> bool:
        """Configurations at or after `index` never were; true if another one is in force now."""
        changed = False
        while len(self._held) > 1 and self._held[-1][0] >= index:
            self._held.pop()
            changed = True
        self.index, self.members = self._held[-1]
        return changed

    def forget_before(self, applied: Index) -> None:
        """Only the newest configuration at or before `applied`, and those after it, are remembered."""
        while len(self._held) > 1 and self._held[1][0] <= applied:
            del self._held[0]

    def reset(self, index: Index, members: Members) -> None:
        """A snapshot's configuration is in force, and the only one remembered."""
        self._held = [(index, members)]
        self.index, self.members = index, members

    def at(self, index: Index) -> tuple[Index, Members]:
        """The configuration that was in force at `index`, and where it was appended."""
        for place, members in reversed(self._held):
            if place <= index:
                return place, members
        return self._held[0]

    def removal_of(self, node: NodeId) -> Index:
        """The entry that took the node out, committed or not, or the oldest remembered one behind it.

        0 while the node is a member, or may still become one: an id above all that were used was not added yet."""
        removed = NO_INDEX
        if self.members.empty or node > self.members.highest_id:
            return removed
        for index, members in reversed(self._held):
            if members.is_member(node):
                break
            removed = index
        return removed

    def before(self, index: Index) -> Members | None:
        """The configuration that the one appended at `index` replaced, where it is still remembered."""
        older = [members for place, members in self._held if place < index]
        return older[-1] if older else None
