"""The error replies to commands that were not carried out, or whose outcome is unknown.

This is the one translation from this library's errors to Redis errors. Client libraries look at the first word:

    CLUSTERDOWN   not carried out: no leader, or this node stops; try again, also on another node
    TRYAGAIN      not carried out: a queue is full, or leadership is being transferred; try again soon
    REFUSED       not carried out: a rule forbids this change of members or leadership
    UNKNOWN       may have been carried out, or may still be; repeat it only if doing it twice is harmless
    ERR           not carried out, and never will be in this form
"""

from __future__ import annotations

from typing import Final

from raft_core.effects import RefusalReason
from raft_core.errors import MembershipRefused, NotLeader, OutcomeUnknown, QueueFull, Refused, TransferInProgress

__all__ = ["explain"]

_GOING: Final = {
    RefusalReason.STOPPING,
    RefusalReason.STORAGE_FAILED,
    RefusalReason.DISK_STALLED,
    RefusalReason.REMOVED,
    RefusalReason.NO_LEADER,
}
_OPERATOR: Final = {
    RefusalReason.NOT_A_VOTER,
    RefusalReason.TARGET_UNREACHABLE,
    RefusalReason.TRANSFER_FAILED,
    RefusalReason.NOT_JOINT,
}


def explain(error: Refused | OutcomeUnknown) -> str:
    """Return the error line for `error`, its code first."""
    if isinstance(error, OutcomeUnknown):
        return (
            f"UNKNOWN outcome: {error}. The command may have been carried out or may still be; "
            "repeat it only if doing it twice is harmless"
        )
    if isinstance(error, MembershipRefused) or error.reason in _OPERATOR:
        return f"REFUSED {error.reason}: {error}"
    if isinstance(error, NotLeader):
        return f"CLUSTERDOWN {_whereabouts(error)}; nothing was changed, try again"
    if error.reason == RefusalReason.TOO_LARGE:
        return f"ERR the command is too large for one log entry: {error}"
    if error.reason in _GOING:
        return f"CLUSTERDOWN {error.reason}: {error}; nothing was changed, try again"
    if isinstance(error, QueueFull):
        return f"TRYAGAIN {error.reason}: {error}; nothing was changed, a queue of this cluster is full"
    if isinstance(error, TransferInProgress):
        return "TRYAGAIN leadership is being transferred; nothing was changed"
    return f"TRYAGAIN {error.reason}: {error}; nothing was changed"


def _whereabouts(error: NotLeader) -> str:
    if not error.leader:
        return "no leader is known here"
    where = f" at {error.address}" if error.address else ""
    return f"node {error.leader}{where} leads and could not be reached from here"
