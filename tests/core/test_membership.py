"""Configurations as values: every change, every refusal, and the bytes that travel in the log."""

from __future__ import annotations

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.errors import CallerError
from raft_core.ids import Incarnation, NodeId
from raft_core.membership import (
    AddLearner,
    AddVoter,
    Change,
    ChangeError,
    ChangeMode,
    ChangeProblem,
    Members,
    MembersUndecodable,
    RemoveNode,
)


def node(number: int) -> NodeId:
    return NodeId(number)


def changed(members: Members, *changes: Change, mode: ChangeMode = ChangeMode.AUTO) -> Members:
    result = members.changed(changes, mode)
    assert isinstance(result, Members), result
    return result


def problem(members: Members, *changes: Change, mode: ChangeMode = ChangeMode.AUTO) -> ChangeProblem:
    result = members.changed(changes, mode)
    assert isinstance(result, ChangeError), result
    assert result.text
    return result.kind


def but(members: Members, **parts: object) -> Members:
    """`members` with other parts."""
    return attrs.evolve(members, **parts)  # type: ignore[arg-type]


THREE = Members.initial([1, 2, 3])
FOUR = Members.initial([1, 2, 3], learners=[4])


def test_leases_are_allowed_only_where_that_was_said_at_formation() -> None:
    assert not Members.initial([1]).leases
    assert Members.initial([1], leases=True).leases
    assert changed(Members.initial([1], leases=True), AddVoter(node(2))).leases


def test_a_configuration_says_who_takes_part_in_it_and_how() -> None:
    members = Members(voters=(node(3),), outgoing=(node(1), node(2)), learners=(node(5),), highest_id=node(5))

    assert (members.joint, members.nodes, members.all_voters) == (True, (1, 2, 3, 5), (1, 2, 3))
    assert [members.is_voter(node(n)) for n in range(1, 7)] == [True, True, True, False, False, False]
    assert [members.is_member(node(n)) for n in range(1, 7)] == [True, True, True, False, True, False]
    assert (THREE.joint, THREE.all_voters) == (False, (1, 2, 3))
    assert [one.empty for one in (Members(), THREE, Members(learners=(node(1),)))] == [True, False, False]


# Simple changes.


def test_one_voter_more_is_a_simple_change() -> None:
    after = changed(THREE, AddVoter(node(4)))

    assert after == but(THREE, voters=(1, 2, 3, 4), highest_id=4)
    assert not after.joint


def test_one_voter_less_is_a_simple_change() -> None:
    after = changed(THREE, RemoveNode(node(3)))

    assert after == but(THREE, voters=(1, 2))


def test_learners_come_and_go_by_simple_changes_however_many_they_are() -> None:
    after = changed(FOUR, AddLearner(node(5)), AddLearner(node(6), promote_when_ready=True), RemoveNode(node(4)))

    assert after == but(FOUR, learners=(5, 6), promotable=(6,), highest_id=6)
    assert not after.joint


def test_a_learner_is_promoted_and_a_voter_demoted_by_a_simple_change() -> None:
    promoted = changed(FOUR, AddVoter(node(4)))
    demoted = changed(promoted, AddLearner(node(1)))

    assert promoted == but(FOUR, voters=(1, 2, 3, 4), learners=())
    assert demoted == but(FOUR, voters=(2, 3, 4), learners=(1,))


def test_naming_a_member_again_as_what_it_is_changes_nothing() -> None:
    assert changed(FOUR, AddVoter(node(1))) == FOUR
    assert changed(FOUR, AddLearner(node(4))) == FOUR


def test_an_incarnation_comes_with_its_node_and_leaves_with_it() -> None:
    joined = changed(THREE, AddVoter(node(4), Incarnation(77)))
    gone = changed(joined, RemoveNode(node(4)))

    assert joined.incarnation_of(node(4)) == 77
    assert gone.incarnations == ()


# Joint changes.


def test_two_voters_at_once_make_a_joint_configuration_that_is_left_by_itself() -> None:
    after = changed(THREE, AddVoter(node(4)), RemoveNode(node(1)))

    assert after == but(THREE, voters=(2, 3, 4), outgoing=(1, 2, 3), auto_leave=True, highest_id=4)
    assert after.left() == but(THREE, voters=(2, 3, 4), highest_id=4)


def test_a_change_of_one_voter_is_joint_where_that_is_asked_for() -> None:
    automatic = changed(THREE, AddVoter(node(4)), mode=ChangeMode.JOINT)
    explicit = changed(THREE, AddVoter(node(4)), mode=ChangeMode.EXPLICIT)

    assert (automatic.outgoing, automatic.auto_leave) == ((1, 2, 3), True)
    assert (explicit.outgoing, explicit.auto_leave) == ((1, 2, 3), False)


def test_an_outgoing_voter_that_becomes_a_learner_waits_for_the_joint_phase_to_end() -> None:
    after = changed(THREE, AddLearner(node(1)), AddLearner(node(2)), AddVoter(node(4)))

    assert (after.voters, after.outgoing) == ((3, 4), (1, 2, 3))
    assert (after.learners, after.learners_next) == ((), (1, 2))
    left = after.left()
    assert isinstance(left, Members)
    assert (left.voters, left.learners, left.learners_next) == ((3, 4), (1, 2), ())


def test_everybody_can_be_replaced_at_once() -> None:
    adds = [AddVoter(node(n), Incarnation(n * 10)) for n in (4, 5, 6)]
    after = changed(THREE, *adds, *[RemoveNode(node(n)) for n in (1, 2, 3)])

    assert (after.voters, after.outgoing) == ((4, 5, 6), (1, 2, 3))
    assert after.nodes == after.all_voters == (1, 2, 3, 4, 5, 6)
    left = after.left()
    assert isinstance(left, Members)
    assert left.nodes == (4, 5, 6)
    assert left.incarnations == ((4, 40), (5, 50), (6, 60))


def test_a_removed_voter_keeps_its_incarnation_until_the_joint_phase_ends() -> None:
    known = Members.initial([1, 2, 3], incarnations={node(1): Incarnation(11)})

    after = changed(known, RemoveNode(node(1)), AddVoter(node(4)))

    assert after.incarnation_of(node(1)) == 11
    left = after.left()
    assert isinstance(left, Members)
    assert left.incarnation_of(node(1)) == 0


# Refusals.


def test_an_unknown_node_cannot_be_removed() -> None:
    assert problem(THREE, RemoveNode(node(9))) is ChangeProblem.UNKNOWN_NODE


def test_an_id_is_never_used_again() -> None:
    shrunk = changed(THREE, RemoveNode(node(3)))

    assert problem(shrunk, AddVoter(node(3))) is ChangeProblem.ID_REUSED
    assert problem(shrunk, AddLearner(node(3))) is ChangeProblem.ID_REUSED
    assert changed(shrunk, AddVoter(node(4))).voters == (1, 2, 4)


def test_the_last_voter_cannot_go() -> None:
    alone = Members.initial([1], learners=[2])

    assert problem(alone, RemoveNode(node(1))) is ChangeProblem.NO_VOTERS
    assert problem(alone, AddLearner(node(1))) is ChangeProblem.NO_VOTERS
    assert problem(Members(), AddVoter(node(1)), mode=ChangeMode.JOINT) is ChangeProblem.NO_VOTERS


def test_a_change_that_contradicts_itself_or_says_nothing_is_refused() -> None:
    assert problem(THREE, AddVoter(node(4)), RemoveNode(node(4))) is ChangeProblem.CONTRADICTORY
    assert problem(THREE, AddVoter(node(4)), AddVoter(node(4))) is ChangeProblem.CONTRADICTORY
    assert problem(THREE) is ChangeProblem.CONTRADICTORY


def test_a_node_id_that_is_not_positive_is_refused() -> None:
    assert problem(THREE, AddVoter(node(0))) is ChangeProblem.BAD_ID
    assert problem(THREE, AddLearner(node(-4))) is ChangeProblem.BAD_ID


def test_a_joint_configuration_can_only_be_left() -> None:
    joint = changed(THREE, AddVoter(node(4)), mode=ChangeMode.JOINT)

    assert problem(joint, AddVoter(node(5))) is ChangeProblem.ALREADY_JOINT


def test_a_simple_configuration_cannot_be_left() -> None:
    refused = THREE.left()

    assert isinstance(refused, ChangeError)
    assert refused == ChangeError(ChangeProblem.NOT_JOINT, "there is no joint configuration to leave")


def test_a_member_cannot_come_back_with_another_disk() -> None:
    known = Members.initial([1, 2, 3], incarnations={node(3): Incarnation(33)})

    assert problem(known, AddLearner(node(3), Incarnation(34))) is ChangeProblem.WRONG_INCARNATION
    for named in (Incarnation(33), Incarnation(0)):
        demoted = changed(known, AddLearner(node(3), named))
        assert (demoted.learners, demoted.incarnation_of(node(3))) == ((3,), 33)
    assert problem(THREE, AddVoter(node(3), Incarnation(1))) is ChangeProblem.WRONG_INCARNATION


JOINT = changed(THREE, AddVoter(node(4)), mode=ChangeMode.JOINT)


def test_the_largest_numbers_that_a_peer_can_be_told_are_taken() -> None:
    highest = (1 << 63) - 1
    before = attrs.evolve(THREE, highest_id=node(highest - 1))
    grown = changed(before, AddVoter(node(highest), Incarnation(highest)))

    assert (grown.highest_id, grown.incarnation_of(node(highest))) == (highest, highest)


@pytest.mark.parametrize(
    ("members", "changes", "refusal"),
    [
        (JOINT, (AddVoter(node(5)),), "already_joint: leave the joint configuration first"),
        (THREE, (), "contradictory_change: name at least one node, and each node once"),
        (THREE, (AddVoter(node(-1)),), "bad_id: a node id is a positive number, not -1"),
        (THREE, (AddVoter(node(1 << 63)),), f"bad_id: a node id is a positive number, not {1 << 63}"),
        (THREE, (AddVoter(node(4), Incarnation(-5)),), "wrong_incarnation: an incarnation is a 63-bit number, not -5"),
        (THREE, (RemoveNode(node(9)),), "unknown_node: node 9 is not a member"),
        (
            but(THREE, highest_id=8),
            (AddVoter(node(7)),),
            "id_reused: id 7 was used before or skipped; take one above 8",
        ),
        (THREE, (AddVoter(node(2), Incarnation(5)),), "wrong_incarnation: node 2 is a member with another disk"),
        (Members.initial([1]), (RemoveNode(node(1)),), "no_voters: the change leaves no voter"),
        (Members(), (AddVoter(node(1)), AddVoter(node(2))), "no_voters: a joint change needs voters to start from"),
    ],
)
def test_every_refusal_says_which_rule_and_why(members: Members, changes: tuple[Change, ...], refusal: str) -> None:
    result = members.changed(changes)

    assert isinstance(result, ChangeError)
    assert f"{result.kind}: {result.text}" == refusal


def test_a_cluster_that_makes_no_sense_cannot_be_formed() -> None:
    with pytest.raises(CallerError):
        Members.initial([])
    with pytest.raises(CallerError):
        Members.initial([1, 2], learners=[2])
    with pytest.raises(CallerError):
        Members.initial([0, 1])


# Bytes.


def test_equal_configurations_have_equal_bytes_whatever_way_led_there() -> None:
    one = changed(changed(THREE, AddLearner(node(4))), AddVoter(node(4)))
    other = changed(changed(THREE, AddVoter(node(4))), AddVoter(node(4)))

    assert one.encode() == other.encode()
    assert Members.decode(one.encode()) == one


WITHOUT_1 = but(THREE, voters=(2, 3), outgoing=(1, 2, 3))
BROKEN = [
    ("voters", but(THREE, voters=(2, 1, 3))),
    ("outgoing", but(THREE, outgoing=(1, 1))),
    ("learners", but(FOUR, learners=(4, 4))),
    ("learners_next", but(WITHOUT_1, learners_next=(1, 1))),
    ("promotable", but(FOUR, promotable=(4, 4))),
    ("voters", but(THREE, voters=(0, 1))),
    ("outgoing", but(THREE, outgoing=(4,))),
    ("learners", but(THREE, learners=(4,))),
    ("learner", but(THREE, learners=(1,))),
    ("learner", but(WITHOUT_1, learners=(1,))),
    ("outgoing voter", but(THREE, learners_next=(1,))),
    ("outgoing voter", but(WITHOUT_1, learners_next=(2,))),
    ("promotion", but(THREE, promotable=(1,))),
    ("joint", but(THREE, auto_leave=True)),
    ("incoming voters", but(THREE, voters=(), outgoing=(1,))),
    ("incarnations", but(THREE, incarnations=((7, 1),))),
    ("incarnations", but(THREE, incarnations=((2, 1), (1, 1)))),
]


@pytest.mark.parametrize(("field", "members"), BROKEN)
def test_a_configuration_that_breaks_its_own_rules_does_not_decode(field: str, members: Members) -> None:
    assert field in (members.problem() or "")
    with pytest.raises(MembersUndecodable) as caught:
        Members.decode(members.encode())
    assert str(caught.value) == members.problem()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\xc1", "invalid opcode"),
        (b"\x93\x01\x02\x03", "Expected `object`, got `array`"),
        (msgspec.msgpack.encode({"voters": "all"}), r"Expected `array`, got `str` - at `\$\.voters`"),
    ],
)
def test_bytes_that_are_no_configuration_do_not_decode(data: bytes, reason: str) -> None:
    with pytest.raises(MembersUndecodable, match=reason):
        Members.decode(data)


# By random walks.


def a_change(draw: st.DrawFn, members: Members) -> Change:
    number = node(draw(st.integers(-1, members.highest_id + 2)))
    kind = draw(st.sampled_from([AddVoter, AddLearner, RemoveNode]))
    if kind is RemoveNode:
        return RemoveNode(number)
    disk = Incarnation(draw(st.sampled_from([0, 0, 5])))
    if kind is AddVoter:
        return AddVoter(number, disk)
    return AddLearner(number, disk, promote_when_ready=draw(st.booleans()))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_the_configuration_keeps_its_rules_and_no_quorum_is_ever_missed(
    data: st.DataObject,
) -> None:
    members = Members.initial([1, 2, 3], learners=[4])
    highest = members.highest_id

    for _ in range(data.draw(st.integers(1, 8))):
        before = members
        if before.joint:
            after = before.left()
        else:
            count = data.draw(st.integers(0, 4))
            draw = st.composite(a_change)
            changes = tuple(data.draw(draw(before)) for _ in range(count))
            after = before.changed(changes, data.draw(st.sampled_from(ChangeMode)))
        if isinstance(after, ChangeError):
            assert after.text
            continue

        assert after.problem() is None
        assert after.voters
        assert Members.decode(after.encode()) == after
        assert after.highest_id >= highest
        assert not after.joint or after.outgoing == before.voters
        if not before.joint and not after.joint:
            moved = set(before.voters) ^ set(after.voters)
            assert len(moved) <= 1, "any majority of one must meet any majority of the other"
        highest = after.highest_id
        members = after
