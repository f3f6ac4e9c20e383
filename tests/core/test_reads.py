"""Rounds of confirmation, shared by the reads that wait for them."""

from __future__ import annotations

from raft_core.ids import NO_NODE, Index, MessageId, NodeId, ReadId, RequestId
from raft_core.roles.read_index import ReadQueue
from raft_core.state_values import ReadRound, WaitingRead


def own(request: int) -> WaitingRead:
    return WaitingRead(NO_NODE, RequestId(request))


def remote(node: int, message: int) -> WaitingRead:
    return WaitingRead(NodeId(node), RequestId(0), MessageId(message))


def test_all_reads_that_wait_share_one_round() -> None:
    queue = ReadQueue()
    queue.ask(own(1))
    queue.ask(remote(2, 9))

    assert queue.wants_round
    assert queue.begin(Index(5)) == 1

    assert queue.confirmed(ReadId(1)) == [ReadRound(ReadId(1), Index(5), (own(1), remote(2, 9)))]
    assert len(queue) == 0


def test_a_read_never_joins_a_round_under_way() -> None:
    queue = ReadQueue()
    queue.ask(own(1))
    queue.begin(Index(5))
    queue.ask(own(2))

    assert not queue.wants_round
    (done,) = queue.confirmed(ReadId(1))

    assert done.reads == (own(1),)
    assert queue.wants_round
    assert queue.begin(Index(8)) == 2
    assert queue.confirmed(ReadId(2)) == [ReadRound(ReadId(2), Index(8), (own(2),))]


def test_an_old_answer_confirms_no_later_round() -> None:
    queue = ReadQueue()
    queue.ask(own(1))
    queue.begin(Index(5))
    queue.confirmed(ReadId(1))
    queue.ask(own(2))
    queue.begin(Index(6))

    assert queue.confirmed(ReadId(1)) == []
    assert len(queue) == 1


def test_draining_takes_every_read_that_waits_oldest_first() -> None:
    queue = ReadQueue()
    queue.ask(own(1))
    queue.begin(Index(5))
    queue.ask(remote(3, 4))
    queue.ask(own(2))

    assert queue.drain() == [own(1), remote(3, 4), own(2)]
    assert len(queue) == 0
    assert queue.drain() == []
