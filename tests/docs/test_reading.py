"""The tables of docs/reading-the-code.md name every module of core, node and key-value server, and no other."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tests.docs.test_architecture import MOVED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reading-the-code.md").read_text("utf-8")


def cells(heading: str) -> set[str]:
    """Return the names in backticks that stand in the tables under that heading."""
    part = PAGE.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return {name for row in rows for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", row)}


def modules(package: str) -> set[str]:
    """Return the modules of the package, those of packages within as `package.module`."""
    top = ROOT / package
    found = {".".join(path.relative_to(top).with_suffix("").parts) for path in top.rglob("*.py")}
    return {name for name in found if not name.endswith(("__init__", "__main__"))}


def test_every_module_of_core_and_node_is_in_the_tables() -> None:
    named = cells("The protocol") | cells("A node")
    there = {name for name in modules("raft_core") if name.partition(".")[0] not in MOVED | {"_moved"}}

    assert there - named == set()
    for name in named:
        assert importlib.util.find_spec(f"raft_core.{name}"), name


def test_every_module_of_the_server_is_in_the_tables() -> None:
    named = cells("The key-value server")
    packages = {path.parent.name for path in (ROOT / "raft_kv").glob("*/__init__.py")}
    there = modules("raft_kv")
    commands = {name.partition(".")[2] for name in there if name.startswith("commands.")}

    assert {name for name in there if "." not in name} | packages - {"users"} <= named
    assert {name for name in there if name.startswith("users.")} <= named
    assert named <= there | packages | commands


def test_one_write_passes_through_modules_that_exist() -> None:
    part = PAGE.partition("\n## One write, module by module")[2].partition("\n## ")[0]
    places = re.findall(r"^\| +\d+ \| ([^|]*) \|", part, re.MULTILINE)
    named = {name for place in places for name in re.findall(r"`([a-z_.]+)`", place)}

    assert len(places) == 14
    for name in named:
        whole = name if name.startswith("raft_") else f"raft_core.{name}"
        assert importlib.util.find_spec(whole), name
