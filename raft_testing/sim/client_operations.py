"""The operations of clients that a violation is about, in words: for the report and the page of a failure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from raft_core.node.limits import SECOND
from raft_testing.linearizability.checker import Stuck
from raft_testing.linearizability.history import Operation, plain
from raft_testing.workloads.registers import TellsOperations, Workload

__all__ = ["around", "in_words", "named_operations"]

_SHOWN: Final = 12
_WORDS: Final = re.compile(r"[^\W_]+")
_COMMON: Final = 0.5
"""A word that more than this part of the operations have names none of them."""


def in_words(workload: Workload) -> Callable[[Operation], str]:
    """Return how this workload says an operation: its own words, or kind, key, argument and answer."""
    if isinstance(workload, TellsOperations):
        return workload.in_words
    return lambda operation: str(operation) if operation.key is None else f"{operation} (key {plain(operation.key)})"


def named_operations(text: str, history: Iterable[Operation], words: Callable[[Operation], str]) -> str:
    """Return the operations that a broken promise names: those with the most words of its text, in the order of time.

    Words that most operations have do not count. If it names none, the last ones are shown.
    """
    told = [(operation, words(operation)) for operation in history]
    wanted = set(_WORDS.findall(text.lower()))
    found = [wanted & set(_WORDS.findall(said.lower())) for _, said in told]
    frequency = Counter(word for each in found for word in each)
    telling = {word for word, count in frequency.items() if count <= max(2, _COMMON * len(told))}
    scores = [len(each & telling) for each in found]
    best = sorted(range(len(told)), key=lambda place: (-scores[place], -place))[:_SHOWN]
    named = sorted(place for place in best if scores[place])
    title = f"the operations of clients that it names, of {len(told)}" if named else "the last operations of clients"
    return _list(title, [told[place] for place in named or range(max(0, len(told) - _SHOWN), len(told))])


def around(stuck: Stuck, words: Callable[[Operation], str]) -> str:
    """Return the operation that fits no order, and those before it, in words."""
    chosen = [*stuck.prefix[-_SHOWN + 1 :], stuck.blocked]
    return _list(
        "the last operations that can be ordered, and the one that cannot", [(one, words(one)) for one in chosen]
    )


def _list(title: str, told: Sequence[tuple[Operation, str]]) -> str:
    lines = [f"  {_moments(operation):>23}  client {operation.process}  {said}" for operation, said in told]
    return "\n".join([f"{title}:", *lines])


def _moments(operation: Operation) -> str:
    begun = f"{operation.invoked_at / SECOND:.4f}"
    return f"{begun} to {'…' if operation.returned_at is None else f'{operation.returned_at / SECOND:.4f}'} s"
