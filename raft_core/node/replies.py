"""Replies to forwarded requests, in a form that older nodes understand.

A node refuses a frame with an unknown reason. So a reason added after the first version travels as the nearest reason
of that version, and by its own name in a field ignored by older nodes.
"""

from __future__ import annotations

from typing import Final

from raft_core.effects import RefusalReason, UnknownReason
from raft_core.ids import NO_NODE, NodeId
from raft_core.wire.payloads import ForwardReply

__all__ = ["refusal_of", "refusal_reply", "uncertainty_of", "uncertainty_reply"]

_OLDER_REFUSALS: Final = {
    RefusalReason.MACHINE_FAILED: RefusalReason.STORAGE_FAILED,
    RefusalReason.NODE_FAILED: RefusalReason.STORAGE_FAILED,
    RefusalReason.DISK_STALLED: RefusalReason.STORAGE_FAILED,
    RefusalReason.NOT_A_MEMBER: RefusalReason.REMOVED,
    RefusalReason.NOT_HEARD_FROM: RefusalReason.WRONG_INCARNATION,
    RefusalReason.QUERY_FAILED: RefusalReason.PREPARE_FAILED,
}
_OLDER_UNKNOWNS: Final = {
    UnknownReason.MACHINE_FAILED: UnknownReason.STORAGE_FAILED,
    UnknownReason.NODE_FAILED: UnknownReason.STORAGE_FAILED,
}


def refusal_reply(number: int, reason: RefusalReason, leader: NodeId = NO_NODE, text: str = "") -> ForwardReply:
    """Return the reply for a forwarded request that was not carried out."""
    known = _OLDER_REFUSALS.get(reason, reason)
    exact = "" if known is reason else reason.value
    return ForwardReply(number, refused=known, leader=leader, text=text, exact=exact)


def uncertainty_reply(number: int, reason: UnknownReason, text: str = "") -> ForwardReply:
    """Return the reply for a forwarded request whose outcome is indeterminate."""
    known = _OLDER_UNKNOWNS.get(reason, reason)
    return ForwardReply(number, unknown=known, text=text, exact="" if known is reason else reason.value)


def refusal_of(reply: ForwardReply) -> RefusalReason | None:
    """Return the reason of a refusal, as exactly as this node knows it; None if the reply is no refusal."""
    known = reply.refused
    exact = RefusalReason._value2member_map_.get(reply.exact)
    if known is None or not isinstance(exact, RefusalReason) or _OLDER_REFUSALS.get(exact) is not known:
        return known
    return exact


def uncertainty_of(reply: ForwardReply) -> UnknownReason | None:
    """Return the reason of an indeterminate outcome, as exactly as this node knows it; None for any other reply."""
    known = reply.unknown
    exact = UnknownReason._value2member_map_.get(reply.exact)
    if known is None or not isinstance(exact, UnknownReason) or _OLDER_UNKNOWNS.get(exact) is not known:
        return known
    return exact
