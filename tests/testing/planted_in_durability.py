"""Messages that promise more than they may, and what the safety checker says of them.

Plants for the checks on terms, votes, candidacies and acknowledgements. What each core checks about
itself is switched off while they run.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from raft_core.effects import Send
from raft_core.entries import HardState, SnapshotMeta
from raft_core.events import CampaignRequested, Persisted, SnapshotReceived, Tick
from raft_core.ids import NO_INDEX, NO_NODE, NO_TERM, Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.log import Log
from raft_core.messages import (
    HEARTBEAT,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    RequestVote,
    SnapshotReply,
    VoteKind,
    VoteReply,
)
from raft_core.outbox import Outbox
from raft_core.roles.follower import Follower
from raft_core.snapshots import Snapshots
from raft_testing.checkers.durability import DurabilityChecker
from raft_testing.checkers.reference_model import Ledger, LogMirror, Watched
from tests.testing.planted import shows
from tests.testing.watched_cores import Stage, acknowledged, entry

# Promises.

VERIFIED: Final = "a follower takes its log for verified only as far as it is the leader's"
PROMISE: Final = "no promise leaves before the write it rests on"


def promise_at_once(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setattr(Outbox, name, lambda outbox, to, message, *_: outbox.send(to, message))


@shows(PROMISE, "node 2 promised term 2 with term 1 on its disk")
def a_term_is_promised_too_early(patch: pytest.MonkeyPatch) -> str:
    promise_at_once(patch, "promise_term")
    stage = Stage()
    stage.seats[2].held = True
    stage.step(1, CampaignRequested())
    stage.deliver(to=[2])
    return stage.text


@shows(PROMISE, "node 2 voted for 3 in term 3 with HardState(term=3, vote=0")
def a_vote_is_given_too_early(patch: pytest.MonkeyPatch) -> str:
    promise_at_once(patch, "promise_term")
    stage = Stage()
    stage.step(1, CampaignRequested())
    stage.step(1, CampaignRequested())
    stage.step(2, VoteReply(Term(3), NodeId(1), Incarnation(0), MessageId(1), VoteKind.REAL, granted=False))
    stage.seats[2].held = True
    ask = RequestVote(Term(3), NodeId(3), MessageId(1), VoteKind.REAL, stage.raft(3).log.last)
    stage.step(2, ask)
    return stage.text


@shows(PROMISE, "node 2 acknowledged index 2, its disk ends at 1")
def entries_are_acknowledged_too_early(patch: pytest.MonkeyPatch) -> str:
    promise_at_once(patch, "promise_entries")
    stage = Stage()
    stage.elect(1)
    stage.seats[2].held = True
    stage.propose(1, b"x")
    stage.deliver(to=[2])
    return stage.text


@shows(PROMISE, "node 1 campaigned with a log end of LogPosition(index=3, term=2) that is not on its disk")
def a_candidacy_rests_on_nothing(patch: pytest.MonkeyPatch) -> str:
    stage = Stage()
    stage.elect(1)
    stage.seats[1].held = True
    stage.propose(1, b"x")
    ask = RequestVote(Term(2), NodeId(1), MessageId(1), VoteKind.PRE, stage.raft(1).log.last)
    stage.doctor(1, lambda effects: [*effects, Send(NodeId(2), ask)])
    stage.step(1, Tick())
    return stage.text


HONEST: Final = "no acknowledgement exceeds what the leader's log holds"


def dishonest_acknowledgement(match: int, *, resigned: bool, of_snapshot: bool = False) -> str:
    """What is said where a follower holds entries up to 4, and acknowledges up to `match` to a leader of up to 3."""
    ledger, said = Ledger(), [""]
    log = Log(entries=[entry(1, 1, b""), entry(2, 1), entry(3, 2, b"new")])
    mirror = LogMirror(ledger)
    mirror.follow(log)
    promises = DurabilityChecker(lambda text: said.append(text), Counter())
    promises.took_office(2, mirror)
    if resigned:
        promises.resigned(2, mirror)
        log.truncate_from(Index(2))
        mirror.follow(log)
    follower = Watched(NodeId(2), Incarnation(0), ledger)
    follower.told.hard = HardState(Term(2), NO_NODE, Index(0))
    follower.told.entries = {at: entry(at, 1) for at in (1, 2, 3, 4)}
    reply: AppendReply | SnapshotReply = acknowledged(2, 2, match)
    if of_snapshot:
        reply = SnapshotReply(Term(2), NodeId(2), Incarnation(0), MessageId(1), Index(match), Index(match), ok=True)
    promises.sent(follower, Send(NodeId(1), reply))
    return said[-1]


@shows(HONEST, "node 2 acknowledged index 4 (term 1), the leader holds term None")
def more_is_acknowledged_than_the_leader_has(patch: pytest.MonkeyPatch) -> str:
    return dishonest_acknowledgement(4, resigned=False)


@shows(HONEST, "node 2 acknowledged index 3 (term 1), the leader holds term 2")
def another_entry_is_acknowledged(patch: pytest.MonkeyPatch) -> str:
    return dishonest_acknowledgement(3, resigned=False)


@shows(HONEST, "node 2 acknowledged index 3 (term 1), the leader holds term 2")
def another_entry_is_acknowledged_to_a_leader_that_is_gone(patch: pytest.MonkeyPatch) -> str:
    return dishonest_acknowledgement(3, resigned=True)


@shows(HONEST, "node 2 acknowledged index 4 (term 1), the leader holds term None")
def a_snapshot_is_acknowledged_that_the_leader_never_had(patch: pytest.MonkeyPatch) -> str:
    return dishonest_acknowledgement(4, resigned=True, of_snapshot=True)


COMMITTED: Final = "what the newest leader is told of a committed index is what is committed there"


def overtaken() -> tuple[Stage, SnapshotMeta]:
    """Node 3 has entries of its own leadership on its disk, where nodes 1 and 2 have committed others; and node 1,
    which leads, has a snapshot of those."""
    stage = Stage()
    stage.elect(3)
    stage.deliver()
    stage.propose(3, b"a", b"b")
    stage.network.clear()
    stage.elect(1, lost=[3])
    stage.propose(1, b"x", b"y")
    stage.deliver(lost=[3])
    assert stage.text == ""
    server = stage.raft(1).server
    return stage, SnapshotMeta(server.commit, server.term, server.members, Index(1))


def heartbeat(stage: Stage) -> AppendEntries:
    """Of node 1, to whom it may concern."""
    term = stage.raft(1).server.term
    return AppendEntries(term, NodeId(1), MessageId(9), HEARTBEAT, NO_INDEX, NO_TERM, NO_INDEX, ReadId(0))


def given_a_snapshot(stage: Stage, meta: SnapshotMeta) -> None:
    """Node 3 has the snapshot of node 1, and is told so; its disk has written the term, and not yet the switch."""
    seat = stage.seats[3]
    seat.held = True
    stage.step(3, heartbeat(stage))
    stage.step(3, InstallSnapshot(meta.term, NodeId(1), MessageId(10), meta))
    stage.step(3, SnapshotReceived(meta))
    term = seat.writes.popleft().write
    stage.watched[3].stable.done(term)
    stage.step(3, Persisted(term))
    stage.step(3, heartbeat(stage))
    assert seat.writes or stage.text


@shows(COMMITTED, "node 3 acknowledged index 4 (term 2), committed is term 3")
def a_log_that_is_replaced_is_acknowledged(patch: pytest.MonkeyPatch) -> str:
    switch = Outbox.switch
    patch.setattr(
        Outbox, "switch", lambda box, meta, *, discard, cap: switch(box, meta, discard=discard, cap=meta.index)
    )
    stage, meta = overtaken()
    given_a_snapshot(stage, meta)
    return stage.text


def a_tail_of_its_own(patch: pytest.MonkeyPatch) -> Stage:
    """Node 3 has led and holds an entry that no other node has; a heartbeat of the next leader overtakes its append."""
    stage = Stage()
    stage.elect(3)
    stage.propose(3, b"x")
    stage.deliver(lost=[1, 2])
    stage.elect(1, lost=[3])
    stage.seats[3].held = True
    stage.step(3, heartbeat(stage))
    return stage


@shows(VERIFIED, "node 3 takes its log for verified up to 3 (term 2)")
def a_heartbeat_verifies_the_whole_log(patch: pytest.MonkeyPatch) -> str:
    hear = Follower._on_heartbeat

    def whole(follower: Follower, request: AppendEntries) -> None:
        hear(follower, request)
        follower.verified = follower.server.log.last_index

    patch.setattr(Follower, "_on_heartbeat", whole)
    return a_tail_of_its_own(patch).text


def test_a_heartbeat_that_verifies_what_it_names_is_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_tail_of_its_own(monkeypatch).text == ""


RESTORED: Final = "a machine is set to a snapshot only once the switch to it is durable"


@shows(RESTORED, "node 3 restores 5 before the switch to it is durable")
def a_machine_runs_ahead_of_its_disk(patch: pytest.MonkeyPatch) -> str:
    def at_once(snapshots: Snapshots) -> None:
        if snapshots.installing is not None:
            _, meta = snapshots.installing
            snapshots.installing = None
            snapshots.pipeline.restore(meta)

    patch.setattr(Snapshots, "restore_if_durable", at_once)
    stage, meta = overtaken()
    given_a_snapshot(stage, meta)
    return stage.text
