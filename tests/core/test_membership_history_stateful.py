"""The membership history beside a whole log: a configuration is in force once appended, until it is truncated."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raft_core.ids import Index, NodeId
from raft_core.membership import Members
from raft_core.membership_history import MembershipHistory
from tests.profiles import stateful

NODES = st.sets(st.integers(1, 5), min_size=1)
PLACE = st.integers(0, 40)  # taken modulo the number of possible places


class HistoryBesideLog(RuleBasedStateMachine):
    """`log` has an item per entry from index 1 on: the configuration that the entry holds, or None.

    A snapshot from the leader replaces the log up to its index. `kept_from` is the index up to which it is applied:
    what was in force before may be forgotten.
    """

    def __init__(self) -> None:
        super().__init__()
        first = Members.initial([1, 2, 3])
        self.log: list[Members | None] = [first]
        self.kept_from = 1
        self.ids = 3
        self.history = MembershipHistory(Index(1), first)

    def _in_force(self, index: int) -> tuple[int, Members]:
        """Return the last configuration up to `index`, and the index of its entry."""
        place = next(place for place in range(index, 0, -1) if self.log[place - 1] is not None)
        members = self.log[place - 1]
        assert members is not None
        return place, members

    def _members(self, nodes: set[int]) -> Members:
        self.ids = max(self.ids, *nodes)
        return Members(voters=tuple(NodeId(node) for node in sorted(nodes)), highest_id=NodeId(self.ids))

    @rule(count=st.integers(1, 4))
    def append_commands(self, count: int) -> None:
        self.log += [None] * count

    @rule(nodes=NODES)
    def append_configuration(self, nodes: set[int]) -> None:
        members = self._members(nodes)
        self.log.append(members)
        self.history.append(Index(len(self.log)), members)

    @precondition(lambda self: len(self.log) > self.kept_from)
    @rule(place=PLACE)
    def truncate(self, place: int) -> None:
        """Remove entries that are not applied."""
        first = self.kept_from + 1 + place % (len(self.log) - self.kept_from)
        before = self._in_force(len(self.log))[0]
        del self.log[first - 1 :]
        self.ids = self._in_force(len(self.log))[1].highest_id
        assert self.history.truncate_from(Index(first)) == (before >= first)

    @rule(place=PLACE)
    def apply_and_forget(self, place: int) -> None:
        self.kept_from += place % (len(self.log) - self.kept_from + 1)
        self.history.forget_before(Index(self.kept_from))

    @rule(further=st.integers(1, 3), nodes=NODES)
    def install_snapshot(self, further: int, nodes: set[int]) -> None:
        index, members = len(self.log) + further, self._members(nodes)
        self.log += [None] * (further - 1) + [members]
        self.kept_from = index
        self.history.reset(Index(index), members)

    @invariant()
    def last_configuration_is_in_force(self) -> None:
        assert (self.history.index, self.history.members) == self._in_force(len(self.log))

    @invariant()
    def every_place_that_may_be_asked_for_is_known(self) -> None:
        for index in range(self.kept_from, len(self.log) + 1):
            assert self.history.at(Index(index)) == self._in_force(index)
            if self._in_force(index)[0] > self.kept_from:
                assert (
                    self.history.before(Index(self._in_force(index)[0]))
                    == self._in_force(self._in_force(index)[0] - 1)[1]
                )

    @invariant()
    def no_more_is_kept_than_may_be_asked_for(self) -> None:
        wanted = {self._in_force(index) for index in range(self.kept_from, len(self.log) + 1)}
        assert set(self.history.held()) <= wanted | set(self.history.held()[:1])
        assert len(self.history.held()) == len(set(self.history.held()))

    @invariant()
    def removal_is_first_entry_since_without_the_node(self) -> None:
        held = self.history.held()
        for node in range(1, 7):
            since = [index for index, members in held if not members.is_member(NodeId(node))]
            last_as_member = max((index for index, members in held if members.is_member(NodeId(node))), default=0)
            known = node <= self.history.members.highest_id
            removed = [index for index in since if index > last_as_member] if known else []
            assert self.history.removal_of(NodeId(node)) == min(removed, default=0)


TestHistoryBesideLog = stateful(HistoryBesideLog, runs=40, steps=20)
