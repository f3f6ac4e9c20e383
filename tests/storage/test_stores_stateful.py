"""Every store beside a plain model: batches, truncation, snapshots, reopening, and crashes in between.

One machine drives all stores. `Place` is where a store lives and how it crashes: a store on a directory is copied as
it lies after the last acknowledged write, as if the process had been killed; the crash disk loses power in the middle
of any call, with any part of what no sync has covered.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, LogPosition, SnapshotMeta
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity
from raft_core.store import Store
from raft_storage.file_store import FileStore
from raft_storage.location import open_store, parse_location
from raft_storage.memory_store import MemoryStore
from raft_testing.disk.crash_disk import CrashDisk, Fault, FaultKind, PowerLost
from tests.profiles import stateful

MEMBERS: Final = Members.initial([1, 2, 3])
SEED: Final = st.integers(0, 2**32)
PLACE: Final = st.integers(0, 60)  # taken modulo the number of possible places
SOURCE: Final = "node 2"


class Place:
    """Where a store lives. `crash` ends the open store without closing it in an orderly way."""

    def open(self) -> Store:
        raise NotImplementedError

    def crash(self, store: Store, rng: Random) -> None:
        raise NotImplementedError

    def arm(self, calls: int) -> None:
        """Lose power after so many calls, where the place can."""

    def remove(self) -> None:
        """Free what the place holds."""


class InMemory(Place):
    def __init__(self) -> None:
        self.store: MemoryStore | None = None

    def open(self) -> Store:
        self.store = self.store.reopened() if self.store else MemoryStore(1, "c")
        return self.store

    def crash(self, store: Store, rng: Random) -> None:
        """Nothing: what was written stays."""


class OnCrashDisk(Place):
    def __init__(self) -> None:
        self.disk = CrashDisk()

    def open(self) -> Store:
        return FileStore.open(
            "disk", node=1, cluster="c", files=self.disk, incarnation=7, segment_bytes=4096, merge_bytes=1024
        )

    def crash(self, store: Store, rng: Random) -> None:
        kept = [change for change in range(self.disk.unsynced) if rng.random() < 0.5]
        self.disk = self.disk.crash(survivors=kept)

    def arm(self, calls: int) -> None:
        self.disk.faults[self.disk.calls + calls] = Fault(FaultKind.POWER, taken=calls * 37)


class InDirectory(Place):
    kind = "file"

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stores-"))
        self.number = 0

    @property
    def directory(self) -> Path:
        return self.root / str(self.number)

    def open(self) -> Store:
        return open_store(parse_location(f"{self.kind}:{self.directory}"), node=1, cluster="c")

    def crash(self, store: Store, rng: Random) -> None:
        old = self.directory
        self.number += 1
        while not self._copied(old):
            shutil.rmtree(self.directory)
        store.close()
        shutil.rmtree(old)

    def _copied(self, old: Path) -> bool:
        """Copy the directory. Return False if a thread of the engine replaced files meanwhile: no crash leaves that."""
        before = sorted(old.rglob("*"))
        with suppress(shutil.Error):
            shutil.copytree(old, self.directory)
            return sorted(old.rglob("*")) == before
        return False

    def remove(self) -> None:
        shutil.rmtree(self.root)


class InSqlite(InDirectory):
    kind = "sqlite"


class InRocks(InDirectory):
    kind = "rocksdb"


class InMdbx(InDirectory):
    kind = "mdbx"


@attrs.frozen
class Model:
    """What a restart has to find. `entries` are those after the snapshot; `past` those that it covers, if known."""

    hard: HardState = HardState()
    meta: SnapshotMeta | None = None
    state: bytes = b""
    entries: tuple[Entry, ...] = ()
    past: tuple[Entry, ...] = ()

    @property
    def base(self) -> LogPosition:
        return self.meta.position if self.meta else LogPosition(Index(0), Term(0))

    @property
    def last(self) -> int:
        return self.base.index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base.term

    def after(self, write: Persist, state: bytes = b"") -> Model:
        model = self if write.hard is None else attrs.evolve(self, hard=write.hard)
        if write.truncate_from:
            model = attrs.evolve(model, entries=model.entries[: write.truncate_from - 1 - model.base.index])
        model = attrs.evolve(model, entries=model.entries + write.entries)
        if write.snapshot is None:
            return model
        count = write.snapshot.index - model.base.index
        behind = model.entries[count - 1] if 0 < count <= len(model.entries) else None
        if behind is not None and behind.term == write.snapshot.term:
            past, entries = model.past + model.entries[:count], model.entries[count:]
        elif write.snapshot.position == model.base:
            past, entries = model.past, model.entries
        else:
            past, entries = (), ()
        return attrs.evolve(model, meta=write.snapshot, state=state, past=past, entries=entries)


class StoreBesideModel(RuleBasedStateMachine):
    """`may_be` holds every state that a crash may leave: the acknowledged one, then those of the write under way."""

    place: ClassVar[Callable[[], Place]]

    @initialize()
    def begin(self) -> None:
        self.at = type(self).place()
        self.model = Model()
        self.boot = 0
        self.identity: Identity | None = None
        self.writes = 0
        self.may_be: list[Model] = [self.model]
        self.store: Store
        self._open()

    def _open(self) -> None:
        """Open the store, as often as the power goes, and find one of the states that may be there."""
        rng = Random(self.writes)
        while True:
            try:
                self.store = self.at.open()
                found = self.store.recover()
                break
            except PowerLost:
                self.at.crash(self.store, rng)
        matching = [
            model
            for model in self.may_be
            if (model.hard, model.meta, model.entries) == (found.hard, found.snapshot, found.entries)
        ]
        assert matching, f"recovered {found}, which is none of {self.may_be}"
        self.model = matching[-1]
        self.may_be = [self.model]
        past = self.model.past
        assert not found.covered or past[-len(found.covered) :] == found.covered
        assert found.boot > self.boot
        assert self.identity in (None, found.identity)
        assert self.store.identity == found.identity
        self.boot, self.identity = found.boot, found.identity

    def _crash(self, seed: int) -> None:
        self.at.crash(self.store, Random(seed))
        self._open()

    def _persist(self, batch: list[Persist], state: bytes = b"") -> None:
        """Write the batch, or lose power meanwhile; then any number of its writes may be there."""
        for write in batch:
            self.may_be.append(self.may_be[-1].after(write, state))
        try:
            self.store.write(batch)
        except PowerLost:
            self._crash(self.writes)
            return
        self.model = self.may_be[-1]
        self.may_be = [self.model]

    def _next(self, **parts: Any) -> Persist:
        self.writes += 1
        return Persist(WriteId(self.writes), **parts)

    def _state_at(self, meta: SnapshotMeta) -> bytes:
        """Return the machine's state, which is the same in all snapshots of one position."""
        return Random(meta.index << 20 | meta.term).randbytes(meta.index * 7_919 % 150_000)

    # Writes.

    @rule(
        parts=st.lists(
            st.tuples(
                st.integers(0, 4),  # new entries
                st.sampled_from([0, 0, 0, 1, 2]),  # entries to truncate
                st.booleans(),  # a new hard state
                st.sampled_from([0, 10, 300, 3000]),  # bytes of each entry
            ),
            min_size=1,
            max_size=3,
        )
    )
    def write(self, parts: list[tuple[int, int, bool, int]]) -> None:
        batch, model = [], self.model
        for count, cut, hard, size in parts:
            cut = min(cut, len(model.entries))
            first = model.last - cut + 1
            term = max(1, model.hard.term, model.last_term) + (cut > 0)
            entries = tuple(
                Entry.make(index, term, b"%d@%d" % (index, term) + b"x" * size) for index in range(first, first + count)
            )
            batch.append(
                self._next(
                    hard=HardState(Term(term), NodeId(self.writes % 3), Index(model.last)) if hard or cut else None,
                    truncate_from=Index(first if cut else 0),
                    entries=entries,
                )
            )
            model = model.after(batch[-1])
        self._persist(batch)

    @precondition(lambda self: self.model.entries)
    @rule(place=PLACE, keep=st.integers(0, 3), more=st.integers(0, 2), switch=st.booleans())
    def take_snapshot(self, place: int, keep: int, more: int, switch: bool) -> None:
        """Without the switch, the finished snapshot must not count."""
        entry = self.model.entries[place % len(self.model.entries)]
        meta = SnapshotMeta(entry.index, entry.term, MEMBERS, Index(1))
        state = self._state_at(meta)
        try:
            writer = self.store.create_snapshot(meta)
            writer.write(state)
            writer.finish()
        except PowerLost:
            self._crash(self.writes)
            return
        if switch:
            first, term = self.model.last + 1, max(1, self.model.hard.term, self.model.last_term)
            entries = tuple(Entry.make(index, term, b"more") for index in range(first, first + more))
            drop_before = Index(max(1, meta.index + 1 - keep))
            self._persist([self._next(entries=entries, snapshot=meta, drop_before=drop_before)], state)

    @rule(further=st.integers(1, 4), half=st.booleans(), seed=SEED)
    def install_snapshot(self, further: int, half: bool, seed: int) -> None:
        """Receive a snapshot from a leader, perhaps with a crash in the middle, and switch to it."""
        meta = SnapshotMeta(
            Index(self.model.last + further),
            Term(max(self.model.hard.term, self.model.last_term) + 1),
            MEMBERS,
            Index(1),
        )
        state = self._state_at(meta)
        try:
            writer = self.store.resume_snapshot(meta, SOURCE)
            writer.write(state[writer.offset : 70_000])
            if half:
                self._crash(seed)
                writer = self.store.resume_snapshot(meta, SOURCE)
            writer.write(state[writer.offset :])
            writer.finish()
        except PowerLost:
            self._crash(seed)
            return
        hard = HardState(meta.term, NodeId(0), meta.index)
        self._persist([self._next(hard=hard, snapshot=meta)], state)

    # Reading, restarts.

    @precondition(lambda self: self.model.meta)
    @rule()
    def read_snapshot(self) -> None:
        assert self.model.meta is not None
        try:
            reader = self.store.open_snapshot(self.model.meta)
            assert reader.size == len(self.model.state)
            assert b"".join(reader.chunks()) == self.model.state
            assert reader.read(1, 50_000) == self.model.state[1:50_001]
            reader.close()
        except PowerLost:
            self._crash(self.writes)

    @rule()
    def reopen(self) -> None:
        try:
            self.store.close()
        except PowerLost:
            self._crash(self.writes)
            return
        self._open()

    @rule(seed=SEED)
    def crash(self, seed: int) -> None:
        self._crash(seed)

    @rule(calls=st.integers(1, 12))
    def power_goes_soon(self, calls: int) -> None:
        self.at.arm(calls)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            with suppress(PowerLost):
                self.store.close()
            self.at.remove()


class MemoryStoreBesideModel(StoreBesideModel):
    place = InMemory


class CrashDiskBesideModel(StoreBesideModel):
    place = OnCrashDisk


class FileStoreBesideModel(StoreBesideModel):
    place = InDirectory


class SqliteStoreBesideModel(StoreBesideModel):
    place = InSqlite


class RocksStoreBesideModel(StoreBesideModel):
    place = InRocks


class MdbxStoreBesideModel(StoreBesideModel):
    place = InMdbx


TestMemoryStore = stateful(MemoryStoreBesideModel, runs=15, steps=20)
TestFileStoreOnCrashDisk = stateful(CrashDiskBesideModel, runs=50, steps=25)
TestFileStore = stateful(FileStoreBesideModel, runs=4, steps=20)
TestSqliteStore = stateful(SqliteStoreBesideModel, runs=4, steps=20)
TestRocksStore = pytest.mark.skipif(find_spec("rocksdict") is None, reason="rocksdict is not installed")(
    stateful(RocksStoreBesideModel, runs=4, steps=20)
)
TestMdbxStore = pytest.mark.skipif(find_spec("mdbx") is None, reason="libmdbx is not installed")(
    stateful(MdbxStoreBesideModel, runs=4, steps=20)
)
