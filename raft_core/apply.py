"""The way of committed entries to the state machine, and the reads that wait for it.

Pages of committed, durable entries are ordered from the machine, at most two at a time; reports of it answer clients.
"""

from __future__ import annotations

from bisect import bisect_right, insort_right
from collections import deque
from collections.abc import Sequence
from typing import final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Apply, ReadReady, Respond, Restore
from raft_core.entries import COMMAND, SnapshotMeta
from raft_core.errors import CallerError
from raft_core.events import Applied, Restored
from raft_core.ids import Index, RequestId
from raft_core.log import Log
from raft_core.outbox import Outbox
from raft_core.pending import PendingProposals
from raft_core.settings import Settings
from raft_core.state_values import Page

__all__ = ["ApplyPipeline"]


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class ApplyPipeline:
    """What the machine was ordered to do and has reported. Invariant: applied <= applying <= commit, and durable."""

    __slots__ = ("applied", "applying", "log", "outbox", "pages", "reads", "requests", "settings")

    def __init__(
        self, settings: Settings, log: Log, outbox: Outbox, requests: PendingProposals, applied: Index
    ) -> None:
        self.settings = settings
        self.log = log
        self.outbox = outbox
        self.requests = requests
        self.applied: Index = applied  # reported by the machine
        self.applying: Index = applied  # ordered from the machine
        self.pages: deque[Page] = deque()  # jobs in the apply lane, not yet reported
        self.reads: list[tuple[Index, RequestId]] = []  # confirmed, sorted; wait for the machine

    def order(self, commit: Index) -> None:
        """Order the next pages up to `commit`, at most two at a time; more follow when these are reported."""
        outbox = self.outbox
        limit = commit if commit < outbox.durable_index else outbox.durable_index
        while self.applying < limit and len(self.pages) < 2 and not outbox.failed:
            if self.applying < self.log.base.index:
                return  # a snapshot must be restored first
            page, size = self.log.page(self.applying, limit, self.settings.max_apply_bytes)
            first, last = page[0].index, page[-1].index
            self.applying = last
            commands = tuple([(entry.index, entry.data) for entry in page if entry.kind is COMMAND])
            others: tuple[Index, ...] = ()
            if last - first >= len(commands):
                others = tuple([entry.index for entry in page if entry.kind is not COMMAND])
            self.pages.append(Page(last, size, others))
            wanted = self.requests.wanted(first, last) if self.requests.queue else ()
            outbox.effects.append(Apply(last, commands, wanted))

    def on_applied(self, report: Applied) -> int:
        """Answer the clients of the applied entries. Return the bytes of the pages that are done."""
        upto, pages, applied = report.upto, self.pages, self.applied
        results: Sequence[bytes | None] = report.results
        if upto <= applied or not pages or pages[0].restore or upto > self.applying:
            raise CallerError(f"Applied({upto}) does not answer an Apply: {applied} is applied already")
        size = 0
        others: list[Index] = []  # the no-ops and configurations among these entries
        while pages:
            page = pages[0]
            if page.others:
                others += [index for index in page.others if applied < index <= upto]
            if page.last > upto or page.restore:
                break
            size += page.size
            pages.popleft()
        if results:
            if len(results) != upto - applied - len(others):
                text = f"{len(results)} results for {upto - applied - len(others)} commands"
                raise CallerError(f"Applied({upto}) has {text}")
            if others:
                results = _per_entry(report.results, applied, others)
        self.applied = upto
        if self.requests.queue:
            self.requests.applied(upto, results, self.outbox.effects.append)
        return size

    # Snapshots.

    def restore(self, meta: SnapshotMeta) -> None:
        """Order the machine to load the snapshot `meta`."""
        self.applying = meta.index
        self.pages.append(Page(meta.index, 0, restore=True))
        self.outbox.effects.append(Restore(meta))

    @property
    def restoring(self) -> bool:
        """True while the machine loads a snapshot, or has one to load."""
        return any(page.restore for page in self.pages)

    def on_restored(self, report: Restored) -> None:
        """Continue after the snapshot that the machine has loaded."""
        if not self.pages or not self.pages[0].restore or self.pages[0].last != report.index:
            raise CallerError(f"Restored({report.index}) does not answer a Restore")
        self.pages.popleft()
        self.applied = report.index

    # Reads.

    @property
    def reads_full(self) -> bool:
        """True if no further read may wait for the machine."""
        return len(self.reads) >= self.settings.max_waiting_reads

    def read_when_applied(self, index: Index, request: RequestId) -> None:
        """Answer the read once the machine has applied `index`."""
        if index <= self.applied:
            self.outbox.effects.append(Respond(request, ReadReady(index)))
        else:
            insort_right(self.reads, (index, request), key=_index_of)

    def answer_reads(self) -> None:
        """Answer the reads that waited for what is applied now."""
        ready = bisect_right(self.reads, self.applied, key=_index_of)
        for index, request in self.reads[:ready]:
            self.outbox.effects.append(Respond(request, ReadReady(index)))
        del self.reads[:ready]

    def reads_beyond(self, commit: Index) -> list[RequestId]:
        """Remove and return the confirmed reads above our commit index, which need a leader.

        The other reads need only entries this node has.
        """
        beyond = bisect_right(self.reads, commit, key=_index_of)
        requests = [request for _, request in self.reads[beyond:]]
        del self.reads[beyond:]
        return requests


def _per_entry(results: Sequence[bytes], applied: Index, others: list[Index]) -> list[bytes | None]:
    """Return one result per entry after `applied`: None for each of `others`, which ascend.

    Example: 4 is applied, entry 5 is a no-op, 6 and 7 are commands: [x, y] becomes [None, x, y].
    """
    spread: list[bytes | None] = list(results)
    for index in others:
        spread.insert(index - applied - 1, None)
    return spread


def _index_of(waiting: tuple[Index, RequestId]) -> Index:
    return waiting[0]
