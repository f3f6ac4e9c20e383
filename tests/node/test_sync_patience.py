"""When the loop waits for its disk: only a fast one, never long, and after a wait in vain not again for a while."""

from __future__ import annotations

import pytest

from raft_core.node.sync_patience import SyncPatience

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def fast_disk(duration: int = 100 * MICROSECOND) -> SyncPatience:
    patience = SyncPatience()
    for _ in range(100):
        patience.took(duration)
    return patience


def test_disk_that_is_not_known_is_not_waited_for() -> None:
    assert SyncPatience().wait() == 0


def test_fast_disk_is_waited_for_a_few_times_its_usual_duration() -> None:
    assert 300 * MICROSECOND < fast_disk().wait() < 600 * MICROSECOND


def test_slow_disk_is_not_waited_for() -> None:
    assert fast_disk(MILLISECOND).wait() == 0


@pytest.mark.parametrize("hang", [SECOND // 10, SECOND, 60 * SECOND])
def test_hang_costs_the_loop_less_than_a_tick_and_ends_the_waiting(hang: int) -> None:
    patience = fast_disk()
    lost, waits = 0, 0
    for _ in range(50):  # a disk that hangs for every write: each one is noticed only when it ends
        if wait := patience.wait():
            lost, waits = lost + min(wait, hang), waits + 1
            patience.waited(in_vain=True)
        patience.took(hang)
    assert waits == 1
    assert lost <= 2 * MILLISECOND


def test_no_wait_is_longer_than_two_milliseconds() -> None:
    for duration in range(0, 5 * MILLISECOND, 50 * MICROSECOND):
        assert fast_disk(duration).wait() <= 2 * MILLISECOND


def test_waits_in_vain_become_rare_while_the_estimate_says_fast() -> None:
    patience = fast_disk()
    waits = []
    for number in range(10_000):  # a disk whose reports are late, though its writes are short
        patience.took(100 * MICROSECOND)
        if patience.wait():
            waits.append(number)
            patience.waited(in_vain=True)
    assert len(waits) < 10
    assert waits[-1] - waits[-2] > 1000


def test_disk_that_is_fast_again_is_waited_for_again() -> None:
    patience = fast_disk()
    patience.wait()
    patience.waited(in_vain=True)
    patience.took(SECOND)
    for _ in range(300):
        patience.took(100 * MICROSECOND)
        patience.wait()
    assert patience.wait()
