"""What must be true of a cluster after every step of every core, over all nodes and their whole lives.

What lives here: `Overseer`, which stands in for `Raft.step` in every simulated host, and the checks that need to see
more than one core. What is true of one core by itself is in `raft_core.invariants`, and is called here too. Every check
is incremental: it costs what has changed, not what there is.

A violation is noted, not raised: the first one is kept, with its moment, and the simulation ends there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, final

import msgspec

from raft_core._state import alike
from raft_core.effects import Apply, Effect, Persist, Respond, Restore, Send, Stop, TakeSnapshot
from raft_core.entries import MEMBERS, SnapshotMeta
from raft_core.errors import InvariantBroken, RaftError
from raft_core.events import Event, Persisted, ReadRequested, Started
from raft_core.ids import Incarnation, NodeId
from raft_core.invariants import check
from raft_core.membership import Members
from raft_core.messages import (
    AppendEntries,
    AppendReply,
    Message,
    ReadIndex,
    RequestVote,
    SnapshotReply,
    VoteKind,
    VoteReply,
)
from raft_core.quorum import quorum_reached
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.roles.leader import Leader
from raft_core.testing.dice import Dice
from raft_core.testing.mirrors import DiskModel, Ledger, LogMirror, Mismatch

__all__ = ["CHECKS", "Overseer", "Violation", "Watched"]

CHECKS: Final = (
    "election safety: at most one leader per term",
    "one vote per term for a node's whole life",
    "a leader was elected by a durable majority of each half, learners not counted",
    "leader append-only",
    "leader completeness",
    "log matching: equal positions have equal pasts",
    "state machine safety: one entry per committed index, applied in order",
    "a commit is durable on a majority of each half",
    "terms never fall, commits never fall, across restarts too",
    "no promise leaves before the write it rests on",
    "no acknowledgement exceeds what the leader's log holds",
    "what is committed is never truncated",
    "the configuration in force is the last one in the log",
    "equal steps have equal effects, and events are not changed",
    "every invariant of a single core (raft_core.invariants)",
    "a disk comes back with everything that was acknowledged, and nothing made up",
    "a disk refuses to open only when it was harmed",
    "a snapshot equals the applied prefix",
    "equal entries have equal results on all machines",
    "no command is applied twice",
    "an answer belongs to its request",
    "histories are linearizable per key",
    "queues are bounded",
    "with a majority up and no faults there is one leader, and everybody is answered",
    "all members converge to the same state",
    "every acknowledged command is on every member",
)


@final
class Violation(Exception):
    """A property that must hold does not. `moment` is virtual time in nanoseconds."""

    def __init__(self, text: str, moment: int) -> None:
        super().__init__(text)
        self.text = text
        self.moment = moment


@final
class Watched:
    """What the checks know of one node: beyond its death what its disk must hold, within a life its log."""

    def __init__(self, node: NodeId, incarnation: Incarnation, ledger: Ledger) -> None:
        self.node = node
        self.incarnation = incarnation
        self.ledger = ledger
        self.stable = DiskModel()  # what is on the disk
        self.told = DiskModel()  # what the core was told is on the disk
        self.log = LogMirror(ledger)
        self.term = 0
        self.commit = 0
        self.applied = 0
        self.promised_term = 0
        self.leads = 0  # the term it leads, 0 if it does not
        self.members: Members | None = None
        self.dead = False

    def begin(self, recovered: Recovered) -> None:
        """A new life on the same disk."""
        self.told.load(recovered)
        self.stable.load(recovered)
        self.log = LogMirror(self.ledger)
        self.term, self.commit, self.applied = recovered.hard.term, 0, 0
        self.leads, self.members = 0, None


@final
class Overseer:
    """Watches all cores of one simulation. `now` is set by the simulation."""

    def __init__(self, dice: Dice, purity: float) -> None:
        self.ledger = Ledger()
        self.now = 0
        self.steps = 0
        self.seen: Counter[str] = Counter()
        self.met: Counter[str] = Counter()  # which message reached which role, which effect was ordered
        self.violation: Violation | None = None
        self._dice = dice
        self._purity = purity
        self._watched: dict[tuple[NodeId, int], Watched] = {}  # by disk: also those that are lost
        self._leaders: dict[int, Watched] = {}
        self._leader_lives: dict[int, LogMirror] = {}
        self._votes: dict[tuple[NodeId, int, int], NodeId] = {}
        self._grants: dict[tuple[int, NodeId], set[tuple[NodeId, int]]] = {}
        self._committed: list[tuple[int, bytes]] = [(0, b"")]  # by index: term and chain
        self._marks: list[tuple[int, int]] = []  # (leader's term, index that it committed)

    # What the simulation tells.

    def watch(self, node: NodeId, incarnation: Incarnation) -> Watched:
        """A node with a new disk exists."""
        watched = self._watched[node, incarnation] = Watched(node, incarnation, self.ledger)
        return watched

    def fail(self, text: str) -> None:
        """A violation; the first is kept."""
        if self.violation is None:
            self.violation = Violation(text, self.now)

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            self.fail(text)

    @property
    def committed(self) -> int:
        """The highest index that any leader has committed."""
        return len(self._committed) - 1

    # One step of one core.

    def step(self, watched: Watched, raft: Raft, event: Event) -> list[Effect]:
        """What `Raft.step` returns, after everything has been checked."""
        self.steps += 1
        if type(event) is Persisted:
            watched.told.done(event.upto)
        twin = raft.copy() if self._dice.chance(self._purity) else None
        before = msgspec.msgpack.encode(event) if twin is not None else b""
        try:
            effects = raft.step(event)
        except RaftError as failure:
            self.fail(f"node {watched.node}: the core raised {type(failure).__name__} at {event!r}: {failure}")
            raise
        if self.violation is not None:
            return effects
        try:
            if twin is not None:
                self._same_again(watched, raft, twin, event, effects, before)
            if not raft.stopped:
                check(raft)
            self._look(watched, raft, event, effects)
        except (InvariantBroken, Mismatch) as failure:
            self.fail(f"node {watched.node}: {failure}")
        return effects

    def _same_again(
        self, watched: Watched, raft: Raft, twin: Raft, event: Event, effects: list[Effect], before: bytes
    ) -> None:
        self.seen["steps done twice"] += 1
        again = twin.step(event)
        same = again == effects and alike(twin, raft)
        self.require(same, f"node {watched.node}: the same step had other effects at {event!r}")
        self.require(msgspec.msgpack.encode(event) == before, f"node {watched.node}: a step changed its event")

    def _look(self, watched: Watched, raft: Raft, event: Event, effects: list[Effect]) -> None:
        server = raft.server
        role = raft.role
        self.met[f"{type(event).__name__} at {role.name.value}"] += 1
        if server.term != watched.term:
            self.require(server.term > watched.term, f"node {watched.node}: the term fell from {watched.term}")
            watched.term = server.term
        cut, new = watched.log.follow(server.log)
        if cut or new:
            self._log_changed(watched, raft, event, cut)
        leads = server.term if type(role) is Leader else 0
        if leads != watched.leads:
            watched.leads = leads
            if leads:
                self._took_office(watched, raft)
        if server.commit != watched.commit:
            self._commit_moved(watched, raft)
        watched.members = server.members
        self._notice(raft, event, effects)
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._sent(watched, effect)  # type: ignore[arg-type]
            elif kind is Persist:
                watched.told.pending.append(effect)  # type: ignore[arg-type]
            elif kind is Apply:
                self._apply_ordered(watched, effect)  # type: ignore[arg-type]
            elif kind is TakeSnapshot:
                self._snapshot_ordered(watched, effect.meta)  # type: ignore[union-attr]
            elif kind is Restore:
                watched.applied = effect.meta.index  # type: ignore[union-attr]

    def _notice(self, raft: Raft, event: Event, effects: Iterable[Effect]) -> None:
        """Counts what proves that a run was not vacuous."""
        kind = type(event)
        if kind is ReadRequested or kind is ReadIndex:
            role = raft.role
            if type(role) is Leader and not role.settled and role.reading.queue.waiting:
                self.seen["read postponed until the first commit of a term"] += 1
            elif not any(type(effect) is Respond for effect in effects):
                self.seen["read that waited"] += 1
        for effect in effects:
            self.met[type(effect).__name__] += 1
            if type(effect) is Restore and kind is not Started:
                self.seen["snapshot restored from a leader"] += 1
            elif type(effect) is Stop:
                self.seen[f"core stopped: {effect.reason.value}"] += 1

    # The log.

    def _log_changed(self, watched: Watched, raft: Raft, event: Event, cut: int) -> None:
        log, server = watched.log, raft.server
        if cut:
            self.require(cut > watched.commit, f"node {watched.node}: truncated from {cut}, committed {watched.commit}")
            self.require(
                not watched.leads or raft.server.term != watched.leads or type(raft.role) is not Leader,
                f"node {watched.node}: a leader changed its own log from {cut} on",
            )
            if type(event) is AppendEntries:
                self.seen["uncommitted tail overwritten by a new leader"] += 1
        in_force = server.configurations.index
        if log.configurations:
            self.require(
                in_force == log.configurations[-1],
                f"node {watched.node}: the configuration of {in_force} is in force, the last one is at "
                f"{log.configurations[-1]}",
            )
            entry = log.entries[log.configurations[-1] - log.base - 1]
            if server.members is not watched.members:
                self.require(
                    entry.data == server.members.encode(),
                    f"node {watched.node}: other members are in force than in the log",
                )
        else:
            self.require(in_force <= log.base, f"node {watched.node}: a configuration is in force that no log holds")

    def _took_office(self, watched: Watched, raft: Raft) -> None:
        term, members = watched.leads, raft.server.members
        first = self._leaders.setdefault(term, watched)
        self.require(first is watched, f"nodes {first.node} and {watched.node} both lead term {term}")
        self._leader_lives[term] = watched.log
        self.seen["elections won"] += 1
        hard = watched.told.hard
        own = (hard.term, hard.vote) == (term, watched.node) or hard.term > term
        self.require(own, f"node {watched.node} leads term {term} with {hard} on its disk")
        grants = self._grants.get((term, watched.node), set())
        voters = {node for node, disk in grants if disk == members.incarnation_of(node)}
        voters.add(watched.node)
        before = watched.members or members
        elected = quorum_reached(members, lambda node: node in voters) or quorum_reached(
            before, lambda node: node in voters
        )
        self.require(elected, f"node {watched.node} leads term {term} elected by {sorted(voters)} of {members}")
        for marked, index in reversed(self._marks):
            if marked < term:
                committed_term = self._committed[index][0]
                held = watched.log.term_at(index)
                complete = held == committed_term or (held is None and index < watched.log.base)
                self.require(
                    complete, f"leader {watched.node} of term {term} lacks index {index}, committed in {marked}"
                )
                return

    def _commit_moved(self, watched: Watched, raft: Raft) -> None:
        server, log = raft.server, watched.log
        commit, old = server.commit, watched.commit
        self.require(commit > old, f"node {watched.node}: the commit index fell from {old} to {commit}")
        watched.commit = commit
        if watched.leads and commit > self.committed:
            self._leader_commits(watched, raft)
        self.require(commit <= self.committed, f"node {watched.node} commits {commit}, which no leader has committed")
        for index in range(max(old, log.base), min(commit, self.committed) + 1):
            chain = log.chain_at(index)
            if chain is not None and self._committed[index][1] != chain:
                self.fail(f"node {watched.node}: another entry is committed at {index} than elsewhere")

    def _leader_commits(self, watched: Watched, raft: Raft) -> None:
        """A leader moved the cluster's commit index: its entry must be durable on a majority of each half."""
        server, log = raft.server, watched.log
        commit = server.commit
        term = log.term_at(commit)
        members = server.members
        if members.joint or (watched.members is not None and watched.members.joint):
            self.seen["commit while joint"] += 1

        def holds(node: NodeId) -> bool:
            known = self._watched.get((node, members.incarnation_of(node)))
            return known is not None and known.stable.covers(commit, term or 0)

        durable = quorum_reached(members, holds)
        if not durable and watched.members is not None:
            durable = quorum_reached(watched.members, holds)
        self.require(durable, f"leader {watched.node} commits {commit} (term {term}) without a durable majority")
        for index in range(len(self._committed), commit + 1):
            chain, at = log.chain_at(index), log.term_at(index)
            if chain is None or at is None:
                self.fail(f"leader {watched.node} commits index {index}, which its log does not hold")
                return
            self._committed.append((at, chain))
        if self._marks and self._marks[-1][0] == watched.leads:
            self._marks.pop()
        self._marks.append((watched.leads, commit))

    def founded(self, watched: Watched, recovered: Recovered) -> None:
        """The founding entry counts as committed: every founder writes the same before anything else."""
        if self.committed == 0 and recovered.entries:
            entry = recovered.entries[0]
            if entry.kind is MEMBERS and entry.index == 1:
                self._committed.append((entry.term, self.ledger.add(b"", entry)))
                self._marks.append((0, 1))

    def _apply_ordered(self, watched: Watched, effect: Apply) -> None:
        for entry in effect.entries:
            self.require(
                entry.index == watched.applied + 1, f"node {watched.node} applies {entry.index} after {watched.applied}"
            )
            watched.applied = entry.index
        last = effect.entries[-1]
        chain = self.ledger.chain(last.index, last.term)
        committed = last.index <= self.committed and self._committed[last.index][1] == chain
        self.require(committed, f"node {watched.node} applies index {last.index}, which is not what was committed")
        self.require(
            watched.told.covers(last.index, last.term), f"node {watched.node} applies {last.index} before it is durable"
        )

    def _snapshot_ordered(self, watched: Watched, meta: SnapshotMeta) -> None:
        """A snapshot stands for a committed place, with the configuration that was in force there."""
        log, index = watched.log, meta.index
        self.require(log.term_at(index) == meta.term, f"node {watched.node}: a snapshot of index {index}, wrong term")
        earlier = [place for place in log.configurations if place <= index]
        if earlier:
            right = log.entries[earlier[-1] - log.base - 1].data == meta.members.encode()
            self.require(right, f"node {watched.node}: a snapshot at {index} with members of another index")

    # Promises.

    def _sent(self, watched: Watched, effect: Send) -> None:
        message = effect.message
        kind = type(message)
        if kind is AppendReply or kind is SnapshotReply:
            self._term_promised(watched, message)
            if message.ok:  # type: ignore[union-attr]
                self._acknowledged(watched, message)  # type: ignore[arg-type]
        elif kind is VoteReply:
            self._vote_sent(watched, effect.to, message)  # type: ignore[arg-type]
        elif kind is RequestVote:
            self._vote_asked(watched, message)  # type: ignore[arg-type]

    def _term_promised(self, watched: Watched, message: Message) -> None:
        durable = watched.told.hard.term
        if durable < message.term:
            self.fail(f"node {watched.node} promised term {message.term} with term {durable} on its disk")
        if message.term > watched.promised_term:
            watched.promised_term = message.term

    def _acknowledged(self, watched: Watched, reply: AppendReply | SnapshotReply) -> None:
        match, told = reply.match, watched.told
        if told.hard.term > reply.term:
            return  # released together with a later write, which may have replaced what this one rests on
        held = told.term_at(match)
        if held is None and not (told.snapshot is not None and told.snapshot.index >= match):
            self.fail(f"node {watched.node} acknowledged index {match}, its disk ends at {told.last}")
            return
        leader, log = self._leaders.get(reply.term), self._leader_lives.get(reply.term)
        if leader is None or leader.leads != reply.term or leader.log is not log or log is None or held is None:
            return
        wanted = log.term_at(match)
        if match > log.last or (wanted is not None and wanted != held):
            self.fail(f"node {watched.node} acknowledged index {match} (term {held}), the leader holds term {wanted}")

    def _vote_sent(self, watched: Watched, to: NodeId, reply: VoteReply) -> None:
        if reply.kind is VoteKind.PRE:
            if not reply.granted:
                self.seen["pre-vote refused"] += 1
                self._term_promised(watched, reply)
            return
        self._term_promised(watched, reply)
        if not reply.granted:
            return
        hard = watched.told.hard
        durable = hard.term > reply.term or (hard.term == reply.term and hard.vote == to)
        self.require(durable, f"node {watched.node} voted for {to} in term {reply.term} with {hard} on its disk")
        self._note_vote(watched, reply.term, to)
        self._grants.setdefault((reply.term, to), set()).add((watched.node, watched.incarnation))

    def _vote_asked(self, watched: Watched, request: RequestVote) -> None:
        told = watched.told
        if request.kind is not VoteKind.PRE:
            self._term_promised(watched, request)
            self._note_vote(watched, request.term, watched.node)
        last = request.last
        if told.hard.term <= request.term and not told.held(last.index, last.term) and last.index:
            self.fail(f"node {watched.node} campaigned with a log end of {last} that is not on its disk")

    def _note_vote(self, watched: Watched, term: int, candidate: NodeId) -> None:
        first = self._votes.setdefault((watched.node, watched.incarnation, term), candidate)
        self.require(first == candidate, f"node {watched.node} voted for {first} and for {candidate} in term {term}")

    def restarted(self, watched: Watched, recovered: Recovered) -> None:
        """A disk was opened and found whole."""
        term = recovered.hard.term
        self.require(
            term >= watched.promised_term,
            f"node {watched.node} came back in term {term} after promising {watched.promised_term}",
        )
        watched.begin(recovered)
