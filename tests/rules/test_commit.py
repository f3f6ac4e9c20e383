"""Rules of committing, each with the mistake that taught it."""

from __future__ import annotations

from random import Random

import pytest

from raft_core.effects import Apply, Stop, StopReason
from raft_core.entries import HardState
from raft_core.events import Proposed, Requested
from raft_core.ids import Index, NodeId, RequestId, Term
from raft_core.membership import AddVoter, ChangeMode, RemoveNode
from raft_core.messages import COMMIT_UPDATE, HEARTBEAT, AppendEntries
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.requests import ChangeMembership
from tests.core.cluster import SMALL, Cluster, with_settings
from tests.core.helpers import (
    accepted,
    append,
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
)


def test_a_noop_of_the_new_term_is_never_refused_for_want_of_room() -> None:
    """A leader that cannot append its first entry commits nothing for ever."""
    full = with_settings(max_uncommitted_bytes=1, log_max_bytes=1)
    raft = leader(core(log=[1, 1, 1], settings=full))

    assert raft.log.last.term == 2
    assert raft.log.last_index == 5


def test_the_leaders_own_copy_counts_only_once_it_is_durable() -> None:
    """A write that is only in memory is no replica; a single server lost acknowledged data by counting it."""
    raft = leader(core(), durable=False)

    step(raft, accepted(2, 2, 1))
    assert raft.server.commit == 1
    step(raft, accepted(2, 2, 2))
    assert raft.server.commit == 1
    persist(raft)
    assert raft.server.commit == 2


def test_a_single_voter_commits_after_its_own_sync_and_not_before() -> None:
    raft = leader(core(count=1), settled=True)

    step(raft, Proposed(RequestId(1), (b"x",)))
    assert raft.server.commit == 2
    persist(raft)
    assert raft.server.commit == 3


def test_two_followers_commit_what_the_leaders_own_disk_has_not_got_yet() -> None:
    """A majority is a majority; the leader may be the slow one (thesis 10.2.1). It applies only what is durable."""
    raft = leader(core(), settled=True)
    machine_done(raft)
    step(raft, Proposed(RequestId(1), (b"x",)))

    step(raft, accepted(2, 2, 3))
    effects = step(raft, accepted(2, 3, 3))

    assert raft.server.commit == 3
    assert only(Apply, effects) == []
    (apply,) = only(Apply, persist(raft))
    assert [command for _, command in apply.commands] == [b"x"]  # type: ignore[union-attr]


def test_leaving_a_joint_configuration_commits_what_only_the_outgoing_half_held_back() -> None:
    """Commitment is asked again when the configuration moves, not only when an answer comes."""
    cluster = Cluster(3)
    cluster.elect(1)
    for node in (4, 5):
        cluster.joiner(node)
    changes = (AddVoter(NodeId(4)), AddVoter(NodeId(5)), RemoveNode(NodeId(2)), RemoveNode(NodeId(3)))
    cluster[1].step(Requested(RequestId(1), ChangeMembership(changes, ChangeMode.JOINT)))

    cluster.deliver()

    assert cluster[1].raft.members.voters == (1, 4, 5)
    assert cluster[1].raft.server.commit == cluster[1].raft.log.last_index


def test_a_follower_commits_no_more_than_the_message_verified() -> None:
    """Never up to its own last index: what lies behind may be another leader's."""
    raft = core(log=[1, 1, 1, 1])

    step(raft, append(2, 2, (2, 1), (3, 1), commit=5))

    assert raft.server.commit == 3


@pytest.mark.parametrize("purpose", [COMMIT_UPDATE, HEARTBEAT])
def test_a_message_without_entries_commits_up_to_the_place_that_it_names(purpose: object) -> None:
    raft = core(log=[1, 1, 1])

    step(raft, append(1, 2, (3, 1), commit=3, purpose=purpose))  # type: ignore[arg-type]

    assert raft.server.commit == 3


def test_a_heartbeat_tells_no_more_than_the_follower_is_known_to_hold() -> None:
    """min(match, commit): a heartbeat may overtake the entries."""
    raft = leader(core(count=3, log=[1, 1, 1]), settled=False)
    step(raft, accepted(2, 2, 5))
    assert raft.server.commit == 5
    step(raft, accepted(2, 3, 2))

    beats = {m.commit for m in sent(tick(raft), to=3) if isinstance(m, AppendEntries) and m.purpose is HEARTBEAT}

    assert beats == {2}


def test_an_acknowledgement_names_what_the_message_verified_and_not_the_last_index() -> None:
    """A longer, diverging tail would be acknowledged with it, and committed."""
    raft = core(log=[1, 1, 1, 1])

    step(raft, append(2, 2, (1, 1), (2, 1)))

    (reply,) = sent(persist(raft))
    assert reply == accepted(2, 1, 2)


def test_the_commit_index_never_falls() -> None:
    raft = core(log=[1, 1], commit=3)

    step(raft, append(1, 2, (3, 1), commit=1))
    step(raft, heartbeat(1, 2, commit=0))

    assert raft.server.commit == 3


def test_a_leader_that_proves_our_disk_lost_entries_ends_this_node_with_a_remedy() -> None:
    """The most frequent crash in the field: a commit index beyond the log. Going on would lose committed data."""
    raft = core(log=[1])

    effects = step(raft, heartbeat(1, 2, (9, 1), commit=9))

    (stop,) = only(Stop, effects)
    assert stop.reason is StopReason.LOG_LOST  # type: ignore[union-attr]
    assert "new id" in stop.text  # type: ignore[union-attr]
    assert raft.stopped


def test_a_disk_that_holds_less_than_it_committed_is_not_started() -> None:
    """On opening, too: typed, explained, and before any vote."""
    recovered = Recovered(Identity(NodeId(1)), HardState(Term(3), commit=Index(9)), entries=entries((1, 1)))
    raft = Raft(SMALL, recovered, Random(1))

    (stop,) = raft.step()

    assert isinstance(stop, Stop)
    assert stop.reason is StopReason.LOG_LOST
    assert "its log ends at 1, but 9" in stop.text


def test_a_follower_that_forgot_what_it_acknowledged_is_found_out() -> None:
    """Its rejection of an acknowledged place is stray to the leader; the heartbeat that follows proves the loss."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver()
    cluster[3].crash()
    cluster[3].disk.entries = {1: cluster[3].disk.entries[1]}
    cluster[3].disk.hard = HardState(cluster[3].disk.hard.term, cluster[3].disk.hard.vote)

    cluster[3].restart()
    cluster.tick(3)

    assert not cluster[3].alive
    assert only(Stop, cluster[3].effects)
