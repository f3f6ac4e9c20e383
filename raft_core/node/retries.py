"""Which refused requests may be asked again: the refusal says that nothing was done, and another leader may do it."""

from __future__ import annotations

from typing import Final

from raft_core.effects import Indeterminate, Refusal, RefusalReason, UnknownReason
from raft_core.requests import Read, ReadConsistency, Request, TransferLeadership

__all__ = ["leader_goes", "may_ask_again", "read_refusal"]

_NOT_LEADER: Final = frozenset({RefusalReason.NOT_LEADER, RefusalReason.NO_LEADER})
_LEAVING: Final = frozenset(
    {
        RefusalReason.TRANSFERRING,
        RefusalReason.STOPPING,
        RefusalReason.STORAGE_FAILED,
        RefusalReason.MACHINE_FAILED,
        RefusalReason.NODE_FAILED,
        RefusalReason.REMOVED,
        RefusalReason.SUPERSEDED,
    }
)
_RETRYABLE_READ: Final = _NOT_LEADER | {RefusalReason.LEADERSHIP_LOST, RefusalReason.TRANSFERRING}
_READ_REASONS: Final = {
    UnknownReason.STOPPING: RefusalReason.STOPPING,
    UnknownReason.STORAGE_FAILED: RefusalReason.STORAGE_FAILED,
    UnknownReason.MACHINE_FAILED: RefusalReason.MACHINE_FAILED,
    UnknownReason.NODE_FAILED: RefusalReason.NODE_FAILED,
}


def leader_goes(reason: RefusalReason) -> bool:
    """Return whether this is the refusal of a leader that is stepping down or gone.

    The request was and will not be carried out, so the next leader is asked.
    """
    return reason in _LEAVING


def may_ask_again(request: Request, reason: RefusalReason) -> bool:
    """Return whether the request may be repeated after this refusal, until its caller's deadline.

    A transfer is not repeated when the leader goes: the requested transfer is happening already.
    """
    if type(request) is not Read:
        return reason in _NOT_LEADER or (reason in _LEAVING and type(request) is not TransferLeadership)
    waits_for_commit = reason is RefusalReason.STALE and request.consistency is ReadConsistency.MONOTONE
    return waits_for_commit or reason in _RETRYABLE_READ


def read_refusal(outcome: Indeterminate) -> Refusal:
    """Return the refusal of a read in place of an indeterminate outcome: a read changes nothing."""
    return Refusal(_READ_REASONS.get(outcome.reason, RefusalReason.LEADERSHIP_LOST))
