"""Planted mistakes, by the check of the simulator that must find them.

What lives here: the table and how a plant is put into it. The plants are in `planted_in_cores`,
`planted_in_promises`, `planted_in_machines` and `planted_in_clusters`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import pytest

__all__ = ["SHOWN", "Spoil", "shows"]

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
