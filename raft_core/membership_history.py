"""The configurations in the log by index: appended, truncated with their entries, and forgotten once applied.

`membership` has the configurations themselves and the changes between them.
"""

from __future__ import annotations

from typing import final

from raft_core.ids import NO_INDEX, Index, NodeId
from raft_core.membership import Members

__all__ = ["MembershipHistory"]


@final
class MembershipHistory:
    """The configurations in the log by index; never empty, the last one is in force (thesis 4.1).

    Truncation removes configurations. The newest one up to the applied index is kept, because a snapshot needs the
    configuration at its own index.
    """

    __slots__ = ("_held", "index", "members", "several")

    def __init__(self, index: Index = NO_INDEX, members: Members | None = None) -> None:
        self._held: list[tuple[Index, Members]] = []
        self.index = index  # where the configuration in force was appended
        self.members = members if members is not None else Members()
        self._held.append((self.index, self.members))
        self.several = False  # more than one is remembered

    def held(self) -> tuple[tuple[Index, Members], ...]:
        """Return all remembered configurations, oldest first."""
        return tuple(self._held)

    def append(self, index: Index, members: Members) -> None:
        """Put `members` in force, appended at `index`."""
        self._held.append((index, members))
        self.index, self.members = index, members
        self.several = True

    def truncate_from(self, index: Index) -> bool:
        """Remove the configurations from `index` on. Return whether the one in force changed."""
        changed = False
        while len(self._held) > 1 and self._held[-1][0] >= index:
            self._held.pop()
            changed = True
        self.index, self.members = self._held[-1]
        self.several = len(self._held) > 1
        return changed

    def forget_before(self, applied: Index) -> None:
        """Keep only the newest configuration up to `applied`, and those after it."""
        while len(self._held) > 1 and self._held[1][0] <= applied:
            del self._held[0]
        self.several = len(self._held) > 1

    def reset(self, index: Index, members: Members) -> None:
        """Replace all configurations by a snapshot's."""
        self._held = [(index, members)]
        self.index, self.members = index, members
        self.several = False

    def at(self, index: Index) -> tuple[Index, Members]:
        """Return the configuration in force at `index`, and the index of its entry."""
        for place, members in reversed(self._held):
            if place <= index:
                return place, members
        return self._held[0]

    def removal_of(self, node: NodeId) -> Index:
        """Return the index of the entry which removed the node, committed or not, or of the oldest one kept since.

        0 while the node is a member, or may still become one: its id is above all ids used so far.
        """
        removed = NO_INDEX
        if self.members.empty or node > self.members.highest_id:
            return removed
        for index, members in reversed(self._held):
            if members.is_member(node):
                break
            removed = index
        return removed

    def before(self, index: Index) -> Members | None:
        """Return the configuration before the one appended at `index`, if it is still remembered."""
        older = [members for place, members in self._held if place < index]
        return older[-1] if older else None
