"""What a script can expect. An expectation that fails is an error, also while recording: no recording can excuse it.

expect 1 leader | follower | candidate | pre_candidate     its role
expect 2 follows 1 (0: nobody)        expect nobody leads      expect one leader
expect 1 term 3      commit 5      applied 5      vote 2      last 7      first 4      snapshot 5      highest 4
expect 1 log 1/1 1/2 2/3              term/index of everything held
expect 1 machine a b c                what its machine was given
expect 1 voters 1 2 3      outgoing 1 2      learners 4      (no number: nobody)
expect 1 sees 3 probe | replicate | snapshot | nothing
expect 1 stopped log_lost             expect 1 running
expect 1 alarm disk_stall             an alarm of this kind has been given
expect 1 asked 3                      a message of 1 to 3 is in flight
expect request 4 applied | refused not_leader | unknown truncated | may-read 5 | open
expect same 1 2 3                     their logs, commit indexes and machines are equal
expect silence                        nothing is in flight
"""

from __future__ import annotations

from collections.abc import Callable

from raft_core.effects import Indeterminate, Outcome, ReadReady, Refusal, Stop, Success
from raft_core.raft import Raft
from raft_core.status import Status
from tests.core.cluster import Node
from tests.scenarios.stage import Stage

__all__ = ["expect"]

NUMBERS: dict[str, Callable[[Status], int]] = {
    "term": lambda status: status.term,
    "vote": lambda status: status.vote,
    "commit": lambda status: status.commit,
    "applied": lambda status: status.applied,
    "first": lambda status: status.first_index,
    "last": lambda status: status.last_index,
    "snapshot": lambda status: status.snapshot_index,
    "follows": lambda status: status.leader,
    "highest": lambda status: status.members.highest_id,
}
LISTS: dict[str, Callable[[Raft, Node], list[str]]] = {
    "voters": lambda raft, _: [str(node) for node in raft.members.voters],
    "outgoing": lambda raft, _: [str(node) for node in raft.members.outgoing],
    "learners": lambda raft, _: [str(node) for node in raft.members.learners],
    "log": lambda raft, _: [f"{entry.term}/{entry.index}" for entry in raft.log.entries()],
    "machine": lambda _, node: [data.decode() for data in node.data],
}
ROLES = ("leader", "follower", "candidate", "pre_candidate")


def expect(stage: Stage, words: list[str]) -> None:
    """Nothing, or `AssertionError` with what was found instead."""
    if words[0] == "request":
        _same(words[2:], _answer(stage, int(words[1])))
    elif words[0] == "same":
        _alike([stage[int(word)] for word in words[1:]])
    elif words[0] == "silence":
        _same([], [str(item) for item in stage.network])
    elif words[0] in ("nobody", "one"):
        leading = [node.id for node in stage.nodes.values() if node.alive and node.raft.status.leads]
        assert len(leading) == (words[0] == "one"), f"{leading} lead"
    else:
        _node(stage, stage[int(words[0])], words[1], words[2:])


def _node(stage: Stage, node: Node, what: str, rest: list[str]) -> None:
    raft = node.raft
    status = raft.status
    if what in ROLES:
        _same(what, status.role.value)
    elif what in NUMBERS:
        _same(int(rest[0]), NUMBERS[what](status))
    elif what in LISTS:
        _same(rest, LISTS[what](raft, node))
    elif what == "sees":
        states = {str(peer.node): peer.state for peer in status.peers}
        _same(rest[1], states.get(rest[0], "nothing"))
    elif what == "asked":
        assert any(item[0] == node.id and item[1] == int(rest[0]) for item in stage.network), "nothing is in flight"
    elif what == "alarm":
        assert rest[0] in [str(alarm.kind) for alarm in stage.alarms.get(node.id, [])], stage.alarms.get(node.id)
    elif what == "stopped":
        stops = [str(effect.reason) for effect in node.effects if isinstance(effect, Stop)]
        _same(rest, stops)
    else:
        assert what == "running", f"there is no expectation called {what}"
        assert node.alive, "it is down"


def _same(wanted: object, found: object) -> None:
    assert wanted == found, f"found {found}"


def _alike(nodes: list[Node]) -> None:
    first = nodes[0]
    for other in nodes[1:]:
        _same(first.raft.log.entries(), other.raft.log.entries())
        _same(first.raft.status.commit, other.raft.status.commit)
        _same(first.data, other.data)


def _answer(stage: Stage, request: int) -> list[str]:
    found = [
        _words(answer.outcome) for node in stage.nodes.values() for answer in node.answers if answer.request == request
    ]
    if not found:
        return ["open"]
    assert all(words == found[0] for words in found), f"its parts had different answers: {found}"
    return found[0]


def _words(outcome: Outcome) -> list[str]:
    match outcome:
        case Success():
            return ["applied"]
        case Refusal(reason):
            return ["refused", str(reason)]
        case Indeterminate(reason):
            return ["unknown", str(reason)]
        case ReadReady(index):
            return ["may-read", str(index)]
