"""The explorer: a tiny bound is searched to its end, and a core that was broken on purpose is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import pytest

from raft_core.ids import NO_NODE, Index, NodeId, Term
from raft_core.log import Log
from raft_core.messages import RequestVote
from raft_core.outbox import Outbox
from raft_core.raft import Raft
from raft_core.server import Server
from raft_testing.model_checker import search as explorer
from raft_testing.model_checker.search import Bounds, explore
from raft_testing.trace.html import draw
from raft_testing.trace.records import RecordKind, decode_trace, encode_trace


def test_one_election_and_one_value_are_searched_to_the_end() -> None:
    report = explore(Bounds(elections=1, values=1))
    assert report.complete
    assert report.counterexample is None
    assert report.states > 1_000


def test_a_crash_with_any_prefix_of_the_writes_is_searched_to_the_end() -> None:
    report = explore(Bounds(nodes=2, elections=1, values=1, crashes=1))
    assert report.complete
    assert report.states > 150


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(nodes=2, elections=1, values=0, features=1, crashes=1),
        Bounds(nodes=2, elections=2, values=0, features=1),  # an entry that enables it is replaced, or committed late
        Bounds(nodes=2, elections=1, values=0, features=2),
    ],
    ids=["crash", "two leaders", "two features"],
)
def test_features_are_enabled_in_every_order(bounds: Bounds) -> None:
    report = explore(bounds)
    assert report.counterexample is None
    assert report.complete


def test_core_that_uses_a_feature_before_its_entry_is_committed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raft, "features", property(lambda raft: raft._server.members.features))
    report = explore(Bounds(nodes=2, elections=1, values=0, features=1))
    assert report.counterexample is not None
    assert "features" in report.counterexample.violation


def test_a_search_is_the_same_every_time() -> None:
    bounds = Bounds(nodes=2, elections=1, values=1, duplicates=1)
    assert explore(bounds) == explore(bounds)


def test_states_that_differ_only_in_the_names_of_nodes_are_one() -> None:
    seen: list[int] = []
    explore(Bounds(elections=1, values=0), lambda depth, states, frontier: seen.append(frontier))
    assert seen[:2] == [1, 1]  # the node that stands first


def test_a_search_that_is_cut_short_does_not_call_itself_complete() -> None:
    report = explore(Bounds(states=50))
    assert not report.complete
    assert 50 <= report.states < 200


def forget_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voter that forgets whom it has voted for: the first mistake of many implementations."""
    answer = Server.answer_vote

    def broken(server: Server, request: RequestVote, leader: NodeId) -> bool:
        if server.vote != server.me:
            server.vote = NO_NODE
        return answer(server, request, leader)

    monkeypatch.setattr(Server, "answer_vote", broken)


def test_a_core_that_votes_twice_is_found_with_a_short_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_votes(monkeypatch)
    report = explore(Bounds(elections=2, values=0))
    assert report.counterexample is not None
    assert report.counterexample.violation.startswith("one vote per term (§5.2)")
    assert len(report.counterexample.trace) < 12
    assert report.counterexample.trace[-1].violation == report.counterexample.violation


def test_a_core_that_promises_before_its_disk_has_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(outbox: Outbox, to: NodeId, message: RequestVote, rests_on: int) -> None:
        outbox.send(to, message)

    monkeypatch.setattr(Outbox, "_promise", hasty)
    report = explore(Bounds(elections=2, values=0, crashes=1))
    assert report.counterexample is not None
    kinds = [record.kind for record in report.counterexample.trace]
    assert RecordKind.CRASH in kinds


def test_a_counterexample_can_be_drawn_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_votes(monkeypatch)
    found = explore(Bounds(elections=2, values=0)).counterexample
    assert found is not None
    assert decode_trace(encode_trace(found.trace)) == list(found.trace)
    assert found.violation in draw(found.trace)
    lines = str(found).splitlines()
    assert "asked to campaign" in lines[0]
    assert lines[-1] == f"    ✖ {found.violation}"
    assert {record.node for record in found.trace} <= {1, 2, 3}


def test_a_leader_that_counts_what_its_disk_has_not_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Outbox.write

    def hasty(outbox: Outbox, log: Log, term: Term, vote: NodeId, commit: Index, now: int) -> None:
        write(outbox, log, term, vote, commit, now)
        outbox.durable_index = log.last_index

    monkeypatch.setattr(Outbox, "write", hasty)
    report = explore(Bounds(elections=1, values=1))
    assert report.counterexample is not None
    assert report.counterexample.violation.startswith("durability")


@pytest.mark.parametrize("values", [0, 1])
def test_a_search_whose_work_is_shared_out_finds_the_same(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_SHARE", 7)
    bounds = Bounds(elections=1, values=values, duplicates=1)
    asked: list[int] = []

    def spread(work: Callable[[int], bytes], count: int) -> Iterable[bytes]:
        asked.append(count)
        backwards = [work(number) for number in reversed(range(count))]
        return reversed(backwards)

    alone, shared = explore(bounds), explore(bounds, spread=spread)
    assert max(asked) > 3
    assert attrs.evolve(shared, core_steps=0) == attrs.evolve(alone, core_steps=0)


def test_a_search_whose_work_is_shared_out_finds_the_same_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_SHARE", 3)
    forget_votes(monkeypatch)
    alone = explore(Bounds(elections=2, values=0))
    shared = explore(Bounds(elections=2, values=0), spread=lambda work, count: map(work, range(count)))
    assert shared.counterexample is not None
    assert alone.counterexample is not None
    assert len(shared.counterexample.trace) == len(alone.counterexample.trace)
    assert shared.counterexample.violation.startswith("one vote per term (§5.2)")


def test_the_table_says_what_could_happen_what_was_seen_and_what_was_checked() -> None:
    table = explore(Bounds(nodes=2, elections=1, values=1, crashes=1)).table()

    for line in (
        "a cluster of 2 nodes",
        "          1  crashes",
        "states of single nodes",
        "  election safety",
        "complete: ",
    ):
        assert line in table
    assert "duplicates" not in table
