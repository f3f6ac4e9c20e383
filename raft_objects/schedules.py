"""`Schedule`: a job that is due at certain times and runs in one process of the cluster, on asyncio or trio.

    schedules = Schedules(objects.add("schedules", ScheduleTable()))
    await Schedule(schedules, "report", Cron("0 3 * * *", "Europe/Berlin")).run(write_report)   # in every process

Promise: each occurrence is begun in one process at most, and once some process is up when it is due or later, in one
exactly; runs of a job never overlap. With `attempts`, what failed is begun again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, cast, final

import anyio

from raft_core.errors import CallerError, OutcomeUnknown, Refused
from raft_objects.leases import Held, Leases, LockLost, while_held
from raft_objects.occurrences import Occurrences
from raft_objects.running import Running, may_pass
from raft_objects.schedule_table import JobState, Run, ScheduleTable

__all__ = ["Schedule", "Schedules"]

_PAUSE: Final = 0.05
_LOOK: Final = 30.0
"""Seconds after which the wall clock is read again at the latest: it may have been set."""


@final
class Schedules:
    """This process's runs of a `ScheduleTable` that is open on a node.

    `lease`: seconds after which the run of a process that has died, or cannot reach the cluster, has failed. `clock`:
    the wall clock, in seconds since 1970.
    """

    def __init__(self, table: ScheduleTable, *, lease: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._table: Final = table
        self._leases: Final = Leases(table, lease)
        self._clock: Final = clock

    async def run(
        self,
        name: str,
        when: Occurrences,
        func: Callable[[Run], Awaitable[object]],
        *,
        attempts: int = 1,
        late: float = math.inf,
    ) -> None:
        """Run `func` whenever it is due and this process's turn; until it is cancelled or `func` raises.

        The first occurrence of a new job is the first after this call. Of several that have passed since the last run,
        the latest is run, unless it is more than `late` seconds ago. `func` is cancelled if the lease is lost, before
        another process can begin. `Run.token` fences what it does elsewhere. Wait through outages of the cluster; raise
        `Refused` if this node has ended.
        """
        if attempts < 1:
            raise CallerError(f"{name}: a job is tried once at least, not {attempts} times")
        since = self._now()
        with self._running.waiting(self._table._binding.name, name) as waiter:
            while True:
                due = self._due(name, when, since, late)
                if due is None:
                    await waiter.wait(self._pause(name, when))
                    continue
                begun = await self._begun(name, due, attempts)
                if begun is None:
                    await waiter.wait(1.0)  # another's: this replica will hear of it
                    continue
                await self._carry_out(name, func, *begun)

    @property
    def _running(self) -> Running:
        site = self._table._binding.site
        if site is None:
            raise CallerError("the schedules are not open; add the table to Objects, and open those")
        return cast("Running", site)

    def _now(self) -> int:
        return math.floor(self._clock() * 1000)

    def _due(self, name: str, when: Occurrences, since: int, late: float) -> int | None:
        """Return the occurrence to be begun now, as far as this replica knows; None if there is none."""
        state, now = self._table.jobs.get(name), self._now()
        if state is not None and state.running:
            over = self._lease_end(state) <= self._running.node.cluster_time
            return state.run.occurrence if over else None  # no command comes by itself to end a lease
        if state is not None and state.again:
            return state.run.occurrence
        latest = when.before(now)
        if latest is None or latest <= (since if state is None else state.run.occurrence) or now - latest > late * 1000:
            return None
        return latest

    def _pause(self, name: str, when: Occurrences) -> float:
        """Return after how many seconds to look again, at the latest."""
        state, now = self._table.jobs.get(name), self._now()
        if state is not None and state.running:
            return self._running.seconds_until(self._lease_end(state))
        following = when.after(now)
        return _LOOK if following is None else min(_LOOK, (following - now) / 1000)

    def _lease_end(self, state: JobState) -> int:
        lease = self._table.clients.get(state.client)
        return 0 if lease is None else lease.ends

    async def _begun(self, name: str, due: int, attempts: int) -> tuple[Held, Run] | None:
        runs: list[Run] = []

        async def ask(client: str, owner: str) -> int:
            while True:
                try:
                    run = await self._table.begin(name, client, owner, due, attempts)
                except (Refused, OutcomeUnknown) as failure:
                    if not may_pass(failure):
                        raise
                    await anyio.sleep(_PAUSE)
                    continue
                if run is None:
                    return 0
                runs.append(run)
                return run.token

        held = await self._leases.try_acquire(
            name, ask, lambda owner: self._table.finish(name, owner, failed=True), patient=True
        )
        return None if held is None else (held, runs[-1])

    async def _carry_out(self, name: str, func: Callable[[Run], Awaitable[object]], held: Held, run: Run) -> None:
        failed = True
        try:
            await while_held(held, lambda: func(run))
            failed = False
        except LockLost:
            if not held.lost.is_set():
                raise  # of another lock, which `func` held
        finally:
            await self._leases.release(held, lambda owner: self._table.finish(name, owner, failed=failed))


@final
class Schedule:
    """One job. `when`, `attempts` and `late` should be the same in every process; see `Schedules.run`."""

    def __init__(
        self, schedules: Schedules, name: str, when: Occurrences, *, attempts: int = 1, late: float = math.inf
    ) -> None:
        self._schedules: Final = schedules
        self.name: Final = name
        self.when: Final = when
        self.attempts: Final = attempts
        self.late: Final = late

    async def run(self, func: Callable[[Run], Awaitable[object]]) -> None:
        """Run `func` whenever it is due and this process's turn; until it is cancelled or `func` raises."""
        await self._schedules.run(self.name, self.when, func, attempts=self.attempts, late=self.late)
