"""Durations that callers give in seconds, as whole nanoseconds of cluster time. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["nanoseconds", "require_end"]

_SECOND: Final = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Return the duration in nanoseconds. Raise `ValueError` for one that has no end.

    An `OverflowError` would not be an answer to the caller but the end of every node that applies the command.
    """
    try:
        return round(seconds * _SECOND)
    except OverflowError:
        raise ValueError(f"a duration is a finite number of seconds, not {seconds}") from None


def require_end(seconds: float) -> None:
    """Raise `ValueError` for a duration that has no end: at the top of a command, before it changes anything."""
    if seconds > 0:
        nanoseconds(seconds)
