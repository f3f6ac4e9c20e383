"""Leases where nodes differ in election timeout, length of a tick, or release; and where a loop is late."""

from __future__ import annotations

import random
from typing import Any

import attrs
import msgspec
import pytest

from raft_core.effects import Alarm, AlarmKind, ReadReady, Respond, Send
from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.events import Requested
from raft_core.ids import BootNumber, MessageId, NodeId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import HEARTBEAT, AppendReply, ReadIndex
from raft_core.node.events import BytesReceived
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import Read
from raft_core.settings import LONGEST_LEASE, Settings
from raft_core.wire.codec import encode_message
from tests.core.cluster import with_settings
from tests.core.helpers import accepted, append, asks, core, heartbeat, leader, only, persist, sent, step, tick
from tests.node.cluster import Cluster as Hosts

LEASED = Members.initial([1, 2, 3], leases=True)
MILLISECOND = 1_000_000


def leases(election_ticks: int, tick: int = 10 * MILLISECOND, drift: int = 0) -> Settings:
    return with_settings(
        lease_reads=True,
        election_ticks=election_ticks,
        short_ticks=4,
        tick_nanoseconds=tick,
        clock_drift_percent=drift,
    )


def promising(raft: Raft, sender: int, lease: int) -> AppendReply:
    """The answer to the newest heartbeat, with a promise."""
    message, _ = raft.role.reading.beats[-1]  # type: ignore[union-attr]
    reply = accepted(2, sender, raft.log.last_index, purpose=HEARTBEAT, ident=message)
    return msgspec.structs.replace(reply, lease=lease)


def beating(settings: Settings) -> Raft:
    """A leader that has just sent a heartbeat."""
    raft = core(members=LEASED, settings=settings)
    raft.server.loyalty = 0
    leader(raft, settled=True)
    raft.server.pipeline.applied = raft.server.commit
    while not raft.role.reading.beats:  # type: ignore[union-attr]
        tick(raft)
    return raft


def lasts(raft: Raft) -> int:
    """For how many ticks reads are answered on the spot."""
    for ticks in range(1000):
        effects = step(raft, Requested(RequestId(100 + ticks), Read()))
        if not any(isinstance(e, Respond) and isinstance(e.outcome, ReadReady) for e in effects):
            return ticks
        tick(raft)
    raise AssertionError("a lease without end")


def test_voter_tells_how_long_it_gives_no_vote_away() -> None:
    raft = core(members=LEASED, settings=leases(20))
    reply = accepted(1, 1, 1, purpose=HEARTBEAT)

    assert sent(step(raft, heartbeat(1, 2))) == [msgspec.structs.replace(reply, lease=200 * MILLISECOND)]


def test_joiner_promises_nothing_before_its_disk_tells_of_leases() -> None:
    """Restarted before that, it would not know that it has to keep a promise."""
    raft = Raft(leases(20), Recovered.fresh(2), random.Random(1))
    step(raft)
    entry = Entry.make(1, 1, LEASED.encode(), MEMBERS)
    step(raft, msgspec.structs.replace(append(1, 1, (0, 0)), entries=(entry,)))
    entries_of, raft.server.outbox.held = raft.server.outbox.held, []
    assert entries_of

    step(raft, heartbeat(1, 1))
    ((_, early),) = raft.server.outbox.held
    persist(raft)
    (later,) = sent(step(raft, heartbeat(1, 1)))

    assert isinstance(early.message, AppendReply)
    assert isinstance(later, AppendReply)
    assert (early.message.lease, later.lease) == (0, 200 * MILLISECOND)


def test_voter_promises_nothing_where_no_leases_are_allowed() -> None:
    raft = core(settings=with_settings(election_ticks=20))
    assert sent(step(raft, heartbeat(1, 2))) == [accepted(1, 1, 1, purpose=HEARTBEAT)]


@pytest.mark.parametrize(
    ("promise", "ticks"),
    [
        (400 * MILLISECOND, 40),
        (200 * MILLISECOND, 20),  # the case: voters with half the leader's election timeout
        (195 * MILLISECOND, 19),
        (10_000 * MILLISECOND, 40),  # no longer than our own
        (0, 0),  # an older release
        (1, 0),
    ],
)
def test_lease_rests_on_what_voters_promise(promise: int, ticks: int) -> None:
    raft = beating(leases(40))
    step(raft, promising(raft, 2, promise))

    assert lasts(raft) == ticks


def test_lease_counts_promise_in_ticks_of_the_leader() -> None:
    """Twenty of the voter's ticks are ten of ours."""
    raft = beating(leases(20, tick=20 * MILLISECOND))
    step(raft, promising(raft, 2, leases(20, tick=10 * MILLISECOND).lease_promise))

    assert lasts(raft) == 10


def test_lease_rests_on_the_voters_of_a_quorum_each_by_its_own_promise() -> None:
    raft = beating(leases(40))
    step(raft, promising(raft, 2, 100 * MILLISECOND))
    step(raft, promising(raft, 3, 300 * MILLISECOND))

    assert lasts(raft) == 30


def test_leader_says_once_who_promises_less() -> None:
    raft = beating(leases(40))
    found = []
    for sender, lease in ((2, 200), (2, 200), (3, 400), (2, 0)):
        while raft.server.now % 2:
            tick(raft)
        tick(raft, 2)
        effects = step(raft, promising(raft, sender, lease * MILLISECOND))
        found.append([(e.kind, e.peer) for e in effects if isinstance(e, Alarm)])

    alarm = (AlarmKind.SETTINGS, NodeId(2))
    assert found == [[alarm], [], [], [alarm]]


def test_restarted_voter_keeps_what_it_promised_with_other_settings() -> None:
    """It was restarted with a shorter election timeout, and cannot know that it promised more before."""
    held = core(members=LEASED).log.entries()
    recovered = Recovered(Identity(NodeId(1)), HardState(Term(1)), entries=held, boot=BootNumber(2))
    raft = Raft(leases(4, tick=100 * MILLISECOND), recovered, random.Random(1))
    step(raft)

    tick(raft, LONGEST_LEASE // (100 * MILLISECOND))
    assert step(raft, asks(2, 3, (9, 1))) == []
    tick(raft)
    assert raft.server.loyalty == 0


def test_no_promise_is_longer_than_a_restart_keeps() -> None:
    assert leases(1000).lease_promise == LONGEST_LEASE


def test_cluster_of_unlike_nodes_never_reads_stale_by_lease() -> None:
    """The case: one node restarted with 40 ticks, the others with 20; it leads, and is cut off."""
    old, new = core(members=LEASED, settings=leases(40)), core(2, members=LEASED, settings=leases(20))
    for raft in (old, new):
        raft.server.loyalty = 0
    leader(old, settled=True)
    while not old.role.reading.beats:  # type: ignore[union-attr]
        tick(old)
    message, _ = old.role.reading.beats[-1]  # type: ignore[union-attr]
    (reply,) = only(Send, [*step(new, heartbeat(2, 1, ident=message)), *persist(new)])
    assert isinstance(reply, Send)
    step(old, reply.message)
    old.server.pipeline.applied = old.server.commit

    lasting = lasts(old)
    ticks = 0
    while new.server.bound:
        tick(new)
        ticks += 1
    assert 0 < lasting <= 20 < ticks


def test_host_tells_its_core_how_long_a_tick_is() -> None:
    cluster = Hosts(1, tick=7 * MILLISECOND)
    cluster.start()
    cluster.elect()

    assert cluster[1].host._raft.server.settings.tick_nanoseconds == 7 * MILLISECOND  # type: ignore[union-attr]


@pytest.mark.parametrize("late", [10, 15, 19])
def test_late_loop_honours_no_read_of_another_node_by_a_lease_that_has_ended(late: int) -> None:
    """`late` milliseconds after its last tick, it hears of the read and of the time in one turn."""
    cluster = Hosts(3, leases=True, settings=attrs.evolve(Settings(), lease_reads=True))
    cluster.start()
    boss = cluster.elect()
    cluster.run(2_000 * MILLISECOND)
    asker = cluster.followers()[0]
    host: Any = boss.host
    role, server = host._raft.role, host._raft.server
    lease = server.settings.election_ticks * (100 - server.settings.clock_drift_percent) // 100
    for peer in role.replication.progress.values():
        peer.lease_from = server.now - lease + 1  # the last tick of the lease is the one that has begun
    assert role.reading._lease_valid(leaving=False)
    read = ReadIndex(server.term, asker.id, MessageId(1 << 50))
    line = next(number for number, pipe in boss.pipes.items() if pipe.other and pipe.other.node is asker)

    host._ticks._quiet = 0  # something was due in the next tick, so the late loop has not slept by plan
    host.handle([BytesReceived(line, encode_message(read))], host._ticks._last + late * MILLISECOND, 0)

    assert [waiting.message for sent_round in role.reading.queue.rounds for waiting in sent_round.reads] == [read.id]
