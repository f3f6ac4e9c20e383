"""The transitions between roles as values (fig. 4, with the pre-candidate of thesis 9.6), and the legal ones.

A role's handler returns a transition; only `Raft` performs it.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core.effects import RoleName
from raft_core.ids import NO_NODE, NodeId
from raft_core.structs import Value

__all__ = ["LEGAL", "BecomeCandidate", "BecomeLeader", "BecomePreCandidate", "StepDown", "Transition"]


@final
class StepDown(Value, frozen=True, array_like=True):
    """Become follower of `leader` (0: not known yet). `hurry`: how many more election timeouts are short."""

    leader: NodeId = NO_NODE
    hurry: int = 0


@final
class BecomePreCandidate(Value, frozen=True, array_like=True):
    """Become pre-candidate: ask whether an election could be won."""

    hurry: int = 0


@final
class BecomeCandidate(Value, frozen=True, array_like=True):
    """Become candidate in a new term (§5.2); `transfer`: on the old leader's order."""

    transfer: bool = False
    hurry: int = 0


@final
class BecomeLeader(Value, frozen=True, array_like=True):
    """Become leader after winning a majority (§5.2)."""


Transition: TypeAlias = StepDown | BecomePreCandidate | BecomeCandidate | BecomeLeader

LEGAL: Final[dict[RoleName, frozenset[type[Transition]]]] = {
    RoleName.FOLLOWER: frozenset({StepDown, BecomePreCandidate, BecomeCandidate}),
    RoleName.PRE_CANDIDATE: frozenset({StepDown, BecomePreCandidate, BecomeCandidate}),
    RoleName.CANDIDATE: frozenset({StepDown, BecomePreCandidate, BecomeCandidate, BecomeLeader}),
    RoleName.LEADER: frozenset({StepDown}),
}
