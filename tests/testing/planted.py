"""Planted mistakes, by the check of the simulator that must find them.

The table and how a plant is put into it. The plants are in `planted_in_cores`,
`planted_in_promises`, `planted_in_machines` and `planted_in_clusters`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import pytest

__all__ = ["SHOWN", "SHOWN_BY_ONLOOKERS", "Spoil", "shows"]

Spoil: TypeAlias = Callable[[pytest.MonkeyPatch], str]
"""Plants a mistake, lets it show, and gives the violation."""

SHOWN: Final[dict[str, list[tuple[Spoil, str]]]] = {}
"""By the text of the check: what breaks it, and a part of what is said then."""


def shows(check: str, says: str) -> Callable[[Spoil], Spoil]:
    """The function shows that this check fails with these words."""

    def note(spoil: Spoil) -> Spoil:
        SHOWN.setdefault(check, []).append((spoil, says))
        return spoil

    return note


SHOWN_BY_ONLOOKERS: Final = {
    "status and explanations say what is so, raise nothing, and change nothing": (
        "test_a_node_that_lies_about_its_status_is_a_violation",
        "test_a_question_that_raises_is_a_violation",
        "test_a_question_that_changes_a_core_is_a_violation",
        "test_a_node_that_explains_wrongly_is_a_violation",
    ),
    "a recording, tiny ones included, replays to the same effects and the same state; a damaged one is refused": (
        "test_a_recorder_that_forgets_an_event_is_found",
        "test_a_recorder_without_bounds_is_found",
        "test_a_damaged_recording_that_is_accepted_is_found",
    ),
    "recovery from quorum loss changes no byte of a disk, invents nothing, and lacks nothing committed": (
        "test_a_recovery_that_makes_things_up_is_found",
        "test_a_recovery_that_does_harm_or_gives_up_is_found",
    ),
    "every event and every effect has a line of words": ("test_an_event_without_a_line_is_found",),
    "what a machine cannot decode has an error as its result, and changes nothing": (
        "test_a_typed_machine_with_a_mistake_is_found",
        "test_a_machine_that_takes_garbage_for_a_command_is_found",
    ),
}
"""By the text of the check: the tests in `test_simulator_probes` that show it fail."""
