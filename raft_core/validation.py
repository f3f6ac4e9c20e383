"""Checks of a message before the term rule: its contents, and the range and sender of a new term.

The wire codec makes the same checks of contents and more; these protect all other ways in. Only the core can judge how
far a term may rise, and by whose message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raft_core.entries import MEMBERS, Entry, all_commands, follow_in_order
from raft_core.errors import CallerError
from raft_core.events import Proposed, Requested, Tick
from raft_core.ids import Term
from raft_core.membership import Members, MembersUndecodable
from raft_core.messages import (
    DATA,
    AppendEntries,
    AppendFields,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    VoteKind,
    VoteReply,
)
from raft_core.requests import ChangeMembership, LeaveJoint, Read, TransferLeadership
from raft_core.structs import fields_of

__all__ = [
    "FAR_TERM",
    "LACKS_FEATURE",
    "TERM_LEAP",
    "TERM_STEP",
    "check_event",
    "malformed",
    "may_raise_term",
    "snapshot_too_far",
    "speaks_of_future",
    "term_in_reach",
]

TERM_LEAP: Final = 1 << 32
"""Most a single message may raise the term: 136 years of one election per second."""
FAR_TERM: Final = 1 << 62
"""Above this term, which no cluster reaches by elections, a message may raise it by `TERM_STEP` at most."""
TERM_STEP: Final = 1 << 20
"""Small enough to need 2**42 messages for the rest of the range."""

_BYTES: Final = frozenset({bytes})
_REQUESTS: Final[frozenset[type]] = frozenset({ChangeMembership, LeaveJoint, Read, TransferLeadership})
_LEADER_OF_0: Final = "a leader of term 0, in which no node was ever elected"
_CONTRADICTS_ITSELF: Final = "an append that contradicts itself"
# Names of this module, which may be compiled: see `raft_core.compiled`.
_AppendEntries: Final = AppendEntries
_AppendReply: Final = AppendReply
_DATA: Final = DATA
_MEMBERS: Final = MEMBERS
_fields_of: Final = fields_of


LACKS_FEATURE: Final = "a configuration that enables a feature which this node does not have; start a newer release"


def check_event(event: object) -> None:
    """Raise `CallerError` for values of a wrong type in a `Proposed`, `Requested` or `Tick`: they are the caller's."""
    kind = type(event)
    if kind is Proposed:
        commands = event.commands  # type: ignore[attr-defined]
        if type(commands) is not tuple or not _BYTES.issuperset(map(type, commands)):
            _check_commands(commands)
    elif kind is Tick:
        elapsed = event.elapsed  # type: ignore[attr-defined]
        if not isinstance(elapsed, int) or elapsed < 1:
            raise CallerError(
                f"Tick(elapsed) counts ticks that have passed: a whole number, at least 1, not {elapsed!r}"
            )
    elif kind is Requested and type(event.request) not in _REQUESTS:  # type: ignore[attr-defined]
        request = event.request  # type: ignore[attr-defined]
        text = f"a request of raft_core.requests, such as Read() or TransferLeadership(2), not {request!r}"
        raise CallerError(f"Requested(id, request) takes {text}; nothing was requested")


def _check_commands(commands: object) -> None:
    if not isinstance(commands, Sequence) or isinstance(commands, str | bytes | bytearray):
        raise CallerError(f"the commands of a Proposed are a tuple of bytes, not {type(commands).__name__}")
    for place, command in enumerate(commands):
        if not isinstance(command, bytes):
            kind = type(command).__name__
            raise CallerError(f"command {place} of a Proposed is {kind}, not bytes: encode it; nothing was proposed")


def malformed(message: Message, features: tuple[str, ...] = ()) -> str | None:
    """Return how `message` contradicts itself; None if it does not.

    `LACKS_FEATURE` if it would put a configuration in force with features other than ours, `features`: this node could
    not apply what follows. The leader's node refuses such a peer, so this protects all other ways in.
    """
    kind = type(message)
    if kind is _AppendEntries:
        return _malformed_append(message, features)  # type: ignore[arg-type]
    if kind is _AppendReply:
        if message.hint_term > message.term:  # type: ignore[union-attr]
            return "a rejection that names a later term than its own"
        return None
    if type(message) is RequestVote and message.last.term > message.term:
        return "a candidate whose log is of a later term than its election"
    if type(message) is InstallSnapshot:
        return _malformed_offer(message, features)
    return None


def _malformed_append(request: AppendEntries, features: tuple[str, ...]) -> str | None:
    """Check that indexes are consecutive, terms never fall, and configurations decode (rule 4.5)."""
    fields: AppendFields = _fields_of(request)
    term, _, _, purpose, index, prev_term, _, _, entries, _, _ = fields
    if term <= 0:
        return _LEADER_OF_0
    if not entries:
        return None if prev_term <= term else _CONTRADICTS_ITSELF
    last = entries[-1]
    if len(entries) == 1:
        in_order = last.index == index + 1 and prev_term <= last.term
        plain = last.kind is not _MEMBERS
    else:
        in_order = follow_in_order(entries, index, prev_term)
        plain = all_commands(entries)
    if not in_order or last.term > term or purpose is not _DATA:
        return _CONTRADICTS_ITSELF
    return None if plain else _wrong_members(entries, features)


def _wrong_members(entries: tuple[Entry, ...], features: tuple[str, ...]) -> str | None:
    for entry in entries:
        if entry.kind is MEMBERS:
            try:
                enabled = Members.decode(entry.data).features
            except MembersUndecodable:
                return _CONTRADICTS_ITSELF
            if enabled and not set(enabled).issubset(features):
                return LACKS_FEATURE
    return None


def _malformed_offer(offer: InstallSnapshot, features: tuple[str, ...]) -> str | None:
    meta = offer.meta
    if offer.term <= 0:
        return _LEADER_OF_0
    if meta.term > offer.term:
        return "a snapshot of a later term than its leader's"
    if meta.index <= 0 or meta.members_index > meta.index:
        return "a snapshot whose places contradict each other"
    if not meta.members.voters or meta.members.problem() is not None:
        return "a snapshot whose configuration is none"
    if not set(meta.members.features).issubset(features):
        return LACKS_FEATURE
    return None


def term_in_reach(ours: Term, theirs: Term) -> bool:
    """Return whether a message may raise our term so far (table of bounds in docs/design.md)."""
    return theirs <= ours + (TERM_LEAP if theirs <= FAR_TERM else TERM_STEP)


def snapshot_too_far(last: int, index: int) -> bool:
    """Return whether a snapshot at `index` would leave a log with end `last` no room to grow."""
    return index > FAR_TERM and index - last > TERM_LEAP


def speaks_of_future(message: Message) -> bool:
    """Return whether the message names a term no node has entered yet: a pre-vote request or a granted pre-vote."""
    if type(message) is RequestVote:
        return message.kind is VoteKind.PRE
    return type(message) is VoteReply and message.kind is VoteKind.PRE and message.granted


def may_raise_term(message: Message, *, known: bool) -> bool:
    """Return whether a sender may raise our term with this kind of message.

    A candidate or leader outside our configuration may be valid: its configuration may be newer (rule 9.3). All other
    messages are replies or orders between members.
    """
    return known or isinstance(message, RequestVote | AppendEntries | InstallSnapshot)
