"""The public class: misuse by the caller, nonsense from peers, sameness of copies, and nothing given is changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raft_core.effects import (
    Alarm,
    AlarmKind,
    Apply,
    Effect,
    Persist,
    Refusal,
    RefusalReason,
    Respond,
    Restore,
    RoleName,
    Send,
    Stop,
    StopReason,
)
from raft_core.entries import MEMBERS, Entry, HardState, LogPosition, SnapshotMeta
from raft_core.errors import CallerError, RaftStopped
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    ForgetLeaderRequested,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotTaken,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, RequestId, Term, WriteId
from raft_core.membership import AddVoter, Members
from raft_core.messages import (
    AppendEntries,
    AppendPurpose,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteKind,
    VoteReply,
)
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership, LeaveJoint, Propose, Read, ReadConsistency, TransferLeadership
from raft_core.state_codec import alike
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import (
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
    step,
    tick,
)

THREE = Members.initial([1, 2, 3])


# Misuse by the caller.


def unstarted() -> Raft:
    return Raft(SMALL, Recovered.fresh(1, THREE), random.Random(1))


def test_first_step_returns_the_effects_of_the_start_before_its_own() -> None:
    snapshot = SnapshotMeta(Index(3), Term(1), THREE, Index(1))
    recovered = Recovered(Identity(NodeId(1)), HardState(Term(1), commit=Index(4)), snapshot, entries((4, 1)))
    refused = Respond(RequestId(7), Refusal(RefusalReason.NOT_LEADER))

    assert Raft.open(recovered, seed=1).step(Proposed(RequestId(7), (b"x",))) == [
        Restore(snapshot),
        apply_of(entries((4, 1))),
        refused,
    ]


def test_step_without_an_event_starts_the_core_once() -> None:
    raft = unstarted()

    assert raft.step() == [Apply(Index(1))]
    assert raft.step() == []
    assert raft.step(Tick()) == []


def test_bootstrapped_nodes_elect_a_leader() -> None:
    nodes = {n: Raft.bootstrap(n, [1, 2, 3], seed=n) for n in (1, 2, 3)}
    (request,) = {send.message for send in nodes[1].step(CampaignRequested()) if isinstance(send, Send)}
    (reply,) = [send.message for send in nodes[2].step(request) if isinstance(send, Send)]

    assert isinstance(reply, VoteReply)
    assert reply.granted


def test_node_which_is_not_among_the_members_cannot_bootstrap() -> None:
    with pytest.raises(CallerError):
        Raft.bootstrap(4, [1, 2, 3], seed=4)


def test_cores_of_one_seed_are_equal_and_a_generator_is_taken_as_it_is() -> None:
    assert Raft.bootstrap(1, [1], seed=5).fingerprint() == Raft.bootstrap(1, [1], seed=random.Random(5)).fingerprint()
    assert Raft.bootstrap(1, [1], seed=5).fingerprint() != Raft.bootstrap(1, [1], seed=6).fingerprint()


def paged() -> Raft:
    """A follower whose machine was given the entries 1…3."""
    raft = core(log=[1, 1])
    step(raft, heartbeat(1, 2, (3, 1), commit=3))
    return raft


MISUSE: list[tuple[str, Callable[[], Raft], Event]] = [
    ("never ordered", core, Persisted(WriteId(1))),
    ("does not answer an Apply", core, Applied(Index(2))),
    ("does not answer an Apply", paged, Applied(Index(4))),
    ("2 results for 0 commands", paged, Applied(Index(1), (b"", b""))),
    ("1 results for 2 commands", paged, Applied(Index(3), (b"",))),
    ("does not answer a Restore", core, Restored(Index(1))),
]


@pytest.mark.parametrize(("text", "make", "event"), MISUSE)
def test_a_caller_that_breaks_the_contract_is_told_which_rule(
    text: str, make: Callable[[], Raft], event: Event
) -> None:
    raft = make()

    with pytest.raises(CallerError, match=text):
        raft.step(event)
    with pytest.raises(RaftStopped):
        raft.step(Tick())
    assert raft.stopped


@pytest.mark.parametrize(
    "wrong",
    [
        Tick(0),
        Tick("a"),  # type: ignore[arg-type]
        Proposed(7, ("text",)),  # type: ignore[arg-type]
        Requested(7, None),  # type: ignore[arg-type]
        Requested(7, Read),  # type: ignore[arg-type]
        Requested(7, "a read"),  # type: ignore[arg-type]
        Requested(7, Propose(b"by Proposed only")),  # type: ignore[arg-type]
    ],
    ids=range(7),
)
def test_event_with_a_value_of_a_wrong_type_changes_nothing(wrong: Event) -> None:
    raft = core()
    step(raft, Tick())
    before = raft.fingerprint()
    with pytest.raises(CallerError):
        raft.step(wrong)
    assert raft.fingerprint() == before
    assert raft.step(Tick()) == []


@pytest.mark.parametrize("seed", [None, "a", 1.5])
def test_seed_of_another_type_is_refused(seed: Any) -> None:
    with pytest.raises(CallerError, match="seed"):
        Raft.bootstrap(1, [1], seed=seed)


def test_a_report_of_applied_entries_must_not_come_twice() -> None:
    raft = core()
    step(raft, Applied(Index(1)))

    with pytest.raises(CallerError, match="1"):
        raft.step(Applied(Index(1)))


def test_a_stopped_core_takes_nothing_more() -> None:
    raft = core()

    assert step(raft, StopRequested()) == [Stop(StopReason.REQUESTED)]

    with pytest.raises(RaftStopped):
        raft.step(Tick())


def test_reports_that_have_been_overtaken_are_ignored() -> None:
    raft = core()
    meta = SnapshotMeta(Index(9), Term(1), THREE)

    assert step(raft, SnapshotTaken(meta)) == []
    assert step(raft, SnapshotFailed(Index(9))) == []
    assert step(raft, SnapshotRejected(Index(9))) == []
    assert step(raft, PeerConnected(NodeId(99))) == []
    assert step(raft, PeerUnreachable(NodeId(99))) == []
    assert step(raft, SnapshotProgress(NodeId(99))) == []
    assert step(raft, Persisted(WriteId(0))) == []


# Nonsense from peers.


def joiner() -> Raft:
    raft = Raft(SMALL, Recovered.fresh(4), random.Random(1))
    raft.step()
    return raft


def following() -> Raft:
    raft = core(log=[1, 1, 2], commit=2)
    step(raft, heartbeat(2, 2, (4, 2), commit=3))
    persist(raft)
    return raft


def standing() -> Raft:
    return candidate(core(log=[1, 1, 2], commit=2))


def asking() -> Raft:
    raft = core(log=[1, 1, 2], commit=2)
    step(raft, CampaignRequested())
    return raft


def leading() -> Raft:
    raft = leader(core(log=[1, 1, 2], commit=2), settled=True)
    step(raft, Proposed(RequestId(1), (b"x",)))
    return raft


def behind_a_snapshot() -> Raft:
    meta = SnapshotMeta(Index(10), Term(2), THREE, Index(1))
    raft = core(snapshot=meta, log=[2, 3], commit=11)
    step(raft, heartbeat(3, 3, (12, 3), commit=11))
    return raft


def joint_leader() -> Raft:
    raft = leader(core(log=[1]), settled=True)
    step(raft, Requested(RequestId(1), ChangeMembership((AddVoter(NodeId(4)), AddVoter(NodeId(5))))))
    return raft


EVERYBODY = [joiner, following, standing, asking, leading, behind_a_snapshot, joint_leader, core]
DATA = [b"", b"x", b"\xc1", THREE.encode()]
NUMBERS = [-1, 0, 0, 1, 1, 2, 3, 4, 5, 11, 12, 100, 1 << 40, (1 << 63) - 1]


def nonsense(rng: random.Random, raft: Raft) -> Message:
    """Any message, with numbers that may be anything, and some that fit."""
    server = raft.server

    def number() -> int:
        return rng.choice(
            [*NUMBERS, server.term, server.log.last_index, server.commit, server.messages_made + (1 << 40)]
        )

    term = Term(rng.choice([server.term, server.term, server.term + 1, number()]))
    sender = NodeId(rng.choice([1, 2, 3, 4, number()]))
    ident, index = MessageId(number()), Index(number())
    read, disk = ReadId(number()), Incarnation(rng.choice([0, 0, number()]))
    kind = rng.choice(list(VoteKind))
    purpose = rng.choice(list(AppendPurpose))
    position = LogPosition(Index(number()), Term(number()))
    members = rng.choice([THREE, Members(), Members.initial([2, 9], learners=[1])])
    start = rng.choice([index + 1, index + 1, number()])
    new = tuple(
        Entry.make(
            start + n, rng.choice([term, number()]), rng.choice([b"", b"x", b"\xc1"]), rng.choice([None, MEMBERS])
        )
        for n in range(rng.choice([0, 0, 1, 3]))
    )
    prev_term = Term(rng.choice([server.log.term_at(index) or 0, number()]))
    ok = rng.random() < 0.5
    made: list[Message] = [
        RequestVote(term, sender, ident, kind, position),
        VoteReply(term, sender, disk, ident, kind, ok),
        AppendEntries(
            term, sender, ident, purpose, index, prev_term, Index(number()), ReadId(number()), new, Index(number())
        ),
        AppendReply(term, sender, disk, ident, purpose, read, index, Index(number()), Index(number()), prev_term, ok),
        InstallSnapshot(term, sender, ident, SnapshotMeta(Index(number()), Term(number()), members, Index(number()))),
        SnapshotReply(term, sender, disk, ident, index, Index(number()), ok),
        TimeoutNow(term, sender, ident),
        TransferRefused(term, sender, ident),
        ReadIndex(term, sender, ident),
        ReadIndexReply(term, sender, ident, index, ok),
    ]
    return rng.choice(made)


@pytest.mark.parametrize("make", EVERYBODY)
def test_no_message_whatever_it_says_makes_a_core_raise(make: Callable[[], Raft]) -> None:
    rng = random.Random(5)
    raft = make()
    lives = 0

    for _ in range(3000):
        message = nonsense(rng, raft)
        try:
            effects = raft.step(message)
        except Exception as failure:
            raise AssertionError(f"{message} made a {raft.role.name} raise {failure!r}") from failure
        assert all(e.reason is StopReason.LOG_LOST for e in effects if isinstance(e, Stop))
        if raft.stopped or rng.random() < 0.05:
            raft = make()
            lives += 1

    assert lives > 50


def test_a_message_from_nobody_or_from_ourselves_is_dropped_with_an_alarm() -> None:
    raft = core()

    for sender in (0, -3, 1):
        (effect,) = step(raft, append(9, sender, (1, 1)))
        assert isinstance(effect, Alarm)
        assert effect.kind is AlarmKind.MALFORMED
    assert raft.server.term == 1


def test_entries_that_do_not_follow_each_other_are_dropped_with_an_alarm() -> None:
    raft = core()

    (alarm,) = only(Alarm, step(raft, append(1, 2, (1, 1), (2, 1), (4, 1))))

    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.MALFORMED
    assert raft.log.last_index == 1


# Sameness.


def story(raft: Raft, seed: int, steps: int = 300) -> list[list[Effect]]:
    """What a core does in a random but repeatable life; its disk and machine answer truly."""
    rng = random.Random(seed)
    told: list[list[Effect]] = [machine_done(raft)]

    def happen(event: Event) -> None:
        if raft.stopped:
            return
        effects = raft.step(event)
        told.append(effects)
        for effect in effects:
            if isinstance(effect, Persist) and rng.random() < 0.9:
                happen(Persisted(effect.write))
            elif isinstance(effect, Apply):
                happen(Applied(effect.upto, tuple(command for _, command in effect.commands)))

    for _ in range(steps):
        if raft.stopped:
            break
        term, last = raft.server.term, raft.log.last
        sender = rng.choice([2, 3])
        choices: list[Event] = [
            Tick(),
            Tick(rng.choice([1, 3])),
            Proposed(RequestId(rng.randrange(99)), (b"a", b"b")),
            Requested(RequestId(rng.randrange(99)), Read(rng.choice(list(ReadConsistency)), rng.randrange(9))),
            append(term, sender, (last.index, last.term), (last.index + 1, term), commit=last.index),
            asks(term + 1, sender, (last.index, last.term), kind=rng.choice(list(VoteKind))),
            PeerUnreachable(NodeId(sender)),
            CampaignRequested(),
            ForgetLeaderRequested(),
            Requested(RequestId(5), TransferLeadership()),
            Requested(RequestId(6), LeaveJoint()),
            VoteReply(
                rng.choice([term, Term(term + 1)]),
                NodeId(sender),
                Incarnation(0),
                MessageId((1 << 40) + raft.server.messages_made),
                rng.choice(list(VoteKind)),
                True,
            ),
        ]
        if raft.role.name is RoleName.FOLLOWER or rng.random() < 0.8:
            happen(rng.choice(choices))
    return told


def test_the_same_seed_and_events_give_the_same_effects_and_the_same_state() -> None:
    one, other = core(seed=7), core(seed=7)

    assert story(one, seed=3) == story(other, seed=3)
    assert one.fingerprint() == other.fingerprint()


def test_another_seed_draws_other_timeouts() -> None:
    timeouts = {core(seed=seed).role.timeout for seed in range(20)}  # type: ignore[union-attr]

    assert len(timeouts) > 4


@pytest.mark.parametrize("make", EVERYBODY)
def test_a_copy_lives_a_life_of_its_own(make: Callable[[], Raft]) -> None:
    raft = make()
    before = raft.fingerprint()
    twin = raft.copy()

    assert twin.fingerprint() == before
    told = story(twin, seed=4, steps=100)
    assert raft.fingerprint() == before, "the original must not feel what its copy does"

    assert story(raft, seed=4, steps=100) == told
    assert raft.fingerprint() == twin.fingerprint()


@pytest.mark.parametrize("make", EVERYBODY)
def test_cores_are_alike_exactly_where_their_fingerprints_are_equal(make: Callable[[], Raft]) -> None:
    raft = make()
    twin = raft.copy()
    found = {True: 0, False: 0}

    for seed in range(60):
        story(raft, seed=seed, steps=1)
        story(twin, seed=seed if seed % 3 else seed + 1, steps=1)
        equal = raft.fingerprint() == twin.fingerprint()
        assert alike(raft, twin) is equal
        found[equal] += 1
        if not equal:
            twin = raft.copy()

    assert all(found.values()), "both answers must have been seen"


def test_every_event_changes_the_fingerprint_exactly_if_it_changes_the_state() -> None:
    raft = following()
    before = raft.fingerprint()

    assert raft.status == raft.status
    assert raft.fingerprint() == before, "looking changes nothing"
    tick(raft)
    assert raft.fingerprint() != before


def test_the_dice_are_part_of_the_state() -> None:
    assert core(seed=1).fingerprint() != core(seed=2).fingerprint()


def test_what_is_given_to_a_core_is_never_changed() -> None:
    rng = random.Random(9)
    for make in EVERYBODY:
        raft = make()
        for _ in range(300):
            if raft.stopped:
                raft = make()
            message = nonsense(rng, raft)
            before = repr(message)
            raft.step(message)
            assert repr(message) == before


def test_recovered_and_settings_are_not_changed_by_a_life() -> None:
    recovered = Recovered.fresh(1, THREE)
    settings = with_settings(snapshot_entries=2)
    seen = (repr(recovered), repr(settings))
    raft = Raft(settings, recovered, random.Random(1))
    raft.step()

    story(raft, seed=8)

    assert (repr(recovered), repr(settings)) == seen


def test_effects_given_out_are_not_changed_by_later_steps() -> None:
    raft = core(seed=3)
    told = story(raft, seed=5, steps=50)
    before = [repr(effects) for effects in told]

    if not raft.stopped:
        story(raft, seed=6, steps=50)

    assert [repr(effects) for effects in told] == before


# The end.


def test_a_failed_disk_ends_everything_and_everybody_is_answered() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].auto_persist = False
    cluster.propose(1, b"a", b"b", request=4)
    cluster[1].step(Requested(RequestId(5), Read()))
    cluster[1].answers.clear()

    effects = cluster[1].raft.step(StorageFailed("EIO"))

    answers = [(e.request, e.count, type(e.outcome).__name__) for e in effects if isinstance(e, Respond)]
    assert sorted(answers) == [(4, 2, "Indeterminate"), (5, 1, "Refusal")]
    assert Stop(StopReason.STORAGE_FAILED, "EIO") in effects
    assert not [e for e in effects if isinstance(e, Persist)]


def test_events_that_only_a_leader_acts_on_are_refused_by_all_others() -> None:
    for make in (following, standing, asking):
        raft = make()
        requests: list[Event] = [
            Proposed(RequestId(1), (b"x", b"y")),
            Requested(RequestId(2), ChangeMembership((AddVoter(NodeId(4)),))),
            Requested(RequestId(3), LeaveJoint()),
            Requested(RequestId(4), TransferLeadership()),
        ]
        answers = [only(Respond, step(raft, event)) for event in requests]
        counts = [(a.request, a.count, a.outcome) for (a,) in answers]  # type: ignore[union-attr]
        assert [(r, c) for r, c, _ in counts] == [(1, 2), (2, 1), (3, 1), (4, 1)]
        assert {o.reason.value for _, _, o in counts} == {"not_leader"}  # type: ignore[union-attr]


def test_a_received_snapshot_is_ignored_by_a_node_that_stands_or_leads() -> None:
    meta = SnapshotMeta(Index(50), Term(2), THREE)
    for make in (standing, leading):
        raft = make()
        before = raft.log.last_index

        assert step(raft, SnapshotReceived(meta)) == []
        assert step(raft, SnapshotRejected(Index(50))) == []
        assert raft.log.last_index == before


def test_messages_travel_through_their_bytes_unchanged() -> None:
    message = append(3, 2, (4, 2), (5, 3), commit=4)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Message) == message


def test_something_that_is_no_event_is_the_callers_mistake() -> None:
    raft = Raft(SMALL, Recovered.fresh(1, Members.initial([1])), random.Random(1))
    raft.step()

    with pytest.raises(CallerError):
        raft.step("tick")  # type: ignore[arg-type]
