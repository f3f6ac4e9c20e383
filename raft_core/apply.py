"""The way of committed entries to the state machine: the jobs under way, and results by entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from raft_core.ids import Index
from raft_core.structs import Value

__all__ = ["Page", "others_between", "per_entry"]


def per_entry(results: Sequence[bytes], applied: Index, others: list[Index]) -> list[bytes | None]:
    """Return one result per entry after `applied`: None for each of `others`, which ascend.

    Example: 4 is applied, entry 5 is a no-op, 6 and 7 are commands: [x, y] becomes [None, x, y].
    """
    spread: list[bytes | None] = list(results)
    for index in others:
        spread.insert(index - applied - 1, None)
    return spread


@final
class Page(Value, frozen=True, array_like=True):
    """One job in the apply lane: `size` bytes of entries up to index `last`; or a restore.

    `others` are the indexes of its no-ops and configurations, of which the machine does not hear.
    """

    last: Index
    size: int
    restore: bool = False
    others: tuple[Index, ...] = ()


def others_between(pages: Iterable[Page], applied: Index, upto: Index) -> list[Index]:
    """Return the no-ops and configurations after `applied`, up to `upto`."""
    others: list[Index] = []
    for page in pages:
        if page.others:
            others += [index for index in page.others if applied < index <= upto]
        if page.last >= upto:
            break
    return others
