"""The public class `Raft`: `effects = raft.step(event)` is the only way in and the only way out.

This module applies the term rule, dispatches events, changes roles, stops, and reports status. The roles' handlers
are in `roles`, the state they share in `server`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, TypeAlias, assert_never, final, get_args

from raft_core import state_codec
from raft_core.compiled import mypyc_attr
from raft_core.effects import (
    AlarmKind,
    Effect,
    Indeterminate,
    RefusalReason,
    RoleChanged,
    RoleName,
    Stop,
    StopReason,
    UnknownReason,
)
from raft_core.errors import CallerError, LogLost, RaftStopped, SettingsError, invariant
from raft_core.events import (
    Applied,
    CampaignRequested,
    Event,
    ForgetLeaderRequested,
    MachineFailed,
    PeerConnected,
    PeerUnreachable,
    Persisted,
    Proposed,
    Requested,
    Restored,
    SnapshotFailed,
    SnapshotProgress,
    SnapshotReceived,
    SnapshotRejected,
    SnapshotRequested,
    SnapshotTaken,
    StopRequested,
    StorageFailed,
    Tick,
)
from raft_core.explain import Explainer, Explanation, Reason
from raft_core.ids import NO_NODE, Index, NodeId, RequestId, Term
from raft_core.log import Log
from raft_core.membership import Members
from raft_core.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    TransferRefused,
    VoteReply,
)
from raft_core.quiet import quiet_ticks
from raft_core.recovered import Recovered, check_founding
from raft_core.requests import Read, ReadConsistency, SingleRequest
from raft_core.roles.candidate import Candidate, PreCandidate
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.roles.transitions import LEGAL, BecomeCandidate, BecomeLeader, BecomePreCandidate, StepDown, Transition
from raft_core.server import Server
from raft_core.settings import Settings, check_features
from raft_core.status import Status, picture
from raft_core.validation import (
    FAR_TERM,
    LACKS_FEATURE,
    TERM_LEAP,
    check_event,
    malformed,
    may_raise_term,
    speaks_of_future,
    term_in_reach,
)

__all__ = ["Raft"]

Role: TypeAlias = Follower | PreCandidate | Candidate | Leader

LEADER: Final = RoleName.LEADER
# Names of this module, which may be compiled: see `raft_core.compiled`.
_AppendEntries: Final = AppendEntries
_AppendReply: Final = AppendReply
_Applied: Final = Applied
_Persisted: Final = Persisted
_Proposed: Final = Proposed
_Tick: Final = Tick
_CHECKED: Final = frozenset({Proposed, Requested, Tick})
_NO_NODE: Final = NO_NODE
_MESSAGES: Final = frozenset(get_args(Message))


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class Raft:
    """One member of one cluster. Equal settings, disk, random numbers and events give equal effects, byte for byte.

    Make one with `Raft.bootstrap` (a new cluster) or `Raft.open` (a disk). `step` raises `CallerError` when the caller
    breaks the contract and `InvariantBroken` for a bug in this library. After either, and after the effect `Stop`,
    every later step raises `RaftStopped`. But a `Proposed`, `Requested` or `Tick` with values of a wrong type changes
    nothing: its `CallerError` leaves the core as it was.
    """

    __slots__ = ("_announced", "_dead", "_role", "_server", "_started")

    def __init__(self, settings: Settings, recovered: Recovered, rng: random.Random) -> None:
        """Build a core as `open` does, from explicit arguments. Only `rng.random()` is called."""
        if recovered.identity.node <= 0:
            raise SettingsError(f"a node id is a positive number, not {recovered.identity.node}")
        self._server = Server(settings, recovered, rng)
        check_features(settings, self._server.members)
        if unfit := self._server.unfit:
            raise SettingsError(unfit)
        self._role: Role = Follower(self._server, NO_NODE)
        self._announced = RoleChanged(RoleName.FOLLOWER, self._server.term, NO_NODE)
        self._started = False
        self._dead = ""

    @classmethod
    def bootstrap(
        cls,
        node: int,
        members: Iterable[int] | Members,
        *,
        seed: int | random.Random,
        settings: Settings | None = None,
    ) -> Raft:
        """Return a member of a new cluster, with nothing on its disk yet but the cluster's first entry.

        Pass every node the same `members`: the ids of the voters, or `Members.initial(...)` for one with learners or
        leases. `seed`: see `open`. A node with a disk writes the first entry there (`Store.form`) and opens it
        instead. Raise `CallerError` if `node` is not among the members, and `SettingsError` as `open` does.
        """
        founding = members if isinstance(members, Members) else Members.initial(members)
        recovered = Recovered.fresh(node, founding)
        check_founding(founding, recovered.identity)
        return cls.open(recovered, seed=seed, settings=settings)

    @classmethod
    def open(cls, recovered: Recovered, *, seed: int | random.Random, settings: Settings | None = None) -> Raft:
        """Return the core of the node whose disk holds `recovered`, as it starts or restarts.

        `seed` draws election timeouts, which must differ between nodes: a number, such as the node's id, or a
        generator. `settings` may differ between nodes. Raise `SettingsError` for settings that do not suit the disk,
        `FeatureUnknown` if its log enables a feature that `settings` does not name.
        """
        if not isinstance(seed, int | random.Random):
            raise CallerError(f"seed is a whole number, such as the node's id, or a random.Random, not {seed!r}")
        rng = random.Random(seed) if isinstance(seed, int) else seed
        return cls(settings if settings is not None else Settings(), recovered, rng)

    def step(self, event: Event | None = None) -> list[Effect]:
        """Return all effects of `event`, in order. Carry out each one and report it as its docstring says.

        The first step returns, before its own effects, those of the start: `Restore` the snapshot, `Apply` what is
        committed. Without an event it returns these alone, so that a node need not wait for its first event.
        """
        if self._dead:
            raise RaftStopped(f"this core is finished ({self._dead}); open the store again and build a new one from it")
        server, kind = self._server, type(event)
        if kind in _CHECKED:
            check_event(event)
        try:
            if not self._started:
                self._started = True
                server.start()
            arrow: Transition | None
            # By exact type, the most frequent first; `match` on classes costs twice as much.
            if kind is _AppendEntries:
                if self._admits(event):  # type: ignore[arg-type]
                    arrow = self._role.on_append_entries(event)  # type: ignore[arg-type]
                    if arrow is not None:
                        self._move(arrow)  # the candidacy is over; the new follower handles the same message
                        self._move(self._role.on_append_entries(event))  # type: ignore[arg-type]
            elif kind is _Persisted:
                server.on_persisted(event.upto)  # type: ignore[union-attr, arg-type]
                arrow = self._role.on_persisted()
                if arrow is not None:
                    self._move(arrow)
            elif kind is _Applied:
                server.on_applied(event)  # type: ignore[arg-type]
            elif kind is _AppendReply:
                if self._admits(event):  # type: ignore[arg-type]
                    arrow = self._role.on_append_reply(event)  # type: ignore[arg-type]
                    if arrow is not None:
                        self._move(arrow)
            elif kind is _Proposed:
                self._role.on_proposed(event)  # type: ignore[arg-type]
            elif kind is _Tick:
                self._tick(event)  # type: ignore[arg-type]
            elif type(event) is Requested:
                self._requested(RequestId(event.id), event.request)
            elif event is not None:
                self._dispatch(event)
        except LogLost as lost:
            self._finish(StopReason.LOG_LOST, str(lost))
        except BaseException as failure:
            self._dead = f"an earlier step raised {type(failure).__name__}: {failure}"
            raise
        if server.stopping and not self._dead and self._role.name is not LEADER and not server.requests.queue:
            self._finish(StopReason.REQUESTED, "")
        if server.role_touched:
            self._announce()
        outbox = server.outbox
        if outbox.changed:
            outbox.write(server.log, server.term, server.vote, server.commit, server.now)
        effects, outbox.effects = outbox.effects, []
        return effects

    def _announce(self) -> None:
        """Report the role, the term and the leader, if one of them differs from the last report."""
        server, role, announced = self._server, self._role, self._announced
        server.role_touched = False
        if announced.term != server.term or announced.leader != role.leader or announced.role is not role.name:
            self._announced = RoleChanged(role.name, server.term, role.leader)
            server.outbox.effects.append(self._announced)

    def _dispatch(self, event: Event) -> None:
        """Handle an event of the less frequent types."""
        server, role = self._server, self._role
        match event:
            case Restored():
                server.on_restored(event)
            case SnapshotTaken():
                server.snapshots.on_taken(event.meta, role.log_hold)
            case SnapshotFailed(index):
                server.snapshots.on_failed(index, server.now)
            case SnapshotRequested(index):
                server.snapshots.on_requested(index, server.now)
            case SnapshotReceived(meta):
                role.on_snapshot_received(meta)
            case SnapshotRejected(index):
                role.on_snapshot_rejected(index)
            case SnapshotProgress():
                role.on_snapshot_progress(event)
            case PeerConnected(peer):
                role.on_connected(NodeId(peer))
            case PeerUnreachable(peer):
                self._move(role.on_unreachable(NodeId(peer)))
            case CampaignRequested():
                self._move(role.on_campaign())
            case ForgetLeaderRequested():
                role.on_forget_leader()
            case StopRequested():
                server.stopping = True
                self._move(role.on_stop())
            case StorageFailed(text):
                server.outbox.fail()  # rule 12.5: drop held messages, answer all requests, step down
                self._finish(StopReason.STORAGE_FAILED, text)
            case MachineFailed(text):
                server.outbox.fail()
                self._finish(StopReason.MACHINE_FAILED, text)
            case _:
                if type(event) not in _MESSAGES:
                    raise CallerError(f"{event!r} is no event: give step() a message or one of raft_core.events")
                self._receive(event)  # type: ignore[arg-type]

    # Messages.

    def _receive(self, message: Message) -> None:
        """Pass a message to the role, unless the term rule or its contents forbid it."""
        if type(message) is RequestVote and message.term >= self._server.term and self._ignores(message):
            return
        if self._admits(message):
            self._move(self._deliver(message))

    def _ignores(self, request: RequestVote) -> bool:
        """Return whether the role ignores a well-formed vote request, which then raises no term (rule 2.4)."""
        stranger = request.sender <= NO_NODE or request.sender == self._server.me
        return not stranger and malformed(request) is None and self._role.ignores_vote(request)

    def _admits(self, message: Message) -> bool:
        """Apply the term rule (§5.1, figure 2 "All Servers"). Return whether the role handles the message."""
        server, sender = self._server, message.sender
        if sender <= _NO_NODE or sender == server.me:
            server.alarm(AlarmKind.MALFORMED, sender, "a message that claims to come from nobody or from ourselves")
            return False
        wrong = malformed(message, server.own_features)
        if wrong is not None:
            kind = AlarmKind.FEATURE_MISSING if wrong is LACKS_FEATURE else AlarmKind.MALFORMED
            server.alarm(kind, sender, wrong)
            return False
        return message.term == server.term or self._admits_term(message)

    def _admits_term(self, message: Message) -> bool:
        """Answer a message of an older term; enter the term of a newer one, if its sender may raise ours."""
        server, term = self._server, message.term
        if term < server.term:
            server.answer_old(message)
            return False
        if speaks_of_future(message):
            return True
        if not self._believes_term(message):
            return False
        leader = message.sender if isinstance(message, AppendEntries | InstallSnapshot) else NO_NODE
        server.enter_term(term)
        self._move(StepDown(leader))
        return True

    def _believes_term(self, message: Message) -> bool:
        """Return whether the message may raise our term: not one out of reach, nor a non-member's answer."""
        server = self._server
        known = server.knows(message.sender)
        if not term_in_reach(server.term, message.term):
            text = f"a message of term {message.term}, out of reach of ours, {server.term}; it is ignored"
            server.alarm(AlarmKind.MALFORMED, message.sender, text)
            if known and message.term <= FAR_TERM:  # a member was raised so far meanwhile: come after it, leap by leap
                server.enter_term(Term(server.term + TERM_LEAP))
                self._move(StepDown())
            return False
        return may_raise_term(message, known=known)

    def _deliver(self, message: Message) -> Transition | None:
        role = self._role
        if type(message) is RequestVote:
            return role.on_request_vote(message)
        if type(message) is VoteReply:
            return role.on_vote_reply(message)
        if type(message) is InstallSnapshot:
            arrow = role.on_install_snapshot(message)
            if arrow is None:
                return None
            self._move(arrow)
            return self._role.on_install_snapshot(message)
        if type(message) is SnapshotReply:
            return role.on_snapshot_reply(message)
        if type(message) is TimeoutNow:
            return role.on_timeout_now(message)
        if type(message) is TransferRefused:
            return role.on_transfer_refused(message)
        if type(message) is ReadIndex:
            role.on_read_index(message)
            return None
        if type(message) is ReadIndexReply:
            role.on_read_index_reply(message)
            return None
        assert type(message) is not AppendEntries, "`step` passes it on itself"
        assert type(message) is not AppendReply, "`step` passes it on itself"
        assert_never(message)

    # Moving between roles.

    def _move(self, arrow: Transition | None) -> None:
        """Follow the arrow, and each further arrow of a new role's `begin`, until a role stays."""
        while arrow is not None:
            old = self._role
            self._server.role_touched = True
            invariant(type(arrow) in LEGAL[old.name], "the role figure has no such arrow")
            old.resign()
            if type(arrow) is StepDown:
                self._follow(old, arrow)
                arrow = None
            elif type(arrow) is BecomePreCandidate:
                self._role = PreCandidate(self._server, arrow.hurry)
                arrow = self._role.begin()
            elif type(arrow) is BecomeCandidate:
                self._role = Candidate(self._server, arrow.hurry, transfer=arrow.transfer)
                arrow = self._role.begin()
            elif type(arrow) is BecomeLeader:
                self._role = Leader(self._server)
                arrow = self._role.begin()
            else:
                assert_never(arrow)

    def _follow(self, old: Role, arrow: StepDown) -> None:
        follower = Follower(self._server, arrow.leader, arrow.hurry)
        if type(old) is Follower and arrow.leader == NO_NODE:
            # A new term alone does not restart the timer; granting a vote does (rule 1.3).
            follower.elapsed, follower.timeout = old.elapsed, old.timeout
        self._role = follower

    # Time.

    def _tick(self, event: Tick) -> None:
        server = self._server
        server.now += event.elapsed
        if server.loyalty:
            server.loyalty -= 1
        if 0 <= server.give_up_at <= server.now:
            server.give_up_at = -1
            server.requests.give_up(Indeterminate(UnknownReason.LEADERSHIP_LOST), server.respond)
        arrow = self._role.on_tick(event.elapsed)
        if arrow is not None:
            self._move(arrow)

    # Requests of clients and operators.

    def _requested(self, number: RequestId, request: SingleRequest) -> None:
        if type(request) is Read:
            self._read(number, request)
        else:
            self._move(self._role.on_requested(number, request))

    def _read(self, number: RequestId, read: Read) -> None:
        server, role = self._server, self._role
        if server.stopping:
            server.refuse(number, RefusalReason.STOPPING)
        elif server.pipeline.reads_full:
            server.refuse(number, RefusalReason.READS_FULL, leader=role.leader)
        elif read.consistency is ReadConsistency.MONOTONE:
            self._read_monotone(number, read.limit)
        else:
            role.on_read(number, read)

    def _read_monotone(self, number: RequestId, index: int) -> None:
        """Refuse a read above our commit index: otherwise it might wait for ever."""
        server = self._server
        if index > server.commit:
            text = f"only {server.commit} is known to be committed here"
            server.refuse(number, RefusalReason.STALE, leader=self._role.leader, text=text)
        else:
            server.pipeline.read_when_applied(Index(index), number)

    def _finish(self, reason: StopReason, text: str) -> None:
        """Answer all waiting requests and emit `Stop`. No step follows."""
        server = self._server
        if type(self._role) is Leader:
            self._move(StepDown())
        self._role.resign()
        told = text if reason is StopReason.MACHINE_FAILED else ""  # clients get the machine's error
        server.answer_everybody(reason, told)
        server.outbox.effects.append(Stop(reason, text))
        self._dead = f"it was stopped: {reason}"

    # Inspection.

    @property
    def log(self) -> Log:
        """The log, for tests and tools to read."""
        return self._server.log

    @property
    def members(self) -> Members:
        """The configuration in force."""
        return self._server.members

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the cluster uses: those of the newest configuration known to be committed.

        Whatever is proposed from now on comes after the entry that enabled them, whoever leads.
        """
        return self._server.features

    @property
    def commit(self) -> Index:
        """The index of the last entry known to be committed."""
        return self._server.commit

    @property
    def role(self) -> Role:
        """The role object, for tests and tools to read."""
        return self._role

    @property
    def server(self) -> Server:
        """The state all roles share, for tests and tools to read."""
        return self._server

    def obeys(self, node: NodeId, term: Term) -> bool:
        """Return whether this node follows `node` in `term` and `node` is a known member."""
        return self._role.leader == node and self._server.term == term and self._server.knows(node)

    @property
    def log_verified(self) -> bool:
        """True for a follower whose whole log is known to equal its leader's."""
        return type(self._role) is Follower and self._role.verified == self._server.log.last_index

    @property
    def stopped(self) -> bool:
        """True after `Stop` or an error: every further step raises `RaftStopped`."""
        return bool(self._dead)

    @property
    def reads_wait_for_disk(self) -> bool:
        """True while a slow disk holds up committed entries, so that reads cannot advance beyond the applied state."""
        server, settings = self._server, self._server.settings
        limit = min(settings.stall_ticks or settings.election_ticks, settings.election_ticks)
        behind = server.commit > server.outbox.durable_index
        return behind and server.outbox.oldest_age(server.now) >= limit

    @property
    def status(self) -> Status:
        """A frozen snapshot of this node's state: term, role, indexes, peers."""
        return picture(self._server, self._role)

    @property
    def quiet_ticks(self) -> int:
        """In how many of the next ticks nothing happens, provided that no other event comes before them."""
        return 0 if self.stopped else quiet_ticks(self._server, self._role)

    def explain(self, *, index: Index | None = None, peer: NodeId | None = None) -> tuple[Explanation, ...]:
        """Explain delays.

        Without arguments: all that waits, beginning with why this node does not lead. `index`: why this entry is not
        committed or not applied. `peer`: why no entries are sent to it. Empty if there is nothing to explain.
        """
        explainer = Explainer(self._server, self._role, stopped=self.stopped)
        if index is None and peer is None:
            return explainer.everything()
        found: list[Explanation] = []
        if index is not None:
            found += [explainer.why_not_committed(index), explainer.why_not_applied(index)]
        if peer is not None:
            found.append(explainer.why_paused(peer))
        return tuple(each for each in found if each.reason is not Reason.NOTHING)

    def copy(self) -> Raft:
        """Return an independent core in the same state, including the random generator."""
        return state_codec.copied(self)

    def fingerprint(self) -> bytes:
        """Return bytes, equal if and only if two cores give equal effects for all future events."""
        return state_codec.fingerprint(self)
