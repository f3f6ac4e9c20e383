"""Rules of reads by lease: off by default, and how far they can be trusted."""

from __future__ import annotations

import random

import attrs
import msgspec
import pytest

from raft_core.effects import Alarm, AlarmKind, Effect, ReadReady, Respond, RoleName
from raft_core.entries import Entry, EntryKind, SnapshotMeta
from raft_core.errors import SettingsError
from raft_core.events import (
    CampaignRequested,
    ForgetLeaderRequested,
    PeerUnreachable,
    Requested,
    SnapshotReceived,
    Tick,
)
from raft_core.ids import Index, MessageId, NodeId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import HEARTBEAT, AppendEntries, InstallSnapshot, Message, TimeoutNow, VoteKind
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.requests import Read, TransferLeadership
from raft_core.settings import LONGEST_LEASE, Settings
from tests.core.cluster import Cluster, with_settings
from tests.core.helpers import append, asks, core, heartbeat, only, persist, role_of, sent, step, tick, votes

LEASED = Members.initial([1, 2, 3], leases=True)
LEASES = with_settings(
    lease_reads=True, election_ticks=20, short_ticks=4, clock_drift_percent=10, tick_nanoseconds=LONGEST_LEASE // 20
)


def elected(seed: int = 1, settings: Settings = LEASES) -> Cluster:
    """A leader with a fresh lease."""
    cluster = Cluster(members=LEASED, settings=settings, seed=seed)
    cluster.tick(80)
    cluster.tick(2)
    return cluster


def answered(cluster: Cluster, node: int, number: int = 77) -> bool:
    """A read is answered on the spot."""
    effects = cluster[node].step(Requested(RequestId(number), Read()))
    return any(isinstance(e, Respond) and isinstance(e.outcome, ReadReady) for e in effects)


def voter(settings: Settings = LEASES) -> Raft:
    """A node that has been up for long."""
    raft = core(members=LEASED, settings=settings)
    raft.server.loyalty = 0
    return raft


def test_leases_are_off_by_default() -> None:
    assert not Settings().lease_reads
    assert not Members.initial([1]).leases


def test_under_a_lease_a_read_needs_no_round() -> None:
    cluster = elected()
    leader = cluster.leader

    assert answered(cluster, leader.id)


def test_the_lease_begins_when_the_heartbeat_was_sent_and_is_shortened_by_the_drift() -> None:
    """From the answer on would be too late, and to the full timeout too long."""
    cluster = elected()
    leader = cluster.leader
    cluster.isolate(leader.id)

    lasting = 0
    while answered(cluster, leader.id, 100 + lasting):
        cluster.tick(1, nodes=[leader.id])
        lasting += 1

    assert lasting == 18, "twenty ticks less ten percent"


def test_an_answer_that_comes_late_makes_no_longer_lease() -> None:
    """What counts is when the heartbeat was sent, for the voter may have heard it at once."""
    cluster = elected()
    leader = cluster.leader
    leader.step(Tick())
    held, cluster.network = cluster.network, []
    cluster.isolate(leader.id)
    cluster.tick(10, nodes=[leader.id])
    cluster.heal()
    cluster.network = held
    cluster.deliver()
    cluster.isolate(leader.id)

    lasting = 0
    while answered(cluster, leader.id, 300 + lasting):
        cluster.tick(1, nodes=[leader.id])
        lasting += 1
    assert lasting == 8


def test_a_leader_that_was_cut_off_never_reads_by_lease_what_a_new_leader_has_overwritten() -> None:
    """With honest clocks. Two nodes that both lost the leader must not elect each other while its lease lasts."""
    overlaps = 0
    for seed in range(1, 25):
        cluster = elected(seed)
        old = cluster.leader
        others = [node for node in cluster.nodes.values() if node is not old]
        cluster.isolate(old.id)
        for node in others:
            node.step(PeerUnreachable(old.id))
        for number in range(100):
            cluster.tick()
            fresh = [node for node in others if node.raft.status.leads]
            if not fresh:
                continue
            cluster.propose(fresh[0].id, b"new")
            cluster.deliver()
            overlaps += answered(cluster, old.id, 100 + number)

        assert any(node.raft.status.leads for node in others), f"seed {seed}"
    assert overlaps == 0


def test_with_a_clock_that_runs_too_slow_a_lease_returns_old_data() -> None:
    """What the warning in the settings means: the leader's ticks come at a third of the speed."""
    stale = 0
    for seed in range(1, 10):
        cluster = elected(seed)
        old = cluster.leader
        others = [node for node in cluster.nodes.values() if node is not old]
        cluster.isolate(old.id)
        for number in range(60):
            cluster.tick(1, nodes=[node.id for node in others])
            if number % 3 == 0:
                cluster.tick(1, nodes=[old.id])
            fresh = [node for node in others if node.raft.status.leads]
            if fresh and b"new" not in fresh[0].data:
                cluster.propose(fresh[0].id, b"new")
                cluster.deliver()
                if answered(cluster, old.id):
                    assert b"new" not in old.data
                    stale += 1

    assert stale > 0, "this is why leases are off by default"


@pytest.mark.parametrize("kind", [VoteKind.REAL, VoteKind.PRE])
def test_a_voter_that_a_lease_may_rest_on_gives_no_vote_although_its_link_broke(kind: VoteKind) -> None:
    """Elsewhere a broken connection ends loyalty at once; where leases rest on it, only time does."""
    raft = voter()
    step(raft, heartbeat(1, 2))
    step(raft, PeerUnreachable(NodeId(2)))
    tick(raft, 19)

    assert step(raft, asks(2, 3, (9, 1), kind=kind)) == []


def test_loyalty_survives_a_change_of_term_or_of_role() -> None:
    """It belongs to the node: a stray message of a higher term must not free its vote while a lease lasts."""
    raft = voter()
    step(raft, heartbeat(1, 2))
    step(raft, votes(5, 3, granted=False))
    assert raft.server.term == 5

    assert step(raft, asks(6, 3, (9, 1))) == []


def test_a_voter_does_not_stand_either_while_a_lease_may_rest_on_it() -> None:
    """Its own vote would be the one that meets the lease's quorum."""
    raft = voter()
    step(raft, heartbeat(1, 2))

    step(raft, CampaignRequested())
    assert role_of(raft) is RoleName.FOLLOWER
    step(raft, PeerUnreachable(NodeId(2)))
    tick(raft, 20)
    assert role_of(raft) is RoleName.FOLLOWER
    tick(raft, 6)
    assert role_of(raft) is RoleName.PRE_CANDIDATE


def test_a_node_that_just_started_is_loyal_to_a_leader_that_it_may_have_forgotten() -> None:
    """A restart forgets who was heard, but the lease does not end with it."""
    raft = core(members=LEASED, settings=LEASES)

    assert step(raft, asks(2, 3, (9, 1), kind=VoteKind.PRE)) == []
    tick(raft, 21, until=lambda: raft.server.loyalty == 0)

    assert sent(step(raft, asks(2, 3, (9, 1), kind=VoteKind.PRE)))


def test_a_pause_does_not_shorten_loyalty() -> None:
    """What was heard on waking may have been sent long before; a tick counts once, however long it was."""
    raft = voter()
    step(raft, heartbeat(1, 2))

    step(raft, Tick(1000))

    assert step(raft, asks(2, 3, (9, 1))) == []


def test_once_a_successor_was_told_to_stand_no_read_is_answered_by_lease() -> None:
    """Its election does not wait for the lease; and the order may still arrive when the transfer has been given up."""
    cluster = elected()
    leader = cluster.leader
    other = next(n for n in cluster.nodes if n != leader.id)
    leader.step(Requested(RequestId(5), TransferLeadership(NodeId(other))))
    cluster.network.clear()

    assert not answered(cluster, leader.id, 91)
    cluster.isolate(other)
    cluster.tick(25)
    assert leader.raft.status.transfer_to == 0
    assert leader.raft.status.leads
    assert not answered(cluster, leader.id, 92)


def test_an_order_that_is_given_up_in_the_tick_of_its_sending_ends_the_lease_all_the_same() -> None:
    """A leader flees from its hanging disk, with the shortest of patience; the order is obeyed after that."""
    cluster = elected(settings=attrs.evolve(LEASES, transfer_ticks=1, stall_ticks=3))
    leader = cluster.leader
    cluster.tick(3)
    late = max(node for node in cluster.nodes if node != leader.id)
    leader.auto_persist = False
    orders: list[Message] = []

    def seen(_from: int, to: int, message: Message) -> bool:
        orders.extend([message] if isinstance(message, TimeoutNow) else [])
        behind = to == late and isinstance(message, AppendEntries) and message.purpose is not HEARTBEAT
        return not (isinstance(message, TimeoutNow) or behind)  # so that the entry is not committed, and reads can be

    cluster.propose(leader.id, b"x")
    for _ in range(6):
        cluster.deliver(seen)
        for node in cluster.nodes.values():
            node.step(Tick())
        cluster.deliver(seen)
        if orders:
            break
        assert answered(cluster, leader.id)

    assert orders
    assert leader.raft.role.succession.handover is None  # type: ignore[union-attr]
    assert not answered(cluster, leader.id)


def test_on_the_leaders_order_a_node_stands_and_is_voted_for_in_spite_of_the_lease() -> None:
    raft, other = voter(), voter()
    for each in (raft, other):
        step(each, heartbeat(1, 2))

    step(raft, TimeoutNow(Term(1), NodeId(2), MessageId(7)))
    assert role_of(raft) is RoleName.CANDIDATE
    step(other, asks(2, 3, (1, 1), kind=VoteKind.TRANSFER))

    assert persist(other)


def test_the_leader_is_not_forgotten_where_leases_rest_on_it() -> None:
    raft = voter()
    step(raft, heartbeat(1, 2))

    assert step(raft, ForgetLeaderRequested()) == []
    assert raft.status.leader == 2


def test_a_new_leader_has_no_lease_before_it_committed_in_its_term() -> None:
    cluster = elected()
    old = cluster.leader
    target = next(n for n in cluster.nodes if n != old.id)
    old.step(Requested(RequestId(5), TransferLeadership(NodeId(target))))
    cluster.deliver()

    fresh = cluster[target]
    assert fresh.raft.status.leads
    assert not answered(cluster, target, 93), "no heartbeat of this term has been answered yet"
    cluster.tick(2)
    assert answered(cluster, target, 94)
    assert only(Respond, fresh.effects)


def test_settings_alone_do_not_make_a_lease() -> None:
    """Every voter has to know; that is part of the configuration, fixed when the cluster is formed."""
    cluster = Cluster(members=LEASED, settings=attrs.evolve(LEASES, lease_reads=False))
    cluster.tick(80)

    assert not answered(cluster, cluster.leader.id)


def misfit_settings(*, leases: bool) -> Settings:
    """Those that a member of a cluster formed with leases, or without, may not have."""
    return with_settings(check_quorum=not leases, lease_reads=not leases)


def joiner(settings: Settings) -> Raft:
    raft = Raft(settings, Recovered.fresh(4), random.Random(1))
    step(raft)
    return raft


def told(at: int, members: Members) -> AppendEntries:
    """The leader's append of the configuration `members` as the entry at `at`."""
    entry = Entry.make(at, 1, members.encode(), EntryKind.MEMBERS)
    return msgspec.structs.replace(append(1, 1, (at - 1, min(at - 1, 1))), entries=(entry,))


def assert_alarm_is_the_refusal(effects: list[Effect], *, leases: bool) -> None:
    """There is one alarm, and it says why the node's own restart would be refused."""
    (alarm,) = only(Alarm, effects)
    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.SETTINGS
    known = Members.initial([1], leases=leases)
    with pytest.raises(SettingsError) as refusal:
        Raft(misfit_settings(leases=leases), Recovered.fresh(4, known), random.Random(1))
    assert alarm.text.startswith(str(refusal.value))


@pytest.mark.parametrize("leases", [False, True])
def test_a_joiner_whose_settings_do_not_fit_is_told_when_it_learns_how_its_cluster_was_formed(leases: bool) -> None:
    """Not only when it does not start again."""
    raft = joiner(misfit_settings(leases=leases))

    effects = step(raft, told(1, Members.initial([1], leases=leases)))

    assert_alarm_is_the_refusal(effects, leases=leases)


@pytest.mark.parametrize("leases", [False, True])
def test_a_joiner_whose_settings_do_not_fit_is_told_when_a_snapshot_tells_it_of_its_cluster(leases: bool) -> None:
    raft = joiner(misfit_settings(leases=leases))
    meta = SnapshotMeta(Index(10), Term(1), Members.initial([1], leases=leases), Index(1))

    offered = step(raft, InstallSnapshot(Term(1), NodeId(1), MessageId(7), meta))
    effects = step(raft, SnapshotReceived(meta))

    assert only(Alarm, offered) == []
    assert_alarm_is_the_refusal(effects, leases=leases)


@pytest.mark.parametrize("leases", [False, True])
def test_a_joiner_whose_settings_do_not_fit_is_reminded_at_every_change_of_the_members(leases: bool) -> None:
    """And at nothing else."""
    raft = joiner(misfit_settings(leases=leases))
    step(raft, told(1, Members.initial([1], leases=leases)))

    command = step(raft, append(1, 1, (1, 1), (2, 1)))
    change = step(raft, told(3, Members.initial([1, 4], leases=leases)))

    assert only(Alarm, command) == []
    assert_alarm_is_the_refusal(change, leases=leases)


@pytest.mark.parametrize("leases", [False, True])
def test_a_joiner_whose_settings_fit_hears_no_alarm(leases: bool) -> None:
    members = Members.initial([1], leases=leases)
    meta = SnapshotMeta(Index(10), Term(1), members, Index(1))
    by_log, by_snapshot = joiner(with_settings(lease_reads=leases)), joiner(with_settings(lease_reads=leases))
    step(by_snapshot, InstallSnapshot(Term(1), NodeId(1), MessageId(7), meta))

    effects = step(by_log, told(1, members)) + step(by_snapshot, SnapshotReceived(meta))

    assert (by_log.status.members, by_snapshot.status.members) == (members, members)
    assert only(Alarm, effects) == []
