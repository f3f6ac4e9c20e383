"""Rules of starting, of bounded memory, and of what clients are told; each with the mistake that taught it."""

from __future__ import annotations

import random

import pytest

from raft_core.effects import (
    Apply,
    Effect,
    Indeterminate,
    Refusal,
    RefusalReason,
    Respond,
    Restore,
    RoleName,
    Stop,
    StopReason,
    Success,
    TakeSnapshot,
    UnknownReason,
)
from raft_core.entries import ENTRY_OVERHEAD, HardState, SnapshotMeta
from raft_core.events import CampaignRequested, Proposed, Requested, SnapshotTaken, StopRequested, StorageFailed, Tick
from raft_core.ids import Incarnation, Index, NodeId, RequestId, Term
from raft_core.membership import AddVoter, Members
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered, formation
from raft_core.requests import ChangeMembership
from raft_core.settings import Settings
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
    apply_of,
    campaign_id,
    core,
    entries,
    everybody_has_all,
    heartbeat,
    leader,
    machine_done,
    only,
    persist,
    role_of,
    sent,
    step,
    tick,
    votes,
)

THREE = Members.initial([1, 2, 3])


def opened(recovered: Recovered, settings: Settings = SMALL) -> tuple[Raft, list[Effect]]:
    raft = Raft(settings, recovered, random.Random(1))
    return raft, raft.step()


# Starting.


def test_a_new_cluster_is_formed_by_the_same_first_entry_on_every_disk() -> None:
    hard, entry = formation(THREE)

    for node in (1, 2, 3):
        raft, effects = opened(Recovered.fresh(node, THREE))
        assert (hard.term, entry.index, entry.term) == (1, 1, 1)
        assert raft.log.entries() == (entry,)
        assert effects == [apply_of((entry,))]
        assert raft.members == THREE


def test_a_joiner_starts_empty_and_never_campaigns() -> None:
    """Forming is not joining: a node that should join and formed a cluster of its own split the data."""
    raft, effects = opened(Recovered.fresh(4))

    tick(raft, 100)
    step(raft, CampaignRequested())

    assert effects == []
    assert (role_of(raft), raft.server.term, raft.log.last_index) == (RoleName.FOLLOWER, 0, 0)
    assert raft.members.empty


def test_a_disk_that_was_part_of_a_cluster_is_known_as_such() -> None:
    assert not Recovered.fresh(1).formed
    assert Recovered.fresh(1, THREE).formed
    assert Recovered(Identity(NodeId(1)), HardState(Term(1))).formed


def test_a_machine_is_told_for_whose_results_a_client_waits() -> None:
    """Replay and followers need none: 700 transactions that read 1 MB each filled the memory at every start."""
    raft = core(count=1)
    machine_done(raft)
    leader(raft, settled=True)
    machine_done(raft)
    last = raft.log.last_index

    step(raft, Proposed(RequestId(1), (b"x", b"y")))
    effects = persist(raft)
    assert [effect.wanted for effect in effects if type(effect) is Apply] == [((last + 1, last + 2),)]
    machine_done(raft)

    held = (formation(THREE)[1], *entries((2, 1), (3, 1), (4, 1)))
    _, effects = opened(Recovered(Identity(NodeId(1)), HardState(Term(1), commit=Index(4)), None, held))
    assert [effect.wanted for effect in effects if type(effect) is Apply] == [()]


def test_a_machine_that_lives_in_memory_is_given_the_snapshot_and_then_the_rest() -> None:
    meta = SnapshotMeta(Index(5), Term(1), THREE, Index(1))
    held = entries((6, 1), (7, 2))

    raft, effects = opened(Recovered(Identity(NodeId(1)), HardState(Term(2), commit=Index(6)), meta, held))

    assert effects == [Restore(meta), apply_of(held[:1])]
    machine_done(raft)
    assert raft.server.pipeline.applied == 6


def test_a_durable_machine_is_given_only_what_it_does_not_hold() -> None:
    """Its own index counts, saved with its state; the log's commit index may be older or newer than that."""
    meta = SnapshotMeta(Index(5), Term(1), THREE, Index(1))
    held = entries((6, 1), (7, 2), (8, 2))
    hard = HardState(Term(2), commit=Index(6))

    raft, effects = opened(Recovered(Identity(NodeId(1)), hard, meta, held, applied=Index(7)))

    assert effects == []
    assert (raft.server.commit, raft.server.pipeline.applied) == (7, 7)


@pytest.mark.parametrize(
    "recovered",
    [
        Recovered(Identity(NodeId(1)), HardState(Term(2), commit=Index(9)), entries=entries((1, 1))),
        Recovered(Identity(NodeId(1)), HardState(Term(2)), entries=entries((1, 1)), applied=Index(4)),
        Recovered(Identity(NodeId(1)), HardState(Term(1)), entries=entries((1, 1), (2, 3))),
    ],
)
def test_a_disk_that_lost_what_is_known_to_be_committed_or_applied_ends_the_node(recovered: Recovered) -> None:
    """A restored backup, a wiped file, a lying sync: it must not vote with what is left."""
    raft, (stop,) = opened(recovered)

    assert isinstance(stop, Stop)
    assert stop.reason is StopReason.LOG_LOST
    assert "new id" in stop.text
    assert raft.stopped


def test_message_numbers_of_a_new_life_are_new() -> None:
    """A delayed reply must not answer a question of a later life."""
    first, _ = opened(Recovered.fresh(1, THREE, boot=1))
    second, _ = opened(Recovered.fresh(1, THREE, boot=2))

    numbers = [{raft.server.next_message() for _ in range(1000)} for raft in (first, second)]
    assert not numbers[0] & numbers[1]
    assert min(numbers[1]) > max(numbers[0])


def test_a_wiped_disk_under_an_old_id_counts_for_nothing() -> None:
    """Its acknowledgements and votes were for entries that it has forgotten."""
    disks = {NodeId(n): Incarnation(n * 10) for n in (1, 2, 3)}
    raft = core(members=Members.initial([1, 2, 3], incarnations=disks), settings=with_settings(pre_vote=False))
    step(raft, CampaignRequested())
    persist(raft)
    step(raft, votes(2, 2, ident=campaign_id(raft), disk=20))
    persist(raft)
    assert raft.status.leads

    step(raft, accepted(2, 2, 2, disk=99))
    assert raft.server.commit == 1
    step(raft, accepted(2, 2, 2, disk=20))
    assert raft.server.commit == 2


def test_replays_are_at_least_once_and_begin_at_what_the_machine_holds() -> None:
    cluster = Cluster(1)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver()

    cluster[1].crash()
    cluster[1].restart()
    cluster.elect(1)

    assert cluster[1].data == [b"x"]


# Memory.


def test_a_million_retries_without_a_quorum_stay_within_the_limit() -> None:
    """Clients that try again filled the log of a leader that could commit nothing. Fewer here; the bound is one."""
    limit = 50_000
    raft = leader(core(settings=with_settings(max_uncommitted_bytes=limit, check_quorum=False)), settled=True)
    refusals = 0

    for number in range(1500):
        effects = step(raft, Proposed(RequestId(number), (b"x" * 100,)))
        refusals += len(only(Respond, effects))
        step(raft, Tick())

    server = raft.server
    assert refusals > 1000
    assert server.log.size <= limit + 10 * ENTRY_OVERHEAD
    assert len(server.requests) <= limit // (100 + ENTRY_OVERHEAD) + 1
    assert len(server.outbox.held) == 0
    assert all(len(peer.inflight) <= peer.max_messages for peer in raft.role.replication.progress.values())  # type: ignore[union-attr]


def test_the_refusal_of_a_full_queue_has_a_type_of_its_own() -> None:
    raft = leader(core(settings=with_settings(max_uncommitted_bytes=300)), settled=True)
    step(raft, Proposed(RequestId(1), (b"x" * 250,)))

    (answer,) = only(Respond, step(raft, Proposed(RequestId(2), (b"y" * 250,))))

    assert answer == Respond(RequestId(2), Refusal(RefusalReason.UNCOMMITTED_FULL))


def test_a_single_command_larger_than_the_limit_is_taken_when_nothing_else_waits() -> None:
    """Otherwise it could never be written."""
    raft = leader(core(settings=with_settings(max_uncommitted_bytes=10)), settled=True)

    assert only(Respond, step(raft, Proposed(RequestId(1), (b"x" * 250,)))) == []


def test_a_command_that_is_too_large_is_refused_and_the_others_of_its_batch_are_not() -> None:
    raft = leader(core(settings=with_settings(max_entry_bytes=10)), settled=True)

    effects = step(raft, Proposed(RequestId(1), (b"a", b"x" * 11, b"b")))

    assert only(Respond, effects) == [Respond(RequestId(1), Refusal(RefusalReason.TOO_LARGE), 1)]
    assert [e.data for e in raft.log.entries()[-2:]] == [b"a", b"b"]
    assert raft.log.last_index == 4


def test_bytes_without_a_quorum_are_counted_anew_at_an_election_and_not_forgotten() -> None:
    """A new leader that begins at zero takes the whole limit again, and so does the next."""
    raft = core(log=[1] * 20, settings=with_settings(max_uncommitted_bytes=400))

    leader(raft)
    (answer,) = only(Respond, step(raft, Proposed(RequestId(1), (b"x",))))

    assert answer.outcome.reason is RefusalReason.UNCOMMITTED_FULL  # type: ignore[union-attr]


def test_what_is_on_its_way_to_the_machine_is_bounded() -> None:
    raft = leader(core(settings=with_settings(max_apply_bytes=100)), settled=True)
    machine_done(raft)
    step(raft, Proposed(RequestId(1), tuple(b"%060d" % n for n in range(50))))
    persist(raft)

    pages = only(Apply, everybody_has_all(raft))

    assert [len(page.commands) for page in pages] == [1, 1]  # type: ignore[union-attr]
    assert len(raft.server.pipeline.pages) == 2
    machine_done(raft)
    assert raft.server.pipeline.applied == raft.server.commit == 52


def test_windows_are_bounded_for_a_follower_that_never_answers() -> None:
    raft = leader(core(settings=with_settings(max_inflight_bytes=1000, check_quorum=False)), settled=True)

    for number in range(500):
        step(raft, Proposed(RequestId(number), (b"x" * 50,)))

    for peer in raft.status.peers:
        assert peer.in_flight_bytes < 1000 + 100


def test_the_log_of_a_follower_is_bounded_too() -> None:
    small = with_settings(log_max_bytes=1000, max_message_bytes=100, max_entry_bytes=100)
    raft = core(settings=small)
    for index in range(2, 200):
        step(raft, append(1, 2, (index - 1, 1), (index, 1)))

    assert raft.log.size <= 1000


def test_what_a_leader_held_before_its_office_is_taken_in_although_there_is_no_room() -> None:
    """It can only be committed with the leader's no-op behind it (§5.4.2), and nothing makes room before that. Here a
    lower limit met a long uncommitted tail, everywhere at once."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(3)
    cluster.isolate(1)
    for number in range(40):
        cluster.propose(1, b"x" * 100, request=10 + number)
    for node in cluster.nodes.values():
        node.crash()
    cluster.network.clear()
    cluster.heal()
    for node in (cluster[1], cluster[2]):  # the third stays away, so that the long log has to lead
        node.settings = with_settings(log_max_bytes=3000, max_message_bytes=500, max_entry_bytes=200)
        node.restart()
    cluster.elect(1)
    cluster.tick(50)

    assert cluster[2].raft.server.commit == cluster[1].raft.log.last_index > 40


def test_what_is_committed_or_new_waits_for_room_all_the_same() -> None:
    two = sum(len(entry.data) + ENTRY_OVERHEAD for entry in entries((2, 1), (3, 1)))
    small = with_settings(log_max_bytes=core().log.size + two)
    raft = core(settings=small)

    step(raft, append(5, 2, (1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 5), commit=3))
    assert raft.log.last_index == 4  # up to 3 there was room; 4 is old and not committed; 5 is new

    other = core(settings=small)
    step(other, append(5, 2, (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), commit=6))
    assert other.log.last_index == 3  # all are committed, so they will make room


def test_a_follower_without_room_for_anything_says_nothing() -> None:
    """An answer would only bring the same entries again."""
    small = with_settings(log_max_bytes=180, max_message_bytes=100, max_entry_bytes=10)
    raft = core(settings=small)
    step(raft, append(1, 2, (1, 1), (2, 1)))
    persist(raft)

    effects = step(raft, append(1, 2, (2, 1), (3, 1), (4, 1), (5, 1)))
    effects += persist(raft)

    assert sent(effects) == []
    assert raft.log.last_index == 2


def test_the_tail_kept_for_slow_followers_goes_before_anything_is_refused() -> None:
    """What a snapshot covers is worth less than what a client wants to write."""
    settings = with_settings(log_max_bytes=1600, snapshot_entries=10, check_quorum=False)
    raft = leader(core(log=[1] * 12, commit=13, settings=settings), settled=True)
    (order,) = only(TakeSnapshot, machine_done(raft))
    assert isinstance(order, TakeSnapshot)
    step(raft, SnapshotTaken(order.meta))
    assert raft.log.base.index == 0

    answers = [only(Respond, step(raft, Proposed(RequestId(n), (b"x" * 40,)))) for n in range(15)]

    assert raft.log.base.index == order.meta.index
    assert answers == [[]] * 15


# What clients are told.


def answered(effects: list[Effect], request: int) -> object:
    (answer,) = [e for e in effects if isinstance(e, Respond) and e.request == request]
    return answer.outcome


def test_applied_commands_are_answered_with_their_results() -> None:
    cluster = Cluster(3)
    cluster.elect(1)

    cluster.propose(1, b"a", b"b", request=4)
    cluster.deliver()

    assert cluster[1].answers == [Respond(RequestId(4), Success(Index(3), (b"a", b"b")), 0, 2)]


def proposing() -> Raft:
    """A leader with one command, request 4, that no follower has acknowledged."""
    raft = leader(core(), settled=True)
    step(raft, Proposed(RequestId(4), (b"x",)))
    return raft


def test_a_deposed_leader_waits_for_a_while_because_its_entries_may_still_be_committed() -> None:
    raft = proposing()
    persist(raft)

    assert only(Respond, step(raft, heartbeat(3, 2))) == []
    step(raft, append(3, 2, (3, 2), (4, 3), commit=4))
    persist(raft)

    assert answered(machine_done(raft), 4) == Success(Index(3), (b"x",))


def test_then_it_says_that_nobody_can_know() -> None:
    raft = proposing()
    step(raft, heartbeat(3, 2))

    effects = tick(raft, 10)

    assert answered(effects, 4) == Indeterminate(UnknownReason.LEADERSHIP_LOST)


def test_a_truncated_command_is_unknown_because_it_may_live_on_elsewhere() -> None:
    raft = proposing()
    persist(raft)

    effects = step(raft, append(3, 2, (2, 2), (3, 3)))

    assert answered(effects, 4) == Indeterminate(UnknownReason.TRUNCATED)


def test_a_truncated_command_in_whose_place_another_one_is_committed_is_refused_for_certain() -> None:
    raft = proposing()
    persist(raft)

    effects = step(raft, append(3, 2, (2, 2), (3, 3), commit=3))

    assert answered(effects, 4) == Refusal(RefusalReason.SUPERSEDED)


def test_a_stopping_node_answers_everybody() -> None:
    raft = leader(core(count=1), settled=True)
    step(raft, Proposed(RequestId(4), (b"x",)))

    effects = step(raft, StopRequested())
    while not raft.stopped:
        effects += tick(raft)

    assert answered(effects, 4) == Indeterminate(UnknownReason.LEADERSHIP_LOST)


def test_a_stopping_node_takes_nothing_new() -> None:
    raft = proposing()
    step(raft, StopRequested())

    assert answered(step(raft, Proposed(RequestId(5), (b"y",))), 5) == Refusal(RefusalReason.STOPPING, NodeId(2))


def test_a_failed_disk_answers_everybody_with_the_truth() -> None:
    effects = proposing().step(StorageFailed())

    assert answered(effects, 4) == Indeterminate(UnknownReason.STORAGE_FAILED)


def test_who_does_not_lead_refuses_for_certain_and_says_who_does() -> None:
    raft = core()
    step(raft, heartbeat(1, 3))

    assert answered(step(raft, Proposed(RequestId(4), (b"x",))), 4) == Refusal(RefusalReason.NOT_LEADER, NodeId(3))


def test_every_request_is_answered_exactly_once_whatever_happens() -> None:
    """Futures that never resolve were the oldest open complaint about other libraries."""
    for seed in range(30):
        rng = random.Random(seed)
        cluster = Cluster(3, seed=seed, settings=with_settings(snapshot_entries=5, keep_entries=1))
        asked: dict[int, tuple[int, int]] = {}
        for number in range(60):
            node = cluster[rng.randint(1, 3)]
            action = rng.random()
            if action < 0.5:
                size = rng.randint(1, 3)
                asked[number] = (node.id, size)
                cluster.propose(node.id, *[b"%d" % number] * size, request=number)
            elif action < 0.65:
                node.step(CampaignRequested())
            elif action < 0.75:
                cluster.isolate(node.id)
            elif action < 0.9:
                cluster.heal()
            if rng.random() < 0.6:
                cluster.tick(rng.randint(1, 6))
        cluster.heal()
        cluster.tick(80)

        got: dict[int, list[int]] = {number: [] for number in asked}
        for node in cluster.nodes.values():
            for answer in node.answers:
                assert asked[answer.request][0] == node.id
                got[answer.request] += range(answer.offset, answer.offset + answer.count)
        assert {n: sorted(items) for n, items in got.items()} == {n: list(range(s)) for n, (_, s) in asked.items()}


def test_what_was_refused_is_never_applied_and_what_succeeded_always() -> None:
    """The two outcomes that promise something."""
    for seed in range(20):
        rng = random.Random(seed)
        cluster = Cluster(3, seed=seed)
        for number in range(60):
            cluster.propose(rng.randint(1, 3), b"%d" % number, request=number)
            if rng.random() < 0.2:
                cluster.isolate(rng.randint(1, 3))
            elif rng.random() < 0.2:
                cluster.heal()
            cluster.tick(rng.randint(0, 5))
        cluster.heal()
        cluster.tick(80)
        applied = cluster.leader.data

        for node in cluster.nodes.values():
            for answer in node.answers:
                if isinstance(answer.outcome, Refusal):
                    assert b"%d" % answer.request not in applied
                elif isinstance(answer.outcome, Success):
                    assert applied.count(b"%d" % answer.request) == 1


def test_a_change_of_members_has_the_same_three_outcomes() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.joiner(4)
    cluster[1].step(Requested(RequestId(1), ChangeMembership((AddVoter(NodeId(4)),))))
    cluster[1].step(Requested(RequestId(2), ChangeMembership((AddVoter(NodeId(5)),))))
    cluster.deliver()

    assert [(a.request, type(a.outcome)) for a in cluster[1].answers] == [(2, Refusal), (1, Success)]
