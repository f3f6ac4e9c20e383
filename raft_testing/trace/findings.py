"""The violations of a trace: what was violated, where, by which nodes, and the commands that were involved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, final

import attrs

from raft_core.ids import NO_NODE, NodeId
from raft_testing.trace.records import TraceRecord

__all__ = ["Finding", "NamedCommand", "find_violations"]

_NODES: Final = re.compile(r"\b(?:node|nodes|leader|leaders) (\d+(?:(?:, | and |, and )\d+)*)")
_INDEXES: Final = re.compile(r"\b(?:index|entry|entries at|at) (\d+)\b")
_COMMAND: Final = re.compile(r'\b(?:\d+/)?(\d+) ("[^"]*")((?: \(\d+ bytes\))?)')
"""As `describe` writes the command of an entry: `2/351 "set x"` or `351 "set x"`."""
_QUOTED: Final = re.compile(r"command (b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\")")
"""As a checker writes the command of a client."""
_MOST_COMMANDS: Final = 4


@final
@attrs.frozen
class NamedCommand:
    """A command involved in a violation, and the nodes at which the trace shows it."""

    text: str
    nodes: tuple[NodeId, ...] = ()


@final
@attrs.frozen
class Finding:
    """A violation. `place` is its record's place in the trace.

    `invariant` is the first line of its text and `more` the others. `nodes` are those that the text names, else the one
    at which it was found.
    """

    place: int
    invariant: str
    more: str
    nodes: tuple[NodeId, ...]
    commands: tuple[NamedCommand, ...]


def find_violations(trace: Sequence[TraceRecord]) -> list[Finding]:
    """Return the violations in the order of the trace."""
    return [_finding(trace, place) for place, record in enumerate(trace) if record.violation]


def _finding(trace: Sequence[TraceRecord], place: int) -> Finding:
    invariant, _, more = trace[place].violation.partition("\n")
    known = {record.node for record in trace}
    named = {NodeId(int(number)) for names in _NODES.findall(invariant) for number in re.findall(r"\d+", names)}
    nodes = sorted(named & known) or [node for node in [trace[place].node] if node != NO_NODE]
    return Finding(place, invariant, more.strip("\n"), tuple(nodes), tuple(_commands(trace, place, invariant)))


def _commands(trace: Sequence[TraceRecord], place: int, invariant: str) -> list[NamedCommand]:
    """Return the commands that the violation names, those at the index that it names, or those of its record."""
    if quoted := _QUOTED.findall(invariant):
        return [NamedCommand(text) for text in quoted[:_MOST_COMMANDS]]
    indexes = set(_INDEXES.findall(invariant))
    found: dict[str, set[NodeId]] = {}
    for record in trace[: place + 1] if indexes else trace[place : place + 1]:
        for text in (record.event, *record.effects):
            for index, command, size in _COMMAND.findall(text):
                if not indexes or index in indexes:
                    found.setdefault(f"{index} {command}{size}", set()).add(record.node)
    chosen = list(found.items())[-_MOST_COMMANDS:]
    return [NamedCommand(text, tuple(sorted(nodes - {NO_NODE}))) for text, nodes in chosen]
