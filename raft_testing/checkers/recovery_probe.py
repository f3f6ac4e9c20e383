"""Recovery from quorum loss is tried on copies of disks: those of crashed nodes, damaged ones, and all at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import attrs

from raft_core.entries import MEMBERS, Entry, EntryKind, LogPosition, SnapshotMeta
from raft_core.errors import CallerError, DiskError, WrongDirectory
from raft_core.membership import Members
from raft_core.quorum_loss import Statement, best_survivor, log_end, plan_quorum_loss_recovery
from raft_core.recovered import Recovered
from raft_testing.checkers.reference_model import DiskModel, Ledger, ModelMismatch
from raft_testing.checkers.state_machine import CheckedStateMachine
from raft_testing.disk.crash_disk import Call, CrashDisk
from raft_testing.rng import Rng
from raft_testing.sim.node import SimulatedNode
from raft_testing.sim.world import World

__all__ = ["RecoverDisk", "RecoveredDisk", "RecoveryProbe"]

RECOVERED_SEEDS: Final = 0.25
"""Share of seeds in which recovery is tried."""
RECOVERED_CRASHES: Final = 0.15
"""Share of crashes after which recovery is tried."""


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


RecoverDisk: TypeAlias = Callable[[CrashDisk, CrashDisk], RecoveredDisk]
"""Founds a cluster of another name on what the first disk holds, upon the second, which is empty. Raise `DiskError`
where the first is damaged, and `CallerError` where it has never been part of a cluster."""


@final
class RecoveryProbe:
    """Recovery from quorum loss, tried on copies of disks."""

    def __init__(self, world: World, rng: Rng, recover: RecoverDisk | None) -> None:
        self._world = world
        self._rng = rng
        self._recover = recover
        self._takes_part = rng.chance(RECOVERED_SEEDS)

    def crashed(self, node: SimulatedNode) -> None:
        """Treat a dead node's disk, now and then, as the only survivor."""
        if self._takes_part and self._rng.chance(RECOVERED_CRASHES):
            self._try(node, damaged=node.harmed)

    def try_damaged(self, node: SimulatedNode) -> None:
        """Try to recover from a damaged disk, refused by its node."""
        self._try(node, damaged=True)

    def compare(self, members: Sequence[SimulatedNode]) -> None:
        """Check that the best of all disks has everything committed."""
        if not self._takes_part or self._world.safety.violation is not None:
            return
        tried = [self._try(node, damaged=False) for node in members]
        found = [result.survivor for result in tried if result is not None]
        if not found:
            return
        if not _refused(lambda: best_survivor(())) or not _refused(
            lambda: plan_quorum_loss_recovery(found[0], found[0].identity)
        ):
            self._world.fail("recovery founds a cluster on nothing, or under the old name")
        best, committed = log_end(found[best_survivor(found)]), self._world.committed
        if best.index < committed:
            self._world.fail(f"the best of {len(found)} survivors ends at {best}, {committed} is committed")
        self._world.seen["probes: best survivor chosen"] += 1

    def _try(self, node: SimulatedNode, *, damaged: bool) -> RecoveredDisk | None:
        """Return the result of a recovery, which must not change the old disk nor invent data."""
        if self._recover is None:
            return None
        disk, seen, fail = node.disk.twin(), self._world.seen, self._world.fail
        calls: list[Call] = []
        disk.watch = calls.append
        found: RecoveredDisk | None = None
        try:
            found = self._recover(disk, CrashDisk())
        except DiskError as failure:
            if not damaged and not (isinstance(failure, WrongDirectory) and self._empty(node)):
                fail(f"node {node.id}: recovery refused an intact disk: {failure}")
            seen["probes: recovery refused a damaged disk"] += damaged
        except CallerError as failure:
            if not self._empty(node):
                fail(f"node {node.id}: recovery refused a disk of the cluster: {failure}")
        except Exception as failure:
            fail(f"node {node.id}: recovery raised {type(failure).__name__}: {failure}")
        if any(call.changes for call in calls) or not _alike(disk, node.disk):
            fail(f"node {node.id}: recovery changed the disk that it was to look at")
        if found is not None:
            seen["probes: disks recovered"] += 1
            seen["probes: entries rescued"] += len(found.survivor.entries)
            seen["probes: snapshots rescued"] += found.snapshot is not None
            wrong = self._untrue(node, found)
            if wrong is not None:
                fail(f"node {node.id}, recovered: {wrong}")
        return found

    @staticmethod
    def _empty(node: SimulatedNode) -> bool:
        """Nothing was ever acknowledged there."""
        stable = node.watched.stable
        return not stable.entries and stable.snapshot is None

    def _untrue(self, node: SimulatedNode, found: RecoveredDisk) -> str | None:
        """Return an entry or a snapshot that was recovered but never was on this disk, or in the cluster."""
        survivor, safety = found.survivor, self._world.safety
        try:
            _copy(node.watched.stable).recovered(survivor)
            _known_to(safety.ledger, survivor)
        except ModelMismatch as failure:
            return str(failure)
        statement, founded = found.statement, found.founded
        if statement.last != log_end(survivor) or statement.known_commit > max(1, safety.committed):
            return f"stated end {statement.last}, commit {statement.known_commit}; {safety.committed} is committed"
        if not all(line.isprintable() and line for line in statement.text().split("\n")):
            return f"no statement is {statement.text()!r}"
        if [_told(entry) for entry in founded.entries[:-1]] != [_told(entry) for entry in survivor.entries]:
            return "the new disk does not hold what the old one did"
        if _position(founded.snapshot) != _position(survivor.snapshot):
            return "the new disk does not hold the snapshot of the old one"
        known = [Members.decode(entry.data) for entry in founded.entries if entry.kind is MEMBERS]
        known += [founded.snapshot.members] if founded.snapshot is not None else []
        if any(disk != founded.identity.incarnation for members in known for _, disk in members.incarnations):
            return "the new disk holds a configuration that names a disk of the old cluster"
        last = founded.entries[-1] if founded.entries else None
        if last is None or last.kind is not MEMBERS or Members.decode(last.data).nodes != (founded.identity.node,):
            return f"the new cluster begins with {last}"
        return self._snapshot_untrue(survivor, found.snapshot)

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


def _told(entry: Entry) -> tuple[int, int, EntryKind, bytes]:
    """Return what must be kept of an entry: all but the members in a configuration."""
    return entry.index, entry.term, entry.kind, b"" if entry.kind is MEMBERS else entry.data


def _position(snapshot: SnapshotMeta | None) -> LogPosition | None:
    return None if snapshot is None else snapshot.position


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
