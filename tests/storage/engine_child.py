"""A process that writes to a store, until it is killed or so often: `tests.storage.engine_child LOCATION SEED
[WRITES]`.

It tells on standard output what was acknowledged: the index up to which the log is durable, and the index below which
it holds a snapshot. `content_of` says what every entry holds, so that the next process can check it.
"""

from __future__ import annotations

import os
import random
import sys

from raft_core.effects import Persist
from raft_core.entries import Entry, HardState, SnapshotMeta
from raft_core.ids import Index, NodeId, Term, WriteId
from raft_core.membership import Members
from raft_core.store import Store
from raft_storage.location import open_store, parse_location

__all__ = ["content_of", "open_at"]

MEMBERS = Members.initial([1, 2, 3])


def open_at(location: str, **more: int) -> Store:
    return open_store(parse_location(location), node=more.get("node", 1), cluster="c")


def content_of(index: int) -> bytes:
    return b"%d " % index * (1 + index % 97)


def main(location: str, seed: int, writes: int = sys.maxsize) -> None:
    rng = random.Random(seed)
    store = open_at(location)
    recovered = store.recover()
    last = recovered.entries[-1].index if recovered.entries else (recovered.snapshot.index if recovered.snapshot else 0)
    base = recovered.snapshot.index if recovered.snapshot else 0
    term = recovered.hard.term + 1
    store.write([Persist(WriteId(1), hard=HardState(Term(term), NodeId(1)))])
    mine = last + 1  # from here on, entries are of this run's term
    for _write in range(writes):
        batch = []
        for _ in range(rng.randrange(1, 4)):
            cut = last - 1 if rng.random() < 0.1 and last - 1 > base else 0
            last = cut - 1 if cut else last
            mine = min(mine, last + 1)
            count = rng.randrange(1, 9)
            entries = tuple(Entry.make(at, term, content_of(at)) for at in range(last + 1, last + 1 + count))
            batch.append(Persist(WriteId(1), truncate_from=Index(cut), entries=entries))
            last += count
        store.write(batch)
        if last - base > 300 and last - 20 >= mine:
            meta = SnapshotMeta(Index(last - 20), Term(term), MEMBERS)
            writer = store.create_snapshot(meta)
            writer.write(content_of(meta.index) * 1000)
            writer.finish()
            store.write([Persist(WriteId(1), snapshot=meta, drop_before=Index(meta.index + 1))])
            base = meta.index
        os.write(1, b"%d %d\n" % (last, base))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
