"""Answers to forwarded requests, in words that older nodes know as well.

A node refuses a frame with a reason that it does not know. So a reason that was added since the first version travels
as the nearest one that was there from the beginning, and by its own name in a field that older nodes pass over."""

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
    """The answer that a forwarded request was certainly not carried out."""
    known = _OLDER_REFUSALS.get(reason, reason)
    exact = "" if known is reason else reason.value
    return ForwardReply(number, refused=known, leader=leader, text=text, exact=exact)


def uncertainty_reply(number: int, reason: UnknownReason, text: str = "") -> ForwardReply:
    """The answer that nobody can know what becomes of a forwarded request."""
    known = _OLDER_UNKNOWNS.get(reason, reason)
    return ForwardReply(number, unknown=known, text=text, exact="" if known is reason else reason.value)


def refusal_of(reply: ForwardReply) -> RefusalReason | None:
    """Why the request was refused, as exactly as this node knows the word; None where it was not."""
    known = reply.refused
    exact = RefusalReason._value2member_map_.get(reply.exact)
    if known is None or not isinstance(exact, RefusalReason) or _OLDER_REFUSALS.get(exact) is not known:
        return known
    return exact


def uncertainty_of(reply: ForwardReply) -> UnknownReason | None:
    """Why nobody can know, as exactly as this node knows the word; None where the answer says something else."""
    known = reply.unknown
    exact = UnknownReason._value2member_map_.get(reply.exact)
    if known is None or not isinstance(exact, UnknownReason) or _OLDER_UNKNOWNS.get(exact) is not known:
        return known
    return exact
