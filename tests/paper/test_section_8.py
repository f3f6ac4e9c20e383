"""The Raft paper's section 8, client interaction, sentence by sentence. The words are ours."""

from __future__ import annotations

from raft_core.effects import Indeterminate, ReadReady, Refusal, RefusalReason, Respond, Success, UnknownReason
from raft_core.entries import NOOP
from raft_core.events import Proposed, Requested
from raft_core.ids import Index, RequestId
from raft_core.messages import HEARTBEAT, AppendEntries
from raft_core.requests import Read
from tests.core.cluster import Cluster
from tests.core.helpers import accepted, core, heartbeat, leader, machine_done, only, sent, step, tick


def read(number: int) -> Requested:
    return Requested(RequestId(number), Read())


def ready(number: int, index: int) -> Respond:
    return Respond(RequestId(number), ReadReady(Index(index)))


def test_a_server_that_does_not_lead_rejects_a_request_and_names_the_leader_it_heard_of() -> None:
    """§8: clients may begin anywhere."""
    raft = core()
    step(raft, heartbeat(1, 3))

    effects = step(raft, Proposed(RequestId(1), (b"x",)))

    assert effects == [Respond(RequestId(1), Refusal(RefusalReason.NOT_LEADER, raft.status.leader))]
    assert raft.status.leader == 3


def test_a_client_whose_leader_crashed_may_try_again_at_another_server() -> None:
    """§8: the first one never answers; the next one does."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x", request=4)
    cluster[1].crash()

    cluster.tick(60)
    cluster.propose(cluster.leader.id, b"x", request=4)
    cluster.deliver()

    (answer,) = cluster.leader.answers
    assert isinstance(answer.outcome, Success)
    assert cluster[1].answers == []


def test_a_command_may_be_carried_out_although_its_client_was_never_told() -> None:
    """§8: which is why the outcome is called unknown, and why sessions filter what is sent again."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x", request=4)
    cluster.deliver(lambda sender, to, message: to != 1)  # no acknowledgement comes back
    cluster.network.clear()

    cluster.isolate(1)
    cluster.tick(60)

    assert cluster[1].answers == [Respond(RequestId(4), Indeterminate(UnknownReason.LEADERSHIP_LOST))]
    assert cluster.leader.data == [b"x"]


def test_a_new_leader_begins_its_term_with_an_entry_without_content() -> None:
    """§8: to find out what is committed."""
    raft = leader(core(log=[1, 1]))

    last = raft.log.entry(raft.log.last_index)

    assert (last.kind, last.term, last.data) == (NOOP, 2, b"")


def test_a_leader_answers_no_read_before_an_entry_of_its_own_term_is_committed() -> None:
    """§8: until then it does not know what else is committed."""
    raft = leader(core(log=[1, 1]))

    assert step(raft, read(1)) == []
    tick(raft)
    step(raft, accepted(2, 2, 3, purpose=HEARTBEAT))
    assert raft.status.waiting_reads == 1

    (round_,) = {m.read for m in sent(step(raft, accepted(2, 2, 4))) if isinstance(m, AppendEntries) and m.read}
    step(raft, accepted(2, 2, 4, purpose=HEARTBEAT, read=round_))
    assert raft.server.pipeline.reads == [(4, 1)], "now it only waits for the machine"


def test_a_leader_exchanges_heartbeats_with_a_majority_before_it_answers_a_read() -> None:
    """§8: it may have been deposed without knowing."""
    raft = leader(core(), settled=True)
    machine_done(raft)

    asked = step(raft, read(1))
    beat = heartbeat(2, 1, (2, 2), commit=2, read=1, ident=0, tip=2)
    assert sent(asked) == [beat, beat]
    assert only(Respond, asked) == []

    assert step(raft, accepted(2, 3, 2, purpose=HEARTBEAT, read=1)) == [ready(1, 2)]


def test_a_deposed_leader_answers_no_read() -> None:
    """§8: a read that returned old data would break linearizability."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.tick(60, nodes=[2, 3])
    cluster.propose(cluster.leader.id, b"new")
    cluster.deliver()
    assert cluster[1].raft.status.leads, "it does not know yet"

    cluster[1].step(read(1))
    cluster.tick(60)

    assert cluster[1].answers == [Respond(RequestId(1), Refusal(RefusalReason.LEADERSHIP_LOST))]


def test_a_read_sees_every_write_that_was_answered_before_it_was_asked() -> None:
    """§8: linearizability, on the leader and on a follower."""
    cluster = Cluster(3)
    cluster.elect(1)
    for number in range(5):
        cluster.propose(1, b"%d" % number)
        cluster.deliver()
        for node in (1, 2):
            cluster[node].step(read(10 + node))
        cluster.deliver()

        for node in (1, 2):
            answer = cluster[node].answers[-1]
            assert isinstance(answer.outcome, ReadReady)
            assert cluster[node].data[-1] == b"%d" % number
            assert answer.outcome.index >= 3 + number


def test_reads_cost_no_entry_in_the_log() -> None:
    """§8: read-only operations are handled without writing."""
    cluster = Cluster(3)
    cluster.elect(1)
    before = cluster[1].raft.log.last_index

    for number in range(20):
        cluster[1].step(read(number))
    cluster.deliver()

    assert cluster[1].raft.log.last_index == before
    assert len(cluster[1].answers) == 20


def test_a_read_on_an_old_leader_cannot_be_confirmed_by_an_answer_from_before() -> None:
    """§8: only heartbeats sent after the read was asked count."""
    raft = leader(core(), settled=True)
    step(raft, accepted(2, 2, 2, purpose=HEARTBEAT))

    step(raft, read(1))
    effects = step(raft, accepted(2, 2, 2, purpose=HEARTBEAT, read=0))

    assert only(Respond, effects) == []
    assert raft.status.waiting_reads == 1


def test_a_lease_is_used_only_where_it_was_chosen() -> None:
    """§8, last sentence: a lease would do, but relies on timing for safety; so it is off by default."""
    raft = leader(core(), settled=True)
    assert not raft.server.settings.lease_reads

    effects = step(raft, read(1))

    assert only(Respond, effects) == []
    assert [type(m) for m in sent(effects)] == [AppendEntries, AppendEntries]


def test_a_follower_serves_a_read_at_the_index_that_its_leader_names() -> None:
    """§8, thesis 6.4: it waits until its own machine has applied that far."""
    cluster = Cluster(3)
    cluster.elect(1)
    slow = cluster[3]
    cluster.propose(1, b"x")
    cluster.deliver(lambda sender, to, message: to != 3)

    slow.step(read(7))
    cluster.deliver(lambda sender, to, message: not (to == 3 and isinstance(message, AppendEntries)))
    assert slow.answers == []
    cluster.tick(2)

    assert slow.answers == [ready(7, 3)]
    assert slow.data == [b"x"]
