"""One follower as the leader sees it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_core.ids import Incarnation, Index, NodeId
from raft_core.progress import Progress, ProgressState


def probing(following: int = 10, *, messages: int = 3, size: int = 100) -> Progress:
    return Progress(NodeId(2), Incarnation(0), Index(following), messages, size)


def replicating(match: int = 5, *, messages: int = 3, size: int = 100) -> Progress:
    peer = probing(match + 1, messages=messages, size=size)
    peer.acknowledged(Index(match))
    peer.become_replicate()
    return peer


def test_a_probe_pauses_after_one_message() -> None:
    peer = probing()

    assert not peer.paused
    peer.sent(Index(12), 30)

    assert peer.paused
    assert (peer.next, len(peer.inflight)) == (10, 0)


def test_a_replicating_follower_is_sent_ahead_until_its_window_is_full_of_messages() -> None:
    peer = replicating()

    for last in (6, 7, 8):
        assert not peer.paused
        peer.sent(Index(last), 10)

    assert peer.paused
    assert (peer.next, peer.inflight_bytes) == (9, 30)


def test_the_window_is_bounded_in_bytes_too_and_one_message_may_exceed_it_once() -> None:
    peer = replicating(size=100)

    peer.sent(Index(6), 99)
    assert not peer.paused
    peer.sent(Index(7), 1000)

    assert peer.paused


def test_an_acknowledgement_frees_the_window_up_to_its_place() -> None:
    peer = replicating()
    for last in (6, 7, 8):
        peer.sent(Index(last), 10)

    assert peer.acknowledged(Index(7))

    assert (peer.match, list(peer.inflight), peer.inflight_bytes, peer.paused) == (7, [(8, 10)], 10, False)


def test_an_old_acknowledgement_is_no_news() -> None:
    peer = replicating(5)

    assert not peer.acknowledged(Index(5))
    assert not peer.acknowledged(Index(4))
    assert (peer.match, peer.next) == (5, 6)


def test_a_rejection_while_probing_counts_only_for_the_place_that_was_asked_for() -> None:
    peer = probing(10)

    assert not peer.rejected(Index(7), Index(3))
    assert peer.rejected(Index(9), Index(4))

    assert peer.next == 4


def test_a_rejection_of_a_place_that_was_acknowledged_is_stray() -> None:
    peer = replicating(5)
    peer.sent(Index(6), 10)

    assert not peer.rejected(Index(5), Index(2))

    assert (peer.state, peer.next) == (ProgressState.REPLICATE, 7)


def test_a_rejection_makes_a_replicating_follower_probe_and_never_from_below_its_match() -> None:
    peer = replicating(5)
    peer.sent(Index(8), 10)

    assert peer.rejected(Index(8), Index(2))

    assert (peer.state, peer.next, peer.inflight_bytes) == (ProgressState.PROBE, 6, 0)


def test_any_rejection_during_a_snapshot_is_stray() -> None:
    peer = probing()
    peer.become_snapshot(Index(20))

    assert not peer.rejected(Index(20), Index(3))

    assert (peer.state, peer.pending, peer.next, peer.paused) == (ProgressState.SNAPSHOT, 20, 21, True)


def test_a_snapshot_that_arrived_is_followed_by_a_probe_behind_it() -> None:
    peer = probing()
    peer.become_snapshot(Index(20))

    peer.become_probe()

    assert (peer.state, peer.next, peer.pending) == (ProgressState.PROBE, 21, 0)


def test_a_snapshot_that_failed_is_followed_by_a_probe_from_match_that_waits_for_a_heartbeat() -> None:
    peer = probing()
    peer.acknowledged(Index(4))
    peer.become_snapshot(Index(20))

    peer.snapshot_failed()

    assert (peer.state, peer.next, peer.probe_sent, peer.pending) == (ProgressState.PROBE, 5, True, 0)


def test_a_follower_that_was_never_heard_was_not_heard_lately() -> None:
    peer = probing()

    assert not peer.heard_within(10, 0)
    peer.heard_at = 5
    assert peer.heard_within(10, 15)
    assert not peer.heard_within(10, 16)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_whatever_answers_come_next_stays_above_match_and_the_window_adds_up(
    actions: list[tuple[int, int, int]],
) -> None:
    peer, last = probing(10), 30

    for action, one, two in actions:
        if action == 0:
            peer.acknowledged(Index(one))
        elif action == 1:
            peer.rejected(Index(one), Index(two))
        elif action == 2 and not peer.paused and peer.next <= last:
            peer.sent(Index(min(last, peer.next + one)), two)
        elif action == 3:
            peer.become_replicate()
        elif action == 4:
            peer.become_probe()
        elif action == 5 and one > peer.match:
            peer.become_snapshot(Index(one))
        elif action == 6 and peer.state is ProgressState.SNAPSHOT:
            peer.snapshot_failed()

        assert peer.match < peer.next
        assert sum(size for _, size in peer.inflight) == peer.inflight_bytes
        assert len(peer.inflight) <= peer.max_messages
        assert not peer.inflight or peer.state is ProgressState.REPLICATE
