"""Pending proposals: client requests whose entries are in the log and not yet answered.

Each is answered exactly once: with results when applied; as indeterminate when truncated or replaced by a snapshot;
as refused if another entry is known to be committed at its index. A deposed leader keeps them for a while, since the
next leader may commit its entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from raft_core.compiled import mypyc_attr
from raft_core.effects import Effect, Indeterminate, Outcome, Refusal, RefusalReason, Respond, Success, UnknownReason
from raft_core.ids import Index
from raft_core.state_values import PendingProposal, ProposalFields
from raft_core.structs import fields_of

__all__ = ["PendingProposals"]

# Names of this module, which may be compiled: see `raft_core.compiled`.
_Respond: Final = Respond
_Success: Final = Success
_fields_of: Final = fields_of


@mypyc_attr(allow_interpreted_subclasses=True)
@final
class PendingProposals:
    """A queue in log order. Invariant: no entry belongs to two proposals."""

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue: list[PendingProposal] = []  # oldest first

    def __len__(self) -> int:
        return len(self.queue)

    def waiting(self) -> tuple[PendingProposal, ...]:
        """Return all pending proposals, oldest first."""
        return tuple(self.queue)

    def wait(self, waiting: PendingProposal) -> None:
        """Add a pending proposal."""
        self.queue.append(waiting)

    def wanted(self, first: Index, last: Index) -> tuple[tuple[Index, Index], ...]:
        """Return the entries `first` … `last` with a waiting request, as ascending pairs of first and last index.

        Neighbouring requests share a pair. The cost is linear in the requests up to `last`.
        """
        pairs: list[tuple[Index, Index]] = []
        for waiting in self.queue:
            begin, end = waiting.first, waiting.last
            if begin > last:
                break
            if end < first:
                continue
            if begin < first:
                begin = first
            if end > last:
                end = last
            if pairs and pairs[-1][1] + 1 == begin:
                pairs[-1] = (pairs[-1][0], end)
            else:
                pairs.append((begin, end))
        return tuple(pairs)

    def applied(self, upto: Index, results: Sequence[bytes | None], effects: list[Effect]) -> None:
        """Answer the proposals up to `upto`. `results` belong to its last entries, one each, or are empty.

        None is in the place of an entry that is no command: a membership change has no result.
        """
        start = upto - len(results) + 1  # the index that results[0] belongs to
        gaps = type(results) is list and None in results
        queue = self.queue
        done = 0
        for head in queue:
            fields: ProposalFields = _fields_of(head)
            request, offset, first, end, _ = fields
            if first > upto:
                break
            last = end if end < upto else upto
            found: tuple[bytes | None, ...] = ()
            if results and first >= start:
                found = tuple(results[first - start : last - start + 1])
                if gaps:
                    found = tuple([result for result in found if result is not None])
            count = last - first + 1
            outcome = _Success(first, found)  # type: ignore[arg-type]  # no None is left
            effects.append(_Respond(request, outcome, offset, count))
            if last < end:
                queue[done] = PendingProposal(request, offset + count, Index(last + 1), end)
                break
            done += 1
        if done == len(queue):
            queue.clear()
        else:
            del queue[:done]

    def truncated_from(self, index: Index, committed: Index, respond: Callable[[Respond], None]) -> None:
        """Answer the proposals truncated from `index` on: refused up to `committed`, else indeterminate."""
        cut: list[PendingProposal] = []
        while self.queue and self.queue[-1].last >= index:
            last = self.queue.pop()
            if last.first < index:
                self.queue.append(PendingProposal(last.request, last.offset, last.first, Index(index - 1)))
                last = PendingProposal(last.request, last.offset + index - last.first, index, last.last)
            cut.append(last)
        for waiting in reversed(cut):
            for at in range(waiting.first, waiting.last + 1):
                outcome: Outcome = Indeterminate(UnknownReason.TRUNCATED)
                if at <= committed and not waiting.half_done:
                    outcome = Refusal(RefusalReason.SUPERSEDED)
                respond(Respond(waiting.request, outcome, waiting.offset + at - waiting.first))

    def give_up(self, outcome: Outcome, respond: Callable[[Respond], None]) -> None:
        """Answer all pending proposals with `outcome`."""
        queue, self.queue = self.queue, []
        for waiting in queue:
            respond(Respond(waiting.request, outcome, waiting.offset, waiting.last - waiting.first + 1))
