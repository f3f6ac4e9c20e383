"""Hypothesis profiles: the numbers of examples in the suite, and `long`, ten times as many and longer machines.

`pytest --hypothesis-profile=long tests/core` chooses `long`. `tests/conftest.py` registers it.
"""

from __future__ import annotations

from typing import Any, Final, cast
from unittest import TestCase

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

__all__ = ["examples", "register", "stateful"]

_STANDARD: Final = 100
_LONG: Final = 10
_SLOW_IS_FINE: Final = (HealthCheck.too_slow, HealthCheck.filter_too_much)


def register() -> None:
    """Register the profile `long`."""
    settings.register_profile("long", max_examples=_LONG * _STANDARD, deadline=None)


def examples(count: int) -> int:
    """Return `count` in the suite, and as many times more as the chosen profile asks for."""
    chosen = settings.default
    assert chosen is not None
    return max(1, count * chosen.max_examples // _STANDARD)


def stateful(machine: type[RuleBasedStateMachine], *, runs: int, steps: int) -> type[TestCase]:
    """Return the test case of a state machine: `runs` random walks with up to `steps` rules each."""
    case: Any = machine.TestCase
    factor = 2 if examples(1) > 1 else 1
    case.settings = settings(
        max_examples=examples(runs),
        stateful_step_count=factor * steps,
        deadline=None,
        suppress_health_check=_SLOW_IS_FINE,
        report_multiple_bugs=False,
    )
    return cast("type[TestCase]", case)
