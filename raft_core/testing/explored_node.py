"""One node of an explored cluster: the real core, its disk, and its writes under way, as a value that can be compared.

What lives here: steps and crashes of one node, and the key by which two states of a node are told apart. Nodes are
called by large numbers that occur nowhere else, so that a key can be rewritten for other names.

What a key leaves out, because it can never matter: dice and settings, and how often something was counted before:
writes are numbered from the last durable one, and messages only by campaigns (a reply to anything else is not matched
by number where reads and leases are not used).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias, final

import attrs
import msgspec

from raft_core.effects import Apply, Effect, Persist, Restore, Send, Stop
from raft_core.entries import MEMBERS, Entry, HardState
from raft_core.errors import RaftError
from raft_core.events import Applied, Event, Persisted, Restored, Started
from raft_core.ids import NO_WRITE, BootNumber, MessageId, NodeId, Term, WriteId
from raft_core.invariants import check
from raft_core.membership import Members
from raft_core.messages import AppendReply, Message, RequestVote, VoteKind, VoteReply
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.settings import Settings

__all__ = ["FIRST_NODE", "ExploredNode", "Outcome", "renamed"]

FIRST_NODE: Final = 7_770_001
"""The first node's name; the others follow. No other number in a small cluster is as large."""

Names: TypeAlias = Mapping[NodeId, NodeId]


class _Dice(random.Random):
    """Always the same: chance only sets timeouts, and those the search decides itself."""

    def random(self) -> float:
        return 0.0


_DICE: Final = _Dice()


@final
@attrs.frozen
class Outcome:
    """What a step did: the node afterwards, what left it, and what it broke."""

    node: ExploredNode
    packets: tuple[tuple[NodeId, NodeId, Message], ...]
    effects: tuple[Effect, ...]
    violation: str = ""


@final
class ExploredNode:
    """A node at one moment. Never changed: steps and crashes return another one."""

    __slots__ = ("campaigns", "disk", "durable", "granted", "key", "leads", "log", "name", "plain", "raft", "writes")

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
        self.granted = granted  # every real vote that ever left, own candidacies included: (term, candidate)
        self.campaigns = campaigns
        self.name = disk.identity.node
        self.leads = isinstance(raft.role, Leader)
        self.log = tuple((entry.index, entry.term, entry.checksum) for entry in raft.log.entries())
        self.durable = tuple((entry.index, entry.term, entry.checksum) for entry in disk.entries)
        core = [_plain(raft.role, set()), _plain(raft.server, set())]
        self.plain = (core, _plain(disk, set()), _plain(writes, set()), _plain(granted, set()), campaigns)
        self.key = msgspec.msgpack.encode(self.plain)

    @classmethod
    def begin(cls, recovered: Recovered, settings: Settings) -> ExploredNode:
        """A node that has just been started from this disk."""
        raft = Raft(settings, recovered, _DICE)
        return cls(raft, recovered, (), (), 0)._step_in_place(raft, Started()).node

    def has_outlived(self, message: Message) -> bool:
        """The message is of a term that this node has left for good, a vote for an election that is over here, or an
        acknowledgement to a leader that leads no more: what it does now, it will do for ever."""
        if isinstance(message, VoteReply) and message.kind is VoteKind.PRE:
            return False
        term = self.disk.hard.term  # what is not durable may be forgotten in a crash
        if message.term < term:
            return True
        role = self.raft.role
        over = isinstance(message, VoteReply) and not isinstance(role, Candidate)
        deposed = isinstance(message, AppendReply) and isinstance(role, Follower)
        return message.term == term and (over or deposed)

    def renamed_key(self, names: Names) -> bytes:
        """The key of the same state in a cluster whose nodes are called so."""
        return msgspec.msgpack.encode(_rename(self.plain, names))

    def stepped(self, event: Event) -> Outcome:
        """The event happens to a copy of the core. `Persisted` makes the oldest write durable."""
        return self._step_in_place(self.raft.copy(), event)

    def _step_in_place(self, raft: Raft, event: Event) -> Outcome:
        disk, writes = self.disk, self.writes
        if isinstance(event, Persisted):
            disk, writes = _written(disk, writes[0]), writes[1:]
        raft.server.messages_made = self.campaigns
        try:
            effects = _step_all(raft, event)
        except RaftError as failure:
            return Outcome(self, (), (), f"node {self.name}: {type(failure).__name__}: {failure}")
        campaigns = self.campaigns
        if isinstance(raft.role, PreCandidate | Candidate):
            campaigns = raft.role.campaign.id & (1 << 40) - 1
        writes += tuple(effect for effect in effects if isinstance(effect, Persist))
        packets = tuple(
            (self.name, effect.to, _quiet(effect.message)) for effect in effects if isinstance(effect, Send)
        )
        granted = tuple(sorted({*self.granted, *_grants(packets)}))
        raft, writes = _rebased(raft, writes)
        stopped = [effect for effect in effects if isinstance(effect, Stop)]
        violation = f"node {self.name} stopped: {stopped[0].text}" if stopped else ""
        return Outcome(ExploredNode(raft, disk, writes, granted, campaigns), packets, tuple(effects), violation)

    def crashed(self, survived: int) -> Outcome:
        """A restart that finds the first `survived` of the writes under way on the disk, and nothing of the rest."""
        disk = self.disk
        for write in self.writes[:survived]:
            disk = _written(disk, write)
        disk = attrs.evolve(disk, boot=BootNumber(disk.boot + 1))
        raft = Raft(self.raft.server.settings, disk, _DICE)
        return ExploredNode(raft, disk, (), self.granted, 0)._step_in_place(raft, Started())


def _step_all(raft: Raft, event: Event) -> list[Effect]:
    """The event, and the machine's reports that follow from it: the machine is as fast as the core."""
    effects = raft.step(event)
    check(raft)
    for effect in effects:  # grows while it is read
        report: Event | None = None
        if isinstance(effect, Apply):
            report = Applied(effect.entries[-1].index, tuple(b"" for _ in effect.entries))
        elif isinstance(effect, Restore):
            report = Restored(effect.meta.index)
        if report is not None and not raft.stopped:
            effects += raft.step(report)
            check(raft)
    return effects


def _written(disk: Recovered, write: Persist) -> Recovered:
    """The disk with one more write on it."""
    entries = disk.entries
    if write.truncate_from:
        entries = tuple(entry for entry in entries if entry.index < write.truncate_from)
    hard = write.hard if write.hard is not None else disk.hard
    return attrs.evolve(disk, hard=hard, entries=(*entries, *write.entries))


def _quiet(message: Message) -> Message:
    """The message without the number that nobody will ask for: only votes are matched by it."""
    if isinstance(message, RequestVote | VoteReply):
        return message
    return msgspec.structs.replace(message, id=MessageId(0))


def _grants(packets: Iterable[tuple[NodeId, NodeId, Message]]) -> list[tuple[Term, NodeId]]:
    grants: list[tuple[Term, NodeId]] = []
    for sender, to, message in packets:
        if isinstance(message, RequestVote) and message.kind is not VoteKind.PRE:
            grants.append((message.term, sender))
        elif isinstance(message, VoteReply) and message.granted and message.kind is not VoteKind.PRE:
            grants.append((message.term, to))
    return grants


def _rebased(raft: Raft, writes: tuple[Persist, ...]) -> tuple[Raft, tuple[Persist, ...]]:
    """The same with writes numbered from the last durable one on, so that how many there were makes no difference."""
    outbox = raft.server.outbox
    done = outbox.durable
    role = raft.role

    def less(write: WriteId) -> WriteId:
        return WriteId(max(NO_WRITE, write - done))

    outbox.issued, outbox.durable = less(outbox.issued), NO_WRITE
    outbox.held = [(less(write), send) for write, send in outbox.held]
    outbox.issued_at = deque((less(write), now) for write, now in outbox.issued_at)
    outbox._hard_write = less(outbox._hard_write)
    outbox._under_way = deque(msgspec.structs.replace(w, write=less(w.write)) for w in outbox._under_way)
    if isinstance(role, Candidate):
        role.own_write = less(role.own_write)
    return raft, tuple(msgspec.structs.replace(write, write=less(write.write)) for write in writes)


# Keys.

_LEFT_OUT: Final = frozenset({"server", "settings", "rng", "messages_made", "checksum", "highest_id"})
_UNORDERED: Final = frozenset({"held"})  # messages that leave together: their order makes no difference
_Plain: TypeAlias = "bool | int | str | bytes | list[_Plain] | None"


def _plain(thing: Any, seen: set[int]) -> _Plain:
    """The thing as lists of atoms. Any: it walks whatever a core is made of."""
    if thing is None or isinstance(thing, bool | str | bytes):
        return thing
    if isinstance(thing, Enum):
        return str(thing.value)
    if isinstance(thing, int):
        return thing if thing < 2**63 else str(thing)
    if isinstance(thing, Entry) and thing.kind is MEMBERS:
        return ["Entry", thing.index, thing.term, _plain(Members.decode(thing.data), seen)]
    if isinstance(thing, dict):
        return ["dict", *sorted([[_plain(key, seen), _plain(value, seen)] for key, value in thing.items()], key=_bytes)]
    if isinstance(thing, set | frozenset):
        return ["set", *sorted([_plain(item, seen) for item in thing], key=_bytes)]
    if isinstance(thing, tuple | list | deque):
        return [_plain(item, seen) for item in thing]
    if isinstance(thing, msgspec.Struct):
        names: Iterable[str] = thing.__struct_fields__
    elif attrs.has(type(thing)):
        names = [field.name for field in attrs.fields(type(thing))]
    else:
        if id(thing) in seen:
            return None
        seen.add(id(thing))
        names = type(thing).__slots__
    plain: list[_Plain] = [type(thing).__name__]
    for name in names:
        if name in _UNORDERED:
            plain.append(["set", *sorted([_plain(item, seen) for item in getattr(thing, name)], key=_bytes)])
        elif name not in _LEFT_OUT:
            plain.append(_plain(getattr(thing, name), seen))
    return plain


def _bytes(plain: object) -> bytes:
    return msgspec.msgpack.encode(plain)


def _rename(plain: Any, names: Names) -> Any:
    """The same with other names; lists of nodes and dicts are put in order again."""
    if isinstance(plain, int) and not isinstance(plain, bool):
        return names.get(NodeId(plain), plain)
    if not isinstance(plain, list | tuple):
        return plain
    items = [_rename(item, names) for item in plain]
    if len(items) > 1 and items[0] in ("dict", "set"):
        return [items[0], *sorted(items[1:], key=_bytes)]
    if items and all(type(item) is int and item >= FIRST_NODE for item in items):
        return sorted(items)
    return items


def renamed(thing: Message | HardState | tuple[Any, ...], names: Names) -> bytes:
    """The bytes of a value in a cluster whose nodes are called so."""
    return msgspec.msgpack.encode(_rename(_plain(thing, set()), names))
