"""Observers of a cluster under faults: status, recordings, recovery from quorum loss, descriptions.

`Probes` asks nodes for their status and for reasons, replays the dumps of recorders, recovers lost or crashed disks,
and describes events and effects in words. No probe may change a node, raise, or get a false answer. Probes have their
own random streams, so that leaving them out changes no other choice of the seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import attrs
import msgspec

from raft_core._state import alike
from raft_core.describe import describe
from raft_core.effects import Effect
from raft_core.entries import MEMBERS
from raft_core.errors import CallerError, DiskError, WrongDirectory
from raft_core.events import Event
from raft_core.ids import Index, NodeId
from raft_core.membership import Members
from raft_core.node.limits import SECOND
from raft_core.quorum_loss import Statement, best_survivor, log_end, plan_quorum_loss_recovery
from raft_core.raft import Raft
from raft_core.recorder import EVENT_OVERHEAD, Recorder
from raft_core.recovered import Recovered
from raft_testing.checkers.reference_model import DiskModel, Ledger, ModelMismatch
from raft_testing.checkers.state_machine import CheckedStateMachine
from raft_testing.checkers.status import (
    host_contradictions,
    said_wrongly,
    status_contradictions,
    wrong_answers,
    wrong_overview,
)
from raft_testing.disk.crash_disk import Call, CrashDisk
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World
from raft_testing.trace.html import draw
from raft_testing.trace.replay import replay, trace_of

__all__ = ["Probes", "RecoveredDisk", "Salvage"]


@final
@attrs.frozen
class RecoveredDisk:
    """The result of a recovery from quorum loss.

    `survivor`: the contents of the old disk; `founded`: those of the new one; `snapshot`: the machine's state there,
    None without a snapshot.
    """

    survivor: Recovered
    statement: Statement
    founded: Recovered
    snapshot: bytes | None


Salvage: TypeAlias = Callable[[CrashDisk, CrashDisk], RecoveredDisk]
"""Founds a cluster of another name on what the first disk holds, upon the second, which is empty. Raise `DiskError`
where the first is damaged, and `CallerError` where it has never been part of a cluster."""

_ASKED_EVERY: Final = 9 * SECOND
_STILL_SHARE: Final = 0.25
"""Of the questions, those after which the core is compared with what it was before."""
_RECORDED_SEEDS: Final = 0.1
_REPLAYED_EVENTS: Final = 3000
"""How many events are replayed per seed at most."""
_DRAWN_SHARE: Final = 0.05
"""Of the recordings that are replayed, those that are drawn."""
_READ_WHOLE: Final = 0.02
"""Seeds in which every event and effect is put in words; in the others it is one step of so many:"""
_READ_EVERY: Final = 120
_SALVAGED_SEEDS: Final = 0.25
_SALVAGED_CRASHES: Final = 0.15
_FAR: Final = 1 << 63
_STRANGER: Final = NodeId(99)


@final
class Probes:
    """All of them, for one world.

    The simulation reports events to them; they report violations to the safety checker. `salvage`: recovers a disk of
    this store, or None.
    """

    def __init__(self, world: World, rng: Rng, salvage: Salvage | None) -> None:
        self._world = world
        self._rng = rng.fork("inquirers")
        self._recordings = _Recordings(world, rng.fork("recorders"))
        self._rescuers = _Rescuers(world, rng.fork("rescuers"), salvage)
        self._reader_dice = rng.fork("readers")
        self._reads_all = self._reader_dice.chance(_READ_WHOLE)
        self._steps_to_read = 1

    def begin(self) -> None:
        """Ask nodes at random, again and again."""
        self._world.at(self._rng.around(_ASKED_EVERY), self._inquire)

    def recorder_for(self, node: SimulatedNode, step: Callable[[Raft, Event | None], list[Effect]]) -> Recorder | None:
        """Return the recorder of this life of the node, if it has one; `step` replaces the recorded step."""
        return self._recordings.recorder_for(node, step)

    def stepped(self, node: SimulatedNode, event: Event | None, effects: list[Effect]) -> None:
        """Note a step of a core."""
        if node.id in self._recordings.kept:
            self._recordings.kept[node.id].append(effects)
        self._steps_to_read -= 1
        if not self._steps_to_read or self._reads_all:
            self._steps_to_read = self._reader_dice.between(1, 2 * _READ_EVERY)
            self._read(node, (event, *effects))

    def dying(self, node: SimulatedNode) -> None:
        """Probe a node about to end."""
        if self._over:
            return
        self._recordings.look(node, 0.3)
        if self._rng.chance(0.2):
            self._ask(node, announced=False)

    def disk_left(self, node: SimulatedNode) -> None:
        """Probe the disk of a dead node."""
        if not self._over:
            self._rescuers.crashed(node)

    def disk_refused(self, node: SimulatedNode) -> None:
        """Probe a disk that its node refused as damaged."""
        self._rescuers.try_damaged(node)

    def last_look(self, members: Sequence[SimulatedNode]) -> None:
        """Probe the disks at the end of the run."""
        for node in self._world.nodes.values():
            self._recordings.look(node, 1.0)
        self._rescuers.compare(members)

    @property
    def _over(self) -> bool:
        return self._world.over or self._world.safety.violation is not None

    # Words.

    def _read(self, node: SimulatedNode, things: Sequence[Event | Effect | None]) -> None:
        safety = self._world.safety
        for thing in things:
            try:
                text = describe(thing)
            except Exception as failure:
                safety.fail(f"node {node.id}: nobody can say what {thing!r} is: {type(failure).__name__}: {failure}")
                return
            safety.require(text.isprintable() and bool(text), f"node {node.id}: no line is {text!r} of {thing!r}")
        self._world.seen["probes: events and effects in words"] += len(things)

    # Questions.

    def _inquire(self) -> None:
        if self._over:
            return
        node = self._rng.choice(list(self._world.nodes.values()))
        self._ask(node, announced=node.alive)
        self._recordings.look(node, 0.1)
        self._world.at(self._rng.around(_ASKED_EVERY), self._inquire)

    def _ask(self, node: SimulatedNode, *, announced: bool) -> None:
        """Ask a node, alive or dead, for everything it can be asked; a dead one answers for its last state.

        `announced`: its announcements have arrived.
        """
        host, raft = node.host, node.last_raft
        if host is None:
            return
        before = raft.copy() if raft is not None and self._rng.chance(_STILL_SHARE) else None
        try:
            wrong = self._host_says(node, announced) + ([] if raft is None else self._core_says(node, raft))
        except Exception as failure:
            self._complain(node, [f"a question was answered with {type(failure).__name__}: {failure}"])
            return
        if before is not None and not alike(raft, before):
            wrong.append("it is not what it was before it was asked")
        self._world.seen["probes: nodes asked how they are"] += 1
        self._world.seen["probes: cores compared before and after"] += before is not None
        self._complain(node, wrong)

    def _complain(self, node: SimulatedNode, wrong: Sequence[str]) -> None:
        for text in wrong:
            self._world.fail(f"node {node.id}, asked how it is: {text}")

    @staticmethod
    def _host_says(node: SimulatedNode, announced: bool) -> list[str]:
        host, raft = node.host, node.last_raft
        assert host is not None
        status = host.status
        wrong = list(host_contradictions(status, None if raft is None else raft.status))
        standing = node.standing
        if announced and (status.role, status.leader) != (standing.role, standing.leader):
            wrong.append(f"the node says {status.role.value} under {status.leader}, it announced {standing}")
        if announced and standing.term not in (status.term, 0):  # the term of a founding is not announced
            wrong.append(f"the node says term {status.term}, it announced {standing}")
        if status != host.status:
            wrong.append("two looks at one moment differ")
        if host.explain() != (() if raft is None else raft.explain()):
            wrong.append("the node explains other things than its core")
        return wrong

    def _core_says(self, node: SimulatedNode, raft: Raft) -> list[str]:
        rng, status = self._rng, raft.status
        wrong = list(said_wrongly(status))
        if node.alive and not raft.stopped:
            wrong += status_contradictions(status, node.watched)
        wrong += wrong_overview(raft, status, raft.explain())
        places = (status.applied, status.commit, status.commit + 1, status.last_index, status.last_index + 1)
        index = rng.choice((None, *places, 0, -1, 1, status.first_index - 1, _FAR))
        peer = rng.choice(
            (None, *[peer.node for peer in status.peers], *status.members.nodes, status.node, 0, _STRANGER)
        )
        if index is not None or peer is not None:
            found = raft.explain(
                index=None if index is None else Index(index), peer=None if peer is None else NodeId(peer)
            )
            wrong += wrong_answers(raft, status, index, peer, found)
        return wrong


@final
class _Recordings:
    """Nodes with a recorder. `kept`: by node, the effects of every step of this life."""

    def __init__(self, world: World, rng: Rng) -> None:
        self._world = world
        self._rng = rng
        self._takes_part = rng.chance(_RECORDED_SEEDS)
        self._left = _REPLAYED_EVENTS
        self._recorders: dict[NodeId, tuple[Recorder, int, int]] = {}
        self.kept: dict[NodeId, list[list[Effect]]] = {}

    def recorder_for(self, node: SimulatedNode, step: Callable[[Raft, Event | None], list[Effect]]) -> Recorder | None:
        """Record some nodes of some seeds, within bounds that are sometimes tiny."""
        self.kept.pop(node.id, None)
        if not self._takes_part or not self._rng.chance(0.5):
            return None
        self.kept[node.id] = []
        events, size = self._rng.choice(((2, 1000), (100, 20_000), (100, 2), (20_000, 30_000), (1000, 1 << 23)))
        recorder = Recorder(max_events=events, max_bytes=size, step=step)
        self._recorders[node.id] = (recorder, events, size)
        return recorder

    def look(self, node: SimulatedNode, share: float) -> None:
        """Replay the node's recording, with this probability, and compare it with the node's behaviour."""
        if node.host is None or self._left <= 0 or not self._takes_part or not self._rng.chance(share):
            return
        wrong = self._wrong(node)
        if wrong is not None:
            self._world.fail(f"the recording of node {node.id}: {wrong}")

    def _wrong(self, node: SimulatedNode) -> str | None:
        host, raft, kept = node.host, node.last_raft, self.kept.get(node.id)
        assert host is not None
        try:
            dump = host.recording()
        except CallerError:
            return "nothing was recorded" if kept else None
        if not kept or raft is None:
            return "something was recorded before the first step"
        try:
            replayed = replay(dump)
        except Exception as failure:
            return f"it cannot be replayed: {type(failure).__name__}: {failure}"
        count = len(replayed.events)
        self._left -= count
        self._world.seen["probes: recordings replayed"] += 1
        self._world.seen["probes: steps replayed from recordings"] += count
        if not replayed.faithful or replayed.fingerprint != raft.fingerprint() or replayed.end != raft.status:
            return f"its {count} events lead to another state"
        if count > len(kept) or list(replayed.effects) != [tuple(effects) for effects in kept[-count:]]:
            return f"its {count} events have other effects than {len(kept)} steps had"
        if replayed.failure:
            return f"it raised {replayed.failure}"
        recorder, most_events, most_bytes = self._recorders[node.id]
        if count > max(2, most_events) and not raft.stopped:
            return f"it holds {count} events, {most_events} are allowed"
        charged = recorder.kept_bytes if recorder.kept_events == count else -1
        largest = EVENT_OVERHEAD + max([len(msgspec.msgpack.encode(event)) for event in replayed.events])
        if not count * EVENT_OVERHEAD <= charged <= most_bytes + 2 * largest and not raft.stopped:  # one of each half
            return f"it says {recorder.kept_events} events of {charged} bytes, {most_bytes} are allowed"
        return self._damaged(dump) or self._drawn(dump, count)

    def _damaged(self, dump: bytes) -> str | None:
        """Return a violation if a dump with a flipped bit or a cut end is accepted."""
        place = self._rng.below(len(dump))
        flipped = bytes((dump[place] ^ 1 << self._rng.below(8),))
        strange = b"raft recording 1\n" + zlib.crc32(flipped).to_bytes(4, "little") + flipped
        for bad in (dump[:place] + flipped + dump[place + 1 :], dump[:place], strange):
            try:
                replay(bad)
            except CallerError:
                continue
            return f"it is replayed although byte {place} is not what was dumped"
        return None

    def _drawn(self, dump: bytes, count: int) -> str | None:
        if not self._rng.chance(_DRAWN_SHARE):
            return None
        records = trace_of(dump)
        page = draw(records[-40:], "recording")
        self._world.seen["probes: recordings drawn"] += 1
        if len(records) != count or any(not record.event for record in records) or records[-1].violation:
            return f"its trace of {len(records)} records does not tell {count} steps"
        return None if page.lower().startswith("<!doctype html>") and "<svg" in page else "it is not drawn as a page"


@final
class _Rescuers:
    """People who found a new cluster on a disk that was lost, or might have been."""

    def __init__(self, world: World, rng: Rng, salvage: Salvage | None) -> None:
        self._world = world
        self._rng = rng
        self._salvage = salvage
        self._takes_part = rng.chance(_SALVAGED_SEEDS)

    def crashed(self, node: SimulatedNode) -> None:
        """Treat a dead node's disk, now and then, as the only survivor."""
        if self._takes_part and self._rng.chance(_SALVAGED_CRASHES):
            self._try(node, damaged=node.harmed)

    def try_damaged(self, node: SimulatedNode) -> None:
        """Try to recover from a damaged disk that its node refused."""
        self._try(node, damaged=True)

    def compare(self, members: Sequence[SimulatedNode]) -> None:
        """Of all disks, the best has everything that was committed."""
        if not self._takes_part or self._world.safety.violation is not None:
            return
        found = [salvaged.survivor for node in members if (salvaged := self._try(node, damaged=False)) is not None]
        if not found:
            return
        if not _refused(lambda: best_survivor(())) or not _refused(
            lambda: plan_quorum_loss_recovery(found[0], found[0].identity)
        ):
            self._world.fail("salvage founds a cluster on nothing, or under the old name")
        best, committed = log_end(found[best_survivor(found)]), self._world.committed
        if best.index < committed:
            self._world.fail(f"the best of {len(found)} survivors ends at {best}, {committed} is committed")
        self._world.seen["probes: best survivor chosen"] += 1

    def _try(self, node: SimulatedNode, *, damaged: bool) -> RecoveredDisk | None:
        """Return the result of a recovery, which must not change the old disk nor invent data."""
        if self._salvage is None:
            return None
        disk, seen, fail = node.disk.twin(), self._world.seen, self._world.fail
        calls: list[Call] = []
        disk.watch = calls.append
        salvaged: RecoveredDisk | None = None
        try:
            salvaged = self._salvage(disk, CrashDisk())
        except DiskError as failure:
            if not damaged and not (isinstance(failure, WrongDirectory) and self._empty(node)):
                fail(f"node {node.id}: salvage refused a disk that nothing happened to: {failure}")
            seen["probes: salvage refused a damaged disk"] += damaged
        except CallerError as failure:
            if not self._empty(node):
                fail(f"node {node.id}: salvage refused a disk of the cluster: {failure}")
        except Exception as failure:
            fail(f"node {node.id}: salvage raised {type(failure).__name__}: {failure}")
        if any(call.changes for call in calls) or not _alike(disk, node.disk):
            fail(f"node {node.id}: salvage changed the disk that it was to look at")
        if salvaged is not None:
            seen["probes: disks salvaged"] += 1
            seen["probes: entries rescued"] += len(salvaged.survivor.entries)
            seen["probes: snapshots rescued"] += salvaged.snapshot is not None
            wrong = self._untrue(node, salvaged)
            if wrong is not None:
                fail(f"node {node.id}, salvaged: {wrong}")
        return salvaged

    @staticmethod
    def _empty(node: SimulatedNode) -> bool:
        """Nothing was ever acknowledged there."""
        stable = node.watched.stable
        return not stable.entries and stable.snapshot is None

    def _untrue(self, node: SimulatedNode, salvaged: RecoveredDisk) -> str | None:
        """Everything that was brought out has been on this disk, and in the cluster."""
        survivor, safety = salvaged.survivor, self._world.safety
        try:
            _copy(node.watched.stable).recovered(survivor)
            _known_to(safety.ledger, survivor)
        except ModelMismatch as failure:
            return str(failure)
        statement, founded = salvaged.statement, salvaged.founded
        if statement.last != log_end(survivor) or statement.known_commit > max(1, safety.committed):
            return f"stated end {statement.last}, commit {statement.known_commit}; {safety.committed} is committed"
        if not all(line.isprintable() and line for line in statement.text().split("\n")):
            return f"no statement is {statement.text()!r}"
        if founded.entries[:-1] != survivor.entries or founded.snapshot != survivor.snapshot:
            return "the new disk does not hold what the old one did"
        last = founded.entries[-1] if founded.entries else None
        if last is None or last.kind is not MEMBERS or Members.decode(last.data).nodes != (founded.identity.node,):
            return f"the new cluster begins with {last}"
        return self._snapshot_untrue(survivor, salvaged.snapshot)

    def _snapshot_untrue(self, survivor: Recovered, snapshot: bytes | None) -> str | None:
        if (snapshot is None) != (survivor.snapshot is None):
            return "a snapshot is missing, or made up"
        if snapshot is None:
            return None
        try:
            CheckedStateMachine(self._world.new_machine(), self._world.replicas).restore([snapshot])
        except Exception as failure:
            return f"a machine cannot restore its snapshot: {type(failure).__name__}: {failure}"
        return None


def _refused(question: Callable[[], object]) -> bool:
    try:
        question()
    except CallerError:
        return True
    return False


def _alike(one: CrashDisk, other: CrashDisk) -> bool:
    """Return whether both disks have the same names, bytes and unsynced changes."""
    names = one.listing()
    if names != other.listing() or one.unsynced != other.unsynced:
        return False
    return all(one.content(name) == other.content(name) for name in names)


def _copy(model: DiskModel) -> DiskModel:
    twin = DiskModel()
    twin.hard, twin.snapshot, twin.pending = model.hard, model.snapshot, list(model.pending)
    twin.entries, twin.ever = dict(model.entries), set(model.ever)
    return twin


def _known_to(ledger: Ledger, found: Recovered) -> None:
    """Raise `ModelMismatch` if an entry, or its past, was in no log."""
    before = ledger.chain(found.snapshot.index, found.snapshot.term) if found.snapshot is not None else b""
    for entry in found.entries:
        if ledger.entry(entry.index, entry.term) is None and entry.index == len(found.entries) == 1:
            return  # a founding that no core has seen yet; the disk's own model knows it
        if before is None or ledger.entry(entry.index, entry.term) is None:
            raise ModelMismatch(f"index {entry.index}, term {entry.term} was in no log")
        before = ledger.add(before, entry)
