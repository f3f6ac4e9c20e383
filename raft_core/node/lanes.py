"""Two translations: the core's effects into jobs, and workers' reports into the core's events.

They contain no decision, so `core` shows only decisions.
"""

from __future__ import annotations

from typing import Final

from raft_core.effects import Apply, Effect, Persist, Restore, TakeSnapshot
from raft_core.events import Applied, Event, Persisted, Restored, SnapshotFailed, SnapshotTaken
from raft_core.node.events import EntriesApplied, MachineRestored, NodeEvent, SnapshotIncomplete, SnapshotStored, Wrote
from raft_core.node.jobs import BeginSnapshot, Job, Lane, RestoreMachine, Write

__all__ = ["job_of", "report_of"]

_APPLY: Final = Lane.APPLY


def job_of(effect: Effect) -> tuple[Lane, Job] | None:
    """Return the job for this effect, with its lane; None if it needs no worker. Hottest first."""
    kind = type(effect)
    if kind is Persist:
        return Lane.WRITE, Write(effect)  # type: ignore[arg-type]
    if kind is Apply:
        return _APPLY, effect  # type: ignore[return-value]
    if kind is TakeSnapshot:
        return _APPLY, BeginSnapshot(effect.meta)  # type: ignore[union-attr]
    if kind is Restore:
        return _APPLY, RestoreMachine(effect.meta)  # type: ignore[union-attr]
    return None


def report_of(event: NodeEvent) -> Event | None:
    """Return the core's event for this report; None if the core needs none. Hottest first."""
    kind = type(event)
    if kind is Wrote:
        return Persisted(event.upto)  # type: ignore[union-attr,arg-type]
    if kind is EntriesApplied:
        return Applied(event.upto, event.results)  # type: ignore[union-attr,arg-type]
    if isinstance(event, SnapshotStored):
        return SnapshotTaken(event.meta)
    if isinstance(event, SnapshotIncomplete):
        return SnapshotFailed(event.meta.index)
    if isinstance(event, MachineRestored):
        return Restored(event.index)
    return None
