"""Moving a stopped node's data between stores: complete or not there, and the source never started by mistake."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DirectoryInUse, LogDamaged, WrongDirectory
from raft_core.ids import Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.wal.filesystem import FileFailed
from raft_kv.cli import main
from raft_storage.data_directory import MOVED
from raft_storage.location import Location, kind_at, open_store
from raft_storage.migration import migrate
from raft_storage.quorum_loss import Survivor

PACKAGES = {"file": "zlib", "sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    for kind, package in PACKAGES.items()
]
STATE = b"state of the machine" * 20_000


def filled(location: Location, *, snapshot: bool = True) -> Recovered:
    """A closed store with everything that one can hold; what its next opening would recover, but for its number."""
    store = open_store(location, node=3, cluster="c", incarnation=99)
    store.recover()
    entries = tuple(Entry.make(index, 1, b"%d" % index * 50) for index in range(1, 41))
    store.write([Persist(WriteId(1), hard=HardState(Term(4), NodeId(2)), entries=entries)])
    if snapshot:
        meta = SnapshotMeta(Index(25), Term(1), Members.initial([1, 2, 3]), Index(1))
        writer = store.create_snapshot(meta)
        writer.write(STATE)
        writer.finish()
        store.write([Persist(WriteId(2), snapshot=meta, drop_before=Index(10))])
    store.write([Persist(WriteId(3), truncate_from=Index(38), entries=(Entry.make(38, 4, b"new"),))])
    store.close()
    return reopened(location)


def reopened(location: Location) -> Recovered:
    store = open_store(location, node=3, cluster="c")
    recovered = store.recover()
    if recovered.snapshot is not None:
        reader = store.open_snapshot(recovered.snapshot)
        assert b"".join(reader.chunks()) == STATE
        reader.close()
    store.close()
    return recovered


def contents(directory: str) -> dict[str, bytes]:
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def held(recovered: Recovered) -> tuple[object, ...]:
    return recovered.identity, recovered.hard, recovered.snapshot, recovered.entries


@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize("kind_to", KINDS)
@pytest.mark.parametrize("kind_from", KINDS)
def test_everything_moves_and_the_source_is_marked(
    kind_from: str, kind_to: str, snapshot: bool, tmp_path: Path
) -> None:
    source, target = Location(kind_from, str(tmp_path / "old")), Location(kind_to, str(tmp_path / "new"))
    wanted = filled(source, snapshot=snapshot)
    before = contents(source.directory)
    told: list[tuple[int, int]] = []
    moved = migrate(source, target, lambda done, total: told.append((done, total)))
    assert held(moved) == held(wanted)
    assert moved.boot > wanted.boot
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)
    again = reopened(target)
    assert held(again) == held(wanted)
    assert again.boot > moved.boot
    after = contents(source.directory)
    assert after.pop(MOVED).decode() == f"{target}\n"
    assert after == before
    with pytest.raises(WrongDirectory):
        open_store(source, node=3, cluster="c")
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_disk_that_is_not_formed_yet_moves_too(tmp_path: Path) -> None:
    source, target = Location("file", str(tmp_path / "old")), Location("sqlite", str(tmp_path / "new"))
    open_store(source, node=3, cluster="c", incarnation=5).close()
    assert not migrate(source, target).formed
    store = open_store(target, node=3, cluster="c")
    assert not store.recover().formed
    store.form(Members.initial([3], incarnations={NodeId(3): Incarnation(5)}))
    store.close()


class Interrupted(Exception):
    """Stands for whatever ends a move."""


@pytest.mark.parametrize("after", [1, 3, 5])
def test_interrupted_move_leaves_the_source_as_it_was_and_starts_over(after: int, tmp_path: Path) -> None:
    source, target = Location("sqlite", str(tmp_path / "old")), Location("file", str(tmp_path / "new"))
    wanted = filled(source)
    before = contents(source.directory)
    calls = 0

    def interrupts(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        migrate(source, target, interrupts)
    assert contents(source.directory) == before
    assert os.listdir(tmp_path) == ["old"]
    assert held(migrate(source, target)) == held(wanted)


def test_move_killed_in_the_middle_starts_over(tmp_path: Path) -> None:
    """Before and after the mark was written: the target is not there, so the mark does not count."""
    source, target = Location("file", str(tmp_path / "old")), Location("sqlite", str(tmp_path / "new"))
    wanted = filled(source)
    (tmp_path / "new.migrating" / "target").mkdir(parents=True)
    (tmp_path / "new.migrating" / "target" / "half").write_bytes(b"of a move")
    (tmp_path / "old" / MOVED).write_text(f"{target}\n")
    assert held(migrate(source, target)) == held(wanted)
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_failure_of_the_last_step_undoes_the_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Location("file", str(tmp_path / "old")), Location("sqlite", str(tmp_path / "new"))
    wanted = filled(source)
    real = os.rename

    def fails(old: str, new: str, **more: int) -> None:
        if str(new) == target.directory:
            raise OSError("planned")
        real(old, new, **more)

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", fails)
        with pytest.raises(FileFailed):
            migrate(source, target)
    assert kind_at(target.directory) is None
    assert held(reopened(source)) == held(wanted)


def test_moved_twice_is_refused(tmp_path: Path) -> None:
    source = Location("file", str(tmp_path / "old"))
    filled(source)
    migrate(source, Location("sqlite", str(tmp_path / "new")))
    with pytest.raises(WrongDirectory):
        migrate(source, Location("sqlite", str(tmp_path / "newer")))
    assert not (tmp_path / "newer").exists()


def test_damaged_source_is_not_moved(tmp_path: Path) -> None:
    source, target = Location("file", str(tmp_path / "old")), Location("sqlite", str(tmp_path / "new"))
    filled(source)
    [log, *_] = sorted((tmp_path / "old").glob("*.log"))
    content = bytearray(log.read_bytes())
    content[200] ^= 4
    log.write_bytes(content)
    with pytest.raises(LogDamaged):
        migrate(source, target)
    assert sorted(os.listdir(tmp_path)) == ["old"]
    assert not (tmp_path / "old" / MOVED).exists()


def test_running_node_is_not_moved(tmp_path: Path) -> None:
    source = Location("file", str(tmp_path / "old"))
    store = open_store(source, node=3, cluster="c")
    with pytest.raises(DirectoryInUse):
        migrate(source, Location("sqlite", str(tmp_path / "new")))
    store.close()


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    source = Location("file", str(tmp_path / "old"))
    filled(source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not lose me")
    for wrong_source, target in (
        (source, Location("sqlite", str(tmp_path / "full"))),
        (Location("sqlite", str(tmp_path / "old")), Location("file", str(tmp_path / "new"))),
        (Location("file", str(tmp_path / "nowhere")), Location("file", str(tmp_path / "new"))),
    ):
        with pytest.raises(WrongDirectory):
            migrate(wrong_source, target)
    with pytest.raises(CallerError):
        migrate(source, Location("sqlite", str(tmp_path / "old")))
    assert held(reopened(source))


def test_command_moves_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = Location("file", str(tmp_path / "old")), Location("sqlite", str(tmp_path / "new"))
    wanted = filled(source)
    assert main(["migrate", "--from", source.directory, "--to", str(target)]) == 0
    said = capsys.readouterr()
    assert str(target) in said.out + said.err
    assert held(reopened(target)) == held(wanted)
    assert main(["migrate", "--from", source.directory, "--to", f"file:{tmp_path / 'again'}"]) == 1
    assert main(["migrate", "--from", source.directory, "--to", f"postgres:{tmp_path / 'again'}"]) == 2


def test_survivor_on_an_engine_is_moved_before_it_is_salvaged(tmp_path: Path) -> None:
    source, target = Location("sqlite", str(tmp_path / "old")), Location("file", str(tmp_path / "new"))
    wanted = filled(source)
    with pytest.raises(WrongDirectory):
        Survivor(source.directory, "c")
    migrate(source, target)
    survivor = Survivor(target.directory, "c")
    assert survivor.recovered.entries == wanted.entries
    survivor.close()
