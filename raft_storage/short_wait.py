"""`ShortWait`: the loop waits within its turn for the report of a write, for as long as `SyncPatience` allows."""

from __future__ import annotations

from threading import Lock
from typing import Final

from raft_core.node.events import NodeEvent
from raft_core.node.sync_patience import SyncPatience

__all__ = ["ShortWait"]

_NANOSECONDS: Final = 1_000_000_000


class ShortWait:
    """The meeting of loop and thread: all reports of the lane, in order."""

    def __init__(self, patience: SyncPatience) -> None:
        self._patience: Final = patience
        self._guard: Final = Lock()
        self._done: Final = Lock()  # released by the thread when nothing is under way any more; held while a job is
        self._done.acquire()
        self._jobs = 0  # put, and not reported
        self._nanoseconds = 0  # the loop will wait for so long; 0: it will not
        self._reports: list[NodeEvent] = []

    def inline(self) -> bool:
        """Return whether the loop may write itself now: no job is under way, and the disk is fast. For the loop."""
        with self._guard:
            return not self._jobs and not self._reports and self._patience.inline()

    def took_inline(self, duration: int) -> None:
        """Note the nanoseconds that a write of the loop took. For the loop."""
        with self._guard:
            self._patience.took_inline(duration)

    def begin(self) -> None:
        """Count a job that is about to be queued. For the loop."""
        with self._guard:
            if not self._jobs:  # otherwise the disk is busy already
                self._done.acquire(blocking=False)  # an earlier job of this turn may be done already
                self._nanoseconds = self._patience.wait()
            self._jobs += 1

    @property
    def waiting(self) -> bool:
        """True if `take` is to be called soon: the thread would not wake the loop. For the loop."""
        return self._nanoseconds > 0 or bool(self._reports)

    def take(self) -> list[NodeEvent]:
        """Wait for the jobs queued in this turn, if that is worth it. Return all reports so far. For the loop."""
        if self._nanoseconds:
            done = self._done.acquire(timeout=self._nanoseconds / _NANOSECONDS)
            with self._guard:
                self._nanoseconds = 0
                if not done and not self._jobs:  # it came in this very moment
                    done = self._done.acquire(blocking=False)
                self._patience.waited(in_vain=not done)
        return self.late()

    def late(self) -> list[NodeEvent]:
        """Return the reports that have come, without waiting. For the loop."""
        if not self._reports:
            return []
        with self._guard:
            reports, self._reports = self._reports, []
        return reports

    def give(self, events: list[NodeEvent], jobs: int, duration: int) -> bool:
        """Report so many jobs, done in `duration` nanoseconds. Return whether the loop waits; otherwise wake it.

        For the lane's thread.
        """
        with self._guard:
            self._patience.took(duration)
            self._jobs -= jobs
            self._reports += events
            if not self._nanoseconds:
                return False
            if not self._jobs:
                self._done.release()
            return True
