"""What must hold within a message, and which terms are believed. Checked before the term rule.

The wire codec checks the same forms and more. This guards every other way in, and what only a core can judge: how far
a term may leap, and from whom.
"""

from __future__ import annotations

from typing import Final

from raft_core.entries import MEMBERS
from raft_core.ids import Term
from raft_core.membership import Members
from raft_core.messages import (
    DATA,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
)

__all__ = [
    "FAR_TERM",
    "TERM_LEAP",
    "TERM_STEP",
    "malformed",
    "may_raise_term",
    "snapshot_too_far",
    "term_in_reach",
]

TERM_LEAP: Final = 1 << 32
"""One message raises the term by at most this much: 136 years of one election each second."""
FAR_TERM: Final = 1 << 62
"""Beyond this term, which no cluster reaches by elections, a message raises the term by at most `TERM_STEP`."""
TERM_STEP: Final = 1 << 20
"""Then 2**42 messages would be needed to use up the rest of the range."""


def malformed(message: Message) -> str | None:
    """Return why `message` contradicts itself; None where it does not."""
    kind = type(message)
    if kind is AppendReply:
        if message.hint_term > message.term:  # type: ignore[union-attr]
            return "a rejection that names a later term than its own"
        return None
    if kind is AppendEntries:
        return None if _well_formed(message) else "an append that contradicts itself"  # type: ignore[arg-type]
    if isinstance(message, RequestVote) and message.last.term > message.term:
        return "a candidate whose log is of a later term than its election"
    if isinstance(message, InstallSnapshot):
        return _malformed_offer(message)
    return None


def _well_formed(request: AppendEntries) -> bool:
    """The entries follow `prev_index` and each other, terms never fall, and configurations can be read (rule 4.5)."""
    index, term = request.prev_index, request.prev_term
    for entry in request.entries:
        if entry.index != index + 1 or entry.term < term:
            return False
        if entry.kind is MEMBERS and not Members.readable(entry.data):
            return False
        index, term = entry.index, entry.term
    return term <= request.term and (request.purpose is DATA or not request.entries)


def _malformed_offer(offer: InstallSnapshot) -> str | None:
    meta = offer.meta
    if meta.term > offer.term:
        return "a snapshot of a later term than its leader's"
    if meta.index <= 0 or meta.members_index > meta.index:
        return "a snapshot whose places contradict each other"
    if not meta.members.voters or meta.members.problem() is not None:
        return "a snapshot whose configuration is none"
    return None


def term_in_reach(ours: Term, theirs: Term) -> bool:
    """Return whether a message may raise our term so far (table of bounds in docs/design.md)."""
    return theirs <= ours + (TERM_LEAP if theirs <= FAR_TERM else TERM_STEP)


def snapshot_too_far(last: int, index: int) -> bool:
    """Return whether a snapshot at `index` would leave a log that ends at `last` no room to grow."""
    return index > FAR_TERM and index - last > TERM_LEAP


def may_raise_term(message: Message, *, known: bool) -> bool:
    """Return whether a sender may raise our term with this kind of message.

    A candidate or a leader that is not in our configuration may be right: its configuration may be newer (rule 9.3).
    Everything else is an answer or an order between members, which a stranger has no part in."""
    return known or isinstance(message, RequestVote | AppendEntries | InstallSnapshot)
