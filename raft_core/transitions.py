"""The arrows of the paper's role figure, as data (fig. 4, with the pre-candidate of thesis 9.6).

What lives here: one value per arrow, and `LEGAL`, which says where each may start. A role's handler returns an
arrow; only `Raft` follows it.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from raft_core._value import Value
from raft_core.effects import RoleName
from raft_core.ids import NOBODY, NodeId

__all__ = ["LEGAL", "PreStand", "Stand", "StepDown", "TakeOffice", "Transition"]


@final
class StepDown(Value, frozen=True, array_like=True):
    """Become follower of `leader` (0: not known yet). `hurry`: how many more short election timeouts to draw."""

    leader: NodeId = NOBODY
    hurry: int = 0


@final
class PreStand(Value, frozen=True, array_like=True):
    """Become pre-candidate: ask whether an election could be won."""

    hurry: int = 0


@final
class Stand(Value, frozen=True, array_like=True):
    """Become candidate in a new term (§5.2); `transfer`: on the old leader's order."""

    transfer: bool = False
    hurry: int = 0


@final
class TakeOffice(Value, frozen=True, array_like=True):
    """Become leader: a majority has voted (§5.2)."""


Transition: TypeAlias = StepDown | PreStand | Stand | TakeOffice

LEGAL: Final[dict[RoleName, frozenset[type[Transition]]]] = {
    RoleName.FOLLOWER: frozenset({StepDown, PreStand, Stand}),
    RoleName.PRE_CANDIDATE: frozenset({StepDown, PreStand, Stand}),
    RoleName.CANDIDATE: frozenset({StepDown, PreStand, Stand, TakeOffice}),
    RoleName.LEADER: frozenset({StepDown}),
}
