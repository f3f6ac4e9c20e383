"""The frozen values inside a core's state: parts of the log's, the machine's, the clients' and the readers' queues.

They stay in a module of their own because modules of values are never compiled (see `setup.py`).
"""

from __future__ import annotations

from typing import TypeAlias, final

from raft_core.ids import Index, MessageId, NodeId, ReadId, RequestId, WriteId
from raft_core.structs import Value

__all__ = [
    "LogWrite",
    "Page",
    "PageFields",
    "PendingProposal",
    "ProposalFields",
    "ReadRound",
    "WaitingRead",
]


@final
class Page(Value, frozen=True, array_like=True):
    """One job in the apply lane: `size` bytes of entries up to index `last`; or a restore.

    `others` are the indexes of its no-ops and configurations, of which the machine does not hear.
    """

    last: Index
    size: int
    others: tuple[Index, ...] = ()
    restore: bool = False


PageFields: TypeAlias = tuple[Index, int, tuple[Index, ...], bool]
"""The fields of a `Page`, as `fields_of` returns them."""


LogWrite: TypeAlias = tuple[WriteId, Index, Index, Index, int]
"""One write under way: (write, first, last, cap, size). A tuple, as each write makes and reads one.

It has entries from `first` to `last`, the log's end (`first` is last + 1 if it has none), of `size` bytes. Until it is
durable, no entry after `cap` counts as durable. Example: B's disk holds entries 1 to 9, and leader C replaces 6 to 9
with a new 6. Old or new bytes may be on the disk until this write is durable, so its cap is 5 and B must not
acknowledge index 6, though earlier writes had reached 9.
"""


@final
class PendingProposal(Value, frozen=True, array_like=True):
    """Items of a request from `offset` on, in the entries `first` … `last`.

    `half_done`: an earlier committed entry carries out a part of it, so it can never be refused.
    """

    request: RequestId
    offset: int
    first: Index
    last: Index
    half_done: bool = False


ProposalFields: TypeAlias = tuple[RequestId, int, Index, Index, bool]
"""The fields of a `PendingProposal`, as `fields_of` returns them."""


@final
class WaitingRead(Value, frozen=True, array_like=True):
    """A read requested here (`origin` 0) or by another node under its own message id."""

    origin: NodeId
    request: RequestId
    message: MessageId = MessageId(0)


@final
class ReadRound(Value, frozen=True, array_like=True):
    """A round under way. Once it is confirmed, its reads may be done at `index`."""

    id: ReadId
    index: Index
    reads: tuple[WaitingRead, ...]
