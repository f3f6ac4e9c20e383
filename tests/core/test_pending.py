"""Clients' entries: each is answered once, as one of three types."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.effects import Effect, Indeterminate, Refusal, RefusalReason, Respond, Success, UnknownReason
from raft_core.ids import Index, RequestId
from raft_core.pending import PendingProposals
from raft_core.state_values import PendingProposal

TRUNCATED = Indeterminate(UnknownReason.TRUNCATED)
SUPERSEDED = Refusal(RefusalReason.SUPERSEDED)


def waiting(request: int, first: int, last: int, offset: int = 0) -> PendingProposal:
    return PendingProposal(RequestId(request), offset, Index(first), Index(last))


def two_requests() -> tuple[PendingProposals, list[Effect]]:
    """Request 1 at 3…5 and request 2 at 7…8."""
    requests = PendingProposals()
    requests.wait(waiting(1, 3, 5))
    requests.wait(waiting(2, 7, 8))
    return requests, []


def test_what_is_applied_is_answered_with_its_results() -> None:
    requests, answers = two_requests()

    requests.applied(Index(7), (b"2", b"3", b"4", b"5", b"6", b"7"), answers)

    assert answers == [
        Respond(RequestId(1), Success(Index(3), (b"3", b"4", b"5")), 0, 3),
        Respond(RequestId(2), Success(Index(7), (b"7",)), 0, 1),
    ]
    assert requests.waiting() == (waiting(2, 8, 8, offset=1),)


def test_what_is_waited_for_is_named_as_pairs_that_neighbours_share() -> None:
    requests, _ = two_requests()
    requests.wait(waiting(3, 9, 9))

    assert requests.wanted(Index(1), Index(2)) == ()
    assert requests.wanted(Index(1), Index(20)) == ((3, 5), (7, 9))
    assert requests.wanted(Index(4), Index(8)) == ((4, 5), (7, 8))
    assert requests.wanted(Index(10), Index(20)) == ()


def test_a_request_is_answered_in_as_many_pieces_as_it_is_applied() -> None:
    requests, answers = two_requests()

    requests.applied(Index(4), (b"3", b"4"), answers)
    requests.applied(Index(5), (b"5",), answers)

    assert answers == [
        Respond(RequestId(1), Success(Index(3), (b"3", b"4")), 0, 2),
        Respond(RequestId(1), Success(Index(5), (b"5",)), 2, 1),
    ]


def test_results_that_are_not_known_any_more_are_left_out() -> None:
    requests, answers = two_requests()

    requests.applied(Index(5), (), answers)

    assert answers == [Respond(RequestId(1), Success(Index(3)), 0, 3)]


def test_a_truncated_entry_is_unknown_and_one_that_is_known_to_be_replaced_is_refused() -> None:
    requests, answers = two_requests()

    requests.truncated_from(Index(5), Index(7), answers.append)

    assert answers == [
        Respond(RequestId(1), SUPERSEDED, 2),
        Respond(RequestId(2), SUPERSEDED, 0),
        Respond(RequestId(2), TRUNCATED, 1),
    ]
    assert requests.waiting() == (waiting(1, 3, 4),)


def test_giving_up_answers_all() -> None:
    requests, answers = two_requests()
    lost = Indeterminate(UnknownReason.LEADERSHIP_LOST)

    requests.give_up(lost, answers.append)

    assert answers == [Respond(RequestId(1), lost, 0, 3), Respond(RequestId(2), lost, 0, 2)]
    assert len(requests) == 0


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    ends=st.lists(st.tuples(st.booleans(), st.integers(1, 25)), max_size=6),
)
def test_every_item_is_answered_exactly_once_whatever_happens(sizes: list[int], ends: list[tuple[bool, int]]) -> None:
    requests, answers = PendingProposals(), list[Effect]()
    index = 1
    for request, size in enumerate(sizes):
        requests.wait(waiting(request, index, index + size - 1))
        index += size
    applied = 0

    for truncate, place in ends:
        if truncate and place > applied:
            requests.truncated_from(Index(place), Index(0), answers.append)
        elif place > applied:
            applied = place
            requests.applied(Index(place), (), answers)
    requests.give_up(TRUNCATED, answers.append)

    items = [
        (answer.request, answer.offset + n)
        for answer in answers
        if type(answer) is Respond
        for n in range(answer.count)
    ]
    expected = [(request, item) for request, size in enumerate(sizes) for item in range(size)]
    assert sorted(items) == expected
