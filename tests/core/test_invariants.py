"""Every line of `raft_core.invariants` can fail: a core whose state was tampered with is found out by just that line.

One way to tamper for each line. A line that is added needs one too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import pytest

from raft_core import invariants
from raft_core.effects import Send
from raft_core.entries import SnapshotMeta
from raft_core.errors import InvariantBroken
from raft_core.events import Proposed
from raft_core.ids import NO_NODE, Index, MessageId, NodeId, RequestId, Term, WriteId
from raft_core.membership import Level, Members
from raft_core.outbox import MOST_HELD
from raft_core.progress import Progress, ProgressState
from raft_core.raft import Raft
from raft_core.roles.candidate import Candidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.state_values import Page, PendingProposal, WaitingRead
from tests.core.helpers import asks, candidate, core, heartbeat, leader, machine_done, persist, step

MEMBERS: Final = Members.initial([1, 2, 3])


def follower() -> Raft:
    """It follows node 2, holds 4 entries, and has applied 3."""
    raft = core(log=(1, 1, 1), commit=3)
    step(raft, heartbeat(2, 2, (4, 1), commit=3, tip=4))
    persist(raft)
    machine_done(raft)
    return raft


def standing() -> Raft:
    return candidate(core(log=(1, 1, 1), commit=3))


def leading() -> Raft:
    """It leads, everything is committed and applied, and both followers have everything."""
    raft = leader(core(log=(1, 1)), settled=True)
    machine_done(raft)
    return raft


def role_of_follower(raft: Raft) -> Follower:
    assert isinstance(raft.role, Follower)
    return raft.role


def role_of_leader(raft: Raft) -> Leader:
    assert isinstance(raft.role, Leader)
    return raft.role


def role_of_candidate(raft: Raft) -> Candidate:
    assert isinstance(raft.role, Candidate)
    return raft.role


def peer(raft: Raft) -> Progress:
    return role_of_leader(raft).replication.progress[NodeId(2)]


def snapshot(index: int) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(1), MEMBERS, Index(1))


Tamper = Callable[[Raft], None]
BROKEN: Final[dict[str, tuple[Callable[[], Raft], Tamper]]] = {}


def breaks(text: str, state: Callable[[], Raft] = follower) -> Callable[[Tamper], Tamper]:
    """The function makes the line with this text fail, in a core that is in this state."""

    def note(tamper: Tamper) -> Tamper:
        assert text not in BROKEN
        BROKEN[text] = (state, tamper)
        return tamper

    return note


# Roles.


@breaks("a follower never follows itself")
def _(raft: Raft) -> None:
    role_of_follower(raft).leader = NodeId(1)


@breaks("no more is verified than the log holds")
def _(raft: Raft) -> None:
    role_of_follower(raft).verified = Index(5)


@breaks("reads wait only at a known leader")
def _(raft: Raft) -> None:
    role_of_follower(raft).reads.append((MessageId(1), RequestId(1)))
    role_of_follower(raft).leader = NO_NODE


@breaks("reads asked of a leader are bounded")
def _(raft: Raft) -> None:
    role_of_follower(raft).reads = [(MessageId(n), RequestId(n)) for n in range(10_001)]


@breaks("a candidate has voted for itself", standing)
def _(raft: Raft) -> None:
    raft.server.vote = NodeId(2)


@breaks("a candidate's own vote counts only once it is durable", standing)
def _(raft: Raft) -> None:
    role_of_candidate(raft).own_write = WriteId(raft.server.outbox.issued + 1)


# Positions.


@breaks("the base is not behind the end")
def _(raft: Raft) -> None:
    raft.log.base_index = Index(5)


@breaks("no entry is of a term that was not entered")
def _(raft: Raft) -> None:
    raft.log.last_term = Term(3)


@breaks("what left the log is in the snapshot")
def _(raft: Raft) -> None:
    raft.log.compact(Index(2))


@breaks("applied does not exceed what was ordered")
def _(raft: Raft) -> None:
    raft.server.pipeline.applied = Index(4)


@breaks("only committed entries are applied")
def _(raft: Raft) -> None:
    raft.server.pipeline.applying = Index(4)


@breaks("only what the log holds is committed")
def _(raft: Raft) -> None:
    raft.server.commit = Index(5)


@breaks("a snapshot is of what is committed")
def _(raft: Raft) -> None:
    raft.server.snapshots.newest = snapshot(4)


@breaks("a snapshot is of what is applied, or being restored")
def _(raft: Raft) -> None:
    raft.server.snapshots.newest = snapshot(3)
    raft.server.pipeline.applied = Index(2)


@breaks("the last page ends at what was ordered")
def _(raft: Raft) -> None:
    raft.server.pipeline.pages.append(Page(Index(2), 1))


@breaks("few pages are on their way to the machine")
def _(raft: Raft) -> None:
    raft.server.pipeline.pages.extend([Page(Index(3), 1)] * 4)


@breaks("a request that is applied has been answered", leading)
def _(raft: Raft) -> None:
    raft.server.requests.wait(PendingProposal(RequestId(1), 0, Index(4), Index(4)))


@breaks("a request waits only for entries that the log holds", leading)
def _(raft: Raft) -> None:
    raft.server.requests.wait(PendingProposal(RequestId(1), 0, Index(5), Index(5)))


@breaks("a read that may be done has been answered")
def _(raft: Raft) -> None:
    raft.server.pipeline.reads.append((Index(3), RequestId(1)))


@breaks("waiting reads are bounded")
def _(raft: Raft) -> None:
    raft.server.pipeline.reads = [(Index(4), RequestId(n)) for n in range(20_001)]


# The outbox.


@breaks("only what was ordered is durable")
def _(raft: Raft) -> None:
    raft.server.outbox.durable = WriteId(raft.server.outbox.issued + 1)


@breaks("no more is durable than the log holds")
def _(raft: Raft) -> None:
    raft.server.outbox.durable_index = Index(5)


@breaks("no more is written than the log holds")
def _(raft: Raft) -> None:
    raft.server.outbox.written_last = Index(5)


@breaks("no more is durable than was written")
def _(raft: Raft) -> None:
    raft.server.outbox.written_last = Index(3)


A_PROMISE: Final = Send(NodeId(2), asks(2, 1, (4, 1)))


@breaks("promises that wait for the disk are bounded")
def _(raft: Raft) -> None:
    raft.server.outbox.held = [(WriteId(raft.server.outbox.issued + 1), A_PROMISE)] * (MOST_HELD + 1)


@breaks("no promise is held longer than it must be")
def _(raft: Raft) -> None:
    raft.server.outbox.held.append((raft.server.outbox.durable, A_PROMISE))


@breaks("every promise rests on a write that was or will be ordered")
def _(raft: Raft) -> None:
    raft.server.outbox.held.append((WriteId(raft.server.outbox.issued + 2), A_PROMISE))


# Members.


@breaks("the configuration in force is in the log")
def _(raft: Raft) -> None:
    raft.server.configurations.append(Index(5), MEMBERS)


@breaks("the last configuration is in force")
def _(raft: Raft) -> None:
    raft.server.configurations.members = Members.initial([1, 2])


@breaks("configurations are remembered in order")
def _(raft: Raft) -> None:
    raft.server.configurations.append(Index(4), MEMBERS)
    raft.server.configurations.append(Index(3), MEMBERS)


@breaks("the configuration in force keeps its own rules")
def _(raft: Raft) -> None:
    raft.server.configurations.append(Index(4), attrs.evolve(MEMBERS, learners=(NodeId(3),)))


@breaks("a node is in no configuration with a feature that it lacks (rule 9.14)")
def _(raft: Raft) -> None:
    raft.server.configurations.append(Index(4), attrs.evolve(MEMBERS, leases=Level(leases=False, features=("red",))))


# A leader.


@breaks("there is a progress for every other member, in order", leading)
def _(raft: Raft) -> None:
    del role_of_leader(raft).replication.progress[NodeId(2)]


@breaks("a leader has voted for itself", leading)
def _(raft: Raft) -> None:
    raft.server.vote = NodeId(2)


@breaks("reads that wait for a round are bounded", leading)
def _(raft: Raft) -> None:
    role_of_leader(raft).reading.queue.waiting = [WaitingRead(NO_NODE, RequestId(n)) for n in range(10_001)]


@breaks("configurations change one at a time", leading)
def _(raft: Raft) -> None:
    step(raft, Proposed(RequestId(1), (b"x", b"y")))
    raft.server.configurations.append(Index(5), MEMBERS)
    raft.server.configurations.append(Index(6), MEMBERS)


@breaks("a leader knows when it is settled", leading)
def _(raft: Raft) -> None:
    role_of_leader(raft).reading.settled = False


# One follower as its leader sees it.


@breaks("next is above match", leading)
def _(raft: Raft) -> None:
    peer(raft).next = peer(raft).match


@breaks("no follower matches more than the log holds", leading)
def _(raft: Raft) -> None:
    peer(raft).match, peer(raft).next = Index(5), Index(6)


@breaks("next is at most one behind the end", leading)
def _(raft: Raft) -> None:
    peer(raft).next = Index(6)


@breaks("the window is bounded in messages", leading)
def _(raft: Raft) -> None:
    peer(raft).inflight = [(Index(4), 0)] * (peer(raft).max_messages + 1)


@breaks("the window's bytes are counted right", leading)
def _(raft: Raft) -> None:
    peer(raft).inflight_bytes = 1


@breaks("the window is bounded in bytes", leading)
def _(raft: Raft) -> None:
    most = peer(raft).max_bytes
    peer(raft).inflight = [(Index(3), most), (Index(4), 1)]
    peer(raft).inflight_bytes = most + 1


@breaks("only a replicating follower has a window", leading)
def _(raft: Raft) -> None:
    peer(raft).state = ProgressState.PROBE
    peer(raft).inflight.append((Index(4), 0))


@breaks("a snapshot is under way", leading)
def _(raft: Raft) -> None:
    peer(raft).state = ProgressState.SNAPSHOT


@breaks("the window is in order", leading)
def _(raft: Raft) -> None:
    peer(raft).inflight = [(Index(4), 0), (Index(4), 0)]


@pytest.mark.parametrize("text", BROKEN)
def test_a_core_that_was_tampered_with_is_found_out_by_the_line_for_it(text: str) -> None:
    state, tamper = BROKEN[text]
    raft = state()
    invariants.check(raft)

    tamper(raft)

    with pytest.raises(InvariantBroken) as broken:
        invariants.check(raft)
    assert str(broken.value) == text


@pytest.mark.interpreted
def test_every_line_has_been_seen_to_fail() -> None:
    tree = ast.parse(Path(invariants.__file__).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    lines = [call.args[1] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "invariant"]
    texts = [str(line.value) for line in lines if isinstance(line, ast.Constant)]

    assert sorted(texts) == sorted(BROKEN)
