"""Safety properties of a cluster, checked after every step of every core, over all nodes and their whole lives.

`SafetyChecker` replaces `Raft.step` in every simulated node, and has the checks over more than one core; those of
messages are in `durability`. The invariants of one core are in `raft_core.invariants`, and are called here too. Every
check is incremental: it costs the size of the change, not of the state.

A violation is noted, not raised. The first one is kept, with its moment, and ends the simulation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, final

import msgspec

from raft_core.effects import Apply, Effect, Persist, Respond, Restore, Send, Stop, TakeSnapshot
from raft_core.entries import COMMAND, MEMBERS, SnapshotMeta
from raft_core.errors import InvariantBroken, RaftError
from raft_core.events import Event, Persisted, Requested
from raft_core.ids import Incarnation, NodeId
from raft_core.invariants import check
from raft_core.membership import Members
from raft_core.messages import AppendEntries, ReadIndex
from raft_core.raft import Raft
from raft_core.recovered import Recovered
from raft_core.requests import Read
from raft_core.roles.follower import Follower
from raft_core.roles.leader import Leader
from raft_core.state_codec import alike
from raft_testing.checkers.bounds import queue_of_core
from raft_testing.checkers.durability import DurabilityChecker
from raft_testing.checkers.reference_model import Ledger, ModelMismatch, Watched, majority_of_each_half
from raft_testing.rng import Rng

__all__ = ["CHECKS", "SafetyChecker", "Violation", "Watched"]

CHECKS: Final = (
    "election safety: at most one leader per term",
    "one vote per term for a node's whole life",
    "a leader was elected by a durable majority of each half, learners not counted",
    "leader append-only",
    "leader completeness",
    "log matching: equal positions have equal pasts",
    "state machine safety: one entry per committed index, applied in order",
    "a commit is durable on a majority of each half",
    "a leader commits by counting only entries of its own term",
    "terms never fall, restarts included, and the commit index never falls in a life",
    "no promise leaves before the write it rests on",
    "no acknowledgement exceeds what the leader's log holds",
    "a follower takes its log for verified only as far as it is the leader's",
    "what the newest leader is told of a committed index is what is committed there",
    "a machine is set to a snapshot only once the switch to it is durable",
    "what is committed is never truncated",
    "the configuration in force is the last one in the log, after truncation too",
    "at most one uncommitted change of members in any log",
    "every item of every request to a core has one answer",
    "equal steps have equal effects, and events are not changed",
    "every invariant of a single core (raft_core.invariants)",
    "a disk comes back with everything that was acknowledged, and nothing made up",
    "a disk refuses to open only when it was harmed",
    "a snapshot equals the applied prefix",
    "equal entries have equal results on all machines",
    "the time in the log never runs back, gains nothing on true time, and loses a second per election at most",
    "a machine answers what clients ask of it: it raises nothing, and gives bytes",
    "no command is applied twice",
    "an answer belongs to its request",
    "a node that stops answers what is open, and clients of other nodes hear nothing of it",
    "histories are linearizable per key",
    "queues are bounded, in cores and in hosts",
    "with a majority up and no faults there is one leader, and everybody is answered",
    "all members converge to the same state",
    "every acknowledged command is on every member",
    "status and explanations say what is so, raise nothing, and change nothing",
    "a recording, tiny ones included, replays to the same effects and the same state; a damaged one is refused",
    "recovery from quorum loss changes no byte of a disk, invents nothing, and lacks nothing committed",
    "every event and every effect has a line of words",
    "what a machine cannot decode has an error as its result, and changes nothing",
)


@final
class Violation(Exception):
    """A violated property. `moment` is virtual time in nanoseconds."""

    def __init__(self, text: str, moment: int) -> None:
        super().__init__(text)
        self.text = text
        self.moment = moment


@final
class SafetyChecker:
    """Watches all cores of one simulation. `now` is set by the simulation."""

    def __init__(self, rng: Rng, purity: float) -> None:
        self.ledger = Ledger()
        self.now = 0
        self.steps = 0
        self.seen: Counter[str] = Counter()
        self.met: Counter[str] = Counter()  # which message reached which role, which effect was ordered
        self.violation: Violation | None = None
        self._rng = rng
        self._purity = purity
        self._watched: dict[tuple[NodeId, int], Watched] = {}  # by disk: also those that are lost
        self._leaders: dict[int, Watched] = {}
        self._committed: list[tuple[int, bytes]] = [(0, b"")]  # by index: term and chain
        self._promises = DurabilityChecker(self.fail, self.seen, self._committed)
        self._commands = [0]  # by index: where the last command up to there is
        self._marks: list[tuple[int, int]] = []  # (leader's term, index that it committed)

    # What the simulation tells.

    def watch(self, node: NodeId, incarnation: Incarnation) -> Watched:
        """Watch a node with a new disk."""
        watched = self._watched[node, incarnation] = Watched(node, incarnation, self.ledger)
        return watched

    def lost(self, watched: Watched) -> None:
        """Note the loss of a node's disk. A first entry on this disk alone was never the cluster's."""
        watched.lost = True
        if self.committed <= 1 and all(other.lost or not other.stable.last for other in self._watched.values()):
            self.seen["founding forgotten, with the only disk that held it"] += self.committed
            self.ledger.clear()
            del self._committed[1:], self._commands[1:], self._marks[:]

    def fail(self, text: str, *, moment: int | None = None) -> None:
        """Note a violation, now or at an earlier moment; the first one found is kept."""
        if self.violation is None:
            self.violation = Violation(text, self.now if moment is None else moment)

    def require(self, holds: bool, text: str) -> None:
        """Note a violation unless `holds`."""
        if not holds:
            self.fail(text)

    @property
    def committed(self) -> int:
        """The highest index committed by any leader."""
        return len(self._committed) - 1

    # One step of one core.

    def step(self, watched: Watched, raft: Raft, event: Event | None) -> list[Effect]:
        """Step the core and check everything. Return the effects of `Raft.step`."""
        self.steps += 1
        if type(event) is Persisted:
            watched.told.done(event.upto)
        watched.answers.asked(event)
        twin = raft.copy() if self._rng.chance(self._purity) else None
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
        except (InvariantBroken, ModelMismatch) as failure:
            self.fail(f"node {watched.node}: {failure}")
        return effects

    def _same_again(
        self, watched: Watched, raft: Raft, twin: Raft, event: Event | None, effects: list[Effect], before: bytes
    ) -> None:
        self.seen["steps done twice"] += 1
        again = twin.step(event)
        same = again == effects and alike(twin, raft)
        self.require(same, f"node {watched.node}: the same step had other effects at {event!r}")
        self.require(msgspec.msgpack.encode(event) == before, f"node {watched.node}: a step changed its event")

    def _look(self, watched: Watched, raft: Raft, event: Event | None, effects: list[Effect]) -> None:
        server = raft.server
        role = raft.role
        self.met[f"{type(event).__name__} at {role.name.value}"] += 1
        if server.term != watched.term:
            self.require(server.term > watched.term, f"node {watched.node}: the term fell from {watched.term}")
            watched.term = server.term
        leads = server.term if type(role) is Leader else 0
        if watched.leads and leads != watched.leads:
            self._promises.resigned(watched.leads, watched.log)
        cut, new = watched.log.follow(server.log)
        if cut:
            self._log_changed(watched, event, cut, still_leads=bool(leads) and leads == watched.leads)
        if leads != watched.leads:
            watched.leads = leads
            if leads:
                self._took_office(watched, raft)
        if server.commit != watched.commit:
            self._commit_moved(watched, raft)
        place = watched.log.configurations[-1] if watched.log.configurations else 0
        if cut or place != watched.configuration or server.members is not watched.members:
            watched.configuration = place
            self._configuration_moved(watched, raft, place)
        watched.members = server.members
        if new:
            too_much = queue_of_core(raft, event)
            self.require(not too_much, f"node {watched.node}: {too_much}")
        self._notice(raft, event, effects)
        if type(role) is Follower and role.leader and type(event) is AppendEntries:
            self._promises.verified(watched, role.verified, server.term)
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._promises.sent(watched, effect)  # type: ignore[arg-type]
            elif kind is Persist:
                watched.told.ordered(effect, watched.log)  # type: ignore[arg-type]
            elif kind is Apply:
                self._apply_ordered(watched, effect)  # type: ignore[arg-type]
            elif kind is Respond:
                wrong = watched.answers.answered(effect)  # type: ignore[arg-type]
                self.require(not wrong, f"node {watched.node}: {wrong}")
            elif kind is TakeSnapshot:
                self._snapshot_ordered(watched, effect.meta)  # type: ignore[union-attr]
            elif kind is Restore:
                self._restore_ordered(watched, effect.meta)  # type: ignore[union-attr]
            elif kind is Stop:
                self.all_answered(watched)

    def all_answered(self, watched: Watched) -> None:
        """Check for unanswered requests, after the core has stopped or faults have ended."""
        waiting = watched.answers.open
        self.require(not waiting, f"node {watched.node} never answered the requests {waiting[:5]}")

    def _notice(self, raft: Raft, event: Event | None, effects: Iterable[Effect]) -> None:
        """Count occurrences: without them, a run would prove little."""
        kind = type(event)
        if kind is ReadIndex or (type(event) is Requested and type(event.request) is Read):
            role = raft.role
            if type(role) is Leader and not role.settled and role.reading.queue.waiting:
                self.seen["read postponed until the first commit of a term"] += 1
            elif not any(type(effect) is Respond for effect in effects):
                self.seen["read that waited"] += 1
        for effect in effects:
            self.met[type(effect).__name__] += 1
            if type(effect) is Restore and event is not None:
                self.seen["snapshot restored from a leader"] += 1
            elif type(effect) is Stop:
                self.seen[f"core stopped: {effect.reason.value}"] += 1

    # The log.

    def _log_changed(self, watched: Watched, event: Event | None, cut: int, *, still_leads: bool) -> None:
        """Check a log from `cut` on, where it has changed."""
        self.require(cut > watched.commit, f"node {watched.node}: truncated from {cut}, committed {watched.commit}")
        self.require(not still_leads, f"node {watched.node}: a leader changed its own log from {cut} on")
        if type(event) is AppendEntries:
            self.seen["uncommitted tail overwritten by a new leader"] += 1

    def _configuration_moved(self, watched: Watched, raft: Raft, place: int) -> None:
        """Check the configuration in force: the last one in the log, at `place`, or else the snapshot's."""
        log, server = watched.log, raft.server
        in_force = server.configurations.index
        if place:
            self.require(
                in_force == place, f"node {watched.node}: the configuration of {in_force} is in force, not of {place}"
            )
            data = log.entries[place - log.base - 1].data
            self.require(
                data == server.members.encode(), f"node {watched.node}: other members are in force than in the log"
            )
        else:
            holds = server.snapshots.newest.members if server.snapshots.newest is not None else Members()
            self.require(
                in_force <= log.base and server.members == holds,
                f"node {watched.node}: a configuration of {in_force} is in force that no log holds",
            )
        if len(log.configurations) > 1:
            earlier = log.configurations[-2]
            self.require(
                earlier <= self.committed,
                f"node {watched.node}: members are changed at {place} before the change at {earlier} is committed",
            )

    def _took_office(self, watched: Watched, raft: Raft) -> None:
        term, members = watched.leads, raft.server.members
        first = self._leaders.setdefault(term, watched)
        self.require(first is watched, f"nodes {first.node} and {watched.node} both lead term {term}")
        self._promises.took_office(term, watched.log)
        self.seen["elections won"] += 1
        hard = watched.told.hard
        own = (hard.term, hard.vote) == (term, watched.node) or hard.term > term
        self.require(own, f"node {watched.node} leads term {term} with {hard} on its disk")
        grants = self._promises.voters_for(watched.node, term)
        voters = {node for node, disk in grants if disk == members.incarnation_of(node)}
        voters.add(watched.node)
        before = watched.members or members
        elected = any(majority_of_each_half(some, voters.__contains__) for some in (members, before))
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
        """Check a leader's commit: the entry must be durable on a majority of each half."""
        server, log = raft.server, watched.log
        commit = server.commit
        term = log.term_at(commit)
        members = server.members
        if members.joint or (watched.members is not None and watched.members.joint):
            self.seen["commit while joint"] += 1

        def holds(node: NodeId) -> bool:
            known = self._watched.get((node, members.incarnation_of(node)))
            return known is not None and known.stable.covers(commit, term or 0)

        before = watched.members or members
        durable = majority_of_each_half(members, holds) or majority_of_each_half(before, holds)
        self.require(durable, f"leader {watched.node} commits {commit} (term {term}) without a durable majority")
        self.require(
            term == watched.leads, f"leader {watched.node} of term {watched.leads} commits {commit}, of term {term}"
        )
        later = self._promises.later_leader_without(commit, term or 0, watched.leads)
        self.require(not later, f"the leader of term {later} lacks index {commit}, committed in {watched.leads}")
        for index in range(len(self._committed), commit + 1):
            chain, at = log.chain_at(index), log.term_at(index)
            if chain is None or at is None:
                self.fail(f"leader {watched.node} commits index {index}, which its log does not hold")
                return
            self._add_committed(index, at, chain)
        if self._marks and self._marks[-1][0] == watched.leads:
            self._marks.pop()
        self._marks.append((watched.leads, commit))

    def founded(self, watched: Watched, recovered: Recovered) -> None:
        """Count the founding entry as committed: every founder writes the same before anything else."""
        if not recovered.entries or recovered.entries[0].index != 1 or recovered.entries[0].kind is not MEMBERS:
            return
        entry = recovered.entries[0]
        disk = Members.decode(entry.data).incarnation_of(watched.node)
        self.require(
            disk in (0, watched.incarnation), f"node {watched.node} was founded with another disk than its own"
        )
        try:
            chain = self.ledger.add(b"", entry)
        except ModelMismatch:
            self.fail(f"node {watched.node} wrote another first entry than other founders did")
            return
        if self.committed == 0:
            self._add_committed(1, entry.term, chain)
            self._marks.append((0, 1))

    def _add_committed(self, index: int, term: int, chain: bytes) -> None:
        entry = self.ledger.entry(index, term)
        command = entry is not None and entry.kind is COMMAND
        self._committed.append((term, chain))
        self._commands.append(index if command else self._commands[-1])

    def _apply_ordered(self, watched: Watched, effect: Apply) -> None:
        node, upto = watched.node, effect.upto
        self.require(upto > watched.applied, f"node {node} applies up to {upto} after {watched.applied}")
        self.require(upto <= self.committed, f"node {node} applies index {upto}, which is not committed")
        if self.violation is not None:
            return
        committed: list[tuple[int, bytes]] = []
        for index in range(watched.applied + 1, upto + 1):
            entry = self.ledger.entry(index, self._committed[index][0])
            if entry is not None and entry.kind is COMMAND:
                committed.append((index, entry.data))
        self.require(
            list(effect.commands) == committed, f"node {node} applies up to {upto} something else than was committed"
        )
        watched.applied = upto
        term = self._committed[upto][0]
        self.require(watched.told.covers(upto, term), f"node {node} applies {upto} before it is durable")

    def _snapshot_ordered(self, watched: Watched, meta: SnapshotMeta) -> None:
        """Check a snapshot: at a committed index, with the configuration in force there."""
        log, index = watched.log, meta.index
        watched.snapshot_at, at = index, watched.applied
        self.require(index == at, f"node {watched.node}: a snapshot of index {index} where {at} is applied")
        self.require(log.term_at(index) == meta.term, f"node {watched.node}: a snapshot of index {index}, wrong term")
        earlier = [place for place in log.configurations if place <= index]
        if earlier:
            right = log.entries[earlier[-1] - log.base - 1].data == meta.members.encode()
            self.require(right, f"node {watched.node}: a snapshot at {index} with members of another index")

    def _restore_ordered(self, watched: Watched, meta: SnapshotMeta) -> None:
        """After a crash the node could not go on from where its machine stands, were the snapshot not its disk's."""
        watched.applied = watched.restore_at = meta.index
        there = watched.told.snapshot
        durable = there is not None and there.position == meta.position
        self.require(durable, f"node {watched.node} restores {meta.index} before the switch to it is durable")

    def machine_stands(self, watched: Watched, last: int, *, taken: bool) -> None:
        """Check the machine's position at its last snapshot, taken or restored.

        `last` is the index of the last command it had applied.
        """
        index = watched.snapshot_at if taken else watched.restore_at
        wanted = self._commands[index] if index <= self.committed else -1
        text = f"node {watched.node}: a snapshot of index {index} holds commands up to {last}, not {wanted}"
        self.require(last == wanted, text)

    def restarted(self, watched: Watched, recovered: Recovered) -> None:
        """Check the recovered state of a disk."""
        term = recovered.hard.term
        self.require(
            term >= watched.promised_term,
            f"node {watched.node} came back in term {term} after promising {watched.promised_term}",
        )
        watched.begin(recovered)
