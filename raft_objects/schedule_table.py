"""`ScheduleTable`: which occurrence of each job has begun, and who runs it. Pure; `schedules` does the waiting.

An occurrence is a time, in milliseconds since 1970, that processes compute from their wall clocks. The first to name
one later than the last runs it, under its lease. So wall clocks decide when something is due, and only the log decides
who runs it. Runs of one job never overlap. A run whose process died is begun again, up to `attempts` times.
"""

from __future__ import annotations

import attrs

from raft_objects.declare import command, query
from raft_objects.lease_table import LeaseTable
from raft_objects.shards import ShardedDict

__all__ = ["JobState", "Run", "ScheduleTable"]


@attrs.frozen
class Run:
    """A run: of which occurrence, the how-manieth attempt, and a token for fencing that rises with every run."""

    occurrence: int
    attempt: int
    token: int


@attrs.frozen
class JobState:
    """The last run and its owner. `running`: it has not ended; `again`: it has failed and may be begun again."""

    run: Run
    client: str
    owner: str
    running: bool
    attempts: int
    again: bool = False


class ScheduleTable(LeaseTable):
    """Jobs by name. What a job was last run for is kept until `forget`."""

    classes = (*LeaseTable.classes, JobState, Run)

    def __init__(self) -> None:
        super().__init__()
        self.jobs: ShardedDict[str, JobState] = ShardedDict()

    @command
    def begin(self, name: str, client: str, owner: str, occurrence: int, attempts: int) -> Run | None:
        """Begin a run for this occurrence, or anew for the last one if that failed; None if it is not `owner`'s turn.

        Asked again, `owner` gets the same run. Renew the lease, too.
        """
        return self._begin(name, client, owner, occurrence, attempts)

    def _begin(self, name: str, client: str, owner: str, occurrence: int, attempts: int) -> Run | None:
        if attempts < 1:
            raise ValueError("a job is tried once at least")
        self._renew(client)
        state = self.jobs.get(name)
        if state is not None and state.running:
            return state.run if state.owner == owner else None
        if state is not None and state.again:
            run = Run(state.run.occurrence, state.run.attempt + 1, self._next_token())
        elif state is None or occurrence > state.run.occurrence:
            run = Run(occurrence, 1, self._next_token())
        else:
            return None
        self.places.add((client, name, owner))
        self.jobs[name] = JobState(run, client, owner, running=True, attempts=attempts)
        self.notify(name)  # others learn that it is not due any more
        return run

    @command
    def finish(self, name: str, owner: str, *, failed: bool = False) -> bool:
        """End the owner's run. Return False if it had ended: its lease was over."""
        self._end_leases()
        state = self.jobs.get(name)
        if state is None or not state.running or state.owner != owner:
            return False
        self.places.discard((state.client, name, owner))
        self._end(name, state, failed=failed)
        return True

    @command
    def forget(self, name: str) -> bool:
        """Forget a job that does not run. Return whether it was known."""
        self._end_leases()
        state = self.jobs.get(name)
        if state is None or state.running:
            return False
        del self.jobs[name]
        return True

    @query
    def last(self, name: str) -> Run | None:
        """Return the last run; None if there was none."""
        state = self.jobs.get(name)
        return None if state is None else state.run

    def _clear(self, name: str, owners: list[str]) -> None:
        self._end(name, self.jobs[name], failed=True)

    def _end(self, name: str, state: JobState, *, failed: bool) -> None:
        again = failed and state.run.attempt < state.attempts
        self.jobs[name] = attrs.evolve(state, running=False, again=again)
        self.notify(name)
