"""The RocksDB store: its pinned settings, and its log as read before RocksDB reads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

rocksdict = pytest.importorskip("rocksdict")

from raft_core.effects import Persist  # noqa: E402 - none of it without the package
from raft_core.entries import Entry, HardState  # noqa: E402
from raft_core.errors import LogDamaged, LogLost  # noqa: E402
from raft_core.ids import Term, WriteId  # noqa: E402
from raft_storage.mark import MARK  # noqa: E402
from raft_storage.rocks_store import DATABASE, RocksStore  # noqa: E402
from raft_storage.rows import newest_state_in  # noqa: E402


def open_at(directory: Path) -> RocksStore:
    return RocksStore.open(directory, node=1, cluster="c")


def append(first: int, last: int) -> Persist:
    entries = tuple(Entry.make(index, 1, b"%d" % index * 30) for index in range(first, last + 1))
    return Persist(WriteId(first), hard=HardState(Term(1)), entries=entries)


def options_of(directory: Path) -> dict[str, str]:
    """The settings with which the database was opened last, as RocksDB notes them."""
    newest = max((directory / DATABASE).glob("OPTIONS-*"), key=lambda path: path.name)
    pairs = (line.strip().split("=", 1) for line in newest.read_text().splitlines() if "=" in line)
    return {pair[0]: pair[1] for pair in pairs}


def test_settings_that_durability_rests_on_are_those_of_the_opened_database(tmp_path: Path) -> None:
    for _ in range(2):  # made, and opened again
        store = open_at(tmp_path)
        found = options_of(tmp_path)
        assert {name: found[name] for name in ("wal_recovery_mode", "use_fsync", "paranoid_checks")} == {
            "wal_recovery_mode": "kPointInTimeRecovery",
            "use_fsync": "true",
            "paranoid_checks": "true",
        }
        assert (found["recycle_log_file_num"], found["manual_wal_flush"]) == ("0", "false")
        engine = store.engine
        assert engine._sync.sync is True  # type: ignore[attr-defined]
        store.close()


def killed(directory: Path, copy: Path, *, writes: int = 20) -> Path:
    """The directory as the death of the process leaves it, after so many acknowledged writes."""
    store = open_at(directory)
    store.recover()
    for index in range(1, writes + 1):
        store.write([append(index, index)])
    shutil.copytree(directory, copy)
    store.close()
    return copy


def log_of(directory: Path) -> Path:
    return max((directory / DATABASE).glob("*.log"), key=lambda path: path.stat().st_size)


def with_old_mark(directory: Path, mark: bytes) -> None:
    """As after a power loss, when the mark was last synced at the opening."""
    (directory / MARK).write_bytes(mark)


def test_damage_in_the_middle_of_the_log_is_told_without_the_mark(tmp_path: Path) -> None:
    open_at(tmp_path / "data").close()
    mark = (tmp_path / "data" / MARK).read_bytes()
    left = killed(tmp_path / "data", tmp_path / "left")
    with_old_mark(left, mark)
    log = log_of(left)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 8
    log.write_bytes(content)
    with pytest.raises(LogDamaged) as caught:
        open_at(left)
    assert caught.value.file == f"{DATABASE}/{log.name}"


def test_torn_end_of_the_log_is_no_damage(tmp_path: Path) -> None:
    open_at(tmp_path / "data").close()
    mark = (tmp_path / "data" / MARK).read_bytes()
    left = killed(tmp_path / "data", tmp_path / "left")
    with_old_mark(left, mark)
    log = log_of(left)
    os.truncate(log, len(log.read_bytes().rstrip(b"\0")) - 5)
    store = open_at(left)
    assert [entry.index for entry in store.recover().entries] == list(range(1, 20))
    store.close()


def test_missing_end_of_the_log_is_told_by_the_mark(tmp_path: Path) -> None:
    left = killed(tmp_path / "data", tmp_path / "left")
    log = log_of(left)
    os.truncate(log, len(log.read_bytes().rstrip(b"\0")) - 5)
    with pytest.raises((LogDamaged, LogLost)):
        open_at(left)


def test_newest_state_is_found_wherever_it_is(tmp_path: Path) -> None:
    left = killed(tmp_path / "data", tmp_path / "left", writes=7)
    content = log_of(left).read_bytes()
    assert newest_state_in(content) == 8  # the opening was the first
    assert newest_state_in(b"noise" + content[: len(content) // 2]) < 8
    assert newest_state_in(b"") == 0
    assert newest_state_in(b"RAFTSTAT" * 3) == 0
