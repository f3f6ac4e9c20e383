"""Histories for the crash disk, the correct contents of a store after each prefix, and ways to damage its files.

The steps of a script, a naive model of a log, scripts made from a seed, and broken copies of segments. The model shares
no code with the stores: it keeps one list per moment and slices it.
"""

from __future__ import annotations

from random import Random
from typing import Final, TypeAlias, final

import attrs

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, LogPosition, SnapshotMeta
from raft_core.ids import NO_INDEX, Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.recovered import Recovered
from raft_core.store import Store
from raft_core.structs import Value
from raft_core.wal.blocks import BLOCK, FIRST, ROOM
from raft_core.wal.layout import segment_number
from raft_core.wal.records import MAGIC

__all__ = [
    "LogState",
    "Reopen",
    "Script",
    "Step",
    "TakeOne",
    "WriteBatch",
    "batches_in",
    "broken_copies",
    "is_segment",
    "make_script",
    "plain_script",
    "take_snapshot",
    "used_bytes",
]

_MEMBERS: Final = Members.initial([1, 2, 3])


@final
class WriteBatch(Value, frozen=True):
    """Write these together."""

    batch: tuple[Persist, ...]


@final
class TakeOne(Value, frozen=True):
    """Write and finish a snapshot; `source` where it is received, in two parts."""

    meta: SnapshotMeta
    state: bytes
    source: str | None = None


@final
class Reopen(Value, frozen=True):
    """Open the store again, after an orderly close or after the process was killed."""

    orderly: bool


Step: TypeAlias = WriteBatch | TakeOne | Reopen


@final
class LogState(Value, frozen=True):
    """The state a store must recover. Of `covered`, the entries up to the snapshot, it may return the last ones."""

    hard: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    entries: tuple[Entry, ...] = ()
    covered: tuple[Entry, ...] = ()

    @property
    def base(self) -> int:
        """The index of the snapshot, 0 without one."""
        return self.snapshot.index if self.snapshot is not None else 0

    @property
    def last(self) -> int:
        """The index of the last entry."""
        return self.base + len(self.entries)

    def after(self, persist: Persist) -> LogState:
        """Return the state once `persist` is written."""
        hard = persist.hard if persist.hard is not None else self.hard
        entries = self.entries
        if persist.truncate_from:
            entries = entries[: persist.truncate_from - self.base - 1]
        entries += persist.entries
        snapshot = persist.snapshot
        if snapshot is None:
            return LogState(hard, self.snapshot, entries, self.covered)
        held = any((entry.index, entry.term) == (snapshot.index, snapshot.term) for entry in entries)
        tail = tuple(entry for entry in entries if entry.index > snapshot.index) if held else ()
        covered = self.covered + tuple(entry for entry in entries if entry.index <= snapshot.index) if held else ()
        return LogState(hard, snapshot, tail, covered)

    def agrees(self, recovered: Recovered) -> bool:
        """Return whether a store recovered exactly this."""
        covered = recovered.covered
        if covered and self.covered[-len(covered) :] != covered:
            return False
        return (recovered.hard, recovered.snapshot, recovered.entries) == (self.hard, self.snapshot, self.entries)


@final
@attrs.frozen(eq=False)
class Script:
    """A history. `states[n]` is the model after the first `n` persists, `snapshots` the contents of each snapshot."""

    steps: tuple[Step, ...]
    states: tuple[LogState, ...]
    snapshots: dict[LogPosition, bytes]


@final
class _Author:
    """Writes a script step by step, as a core would."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.steps: list[Step] = []
        self.states = [LogState()]
        self.snapshots: dict[LogPosition, bytes] = {}
        self.term = Term(1)
        self.writes = 0

    @property
    def now(self) -> LogState:
        return self.states[-1]

    def done(self) -> Script:
        return Script(tuple(self.steps), tuple(self.states), self.snapshots)

    def write(self, *batch: Persist) -> None:
        for persist in batch:
            self.states.append(self.now.after(persist))
        self.steps.append(WriteBatch(batch))

    def next_write(self) -> WriteId:
        self.writes += 1
        return WriteId(self.writes)

    def entries(self, first: int, *, most: int = 4, size: int = 220) -> tuple[Entry, ...]:
        count = 1 + int(self.random.random() * most)
        made = []
        for index in range(first, first + count):
            length = int(self.random.random() * size)
            made.append(Entry.make(index, self.term, bytes(int(self.random.random() * 256) for _ in range(length))))
        return tuple(made)

    def append(self) -> None:
        self.write(Persist(self.next_write(), entries=self.entries(self.now.last + 1)))

    def several(self) -> None:
        """Three writes under one sync."""
        first = Persist(self.next_write(), entries=self.entries(self.now.last + 1))
        last = self.now.last + len(first.entries)
        vote = Persist(self.next_write(), hard=HardState(self.term, NodeId(2), Index(last)))
        self.write(first, vote, Persist(self.next_write(), entries=self.entries(last + 1)))

    def vote(self) -> None:
        self.term = Term(self.term + 1)
        hard = HardState(self.term, NodeId(1 + int(self.random.random() * 3)), self.now.hard.commit)
        self.write(Persist(self.next_write(), hard=hard))

    def overwrite(self) -> None:
        """Replace some of the last entries by a new leader's."""
        self.term = Term(self.term + 1)
        if not self.now.entries:
            return self.append()
        start = self.now.last - int(self.random.random() * min(6, len(self.now.entries)))
        hard, entries = HardState(self.term), self.entries(start)
        return self.write(Persist(self.next_write(), hard=hard, truncate_from=Index(start), entries=entries))

    def shorten(self) -> None:
        """Remove some of the last entries, without replacement yet."""
        self.write(self._cut())

    def shorten_and_go_on(self) -> None:
        """Remove some of the last entries by one write and replace them by another, under one sync."""
        cut = self._cut()
        self.write(cut, Persist(self.next_write(), entries=self.entries(cut.truncate_from)))

    def _cut(self) -> Persist:
        """Return a truncation without entries, with a hard state if the old one would name a lost entry."""
        if not self.now.entries:
            self.append()
        self.term = Term(self.term + 1)
        start = self.now.last - int(self.random.random() * min(6, len(self.now.entries)))
        hard = HardState(self.term) if self.now.hard.commit >= start else None
        return Persist(self.next_write(), hard=hard, truncate_from=Index(start))

    def snapshot(self) -> None:
        """Take a snapshot of this node, of most of its entries."""
        if len(self.now.entries) < 2:
            self.append()
            self.append()
        at = self.now.entries[len(self.now.entries) * 2 // 3]
        self._switch(SnapshotMeta(at.index, at.term, _MEMBERS, Index(1)), None, drop_before=Index(at.index))

    def received(self) -> None:
        """Receive a leader's snapshot, beyond the log."""
        meta = SnapshotMeta(Index(self.now.last + 5), self.term, _MEMBERS)
        self._switch(meta, "peer", drop_before=NO_INDEX)

    def _switch(self, meta: SnapshotMeta, source: str | None, *, drop_before: Index) -> None:
        state = b"state at %d, " % meta.index * (3 + int(self.random.random() * 60))
        self.snapshots[meta.position] = state
        self.steps.append(TakeOne(meta, state, source))
        self.write(Persist(self.next_write(), snapshot=meta, drop_before=drop_before))


def make_script(seed: int) -> Script:
    """Return a history of 40 steps or more.

    It has snapshots of both kinds, truncations with and without entries, and both kinds of restart.
    """
    author = _Author(Random(seed))
    common = (author.append, author.append, author.append, author.several, author.vote, author.overwrite)
    author.vote()
    for step in range(34):
        author.overwrite() if step in (4, 18) else common[int(author.random.random() * len(common))]()
        if step == 6 or step == 30:
            author.shorten()
        elif step == 22:
            author.shorten_and_go_on()
        elif step == 8:
            author.steps.append(Reopen(orderly=False))
        elif step == 14 or step == 28:
            author.snapshot()
        elif step == 20:
            author.steps.append(Reopen(orderly=True))
        elif step == 24:
            author.received()
    return author.done()


def plain_script(seed: int, size: int) -> Script:
    """Return a history of writes alone, with about `size` bytes of entries."""
    author = _Author(Random(seed))
    author.vote()
    written = 0
    while written < size:
        author.several()
        author.overwrite()
        written += sum(len(entry.data) + 24 for persist in _last_batches(author) for entry in persist.entries)
    return author.done()


def _last_batches(author: _Author) -> list[Persist]:
    return [persist for step in author.steps[-2:] if type(step) is WriteBatch for persist in step.batch]


def take_snapshot(store: Store, step: TakeOne) -> None:
    """Write a snapshot; a received one in two parts, the second after the transfer was resumed."""
    if step.source is None:
        writer = store.create_snapshot(step.meta)
        writer.write(step.state)
    else:
        half = len(step.state) // 2
        store.resume_snapshot(step.meta, step.source).write(step.state[:half])
        writer = store.resume_snapshot(step.meta, step.source)
        writer.write(step.state[writer.offset :])
    writer.finish()


def is_segment(name: str, content: bytes) -> bool:
    """Return whether the file is a log segment in this library's format, by its name and its first bytes."""
    return segment_number(name) is not None and MAGIC.encode() in content[:BLOCK]


def used_bytes(content: bytes) -> int:
    """How many bytes of a segment come before nothing but zeros, in whole blocks."""
    return -(-len(content.rstrip(b"\0")) // BLOCK) * BLOCK


def batches_in(content: bytes) -> list[tuple[int, int]]:
    """Where each batch of a segment begins and ends."""
    used = used_bytes(content)
    starts = [start for start in range(0, used, BLOCK) if content[start + ROOM] == FIRST]
    return list(zip(starts, [*starts[1:], used], strict=True))


def broken_copies(content: bytes, start: int, end: int) -> list[tuple[str, bytes]]:
    """Return copies of the segment without one batch, with it twice, and with zeros in its place."""
    size = len(content)
    return [
        ("dropped", (content[:start] + content[end:]).ljust(size, b"\0")),
        ("doubled", (content[:end] + content[start:])[: max(size, used_bytes(content) + end - start)]),
        ("zeroed", content[:start] + bytes(end - start) + content[end:]),
    ]
