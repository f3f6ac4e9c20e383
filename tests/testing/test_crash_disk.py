"""The crash disk keeps its own promises, the file store survives it, and stores with planted bugs do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState
from raft_core.errors import LogDamaged
from raft_core.ids import Term, WriteId
from raft_core.recovered import Recovered
from raft_core.store import Store
from raft_core.wal.filesystem import File, FileFailed, FileMissing, Files, LockHeld, NoSpace, read_whole, write_whole
from raft_core.wal.layout import ANCHOR, IDENTITY, new_name, read_anchor, segment_number
from raft_storage import FileStore, MemoryStore
from raft_testing import __main__ as testing_command
from raft_testing.__main__ import main, open_for_crash_check
from raft_testing.disk.corruption_check import break_records, flip_bits
from raft_testing.disk.crash_check import CrashReport, OpenOnFiles, StoreViolation, _Check, crash_disk, crash_disk_check
from raft_testing.disk.crash_disk import SECTOR, CrashDisk, Fault, FaultKind, PowerLost
from raft_testing.disk.script import WriteBatch, make_script, plain_script
from raft_testing.disk.store_conformance import FUNCTIONAL_CHECKS


def open_store(files: Files, *, merge_bytes: int = 2048) -> FileStore:
    return FileStore.open(
        "disk", node=1, cluster="c", files=files, incarnation=7, segment_bytes=4096, merge_bytes=merge_bytes
    )


# The disk itself.


def durable_file(disk: CrashDisk, name: str, content: bytes) -> File:
    file = disk.create(name)
    file.write_at(0, content)
    file.sync()
    disk.sync_directory()
    return file


def test_what_was_synced_survives_and_what_was_not_does_not() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"a" * SECTOR)
    file.write_at(0, b"b" * SECTOR)
    assert read_whole(disk, "f") == b"b" * SECTOR
    assert disk.crash().content("f") == b"a" * SECTOR


def test_every_subset_of_unsynced_sectors_can_survive() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", bytes(3 * SECTOR))
    file.write_at(0, b"x" * 3 * SECTOR)
    seen = set()
    for size in range(4):
        for survivors in combinations(range(disk.unsynced), size):
            content = disk.crash(survivors).content("f")
            seen.add(tuple(content[start : start + 1] for start in range(0, 3 * SECTOR, SECTOR)))
    assert disk.unsynced == 3
    assert len(seen) == 8


def test_a_sector_written_twice_survives_in_either_version_or_not_at_all() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"0" * SECTOR)
    file.write_at(0, b"1")
    file.write_at(1, b"2")
    starts = {disk.crash(survivors).content("f")[:2] for survivors in ((), (0,), (1,), (0, 1))}
    assert starts == {b"00", b"10", b"12"}


def test_a_new_size_survives_apart_from_the_bytes() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"abc")
    file.write_at(3, b"def")
    assert disk.unsynced == 2
    assert disk.crash([0]).content("f") == b"abc"
    assert disk.crash([1]).content("f") == b"abc\0\0\0"
    assert disk.crash([0, 1]).content("f") == b"abcdef"


def test_a_name_needs_a_sync_of_its_own() -> None:
    disk = CrashDisk()
    file = disk.create("f")
    file.write_at(0, b"content")
    file.sync()
    assert disk.crash().names() == []
    assert disk.crash([0]).content("f") == b"content"


def test_a_rename_is_atomic_and_its_order_is_not_kept() -> None:
    disk = CrashDisk()
    durable_file(disk, "old", b"1")
    durable_file(disk, "new", b"2")
    disk.rename("new", "old")
    disk.create("later")
    assert read_whole(disk.crash(), "old") == b"1"
    renamed = disk.crash([0])
    assert (renamed.names(), renamed.content("old")) == (["old"], b"2")
    assert disk.crash([1]).names() == ["later", "new", "old"]


def test_an_unlinked_file_can_come_back_and_stays_readable_while_open() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"content")
    disk.unlink("f")
    assert file.read_at(0, 9) == b"content"
    assert disk.crash().names() == ["f"]
    assert disk.crash([0]).names() == []


def test_a_lost_sync_keeps_showing_what_it_dropped() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"old")
    file.write_at(0, b"new")
    disk.faults[disk.calls + 1] = Fault(FaultKind.LOST_SYNC)
    with pytest.raises(FileFailed, match="sync f"):
        file.sync()
    file.sync()
    assert file.read_at(0, 3) == b"new"
    assert disk.crash(range(disk.unsynced)).content("f") == b"old"


def test_faults_come_at_the_call_that_they_are_planned_for() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"")
    disk.faults[disk.calls + 2] = Fault(FaultKind.ERROR)
    disk.faults[disk.calls + 3] = Fault(FaultKind.NO_SPACE)
    disk.faults[disk.calls + 4] = Fault(FaultKind.SHORT)
    assert file.write_at(0, b"abcd") == 4
    with pytest.raises(FileFailed):
        file.write_at(4, b"efgh")
    with pytest.raises(NoSpace):
        file.write_at(4, b"efgh")
    assert file.write_at(4, b"EFGH") == 2
    assert file.read_at(0, 99) == b"abcdEF"


def test_a_short_write_is_gone_on_with() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"")
    disk.faults[disk.calls + 1] = Fault(FaultKind.SHORT)
    disk.faults[disk.calls + 2] = Fault(FaultKind.SHORT)
    write_whole(file, 0, bytes(range(100)))
    assert read_whole(disk, "f") == bytes(range(100))


def test_a_file_that_takes_nothing_is_an_error_not_an_endless_loop() -> None:
    class Stuck:
        name = "stuck"

        def write_at(self, offset: int, data: bytes) -> int:
            return 0

    with pytest.raises(FileFailed):
        write_whole(Stuck(), 0, b"x")  # type: ignore[arg-type]


def test_after_a_power_loss_nothing_is_answered() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"")
    disk.faults[disk.calls + 1] = Fault(FaultKind.POWER, taken=2)
    with pytest.raises(PowerLost):
        file.write_at(0, b"abcd")
    for attempt in (lambda: file.read_at(0, 1), file.sync, disk.names, lambda: disk.open("f")):
        with pytest.raises(PowerLost):
            attempt()
    assert disk.crash(range(disk.unsynced)).content("f") == b"ab"


def test_a_restarted_process_sees_the_cache_and_the_old_one_is_dead() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"old")
    file.write_at(0, b"new")
    disk.lock("lock")
    with pytest.raises(LockHeld):
        disk.lock("lock")
    disk.restart()
    disk.lock("lock")
    assert read_whole(disk, "f") == b"new"
    with pytest.raises(FileFailed):
        file.sync()
    assert disk.crash().content("f") == b"old"


def test_a_full_disk_refuses_what_does_not_fit() -> None:
    disk = CrashDisk(capacity=10)
    file = durable_file(disk, "f", b"12345678")
    with pytest.raises(NoSpace):
        file.write_at(8, b"abc")
    assert file.write_at(0, b"abc") == 3
    with pytest.raises(NoSpace):
        disk.create("g").preallocate(3)


def test_changes_behind_the_stores_back_survive_power_losses() -> None:
    disk = CrashDisk()
    durable_file(disk, "f", b"a")
    disk.flip("f", 1)
    assert disk.content("f") == disk.crash().content("f") == b"c"
    disk.overwrite("f", b"other")
    assert disk.crash().content("f") == b"other"
    disk.remove("f")
    with pytest.raises(FileMissing):
        disk.crash().open("f")


def test_disks_of_equal_bytes_have_equal_digests_and_an_unsynced_one_has_none() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"a")
    before = disk.digest()
    assert before is not None
    file.write_at(0, b"b")
    assert disk.digest() is None
    assert disk.crash().digest() == disk.twin().crash().digest() == before
    assert disk.crash([0]).digest() not in (before, None)
    disk.faults[disk.calls + 1] = Fault(FaultKind.LOST_SYNC)
    with pytest.raises(FileFailed):
        file.sync()
    assert disk.digest() is None  # readers see what the medium never got

    named = disk.crash()
    named.rename("f", "g")
    assert named.digest() is None
    named.sync_directory()
    assert named.digest() not in (before, None)


def test_a_twin_is_independent() -> None:
    disk = CrashDisk()
    file = durable_file(disk, "f", b"a")
    file.write_at(0, b"b")
    twin = disk.twin()
    write_whole(twin.open("f"), 0, b"c")
    assert (disk.content("f"), twin.content("f"), twin.crash().content("f")) == (b"b", b"c", b"a")


# The whole check.


def test_a_script_is_long_enough_and_has_everything_in_it() -> None:
    for seed in range(5):
        script = make_script(seed)
        kinds = [type(step).__name__ for step in script.steps]
        assert len(kinds) >= 30
        assert kinds.count("TakeOne") == 3
        assert kinds.count("Reopen") == 2
        writes = [persist for step in script.steps if type(step) is WriteBatch for persist in step.batch]
        assert sum(bool(persist.truncate_from) for persist in writes) >= 2
        assert len(script.states) == 1 + len(writes)


def test_scripts_cut_entries_off_with_nothing_in_their_place() -> None:
    batches = [step.batch for seed in range(20) for step in make_script(seed).steps if type(step) is WriteBatch]
    bare = [(batch, one) for batch in batches for one in batch if one.truncate_from and not one.entries]
    assert len(bare) == 3 * 20
    assert sum(len(batch) > 1 for batch, _ in bare) == 20
    assert {one.hard is None for _, one in bare} == {True, False}


def test_the_file_store_survives_a_sample_of_every_fault_as_the_command_opens_it() -> None:
    report = crash_disk_check(open_for_crash_check, every=211)
    counts = report.counts
    assert report.never_seen == ()
    assert counts["seen: recoveries that kept two segments or more"] > 500
    assert counts["seen: segments dropped while the store was open"] >= 3
    assert counts["operations in the script"] >= 30
    assert counts["segments begun"] >= 3 + 2
    assert counts["power losses between calls"] > 1000
    assert counts["flipped bits: refused"] > counts["flipped bits: tried"] * 0.9
    for kind in ("dropped", "doubled", "zeroed"):
        assert counts[f"records {kind}: refused"] > 40
    assert "power losses during recovery" in report.table()


@pytest.mark.slow
def test_the_file_store_survives_every_power_loss_of_one_script() -> None:
    check = _Check(open_store, make_script(0), 0, 1)
    check.power_losses()
    assert check.counts["power losses inside a write"] > 20_000


@pytest.mark.slow
def test_no_bit_that_is_flipped_is_taken_for_right() -> None:
    # Two or three bits of every byte: `python -m raft_testing crash-disk` flips them all.
    check = _Check(open_store, make_script(0), 0, 3)
    flip_bits(check)
    assert check.counts["flipped bits: tried"] >= 16 * 1024 * 8 / 3


def test_a_store_that_never_merges_survives_too_and_progress_is_told() -> None:
    lines: list[str] = []

    def never_merging(files: Files) -> FileStore:
        return open_store(files, merge_bytes=0)

    report = crash_disk(never_merging, progress=lines.append, seed=3, every=1501)

    assert report.counts["scripts"] == 1
    assert len(lines) == 5
    assert isinstance(report, CrashReport)


def test_time_left_of_a_long_part_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    portions: list[list[float]] = []  # of each part
    crash_disk_check(
        open_store,
        script_seed=3,
        every=1501,
        progress=lambda name: portions.append([]),
        portion=lambda done: portions[-1].append(done),
    )
    assert sum(map(len, portions)) > 100
    for part in portions:
        assert part == sorted(part), "it never runs backwards"
        assert 0 <= part[0] <= part[-1] <= 1

    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = testing_command._Pace()
    pace.begin("every call fails once")
    for now[0], done in ((1.0, 0.1), (10.0, 0.25), (11.0, 0.3)):
        pace.at(done)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "every call fails once: 25%, about 30 s to go" in told


def test_a_check_that_kept_and_dropped_no_segment_says_so() -> None:
    vacuous = CrashReport({"segments begun": 1})
    assert len(vacuous.never_seen) == 4
    assert "never seen: recoveries that kept two segments or more" in vacuous.table()
    assert CrashReport({"recoveries checked": 9}).never_seen == ()  # of a store with another format nothing is known


def test_several_scripts_add_up() -> None:
    report = crash_disk(open_store, scripts=2, seed=20, every=1999)
    assert report.counts["scripts"] == 2


# Planted bugs, each in a wrapper of the right store.


class Unsynced:
    """A directory whose syncs do nothing: of files, or of the directory."""

    def __init__(self, files: Files, *, skip: str) -> None:
        self._files = files
        self._skip = skip

    def names(self) -> list[str]:
        return self._files.names()

    def open(self, name: str) -> File:
        return self._wrapped(self._files.open(name))

    def create(self, name: str) -> File:
        return self._wrapped(self._files.create(name))

    def _wrapped(self, file: File) -> File:
        return _LazyFile(file) if self._skip == "files" else file

    def rename(self, old: str, new: str) -> None:
        self._files.rename(old, new)

    def unlink(self, name: str) -> None:
        self._files.unlink(name)

    def sync_directory(self) -> None:
        if self._skip != "directory":
            self._files.sync_directory()

    def room(self) -> int | None:
        return self._files.room()

    def lock(self, name: str) -> None:
        self._files.lock(name)

    def close(self) -> None:
        self._files.close()


class _LazyFile:
    def __init__(self, file: File) -> None:
        self._file = file
        self.name = file.name
        self.size = file.size
        self.read_at = file.read_at
        self.write_at = file.write_at
        self.preallocate = file.preallocate
        self.close = file.close

    def sync(self) -> None:
        """Believes that it has been done."""


class Stubborn:
    """A store that goes on after a failure as if nothing had happened, by opening itself again."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._store: Store = open_store(files)
        self.create_snapshot = self._store.create_snapshot
        self.resume_snapshot = self._store.resume_snapshot
        self.open_snapshot = self._store.open_snapshot
        self.form = self._store.form
        self.identity = self._store.identity
        self.close = self._store.close

    def recover(self) -> Recovered:
        return self._store.recover()

    def write(self, batch: Sequence[Persist]) -> None:
        try:
            self._store.write(batch)
        except Exception:
            self._store.close()
            self._store = open_store(self._files)


class Forgetful:
    """A store that recovers without the last entry, as one that cuts too much of a torn tail would."""

    def __init__(self, files: Files) -> None:
        self._store = open_store(files)
        for name in ("write", "create_snapshot", "resume_snapshot", "open_snapshot", "form", "identity", "close"):
            setattr(self, name, getattr(self._store, name))

    def recover(self) -> Recovered:
        recovered = self._store.recover()
        kept = recovered.entries[:-1]
        return Recovered(recovered.identity, recovered.hard, recovered.snapshot, kept, recovered.boot)


@pytest.mark.parametrize(
    "planted",
    [
        lambda files: open_store(Unsynced(files, skip="files")),
        lambda files: open_store(Unsynced(files, skip="directory")),
        Stubborn,
        Forgetful,
    ],
    ids=["files are not synced", "directories are not synced", "goes on after a failure", "cuts too much"],
)
def test_a_planted_bug_is_found(planted: OpenOnFiles) -> None:
    with pytest.raises(StoreViolation, match="script 0"):
        crash_disk_check(planted, every=1009)


@pytest.mark.parametrize("check", [FUNCTIONAL_CHECKS[1], FUNCTIONAL_CHECKS[3]])
def test_a_store_that_forgets_fails_the_functional_checks(check: Callable[[Callable[[], Store]], None]) -> None:
    with pytest.raises(StoreViolation):
        check(lambda: MemoryStore(1))


# Stores of other people's.

OTHER_NAMES = {ANCHOR: "state.log", IDENTITY: "0000000000000001.log"}


def other_name(name: str) -> str:
    """What a file of the shipped store is called in `Elsewhere`."""
    stem, dot, rest = name.partition(".")
    if segment_number(name) is not None:
        return f"{stem}.part-of-log"
    return OTHER_NAMES.get(stem, stem) + dot + rest


class Elsewhere:
    """A directory in which the shipped store's files have other names, so that its format is no longer known."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.lock, self.sync_directory, self.close = files.lock, files.sync_directory, files.close
        self.room = files.room

    def names(self) -> list[str]:
        known = {other_name(name): name for name in (ANCHOR, IDENTITY, new_name(ANCHOR), new_name(IDENTITY))}
        names = self._files.names()
        return [known.get(name, f"{name[:16]}.log" if name.endswith(".part-of-log") else name) for name in names]

    def open(self, name: str) -> File:
        return self._files.open(other_name(name))

    def create(self, name: str) -> File:
        return self._files.create(other_name(name))

    def rename(self, old: str, new: str) -> None:
        self._files.rename(other_name(old), other_name(new))

    def unlink(self, name: str) -> None:
        self._files.unlink(other_name(name))


def open_elsewhere(files: Files) -> FileStore:
    try:
        return open_store(Elsewhere(files))
    except LogDamaged as damage:
        raise LogDamaged(other_name(damage.file), damage.offset, damage.problem, damage.remedy) from None


def test_a_right_store_of_another_format_passes_whatever_its_files_are_called() -> None:
    check = _Check(open_elsewhere, plain_script(0, 600), 0, 199)
    for part in (check.power_losses, check.losses_in_recovery, check.failing_calls):
        part()
    flip_bits(check)
    break_records(check)
    assert check.counts["flipped bits: refused"] > 20
    assert "records dropped: tried" not in check.counts  # nobody knows where a record of that format begins
    assert CrashReport(check.counts).never_seen == ()


def open_with_a_mistake(files: Files) -> FileStore:
    if "0000000000000002.log" in files.names():
        raise KeyError("a mistake of this store's")
    return open_store(files)


def test_the_command_tells_what_a_store_raises_with_its_script_and_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["crash-disk", "--seed", "3", "--store", "tests.testing.test_crash_disk:open_with_a_mistake"]) == 1

    said = capsys.readouterr().out
    assert "violation: script 3, power lost before call" in said
    assert 'refused to open: KeyError("a mistake of this store\'s")' in said
    assert "in open_with_a_mistake" in said
    assert "again: python -m raft_testing crash-disk --seed 3 --store tests.testing.test_crash_disk:open_with" in said


def test_the_command_fails_where_it_has_proved_nothing_of_the_shipped_store(monkeypatch: pytest.MonkeyPatch) -> None:
    vacuous = CrashReport({"segments begun": 1})
    monkeypatch.setattr(testing_command, "crash_disk_check", lambda *_, **__: vacuous)
    assert main(["crash-disk"]) == 1
    assert main(["crash-disk", "--store", "tests.testing.test_crash_disk:open_store"]) == 0


@pytest.mark.parametrize("arguments", [["--scripts", "0"], ["--scripts", "-2"], ["--workers", "0"]])
def test_the_command_takes_no_count_of_nothing(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["crash-disk", *arguments])
    assert caught.value.code == 2


@pytest.mark.parametrize("store", ["nope:x", "tests.testing.test_crash_disk:nope", "nope"])
def test_the_command_is_wrong_where_it_names_no_store(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crash-disk", "--store", store]) == 2
    assert "names nothing" in capsys.readouterr().err


@pytest.mark.parametrize("everything", [True, False])
def test_garbage_in_segments_that_were_begun_loses_nothing_that_was_acknowledged(everything: bool) -> None:
    """Power goes at every call of a history with many segments, and then every segment that the anchor on the medium
    does not name yet is overwritten with garbage, or one byte of it changes."""
    call, damaged = 0, 0
    while True:
        call += 1
        disk = CrashDisk()
        disk.faults[call] = Fault(FaultKind.POWER, taken=600)
        acknowledged = 0
        try:
            for life in range(2):
                store = _small_segments(disk if life == 0 else disk.restart())
                acknowledged = max(acknowledged, len(store.recover().entries))
                for number in range(acknowledged + 1, acknowledged + 9):
                    entry = Entry.make(number, 1, b"x" * 900)
                    store.write([Persist(WriteId(number), hard=HardState(Term(1)), entries=(entry,))])
                    acknowledged = number
                store.close()
                if life == 1:
                    assert damaged > 5
                    return
        except PowerLost:
            pass
        after = disk.crash(range(disk.unsynced))  # whatever was handed over has reached the medium
        if IDENTITY not in after.listing():
            continue
        anchored = read_anchor(after.content(ANCHOR)).synced.segment
        for name in after.listing():
            if (segment_number(name) or 0) > anchored:
                content = bytearray(after.content(name))
                if content:
                    content[min(20, len(content) - 1)] ^= 0xFF
                garbage = b"\xe5\x0d" * (len(content) // 2)
                after.overwrite(name, garbage if everything else bytes(content))
                damaged += 1
        entries = _small_segments(after).recover().entries
        assert [entry.index for entry in entries[:acknowledged]] == list(range(1, acknowledged + 1))


def _small_segments(disk: CrashDisk) -> FileStore:
    return FileStore.open("disk", node=1, cluster="c", files=disk, incarnation=7, segment_bytes=2048, merge_bytes=1024)
