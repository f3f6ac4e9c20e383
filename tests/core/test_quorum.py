"""Majorities, plain and joint: against a naive twin, exhaustively for small clusters and by random examples."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Index, NodeId
from raft_core.membership import Members
from raft_core.quorum import NO_LIMIT, Verdict, committed_index, quorum_reached, vote_verdict


def joint(voters: tuple[int, ...], outgoing: tuple[int, ...] = ()) -> Members:
    return Members(
        voters=tuple(NodeId(n) for n in voters),
        outgoing=tuple(NodeId(n) for n in outgoing),
        highest_id=NodeId(max((*voters, *outgoing), default=0)),
    )


# The naive twin: says what a majority is, and tries everything.


def majority(half: tuple[NodeId, ...], agree: set[int]) -> bool:
    return not half or len([n for n in half if n in agree]) > len(half) / 2


def naive_quorum(members: Members, agree: set[int]) -> bool:
    return majority(members.voters, agree) and majority(members.outgoing, agree)


def naive_committed(members: Members, acked: dict[int, int]) -> int:
    if not members.voters and not members.outgoing:
        return NO_LIMIT
    candidates = [0, *acked.values()]
    return max(at for at in candidates if naive_quorum(members, {n for n, match in acked.items() if match >= at}))


def naive_verdict(members: Members, votes: dict[int, bool]) -> Verdict:
    yes = {n for n, granted in votes.items() if granted}
    if naive_quorum(members, yes):
        return Verdict.WON
    silent = {n for n in members.all_voters if n not in votes}
    return Verdict.OPEN if naive_quorum(members, yes | silent) else Verdict.LOST


def compare(members: Members, acked: dict[int, int], votes: dict[int, bool]) -> None:
    typed = {NodeId(n): granted for n, granted in votes.items()}
    agree = {n for n, granted in votes.items() if granted}
    assert committed_index(members, lambda n: Index(acked[n])) == naive_committed(members, acked)
    assert vote_verdict(members, typed) is naive_verdict(members, votes)
    assert quorum_reached(members, lambda n: n in agree) == naive_quorum(members, agree)


@pytest.mark.parametrize("count", range(1, 8))
def test_up_to_seven_voters_every_vote_counts_as_in_the_naive_twin(count: int) -> None:
    members = joint(tuple(range(1, count + 1)))

    for answers in itertools.product((None, False, True), repeat=count):
        votes = {n: given for n, given in zip(members.voters, answers, strict=True) if given is not None}
        typed = dict(votes)

        assert vote_verdict(members, typed) is naive_verdict(members, {int(n): v for n, v in votes.items()})


@pytest.mark.parametrize("count", range(1, 8))
def test_up_to_seven_voters_every_pattern_of_acknowledgements_commits_as_in_the_naive_twin(count: int) -> None:
    members = joint(tuple(range(1, count + 1)))

    for matches in itertools.product(range(3), repeat=count):
        acked = {int(n): match for n, match in zip(members.voters, matches, strict=True)}

        assert committed_index(members, lambda n: Index(acked[n])) == naive_committed(members, acked)  # noqa: B023


def test_every_joint_configuration_of_up_to_four_nodes_decides_as_the_naive_twin() -> None:
    nodes = (1, 2, 3, 4)
    halves = [half for size in range(1, 5) for half in itertools.combinations(nodes, size)]

    for voters, outgoing in itertools.product(halves, halves):
        members = joint(voters, outgoing)
        for answers in itertools.product((None, False, True), repeat=4):
            votes = {n: given for n, given in zip(nodes, answers, strict=True) if given is not None}
            acked = {n: (2 if votes.get(n) else int(n in votes)) for n in nodes}

            compare(members, acked, votes)


@settings(max_examples=150, deadline=None)
@given(
    voters=st.sets(st.integers(1, 12), max_size=9),
    outgoing=st.sets(st.integers(1, 12), max_size=9),
    matches=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    answers=st.lists(st.sampled_from([None, False, True]), min_size=12, max_size=12),
)
def test_large_joint_configurations_decide_as_the_naive_twin(
    voters: set[int], outgoing: set[int], matches: list[int], answers: list[bool | None]
) -> None:
    members = joint(tuple(sorted(voters)), tuple(sorted(outgoing)))
    acked = dict(enumerate(matches, 1))
    votes = {n: given for n, given in enumerate(answers, 1) if given is not None}

    compare(members, {n: acked[n] for n in acked if members.is_voter(NodeId(n))} or {1: 0}, votes)


def test_an_empty_half_holds_nothing_back() -> None:
    nobody = Members()

    assert committed_index(nobody, lambda n: Index(0)) == NO_LIMIT
    assert quorum_reached(nobody, lambda n: False)
    assert vote_verdict(nobody, {}) is Verdict.WON


def test_votes_of_learners_and_strangers_do_not_count() -> None:
    members = Members.initial([1, 2, 3], learners=[4])

    verdict = vote_verdict(members, {NodeId(1): True, NodeId(4): True, NodeId(9): True})

    assert verdict is Verdict.OPEN


def test_a_joint_election_needs_both_halves_and_is_lost_with_either() -> None:
    members = joint((1, 2, 3), (4, 5, 6))
    incoming = {NodeId(1): True, NodeId(2): True}

    assert vote_verdict(members, incoming) is Verdict.OPEN
    assert vote_verdict(members, {**incoming, NodeId(4): True, NodeId(5): True}) is Verdict.WON
    assert vote_verdict(members, {**incoming, NodeId(4): False, NodeId(5): False}) is Verdict.LOST
