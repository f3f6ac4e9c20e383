"""Requests without sense, or at the wrong node, at bad moments.

They go through `NodeApi`, as those of applications do: changes, transfers, commands and reads to be refused, deadlines
too short to keep, and callers leaving before the answer. A request to be refused is never carried out, and one that was
cancelled is never answered. On copies of cores it sends messages of broken peers, which must have no effect.

Mistakes independent of the state of a cluster are tested by tables: see `tests/node/test_limits.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, final

from raft_core.effects import Alarm, AlarmKind, Stop, StopReason
from raft_core.entries import MEMBERS, Entry, SnapshotMeta
from raft_core.errors import Refused
from raft_core.events import Event
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, Term
from raft_core.membership import AddLearner, AddVoter, Change, ChangeMode, Members, RemoveNode
from raft_core.messages import DATA, HEARTBEAT, AppendEntries, InstallSnapshot, ReadIndex
from raft_core.node.api import Done, NodeApi
from raft_core.node.api import Reply as Call
from raft_core.node.limits import SECOND
from raft_core.raft import Raft
from raft_core.requests import Propose, ReadConsistency
from raft_core.roles.leader import Leader
from raft_core.sessions import Sequence, SessionId, encode_command
from raft_core.state_codec import alike
from raft_testing.checkers.requests import Reply
from raft_testing.rng import Rng
from raft_testing.sim.adapter import converse
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["ApiMisuse"]

_PATIENCE: Final = 3.0
"""Seconds."""
_FAR: Final = 1 << 40
_NEVER: Final = 1e-9
"""Seconds; too short for any answer."""

_Mistake: TypeAlias = Callable[[SimulatedNode, NodeApi, Rng], bool]


@final
class ApiMisuse:
    """Misuse of one cluster by applications, administrators and broken peers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._mistakes: tuple[_Mistake, ...] = (
            self._senseless_change,
            self._senseless_change,
            self._change_of_another_configuration,
            self._senseless_transfer,
            self._leave,
            self._large_command,
            self._garbage,
            self._no_time,
            self._odd_read,
            self._odd_read,
            self._gone,
            self._proof_of_loss,
            self._slander,
        )

    def err(self, node: SimulatedNode, rng: Rng) -> bool:
        """Make one mistake at this node. Return whether it was possible."""
        if node.face is None:
            return False
        mistake = rng.choice(self._mistakes)
        done = mistake(node, node.face, rng)
        if done:
            self._world.seen[f"misuse: {mistake.__name__.strip('_').replace('_', ' ')}"] += 1
        return done

    # How answers are taken.

    def _ask(self, node: SimulatedNode, call: Call | Done, then: Callable[[Reply], None] = lambda _: None) -> bool:
        """Make the call; its caller leaves some time after the deadline, and must have an answer by then."""
        ticket = converse(self._world.next_ticket(), node.call, call, then)
        self._world.at(int(4 * _PATIENCE * SECOND), lambda: node.cancel(ticket))
        return True

    def _refused(self, what: str) -> Callable[[Reply], None]:
        """Return a check for a reply: it must not report success."""

        def look(reply: Reply) -> None:
            if isinstance(reply, bytes):
                self._world.fail(f"{what} was carried out")

        return look

    # Operators.

    def _members(self, node: SimulatedNode) -> Members:
        return node.raft.members if node.raft is not None else Members()

    def _senseless_change(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Request an impossible change: at any node, with any members."""
        known = [NodeId(number) for number in self._world.nodes]
        one = NodeId(1)  # a founder: its id was used, whether it is still a member or not
        changes: tuple[Change, ...] = rng.choice(
            (
                (),
                (RemoveNode(NodeId(_FAR)),),
                (AddVoter(one), RemoveNode(one)),
                (AddLearner(one), AddLearner(one, promote_when_ready=True)),
                (AddVoter(NodeId(0)),),
                (AddLearner(NodeId(-5)),),
                (AddVoter(NodeId(1 << 70)),),
                (AddVoter(NodeId(_FAR)),),  # an unknown node: its disk is unknown
                (AddVoter(one, Incarnation(_FAR)),),
                tuple(RemoveNode(node) for node in known),
            )
        )
        mode = rng.choice((ChangeMode.AUTO, ChangeMode.AUTO, ChangeMode.JOINT, ChangeMode.EXPLICIT))
        call = face.change_members(changes, mode=mode, timeout=_PATIENCE)
        return self._ask(node, call, self._refused(f"a change without sense ({changes})"))

    def _change_of_another_configuration(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Request a change for another configuration, or one without effect."""
        members = self._members(node)
        server = node.raft.server if node.raft is not None else None
        if server is None or members.joint or not members.voters or server.configurations.index > server.commit:
            return False
        index = server.configurations.index
        one = rng.choice(members.voters)
        call = face.change_members((AddLearner(one),), expected=_FAR, timeout=_PATIENCE)
        if rng.chance(0.5):
            call = face.change_members((AddVoter(one),), expected=index, timeout=_PATIENCE)
        elif rng.chance(0.3):
            changes = tuple(RemoveNode(voter) for voter in members.voters)
            call = face.change_members(changes, expected=index, timeout=_PATIENCE)
        return self._ask(node, call, self._refused("a change that changes nothing, or too much,"))

    def _senseless_transfer(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        to = rng.choice((-1, 1 << 70, _FAR))
        learners = self._members(node).learners
        if learners and rng.chance(0.6):
            return self._ask(node, face.transfer(rng.choice(learners), timeout=_PATIENCE))  # a voter by then, perhaps
        if rng.chance(0.2):
            return self._ask(node, face.transfer(node.id, timeout=_PATIENCE))
        return self._ask(node, face.transfer(to, timeout=_PATIENCE), self._refused(f"a transfer to {to}"))

    def _leave(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Leave a joint configuration, if there is one. Otherwise the request is refused."""
        return self._ask(node, face.leave_joint(timeout=_PATIENCE))

    # Applications.

    def _large_command(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        size = node.settings.max_entry_bytes + 1
        return self._ask(node, face.propose(bytes(size), timeout=_PATIENCE), self._refused("a command too large"))

    def _garbage(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Propose commands without a valid session, or ask an invalid query."""
        number = Sequence(1 + rng.below(5))
        unknown = encode_command(SessionId(1 << 40), number, number, b"of a session that never was")
        command = rng.choice((b"", b"\xff" * 30, unknown, unknown[:12]))
        if rng.chance(0.3):
            return self._ask(node, face.read(rng.random.randbytes(rng.below(20)), timeout=_PATIENCE))
        return self._ask(node, face.propose(command, timeout=rng.choice((_PATIENCE, None))))

    def _no_time(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Use a deadline in the past, or at once."""
        if rng.chance(0.5):
            ticket = self._world.next_ticket()
            node.call(ticket, Propose(b""), 1, self._refused("a command whose deadline had passed"))
            return True
        calls: tuple[Callable[[], Call | Done], ...] = (
            lambda: face.propose(b"", timeout=_NEVER),
            lambda: face.read(b"", timeout=_NEVER),
            lambda: face.change_members((), timeout=_NEVER),
            lambda: face.transfer(timeout=_NEVER),
        )
        return self._ask(node, rng.choice(calls)())

    def _odd_read(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Read with weaker promises, each in another state of the node: the promise must be kept."""
        if rng.chance(0.4):
            call = face.read(
                b"", consistency=ReadConsistency.STALE_BOUNDED, limit=rng.choice((0, 3, 30)), timeout=_PATIENCE
            )
            return self._ask(node, call)
        index = rng.choice((self._world.committed, self._world.committed, _FAR))
        life = node.life

        def look(reply: Reply) -> None:
            answered = isinstance(reply, bytes) or (isinstance(reply, Refused) and reply.reason == "query_failed")
            if answered and node.life == life and node.last_raft is not None:
                applied = node.last_raft.server.pipeline.applied
                self._world.require(
                    applied >= index, f"node {node.id} answered a read at {index} with {applied} applied"
                )

        call = face.read(b"", consistency=ReadConsistency.MONOTONE, limit=index, timeout=_PATIENCE)
        return self._ask(node, call, look)

    def _gone(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Cancel a request before its answer. The caller must get none."""
        gone = [False]

        def never(reply: Reply) -> None:
            if gone[0]:
                self._world.fail(f"node {node.id} answered a caller who had left: {reply!r}")

        timeout = rng.choice((None, _PATIENCE))
        call = face.propose(b"", timeout=timeout) if rng.chance(0.5) else face.read(b"", timeout=timeout)
        ticket = converse(self._world.next_ticket(), node.call, call, never)

        def leave() -> None:
            gone[0] = True
            node.cancel(ticket)

        self._world.at(rng.choice((0, SECOND // 100, SECOND // 5)), leave)
        return True

    # Adapters, on a copy of the core.

    def _proof_of_loss(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Name an acknowledged index missing here: the disk has lost it, and the node ends."""
        if node.raft is None or isinstance(node.raft.role, Leader):
            return False
        core = node.raft.copy()
        last = core.log.last
        others = [other for other in core.members.nodes if other != node.id]
        if not others:
            return False  # a stranger is not believed
        beyond = AppendEntries(
            Term(core.server.term + 1),
            rng.choice(others),
            MessageId(1),
            HEARTBEAT,
            Index(last.index + 1),
            last.term,
            core.server.commit,
            ReadId(0),
        )
        stops = [effect.reason for effect in core.step(beyond) if isinstance(effect, Stop)]
        self._world.require(stops == [StopReason.LOG_LOST], f"node {node.id} goes on without what it has acknowledged")
        return True

    # Peers that are broken, on a copy of the core.

    def _slander(self, node: SimulatedNode, face: NodeApi, rng: Rng) -> bool:
        """Send messages of a broken peer to a copy of the core: each is dropped with an alarm, without effect.

        No link lets them through, but another transport might.
        """
        if node.raft is None:
            return False
        core = node.raft.copy()
        server = core.server
        leader = core.role.leader
        others = [node for node in core.members.nodes if node not in (leader, server.me)]
        other = rng.choice([*others, NodeId(_FAR)])
        rival = AlarmKind.TWO_LEADERS if server.knows(other) else AlarmKind.MALFORMED
        known, kind = leader or other, AlarmKind.MALFORMED
        gap = (Entry.make(server.log.last_index + 5, server.term, b"gap"),)
        unreadable = (Entry.make(server.log.last_index + 1, server.term, b"none", MEMBERS),)
        conflict = _conflict(core, known)
        said: list[tuple[Event, AlarmKind]] = [
            (ReadIndex(server.term, NodeId(0), MessageId(1)), kind),
            (ReadIndex(server.term, server.me, MessageId(1)), kind),
        ]
        if not isinstance(core.role, Leader) and leader:
            said += [(_append(core, known, gap), kind), (_append(core, known, unreadable), kind)]
        if conflict is not None and leader and not isinstance(core.role, Leader):
            said += [(conflict, AlarmKind.COMMITTED_CONFLICT)] * 3
        if leader:
            said += [
                (_append(core, other, ()), rival),
                (_offer(core, other), rival if core.members.voters else AlarmKind.MALFORMED),
            ]
        event, alarm = rng.choice(said)
        before = core.copy()
        effects = core.step(event)
        told = [effect.kind for effect in effects if isinstance(effect, Alarm)]
        conflict_only = alarm is AlarmKind.COMMITTED_CONFLICT
        same = alike(core.log, before.log) if conflict_only else alike(core, before)
        self._world.require(  # a leader whose log is another one has been heard, and is not followed
            told == [alarm] and len(effects) == 1 and same and core.server.commit == before.server.commit,
            f"node {node.id} believed {event!r}: {effects}",
        )
        return True


def _append(core: Raft, sender: NodeId, entries: tuple[Entry, ...]) -> AppendEntries:
    last = core.server.log.last
    return AppendEntries(
        core.server.term, sender, MessageId(1), DATA, last.index, last.term, core.server.commit, ReadId(0), entries
    )


def _conflict(core: Raft, sender: NodeId) -> AppendEntries | None:
    """Another entry where one is committed; None where none can be made up."""
    server = core.server
    place = server.commit
    before, term = server.log.term_at(Index(place - 1)), server.log.term_at(place)
    if before is None or term in (None, server.term):
        return None
    entry = Entry.make(place, server.term, b"another")
    return AppendEntries(
        server.term, sender, MessageId(1), DATA, Index(place - 1), before, Index(0), ReadId(0), (entry,)
    )


def _offer(core: Raft, sender: NodeId) -> InstallSnapshot:
    meta = SnapshotMeta(Index(core.server.log.last_index + 1), core.server.term, core.members)
    return InstallSnapshot(core.server.term, sender, MessageId(1), meta)
