"""One node of an explored cluster: the real core, its disk and its pending writes, as a comparable value.

Steps and crashes of one node. `canonical` has the fields that distinguish two states of a node.

Writes are numbered from the last durable one, and messages only by campaigns (a reply to anything else is not matched
by number if reads and leases are unused). So earlier counts make no difference. The number of a start only keeps the
numbers of messages apart; here the count of campaigns does so. It survives a crash, and thus a crash without loss leads
back to the same state.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core.effects import Apply, Effect, Persist, Restore, Send, Stop
from raft_core.events import Applied, Event, Persisted, Restored
from raft_core.ids import NO_WRITE, MessageId, NodeId, Term, WriteId
from raft_core.invariants import check
from raft_core.messages import AppendReply, Message, RequestVote, VoteKind, VoteReply
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.settings import Settings
from raft_testing.model_checker.canonical import LEFT_OUT, Plain, plain

__all__ = ["ExploredNode", "Outcome", "Packet"]

Packet: TypeAlias = tuple[NodeId, NodeId, Message]
"""Sender, addressee and message."""


class _Dice(random.Random):
    """Always the same: chance only sets timeouts, and those the search decides itself."""

    def random(self) -> float:
        return 0.0

    def getstate(self) -> tuple[int, ...]:
        return ()

    def setstate(self, state: object) -> None:
        """Do nothing: a copy has no state to take over."""


_DICE: Final = _Dice()


@final
@attrs.frozen
class Outcome:
    """The result of a step: the node afterwards, the messages sent, the violation."""

    node: ExploredNode
    packets: tuple[Packet, ...]
    effects: tuple[Effect, ...]
    violation: str = ""


@final
class ExploredNode:
    """A node at one moment. Never changed: steps and crashes return another one."""

    __slots__ = ("campaigns", "disk", "granted", "leads", "log", "name", "raft", "writes")

    def __init__(
        self,
        raft: Raft,
        disk: Recovered,
        writes: tuple[Persist, ...],
        granted: tuple[tuple[Term, NodeId], ...],
        campaigns: int,
    ) -> None:
        self.raft = raft
        self.disk = disk  # what a restart would find now
        self.writes = writes  # ordered and not durable yet
        self.granted = granted  # real votes that left, own candidacies included, but for terms that the disk has left
        self.campaigns = campaigns
        self.name = disk.identity.node
        self.leads = isinstance(raft.role, Leader)
        self.log = raft.log.entries()

    @classmethod
    def begin(cls, recovered: Recovered, settings: Settings) -> ExploredNode:
        """Return a node just started from this disk."""
        raft = Raft(settings, recovered, _DICE)
        return cls(raft, recovered, (), (), 0)._step_in_place(raft, None).node

    def has_outlived(self, message: Message) -> bool:
        """Return whether the message has the same effect for ever.

        It is of a term this node has left for good, a vote for an election that is over here, or an acknowledgement to
        a former leader.
        """
        if isinstance(message, VoteReply) and message.kind is VoteKind.PRE:
            return False
        term = self.disk.hard.term  # what is not durable may be forgotten in a crash
        if message.term < term:
            return True
        role = self.raft.role
        over = isinstance(message, VoteReply) and not isinstance(role, Candidate)
        deposed = isinstance(message, AppendReply) and isinstance(role, Follower | PreCandidate)
        return message.term == term and (over or deposed)

    def key(self, left_out: frozenset[str] = LEFT_OUT) -> Plain:
        """Return the state as lists of atoms, to compare with others."""
        raft = self.raft
        core = plain([raft.role, raft.server], left_out)
        return [core, plain([self.disk, self.writes, self.granted, self.campaigns], left_out)]

    def stepped(self, event: Event | None) -> Outcome:
        """Step a copy of the core with the event. `Persisted` makes the named writes durable."""
        return self._step_in_place(self.raft.copy(), event)

    def _step_in_place(self, raft: Raft, event: Event | None) -> Outcome:
        disk, writes = self.disk, self.writes
        while isinstance(event, Persisted) and writes and writes[0].write <= event.upto:
            disk, writes = _written(disk, writes[0]), writes[1:]
        raft.server.messages_made = self.campaigns
        try:
            effects = _step_all(raft, event)
        except Exception as failure:  # whatever it is, a core raises only where it is broken
            return Outcome(self, (), (), f"node {self.name}: {type(failure).__name__}: {failure}")
        campaigns = self.campaigns
        if isinstance(raft.role, PreCandidate | Candidate):
            campaigns = raft.role.campaign.id & (1 << 40) - 1
        writes += tuple(effect for effect in effects if isinstance(effect, Persist))
        packets = tuple(
            (self.name, effect.to, _quiet(effect.message)) for effect in effects if isinstance(effect, Send)
        )
        granted, violation = self._with_grants(packets, disk.hard.term)
        stopped = [effect for effect in effects if isinstance(effect, Stop)]
        if stopped:
            violation = f"node {self.name} stopped: {stopped[0].text}"
        raft, writes = _rebased(raft, writes)
        return Outcome(ExploredNode(raft, disk, writes, granted, campaigns), packets, tuple(effects), violation)

    def _with_grants(self, packets: tuple[Packet, ...], durable: Term) -> tuple[tuple[tuple[Term, NodeId], ...], str]:
        """Return the votes that have left, including those leaving now, and whether any breaks a promise.

        A vote depends on a disk with its term. Once the disk has a later term, any further vote in the old one is a
        violation, so the first vote's candidate need not be remembered.
        """
        new = _grants(packets)
        granted = {*self.granted, *new}
        kept = tuple(sorted([grant for grant in granted if grant[0] >= durable]))
        if len({term for term, _ in granted}) != len(granted):
            return kept, f"one vote per term (§5.2): node {self.name} has given two votes in one term"
        for term, _ in new:
            if term < self.disk.hard.term:
                return kept, f"one vote per term (§5.2): node {self.name} votes in term {term}, which its disk has left"
        return kept, ""

    def crashed(self, survived: int) -> Outcome:
        """Restart with the first `survived` of the pending writes on the disk, and none of the rest."""
        disk = self.disk
        for write in self.writes[:survived]:
            disk = _written(disk, write)
        raft = Raft(self.raft.server.settings, disk, _DICE)
        return ExploredNode(raft, disk, (), self.granted, self.campaigns)._step_in_place(raft, None)


def _step_all(raft: Raft, event: Event | None) -> list[Effect]:
    """Step with the event and with the machine's reports that follow: the machine is as fast as the core."""
    effects = raft.step(event)
    check(raft)
    for effect in effects:  # grows while it is read
        report: Event | None = None
        if isinstance(effect, Apply):
            report = Applied(effect.upto, tuple(b"" for _ in effect.commands))
        elif isinstance(effect, Restore):
            report = Restored(effect.meta.index)
        if report is not None and not raft.stopped:
            effects += raft.step(report)
            check(raft)
    return effects


def _written(disk: Recovered, write: Persist) -> Recovered:
    """Return the disk with one more write on it."""
    entries = disk.entries
    if write.truncate_from:
        entries = tuple(entry for entry in entries if entry.index < write.truncate_from)
    hard = write.hard if write.hard is not None else disk.hard
    return attrs.evolve(disk, hard=hard, entries=(*entries, *write.entries))


def _quiet(message: Message) -> Message:
    """Return the message without its unused number: only votes are matched by it."""
    if isinstance(message, RequestVote | VoteReply):
        return message
    return msgspec.structs.replace(message, id=MessageId(0))


def _grants(packets: Iterable[Packet]) -> list[tuple[Term, NodeId]]:
    grants: list[tuple[Term, NodeId]] = []
    for sender, to, message in packets:
        if isinstance(message, RequestVote) and message.kind is not VoteKind.PRE:
            grants.append((message.term, sender))
        elif isinstance(message, VoteReply) and message.granted and message.kind is not VoteKind.PRE:
            grants.append((message.term, to))
    return grants


def _rebased(raft: Raft, writes: tuple[Persist, ...]) -> tuple[Raft, tuple[Persist, ...]]:
    """Return the core and its writes, numbered from the last durable one, so that their count makes no difference."""
    outbox = raft.server.outbox
    done = outbox.durable
    role = raft.role

    def less(write: WriteId) -> WriteId:
        return WriteId(max(NO_WRITE, write - done))

    outbox.issued, outbox.durable = less(outbox.issued), NO_WRITE
    outbox.held = [(less(write), send) for write, send in outbox.held]
    outbox.issued_at = [(less(write), now) for write, now in outbox.issued_at]
    outbox._hard_write = less(outbox._hard_write)
    outbox._under_way = [(less(write), *rest) for write, *rest in outbox._under_way]  # type: ignore[misc]
    if isinstance(role, Candidate):
        role.own_write = less(role.own_write)
    return raft, tuple(msgspec.structs.replace(write, write=less(write.write)) for write in writes)
