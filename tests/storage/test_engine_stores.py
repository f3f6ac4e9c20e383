"""What every store on a database engine keeps: its word, its directory, and nothing that is damaged."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.errors import CallerError, DirectoryInUse, DiskError, LogDamaged, LogLost, StorageBroken, WrongDirectory
from raft_core.ids import Incarnation, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.wal.filesystem import FileFailed
from raft_storage.engine import Range, Row
from raft_storage.engine_store import ENGINE, EngineStore
from raft_storage.location import open_store, parse_location
from raft_storage.mark import MARK
from raft_testing.disk.store_conformance import FUNCTIONAL_CHECKS, OpenStore
from tests.storage.engine_child import content_of

PACKAGES = {"sqlite": "sqlite3", "rocksdb": "rocksdict", "mdbx": "mdbx"}
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
    for kind, package in PACKAGES.items()
]
ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))
FLIPS = int(os.environ.get("FLIPPED_BITS", "8"))  # per file

every_kind = pytest.mark.parametrize("kind", KINDS)


def open_at(kind: str, directory: Path, *, node: int = 1, cluster: str = "c") -> EngineStore:
    store = open_store(parse_location(f"{kind}:{directory}"), node=node, cluster=cluster)
    assert isinstance(store, EngineStore)
    return store


def append(first: int, last: int, *, term: int = 1, size: int = 100) -> Persist:
    entries = tuple(Entry.make(index, term, bytes([index % 256]) * size) for index in range(first, last + 1))
    return Persist(WriteId(first), hard=HardState(Term(term)), entries=entries)


def with_snapshot(store: EngineStore, index: int, state: bytes = b"state") -> SnapshotMeta:
    meta = SnapshotMeta(Index(index), Term(1), Members.initial([1, 2, 3]))
    writer = store.create_snapshot(meta)
    writer.write(state)
    writer.finish()
    store.write([Persist(WriteId(1), snapshot=meta, drop_before=Index(index + 1))])
    return meta


def held(recovered: Recovered) -> tuple[object, ...]:
    return recovered.hard, recovered.snapshot, recovered.entries


def filled(kind: str, directory: Path) -> tuple[object, ...]:
    """A directory with a snapshot and entries, closed; what a restart finds."""
    store = open_at(kind, directory)
    store.recover()
    for first in range(1, 60, 6):
        store.write([append(first, first + 5)])
    with_snapshot(store, 20)
    store.write([append(61, 66, term=2)])
    store.write([Persist(WriteId(1), hard=HardState(Term(3), NodeId(2)), truncate_from=Index(65))])
    store.close()
    store = open_at(kind, directory)
    found = held(store.recover())
    store.close()
    return found


# Every store keeps its word.


@every_kind
@pytest.mark.parametrize("check", FUNCTIONAL_CHECKS, ids=lambda check: check.__name__)
def test_engine_store_keeps_its_word(check: Callable[[OpenStore], None], kind: str, tmp_path: Path) -> None:
    check(lambda: open_at(kind, tmp_path))


class Watched:
    """An engine that counts its commits, and fails when told to."""

    def __init__(self, engine: object) -> None:
        self.engine = engine
        self.commits: list[tuple[Sequence[Row], Range]] = []
        self.fails: Exception | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def commit(self, rows: Sequence[Row], drop: Range) -> bool:
        if self.fails is not None:
            raise self.fails
        self.commits.append((rows, drop))
        done: bool = self.engine.commit(rows, drop)  # type: ignore[attr-defined]
        return done


def watch(store: EngineStore) -> Watched:
    store._engine = watched = Watched(store._engine)  # type: ignore[assignment]
    return watched


@every_kind
def test_disk_founds_no_cluster_that_could_never_elect_a_leader(kind: str, tmp_path: Path) -> None:
    store = open_at(kind, tmp_path)
    store.recover()
    own = {NodeId(1): store.identity.incarnation}
    hopeless = [
        Members.initial([1, 2]),
        Members.initial([1, 2], incarnations=own),
        Members.initial([2, 3], incarnations={NodeId(2): Incarnation(5), NodeId(3): Incarnation(6)}),
    ]
    for members in hopeless:
        with pytest.raises(CallerError):
            store.form(members)
    assert store.form(Members.initial([1], incarnations=own)).formed
    store.close()


@every_kind
def test_many_persists_are_one_transaction(kind: str, tmp_path: Path) -> None:
    store = open_at(kind, tmp_path)
    store.recover()
    engine = watch(store)
    store.write([append(1, 3), append(4, 6), Persist(WriteId(9), hard=HardState(Term(4)))])
    assert len(engine.commits) == 1
    store.close()


@every_kind
@pytest.mark.parametrize("failure", [FileFailed("commit", "log", "planned"), KeyboardInterrupt("planned")])
def test_after_a_failed_commit_nothing_is_taken_until_opened_again(
    failure: BaseException, kind: str, tmp_path: Path
) -> None:
    store = open_at(kind, tmp_path)
    store.recover()
    store.write([append(1, 3)])
    watch(store).fails = failure  # type: ignore[assignment]
    with pytest.raises((StorageBroken, KeyboardInterrupt)):
        store.write([append(4, 6)])
    for refused in (
        lambda: store.write([append(4, 6)]),
        lambda: store.write([]),
        store.recover,
        lambda: store.create_snapshot(SnapshotMeta(Index(1), Term(1), Members())),
    ):
        with pytest.raises(StorageBroken):
            refused()
    store.close()
    store = open_at(kind, tmp_path)
    assert [entry.index for entry in store.recover().entries] == [1, 2, 3]
    store.close()


@every_kind
def test_rows_below_a_snapshot_are_deleted_a_few_per_commit(kind: str, tmp_path: Path) -> None:
    store = open_at(kind, tmp_path)
    store.recover()
    for index in range(1, 1201):
        store.write([append(index, index, size=10)])
    engine = watch(store)
    with_snapshot(store, 1200)
    for index in range(1201, 1210):
        store.write([append(index, index)])
    dropped = [drop[1] - drop[0] for _, drop in engine.commits]
    assert max(dropped) == 512
    assert sum(dropped) == 1201  # the row of the switch too
    assert [drop[0] for _, drop in engine.commits[1:3]] == [drop[1] for _, drop in engine.commits[:2]]
    assert len(list(store.engine.rows())) == 1 + 9  # the state, and the writes since
    store.close()
    store = open_at(kind, tmp_path)
    assert [entry.index for entry in store.recover().entries] == list(range(1201, 1210))
    store.close()


# Whose directory it is.


@every_kind
def test_second_store_on_one_directory_is_refused(kind: str, tmp_path: Path) -> None:
    store = open_at(kind, tmp_path)
    with pytest.raises(DirectoryInUse):
        open_at(kind, tmp_path)
    code = f"from tests.storage.engine_child import open_at; open_at({f'{kind}:{tmp_path}'!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"DirectoryInUse" in done.stderr
    store.close()
    open_at(kind, tmp_path).close()


@every_kind
@pytest.mark.parametrize(("node", "cluster"), [(2, "c"), (1, "other")])
def test_directory_of_another_node_or_cluster_is_refused(kind: str, node: int, cluster: str, tmp_path: Path) -> None:
    incarnation = open_at(kind, tmp_path)
    incarnation.close()
    with pytest.raises(WrongDirectory):
        open_at(kind, tmp_path, node=node, cluster=cluster)
    again = open_at(kind, tmp_path)
    assert again.identity == incarnation.identity
    assert again.identity.incarnation > 0
    again.close()


@every_kind
def test_directory_with_other_things_is_not_formatted(kind: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(WrongDirectory):
        open_at(kind, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


@every_kind
def test_node_id_is_positive(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CallerError):
        open_at(kind, tmp_path, node=0)


@every_kind
def test_database_of_another_node_in_our_directory_is_refused(kind: str, tmp_path: Path) -> None:
    filled(kind, tmp_path / "ours")
    open_at(kind, tmp_path / "theirs", node=2).close()
    for name in engine_files(tmp_path / "theirs"):
        replace(tmp_path / "theirs" / name, tmp_path / "ours" / name)
    with pytest.raises((WrongDirectory, LogLost, LogDamaged)):
        open_at(kind, tmp_path / "ours")


def engine_files(directory: Path) -> list[str]:
    """The names of what the engine itself keeps."""
    return [path.name for path in directory.iterdir() if path.name.startswith(("log.", "rocksdb"))]


def replace(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


# Damage.


def all_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)


def refuses_or_holds(kind: str, directory: Path, wanted: tuple[object, ...], what: str) -> bool:
    """A damaged directory raises a typed error, or everything is there all the same. Return whether it was refused."""
    try:
        store = open_at(kind, directory)
    except DiskError:
        return True
    found = held(store.recover())
    store.close()
    assert found == wanted, what
    return False


@every_kind
def test_flipped_bit_is_refused_or_harmless(kind: str, tmp_path: Path) -> None:
    wanted = filled(kind, tmp_path / "whole")
    rng, refused = random.Random(1), 0
    for path in all_files(tmp_path / "whole"):
        size = path.stat().st_size
        for bit in sorted({rng.randrange(size * 8) for _ in range(FLIPS)}):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", copy)
            flipped = copy / path.relative_to(tmp_path / "whole")
            content = bytearray(flipped.read_bytes())
            content[bit // 8] ^= 1 << bit % 8
            flipped.write_bytes(content)
            refused += refuses_or_holds(kind, copy, wanted, f"bit {bit} of {path.name}")
    assert refused > FLIPS // 2


@every_kind
def test_truncated_or_lost_file_is_refused_or_harmless(kind: str, tmp_path: Path) -> None:
    wanted = filled(kind, tmp_path / "whole")
    refused = 0
    for path in all_files(tmp_path / "whole"):
        size = path.stat().st_size
        for length in sorted({-1, 0, 1, size // 3, size // 2 // 4096 * 4096, size - 1}):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", copy)
            target = copy / path.relative_to(tmp_path / "whole")
            if length < 0:
                target.unlink()
            else:
                os.truncate(target, length)
            refused += refuses_or_holds(kind, copy, wanted, f"{path.name} cut to {length}")
    assert refused > 5


@every_kind
def test_everything_of_the_engine_lost_is_log_lost_or_damaged(kind: str, tmp_path: Path) -> None:
    filled(kind, tmp_path)
    for name in engine_files(tmp_path):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises((LogLost, LogDamaged)):
        open_at(kind, tmp_path)


@every_kind
def test_older_database_put_back_is_log_lost(kind: str, tmp_path: Path) -> None:
    wanted = filled(kind, tmp_path / "now")
    shutil.copytree(tmp_path / "now", tmp_path / "then")
    store = open_at(kind, tmp_path / "now")
    store.recover()
    store.write([append(65, 70, term=3)])
    store.close()
    for name in engine_files(tmp_path / "then"):
        replace(tmp_path / "then" / name, tmp_path / "now" / name)
    with pytest.raises(LogLost):
        open_at(kind, tmp_path / "now")
    assert refuses_or_holds(kind, tmp_path / "then", wanted, "the backup by itself") is False


@every_kind
@pytest.mark.parametrize("name", [ENGINE, MARK])
def test_missing_small_file_is_damage(name: str, kind: str, tmp_path: Path) -> None:
    filled(kind, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(LogDamaged) as caught:
        open_at(kind, tmp_path)
    assert caught.value.file == name


@every_kind
def test_interrupted_formatting_begins_anew(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise FileFailed("write", ENGINE, "planned")

    with monkeypatch.context() as patch:
        patch.setattr("raft_storage.engine_store.replace_file", fails)
        with pytest.raises(FileFailed):
            open_at(kind, tmp_path)
    assert engine_files(tmp_path)
    store = open_at(kind, tmp_path)
    assert not store.recover().formed
    store.close()


# Death of the process.


@every_kind
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(kind: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    last = base = 0
    for number in range(ROUNDS):
        arguments = [sys.executable, "-m", "tests.storage.engine_child", f"{kind}:{tmp_path}", str(number)]
        child = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        assert child.stderr is not None
        told = child.stdout.readline()
        time.sleep(rng.random() * 0.15)
        child.send_signal(signal.SIGKILL)
        lines = [told, *child.stdout.read().splitlines()]
        problem = child.stderr.read().decode()
        child.wait()
        child.stdout.close()
        child.stderr.close()
        assert told, problem
        whole = [line for line in lines if line.count(b" ") == 1 and line.split(b" ")[1]]
        last, base = map(int, whole[-1].split())
        store = open_at(kind, tmp_path)
        recovered = store.recover()
        found = recovered.snapshot.index if recovered.snapshot else 0
        assert found >= base, f"round {number}: the snapshot at {base} is gone"
        assert found + len(recovered.entries) >= last - 3, f"round {number}: {last} was acknowledged"
        assert all(entry.data == content_of(entry.index) for entry in recovered.entries)
        if recovered.snapshot is not None:
            reader = store.open_snapshot(recovered.snapshot)
            assert b"".join(reader.chunks()) == content_of(found) * 1000
            reader.close()
        store.close()
