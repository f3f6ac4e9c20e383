"""`help()` of the main classes is short enough to be read, and names every setting."""

from __future__ import annotations

import pydoc
import re
from collections.abc import Iterator

import attrs
import pytest

import raft_anyio
import raft_core
import raft_kv.cli
import raft_testing.cli
import raft_trio
from raft_core.node.limits import NodeLimits
from raft_core.setting_help import with_setting_help
from raft_core.settings import Settings
from raft_objects import Objects, Replicated
from tests.docs.blocks import simple_commands

TWO_SCREENS = 150
CLASSES: list[type] = [
    raft_anyio.Node,
    raft_trio.Node,
    raft_anyio.NodeConfig,
    NodeLimits,
    Settings,
    raft_core.Raft,
    raft_core.StateMachine,
    Objects,
    Replicated,
]


def help_of(kind: type) -> str:
    """The help, with each signature on one line: from Python 3.13 on pydoc gives each parameter a line of its own."""
    text = pydoc.plain(pydoc.render_doc(kind))
    return re.sub(r"\(\n(?: \| {6,}.*\n)+ \| +\)", lambda signature: re.sub(r"\n \| +", "", signature[0]), text)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_help_fits_on_two_screens_and_shows_every_setting(kind: type) -> None:
    text = re.split(r" \|  Data (?:descriptors|and other attributes) ", help_of(kind))[0]
    assert len(text.splitlines()) <= TWO_SCREENS
    if attrs.has(kind):
        for field in attrs.fields(kind):
            if field.init:
                assert f"{field.alias}: " in text


@pytest.mark.parametrize("kind", [raft_anyio.NodeConfig, NodeLimits, Settings], ids=lambda kind: kind.__name__)
def test_help_describes_every_setting_before_anything_else(kind: type) -> None:
    lines = help_of(kind).splitlines()
    first = lines[: lines.index(" |  Methods defined here:")]

    assert len(first) <= 100
    for field in attrs.fields(kind):
        (place,) = [number for number, line in enumerate(first) if re.match(rf" \|    {field.name}( = |$)", line)]
        assert re.match(r" \|        \w", first[place + 1]), f"{field.name} has no description"


def test_help_shows_defaults_with_units() -> None:
    text = Settings.__doc__ or ""

    assert "election_ticks = 50" in text
    assert "max_entry_bytes = 1 MiB" in text
    assert "cluster = raft" in (raft_anyio.NodeConfig.__doc__ or "")


def test_class_without_source_has_its_docstring_alone() -> None:
    space: dict[str, type] = {}
    exec("class Made:\n    'As written.'\n    size: int = 1\n", space)

    kind = with_setting_help(attrs.frozen(space["Made"]))

    assert kind.__doc__ == "As written."


# Command lines.


def test_every_command_has_examples_that_it_accepts() -> None:
    for name, command in raft_kv.cli.COMMANDS.items():
        found = [line.split("#")[0] for line in command.examples.splitlines() if "raft-kv " in line]
        assert any(f"raft-kv {name}" in line for line in found), name
        for words in accepted(command.examples, "raft-kv"):
            raft_kv.cli._parser().parse_args(words[1:])


def test_every_command_of_the_tests_tools_has_examples_that_it_accepts() -> None:
    for text in [
        raft_testing.cli._EXAMPLES.replace("COMMAND --help", "explore"),
        *raft_testing.cli._EXAMPLES_OF.values(),
    ]:
        found = list(accepted(text, "python"))
        assert found
        for words in found:
            raft_testing.cli.parser().parse_args(words[3:])


def accepted(text: str, program: str) -> Iterator[list[str]]:
    """Yield the words of each whole example of the program."""
    for words in simple_commands(text):
        if words[0] == program and "..." not in words:
            yield words
