"""How many Python functions a node calls for a write that is alone: exact where a clock is not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from raft_core.effects import RoleName
from raft_core.node import SECOND
from raft_core.node.core import NodeCore

from .cluster import Cluster

pytestmark = pytest.mark.interpreted

WRITES = 20


@contextmanager
def counted(cluster: Cluster) -> Iterator[Counter[RoleName]]:
    """Count the functions of raft_core called within `NodeCore.handle`, by the node's role."""
    handle = NodeCore.handle.__code__
    roles = {id(node.host): node.role for node in cluster.nodes.values()}
    calls: Counter[RoleName] = Counter()
    inside: RoleName | None = None

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal inside
        if event == "call":
            if frame.f_code is handle:
                inside = roles[id(frame.f_locals["self"])]
            if inside is not None and "raft_core" in frame.f_code.co_filename:
                calls[inside] += 1
        elif event == "return" and frame.f_code is handle:
            inside = None

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def test_write_alone_takes_few_calls_on_leader_and_follower() -> None:
    """Call, two acknowledgements, and the reports of disk and machine.

    It was 486 on the leader and 308 on a follower while each call of `handle` looked at everything that may be due.
    """
    cluster = Cluster(3)
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"first"))
    with counted(cluster) as calls:
        for number in range(WRITES):
            cluster.wait(leader, leader.propose(b"%d" % number))
    assert calls[RoleName.LEADER] / WRITES <= 310
    assert calls[RoleName.FOLLOWER] / WRITES / 2 <= 180


def test_idle_leader_and_follower_take_few_calls_a_second() -> None:
    """A hundred ticks, heartbeats and their replies, pings: 5,100 and 3,700.

    It was 6,550 on the leader while each tick asked everything that may be due, and 9,200 while it woke for each tick.
    """
    cluster = Cluster(3)
    cluster.start(1, 2, 3)
    leader = cluster.elect()
    cluster.wait(leader, leader.propose(b"first"))
    cluster.run(3 * SECOND)
    with counted(cluster) as calls:
        cluster.run(5 * SECOND)
    assert calls[RoleName.LEADER] / 5 <= 5_300
    assert calls[RoleName.FOLLOWER] / 5 / 2 <= 3_900
