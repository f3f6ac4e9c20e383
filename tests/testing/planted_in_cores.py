"""Mistakes planted into one core on a stage of a few, and what the safety checker says of them.

Plants for the checks on leaders, logs, commits, configurations and answers. What each core
checks about itself is switched off while they run, so that the safety checker alone must see them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import msgspec
import pytest

from raft_core.effects import Apply, Effect, Respond
from raft_core.entries import MEMBERS, Entry, HardState, LogPosition
from raft_core.events import CampaignRequested, Proposed, StorageFailed, Tick
from raft_core.ids import NO_NODE, Index, NodeId, Term
from raft_core.membership import AddLearner, Members
from raft_core.membership_history import MembershipHistory
from raft_core.messages import RequestVote, VoteReply
from raft_core.quorum import committed_index
from raft_core.roles.leader import Leader
from raft_core.roles.role import Role
from raft_core.server import Server
from tests.core.helpers import apply_of
from tests.testing.planted import shows
from tests.testing.watched_cores import Stage, acknowledged, entry

# Leaders and votes.


@shows("election safety: at most one leader per term", "nodes 1 and 2 both lead term")
def two_leaders(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.crown(2)
    stage.step(2, Tick())
    return stage.text


def forget_votes(patch: pytest.MonkeyPatch) -> None:
    answer = Server.answer_vote

    def broken(server: Server, request: RequestVote, leader: NodeId) -> bool:
        server.vote = NO_NODE
        return answer(server, request, leader)

    patch.setattr(Server, "answer_vote", broken)


@shows("one vote per term for a node's whole life", "node 3 voted for 1 and for 2 in term")
def two_votes(patch: pytest.MonkeyPatch) -> str:
    forget_votes(patch)
    stage = Stage()
    stage.step(1, CampaignRequested())
    stage.step(2, CampaignRequested())
    stage.deliver(to=[3])
    return stage.text


@shows("one vote per term for a node's whole life", "node 3 voted for 1 and for 2 in term")
def two_votes_with_a_restart_between(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.step(1, CampaignRequested())
    stage.step(2, CampaignRequested())
    asks = [message for sender, to, message in stage.network if to == 3]
    stage.step(3, asks[0])
    stage.restart(3, hard=HardState(Term(stage.raft(3).server.term), NO_NODE, Index(1)))
    stage.step(3, asks[1])
    return stage.text


ELECTED: Final = "a leader was elected by a durable majority of each half, learners not counted"


@shows(ELECTED, "elected by [1] of")
def leads_without_votes(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.step(1, CampaignRequested())
    stage.crown(1)
    stage.step(1, Tick())
    return stage.text


@shows(ELECTED, "with HardState(term=1")
def leads_with_a_vote_that_is_not_durable(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.seats[1].held = True
    stage.step(1, CampaignRequested())
    stage.crown(1)
    stage.step(1, Tick())
    return stage.text


@shows(ELECTED, "elected by [1, 4, 5] of")
def learners_counted_as_voters(patch: pytest.MonkeyPatch) -> str:
    stage = Stage(members=Members.initial([1, 2, 3], learners=[4, 5]))
    stage.step(1, CampaignRequested())
    ask = stage.network[0][2]
    stage.step(4, ask)
    stage.step(5, ask)
    stage.crown(1)
    stage.step(1, Tick())
    return stage.text


@shows(ELECTED, "elected by [1, 2, 3] of")
def a_half_that_was_not_asked(patch: pytest.MonkeyPatch) -> str:
    joint = attrs.evolve(Members.initial([1, 2, 3]), outgoing=(NodeId(4), NodeId(5)), highest_id=NodeId(5))
    stage = Stage(members=joint)
    stage.step(1, CampaignRequested())
    stage.deliver(lost=[4, 5])
    stage.crown(1)
    stage.step(1, Tick())
    return stage.text


@shows("leader append-only", "node 1: a leader changed its own log from 3 on")
def a_leader_truncates(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.raft(1).server.log.truncate_from(Index(3))
    stage.step(1, Tick())
    return stage.text


@shows("leader append-only", "node 1: a leader changed its own log from 5 on")
def a_leader_installs_a_snapshot(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.raft(2).server.append((entry(3, 9), entry(4, 9)))
    stage.step(2, Tick())
    stage.propose(1, b"x", b"y")
    stage.raft(1).server.log.reset(LogPosition(Index(4), Term(9)))
    stage.step(1, Tick())
    return stage.text


@shows("leader completeness", "leader 3 of term 3 lacks index 3, committed in 2")
def a_vote_for_a_shorter_log(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(LogPosition, "at_least_as_up_to_date_as", lambda position, other: True)
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver(lost=[3])
    stage.step(3, CampaignRequested())
    stage.deliver()
    return stage.text


@shows("leader completeness", "the leader of term 3 lacks index 3, committed in 2")
def a_commit_that_a_later_leader_does_not_know(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(LogPosition, "at_least_as_up_to_date_as", lambda position, other: True)
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver(to=[2], lost=[3])  # it is on the disk of 2, the answer is on its way
    late, stage.network = stage.network, []
    stage.step(3, CampaignRequested())
    stage.deliver(to=[2], lost=[1])
    stage.deliver(to=[3], lost=[1])
    stage.network = late
    stage.deliver(to=[1])
    return stage.text


# Logs.


@shows("log matching: equal positions have equal pasts", "two logs hold index 3, term 2 with different entries")
def another_entry_at_the_same_place(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.raft(2).server.append((entry(3, 2),))
    stage.step(2, Tick())
    return stage.text


@shows("what is committed is never truncated", "node 2: truncated from 3, committed 3")
def a_committed_entry_goes(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver()
    stage.step(1, Tick())
    stage.deliver()
    stage.raft(2).server.log.truncate_from(Index(3))
    stage.step(2, Tick())
    return stage.text


@shows("what is committed is never truncated", "node 2: truncated from 3, committed 3")
def a_committed_entry_goes_with_a_snapshot(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.raft(3).server.append((entry(2, 1),))
    stage.step(3, Tick())
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver()
    stage.step(1, Tick())
    stage.deliver()
    stage.raft(2).server.log.reset(LogPosition(Index(2), Term(1)))
    stage.step(2, Tick())
    return stage.text


# Commits.


@shows("a commit is durable on a majority of each half", "without a durable majority")
def a_leader_counts_what_its_disk_has_not_written(patch: pytest.MonkeyPatch) -> str:
    def broken(leader: Leader) -> Index:
        me, last = leader.server.me, leader.server.log.last_index
        return committed_index(leader.server.members, lambda node: last if node == me else leader.acked(node))

    patch.setattr(Leader, "quorum_index", broken)
    stage = Stage()
    stage.elect(1, lost=[3])
    stage.seats[1].held = True
    stage.propose(1, b"x")
    stage.deliver(lost=[3])
    return stage.text


@shows("a commit is durable on a majority of each half", "without a durable majority")
def a_half_that_is_not_counted(patch: pytest.MonkeyPatch) -> str:
    def broken(members: Members, acked: Callable[[NodeId], Index]) -> Index:
        return committed_index(attrs.evolve(members, outgoing=()), acked)

    patch.setattr("raft_core.roles.leader.committed_index", broken)
    joint = attrs.evolve(Members.initial([1, 2, 3]), outgoing=(NodeId(4), NodeId(5)), highest_id=NodeId(5))
    stage = Stage(members=joint)
    stage.step(1, CampaignRequested())
    stage.deliver(to=[2, 3, 4, 5])
    stage.deliver(to=[1])
    stage.deliver(lost=[4, 5])
    return stage.text


@shows("a leader commits by counting only entries of its own term", "of term 3 commits 3, of term 2")
def an_entry_of_an_older_term_is_counted(patch: pytest.MonkeyPatch) -> str:
    def broken(leader: Leader) -> Any:
        index = committed_index(leader.server.members, leader.acked)
        return leader._commit_to(index) if index > leader.server.commit else None

    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver(to=[2], lost=[3])
    stage.network.clear()
    stage.restart(1)
    stage.step(1, CampaignRequested())
    stage.deliver(to=[2], lost=[3])
    stage.seats[1].held = True
    stage.network = [packet for packet in stage.network if isinstance(packet[2], VoteReply)]
    stage.deliver(to=[1])
    patch.setattr(Leader, "_commit", broken)
    stage.step(1, acknowledged(3, 2, 3))
    return stage.text


SAFETY: Final = "state machine safety: one entry per committed index, applied in order"


@shows(SAFETY, "another entry is committed at 3 than elsewhere")
def another_entry_is_taken_for_committed(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.deliver(lost=[3])
    server = stage.raft(3).server
    server.append((entry(3, 9),))
    server.commit = Index(3)
    stage.step(3, Tick())
    return stage.text


@shows(SAFETY, "commits 4, which no leader has committed")
def a_follower_runs_ahead(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.raft(2).server.commit = Index(4)
    stage.step(2, Tick())
    return stage.text


Commands: TypeAlias = tuple[tuple[Index, bytes], ...]


def applied_otherwise(change: Callable[[Commands], Commands]) -> str:
    """What is said where the leader orders other commands to be applied than it should."""

    def broken(effects: list[Effect]) -> list[Effect]:
        return [
            Apply(effect.upto, change(effect.commands)) if isinstance(effect, Apply) else effect for effect in effects
        ]

    stage = Stage()
    stage.elect(1)
    stage.seats[1].reports.clear()
    stage.doctor(1, broken)
    stage.propose(1, b"x", b"y")
    stage.deliver()
    return stage.text


@shows(SAFETY, "node 1 applies up to 4 something else than was committed")
def a_command_is_left_out(patch: pytest.MonkeyPatch) -> str:
    return applied_otherwise(lambda commands: commands[1:])


@shows(SAFETY, "node 1 applies up to 4 something else than was committed")
def a_command_is_changed_on_its_way(patch: pytest.MonkeyPatch) -> str:
    return applied_otherwise(lambda commands: tuple((index, b"other") for index, _ in commands))


@shows(SAFETY, "node 1 applies up to 2 after 2")
def what_is_applied_is_applied_again(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.doctor(1, lambda effects: [*effects, Apply(Index(2))])
    stage.step(1, Tick())
    return stage.text


@shows(SAFETY, "node 1 applies index 4, which is not committed")
def what_is_not_committed_is_applied(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x", b"y")
    held = stage.raft(1).log
    stage.doctor(1, lambda effects: [*effects, apply_of(held.slice(Index(3), Index(4), 10_000))])
    stage.step(1, Tick())
    return stage.text


@shows(SAFETY, "node 2 applies 3 before it is durable")
def what_is_not_durable_is_applied(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.deliver()
    stage.seats[2].held = True
    stage.propose(1, b"x")
    stage.deliver()
    early = apply_of(stage.raft(2).log.slice(Index(3), Index(3), 1000))
    stage.doctor(2, lambda effects: [*effects, early])
    stage.step(2, Tick())
    return stage.text


MONOTONE: Final = "terms never fall, restarts included, and the commit index never falls in a life"


@shows(MONOTONE, "node 2: the term fell from 2")
def a_term_falls(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.raft(2).server.term = Term(1)
    stage.step(2, Tick())
    return stage.text


@shows(MONOTONE, "node 2 came back in term 1 after promising 2")
def a_term_is_forgotten_in_a_restart(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.restart(2, hard=HardState(Term(1), NO_NODE, Index(1)))
    return stage.text


@shows(MONOTONE, "node 1: the commit index fell from 2 to 1")
def a_commit_index_falls(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.raft(1).server.commit = Index(1)
    stage.step(1, Tick())
    return stage.text


# Configurations.

IN_FORCE: Final = "the configuration in force is the last one in the log, after truncation too"


@shows(IN_FORCE, "node 2: the configuration of 5 is in force, not of 1")
def a_configuration_from_nowhere(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.raft(2).server.configurations.append(Index(5), Members.initial([1, 2]))
    stage.step(2, Tick())
    return stage.text


@shows(IN_FORCE, "node 2: other members are in force than in the log")
def other_members_than_the_log_says(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.raft(2).server.configurations.members = Members.initial([1, 2])
    stage.step(2, Tick())
    return stage.text


@shows(IN_FORCE, "node 2: the configuration of 3 is in force, not of 1")
def a_truncated_configuration_stays(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(MembershipHistory, "truncate_from", lambda configurations, index: False)
    stage = Stage()
    stage.elect(1)
    change = Entry.make(3, 2, Members.initial([1, 2]).encode(), MEMBERS)
    stage.raft(2).server.append((change,))
    stage.step(2, Tick())
    stage.step(3, CampaignRequested())
    stage.deliver(lost=[2])
    stage.step(3, Tick())
    stage.deliver()
    return stage.text


@shows("at most one uncommitted change of members in any log", "members are changed at 4 before the change at 3 is")
def two_changes_at_once(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    server = stage.raft(1).server
    for place, learner in ((3, 4), (4, 5)):
        changed = server.members.changed((AddLearner(NodeId(learner)),))
        assert isinstance(changed, Members)
        server.append((Entry.make(place, 2, changed.encode(), MEMBERS),))
    stage.step(1, Tick())
    return stage.text


# One core.


@shows("every item of every request to a core has one answer", "request 1 was answered twice, or never asked")
def an_answer_is_given_twice(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.doctor(2, lambda effects: [effect for one in effects for effect in (one, one)[: 1 + (type(one) is Respond)]])
    stage.propose(2, b"x")
    return stage.text


@shows("every item of every request to a core has one answer", "node 2 never answered the requests (1,)")
def an_answer_is_never_given(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.doctor(2, lambda effects: [effect for effect in effects if type(effect) is not Respond])
    stage.propose(2, b"x")
    stage.safety.all_answered(stage.watched[2])
    return stage.text


@shows("every item of every request to a core has one answer", "node 1 never answered the requests (1,)")
def a_core_stops_without_a_word(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(Server, "answer_everybody", lambda server, end, text: None)
    stage = Stage()
    stage.elect(1)
    stage.propose(1, b"x")
    stage.step(1, StorageFailed("gone"))
    return stage.text


PURE: Final = "equal steps have equal effects, and events are not changed"


@shows(PURE, "node 1: the same step had other effects at Proposed")
def a_step_depends_on_what_was_before_it_elsewhere(patch: pytest.MonkeyPatch) -> str:
    proposed, calls = Leader.on_proposed, [0]

    def broken(leader: Leader, event: Proposed) -> None:
        calls[0] += 1
        proposed(leader, Proposed(event.request, (b"%d" % calls[0],)))

    patch.setattr(Leader, "on_proposed", broken)
    stage = Stage(purity=1.0)
    stage.elect(1)
    stage.propose(1, b"x")
    return stage.text


@shows(PURE, "node 2: a step changed its event")
def a_step_changes_its_event(patch: pytest.MonkeyPatch) -> str:
    proposed = Role.on_proposed

    def broken(role: Role, event: Proposed) -> None:
        proposed(role, event)
        msgspec.structs.force_setattr(event, "commands", (b"changed",))

    patch.setattr(Role, "on_proposed", broken)
    stage = Stage(purity=1.0)
    stage.propose(2, b"x")
    return stage.text
