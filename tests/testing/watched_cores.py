"""A few bare cores under the simulator's safety checker, moved by hand, so that a test can tamper with one of them.

`Stage`, with disks that write at once unless held, and a network that is a list; and `Doctored`, a
core that returns other effects than it should.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from raft_core.effects import Apply, Effect, Persist, Respond, Restore, Send, Stop, TakeSnapshot
from raft_core.entries import Entry
from raft_core.errors import RaftError
from raft_core.events import Applied, CampaignRequested, Event, Persisted, Proposed, Restored, SnapshotTaken
from raft_core.ids import BootNumber, Incarnation, Index, MessageId, NodeId, ReadId, RequestId, Term
from raft_core.membership import Members
from raft_core.messages import DATA, AppendReply, Message
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.roles.leader import Leader
from raft_core.settings import Settings
from raft_testing.checkers.safety import SafetyChecker
from raft_testing.rng import Rng

PLAIN = Settings(election_ticks=10, heartbeat_ticks=1, short_ticks=2, pre_vote=False, check_quorum=False)


class Doctored:
    """A core whose effects are changed before anybody sees them."""

    def __init__(self, raft: Raft, change: Callable[[list[Effect]], list[Effect]]) -> None:
        self._raft = raft
        self._change = change

    def step(self, event: Event) -> list[Effect]:
        return self._change(self._raft.step(event))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raft, name)


@attrs.define(eq=False)
class Seat:
    """One core with what belongs to it."""

    raft: Raft
    recovered: Recovered
    writes: deque[Persist] = attrs.Factory(deque)
    reports: deque[Event] = attrs.Factory(deque)
    held: bool = False
    answers: list[Respond] = attrs.Factory(list)


class Stage:
    """Cores 1 to `count`, all started. `text` is the first violation, empty while there is none."""

    def __init__(
        self,
        count: int = 3,
        *,
        members: Members | None = None,
        settings: Settings = PLAIN,
        purity: float = 0.0,
        founded: bool = True,
    ) -> None:
        self.safety = SafetyChecker(Rng(1), purity)
        self.settings = settings
        self.network: list[tuple[NodeId, NodeId, Message]] = []
        self.seats: dict[int, Seat] = {}
        self.watched = {}
        members = members or Members.initial(range(1, count + 1))
        for node in members.nodes:
            fresh = Recovered.fresh(node, members)
            self.watched[int(node)] = self.safety.watch(node, fresh.identity.incarnation)
            self.start(node, fresh)

    @property
    def text(self) -> str:
        return self.safety.violation.text if self.safety.violation is not None else ""

    def raft(self, node: int) -> Raft:
        return self.seats[node].raft

    def doctor(self, node: int, change: Callable[[list[Effect]], list[Effect]]) -> None:
        """From now on the effects of this core are changed."""
        self.seats[node].raft = Doctored(self.seats[node].raft, change)  # type: ignore[assignment]

    def start(self, node: int, recovered: Recovered) -> None:
        """A life begins on this disk."""
        self.safety.restarted(self.watched[node], recovered)
        self.safety.founded(self.watched[node], recovered)
        self.seats[node] = Seat(Raft(self.settings, recovered, random.Random(node)), recovered)
        self.step(node)

    def restart(self, node: int, **changes: object) -> None:
        """The core dies; what its disk holds, but for `changes`, is what the next one begins with."""
        stable, seat = self.watched[node].stable, self.seats[node]
        base = stable.snapshot.index if stable.snapshot is not None else 0
        found = attrs.evolve(
            seat.recovered,
            hard=stable.hard,
            snapshot=stable.snapshot,
            entries=tuple(entry for index, entry in stable.entries.items() if index > base),
            boot=BootNumber(seat.recovered.boot + 1),
        )
        self.start(node, attrs.evolve(found, **changes))  # type: ignore[arg-type]

    def step(self, node: int, event: Event | None = None) -> list[Effect]:
        """The event happens; disk and machine do their part, unless they are held."""
        seat, watched = self.seats[node], self.watched[node]
        try:
            effects = self.safety.step(watched, seat.raft, event)
        except RaftError:
            return []
        for effect in effects:
            if isinstance(effect, Send):
                self.network.append((NodeId(node), effect.to, effect.message))
            elif isinstance(effect, Persist):
                watched.stable.pending.append(effect)
                seat.writes.append(effect)
            elif isinstance(effect, Apply):
                seat.reports.append(Applied(effect.upto, tuple(data for _, data in effect.commands)))
            elif isinstance(effect, TakeSnapshot):
                seat.reports.append(SnapshotTaken(effect.meta))
            elif isinstance(effect, Restore):
                seat.reports.append(Restored(effect.meta.index))
            elif isinstance(effect, Respond):
                seat.answers.append(effect)
            elif isinstance(effect, Stop):
                seat.writes.clear()
        if not seat.held:
            self.flush(node)
        return effects

    def flush(self, node: int) -> None:
        """What was ordered is done and reported."""
        seat, watched = self.seats[node], self.watched[node]
        while (seat.writes or seat.reports) and not self.text:
            if seat.writes:
                write = seat.writes.popleft().write
                watched.stable.done(write)
                self.step(node, Persisted(write))
            else:
                self.step(node, seat.reports.popleft())

    def deliver(self, *, to: Iterable[int] = (), lost: Iterable[int] = ()) -> None:
        """Messages flow until none is left, only `to` these if it is given; what is sent from or to `lost` is lost."""
        wanted, gone = set(to) or set(self.seats), set(lost)
        kept: list[tuple[NodeId, NodeId, Message]] = []
        while self.network and not self.text:
            sender, receiver, message = self.network.pop(0)
            if sender in gone or receiver in gone or receiver not in self.seats:
                continue
            if receiver in wanted:
                self.step(receiver, message)
            else:
                kept.append((sender, receiver, message))
        self.network = kept

    def elect(self, node: int, *, lost: Iterable[int] = ()) -> None:
        """Let the node lead, and all others that are not lost follow."""
        self.step(node, CampaignRequested())
        self.deliver(lost=lost)
        assert self.text or isinstance(self.raft(node).role, Leader)

    def propose(self, node: int, *commands: bytes, request: int = 1) -> None:
        """The node is asked to append; nothing is delivered."""
        self.step(node, Proposed(RequestId(request), commands))

    def crown(self, node: int) -> None:
        """The node takes itself for the leader of its term, without any right."""
        raft = self.raft(node)
        raft._role = Leader(raft.server)

    def last(self, node: int) -> int:
        return self.raft(node).log.last_index


def entry(index: int, term: int, data: bytes = b"other") -> Entry:
    """A command at this place."""
    return Entry.make(Index(index), Term(term), data)


def acknowledged(term: int, sender: int, match: int) -> AppendReply:
    """The node says that it holds the log up to there."""
    return AppendReply(Term(term), NodeId(sender), Incarnation(0), MessageId(7), DATA, ReadId(0), Index(match))
