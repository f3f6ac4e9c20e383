"""Replies to forwarded requests, in a form that older nodes understand.

A node refuses a frame with an unknown reason. So a reason added after the first version travels as the nearest reason
of that version, and by its own name in a field ignored by older nodes.
"""

from __future__ import annotations

from typing import Final

from raft_core.effects import Indeterminate, Refusal, RefusalReason, Success, UnknownReason
from raft_core.node.events import Answered
from raft_core.wire.payloads import ForwardReply

__all__ = ["outcome_of", "reply_of"]

_OLDER_REFUSALS: Final = {
    RefusalReason.MACHINE_FAILED: RefusalReason.STORAGE_FAILED,
    RefusalReason.NODE_FAILED: RefusalReason.STORAGE_FAILED,
    RefusalReason.DISK_STALLED: RefusalReason.STORAGE_FAILED,
    RefusalReason.NOT_A_MEMBER: RefusalReason.REMOVED,
    RefusalReason.NOT_HEARD_FROM: RefusalReason.WRONG_INCARNATION,
    RefusalReason.UNKNOWN_FEATURE: RefusalReason.NO_CHANGE,
    RefusalReason.FEATURE_MISSING: RefusalReason.NO_CHANGE,
    RefusalReason.QUERY_FAILED: RefusalReason.PREPARE_FAILED,
}
_OLDER_UNKNOWNS: Final = {
    UnknownReason.MACHINE_FAILED: UnknownReason.STORAGE_FAILED,
    UnknownReason.NODE_FAILED: UnknownReason.STORAGE_FAILED,
    UnknownReason.RESULT_TOO_LARGE: UnknownReason.FORWARD_LOST,
}


def reply_of(number: int, outcome: Answered, largest: int) -> ForwardReply:
    """Return the reply for a forwarded request. A result of more than `largest` bytes does not fit into a frame."""
    if type(outcome) is Success:
        result = outcome.results[0] if outcome.results else b""
        if len(result) <= largest:
            return ForwardReply(number, result=result, index=outcome.first)
        text = f"it was carried out, but its result of {len(result)} bytes is too large to be passed on"
        outcome = Indeterminate(UnknownReason.RESULT_TOO_LARGE, text)
    if type(outcome) is Refusal:
        refused = _OLDER_REFUSALS.get(outcome.reason, outcome.reason)
        exact = "" if refused is outcome.reason else outcome.reason.value
        return ForwardReply(number, refused=refused, leader=outcome.leader, text=outcome.text, exact=exact)
    assert type(outcome) is Indeterminate
    unknown = _OLDER_UNKNOWNS.get(outcome.reason, outcome.reason)
    exact = "" if unknown is outcome.reason else outcome.reason.value
    return ForwardReply(number, unknown=unknown, text=outcome.text, exact=exact)


def outcome_of(reply: ForwardReply) -> Answered:
    """Return the outcome in a reply, with its reason as exactly as this node knows it."""
    if reply.result is not None:
        return Success(reply.index, (reply.result,))
    if reply.refused is not None:
        refusal = RefusalReason._value2member_map_.get(reply.exact)
        known = isinstance(refusal, RefusalReason) and _OLDER_REFUSALS.get(refusal) is reply.refused
        return Refusal(refusal if known else reply.refused, reply.leader, reply.text)  # type: ignore[arg-type]
    unknown = UnknownReason._value2member_map_.get(reply.exact)
    if isinstance(unknown, UnknownReason) and _OLDER_UNKNOWNS.get(unknown) is reply.unknown:
        return Indeterminate(unknown, reply.text)
    return Indeterminate(reply.unknown or UnknownReason.FORWARD_LOST, reply.text)
