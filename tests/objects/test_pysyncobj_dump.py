"""Dumps of PySyncObj: what its version 0.3.17 wrote is read, and whatever could run code is refused."""

from __future__ import annotations

import collections
import gzip
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raft_kv.demo.cluster import free_ports
from raft_objects.pysyncobj_dump import DumpRefused, read_dump

DUMP = Path(__file__).parent / "data" / "pysyncobj-0.3.17.dump"
"""Written by a SyncObj with a field `orders` and six consumers."""


def written(path: Path, value: object) -> Path:
    path.write_bytes(gzip.compress(pickle.dumps(value, 2)))
    return path


def as_dump(state: object) -> tuple[object, ...]:
    return state, (b"", 7, 3), (b"", 6, 3), set()


def test_dump_of_pysyncobj_is_read() -> None:
    dump = read_dump(DUMP)

    counter, table, queue, members, line, priorities = dump.consumers
    assert dump.fields == {"orders": {"ada": [1, 2, 3], "bob": []}}
    assert counter == {"counter": 42}
    assert table == {"data": {"red": (1, 2.5, None, b"x"), "big": 10**30}}
    assert queue["data"] == collections.deque(["job-1", {"a": True}])
    assert members == {"data": {"m"}}
    assert line == {"data": [3, 1]}
    assert priorities["data"] == [(2, "b")]
    assert (dump.index > 8, dump.term) == (True, 1)


class Harmful:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    "harmful",
    [
        Harmful(os.system, "touch harmed"),
        Harmful(eval, "1"),
        Harmful(getattr, "x", "upper"),
        Harmful(__import__, "os"),
        Harmful(subprocess.Popen, ["touch", "harmed"]),
        Harmful(__import__("_codecs").encode, "x", "rot13"),
    ],
    ids=["system", "eval", "getattr", "import", "popen", "codec"],
)
def test_dump_that_names_a_function_is_refused(harmful: Harmful, tmp_path: Path) -> None:
    with pytest.raises(DumpRefused):
        read_dump(written(tmp_path / "dump", as_dump({"field": harmful})))

    assert not Path("harmed").exists()


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def test_own_classes_are_read_when_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "dump", as_dump({"_Shop__till": Money(5), "name": "shop"}))

    with pytest.raises(DumpRefused):
        read_dump(path)
    dump = read_dump(path, classes=[Money])
    assert (dump.fields["till"].cents, dump.fields["name"], dump.index, dump.term) == (5, "shop", 7, 3)


@pytest.mark.parametrize(
    "data", [b"", b"no dump", gzip.compress(b"no pickle", mtime=0), gzip.compress(pickle.dumps(5), mtime=0)]
)
def test_what_is_no_dump_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(data)

    with pytest.raises(DumpRefused):
        read_dump(tmp_path / "dump")


def test_dump_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DumpRefused):
        read_dump(DUMP, max_bytes=100)


def test_contents_are_shown_on_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raft_objects.pysyncobj_dump", str(DUMP)], capture_output=True, text=True, check=True
    )

    assert "job-1" in done.stdout


PAGE = Path(__file__).parents[2] / "docs" / "coming-from-pysyncobj.md"


def test_page_counts_the_lines_of_its_programs() -> None:
    text = PAGE.read_text("utf-8")
    said = re.findall(r"^### .*: (\d+) and (\d+) lines$", text, re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    lines = [sum(1 for line in block.splitlines() if line.strip()) for block in blocks]
    assert [int(number) for pair in said for number in pair] == lines[:6]


@pytest.mark.parametrize(("program", "told"), list(enumerate(["5\n", "report 1\n", "report\n"])))
def test_programs_of_the_page_run(
    program: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = re.findall(r"<!-- ours -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[program]
    members = '{1: "a:7101", 2: "b:7101", 3: "c:7101"}'
    assert members in ours
    alone = ours.replace(members, f'{{1: "127.0.0.1:{free_ports(1)[0]}"}}')

    exec(compile(alone, PAGE.name, "exec", dont_inherit=True), {"__name__": "page"})

    assert capsys.readouterr().out == told
