"""Once a leader hands over, nothing is appended: the target would lack it, and no node would lead (thesis 3.10)."""

from __future__ import annotations

import attrs
import pytest

from raft_core.effects import Effect, Persist, Refusal, RefusalReason, Respond, RoleName, Send
from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.events import PeerUnreachable, Proposed, Requested, StopRequested, Tick
from raft_core.ids import Index, NodeId, RequestId, Term, WriteId
from raft_core.membership import AddLearner, ChangeMode, Members
from raft_core.messages import TimeoutNow, TransferRefused
from raft_core.raft import Raft
from raft_core.requests import ChangeMembership, LeaveJoint, TransferLeadership
from tests.core.cluster import Cluster
from tests.core.helpers import accepted, core, everybody_has_all, leader, only, persist, role_of, step, tick

JOINT = attrs.evolve(
    Members.initial([1, 2, 3]),
    voters=(NodeId(1), NodeId(2), NodeId(3), NodeId(4)),
    outgoing=(NodeId(1), NodeId(2), NodeId(3)),
    highest_id=NodeId(4),
)
TO_2 = Requested(RequestId(8), TransferLeadership(NodeId(2)))


def ordered(effects: list[Effect]) -> list[TimeoutNow]:
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, TimeoutNow)]


def written(effects: list[Effect]) -> list[Entry]:
    """Everything that the leader appended."""
    return [entry for effect in effects if isinstance(effect, Persist) for entry in effect.entries]


def test_leave_is_refused_during_transfer() -> None:
    raft = leader(core(members=JOINT), settled=True)
    assert len(ordered(step(raft, TO_2))) == 1

    assert step(raft, Requested(RequestId(9), LeaveJoint())) == [
        Respond(RequestId(9), Refusal(RefusalReason.TRANSFERRING, NodeId(2)))
    ]


def test_leave_is_taken_once_transfer_has_failed() -> None:
    raft = leader(core(members=JOINT), settled=True)
    (order,) = ordered(step(raft, TO_2))
    step(raft, TransferRefused(Term(2), NodeId(2), order.id))

    effects = step(raft, Requested(RequestId(9), LeaveJoint()))

    assert [entry.kind for entry in written(effects)] == [MEMBERS]


def test_leave_is_refused_by_stopping_leader() -> None:
    raft = leader(core(members=JOINT), settled=True)
    assert len(ordered(step(raft, StopRequested()))) == 1

    effects = step(raft, Requested(RequestId(9), LeaveJoint()))

    assert effects == [Respond(RequestId(9), Refusal(RefusalReason.STOPPING, NodeId(2)))]


@pytest.fixture
def entering() -> Raft:
    """A leader whose joint configuration, to be left automatically, is not committed yet; node 2 has all of it."""
    raft = leader(core(), settled=True)
    step(raft, Requested(RequestId(7), ChangeMembership((AddLearner(NodeId(3)),), ChangeMode.JOINT)))
    step(raft, accepted(2, 2, 3))
    return raft


def test_joint_configuration_is_not_left_during_transfer(entering: Raft) -> None:
    assert len(ordered(step(entering, TO_2))) == 1

    effects = persist(entering)

    assert entering.server.commit == 3
    assert written(effects) == []
    assert entering.members.joint


def test_joint_configuration_is_left_once_transfer_has_failed(entering: Raft) -> None:
    step(entering, TO_2)
    persist(entering)
    step(entering, PeerUnreachable(NodeId(2)))

    effects = step(entering, Tick())

    left = entering.members
    assert not left.joint
    entry = Entry.make(4, 2, left.encode(), MEMBERS)
    hard = HardState(Term(2), NodeId(1), Index(3))
    assert only(Persist, effects) == [Persist(WriteId(4), hard, entries=(entry,))]
    assert written(tick(entering, 3)) == []


def test_joint_configuration_is_left_by_successor() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].step(Requested(RequestId(7), ChangeMembership((AddLearner(NodeId(3)),), ChangeMode.JOINT)))
    cluster[1].step(TO_2)
    cluster.deliver()
    cluster.tick(2)

    assert cluster.leader.id == 2
    assert not cluster.leader.raft.members.joint
    assert cluster.leader.raft.members.learners == (NodeId(3),)


@pytest.mark.parametrize("stopping", [False, True])
def test_nothing_is_appended_after_the_order_to_stand(stopping: bool) -> None:
    """Whatever is asked or comes due: commands, changes, leaving, promotion, a commit."""
    promotable = Members.initial([1, 2, 3], learners=[4])
    promotable = attrs.evolve(promotable, promotable=(NodeId(4),))
    raft = leader(core(members=promotable), settled=True)
    last = raft.log.last_index
    assert len(ordered(step(raft, StopRequested() if stopping else TO_2))) == 1

    effects: list[Effect] = []
    effects += step(raft, Proposed(RequestId(1), (b"x",)))
    effects += step(raft, Requested(RequestId(2), ChangeMembership((AddLearner(NodeId(5)),))))
    effects += step(raft, Requested(RequestId(3), LeaveJoint()))
    effects += everybody_has_all(raft)
    effects += tick(raft, 2)

    assert role_of(raft) is RoleName.LEADER
    assert written(effects) == []
    assert raft.log.last_index == last
    reasons = [effect.outcome.reason for effect in effects if isinstance(effect, Respond)]  # type: ignore[union-attr]
    assert reasons == [RefusalReason.STOPPING if stopping else RefusalReason.TRANSFERRING] * 3
