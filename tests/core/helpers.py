"""One bare core on a bench: built in any state, fed by hand, its effects compared whole.

Ways to make a core, entries and messages in one line each. Message ids that a core makes for itself
are set to 0 by `bare`, because no test cares for them; ids that are echoed stay.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from raft_core.effects import Apply, Effect, Persist, RoleChanged, RoleName, Send
from raft_core.entries import COMMAND, MEMBERS, Entry, HardState, LogPosition, SnapshotMeta
from raft_core.events import Applied, CampaignRequested, Event, Persisted, Restored, Tick
from raft_core.ids import Incarnation, Index, MessageId, NodeId, ReadId, Term, WriteId
from raft_core.invariants import check
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.messages import (
    DATA,
    HEARTBEAT,
    AppendEntries,
    AppendPurpose,
    AppendReply,
    Message,
    RequestVote,
    VoteKind,
    VoteReply,
)
from raft_core.outbox import Outbox
from raft_core.raft import Raft
from raft_core.recovered import Identity, Recovered
from raft_core.settings import Settings
from tests.core.cluster import SMALL

OWN = 1 << 40  # message ids from here on were made by the core under test


def entries(*pairs: tuple[int, int]) -> tuple[Entry, ...]:
    """Sealed commands, each given as (index, term); the data tells them apart."""
    return tuple(Entry.make(index, term, b"%d@%d" % (index, term)) for index, term in pairs)


def apply_of(made: Sequence[Entry], *wanted: tuple[int, int]) -> Apply:
    """The order to apply these entries: only the commands among them reach the machine."""
    commands = tuple((entry.index, entry.data) for entry in made if entry.kind is COMMAND)
    return Apply(made[-1].index, commands, tuple((Index(first), Index(last)) for first, last in wanted))


def finish(outbox: Outbox, log: Log, hard: HardState, now: int = 0) -> list[Effect]:
    """End a step as `Raft.step` does."""
    if outbox.changed:
        outbox.write(log, hard.term, hard.vote, hard.commit, now)
    effects, outbox.effects = outbox.effects, []
    return effects


def noop(index: int, term: int) -> Entry:
    return Entry.make(index, term)


def core(
    node: int = 1,
    *,
    count: int = 3,
    members: Members | None = None,
    log: Sequence[int] = (),
    term: int = 0,
    vote: int = 0,
    commit: int = 1,
    applied: int = 0,
    snapshot: SnapshotMeta | None = None,
    settings: Settings = SMALL,
    seed: int = 1,
) -> Raft:
    """A started follower. Its log is the founding entry at 1 and then commands of the terms in `log`; or, with a
    `snapshot`, only the commands, from behind it on."""
    members = members or Members.initial(range(1, count + 1))
    founding = Entry.make(1, 1, members.encode(), MEMBERS)
    first = snapshot.index + 1 if snapshot else 2
    commands = entries(*[(first + place, each) for place, each in enumerate(log)])
    held = commands if snapshot else (founding, *commands)
    highest = max([1, term, *log, snapshot.term if snapshot else 0])
    identity = Identity(NodeId(node), incarnation=members.incarnation_of(NodeId(node)))
    recovered = Recovered(
        identity,
        hard=HardState(Term(highest), NodeId(vote), Index(commit)),
        snapshot=snapshot,
        entries=held,
        applied=Index(applied),
    )
    raft = Raft(settings, recovered, random.Random(seed))
    step(raft)
    return raft


def step(raft: Raft, event: Event | None = None) -> list[Effect]:
    """The effects of one step, after which every invariant holds."""
    effects = raft.step(event)
    if not raft.stopped:
        check(raft)
    return effects


def persist(raft: Raft) -> list[Effect]:
    """Everything that was ordered is durable."""
    return step(raft, Persisted(WriteId(raft.server.outbox.issued)))


def machine_done(raft: Raft) -> list[Effect]:
    """The machine has done everything that it was ordered to do, with the data of each command as its result."""
    effects: list[Effect] = []
    while raft.server.pipeline.pages:
        page, applied = raft.server.pipeline.pages[0], raft.server.pipeline.applied
        if page.restore:
            effects += step(raft, Restored(page.last))
            continue
        held = applied >= raft.log.base.index  # a snapshot may have replaced them meanwhile
        made = [raft.log.entry(Index(at)) for at in range(applied + 1, page.last + 1)] if held else []
        results = tuple(entry.data for entry in made if entry.kind is COMMAND)
        effects += step(raft, Applied(page.last, results))
    return effects


def bare(effects: Iterable[Effect]) -> list[Effect]:
    """The same effects, with the ids that the core made for its own messages set to 0."""
    return [_without_id(effect) for effect in effects]


def _without_id(effect: Effect) -> Effect:
    if isinstance(effect, Send) and effect.message.id >= OWN:
        return Send(effect.to, msgspec.structs.replace(effect.message, id=MessageId(0)))
    return effect


def sent(effects: Iterable[Effect], to: int = 0) -> list[Message]:
    """The messages among the effects, without their own ids; only those to one node where `to` says so."""
    return [e.message for e in bare(effects) if isinstance(e, Send) and to in (0, e.to)]


def only(kind: type, effects: Iterable[Effect]) -> list[Effect]:
    """The effects of one class."""
    return [effect for effect in effects if type(effect) is kind]


def persists(effects: Iterable[Effect]) -> list[Persist]:
    return [effect for effect in effects if isinstance(effect, Persist)]


# Messages.


def append(
    term: int,
    sender: int,
    prev: tuple[int, int],
    *new: tuple[int, int],
    commit: int = 0,
    ident: int = 7,
    read: int = 0,
    purpose: AppendPurpose = DATA,
    tip: int = 0,
) -> AppendEntries:
    """An append of commands (index, term) after `prev`."""
    return AppendEntries(
        Term(term),
        NodeId(sender),
        MessageId(ident),
        purpose,
        Index(prev[0]),
        Term(prev[1]),
        Index(commit),
        ReadId(read),
        entries(*new),
        Index(tip),
    )


def heartbeat(
    term: int,
    sender: int,
    match: tuple[int, int] = (0, 0),
    *,
    commit: int = 0,
    ident: int = 7,
    read: int = 0,
    tip: int = 0,
) -> AppendEntries:
    return append(term, sender, match, commit=commit, ident=ident, read=read, purpose=HEARTBEAT, tip=tip)


def accepted(
    term: int, sender: int, match: int, *, purpose: AppendPurpose = DATA, read: int = 0, ident: int = 7, disk: int = 0
) -> AppendReply:
    """An acknowledgement up to `match`."""
    return AppendReply(
        Term(term), NodeId(sender), Incarnation(disk), MessageId(ident), purpose, ReadId(read), Index(match)
    )


def rejected(term: int, sender: int, at: int, hint: tuple[int, int], *, ident: int = 7) -> AppendReply:
    """A rejection of an append after `at`."""
    return AppendReply(
        Term(term),
        NodeId(sender),
        Incarnation(0),
        MessageId(ident),
        DATA,
        ReadId(0),
        Index(0),
        Index(at),
        Index(hint[0]),
        Term(hint[1]),
        ok=False,
    )


def asks(
    term: int, sender: int, last: tuple[int, int], *, kind: VoteKind = VoteKind.REAL, ident: int = 7
) -> RequestVote:
    return RequestVote(Term(term), NodeId(sender), MessageId(ident), kind, LogPosition(Index(last[0]), Term(last[1])))


def votes(
    term: int, sender: int, *, granted: bool = True, kind: VoteKind = VoteKind.REAL, ident: int = 7, disk: int = 0
) -> VoteReply:
    return VoteReply(Term(term), NodeId(sender), Incarnation(disk), MessageId(ident), kind, granted)


# Roles.


def campaign_id(raft: Raft) -> int:
    """The id that answers to the campaign under way have to name."""
    return raft.role.campaign.id  # type: ignore[union-attr]


def role_of(raft: Raft) -> RoleName:
    """The name of the role, looked at anew."""
    return raft.role.name


def candidate(raft: Raft, settings: Settings = SMALL) -> Raft:
    """The core stands in a new term, its own vote durable; pre-votes of all others were given."""
    step(raft, CampaignRequested())
    persist(raft)
    if raft.role.name is RoleName.PRE_CANDIDATE:
        term, ident = raft.server.term + 1, campaign_id(raft)
        for voter in raft.members.all_voters:
            if voter != raft.server.me and raft.role.name is RoleName.PRE_CANDIDATE:
                step(raft, votes(term, voter, kind=VoteKind.PRE, ident=ident))
    assert raft.role.name is RoleName.CANDIDATE
    persist(raft)
    return raft


def leader(raft: Raft, *, durable: bool = True, settled: bool = False) -> Raft:
    """The core leads a new term. Its no-op is durable here; `settled`: everywhere, so that it is committed."""
    if len(raft.members.all_voters) == 1:
        step(raft, CampaignRequested())
        persist(raft)
    else:
        candidate(raft)
        ident = campaign_id(raft)
        for voter in raft.members.all_voters:
            if voter != raft.server.me and raft.role.name is RoleName.CANDIDATE:
                step(raft, votes(raft.server.term, voter, ident=ident))
    assert raft.role.name is RoleName.LEADER
    if durable or settled:
        persist(raft)
    if settled:
        everybody_has_all(raft)
    return raft


def replicated(boss: Raft, other: Raft) -> int:
    """Elect candidate 1 and deliver its appends and the replies of node 2 until all is said. Return the refusals."""
    network = sent(step(boss, votes(8, 3, ident=campaign_id(boss))), to=2)
    persist(boss)
    refusals = 0
    while network:
        effects = step(other, network.pop(0))
        for reply in sent([*effects, *persist(other)]):
            assert isinstance(reply, AppendReply)
            refusals += not reply.ok
            network += sent(step(boss, reply), to=2)
    return refusals


def everybody_has_all(raft: Raft) -> list[Effect]:
    """Every follower acknowledges the leader's whole log."""
    effects: list[Effect] = []
    last, term = raft.log.last_index, raft.server.term
    for node in raft.members.nodes:
        if node != raft.server.me:
            disk = raft.members.incarnation_of(node)
            effects += step(raft, accepted(term, node, last, disk=disk))
    return effects


def tick(raft: Raft, count: int = 1, until: Callable[[], bool] = lambda: False) -> list[Effect]:
    """Time passes, one tick at a time."""
    effects: list[Effect] = []
    for _ in range(count):
        effects += step(raft, Tick())
        if until():
            break
    return effects


def announced(role: RoleName, term: int, leader: int) -> RoleChanged:
    return RoleChanged(role, Term(term), NodeId(leader))
