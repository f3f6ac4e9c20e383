"""The way of committed entries to the state machine, and the reads that wait for it.

Pages of committed, durable entries are ordered from the machine, at most two at a time; reports of it answer clients.
"""

from __future__ import annotations

from bisect import bisect_right, insort_right
from collections.abc import Sequence
from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Apply, ReadReady, Respond, Restore
from raft_core.entries import COMMAND, SnapshotMeta, commands_of
from raft_core.errors import CallerError
from raft_core.events import Applied, Restored
from raft_core.ids import Index, RequestId
from raft_core.log import Log
from raft_core.outbox import Outbox
from raft_core.pending import PendingProposals
from raft_core.settings import Settings
from raft_core.state_values import Page, PageFields
from raft_core.structs import fields_of

__all__ = ["ApplyPipeline"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_Apply: Final = Apply
_Page: Final = Page
_COMMAND: Final = COMMAND
_fields_of: Final = fields_of


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class ApplyPipeline:
    """What the machine was ordered to do and has reported. Invariant: applied <= applying <= commit, and durable."""

    __slots__ = ("_page_bytes", "applied", "applying", "log", "outbox", "pages", "reads", "requests", "settings")

    def __init__(
        self, settings: Settings, log: Log, outbox: Outbox, requests: PendingProposals, applied: Index
    ) -> None:
        self.settings = settings
        self._page_bytes = settings.max_apply_bytes
        self.log = log
        self.outbox = outbox
        self.requests = requests
        self.applied: Index = applied  # reported by the machine
        self.applying: Index = applied  # ordered from the machine
        self.pages: list[Page] = []  # jobs in the apply lane, not yet reported
        self.reads: list[tuple[Index, RequestId]] = []  # confirmed, sorted; wait for the machine

    def order(self, commit: Index) -> None:
        """Order the next pages up to `commit`, at most two at a time; more follow when these are reported."""
        outbox = self.outbox
        limit = commit if commit < outbox.durable_index else outbox.durable_index
        while self.applying < limit and len(self.pages) < 2 and not outbox.failed:
            after = self.applying
            if after < self.log.base_index:
                return  # a snapshot must be restored first
            page, size = self.log.page(after, limit, self._page_bytes)
            last = Index(after + len(page))
            self.applying = last
            commands: tuple[tuple[Index, bytes], ...]
            if len(page) > 1:
                commands = commands_of(page)
            else:
                commands = ((last, page[0].data),) if page[0].kind is _COMMAND else ()
            others: tuple[Index, ...] = ()
            if len(page) > len(commands):
                others = tuple([entry.index for entry in page if entry.kind is not COMMAND])
            self.pages.append(_Page(last, size, others))
            wanted = self.requests.wanted(Index(after + 1), last) if self.requests.queue else ()
            outbox.effects.append(_Apply(last, commands, wanted))

    def on_applied(self, report: Applied) -> int:
        """Answer the clients of the applied entries. Return the bytes of the pages that are done."""
        upto, pages, applied = report.upto, self.pages, self.applied
        results: Sequence[bytes | None] = report.results
        if upto <= applied or upto > self.applying or not pages or pages[0].restore:
            if upto <= applied:
                text = f"{applied} is applied already. Queue reports: step none while you still walk a list of effects"
            else:
                text = (
                    f"report the `upto` of an Apply, once its commands are applied, in their order, from {applied} on"
                )
            raise CallerError(f"Applied({upto}) does not answer an Apply: {text}")
        done = 0
        size = 0
        others: list[Index] = []  # the no-ops and configurations among these entries
        for page in pages:
            fields: PageFields = _fields_of(page)
            last, page_size, page_others, restore = fields
            if page_others:
                others += [index for index in page_others if applied < index <= upto]
            if last > upto or restore:
                break
            size += page_size
            done += 1
        if done == len(pages):
            pages.clear()
        else:
            del pages[:done]
        if results:
            if len(results) != upto - applied - len(others):
                text = f"{len(results)} results for {upto - applied - len(others)} commands"
                raise CallerError(f"Applied({upto}) has {text}")
            if others:
                results = _per_entry(report.results, applied, others)
        self.applied = upto
        if self.requests.queue:
            self.requests.applied(upto, results, self.outbox.effects)
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
        del self.pages[0]
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
