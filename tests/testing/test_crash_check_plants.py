"""The crash disk's check and the store conformance kit, each against stores that break one promise.

Wrappers around the right store that do one thing wrong, and what the checks say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import attrs
import msgspec
import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DiskError, LogDamaged
from raft_core.ids import NO_INDEX, BootNumber, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.store import SnapshotReader, SnapshotWriter
from raft_core.wal.filesystem import Files
from raft_storage import FileStore
from raft_testing.disk.corruption_check import break_records, flip_bits
from raft_testing.disk.crash_check import StoreViolation, _Check, crash_disk_check
from raft_testing.disk.crash_disk import CrashDisk, FaultKind
from raft_testing.disk.script import LogState, Script, WriteBatch, make_script
from raft_testing.disk.store_conformance import FUNCTIONAL_CHECKS
from raft_testing.disk.trial import Standing
from raft_testing.faults.misconfiguration import Misconfigurations


class Right:
    """A store that does everything as it should, on a directory of its own."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.store = FileStore.open(
            "disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=4096, merge_bytes=2048
        )
        self.identity = self.store.identity

    def recover(self) -> Recovered:
        return self.store.recover()

    def form(self, members: Members) -> Recovered:
        return self.store.form(members)

    def write(self, batch: Sequence[Persist]) -> None:
        self.store.write(batch)

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        return self.store.create_snapshot(meta)

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        return self.store.resume_snapshot(meta, source)

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        return self.store.open_snapshot(meta)

    def close(self) -> None:
        self.store.close()


class Part:
    """A reader or a writer that does one thing differently."""

    def __init__(self, truth: Any, **changes: object) -> None:
        self._truth = truth
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._truth, name)


BATCHES: Final = tuple(Persist(WriteId(n), entries=(Entry.make(n, 1, b"x"),)) for n in (1, 2, 3))


def short_script() -> Script:
    """Three entries, one by one."""
    states = [LogState()]
    for persist in BATCHES:
        states.append(states[-1].after(persist))
    return Script(tuple(WriteBatch((persist,)) for persist in BATCHES), tuple(states), {})


SCRIPT: Final = short_script()


def checked(store: type[Right], part: Callable[[_Check], None], *, every: int = 1009) -> str:
    """What the check says of the store in this part; empty where it says nothing."""
    try:
        part(_Check(store, make_script(0), 0, every))
    except StoreViolation as violation:
        return str(violation)
    return ""


# What the crash disk's check must find.


class SameBoot(Right):
    def recover(self) -> Recovered:
        return attrs.evolve(super().recover(), boot=BootNumber(1))


def test_a_boot_number_that_is_given_out_twice_is_found() -> None:
    assert "boot number 1 was given out before" in checked(SameBoot, _Check.power_losses)


class OtherSnapshot(Right):
    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        reader = super().open_snapshot(meta)
        return Part(reader, chunks=lambda: [b"something else"])


def test_a_snapshot_that_reads_differently_is_found() -> None:
    assert "the snapshot holds something else" in checked(OtherSnapshot, flip_bits, every=100_003)


class Timid(Right):
    """It takes every torn tail for damage."""

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        if isinstance(files, CrashDisk) and any(name.startswith("0000000000000002") for name in files.names()):
            raise LogDamaged("0000000000000002.log", 0, "there is a second segment", "None")


def test_a_store_that_refuses_a_sound_disk_is_found() -> None:
    assert "refused to open: 0000000000000002.log" in checked(Timid, _Check.power_losses)


class Mistaken(Right):
    """It has a mistake in what it does with a second segment."""

    def recover(self) -> Recovered:
        if any(name.startswith("0000000000000002") for name in self.files.names()):
            raise KeyError("segments")
        return super().recover()


def test_a_mistake_in_a_store_is_told_with_its_place() -> None:
    assert ": refused to open: KeyError('segments')" in checked(Mistaken, _Check.power_losses)


class Crude(Right):
    """It stumbles over damage."""

    def __init__(self, files: Files) -> None:
        try:
            super().__init__(files)
        except LogDamaged as damage:
            raise KeyError(damage.file) from None


def test_stumbling_over_damage_is_no_refusal() -> None:
    assert "refused without naming file and offset: KeyError" in checked(Crude, flip_bits)
    assert "refused without naming file and offset: KeyError" in checked(Crude, break_records)


class KeepsWhatWasCut(Right):
    """It loses truncations that come without entries, and only those."""

    def write(self, batch: Sequence[Persist]) -> None:
        super().write([one if one.entries else msgspec.structs.replace(one, truncate_from=NO_INDEX) for one in batch])


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_loses_truncations_without_entries_is_found(seed: int) -> None:
    with pytest.raises(StoreViolation):
        crash_disk_check(KeepsWhatWasCut, script_seed=seed, every=1009)


class Unreadable(Right):
    """It does not look at the snapshot when it is opened, and then finds it damaged."""

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        raise LogDamaged("snapshot", 7, "it is damaged", "None")


def test_a_snapshot_that_is_recovered_and_cannot_be_read_is_found() -> None:
    says = checked(Unreadable, _Check.power_losses)
    assert "the snapshot that it recovered cannot be read: snapshot at offset 7" in says


class Swallows(Right):
    """It takes everything that happens in its calls for a failure of the disk's."""

    def write(self, batch: Sequence[Persist]) -> None:
        try:
            super().write(batch)
        except Exception as failure:
            raise DiskError(str(failure)) from None

    def recover(self) -> Recovered:
        return attrs.evolve(super().recover(), boot=BootNumber(1))


def test_what_is_found_in_the_middle_of_a_call_is_not_lost_with_it() -> None:
    assert "boot number 1 was given out before" in checked(Swallows, _Check.power_losses)


class Undecided(Right):
    """It finds the last entry at every second opening."""

    def recover(self) -> Recovered:
        recovered = super().recover()
        return recovered if recovered.boot % 2 else attrs.evolve(recovered, entries=recovered.entries[:-1])


def test_an_opening_that_finds_something_else_than_the_one_before_is_found() -> None:
    disk, check = CrashDisk(), _Check(Undecided, make_script(0), 0, 1)
    store = Right(disk)
    store.recover()
    store.write(BATCHES)

    with pytest.raises(StoreViolation):
        check.survives(disk.crash(), Standing(0, len(BATCHES), 1), "here", SCRIPT)


class NamesAnother(Right):
    def __init__(self, files: Files) -> None:
        try:
            super().__init__(files)
        except LogDamaged as damage:
            raise LogDamaged("another.log", damage.offset, damage.problem, damage.remedy) from None


class PointsBehind(Right):
    def __init__(self, files: Files) -> None:
        try:
            super().__init__(files)
        except LogDamaged as damage:
            raise LogDamaged(damage.file, 1_000_000, damage.problem, damage.remedy) from None


class Vague(Right):
    def __init__(self, files: Files) -> None:
        try:
            super().__init__(files)
        except LogDamaged:
            raise DiskError("something is wrong") from None


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (NamesAnother, "the error names another place: another.log"),
        (PointsBehind, "the error names another place: 0000000000000001.log at offset 1000000"),
        (Vague, "refused without naming file and offset"),
    ],
)
@pytest.mark.parametrize("part", [flip_bits, break_records])
def test_damage_that_is_not_named_with_its_place_is_found(
    store: type[Right], says: str, part: Callable[[_Check], None]
) -> None:
    assert says in checked(store, part)


class Lenient(Right):
    """It takes damage for a torn tail, and goes on with nothing."""

    def __init__(self, files: Files) -> None:
        try:
            super().__init__(files)
        except LogDamaged:
            for name in files.names():
                if name != "lock":
                    files.unlink(name)
            super().__init__(files)


@pytest.mark.parametrize("part", [flip_bits, break_records])
def test_damage_that_is_cut_off_is_found(part: Callable[[_Check], None]) -> None:
    assert "wanted" in checked(Lenient, part)


class GoesOn(Right):
    """After a failed sync it tries again, as if the second time told more than the first."""

    def write(self, batch: Sequence[Persist]) -> None:
        try:
            super().write(batch)
        except DiskError:
            self.store.close()
            self.store = FileStore.open("disk", node=1, cluster="c", files=self.files, incarnation=7)
            raise


class Rude(Right):
    """After a failure it refuses, but not with the error that says so."""

    broken = False

    def write(self, batch: Sequence[Persist]) -> None:
        if self.broken:
            raise DiskError("no")
        try:
            super().write(batch)
        except DiskError:
            self.broken = True
            raise


@pytest.mark.parametrize(
    ("store", "says"),
    [(GoesOn, "a store that had failed took another call"), (Rude, "not with StorageBroken")],
)
def test_a_store_that_acknowledges_after_a_failed_sync_is_found(store: type[Right], says: str) -> None:
    check = _Check(store, make_script(0), 0, 1)
    calls: list[Any] = []
    disk = CrashDisk()
    disk.watch = calls.append
    for _ in check.play(disk, Standing(), check.script):
        pass
    syncs = [call for call in calls if call.operation == "sync"][8:12]

    def fail_them(check: _Check) -> None:
        for call in syncs:
            check._fail(call, FaultKind.LOST_SYNC)

    assert says in checked(store, fail_them)


# What the conformance kit must find.


class FormedAlready(Right):
    def recover(self) -> Recovered:
        return attrs.evolve(super().recover(), hard=HardState(Term(1)))


class FormsAgain(Right):
    def form(self, members: Members) -> Recovered:
        try:
            return super().form(members)
        except CallerError:
            return Recovered.fresh(1, members)


class Forgets(Right):
    def recover(self) -> Recovered:
        recovered = super().recover()
        return attrs.evolve(recovered, entries=recovered.entries[:-1])


class NeverTruncates(Right):
    def write(self, batch: Sequence[Persist]) -> None:
        super().write([persist for persist in batch if not persist.truncate_from])


class LosesTheTail(Right):
    def recover(self) -> Recovered:
        recovered = super().recover()
        return attrs.evolve(recovered, entries=()) if recovered.snapshot is not None else recovered


class SwitchesBySelf(Right):
    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        writer = super().create_snapshot(meta)

        def finish() -> None:
            writer.finish()
            self.write([Persist(WriteId(100), snapshot=meta)])

        return Part(writer, finish=finish)


class KeepsOldSnapshots(Right):
    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        try:
            return super().open_snapshot(meta)
        except DiskError:
            return Part(None, close=lambda: None)


class NeverAborts(Right):
    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        return Part(super().resume_snapshot(meta, "anybody"))


class NeverCloses(Right):
    def close(self) -> None:
        """It stays open."""


class TakesGaps(Right):
    def write(self, batch: Sequence[Persist]) -> None:
        try:
            super().write(batch)
        except CallerError:
            return


PLANTED: Final = {
    "check_an_empty_disk_is_not_formed": FormedAlready,
    "check_the_boot_number_rises_with_every_opening": SameBoot,
    "check_forming_writes_the_founding_entry": FormsAgain,
    "check_everything_written_is_recovered": Forgets,
    "check_truncated_entries_do_not_come_back": NeverTruncates,
    "check_a_snapshot_that_the_log_holds_keeps_the_tail": LosesTheTail,
    "check_a_snapshot_that_the_log_does_not_hold_discards_it": Forgets,
    "check_a_snapshot_counts_only_once_switched_to": SwitchesBySelf,
    "check_an_open_snapshot_outlives_its_replacement": KeepsOldSnapshots,
    "check_a_received_snapshot_resumes": NeverAborts,
    "check_a_closed_store_does_nothing": NeverCloses,
    "check_a_write_that_does_not_fit_is_refused": TakesGaps,
}


def on_one_disk(store: type[Right]) -> Callable[[], Any]:
    disk = CrashDisk()

    def open_store() -> Right:
        disk.restart()
        return store(disk)

    return open_store


@pytest.mark.parametrize("check", FUNCTIONAL_CHECKS, ids=lambda check: check.__name__)
def test_every_check_of_the_kit_finds_the_store_that_breaks_it(check: Callable[[Callable[[], Any]], None]) -> None:
    check(on_one_disk(Right))

    with pytest.raises(StoreViolation):
        check(on_one_disk(PLANTED[check.__name__]))


# What the simulator must say of a mistake that a store does not notice.


def test_a_mistake_that_was_no_error_is_told_by_name() -> None:
    # A store that opens the disk of any other node.
    said: list[str] = []
    world: Any = SimpleNamespace(
        open_store=lambda disk, node, incarnation: Right(disk), fail=said.append, require=lambda right, text: None
    )
    disk = CrashDisk()
    Right(disk).close()
    node: Any = SimpleNamespace(harmed=False, disk=disk, id=3, incarnation=7)

    Misconfigurations(world, lambda node: None)._open_as_another(node)

    assert said == ["a mistake was not an error: opening the disk of node 3 as node 103 was to raise DiskError"]
