"""Where a choice of ours makes a fact of the scenarios different, and what it makes of it.

A list that should stay short. Each item says what the fact is with us; the run fails where it is
neither the scenario's nor ours, and where a listed difference is none. The choices are three:

* Membership is in force when it is appended (thesis 4.1), not when it is applied: the members who decide about a
  change are the new ones, a joint configuration is left only after it is committed under both halves, and a leader
  that removes itself takes nothing new from then on.
* A change that cannot be made is refused with a reason. It does not become an empty entry, so the log is shorter.
* A removed leader hands over to the best-matched voter, and is leader until it hears of the successor's term or gives
  up, for it repeats an order that may be lost (thesis 4.2.2, 3.10). The scenarios know two other leaders: one that
  stays for ever, and one that leaves at once without a successor.
"""

from __future__ import annotations

from typing import Final, final

import attrs

__all__ = ["CHOICES", "Choice"]

ON_APPEND: Final = "membership is in force when it is appended"
REFUSED: Final = "a change that cannot be made is refused, not replaced by an empty entry"
HANDS_OVER: Final = "a removed leader hands over, and leads until it hears of its successor"


@final
@attrs.frozen
class Choice:
    """In this scenario, after `step`, `field` of `node` is `ours`, for `reason`."""

    scenario: str
    step: int
    node: int
    field: str
    ours: object
    reason: str


def _log(first: int, *entries: str) -> dict[str, object]:
    return {"first": first, "last": first + len(entries) - 1, "entries": list(entries)}


def _config(voters: list[int], outgoing: list[int], *, auto_leave: bool) -> dict[str, object]:
    return {"voters": voters, "voters_outgoing": outgoing, "auto_leave": auto_leave}


ADD_SINGLE: Final = "confchange_v1_add_single"
REMOVE: Final = "confchange_v1_remove_leader"
REMOVE_STEP_DOWN: Final = "confchange_v1_remove_leader_stepdown"
DOUBLE: Final = "confchange_v2_add_double_auto"
EXPLICIT: Final = "confchange_v2_add_single_explicit"
REPLACE: Final = "confchange_v2_replace_leader_stepdown"

CHOICES: Final[tuple[Choice, ...]] = (
    # The new voter helps to commit the entry that adds it, so no snapshot can contain that entry before.
    Choice(ADD_SINGLE, 6, 2, "log", _log(4, "1/4 conf_v1(v2)"), ON_APPEND),
    # A leader that has appended its own removal refuses the two proposals that follow; the log stays shorter.
    Choice(REMOVE, 7, 1, "outcome", "proposal_dropped", ON_APPEND),
    Choice(REMOVE, 10, 1, "outcome", "proposal_dropped", ON_APPEND),
    Choice(REMOVE, 14, 1, "commit", 3, ON_APPEND),  # nodes 2 and 3 decide, and node 3 has not been heard
    Choice(REMOVE, 15, 1, "commit", 4, ON_APPEND),
    Choice(REMOVE, 19, 1, "role", "follower", HANDS_OVER),
    Choice(REMOVE_STEP_DOWN, 7, 1, "outcome", "proposal_dropped", ON_APPEND),
    Choice(REMOVE_STEP_DOWN, 10, 1, "outcome", "proposal_dropped", ON_APPEND),
    Choice(REMOVE_STEP_DOWN, 11, 1, "role", "leader", ON_APPEND),  # not committed yet without node 3
    Choice(REMOVE_STEP_DOWN, 11, 1, "lead", 1, ON_APPEND),
    Choice(REMOVE_STEP_DOWN, 13, 2, "commit", 3, ON_APPEND),
    Choice(REMOVE_STEP_DOWN, 14, 1, "commit", 3, ON_APPEND),
    Choice(REMOVE_STEP_DOWN, 16, 1, "role", "leader", HANDS_OVER),
    Choice(REMOVE_STEP_DOWN, 17, 1, "role", "leader", HANDS_OVER),
    # In force at once, so nothing is committed and nothing left before one of the new voters has answered.
    Choice(DOUBLE, 7, 1, "config", _config([1, 2, 3], [1], auto_leave=True), ON_APPEND),
    Choice(DOUBLE, 7, 1, "log", _log(3, "1/3", "1/4 conf_v2(v2 v3)"), ON_APPEND),
    Choice(DOUBLE, 17, 1, "config", _config([1], [], auto_leave=False), ON_APPEND),  # left on append
    Choice(EXPLICIT, 7, 1, "log", _log(3, "1/3", "1/4 conf_v2(explicit: v2)"), REFUSED),
    Choice(EXPLICIT, 10, 1, "log", _log(3, "1/3", "1/4 conf_v2(explicit: v2)", "1/5 conf_v2()"), REFUSED),
    Choice(EXPLICIT, 11, 2, "commit", 5, REFUSED),
    Choice(REPLACE, 10, 1, "role", "leader", HANDS_OVER),
    Choice(REPLACE, 12, 1, "role", "leader", HANDS_OVER),
)
