"""When the loop waits for its disk: only a fast one, never long, and after a wait in vain not again for a while."""

from __future__ import annotations

import pytest

from raft_core.effects import RoleName
from raft_core.node.events import Run
from raft_core.node.jobs import Lane
from raft_core.node.sync_patience import SyncPatience

from .cluster import Cluster

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


@pytest.mark.parametrize("hang", [SECOND // 10, SECOND, 60 * SECOND])
def test_loop_that_writes_itself_is_held_up_once(hang: int) -> None:
    patience = fast_disk()
    held_up = 0
    for _ in range(50):  # each write hangs, whoever does it
        if patience.inline():
            held_up += 1
            patience.took_inline(hang)
        else:
            patience.wait()
            patience.took(hang)
    assert held_up == 1


def test_disk_that_hangs_now_and_then_holds_up_the_loop_ever_more_rarely() -> None:
    patience = fast_disk()
    held_up: list[int] = []
    for number in range(20_000):  # whenever the loop has written itself for a while, a sync hangs
        if patience.inline():
            hangs = not held_up or number - held_up[-1] > 200
            if hangs:
                held_up.append(number)
            patience.took_inline(100 * MILLISECOND if hangs else 100 * MICROSECOND)
        else:
            patience.wait()
            patience.took(100 * MICROSECOND)
    assert len(held_up) < 25


def test_loop_does_not_write_to_a_disk_that_is_slow_or_not_known() -> None:
    assert not SyncPatience().inline()
    assert not fast_disk(MILLISECOND).inline()
    assert fast_disk().inline()


@pytest.mark.parametrize("inline", [True, False])
def test_node_lets_its_loop_write_only_as_follower_and_if_it_is_told_to(inline: bool) -> None:
    cluster = Cluster(3, inline_sync=inline)
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    for node in cluster.nodes.values():
        node.effects.clear()
    for number in range(5):
        cluster.wait(leader, leader.propose(b"%d" % number))
    for node in cluster.nodes.values():
        writes = [effect.here for effect in node.effects if isinstance(effect, Run) and effect.lane is Lane.WRITE]
        follows = node.role is RoleName.FOLLOWER
        assert writes == [inline and follows] * 5
