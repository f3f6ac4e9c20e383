"""Every check of the explorer can fail: on nodes that were tampered with, and on cores that were broken."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.events import Proposed
from raft_core.ids import NO_NODE, Index, NodeId, Term
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.roles.leader import Leader
from raft_testing.model_checker.canonical import FIRST_NODE
from raft_testing.model_checker.cluster import Bounds
from raft_testing.model_checker.node import ExploredNode
from raft_testing.model_checker.properties import Ghost, check_state, remember
from raft_testing.model_checker.search import explore

ALL = [NodeId(FIRST_NODE + place) for place in range(5)]
FOUNDERS = Members.initial(ALL[:3])


def node(
    place: int, *entries: Entry, commit: int = 1, leads: bool = False, members: Members = FOUNDERS
) -> ExploredNode:
    """A node of term 5 that holds the members and these entries, all of them durable."""
    fresh = Recovered.fresh(ALL[place], members)
    hard = HardState(Term(5), NO_NODE, Index(commit))
    disk = attrs.evolve(fresh, hard=hard, entries=(*fresh.entries, *entries))
    made = ExploredNode.begin(disk, Bounds().settings())
    made.leads = leads
    return made


def known(*nodes: ExploredNode) -> Ghost:
    """What is known once the first node has been looked at."""
    ghost = remember(Ghost(), nodes, 0)
    assert isinstance(ghost, Ghost)
    return ghost


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry.make(index, term, data)


def said(ghost: Ghost | str, nodes: Sequence[ExploredNode], place: int) -> str:
    return ghost if isinstance(ghost, str) else check_state(ghost, nodes, place)


def test_nodes_that_agree_break_nothing() -> None:
    nodes = [node(0, entry(2, 2), commit=2, leads=True), node(1, entry(2, 2)), node(2)]
    ghost = known(*nodes)

    assert [said(ghost, nodes, place) for place in range(3)] == ["", "", ""]
    assert ghost.leaders == ((5, ALL[0]),)
    assert [entry.index for entry, _ in ghost.committed] == [1, 2]


def test_two_leaders_of_a_term_are_found() -> None:
    nodes = [node(0, leads=True), node(1, leads=True), node(2)]
    assert remember(known(*nodes), nodes, 1) == "election safety (§5.2): two leaders in term 5"


def test_a_leader_that_lacks_what_was_committed_before_is_found() -> None:
    nodes = [node(0, entry(2, 2), commit=2), node(1, entry(2, 2)), node(2, leads=True)]
    ghost = attrs.evolve(known(*nodes), committed=tuple((one, Term(2)) for one in nodes[0].log))
    assert remember(ghost, nodes, 2) == "leader completeness (§5.4): the leader of term 5 lacks committed entry 2"


@pytest.mark.parametrize(
    ("members", "holders"),
    [
        (FOUNDERS, 1),
        (attrs.evolve(FOUNDERS, outgoing=(ALL[3], ALL[4]), highest_id=ALL[4]), 3),
        (attrs.evolve(FOUNDERS, learners=(ALL[3], ALL[4]), highest_id=ALL[4]), -3),
    ],
    ids=["a minority", "only one half", "learners"],
)
def test_a_commit_without_a_durable_majority_of_voters_is_found(members: Members, holders: int) -> None:
    holding = set(range(holders)) if holders > 0 else {0, 3, 4}
    nodes = [
        node(place, *([entry(2, 2)] if place in holding else []), commit=2 if place == 0 else 1, members=members)
        for place in range(len(members.nodes))
    ]
    assert remember(Ghost(), nodes, 0) == "durability: entry 2 is committed but durable on no quorum"


def test_two_entries_committed_at_one_place_are_found() -> None:
    nodes = [node(0, entry(2, 2), commit=2), node(1, entry(2, 2)), node(2, entry(2, 3), commit=2)]
    assert said(known(*nodes), nodes, 2).startswith("state machine safety (§5.4.3): node")


def test_logs_that_differ_before_an_entry_that_they_share_are_found() -> None:
    nodes = [node(0, entry(2, 2, b"x"), entry(3, 3)), node(1, entry(2, 2, b"y"), entry(3, 3)), node(2)]
    assert said(known(*nodes), nodes, 0).startswith("log matching (§5.3): nodes")


def test_two_uncommitted_changes_of_members_in_one_log_are_found() -> None:
    changes = [Entry.make(index, 2, FOUNDERS.encode(), MEMBERS) for index in (2, 3)]
    nodes = [node(0, *changes), node(1), node(2)]
    assert said(known(*nodes), nodes, 0).endswith("holds those at [2, 3], uncommitted")

    nodes = [node(0, *changes, commit=2), node(1, *changes), node(2)]
    assert said(known(*nodes), nodes, 0) == ""


def test_a_leader_that_changes_its_own_log_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = Leader.on_proposed

    def broken(leader: Leader, event: Proposed) -> None:
        if leader.server.log.last_index > leader.server.commit:
            leader.server.truncate_from(leader.server.log.last_index)
        proposed(leader, event)

    monkeypatch.setattr(Leader, "on_proposed", broken)
    report = explore(Bounds(elections=1, values=1))
    assert report.counterexample is not None
    assert "leader append-only (§5.3)" in report.counterexample.violation


@pytest.mark.parametrize(("name", "less"), [("term", Term(1)), ("commit", Index(0))])
def test_a_core_that_goes_back_is_found(monkeypatch: pytest.MonkeyPatch, name: str, less: int) -> None:
    proposed = Leader.on_proposed

    def broken(leader: Leader, event: Proposed) -> None:
        proposed(leader, event)
        setattr(leader.server, name, less)

    monkeypatch.setattr(Leader, "on_proposed", broken)
    monkeypatch.setattr("raft_testing.model_checker.node.check", lambda raft: None)
    report = explore(Bounds(elections=1, values=1))
    assert report.counterexample is not None
    assert "went back from term 2, commit 1 to" in report.counterexample.violation
