"""Rules of linearizable reads by confirming rounds, each with the mistake that taught it."""

from __future__ import annotations

from raft_core.effects import ReadReady, Refusal, RefusalReason, Respond
from raft_core.events import Proposed, Requested, StopRequested
from raft_core.ids import Index, MessageId, NodeId, RequestId, Term
from raft_core.membership import AddLearner, AddVoter, RemoveNode
from raft_core.messages import HEARTBEAT, AppendEntries, AppendReply, Message, ReadIndex, ReadIndexReply
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, Read, ReadConsistency
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import accepted, append, core, heartbeat, leader, machine_done, only, persist, sent, step, tick


def read(number: int) -> Requested:
    return Requested(RequestId(number), Read())


def ready(number: int, index: int) -> Respond:
    return Respond(RequestId(number), ReadReady(Index(index)))


def refused(number: int, reason: RefusalReason, leader_: int = 0) -> Respond:
    return Respond(RequestId(number), Refusal(reason, NodeId(leader_)))


def settled(count: int = 3) -> Raft:
    raft = leader(core(count=count), settled=True)
    machine_done(raft)
    return raft


def confirms(node: int, round_: int) -> AppendReply:
    return accepted(2, node, 2, purpose=HEARTBEAT, read=round_)


def test_a_read_is_confirmed_by_a_majority_and_not_by_one_answer() -> None:
    raft = settled(count=5)
    step(raft, read(1))

    assert step(raft, confirms(2, 1)) == []
    assert step(raft, confirms(2, 1)) == []
    assert step(raft, confirms(4, 1)) == [ready(1, 2)]


def test_the_index_of_a_read_is_the_commit_index_when_its_round_began() -> None:
    raft = settled()
    step(raft, read(1))
    step(raft, Proposed(RequestId(9), (b"x",)))
    step(raft, accepted(2, 2, 3))
    persist(raft)
    assert raft.server.commit == 3

    assert step(raft, confirms(3, 1)) == [ready(1, 2)]


def test_a_confirmed_read_waits_for_the_machine() -> None:
    raft = settled()
    step(raft, Proposed(RequestId(9), (b"x",)))
    step(raft, accepted(2, 2, 3))
    persist(raft)
    step(raft, read(1))

    assert step(raft, confirms(3, 1)) == []
    assert ready(1, 3) in machine_done(raft)


def test_a_read_asked_during_a_round_joins_the_next_one() -> None:
    """The answers under way may have been given before it was asked."""
    raft = settled()
    step(raft, read(1))
    assert sent(step(raft, read(2))) == []

    effects = step(raft, confirms(2, 1))

    assert only(Respond, effects) == [ready(1, 2)]
    assert {m.read for m in sent(effects) if isinstance(m, AppendEntries)} == {2}
    assert step(raft, confirms(2, 2)) == [ready(2, 2)]


def test_a_late_answer_to_an_earlier_round_confirms_no_later_read() -> None:
    """Round numbers made by clients, repeated and delayed, once let a deposed leader answer with old data."""
    raft = settled(count=5)
    step(raft, read(1))
    step(raft, confirms(2, 1))
    step(raft, confirms(3, 1))
    step(raft, read(2))

    for _ in range(3):
        assert step(raft, confirms(4, 1)) == []
        assert step(raft, confirms(5, 1)) == []
    assert raft.status.waiting_reads == 1


def test_one_answer_confirms_all_earlier_rounds() -> None:
    raft = settled()
    step(raft, read(1))
    step(raft, confirms(2, 1))
    step(raft, read(2))

    assert step(raft, confirms(3, 2)) == [ready(2, 2)]


def test_rounds_are_numbered_anew_by_every_leadership_and_answers_of_another_term_are_dropped() -> None:
    raft = settled()
    step(raft, read(1))
    step(raft, heartbeat(3, 2))
    leader(raft)

    assert raft.server.term == 4
    assert step(raft, confirms(2, 1)) == []
    assert step(raft, confirms(3, 1)) == []


def test_a_lost_round_is_repeated_with_the_next_heartbeat() -> None:
    raft = settled()
    step(raft, read(1))

    assert {m.read for m in sent(tick(raft)) if isinstance(m, AppendEntries)} == {1}


def test_new_members_are_asked_too_when_the_configuration_moves() -> None:
    """They never saw the round; and their answers may be needed."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.joiner(4)
    cluster[1].step(read(5))
    cluster.network.clear()

    cluster[1].step(Requested(RequestId(6), ChangeMembership((AddVoter(NodeId(4)),))))
    beats = [(to, m.read) for _, to, m in cluster.network if isinstance(m, AppendEntries) and m.purpose is HEARTBEAT]

    assert beats == [(2, 1), (3, 1), (4, 1)]


def test_reads_are_confirmed_by_those_who_are_left_when_members_go() -> None:
    """The answer that was missing may be the removed node's, and then no answer comes any more."""
    cluster = Cluster(2)
    cluster.elect(1)

    def no_heartbeats_answers(sender: int, to: int, message: Message) -> bool:
        return not (isinstance(message, AppendReply) and message.purpose is HEARTBEAT)

    cluster[1].step(read(5))
    cluster[1].step(Requested(RequestId(6), ChangeMembership((RemoveNode(NodeId(2)),))))
    cluster.deliver(no_heartbeats_answers)
    cluster.isolate(2)
    cluster[1].step(read(8))
    cluster.deliver()

    answered = {answer.request for answer in cluster[1].answers if isinstance(answer.outcome, ReadReady)}
    assert answered == {5, 8}


def test_a_leader_that_is_deposed_refuses_its_reads() -> None:
    raft = settled()
    step(raft, read(1))
    step(raft, read(2))

    effects = step(raft, heartbeat(9, 2))

    assert only(Respond, effects) == [
        refused(1, RefusalReason.LEADERSHIP_LOST),
        refused(2, RefusalReason.LEADERSHIP_LOST),
    ]


def test_a_single_voter_answers_at_once_but_only_after_its_own_term_committed() -> None:
    raft = leader(core(count=1), durable=False)
    assert step(raft, read(1)) == []

    persist(raft)
    effects = machine_done(raft)
    assert ready(1, 2) in effects
    assert step(raft, read(2)) == [ready(2, 2)]


# On followers.


def following() -> Raft:
    raft = core(applied=1)
    step(raft, heartbeat(1, 2, (1, 1), commit=1))
    return raft


def asked(raft: Raft, number: int) -> MessageId:
    before = raft.server.messages_made
    step(raft, read(number))
    return MessageId((1 << 40) + before + 1)


def answer(ident: int, index: int, *, ok: bool = True, sender: int = 2) -> ReadIndexReply:
    return ReadIndexReply(Term(1), NodeId(sender), MessageId(ident), Index(index), ok)


def test_a_follower_asks_its_leader_and_answers_when_it_has_applied_that_far() -> None:
    raft = following()

    effects = step(raft, read(3))
    assert sent(effects) == [ReadIndex(Term(1), NodeId(1), MessageId(0))]

    ident = (1 << 40) + raft.server.messages_made
    assert step(raft, answer(ident, 1)) == [ready(3, 1)]


def test_an_answer_serves_all_questions_asked_before_it_and_none_after() -> None:
    raft = following()
    asked(raft, 1)
    second = asked(raft, 2)
    asked(raft, 3)

    assert step(raft, answer(second, 1)) == [ready(1, 1), ready(2, 1)]
    assert raft.status.waiting_reads == 1


def test_a_follower_asks_again_while_it_waits() -> None:
    """The question or its answer may be lost, and a read must not hang."""
    raft = following()
    asked(raft, 1)

    assert [type(m) for m in sent(tick(raft))] == [ReadIndex]


def test_a_follower_that_loses_its_leader_refuses_its_reads() -> None:
    raft = following()
    asked(raft, 1)

    effects = step(raft, heartbeat(2, 3))

    assert only(Respond, effects) == [refused(1, RefusalReason.LEADERSHIP_LOST)]


def test_a_confirmed_read_that_needs_more_of_a_lost_leader_is_refused_and_one_that_does_not_is_not() -> None:
    """No other node may ever bring the entries: this node may have been removed, and not have learned it (rule 7.5)."""
    raft = following()
    step(raft, append(1, 2, (1, 1), (2, 1), commit=2))
    first, second = asked(raft, 1), asked(raft, 2)
    assert step(raft, answer(first, 2)) == []
    assert step(raft, answer(second, 3)) == []
    assert raft.status.waiting_reads == 2

    for _ in range(2 * raft.server.settings.election_ticks):
        effects = tick(raft)
        if only(Respond, effects):
            break

    # the index of the second was beyond what is known to be committed here
    assert only(Respond, effects) == [refused(2, RefusalReason.LEADERSHIP_LOST)]
    assert raft.status.waiting_reads == 1


def test_without_a_leader_a_read_is_refused_at_once() -> None:
    assert step(core(), read(1)) == [refused(1, RefusalReason.NO_LEADER)]


def test_a_refusal_of_the_leader_is_passed_on() -> None:
    raft = following()
    ident = asked(raft, 1)

    assert step(raft, answer(ident, 0, ok=False)) == [refused(1, RefusalReason.LEADERSHIP_LOST, 2)]


def test_an_answer_from_anybody_but_the_leader_is_dropped() -> None:
    raft = following()
    ident = asked(raft, 1)

    assert step(raft, answer(ident, 1, sender=3)) == []
    assert raft.status.waiting_reads == 1


def test_a_removed_node_is_told_instead_of_waiting_for_ever() -> None:
    raft = settled()

    (reply,) = sent(step(raft, ReadIndex(Term(2), NodeId(9), MessageId(7))))

    assert reply == ReadIndexReply(Term(2), NodeId(1), MessageId(7), Index(2), ok=False)


def test_who_does_not_lead_says_so_when_asked_for_an_index() -> None:
    (reply,) = sent(step(core(), ReadIndex(Term(1), NodeId(3), MessageId(7))))

    assert reply == ReadIndexReply(Term(1), NodeId(1), MessageId(7), Index(0), ok=False)


def test_learners_read_as_followers_do() -> None:
    """Reads scale with the cluster."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.joiner(4)
    cluster[1].step(Requested(RequestId(6), ChangeMembership((AddLearner(NodeId(4)),))))
    cluster.deliver()
    cluster.propose(1, b"x")
    cluster.deliver()

    cluster[4].step(read(5))
    cluster.deliver()

    assert isinstance(cluster[4].answers[-1].outcome, ReadReady)
    assert cluster[4].data == [b"x"]


# Bounds and ends.


def test_waiting_reads_are_bounded_wherever_they_wait() -> None:
    """Leader, follower, and those that wait for the machine; each further one is refused with a type of its own."""
    settings = with_settings(max_waiting_reads=3)
    boss = leader(core(settings=settings), settled=True)
    other = core(settings=settings)
    step(other, heartbeat(1, 2))
    third = core(log=[1, 1], commit=3, settings=settings)  # its machine has not answered

    for raft in (boss, other):
        answers = [only(Respond, step(raft, read(n))) for n in range(5)]
        assert [len(a) for a in answers] == [0, 0, 0, 1, 1]
        assert answers[4][0].outcome.reason is RefusalReason.READS_FULL  # type: ignore[union-attr]
    waits = [step(third, Requested(RequestId(n), Read(ReadConsistency.MONOTONE, 3))) for n in range(5)]
    assert [len(w) for w in waits] == [0, 0, 0, 1, 1]


def test_a_node_that_stops_refuses_its_reads() -> None:
    raft = following()
    asked(raft, 1)

    answers = only(Respond, step(raft, StopRequested()))

    assert [a.request for a in answers] == [1]  # type: ignore[union-attr]


def test_reads_and_writes_do_not_wait_for_each_other() -> None:
    cluster = Cluster(3, settings=SMALL)
    cluster.elect(1)
    for number in range(10):
        cluster[1].step(read(100 + number))
        cluster.propose(1, b"%d" % number, request=number)
    cluster.deliver()

    assert len(cluster[1].answers) == 20
