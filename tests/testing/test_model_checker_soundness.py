"""The explorer against itself without reductions, and against cores that were broken on purpose.

A plain search that follows every state, tells nodes apart by everything they hold, and forgets no
message. Whatever it reaches must be covered by what the explorer has seen; a violation must have the same length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs
import pytest

from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.ids import NO_NODE, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.messages import VoteReply
from raft_core.outbox import Outbox
from raft_core.quorum import NO_LIMIT, Verdict, committed_index
from raft_core.recovered import Recovered
from raft_core.roles.candidate import Campaign
from raft_core.roles.leader import Leader
from raft_core.roles.transitions import Transition
from raft_core.server import Server
from raft_testing.model_checker.canonical import ALWAYS_LEFT_OUT, FIRST_NODE
from raft_testing.model_checker.cluster import SYNC, Bounds, Cluster, State
from raft_testing.model_checker.node import ExploredNode
from raft_testing.model_checker.search import Search, explore

TINY = {
    "two nodes, two elections": Bounds(nodes=2, elections=2, values=1),
    "a crash": Bounds(nodes=2, elections=1, values=1, crashes=1),
    "a crash and a duplicate": Bounds(nodes=2, elections=1, values=1, crashes=1, duplicates=1),
    "a tick": Bounds(nodes=2, elections=1, values=0, ticks=1, duplicates=1),
    "timers only": Bounds(nodes=2, elections=0, values=0, ticks=5, election_ticks=2, pre_vote=True, check_quorum=True),
    "timers of three": Bounds(nodes=3, elections=0, values=0, ticks=3, election_ticks=2),
    "a tick of three": Bounds(nodes=3, elections=1, values=0, ticks=1),
    "a pre-vote": Bounds(nodes=3, elections=1, values=0, pre_vote=True),
    "a pre-vote and a crash": Bounds(nodes=2, elections=2, values=0, pre_vote=True, crashes=1),
    "a voter removed": Bounds(nodes=2, elections=1, values=0, changes=1),
    "a voter added": Bounds(nodes=2, elections=1, values=0, changes=1, joiners=1),
    "a leader removed": Bounds(nodes=2, elections=1, values=0, abdications=1),
    "a feature enabled": Bounds(nodes=2, elections=1, values=0, features=1),
    "a transfer": Bounds(nodes=2, elections=1, values=1, transfers=1),
    "three nodes": Bounds(nodes=3, elections=1, values=0),
    "one entry at a time": Bounds(nodes=2, elections=1, values=2, single_entries=True),
}


def follow_everything(cluster: Cluster) -> tuple[set[State], int, set[str]]:
    """Every state, the depth reached, and what is violated there."""
    start = cluster.start()
    seen, frontier, depth = {start}, [start], 0
    violations: set[str] = set()
    while frontier and not violations:
        depth += 1
        following: list[State] = []
        for state in frontier:
            for action in cluster.possible(state):
                after, violation = cluster.after(state, action)
                if violation:
                    violations.add(violation)
                elif after not in seen:
                    seen.add(after)
                    following.append(after)
        frontier = following
    return seen, depth, violations


def plain_search(monkeypatch: pytest.MonkeyPatch, bounds: Bounds) -> tuple[Cluster, set[State], int, set[str]]:
    """A search without reductions."""
    with monkeypatch.context() as patch:
        patch.setattr(ExploredNode, "has_outlived", lambda node, message: False)
        cluster = Cluster(bounds, left_out=ALWAYS_LEFT_OUT)
        return cluster, *follow_everything(cluster)


@pytest.mark.parametrize("bounds", TINY.values(), ids=TINY.keys())
def test_every_state_that_a_plain_search_reaches_is_covered(monkeypatch: pytest.MonkeyPatch, bounds: Bounds) -> None:
    cluster, states, _, violations = plain_search(monkeypatch, bounds)
    assert not violations

    search = Search(Cluster(bounds))
    report = search.run()

    assert report.complete
    assert report.counterexample is None
    assert report.states < len(states)
    uncovered = [state for state in translated(cluster, states, search.cluster) if not covered(search, state)]
    assert uncovered == []


def covered(search: Search, state: State) -> bool:
    return search.forms.covered(search.forms.of(state))


def translated(cluster: Cluster, states: Iterable[State], to: Cluster) -> Iterable[State]:
    """The same states in the numbers of another cluster."""
    nodes = [to.number_node(node) for node in cluster.nodes]
    ghosts = [to.number_ghost(ghost) for ghost in cluster.ghosts]
    packets = [
        1 << to.number_packet(packet, copy) for packet, copy in zip(cluster.packets, cluster.copies, strict=True)
    ]
    for numbers, under_way, budgets, ghost in states:
        named = tuple([nodes[number] for number in numbers])
        messages = sum([bit for number, bit in enumerate(packets) if under_way >> number & 1])
        yield named, to.without_outlived(named, messages), budgets, ghosts[ghost]


# Cores that were broken on purpose. Each is found, and no later than by a search without reductions.

Break: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def vote_twice(patch: pytest.MonkeyPatch) -> None:
    answer = Server.answer_vote

    def broken(server: Server, *arguments: object) -> bool:
        if server.vote != server.me:
            server.vote = NodeId(0)
        return answer(server, *arguments)  # type: ignore[arg-type]

    patch.setattr(Server, "answer_vote", broken)


def promise_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Outbox, "_promise", lambda outbox, to, message, rests_on: outbox.send(to, message))


def vote_for_any_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("raft_core.entries.LogPosition.at_least_as_up_to_date_as", lambda position, other: True)


def count_what_is_not_durable(patch: pytest.MonkeyPatch) -> None:
    def broken(leader: Leader) -> Index:
        me, last = leader.server.me, leader.server.log.last_index
        return committed_index(leader.server.members, lambda node: last if node == me else leader.acked(node))

    patch.setattr(Leader, "quorum_index", broken)


def count_one_who_is_removed(patch: pytest.MonkeyPatch) -> None:
    def broken(leader: Leader) -> Index:
        members = leader.server.members
        nodes = [NodeId(FIRST_NODE + place) for place in range(members.highest_id - FIRST_NODE + 1)]
        acks = sorted([leader.acked(node) for node in nodes])
        return acks[len(acks) - len(members.voters) // 2 - 1]

    patch.setattr(Leader, "quorum_index", broken)


def release_only_what_rests_on_the_last(patch: pytest.MonkeyPatch) -> None:
    def broken(outbox: Outbox, upto: int) -> None:
        outbox.effects += [send for rests_on, send in outbox.held if rests_on == upto]
        outbox.held = [(rests_on, send) for rests_on, send in outbox.held if rests_on != upto]

    patch.setattr(Outbox, "_release", broken)


def count_refusals(patch: pytest.MonkeyPatch) -> None:
    def broken(campaign: Campaign, reply: VoteReply) -> Verdict:
        campaign.votes[reply.sender] = True
        return campaign.verdict()

    patch.setattr(Campaign, "count", broken)


BROKEN: dict[str, tuple[Break, Bounds, str]] = {
    "votes twice": (vote_twice, Bounds(elections=2, values=0), "one vote per term"),
    "promises before its disk has written": (promise_before_the_disk, Bounds(elections=1, values=0), "durability"),
    "votes for any log": (vote_for_any_log, Bounds(elections=2, values=0), "leader completeness"),
    "counts what is not durable": (count_what_is_not_durable, Bounds(elections=1, values=0), "durability"),
    "counts one who is removed": (count_one_who_is_removed, Bounds(elections=1, values=0, abdications=1), "durability"),
    "releases only what is newest": (release_only_what_rests_on_the_last, Bounds(elections=2, values=0), "held longer"),
    "counts refusals as votes": (count_refusals, Bounds(elections=2, values=0), "election safety"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_core_that_is_broken_on_purpose_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    breaks, bounds, violation = BROKEN[name]
    breaks(monkeypatch)
    report = explore(bounds)
    assert report.counterexample is not None
    assert violation in report.counterexample.violation


@pytest.mark.parametrize(
    "name", [name for name in BROKEN if name not in {"votes for any log", "counts one who is removed"}]
)
def test_a_plain_search_finds_the_same_at_the_same_depth(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    breaks, bounds, violation = BROKEN[name]
    breaks(monkeypatch)
    _, _, depth, violations = plain_search(monkeypatch, bounds)
    assert depth == explore(bounds).depth
    assert any(violation in text for text in violations)


def disk(place: int, term: int, *entries: Entry) -> Recovered:
    """The disk of a founder of three, with these entries after the members."""
    members = Members.initial([FIRST_NODE, FIRST_NODE + 1, FIRST_NODE + 2])
    fresh = Recovered.fresh(FIRST_NODE + place, members)
    hard = HardState(Term(term), NO_NODE, Index(1))
    return attrs.evolve(fresh, hard=hard, entries=(*fresh.entries, *entries))


FIGURE_8 = (disk(0, 3, Entry.make(2, 2)), disk(1, 4, Entry.make(2, 3)), disk(2, 3))


def test_a_core_that_commits_entries_of_older_terms_by_counting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = Bounds(elections=2, values=0, single_entries=True, states=60_000)
    assert explore(bounds, disks=FIGURE_8).counterexample is None

    def broken(leader: Leader) -> Transition | None:
        index = committed_index(leader.server.members, leader.acked)
        return leader._commit_to(index) if leader.server.commit < index < NO_LIMIT else None

    monkeypatch.setattr(Leader, "_commit", broken)
    report = explore(bounds, disks=FIGURE_8)
    assert report.counterexample is not None
    assert report.counterexample.violation.startswith("leader completeness")


def test_a_core_that_takes_back_the_log_but_not_the_members_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = Members.initial([FIRST_NODE, FIRST_NODE + 1])
    change = Entry.make(3, 2, fewer.encode(), MEMBERS)
    disks = (disk(0, 2, Entry.make(2, 2), change), disk(1, 3, Entry.make(2, 3)), disk(2, 3))
    bounds = Bounds(elections=1, values=0, single_entries=True)
    assert explore(bounds, disks=disks).counterexample is None

    monkeypatch.setattr(
        "raft_core.membership_history.MembershipHistory.truncate_from", lambda configurations, index: False
    )
    report = explore(bounds, disks=disks)
    assert report.counterexample is not None
    assert "the configuration in force is in the log" in report.counterexample.violation


def test_writes_become_durable_together_or_one_by_one() -> None:
    cluster = Cluster(Bounds(nodes=1, elections=2, values=0))
    states, _, _ = follow_everything(cluster)
    together = {action[2] for state in states for action in cluster.possible(state) if action[0] == SYNC}
    assert together == {1, 2}


def test_the_same_message_sent_twice_can_arrive_twice() -> None:
    cluster = Cluster(Bounds(nodes=2, elections=1, values=0, ticks=3))
    states, _, _ = follow_everything(cluster)
    assert max(cluster.copies) >= 1
    assert any(under_way >> cluster.copies.index(1) & 1 for _, under_way, _, _ in states)
