"""The SQLite store: its pinned settings, its log as read before SQLite reads it, and power losses on the crash disk."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState
from raft_core.errors import DirectoryInUse, DiskError, LogDamaged, LogLost, StorageBroken, WrongDirectory
from raft_core.ids import Term, WriteId
from raft_core.recovered import Recovered
from raft_storage.rows import ROWS_VERSION
from raft_storage.sqlite_store import CHECKPOINT_PAGES, DATABASE, LOG, PAGE_BYTES, SETTINGS, SqliteEngine, SqliteStore
from raft_storage.sqlite_wal import _sum, wal_damage
from raft_testing.disk.crash_check import _Check
from raft_testing.disk.crash_disk import CrashDisk, Fault, FaultKind
from raft_testing.disk.script import Script, make_script

apsw = pytest.importorskip("apsw")

ROOT = Path(__file__).parents[2]


def append(first: int, last: int, *, term: int = 1, size: int = 100) -> Persist:
    entries = tuple(Entry.make(index, term, bytes([index % 256]) * size) for index in range(first, last + 1))
    return Persist(WriteId(first), hard=HardState(Term(term)), entries=entries)


def indexes(recovered: Recovered) -> list[int]:
    return [entry.index for entry in recovered.entries]


def open_at(directory: Path) -> SqliteStore:
    return SqliteStore.open(directory, node=1, cluster="c")


# Settings.


def test_settings_that_durability_rests_on_are_those_of_the_opened_database(tmp_path: Path) -> None:
    for _ in range(2):  # made, and opened again
        store = open_at(tmp_path)
        assert isinstance(store.engine, SqliteEngine)
        found = store.engine.settings()
        assert found == SETTINGS
        assert (found["journal_mode"], found["synchronous"], found["fullfsync"]) == ("wal", 2, 1)
        store.close()


def test_sqlite_that_does_not_take_a_setting_is_refused(tmp_path: Path) -> None:
    class Stubborn:
        def __init__(self, path: str) -> None:
            self.inner = sqlite3.connect(path, isolation_level=None)

        def execute(self, statement: str, values: object = ()) -> sqlite3.Cursor:
            return self.inner.execute(statement.replace("synchronous=2", "synchronous=1"), values)  # type: ignore[arg-type]

        def executemany(self, statement: str, values: list[tuple[object, ...]]) -> sqlite3.Cursor:
            return self.inner.executemany(statement, values)

        def close(self) -> None:
            self.inner.close()

    with pytest.raises(DiskError):
        SqliteStore.open(tmp_path, node=1, cluster="c", connect=Stubborn)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_acknowledged_write_was_synced(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from tests.storage.test_sqlite_store import append, open_at\n"
        f"store = open_at({str(tmp_path / 'data')!r})\n"
        "store.recover()\n"
        "for index in range(1, 21):\n"
        "    store.write([append(index, index)])\n"
        "    os.write(1, b'acknowledged')\n"
        "os._exit(0)\n"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", str(trace)]
    done = subprocess.run([*command, sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"strace cannot trace here: {done.stderr.decode()[-200:]}")
    unsynced, synced, acknowledged = False, False, 0
    for line in trace.read_text().splitlines():
        if LOG in line:
            unsynced = "pwrite64(" in line
            synced = synced or not unsynced
        elif '"acknowledged"' in line:
            assert synced, "acknowledged without a sync since the last acknowledgement"
            assert not unsynced, "acknowledged with a write to the log that was not synced"
            acknowledged, synced = acknowledged + 1, False
    assert acknowledged == 20


def test_log_stays_short_whatever_is_written(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.recover()
    longest = 0
    for first in range(1, 2000, 50):
        store.write([append(first, first + 49, size=1000)])
        longest = max(longest, (tmp_path / LOG).stat().st_size)
    assert longest < 2 * CHECKPOINT_PAGES * PAGE_BYTES
    store.close()
    assert not (tmp_path / LOG).exists()


# Another program, another version.


def test_database_in_use_by_another_program_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DirectoryInUse):
        open_at(tmp_path)
    other.close()
    open_at(tmp_path).close()


def test_database_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    other = sqlite3.connect(tmp_path / DATABASE)
    [body] = next(other.execute("SELECT body FROM log WHERE number = 0"))
    changed = bytearray(body)
    changed[8] = ROWS_VERSION + 1
    changed[16:20] = zlib.crc32(changed[20:], zlib.crc32(changed[:16])).to_bytes(4, "little")
    other.execute("UPDATE log SET body = ? WHERE number = 0", (bytes(changed),))
    other.commit()
    other.close()
    with pytest.raises(WrongDirectory):
        open_at(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM log WHERE number = 3",
        "DELETE FROM log WHERE number = (SELECT max(number) FROM log)",
        "DELETE FROM log WHERE number = 0",
        "DELETE FROM log WHERE number = (SELECT min(number) FROM log WHERE number > 0)",
        "UPDATE log SET body = (SELECT body FROM log WHERE number = 3) WHERE number = 4",
        "UPDATE log SET body = substr(body, 1, 20) WHERE number = 4",
        "UPDATE log SET body = 'text' WHERE number = 4",
        "INSERT INTO log SELECT number + 1, body FROM log WHERE number = (SELECT max(number) FROM log)",
        "DELETE FROM log",
        "DROP TABLE log",
    ],
)
def test_rows_changed_behind_our_back_are_noticed(change: str, tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.recover()
    for first in range(1, 13, 2):
        store.write([append(first, first + 1)])
    store.close()
    other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    other.execute(change)
    other.close()
    with pytest.raises((LogDamaged, LogLost, DiskError)):
        open_at(tmp_path)


# Damage in SQLite's log.


def written(*, writes: int = 12, checkpoint_pages: int = CHECKPOINT_PAGES) -> CrashDisk:
    """A disk after so many acknowledged writes, and no orderly end."""
    from tests.storage.sqlite_vfs import open_on

    disk = CrashDisk()
    store = open_on(disk, checkpoint_pages)
    store.recover()
    for first in range(1, writes + 1):
        store.write([append(first, first)])
    store._engine._connection.vfs.dead = True  # type: ignore[attr-defined]
    return disk


def recovered_on(disk: CrashDisk) -> list[int]:
    from tests.storage.sqlite_vfs import open_on

    return indexes(open_on(disk).recover())


@pytest.mark.parametrize("power_lost", [False, True])
def test_flipped_bit_in_the_log_is_refused(power_lost: bool) -> None:
    """After a power loss only the very last write may look like one that was never finished."""
    disk = written()
    tried = refused = cut = whole = 0
    for bit in range(0, len(disk.content(LOG)) * 8, 1499):
        tried += 1
        flipped = disk.crash() if power_lost else disk.twin()
        flipped.flip(LOG, bit)
        try:
            found = recovered_on(flipped)
        except LogDamaged as damage:
            refused += (damage.file, damage.offset <= bit // 8) == (LOG, True)
            continue
        assert found in (list(range(1, 13)), list(range(1, 12)) if power_lost else [])
        cut += found[-1] == 11
        whole += found[-1] == 12
    assert refused + cut + whole == tried
    assert refused > 100
    assert (cut > 0) is power_lost
    assert whole == 0


@pytest.mark.parametrize("power_lost", [False, True])
def test_flipped_bit_in_a_log_begun_anew_is_refused_or_harmless(power_lost: bool) -> None:
    """Behind the log lies what is left of the one before: bits in there mean nothing."""
    disk = written(writes=14, checkpoint_pages=24)
    refused = whole = 0
    for bit in range(0, len(disk.content(LOG)) * 8, 2999):
        flipped = disk.crash() if power_lost else disk.twin()
        flipped.flip(LOG, bit)
        try:
            found = recovered_on(flipped)
        except LogDamaged:
            refused += 1
            continue
        assert found in (list(range(1, 15)), list(range(1, 14)) if power_lost else [])
        whole += found[-1] == 14
    assert refused > 10
    assert whole > 10


def frame(
    log: bytearray, at: int, page: int, pages: int, salts: tuple[int, int], total: tuple[int, int]
) -> tuple[int, int]:
    """Write a frame as SQLite does; return the checksum that the next one goes on from."""
    body = bytes([page]) * PAGE_BYTES
    head = struct.pack(">II", page, pages)
    total = _sum(body, _sum(head, total, little=True), little=True)
    start = 32 + at * (24 + PAGE_BYTES)
    log[start : start + 24 + PAGE_BYTES] = head + struct.pack(">IIII", *salts, *total) + body
    return total


def test_torn_transaction_over_an_older_log_is_no_damage() -> None:
    """Found by replaying calls: a sector ended between the older frame's commit mark and the new frame's salts."""
    straddling = next(at for at in range(200) if (32 + at * (24 + PAGE_BYTES)) % 512 == 504)
    log = bytearray(32 + (straddling + 9) * (24 + PAGE_BYTES))
    old, new = (7, 8), (9, 10)
    for at in range(straddling + 9):
        frame(log, at, page=at % 5 + 1, pages=5, salts=old, total=(1, 1))  # each one a commit of its own
    before = bytes(log)
    head = struct.pack(">IIIIII", 0x377F0682, 3007000, PAGE_BYTES, 1, *new)
    total = _sum(head, (0, 0), little=True)
    log[:32] = head + struct.pack(">II", *total)
    for at in range(straddling):
        total = frame(log, at, page=at % 5 + 1, pages=5, salts=new, total=total)
    durable = len(log[: 32 + straddling * (24 + PAGE_BYTES)])
    for at in range(straddling, straddling + 5):
        total = frame(log, at, page=1, pages=5 if at == straddling + 4 else 0, salts=new, total=total)
    assert wal_damage(bytes(log), PAGE_BYTES, lambda number: b"") is None
    sector = durable // 512 * 512
    torn = log[:sector] + before[sector : sector + 512] + log[sector + 512 :]
    torn[sector:durable] = log[sector:durable]  # the end of the frame before was in this sector already
    assert wal_damage(bytes(torn), PAGE_BYTES, lambda number: b"") is None
    total = frame(log, straddling + 5, page=1, pages=5, salts=new, total=total)
    log[durable + 2000] ^= 1
    damage = wal_damage(bytes(log), PAGE_BYTES, lambda number: b"")
    assert damage is not None
    assert damage.offset == durable


def test_log_cut_at_any_length_is_refused_while_the_mark_lives() -> None:
    disk = written()
    whole = disk.content(LOG)
    for length in range(0, len(whole), 1999):
        cut = disk.twin()
        cut.overwrite(LOG, whole[:length])
        with pytest.raises((LogDamaged, LogLost)):
            recovered_on(cut)


def test_log_that_is_lost_is_refused_while_the_mark_lives() -> None:
    disk = written().twin()
    disk.remove(LOG)
    with pytest.raises(LogLost):
        recovered_on(disk)


def test_log_of_nothing_or_a_header_is_whole() -> None:
    assert wal_damage(b"", PAGE_BYTES, lambda number: b"") is None
    assert wal_damage(bytes(32), PAGE_BYTES, lambda number: b"") is None


# The crash disk.


def test_store_on_the_crash_disk_survives_every_fault() -> None:
    """The beginning of one history; the command does all: `crash-disk --store tests.storage.sqlite_vfs:open_on`."""
    from tests.storage.sqlite_vfs import open_on

    whole = make_script(4)
    check = _Check(open_on, Script(whole.steps[:7], whole.states, whole.snapshots), 4, 60_013)
    check.power_losses()
    check.losses_in_recovery()
    check.failing_calls()
    check.raise_what_was_found()
    assert check.counts["power losses between calls"] > 200
    assert check.counts["failed calls: lost sync"] > 10


def test_without_syncs_the_crash_disk_finds_losses() -> None:
    """The check sees a database that is not synced at every commit."""
    from raft_testing.disk.store_conformance import StoreViolation, crash_disk_check
    from tests.storage.sqlite_vfs import open_on

    def careless(files: CrashDisk) -> SqliteStore:
        store = open_on(files)
        store._engine._connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]
        return store

    with pytest.raises(StoreViolation):
        crash_disk_check(careless, every=60_013)  # type: ignore[arg-type]


def test_after_a_lost_sync_the_store_is_broken_and_what_it_opens_next_is_durable() -> None:
    from tests.storage.sqlite_vfs import open_on

    disk = CrashDisk()
    store = open_on(disk)
    store.recover()
    store.write([append(1, 1)])
    calls: list[int] = []
    disk.watch = lambda call: calls.append(call.number) if (call.operation, call.name) == ("sync", LOG) else None
    disk.twin()
    for number in range(disk.calls + 1, disk.calls + 40):
        disk.faults[number] = Fault(FaultKind.LOST_SYNC)
    with pytest.raises(StorageBroken):
        store.write([append(2, 2)])
    disk.faults.clear()
    store.close()
    found = recovered_on(disk)
    assert found in ([1], [1, 2])
    assert recovered_on(disk.crash()) == found


def test_clusters_on_sqlite_survive_the_simulator() -> None:
    from raft_testing.sim.runner import simulate
    from tests.storage.sqlite_vfs import open_in_simulator

    report = simulate(range(2), open_store=open_in_simulator)
    assert not report.failures, report.table()
