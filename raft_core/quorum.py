"""Majorities, simple and joint, as pure functions without log, term or role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from raft_core._moved import moved_names
from raft_core.ids import MAX_INT63, Index, NodeId
from raft_core.membership import Members

__all__ = ["NO_LIMIT", "Verdict", "committed_index", "majority_index", "quorum_reached", "vote_verdict"]

NO_LIMIT: Final = Index(MAX_INT63)
"""The commit index of an empty voter set, which restricts nothing."""


class Verdict(Enum):
    """The state of an election."""

    WON = auto()
    LOST = auto()
    OPEN = auto()


def committed_index(members: Members, acked: Callable[[NodeId], Index]) -> Index:
    """Return the highest index acknowledged by a majority of each half; `NO_LIMIT` without voters."""
    settled = _majority_index(members.voters, acked)
    if not members.outgoing:
        return settled
    other = _majority_index(members.outgoing, acked)
    return settled if settled < other else other


def _majority_index(voters: tuple[NodeId, ...], acked: Callable[[NodeId], Index]) -> Index:
    return majority_index([acked(node) for node in voters])


def majority_index(acked: list[Index]) -> Index:
    """Return the highest index that a majority has acknowledged, given one index per voter; it sorts the list.

    Example: of [5, 7, 9] it is 7. Without voters it is `NO_LIMIT`.
    """
    if not acked:
        return NO_LIMIT
    acked.sort()
    return acked[(len(acked) - 1) // 2]


def quorum_reached(members: Members, agrees: Callable[[NodeId], bool]) -> bool:
    """Return whether a majority of each half agrees; True without voters."""
    if not _majority_agrees(members.voters, agrees):
        return False
    return _majority_agrees(members.outgoing, agrees)


def _majority_agrees(voters: tuple[NodeId, ...], agrees: Callable[[NodeId], bool]) -> bool:
    return not voters or 2 * sum([agrees(node) for node in voters]) > len(voters)


def vote_verdict(members: Members, votes: Mapping[NodeId, bool]) -> Verdict:
    """Return WON with a majority in each half, LOST once one is impossible, else OPEN (§5.2)."""
    verdicts = (_majority_verdict(members.voters, votes), _majority_verdict(members.outgoing, votes))
    if Verdict.LOST in verdicts:
        return Verdict.LOST
    return Verdict.OPEN if Verdict.OPEN in verdicts else Verdict.WON


def _majority_verdict(voters: tuple[NodeId, ...], votes: Mapping[NodeId, bool]) -> Verdict:
    needed = len(voters) // 2 + 1 if voters else 0
    granted = sum([votes.get(node) is True for node in voters])
    if granted >= needed:
        return Verdict.WON
    refused = sum([votes.get(node) is False for node in voters])
    return Verdict.LOST if len(voters) - refused < needed else Verdict.OPEN


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
