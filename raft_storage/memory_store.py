"""`MemoryStore`: a store in memory, for tests and experiments. Its data survive only `reopened`.

It has the same contract with its caller as `FileStore`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final, final

from raft_core.effects import Persist
from raft_core.entries import HardState, LogPosition, SnapshotMeta
from raft_core.errors import CallerError, DiskError, StorageBroken
from raft_core.ids import BootNumber, ClusterId, Incarnation, NodeId, WriteId
from raft_core.membership import Members
from raft_core.recovered import Identity, Recovered, check_founding, formation
from raft_core.store import SnapshotReader, SnapshotWriter
from raft_core.wal.log_state import LogImage

__all__ = ["MemoryStore"]

_CHUNK_BYTES: Final = 64 * 1024


@final
class _Memory:
    """The contents of the simulated disk."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.boot = 0
        self.image = LogImage()
        self.finished: dict[LogPosition, tuple[SnapshotMeta, bytes]] = {}
        self.received: tuple[str, SnapshotMeta, bytearray] | None = None
        self.lock = threading.Lock()


@final
class MemoryStore:
    """A `raft_core.store.Store` in memory."""

    def __init__(self, node: int, cluster: str = "", *, incarnation: int = 1) -> None:
        """Make an empty disk."""
        self._take(_Memory(Identity(NodeId(node), ClusterId(cluster), Incarnation(incarnation))))

    def _take(self, memory: _Memory) -> None:
        memory.boot += 1
        self._memory = memory
        self._failure: str | None = None
        self._may_recover = True
        snapshot = memory.image.snapshot
        in_force = None if snapshot is None else snapshot.position
        memory.finished = {position: held for position, held in memory.finished.items() if position == in_force}

    def reopened(self) -> MemoryStore:
        """Return the store after a restart, with all written data. This one is closed."""
        self.close()
        store = MemoryStore.__new__(MemoryStore)
        store._take(self._memory)
        return store

    def fail(self, problem: str = "the disk failed on purpose") -> None:
        """Break this store, as if a write had failed."""
        self._failure = problem

    def _check(self) -> None:
        if self._failure is not None:
            raise StorageBroken(f"{self._failure}; reopen the store")

    @property
    def identity(self) -> Identity:
        """The cluster, node and incarnation of this store."""
        return self._memory.identity

    def recover(self) -> Recovered:
        """Return the data written before this store was opened."""
        self._check()
        if not self._may_recover:
            raise CallerError("a store is recovered once, before it is written to; open it again")
        self._may_recover = False
        image = self._memory.image
        image.forget_unneeded()
        boot = BootNumber(self._memory.boot)
        entries, covered = image.behind_snapshot(), image.covered()
        return Recovered(self.identity, image.hard, image.snapshot, entries, boot, covered=covered)

    def form(self, members: Members) -> Recovered:
        """Store the first entry of a new cluster."""
        image = self._memory.image
        if image.hard != HardState() or image.snapshot is not None or image.next > 1:
            raise CallerError("this disk is part of a cluster already; a new cluster forms on empty directories")
        check_founding(members, self.identity)
        hard, entry = formation(members)
        self.write([Persist(WriteId(0), hard=hard, entries=(entry,))])
        return Recovered(self.identity, hard, None, (entry,), BootNumber(self._memory.boot))

    def write(self, batch: Sequence[Persist]) -> None:
        """Store all of `batch`."""
        self._check()
        self._may_recover = False
        try:
            for persist in batch:
                self._write(persist)
        except CallerError as failure:
            self._failure = str(failure)
            raise

    def _write(self, persist: Persist) -> None:
        memory = self._memory
        with memory.lock:
            meta = persist.snapshot
            if meta is not None and meta.position not in memory.finished:
                raise CallerError(f"there is no finished snapshot at index {meta.index}, term {meta.term} to switch to")
            memory.image.change(persist)
            memory.image.forget(memory.image.first)
            if meta is not None:
                for position in list(memory.finished):
                    if position != meta.position and position.index <= meta.index:
                        del memory.finished[position]

    def create_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Return a writer for this node's own snapshot."""
        self._check()
        return _Writer(self, meta, bytearray())

    def resume_snapshot(self, meta: SnapshotMeta, source: str) -> SnapshotWriter:
        """Return a writer for a received snapshot, resuming an earlier one."""
        self._check()
        held = self._memory.received
        if held is None or held[0] != source or held[1] != meta:
            held = self._memory.received = (source, meta, bytearray())
        return _Writer(self, meta, held[2])

    def open_snapshot(self, meta: SnapshotMeta) -> SnapshotReader:
        """Open the finished snapshot of that index and term. Raise `DiskError` if it no longer exists."""
        self._check()
        held = self._memory.finished.get(meta.position)
        if held is None:
            raise DiskError(f"there is no snapshot at index {meta.index}, term {meta.term} any more")
        return _Reader(*held)

    def finish(self, meta: SnapshotMeta, state: bytearray) -> None:
        """Keep `state` as the whole snapshot. Only for writers."""
        self._check()
        with self._memory.lock:
            self._memory.finished.setdefault(meta.position, (meta, bytes(state)))
        self.forget(state)

    def forget(self, state: bytearray) -> None:
        """Forget the incoming `state`. Only for writers."""
        held = self._memory.received
        if held is not None and held[2] is state:
            self._memory.received = None

    def close(self) -> None:
        """Close the store. Every later call raises `StorageBroken`."""
        self._failure = self._failure or "the store is closed"


@final
class _Reader:
    """A `SnapshotReader`."""

    def __init__(self, meta: SnapshotMeta, state: bytes) -> None:
        self._meta = meta
        self._state = state

    @property
    def meta(self) -> SnapshotMeta:
        return self._meta

    @property
    def size(self) -> int:
        return len(self._state)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, fewer only at the end."""
        return self._state[offset : offset + length]

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole state in order."""
        for start in range(0, len(self._state), _CHUNK_BYTES):
            yield self._state[start : start + _CHUNK_BYTES]

    def close(self) -> None:
        """Do nothing: no resource is held."""


@final
class _Writer:
    """A `SnapshotWriter`."""

    def __init__(self, store: MemoryStore, meta: SnapshotMeta, state: bytearray) -> None:
        self._store = store
        self._meta = meta
        self._state = state
        self._living = True

    @property
    def offset(self) -> int:
        return len(self._state)

    def write(self, data: bytes) -> None:
        """Append to the state."""
        self._check()
        self._state += data

    def finish(self) -> None:
        """Finish the snapshot, so that it can be switched to."""
        self._check()
        self._living = False
        self._store.finish(self._meta, self._state)

    def abort(self) -> None:
        """Discard the written data."""
        self._living = False
        self._store.forget(self._state)

    def _check(self) -> None:
        if not self._living:
            raise CallerError("this snapshot was finished or aborted")
