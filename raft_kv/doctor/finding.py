"""`Finding`: the result of one check, with the remedy, and the exit status of many."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, final

import attrs

__all__ = ["Finding", "Level", "exit_status", "note", "right", "warning", "wrong"]


class Level(StrEnum):
    """How a check ended."""

    RIGHT = "right"
    NOTE = "note"  # not checked, and why
    WARNING = "warning"  # works, but should not stay so
    WRONG = "wrong"


@final
@attrs.frozen
class Finding:
    """One check of one `subject` (a node, a location, a file): what was found and, unless it is right, what to do."""

    level: Level
    check: str
    subject: str
    text: str
    remedy: str = ""


def right(check: str, subject: str, text: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(Level.RIGHT, check, subject, text)


def note(check: str, subject: str, text: str, remedy: str = "") -> Finding:
    """Return a finding of something that could not be checked."""
    return Finding(Level.NOTE, check, subject, text, remedy)


def warning(check: str, subject: str, text: str, remedy: str) -> Finding:
    """Return a finding of something that works and should not stay so."""
    return Finding(Level.WARNING, check, subject, text, remedy)


def wrong(check: str, subject: str, text: str, remedy: str) -> Finding:
    """Return a finding of something that does not work, or endangers data."""
    return Finding(Level.WRONG, check, subject, text, remedy)


_STATUS: Final = {Level.RIGHT: 0, Level.NOTE: 0, Level.WARNING: 3, Level.WRONG: 1}


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 if something is wrong, else 3 if there is a warning, else 0."""
    levels = {finding.level for finding in findings}
    return 1 if Level.WRONG in levels else max([_STATUS[level] for level in levels], default=0)
