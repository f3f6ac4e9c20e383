"""A leader on its way out: leadership transfer (thesis 3.10), at an operator's wish, before stopping, after its
removal, or because its disk has stalled.

What lives here: one transfer. It dies with the leadership, because only the leader holds it (rule 11.4).
"""

from __future__ import annotations

from enum import StrEnum
from typing import final

from raft_core.ids import NodeId, RequestId

__all__ = ["Handover", "HandoverCause"]


class HandoverCause(StrEnum):
    """Why the leader hands over."""

    REQUESTED = "requested"
    STOPPING = "stopping"
    REMOVED = "removed"
    DISK_STALL = "disk_stall"


@final
class Handover:
    """A transfer to `target`: first it catches up, then it is told to stand at once. `age` in ticks."""

    __slots__ = ("age", "cause", "order_sent", "requests", "target")

    def __init__(self, target: NodeId, cause: HandoverCause, requests: list[RequestId]) -> None:
        self.target = target
        self.cause = cause
        self.requests = requests  # who waits for it; usually one, none for causes of our own
        self.age = 0
        self.order_sent = False  # TimeoutNow went out: from then on no lease is valid in this leadership
