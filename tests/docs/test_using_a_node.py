"""The guide to a node: its programs print what it shows, and its table of errors is complete and as its function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import raft_core.errors
import raft_objects.errors
from raft_core.errors import OutcomeUnknown, Refused, RequestError

from .reader import Reader


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader("using-a-node.md", tmp_path)


@pytest.mark.parametrize("program", ["node.py", "members.py", "once.py", "typed.py"])
def test_programs_print_what_the_page_shows(reader: Reader, program: str) -> None:
    reader.save(program)

    assert [reader.types(f"python {program}")] == reader.outputs(f": python {program}")


def test_node_runs_on_trio_with_the_words_exchanged(reader: Reader) -> None:
    reader.save("node.py")
    file = reader.directory / "node.py"
    text = file.read_text("utf-8").replace("raft_anyio", "raft_trio").replace("asyncio", "trio")
    file.write_text(text.replace("run(main())", "run(main)"), "utf-8")

    assert [reader.types("python node.py")] == reader.outputs(": python node.py")


def rows(reader: Reader) -> dict[tuple[str, str], int]:
    """Return the HTTP code of each class and reason in the table of errors."""
    table = reader.text.partition("<!-- errors -->\n")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        first, *_, code = (cell.strip() for cell in line.strip("|").split("|"))
        name, *reasons = re.findall(r"`(\w+)`", first)
        found.update({(name, reason): int(code) for reason in reasons or [""]})
    return found


def test_table_and_function_give_the_same_http_codes(reader: Reader) -> None:
    space: dict[str, Any] = {}
    exec(reader.block("example: http", "python"), space)

    for (name, reason), code in rows(reader).items():
        kind = getattr(raft_core.errors, name, None) or getattr(raft_objects.errors, name)
        failure = kind(reason) if issubclass(kind, RequestError) else kind()
        assert space["http_code"](failure) == code, name


def test_web_service_of_the_examples_answers_as_the_table_says(reader: Reader) -> None:
    bank = pytest.importorskip("examples.fastapi_bank")

    for (name, reason), code in rows(reader).items():
        kind = getattr(raft_core.errors, name, None) or getattr(raft_objects.errors, name)
        failure = kind(reason) if issubclass(kind, RequestError) else kind()
        if name != "MembershipRefused":  # it has no request that changes members
            assert bank.http_answer(failure)[0] == code, name


def test_every_error_of_a_request_is_in_the_table(reader: Reader) -> None:
    given = {
        name
        for module in (raft_core.errors, raft_objects.errors)
        for name in module.__all__
        if isinstance(kind := getattr(module, name), type) and issubclass(kind, Refused | OutcomeUnknown)
    }

    assert given <= {name for name, _ in rows(reader)}
