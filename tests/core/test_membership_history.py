"""Which configuration is in force, and which was at an earlier place."""

from __future__ import annotations

from raft_core.ids import Index, NodeId
from raft_core.membership import Members
from raft_core.membership_history import MembershipHistory

ONE, TWO, THREE = Members.initial([1]), Members.initial([1, 2]), Members.initial([1, 2, 3])


def three() -> MembershipHistory:
    configurations = MembershipHistory(Index(1), ONE)
    configurations.append(Index(5), TWO)
    configurations.append(Index(9), THREE)
    return configurations


def test_a_node_that_was_told_nothing_has_an_empty_configuration() -> None:
    configurations = MembershipHistory()

    assert (configurations.index, configurations.members) == (0, Members())


def test_the_last_configuration_appended_is_in_force() -> None:
    configurations = three()

    assert (configurations.index, configurations.members) == (9, THREE)
    assert configurations.held() == ((1, ONE), (5, TWO), (9, THREE))


def test_a_truncated_configuration_never_was() -> None:
    configurations = three()

    assert configurations.truncate_from(Index(9))
    assert (configurations.index, configurations.members) == (5, TWO)
    assert configurations.truncate_from(Index(6)) is False
    assert configurations.truncate_from(Index(2))
    assert (configurations.index, configurations.members) == (1, ONE)


def test_the_oldest_configuration_stays_even_if_its_own_place_is_truncated() -> None:
    configurations = three()

    assert configurations.truncate_from(Index(1)) is True
    assert configurations.held() == ((1, ONE),)


def test_the_newest_configuration_at_or_before_what_is_applied_stays_known() -> None:
    configurations = three()

    configurations.forget_before(Index(8))

    assert configurations.held() == ((5, TWO), (9, THREE))


def test_a_snapshot_is_told_the_configuration_at_its_own_index_not_the_latest() -> None:
    configurations = three()

    assert configurations.at(Index(4)) == (1, ONE)
    assert configurations.at(Index(5)) == (5, TWO)
    assert configurations.at(Index(8)) == (5, TWO)
    assert configurations.at(Index(0)) == (1, ONE)


def test_the_configuration_before_another_is_known_until_it_is_forgotten() -> None:
    configurations = three()

    assert [configurations.before(Index(index)) for index in (1, 5, 9, 10)] == [None, ONE, TWO, THREE]
    configurations.forget_before(Index(9))
    assert configurations.before(Index(9)) is None


def test_a_snapshots_configuration_replaces_all() -> None:
    configurations = three()

    configurations.reset(Index(20), TWO)

    assert configurations.held() == ((20, TWO),)
    assert configurations.members == TWO


def test_removal_is_the_first_entry_without_the_node_and_an_id_that_is_new_was_not_removed() -> None:
    held = MembershipHistory(Index(1), Members.initial([1, 2, 3]))
    held.append(Index(5), Members(voters=(NodeId(1), NodeId(2)), highest_id=NodeId(3)))
    held.append(Index(9), Members(voters=(NodeId(1),), highest_id=NodeId(3)))

    assert [held.removal_of(NodeId(node)) for node in (1, 2, 3, 4)] == [0, 9, 5, 0]
    assert MembershipHistory().removal_of(NodeId(1)) == 0
    held.truncate_from(Index(9))
    assert held.removal_of(NodeId(2)) == 0
