"""Founds a new cluster on a survivor's disk, after a majority of disks is gone for ever.

What lives here: the copying. What is copied and may be lost, `raft_core.salvage` says. The old store is only read;
the new one is complete and synced, statement included, before this returns.
"""

from __future__ import annotations

from collections.abc import Callable

from raft_core.recovered import Recovered
from raft_core.salvage import Statement, plan_salvage
from raft_core.storage import Store

__all__ = ["salvage"]


def salvage(
    source: Store, survivor: Recovered, target: Store, progress: Callable[[str], None] = lambda line: None
) -> Statement:
    """`target`, a freshly formatted store under a new cluster's name, holds all that `source` does, with itself as the
    one voter. `survivor` is what `source.recover()` gave. Raises `CallerError` or `DiskError`; then `target` is to be
    thrown away."""
    plan = plan_salvage(survivor, target.identity)
    target.recover()
    if plan.snapshot is not None:
        reader = source.open_snapshot(plan.snapshot)
        try:
            writer = target.create_snapshot(plan.snapshot)
            for chunk in reader.chunks():
                writer.write(chunk)
                progress(f"snapshot: {writer.offset} of {reader.size} bytes")
            writer.finish()
        finally:
            reader.close()
    for number, write in enumerate(plan.writes, 1):
        target.write([write])
        progress(f"log: {number} of {len(plan.writes)} writes")
    return plan.statement
