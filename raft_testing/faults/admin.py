"""Operations of an administrator at bad moments: membership changes, leadership transfers, floods of proposals.

`AdminFaults` makes one membership change at a time and follows each until its outcome is known. It also replaces nodes
whose disks are lost, as a careful operator would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, final

from raft_core.errors import OutcomeUnknown
from raft_core.ids import Incarnation, NodeId
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, RemoveNode
from raft_core.node.limits import MILLISECOND, SECOND
from raft_core.requests import ChangeMembership, LeaveJoint, Propose, TransferLeadership
from raft_core.sessions import Sequence, SessionId, encode_command
from raft_testing.checkers.requests import Reply
from raft_testing.faults.catalogue import Fault
from raft_testing.rng import Rng
from raft_testing.sim.node import Death, SimulatedNode
from raft_testing.sim.releases import FEATURE
from raft_testing.sim.world import World

__all__ = ["AdminFaults"]

_MOST_NODES: Final = 7
_PATIENCE: Final = 5 * SECOND


@final
class AdminFaults:
    """Changes of membership, of leadership, and floods of proposals, as administrators order them.

    At most one change is under way. `busy` until it has settled and every node with a lost disk is replaced.
    """

    def __init__(self, world: World, rng: Rng, counts: Counter[Fault]) -> None:
        self._world = world
        self._rng = rng
        self._counts = counts
        self._changing = False
        self._quiet_until = 0
        self._mourned: list[SimulatedNode] = []
        self._ended = False
        self._staying = False  # in a joint configuration, until the operator says so
        self._stay_until = 0
        self._leaving = False  # a check of it is scheduled

    @property
    def busy(self) -> bool:
        """A change may still be on its way, or a disk is lost and its node not replaced yet."""
        waits = self._changing or self._staying or bool(self._mourned)
        return waits or self._world.now < self._quiet_until

    def end(self) -> None:
        """Nothing new is begun."""
        self._ended = True

    # Changes of members.

    def _ask(
        self,
        changes: tuple[Change, ...],
        mode: ChangeMode,
        then: Callable[[bool], None],
        features: tuple[str, ...] = (),
    ) -> bool:
        """Request the change from the leader. Call `then` with whether it was made, once known or given up."""
        world = self._world
        node = world.leader()
        if node is None or self._changing:
            return False
        self._changing = True
        ticket = world.next_ticket()
        deadline = node.clock.at(world.now) + _PATIENCE * node.clock.rate // 1000
        done = [False]

        def on_reply(reply: Reply) -> None:
            if done[0]:
                return
            done[0] = True
            self._changing = False
            if reply is None or isinstance(reply, OutcomeUnknown):
                self._quiet_until = world.now + 3 * _PATIENCE
            if isinstance(reply, bytes):
                world.seen["membership changed"] += 1
            then(isinstance(reply, bytes))

        def give_up() -> None:
            if not done[0]:
                node.cancel(ticket)
                on_reply(None)

        world.at(_PATIENCE + 2 * SECOND, give_up)
        node.call(ticket, ChangeMembership(changes, mode, features=features), deadline, on_reply)
        return True

    def _room(self) -> bool:
        return not self._mourned and not self._ended and self._world.now >= self._quiet_until

    def grow(self, rng: Rng) -> bool:
        """Add a node: as a voter, or as a learner to be promoted when it has caught up."""
        living = [node for node in self._world.nodes.values() if not node.retired]
        if not self._room() or self._changing or len(living) >= _MOST_NODES:
            return False
        self._join(lambda node: self._add(node, rng, tries=4))
        return True

    def _join(self, then: Callable[[SimulatedNode], None]) -> None:
        node = self._world.new_node()
        node.start()
        self._world.at(SECOND, lambda: then(node))

    def _add(self, node: SimulatedNode, rng: Rng, *, tries: int) -> None:
        if self._ended or node.retired:
            return
        if node.harmed or node.wiped:  # an administrator adds no node that does not come up
            if tries:
                self._world.at(2 * SECOND, lambda: self._add(node, rng, tries=tries - 1))
            return
        disk = node.incarnation if rng.chance(0.5) else Incarnation(0)
        kind = rng.below(3)
        change: Change = AddVoter(node.id, disk)
        if kind:
            change = AddLearner(node.id, disk, promote_when_ready=kind == 2)

        def then(made: bool) -> None:
            if made or self._is_member(node.id):
                return
            if tries:
                self._world.at(2 * SECOND, lambda: self._add(node, rng, tries=tries - 1))
            else:
                self._farewell(node.id)

        if not self._ask((change,), ChangeMode.AUTO, then):
            then(False)

    def _is_member(self, node: NodeId) -> bool:
        leader = self._world.leader()
        return leader is not None and leader.raft is not None and leader.raft.members.is_member(node)

    def _members(self) -> tuple[tuple[NodeId, ...], tuple[NodeId, ...]]:
        """Return voters and learners as the leader has them; none without a leader, or if it is joint."""
        leader = self._world.leader()
        if leader is None or leader.raft is None or leader.raft.members.joint:
            return (), ()
        return leader.raft.members.voters, leader.raft.members.learners

    def shrink(self, rng: Rng) -> bool:
        """Remove a member, possibly the leader, down to one voter."""
        voters, learners = self._members()
        fewest = rng.choice((1, 2, 3, 3))
        candidates = [*learners, *(voters if len(voters) > fewest else ())]
        if not self._room() or not candidates:
            return False
        node = rng.choice(candidates)
        return self._ask((RemoveNode(node),), ChangeMode.AUTO, lambda made: self._farewell(node) if made else None)

    def _farewell(self, node: NodeId) -> None:
        """Let a removed node run on for a while, which must disturb no other node, and switch it off."""
        removed = self._world.nodes[node]

        def off() -> None:
            if self._world.now >= self._quiet_until and self._knows_nothing_of(node):
                removed.die(Death.KILLED)
                removed.retire()
            elif not self._ended and not self._is_member(node):
                self._farewell(node)

        self._world.at(self._rng.around(5 * SECOND), off)

    def promote(self, rng: Rng) -> bool:
        """Promote a learner, or demote a voter."""
        voters, learners = self._members()
        if not self._room():
            return False
        if learners and rng.chance(0.7):
            return self._ask((AddVoter(rng.choice(learners)),), ChangeMode.AUTO, lambda _: None)
        if len(voters) > 2:
            return self._ask((AddLearner(rng.choice(voters)),), ChangeMode.AUTO, lambda _: None)
        return False

    def joint(self, rng: Rng) -> bool:
        """Several change places at once: always through a joint configuration."""
        voters, learners = self._members()
        if not self._room() or len(voters) < 2:
            return False
        changes: list[Change] = [AddLearner(rng.choice(voters))]
        if learners:
            changes.append(AddVoter(rng.choice(learners)))
        if len(voters) - 1 + len(learners) < 1:
            return False
        return self._ask(tuple(changes), ChangeMode.JOINT, lambda _: None)

    def explicit(self, rng: Rng) -> bool:
        """Swap two roles through a joint configuration, which stays until the administrator ends it."""
        voters, learners = self._members()
        if not self._room() or self._staying or not voters:
            return False
        changes: list[Change] = [AddVoter(rng.choice(learners))] if learners else []
        if len(voters) > 1:
            changes.append(AddLearner(rng.choice(voters)))
        if not changes or not self._ask(tuple(changes), ChangeMode.EXPLICIT, lambda _: None):
            return False
        self._staying = True
        stay = rng.around(4 * SECOND)
        self._stay_until = self._world.now + stay
        if not self._leaving:
            self._leaving = True
            self._world.at(stay, self._leave_joint)
        return True

    def enable(self) -> bool:
        """Enable the feature that only the newer release has. It is refused while a member runs the older one."""
        if not self._room():
            return False

        def then(made: bool) -> None:
            self._world.seen["feature enabled" if made else "feature not enabled"] += 1

        return self._ask((), ChangeMode.AUTO, then, features=(FEATURE,))

    def _leave_joint(self) -> None:
        """Leave the joint configuration, also without faults, by repeated requests.

        That is never over: a change whose outcome is not known may get in long after it was given up.
        """
        world = self._world
        node = world.leader()
        server = node.raft.server if node is not None and node.raft is not None else None
        settled = server is not None and server.configurations.index <= server.commit
        if server is not None and settled and not self._changing and not server.members.joint:
            self._staying = False
        if node is not None and server is not None and server.members.joint and world.now >= self._stay_until:
            ticket = world.next_ticket()
            deadline = node.clock.at(world.now) + SECOND
            node.call(ticket, LeaveJoint(), deadline, self._on_left)
        world.at(2 * SECOND, self._leave_joint)

    def _on_left(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self._world.seen["joint configuration left when told to"] += 1

    def replace(self, rng: Rng) -> bool:
        """One member goes and a new node comes, in one step."""
        voters, _ = self._members()
        living = [node for node in self._world.nodes.values() if not node.retired]
        if not self._room() or self._changing or not voters or len(living) >= _MOST_NODES:
            return False
        old = rng.choice(voters)
        self._join(lambda node: self._swap(node, old))
        return True

    def _swap(self, node: SimulatedNode, old: NodeId) -> None:
        if self._ended or node.retired or node.harmed or node.wiped:
            return
        changes = (AddVoter(node.id, node.incarnation), RemoveNode(old))
        if not self._ask(changes, ChangeMode.AUTO, lambda made: self._farewell(old if made else node.id)):
            self._farewell(node.id)

    # Lost disks.

    def mourn(self, node: SimulatedNode) -> None:
        """Watch a node whose disk may be lost until it is sound, or removed and replaced."""
        self._mourned.append(node)
        self._world.at(3 * SECOND, lambda: self._look_after(node))

    def _look_after(self, node: SimulatedNode) -> None:
        sound = node.alive and not node.wiped and not node.harmed
        if sound or self._ended:
            self._mourned.remove(node)
            return
        if self._knows_nothing_of(node.id):
            self._mourned.remove(node)
            self._quiet_until = self._world.now + _PATIENCE
            if not self._ended:
                self._join(lambda fresh: self._add(fresh, self._rng, tries=4))
            return
        if self._is_member(node.id) and len(self._members()[0]) > 1:
            self._ask((RemoveNode(node.id),), ChangeMode.AUTO, lambda _: None)
        self._world.at(2 * SECOND, lambda: self._look_after(node))

    def _knows_nothing_of(self, node: NodeId) -> bool:
        leader = self._world.leader()
        if leader is None or leader.raft is None or leader.raft.members.joint:
            return False
        server = leader.raft.server
        return not server.members.is_member(node) and server.configurations.index <= server.commit

    # Leadership and load.

    def transfer(self, rng: Rng) -> bool:
        """Ask the leader to transfer its leadership, to any or to one node, sensible or not."""
        world = self._world
        alive = [node for node in world.nodes.values() if node.alive]
        if not alive:
            return False
        node = rng.choice(alive)
        ticket = world.next_ticket()
        to = rng.choice([NodeId(0), *world.nodes])
        deadline = node.clock.at(world.now) + _PATIENCE

        def on_reply(reply: Reply) -> None:
            if isinstance(reply, bytes):
                world.seen["leadership transferred"] += 1

        node.call(ticket, TransferLeadership(to), deadline, on_reply)
        return True

    def flood(self, rng: Rng) -> bool:
        """Propose many large commands at once. They name an unknown session, so they change nothing."""
        world = self._world
        node = world.leader()
        if node is None:
            return False
        size = rng.choice((10, 1000, 5000))
        for _ in range(rng.choice((20, 100))):
            ticket = world.next_ticket()
            command = encode_command(SessionId(1 << 40), Sequence(ticket), Sequence(ticket), bytes(size))
            deadline = node.clock.at(world.now) + 3000 * MILLISECOND
            node.call(ticket, Propose(command), deadline, lambda _: None)
        return True
