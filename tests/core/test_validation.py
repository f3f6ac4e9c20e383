"""Messages that contradict themselves, strangers, and numbers near the end of their range."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import msgspec
import pytest

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Effect,
    Persist,
    ReceiveSnapshot,
    Respond,
    RoleName,
    Send,
    Stop,
    StopReason,
    TakeSnapshot,
)
from raft_core.entries import MEMBERS, NOOP, Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.events import CampaignRequested, Proposed, Requested, SnapshotReceived, SnapshotTaken, Tick
from raft_core.ids import (
    HIGHEST_FOUNDER,
    MAX_INT63,
    NODE_LEAP,
    BootNumber,
    Incarnation,
    Index,
    MessageId,
    NodeId,
    ReadId,
    RequestId,
    Term,
    WriteId,
)
from raft_core.membership import AddLearner, ChangeError, ChangeProblem, Members
from raft_core.messages import (
    COMMIT_UPDATE,
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_core.quorum_loss import plan_quorum_loss_recovery
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import Read
from raft_core.validation import FAR_TERM, TERM_LEAP, TERM_STEP
from raft_core.wire.codec import decode, encode_message
from raft_core.wire.frames import FrameReader
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import (
    accepted,
    announced,
    append,
    apply_of,
    asks,
    candidate,
    core,
    entries,
    heartbeat,
    leader,
    machine_done,
    only,
    persist,
    sent,
    step,
    tick,
    votes,
)

THREE = Members.initial([1, 2, 3])
STRANGER = 99


def kinds(effects: list[Effect]) -> list[tuple[AlarmKind, NodeId]]:
    """The effects, which are alarms and nothing else."""
    assert all(type(effect) is Alarm for effect in effects), effects
    return [(effect.kind, effect.peer) for effect in effects if isinstance(effect, Alarm)]


def offer(term: int, meta: SnapshotMeta, sender: int = 2) -> InstallSnapshot:
    return InstallSnapshot(Term(term), NodeId(sender), MessageId(7), meta)


def meta(index: int, term: int, members: Members = THREE, place: int = 1) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), members, Index(place))


def raw(term: int, prev: tuple[int, int], *new: Entry, purpose: object = DATA) -> AppendEntries:
    request = append(term, 2, prev)
    return msgspec.structs.replace(request, entries=new, purpose=purpose)


# Fields that contradict one another.

CONTRADICTIONS = (
    offer(3, meta(10, 4)),
    offer(3, meta(0, 3)),
    offer(3, meta(10, 3, place=11)),
    offer(3, meta(10, 3, Members())),
    offer(3, meta(10, 3, Members(voters=(NodeId(2), NodeId(1)), highest_id=NodeId(2)))),
    raw(3, (1, 4)),
    raw(3, (1, 4), purpose=HEARTBEAT),
    raw(3, (1, 4), purpose=COMMIT_UPDATE),
    raw(3, (1, 1), Entry.make(3, 3)),
    raw(3, (1, 1), Entry.make(2, 4)),
    raw(3, (1, 1), Entry.make(2, 3), Entry.make(3, 2)),
    raw(3, (1, 1), Entry.make(2, 3, b"no members", MEMBERS)),
    raw(3, (1, 1), Entry.make(2, 3, b"", NOOP), purpose=HEARTBEAT),
    raw(3, (1, 1), Entry.make(2, 3, b"", NOOP), purpose=COMMIT_UPDATE),
    asks(3, 2, (9, 4)),
    AppendReply(
        Term(3),
        NodeId(2),
        Incarnation(0),
        MessageId(7),
        DATA,
        ReadId(0),
        Index(0),
        Index(9),
        Index(8),
        Term(4),
        ok=False,
    ),
)


@pytest.mark.parametrize("message", CONTRADICTIONS)
@pytest.mark.parametrize("role", [RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER])
def test_message_that_contradicts_itself_is_dropped_with_alarm(message: Message, role: RoleName) -> None:
    """Not even its term is believed: an installed snapshot of a later term makes the next start refuse the disk."""
    raft = core()
    if role is RoleName.CANDIDATE:
        candidate(raft)
    elif role is RoleName.LEADER:
        leader(raft)
    before = raft.fingerprint()

    assert kinds(step(raft, message)) == [(AlarmKind.MALFORMED, NodeId(2))]
    assert raft.fingerprint() == before


def test_reply_to_what_was_never_sent_is_dropped_with_alarm() -> None:
    raft = leader(core(), settled=True)
    last = raft.log.last_index

    for reply in (
        accepted(2, 2, last + 1),
        accepted(2, 2, last, purpose=HEARTBEAT, read=MAX_INT63),
        SnapshotReply(Term(2), NodeId(2), Incarnation(0), MessageId(7), Index(1), Index(last + 1), ok=True),
    ):
        assert kinds(step(raft, reply)) == [(AlarmKind.MALFORMED, NodeId(2))]


def test_read_is_not_confirmed_by_reply_to_round_that_was_never_sent() -> None:
    """Otherwise one such reply would confirm every later round of this leadership."""
    raft = leader(core(), settled=True)
    machine_done(raft)
    step(raft, accepted(2, 2, 2, purpose=HEARTBEAT, read=1000))

    effects = step(raft, Requested(RequestId(5), Read()))

    assert only(Respond, effects) == []


# Terms.


@pytest.mark.parametrize(
    ("ours", "theirs", "believed"),
    [
        (1, 1 + TERM_LEAP, True),
        (1, MAX_INT63, False),
        (FAR_TERM - 5, FAR_TERM, True),
        (FAR_TERM - 5, FAR_TERM + 1, True),
        (FAR_TERM, FAR_TERM + TERM_STEP, True),
        (FAR_TERM, FAR_TERM + TERM_STEP + 1, False),
        (MAX_INT63 - 1, MAX_INT63, True),
    ],
)
def test_no_message_uses_up_the_range_of_terms(ours: int, theirs: int, believed: bool) -> None:
    raft = core(term=ours)
    effects = step(raft, append(theirs, 2, (1, 1)))

    if believed:
        assert raft.server.term == theirs
    else:
        assert kinds(effects) == [(AlarmKind.MALFORMED, NodeId(2))]
        assert raft.server.term == ours


@pytest.mark.parametrize(
    "answer",
    [
        VoteReply(Term(3), NodeId(STRANGER), Incarnation(0), MessageId(1), VoteKind.REAL, granted=False),
        VoteReply(Term(3), NodeId(STRANGER), Incarnation(0), MessageId(1), VoteKind.PRE, granted=False),
        AppendReply(Term(3), NodeId(STRANGER), Incarnation(0), MessageId(1), DATA, ReadId(0), Index(0), ok=False),
        SnapshotReply(Term(3), NodeId(STRANGER), Incarnation(0), MessageId(1), Index(3), Index(0), ok=False),
        TransferRefused(Term(3), NodeId(STRANGER), MessageId(1)),
        ReadIndex(Term(3), NodeId(STRANGER), MessageId(1)),
        ReadIndexReply(Term(3), NodeId(STRANGER), MessageId(1), Index(3), ok=True),
        TimeoutNow(Term(3), NodeId(STRANGER), MessageId(1)),
    ],
)
def test_stranger_raises_no_term_by_answers(answer: Message) -> None:
    for raft in (core(), candidate(core()), leader(core())):
        before = raft.fingerprint()

        assert step(raft, answer) == []
        assert raft.fingerprint() == before


def test_candidate_and_leader_that_are_not_known_yet_are_believed() -> None:
    """A voter that lags may meet a configuration that it has not heard of (rule 9.3)."""
    voter = core()
    step(voter, asks(3, STRANGER, (1, 1)))
    assert sent(persist(voter)) == [votes(3, 1)]

    follower = core()
    effects = step(follower, append(3, STRANGER, (1, 1)))
    assert only(Persist, effects) == [Persist(WriteId(1), HardState(Term(3), NodeId(0), Index(1)))]
    assert effects[-1] == announced(RoleName.FOLLOWER, 3, STRANGER)


@pytest.mark.parametrize("kind", ["vote", "append"])
def test_cluster_lives_on_after_highest_term(kind: str) -> None:
    """The case: one frame of term 2**63 - 1, and no election could ever be won again."""
    cluster = Cluster(3)
    cluster.elect(1)
    bad: Message = append(MAX_INT63, STRANGER, (1, 1))
    if kind == "vote":
        bad = VoteReply(Term(MAX_INT63), NodeId(STRANGER), Incarnation(0), MessageId(1), VoteKind.REAL, granted=False)
    for node in cluster.nodes.values():
        node.step(bad)
    cluster.nodes[1].crash()
    cluster.tick(60)

    assert cluster.leader.id in (2, 3)
    assert cluster.leader.raft.server.term < 100


def test_node_in_last_term_stands_no_more() -> None:
    """A candidate would enter a term that no frame can carry."""
    raft = core(term=MAX_INT63)

    assert tick(raft, 50) == []
    assert step(raft, CampaignRequested()) == []


def test_salvage_leaves_used_up_terms_behind() -> None:
    """The way on for a cluster whose terms are used up: found a new one on its data."""
    founding = Entry.make(1, 1, THREE.encode(), MEMBERS)
    held = (founding, *entries((2, 5)))
    survivor = Recovered(Identity(NodeId(1)), HardState(Term(MAX_INT63), NodeId(0), Index(2)), entries=held)

    plan = plan_quorum_loss_recovery(survivor, Identity(NodeId(4), cluster="new"))  # type: ignore[arg-type]

    assert plan.writes[0].hard == HardState(Term(6), NodeId(0), Index(3))


# What strangers cannot do.


def test_stranger_does_not_stop_node_by_saying_that_it_lost_entries() -> None:
    raft = core()
    before = raft.fingerprint()

    assert kinds(step(raft, heartbeat(1, STRANGER, (1 << 40, 1)))) == [(AlarmKind.MALFORMED, NodeId(STRANGER))]
    assert raft.fingerprint() == before


def test_member_that_proves_loss_is_believed() -> None:
    raft = core()
    assert only(Stop, step(raft, heartbeat(1, 2, (9, 1))))


def test_follower_obeys_no_other_node_than_its_leader() -> None:
    raft = core(log=[1, 1])
    step(raft, append(1, 2, (3, 1)))
    before = raft.fingerprint()

    assert step(raft, TimeoutNow(Term(1), NodeId(3), MessageId(7))) == []
    assert raft.fingerprint() == before


@pytest.mark.parametrize("pre_candidate", [False, True])
def test_stranger_makes_nobody_stand(pre_candidate: bool) -> None:
    raft = core()
    if pre_candidate:
        step(raft, CampaignRequested())
    before = raft.fingerprint()

    assert step(raft, TimeoutNow(Term(1), NodeId(STRANGER), MessageId(7))) == []
    assert raft.fingerprint() == before


# Verified, and no more.


def test_heartbeat_verifies_no_more_than_the_place_it_names() -> None:
    """What lies behind it may be another leader's, and must be neither acknowledged nor committed."""
    raft = core(log=[1, 2, 2], applied=1)

    effects = step(raft, heartbeat(3, 2, (2, 1), commit=2, tip=4))
    assert effects == [
        Persist(WriteId(1), HardState(Term(3), NodeId(0), Index(2))),
        apply_of(entries((2, 1))),
        announced(RoleName.FOLLOWER, 3, 2),
    ]
    assert persist(raft) == [Send(NodeId(2), accepted(3, 1, 2, purpose=HEARTBEAT))]
    assert (raft.server.commit, raft.status.last_index) == (2, 4)


def test_heartbeat_that_names_no_place_verifies_what_is_committed_only() -> None:
    raft = core(log=[1, 2, 2], commit=2)
    step(raft, heartbeat(3, 2, (0, 0), commit=0, tip=4))

    assert sent(persist(raft)) == [accepted(3, 1, 2, purpose=HEARTBEAT)]


# Snapshots that were overtaken.


def test_snapshot_taken_that_one_from_the_leader_overtook_is_not_believed() -> None:
    raft = core(log=[1, 1], commit=3, settings=with_settings(snapshot_entries=2, keep_entries=0))
    (order,) = [effect for effect in machine_done(raft) if isinstance(effect, TakeSnapshot)]
    newer = meta(10, 2)
    step(raft, offer(2, newer))
    step(raft, SnapshotReceived(newer))
    persist(raft)
    machine_done(raft)
    before = raft.fingerprint()

    assert step(raft, SnapshotTaken(order.meta)) == []
    assert raft.fingerprint() == before


def test_snapshot_taken_late_does_not_stand_for_a_later_order() -> None:
    raft = core(log=[1, 1], commit=3, settings=with_settings(snapshot_entries=2, keep_entries=0))
    (order,) = [effect for effect in machine_done(raft) if isinstance(effect, TakeSnapshot)]
    newer = meta(10, 2)
    step(raft, offer(2, newer))
    step(raft, SnapshotReceived(newer))
    persist(raft)
    machine_done(raft)
    step(raft, append(2, 2, (10, 2), (11, 2), (12, 2), commit=12))
    persist(raft)
    (later,) = [effect for effect in machine_done(raft) if isinstance(effect, TakeSnapshot)]

    assert step(raft, SnapshotTaken(order.meta)) == []
    assert raft.server.snapshots.pending == later.meta.index


@pytest.mark.parametrize("other", [meta(10, 1), meta(10, 2, Members.initial([1, 2])), meta(10, 2, place=2), meta(9, 2)])
def test_other_snapshot_is_not_taken_for_the_one_being_received(other: SnapshotMeta) -> None:
    """Of the same index, even: by term, by configuration, or by that one's place, it is another."""
    raft = core()
    wanted = meta(10, 2)
    assert ReceiveSnapshot(NodeId(2), wanted) in step(raft, offer(2, wanted))
    persist(raft)

    assert step(raft, SnapshotReceived(other)) == []
    assert raft.server.snapshots.receiving == ReceiveSnapshot(NodeId(2), wanted)


def test_snapshot_that_nobody_asked_for_is_not_installed() -> None:
    raft = core()
    assert step(raft, SnapshotReceived(meta(10, 1))) == []


@pytest.mark.parametrize(("index", "taken"), [(FAR_TERM, True), (FAR_TERM + 1, False), (MAX_INT63, False)])
def test_no_snapshot_uses_up_the_range_of_indexes(index: int, taken: bool) -> None:
    raft = core()
    effects = step(raft, offer(1, meta(index, 1)))

    assert bool(only(ReceiveSnapshot, effects)) is taken
    assert [(alarm.kind, alarm.peer) for alarm in effects if isinstance(alarm, Alarm)] == (
        [] if taken else [(AlarmKind.MALFORMED, NodeId(2))]
    )


# Ids.


def test_one_change_does_not_use_up_the_ids() -> None:
    """The case: `AddLearner(2**63 - 1)` forbade every later id."""
    most = NodeId(THREE.highest_id + NODE_LEAP)
    for node in (most + 1, MAX_INT63):
        refused = THREE.changed((AddLearner(NodeId(node)),))
        assert isinstance(refused, ChangeError)
        assert refused.kind is ChangeProblem.BAD_ID
    added = THREE.changed((AddLearner(most),))
    assert isinstance(added, Members)
    assert isinstance(added.changed((AddLearner(NodeId(most + 1)),)), Members)


def test_founders_leave_ids_for_others() -> None:
    assert Members.initial([HIGHEST_FOUNDER]).highest_id == HIGHEST_FOUNDER
    with pytest.raises(CallerError):
        Members.initial([1, HIGHEST_FOUNDER + 1])
    with pytest.raises(CallerError):
        Members.initial([1], learners=[HIGHEST_FOUNDER + 1])


def test_configuration_written_before_the_bound_is_still_read() -> None:
    old = Members(voters=(NodeId(MAX_INT63),), highest_id=NodeId(MAX_INT63))
    assert Members.decode(old.encode()) == old


# Numbers that only grow.


@pytest.mark.parametrize("boot", [(1 << 23) - 1, 1 << 23, MAX_INT63])
def test_node_that_was_opened_often_can_speak(boot: int) -> None:
    """The case: from 2**23 openings on, its message ids did not fit a frame, and every link broke."""
    fresh = Recovered.fresh(1, THREE, boot=boot)
    raft = Raft(SMALL, fresh, random.Random(1))
    raft.step()
    raft.server.messages_made = (1 << 40) - 2
    effects = [*raft.step(CampaignRequested()), *persist(raft)]
    (first, *_) = [effect.message for effect in effects if isinstance(effect, Send)]

    (frame,) = FrameReader(max_first=1000, max_later=1000).feed(encode_message(first))
    assert decode(frame) == first  # type: ignore[arg-type]


def test_message_ids_differ_over_their_ends() -> None:
    raft = core()
    raft.server.messages_made = (1 << 40) - 3
    made = [raft.server.next_message() for _ in range(6)]
    again = Raft(SMALL, Recovered.fresh(1, THREE, boot=2), random.Random(1))

    assert len({*made, again.server.next_message()}) == 7
    assert all(0 <= number <= MAX_INT63 for number in made)


def test_answer_to_a_read_of_an_earlier_life_answers_none_of_this_one() -> None:
    """Its number may be higher: boots begin anew after 2**23."""
    raft = core()
    step(raft, append(1, 2, (1, 1)))
    step(raft, Requested(RequestId(5), Read()))
    late = ReadIndexReply(Term(1), NodeId(2), MessageId(MAX_INT63), Index(1), ok=True)

    assert step(raft, late) == []
    assert len(raft.role.reads) == 1  # type: ignore[union-attr]


def test_reads_asked_before_the_answered_one_are_answered_too() -> None:
    raft = core(applied=1)
    step(raft, append(1, 2, (1, 1)))
    for request in (5, 6, 7):
        step(raft, Requested(RequestId(request), Read()))
    (_, (second, _), _) = raft.role.reads  # type: ignore[union-attr]

    effects = step(raft, ReadIndexReply(Term(1), NodeId(2), second, Index(1), ok=True))

    assert [effect.request for effect in effects if isinstance(effect, Respond)] == [5, 6]


def test_leader_of_term_zero_ends_no_joiner() -> None:
    """A joiner knows no member yet. A stranger that claims to lead its term 0 proves nothing about its disk."""
    joiner = Raft(SMALL, Recovered(Identity(NodeId(4), incarnation=Incarnation(4))), random.Random(4))
    joiner.step()
    far = Index(MAX_INT63)
    said = AppendEntries(Term(0), NodeId(STRANGER), MessageId(1), HEARTBEAT, far, Term(0), far, ReadId(1))

    effects = joiner.step(said)

    assert kinds(effects) == [(AlarmKind.MALFORMED, NodeId(STRANGER))]


def test_stranger_of_a_real_term_ends_no_joiner_on_its_first_start() -> None:
    """Its disk has acknowledged nothing, so nothing can be lost. Later starts cannot tell, and do believe it."""
    far = Index(9)
    said = AppendEntries(Term(3), NodeId(STRANGER), MessageId(1), HEARTBEAT, far, Term(3), far, ReadId(1))
    identity = Identity(NodeId(4), incarnation=Incarnation(4))
    joiner = Raft(SMALL, Recovered(identity), random.Random(4))
    joiner.step()

    effects = joiner.step(said)

    assert [effect.kind for effect in effects if isinstance(effect, Alarm)] == [AlarmKind.MALFORMED]
    assert not any(isinstance(effect, Stop | Send) for effect in effects)
    again = Raft(SMALL, Recovered(identity, boot=BootNumber(2)), random.Random(4))
    again.step()
    assert [effect.reason for effect in again.step(said) if isinstance(effect, Stop)] == [StopReason.LOG_LOST]


# What the caller proposes.


@pytest.mark.parametrize("commands", [("a",), (b"a", "b"), [b"a", None], (bytearray(b"a"),), b"ab", "ab", None, 7])
@pytest.mark.parametrize("role", [RoleName.LEADER, RoleName.FOLLOWER])
def test_commands_that_are_not_bytes_are_refused_before_any_change(commands: Any, role: RoleName) -> None:
    raft, twin = (core(), core()) if role is RoleName.FOLLOWER else (leader(core()), leader(core()))

    with pytest.raises(CallerError):
        raft.step(Proposed(7, commands))

    good = Proposed(8, (b"a", b"b"))
    assert raft.step(good) == twin.step(good)
    assert raft.step(Tick()) == twin.step(Tick())


def test_wrong_commands_as_the_first_event_leave_the_start_to_the_next_step() -> None:
    raft = Raft.bootstrap(1, [1], seed=1)

    with pytest.raises(CallerError):
        raft.step(Proposed(7, ("a",)))  # type: ignore[arg-type]

    assert raft.step() == Raft.bootstrap(1, [1], seed=1).step()


@pytest.mark.parametrize("commands", [[b"a", b"b"], deque([b"a", b"b"]), (type("Text", (bytes,), {})(b"a"), b"b")])
def test_any_sequence_of_bytes_may_be_proposed(commands: Any) -> None:
    raft, twin = leader(core()), leader(core())

    assert raft.step(Proposed(8, commands)) == twin.step(Proposed(8, (b"a", b"b")))
